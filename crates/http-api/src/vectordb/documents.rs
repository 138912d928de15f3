//! Add, find, list and remove the documents of an index.

use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use engine::Engine;
use engine::vector_index::Hit;
use engine::vector_index::Stored;
use engine::vectordb::DocumentPage;
use engine::vectordb::ListDocuments;
use engine::vectordb::NewDocument;
use engine::vectordb::QueryMode;
use engine::vectordb::QueryRequest;
use engine::vectordb::RemoveDocuments;
use engine::vectordb::generate_documents;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::path::Path;
use crate::query::parameters;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddDocumentsBody {
  #[serde(default)]
  documents: Vec<NewDocument>,
}

/// Result of adding or removing documents.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changed {
  success: bool,
  message: String,
  /// Documents in the index after the change.
  document_count: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  added: Option<usize>,
  #[serde(skip_serializing_if = "Option::is_none")]
  replaced: Option<usize>,
  #[serde(skip_serializing_if = "Option::is_none")]
  removed: Option<usize>,
}

/// Adds all documents or none; a document replaces that of the same id. Once this answers 200, the
/// documents outlast a crash.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/documents", tag = "vector database",
  params(("id" = String, Path)), request_body = AddDocumentsBody, responses(
  (status = 200, body = Changed), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 502, body = ErrorBody)))]
pub(crate) async fn add(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(AddDocumentsBody { documents }): JsonBody<AddDocumentsBody>,
) -> ApiResult<Json<Changed>> {
  let count = documents.len();
  let added = engine.vectors.add(&caller, &id, documents).await?;
  Ok(Json(Changed {
    success: true,
    message: format!("Added {count} documents"),
    document_count: added.document_count,
    added: Some(added.added),
    replaced: Some(added.replaced),
    removed: None,
  }))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RemoveDocumentsBody {
  #[serde(default)]
  document_ids: Vec<String>,
  /// Removes all documents whose metadata match, instead of ids.
  filter: Option<Value>,
}

/// Removes documents by their ids or by a filter.
#[utoipa::path(delete, path = "/api/vectordb/indices/{id}/documents", tag = "vector database",
  params(("id" = String, Path)), request_body = RemoveDocumentsBody, responses(
  (status = 200, body = Changed), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 404, body = ErrorBody)))]
pub(crate) async fn remove(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<RemoveDocumentsBody>,
) -> ApiResult<Json<Changed>> {
  let request = RemoveDocuments {
    ids: body.document_ids,
    filter: body.filter,
  };
  let removed = engine
    .vectors
    .remove_documents(&caller, &id, request)
    .await?;
  Ok(Json(Changed {
    success: true,
    message: format!("Removed {} documents", removed.removed),
    document_count: removed.document_count,
    added: None,
    replaced: None,
    removed: Some(removed.removed),
  }))
}

/// A text or a vector.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, expecting = "a query is a text or an array of numbers")]
pub(crate) enum Wanted {
  Text(String),
  Vector(Vec<f32>),
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QueryBody {
  query: Option<Wanted>,
  /// The words of a hybrid query whose `query` is a vector.
  text: Option<String>,
  /// `semantic` by vectors, `fullText` by words, `hybrid` by both.
  #[serde(default)]
  mode: QueryMode,
  #[schema(default = 10)]
  k: Option<usize>,
  /// Results to skip.
  offset: Option<usize>,
  /// Lowest score of a result, 0 to 1.
  threshold: Option<f32>,
  /// Condition on the metadata of documents, e.g. `{"year": {"$gte": 2020}, "topic": {"$in": ["a", "b"]}}`.
  filter: Option<Value>,
  #[schema(default = true)]
  include_metadata: Option<bool>,
  #[schema(default = false)]
  include_vectors: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Found {
  results: Vec<Hit>,
  count: usize,
  /// The text, or `[vector]`.
  query: String,
}

/// Finds documents, best first; scores are similarities from 0 to 1.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/query", tag = "vector database",
  params(("id" = String, Path)), request_body = QueryBody, responses(
  (status = 200, body = Found), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 404, body = ErrorBody), (status = 502, body = ErrorBody)))]
