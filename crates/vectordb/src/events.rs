//! Events of indices and providers.

use access::Caller;
use chrono::DateTime;
use chrono::Utc;
use serde_json::Value;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::error::FILES_UNUSABLE;
use crate::id::IndexId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorEvent {
  pub time: DateTime<Utc>,
  pub kind: VectorEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VectorEventKind {
  IndexCreated(IndexId),
  /// Its files are deleted.
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
  /// A background task failed.
  Error {
    index: IndexId,
    message: String,
  },
  ProviderAdded(String),
  ProviderUpdated(String),
  ProviderRemoved(String),
}

/// The events of the indices that a caller sees, and of providers.
pub struct EventWatch {
  events: broadcast::Receiver<VectorEvent>,
  caller: Caller,
}

impl EventWatch {
  pub(crate) fn new(events: broadcast::Receiver<VectorEvent>, caller: &Caller) -> Self {
    Self {
      events,
      caller: caller.clone(),
    }
  }

  /// The next event, or `None` once the database is gone. A watcher that falls behind misses events.
  pub async fn next(&mut self) -> Option<VectorEvent> {
    loop {
      match self.events.recv().await {
        Ok(event) => {
          if let Some(event) = event.seen_by(&self.caller) {
            return Some(event);
          }
        }
        Err(RecvError::Lagged(_)) => {}
        Err(RecvError::Closed) => return None,
      }
    }
  }

  /// The next event that has happened already.
  #[cfg(test)]
  pub fn try_next(&mut self) -> Option<VectorEvent> {
    std::iter::from_fn(|| self.events.try_recv().ok()).find_map(|event| event.seen_by(&self.caller))
  }
}

impl VectorEvent {
  /// The event as `caller` sees it; `None` if it is about an index of others. Providers concern all.
  fn seen_by(mut self, caller: &Caller) -> Option<Self> {
    if let Some(index) = self.kind.index()
      && !caller.sees(index.namespace())
    {
      return None;
    }
    if let VectorEventKind::Error { message, .. } = &mut self.kind
      && caller.namespace().is_some()
    {
      // It may name folders.
      FILES_UNUSABLE.clone_into(message);
    }
    Some(self)
  }
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

  /// Details, as JSON.
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

  /// The name that the original gave it.
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
