//! Documents of vector indices, those of other workspaces too where these permit it.

use access::timestamp;
use chrono::Utc;
use engine::vectordb::NewDocument;
use engine::vectordb::QueryRequest;
use engine::vectordb::RemoveDocuments;
use engine::vectordb::generate_documents;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::vectors::id;
use super::vectors::without_index;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Outcome;
use crate::method::answer;

/// What is said of an index that is not there, or that the caller may not know of.
const NOT_FOUND: &str = "Vector index not found";

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "addDocuments",
      "Adds all documents or none; one replaces that of the same id",
      add,
    ),
    Method::new("queryVectorIndex", "Finds documents, best first", query),
    Method::new("removeDocuments", "Removes documents by their ids", remove),
    Method::new(
      "generateRandomDocuments",
      "Generates documents to try an index with; they are added to none",
      generate,
    ),
  ]
}

/// Documents for an index.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Add {
  /// The index, with its workspace where that is another.
  index_id: Option<String>,
  #[schema(inline)]
  documents: Option<Vec<Document>>,
}

/// A document. The text is embedded unless there is a vector.
#[derive(Deserialize, ToSchema)]
struct Document {
  id: Option<String>,
  text: Option<String>,
  vector: Option<Vec<f32>>,
  metadata: Option<Map<String, Value>>,
}

impl From<Document> for NewDocument {
  fn from(document: Document) -> Self {
    Self {
      id: document.id.unwrap_or_default(),
      text: document.text,
      vector: document.vector,
      metadata: document.metadata,
    }
  }
}

impl Document {
  /// # Errors
  /// In the words of the original, when it lacks what every document has.
  fn check(&self) -> Result<(), Failure> {
    let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if !filled(&self.id) {
      return Err(Failure::new("Document must have an id"));
    }
    match self.vector.is_some() || filled(&self.text) {
      true => Ok(()),
      false => Err(Failure::new("Document must have either text or vector")),
    }
  }
}

async fn add(call: Call<Add>) -> Outcome {
  let Add {
    index_id,
    documents,
  } = call.given;
  let id = id(index_id.as_deref())?;
  let documents = some(documents, "No documents provided")?;
  documents.iter().try_for_each(Document::check)?;
  let documents = documents.into_iter().map(NewDocument::from).collect();
  let (vectors, caller) = (&call.service.engine.vectors, call.asker.caller());
  let added = vectors.add(&caller, id, documents).await;
  let added = added.map_err(without_index(&caller, id, NOT_FOUND))?;
  answer(json!({
    "success": true,
    "addedCount": added.added + added.replaced,
    "timestamp": timestamp(Utc::now()),
  }))
}

/// # Errors
/// When there are none.
fn some<T>(given: Option<Vec<T>>, none: &str) -> Result<Vec<T>, Failure> {
  let given = given.filter(|given| !given.is_empty());
  given.ok_or_else(|| Failure::new(none))
}

/// What to find in an index.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Find {
  /// The index, with its workspace where that is another.
  index_id: Option<String>,
  #[schema(inline)]
  query: Option<Wanted>,
  #[schema(inline)]
  options: Option<Options>,
}

/// A text or a vector.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a query is a text or an array of numbers")]
enum Wanted {
  Text(String),
  Vector(Vec<f32>),
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Options {
  /// Most results.
  #[schema(default = 10)]
  k: Option<usize>,
  /// Lowest score of a result, 0 to 1.
  #[schema(default = 0)]
  threshold: Option<f32>,
  #[schema(default = true)]
  include_metadata: Option<bool>,
}

async fn query(call: Call<Find>) -> Outcome {
  let Find {
    index_id,
    query,
    options,
  } = call.given;
  let id = id(index_id.as_deref())?;
  let (text, vector) = match query {
    Some(Wanted::Text(text)) if !text.is_empty() => (Some(text), None),
    Some(Wanted::Vector(vector)) => (None, Some(vector)),
    _ => return Err(Failure::new("No query provided")),
  };
  let (options, default) = (options.unwrap_or_default(), QueryRequest::default());
  let request = QueryRequest {
    text,
    vector,
    k: options.k.unwrap_or(default.k),
    threshold: options.threshold.unwrap_or(default.threshold),
    include_metadata: options.include_metadata.unwrap_or(default.include_metadata),
    ..default
  };
  let (vectors, caller) = (&call.service.engine.vectors, call.asker.caller());
  let found = vectors.query(&caller, id, request).await;
  let results = found.map_err(without_index(&caller, id, NOT_FOUND))?;
  answer(json!({
    "queryId": Uuid::new_v4(),
    "results": results,
    "resultCount": results.len(),
    "timestamp": timestamp(Utc::now()),
  }))
}

/// Documents to remove.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Remove {
  /// The index, with its workspace where that is another.
  index_id: Option<String>,
  document_ids: Option<Vec<String>>,
}

async fn remove(call: Call<Remove>) -> Outcome {
  let Remove {
    index_id,
    document_ids,
  } = call.given;
  let id = id(index_id.as_deref())?;
  let ids = some(document_ids, "No document IDs provided")?;
  let (vectors, caller) = (&call.service.engine.vectors, call.asker.caller());
  let request = RemoveDocuments { ids, filter: None };
  let removed = vectors.remove_documents(&caller, id, request).await;
  let removed = removed.map_err(without_index(&caller, id, NOT_FOUND))?;
  answer(json!({
    "success": true,
    "removedCount": removed.removed,
    "timestamp": timestamp(Utc::now()),
  }))
}

/// How many documents to generate.
#[derive(Deserialize, ToSchema)]
struct Generate {
  /// At most 100.
  #[schema(default = 10)]
  count: Option<usize>,
}

async fn generate(call: Call<Generate>) -> Outcome {
  let documents = generate_documents(call.given.count);
  answer(json!({
    "documents": documents,
    "count": documents.len(),
    "message": format!("Generated {} random documents", documents.len()),
  }))
}