pub(crate) async fn query(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<QueryBody>,
) -> ApiResult<Json<Found>> {
  let (text, vector) = match body.query {
    None => (body.text, None),
    Some(Wanted::Text(_)) if body.text.is_some() => {
      return Err(ApiError::bad_request(
        "text: it goes with a query that is a vector; this one is a text already",
      ));
    }
    Some(Wanted::Text(text)) => (Some(text), None),
    Some(Wanted::Vector(vector)) => (body.text, Some(vector)),
  };
  let shown = match (&text, &vector) {
    (_, Some(_)) => "[vector]".to_owned(),
    (text, None) => text.clone().unwrap_or_default(),
  };
  let default = QueryRequest::default();
  let request = QueryRequest {
    mode: body.mode,
    text,
    vector,
    k: body.k.unwrap_or(default.k),
    offset: body.offset.unwrap_or(default.offset),
    threshold: body.threshold.unwrap_or(default.threshold),
    filter: body.filter,
    include_metadata: body.include_metadata.unwrap_or(default.include_metadata),
    include_vectors: body.include_vectors.unwrap_or(default.include_vectors),
  };
  let results = engine.vectors.query(&caller, &id, request).await?;
  Ok(Json(Found {
    count: results.len(),
    results,
    query: shown,
  }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
  /// Documents to skip.
  offset: Option<u64>,
  /// Most documents of the answer.
  #[param(default = 100, maximum = 10_000)]
  limit: Option<u64>,
  /// Condition on the metadata of documents: JSON as in a query.
  filter: Option<String>,
  #[serde(default, rename = "includeVectors")]
  #[param(default = false)]
  include_vectors: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct DocumentList {
  documents: Vec<Stored>,
  count: usize,
  /// Documents on all pages.
  total: u64,
}

/// Lists documents in the order in which they were added.
#[utoipa::path(get, path = "/api/vectordb/indices/{id}/documents", tag = "vector database",
  params(("id" = String, Path), ListQuery), responses((status = 200, body = DocumentList),
  (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<DocumentList>> {
  let query = parameters(query)?;
  let filter: Option<Value> = query
    .filter
    .map(|text| serde_json::from_str(&text))
    .transpose()
    .map_err(|e| ApiError::bad_request(format!("filter: not JSON: {e}")))?;
  let default = ListDocuments::default();
  let request = ListDocuments {
    filter,
    offset: query.offset.unwrap_or(default.offset),
    limit: query.limit.unwrap_or(default.limit),
    include_vectors: query.include_vectors,
  };
  let DocumentPage { documents, total } =
    engine.vectors.list_documents(&caller, &id, request).await?;
  Ok(Json(DocumentList {
    count: documents.len(),
    documents,
    total,
  }))
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetQuery {
  #[param(default = false)]
  include_vectors: Option<bool>,
}

/// Returns one document.
#[utoipa::path(get, path = "/api/vectordb/indices/{id}/documents/{document}", tag = "vector database",
  params(("id" = String, Path), ("document" = String, Path), GetQuery), responses((status = 200, body = Stored),
  (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path((id, document)): Path<(String, String)>,
  query: Result<Query<GetQuery>, QueryRejection>,
) -> ApiResult<Json<Stored>> {
  let vectors = parameters(query)?.include_vectors.unwrap_or_default();
  let found = engine
    .vectors
    .get_document(&caller, &id, &document, vectors)
    .await?;
  Ok(Json(found))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateBody {
  /// At most 100.
  #[schema(default = 10)]
  count: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Generated {
  documents: Vec<GeneratedDocument>,
  count: usize,
  message: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct GeneratedDocument {
  id: String,
  text: Option<String>,
  metadata: Option<Map<String, Value>>,
}

/// Generates documents to try an index with. They are added to no index.
#[utoipa::path(post, path = "/api/vectordb/generate-documents", tag = "vector database", request_body = GenerateBody,
  responses((status = 200, body = Generated), (status = 400, body = ErrorBody)))]
pub(crate) async fn generate(JsonBody(body): JsonBody<GenerateBody>) -> Json<Generated> {
  let documents: Vec<_> = generate_documents(body.count)
    .into_iter()
    .map(|document| GeneratedDocument {
      id: document.id,
      text: document.text,
      metadata: document.metadata,
    })
    .collect();
  Json(Generated {
    count: documents.len(),
    message: format!("Generated {} random documents", documents.len()),
    documents,
  })
}
