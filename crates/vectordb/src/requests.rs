//! Requests about documents.

use std::collections::HashSet;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::VectorError;
use crate::options::VectorLimits;

/// The original's default, which it also used for 0.
const DEFAULT_K: usize = 10;
/// Documents of a page.
const DEFAULT_PAGE: u64 = 100;

/// A document to add. The text is embedded unless there is a vector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewDocument {
  pub id: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub text: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub vector: Option<Vec<f32>>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub metadata: Option<Map<String, Value>>,
}

/// How a query finds documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum QueryMode {
  /// By vector.
  #[default]
  Semantic,
  /// By the words of the text.
  FullText,
  /// By vector and by words.
  Hybrid,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
  pub mode: QueryMode,
  pub text: Option<String>,
  /// Without it the text is embedded, if the mode needs a vector.
  pub vector: Option<Vec<f32>>,
  /// 0 means 10.
  pub k: usize,
  /// Results to skip.
  pub offset: usize,
  /// Lowest score of a result, 0 to 1.
  pub threshold: f32,
  /// As users of MongoDB write it.
  pub filter: Option<Value>,
  pub include_metadata: bool,
  pub include_vectors: bool,
}

impl Default for QueryRequest {
  fn default() -> Self {
    Self {
      mode: QueryMode::default(),
      text: None,
      vector: None,
      k: DEFAULT_K,
      offset: 0,
      threshold: 0.0,
      filter: None,
      include_metadata: true,
      include_vectors: false,
    }
  }
}

impl QueryRequest {
  #[cfg(test)]
  pub fn text(text: impl Into<String>) -> Self {
    Self {
      text: Some(text.into()),
      ..Self::default()
    }
  }

  #[cfg(test)]
  pub fn vector(vector: Vec<f32>) -> Self {
    Self {
      vector: Some(vector),
      ..Self::default()
    }
  }

  /// # Errors
  /// When something is missing or invalid; the message names it.
  pub(crate) fn check(&mut self, limits: &VectorLimits) -> Result<(), VectorError> {
    let invalid = |message: String| Err(VectorError::Invalid(message));
    self.text.take_if(|text| text.is_empty());
    if self.k == 0 {
      self.k = DEFAULT_K;
    }
    let wanted = self.k.saturating_add(self.offset);
    if wanted > limits.results {
      return invalid(format!(
        "k: with the offset it is {wanted}, and a query gives at most {} results",
        limits.results
      ));
    }
    if !(0.0..=1.0).contains(&self.threshold) {
      return invalid(format!("threshold: {} is not from 0 to 1", self.threshold));
    }
    if let Some(vector) = &self.vector {
      check_vector(vector).map_err(|why| VectorError::Invalid(format!("query: {why}")))?;
    }
    match self.mode {
      QueryMode::Semantic if self.text.is_none() && self.vector.is_none() => {
        invalid("No query provided: give a text or a vector".into())
      }
      QueryMode::FullText | QueryMode::Hybrid if self.text.is_none() => {
        invalid("No query provided: full-text and hybrid search need a text".into())
      }
      _ => Ok(()),
    }
  }
}

/// A page of documents to list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListDocuments {
  /// As users of MongoDB write it; without it, all documents.
  pub filter: Option<Value>,
  /// Documents to skip.
  pub offset: u64,
  /// Most documents of the page.
  pub limit: u64,
  pub include_vectors: bool,
}

impl Default for ListDocuments {
  fn default() -> Self {
    Self {
      filter: None,
      offset: 0,
      limit: DEFAULT_PAGE,
      include_vectors: false,
    }
  }
}

/// Documents to remove: those of the ids, or those that match the filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemoveDocuments {
  pub ids: Vec<String>,
  /// As users of MongoDB write it.
  pub filter: Option<Value>,
}

/// Checks a batch before anything is done with it.
///
/// # Errors
/// When a document is wrong or the batch too large; the message names the document.
pub(crate) fn check_documents(
  documents: &[NewDocument],
  limits: &VectorLimits,
) -> Result<(), VectorError> {
  if documents.len() > limits.batch_documents {
    return Err(VectorError::TooLarge(format!(
      "documents: {} at once, and a batch may have {}: send several",
      documents.len(),
      limits.batch_documents
    )));
  }
  let invalid = |message: String| Err(VectorError::Invalid(message));
  let mut ids = HashSet::with_capacity(documents.len());
  let mut bytes = 0_usize;
  for (place, document) in documents.iter().enumerate() {
    let id = &document.id;
    if id.is_empty() {
      return invalid(format!("Document must have an id: number {place} has none"));
    }
    if !ids.insert(id.as_str()) {
      return invalid(format!("Document {id} is in the batch twice"));
    }
    bytes = bytes.saturating_add(document.bytes());
    if bytes > limits.batch_bytes {
      return Err(VectorError::TooLarge(format!(
        "documents: the batch exceeds {} bytes at document {id}: send several",
        limits.batch_bytes
      )));
    }
    match &document.vector {
      Some(vector) => {
        if let Err(why) = check_vector(vector) {
          return invalid(format!("Document {id}: {why}"));
        }
      }
      None if document.text.as_ref().is_none_or(String::is_empty) => {
        return invalid(format!("Document {id} must have either text or vector"));
      }
      None => {}
    }
  }
  Ok(())
}

fn check_vector(vector: &[f32]) -> Result<(), String> {
  if vector.is_empty() {
    return Err("the vector is empty".into());
  }
  match vector.iter().position(|number| !number.is_finite()) {
    Some(place) => Err(format!("number {place} of the vector is not finite")),
    None => Ok(()),
  }
}

impl NewDocument {
  /// Approximate size in memory.
  pub(crate) fn bytes(&self) -> usize {
    let text = self.text.as_ref().map_or(0, String::len);
    let vector = self
      .vector
      .as_ref()
      .map_or(0, |vector| size_of_val(&**vector));
    self.id.len() + text + vector + self.metadata.as_ref().map_or(0, size_of_map)
  }
}

fn size_of_map(map: &Map<String, Value>) -> usize {
  let members = map.iter();
  members
    .map(|(name, value)| name.len() + size_of(value))
    .sum()
}

fn size_of(value: &Value) -> usize {
  match value {
    Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    Value::String(text) => text.len() + 2,
    Value::Array(items) => items.iter().map(size_of).sum::<usize>() + 2,
    Value::Object(map) => size_of_map(map) + 2,
  }
}
