//! What happens to indices and providers.

use chrono::DateTime;
use chrono::Utc;
use serde_json::Value;
use serde_json::json;

use crate::id::IndexId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorEvent {
  pub time: DateTime<Utc>,
  pub kind: VectorEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VectorEventKind {
  IndexCreated(IndexId),
  /// Its files are gone.
  IndexDestroyed(IndexId),
  IndexOffloaded(IndexId),
  IndexResumed(IndexId),
  DocumentsAdded {
    index: IndexId,
    added: usize,
    replaced: usize,
  },
  DocumentsRemoved {
    index: IndexId,
    removed: usize,
  },
  QueryCompleted {
    index: IndexId,
    results: usize,
  },
  /// Something nobody waits for did not work.
  Error {
    index: IndexId,
    message: String,
  },
  ProviderAdded(String),
  ProviderUpdated(String),
  ProviderRemoved(String),
}

impl VectorEventKind {
  /// The index it is about.
  pub fn index(&self) -> Option<&IndexId> {
    match self {
      Self::IndexCreated(index)
      | Self::IndexDestroyed(index)
      | Self::IndexOffloaded(index)
      | Self::IndexResumed(index)
      | Self::DocumentsAdded { index, .. }
      | Self::DocumentsRemoved { index, .. }
      | Self::QueryCompleted { index, .. }
      | Self::Error { index, .. } => Some(index),
      Self::ProviderAdded(_) | Self::ProviderUpdated(_) | Self::ProviderRemoved(_) => None,
    }
  }

  /// The name of the provider it is about.
  pub fn provider(&self) -> Option<&str> {
    match self {
      Self::ProviderAdded(name) | Self::ProviderUpdated(name) | Self::ProviderRemoved(name) => {
        Some(name)
      }
      _ => None,
    }
  }

  /// What else there is to tell.
  pub fn data(&self) -> Value {
    match self {
      Self::DocumentsAdded {
        added, replaced, ..
      } => json!({ "added": added, "replaced": replaced }),
      Self::DocumentsRemoved { removed, .. } => json!({ "removed": removed }),
      Self::QueryCompleted { results, .. } => json!({ "results": results }),
      Self::Error { message, .. } => json!({ "message": message }),
      _ => json!({}),
    }
  }

  /// As the original named it.
  pub fn name(&self) -> &'static str {
    match self {
      Self::IndexCreated(_) => "index_created",
      Self::IndexDestroyed(_) => "index_destroyed",
      Self::IndexOffloaded(_) => "index_offloaded",
      Self::IndexResumed(_) => "index_resumed",
      Self::DocumentsAdded { .. } => "document_added",
      Self::DocumentsRemoved { .. } => "document_removed",
      Self::QueryCompleted { .. } => "query_completed",
      Self::Error { .. } => "error",
      Self::ProviderAdded(_) => "provider_added",
      Self::ProviderUpdated(_) => "provider_updated",
      Self::ProviderRemoved(_) => "provider_removed",
    }
  }
}
