//! The database as faces use it.

mod access;
mod activity;
mod documents;
mod exchange;
mod import;
mod lifecycle;
mod local;
mod patience;
mod providers;
mod turns;

use std::sync::Arc;

use ::access::Caller;
use ::access::Right;
use ::access::Scope;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::*;

struct Setup {
  db: Arc<VectorDb>,
  folder: TempDir,
}

impl Setup {
  fn new() -> Self {
    Self::with(|_| {})
  }

  fn with(change: impl FnOnce(&mut VectorDbOptions)) -> Self {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder, change);
    Self { db, folder }
  }

  /// Another server over the same folder.
  fn again(&self) -> Arc<VectorDb> {
    self.db.store.let_go();
    open(&self.folder, |_| {})
  }

  async fn create(&self, id: &str) -> IndexId {
    let made = self
      .db
      .create(&operator(), named(id))
      .await
      .expect("is made");
    made.id
  }

  async fn add(&self, id: &IndexId, documents: Vec<NewDocument>) -> Added {
    let added = self.db.add(&operator(), id.as_str(), documents).await;
    added.expect("is added")
  }

  async fn search(&self, id: &IndexId, text: &str) -> Vec<Hit> {
    let request = QueryRequest::text(text);
    let hits = self.db.query(&operator(), id.as_str(), request).await;
    hits.expect("is searched")
  }

  async fn count(&self, id: &IndexId) -> u64 {
    self
      .db
      .info(&operator(), id.as_str())
      .await
      .expect("is open")
      .document_count
  }

  /// Folders of indices and unfinished ones.
  fn folders(&self) -> usize {
    let entries = std::fs::read_dir(self.folder.path()).expect("reads");
    entries
      .flatten()
      .filter(|entry| entry.path().is_dir())
      .count()
  }
}

fn open(folder: &TempDir, change: impl FnOnce(&mut VectorDbOptions)) -> Arc<VectorDb> {
  let mut options = VectorDbOptions::new(folder.path());
  change(&mut options);
  VectorDb::open(options).expect("opens")
}

fn operator() -> Caller {
  Caller::operator()
}

fn namespaced(namespace: &str) -> Caller {
  Caller::of(Scope::Namespace(namespace.into()))
}

fn by_ids(ids: Vec<String>) -> RemoveDocuments {
  RemoveDocuments { ids, filter: None }
}

fn by_filter(filter: Value) -> RemoveDocuments {
  RemoveDocuments {
    ids: Vec::new(),
    filter: Some(filter),
  }
}

fn message<T: std::fmt::Debug>(outcome: Result<T, VectorError>) -> String {
  outcome.expect_err("it is refused").to_string()
}

fn named(id: &str) -> CreateIndex {
  CreateIndex {
    id: Some(id.to_owned()),
    namespace: Some("w".to_owned()),
    ..CreateIndex::default()
  }
}

fn text(id: &str, text: &str) -> NewDocument {
  document(json!({"id": id, "text": text}))
}

fn document(json: Value) -> NewDocument {
  serde_json::from_value(json).expect("a document")
}

fn ids(hits: &[Hit]) -> Vec<&str> {
  hits.iter().map(|hit| hit.id.as_str()).collect()
}

fn heard(events: &mut EventWatch) -> Vec<&'static str> {
  std::iter::from_fn(|| events.try_next())
    .map(|event| event.kind.name())
    .collect()
}
