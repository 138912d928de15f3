//! The folder with one folder for each index. Blocking. Every folder of an index is whole: an index is
//! made under another name and renamed, and renamed before its files are deleted.

#![expect(
  clippy::disallowed_methods,
  reason = "called where threads may wait: on the blocking pool"
)]

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::DateTime;
use chrono::Utc;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;
use vector_index::Index;
use vector_index::IndexOptions;
use vector_index::Memory;

use crate::answers::OffloadedIndex;
use crate::error::VectorError;
use crate::id::IndexId;
use crate::permission::Ownership;
use crate::permission::Permission;
use crate::record::IndexRecord;

/// A file that every running server has locked.
const PRESENCE: &str = "lock";
const FILE: &str = "index.db";
const SUMMARY: &str = "card.json";
/// No folder of an index begins so: they end in a digest, and a dot is in none.
const UNFINISHED: &str = ".unfinished-";

#[derive(Debug)]
pub(crate) struct Store {
  root: PathBuf,
  /// Locked while the server runs; the system releases the lock however the server ends.
  presence: File,
  memory: Arc<Memory>,
}

/// What is known of a closed index without opening it, in a file beside it. The file is absent while the
/// index is open and after a crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexSummary {
  pub id: IndexId,
  pub namespace: Option<String>,
  pub permission: Permission,
  pub created: DateTime<Utc>,
  pub offloaded_at: DateTime<Utc>,
  pub document_count: u64,
  pub embedding_dimension: Option<usize>,
}

impl IndexSummary {
  pub(crate) fn of(index: &Index, record: &IndexRecord, offloaded_at: DateTime<Utc>) -> Self {
    Self {
      id: record.id.clone(),
      namespace: record.namespace.clone(),
      permission: record.permission,
      created: record.created,
      offloaded_at,
      document_count: index.count(),
      embedding_dimension: index.dimension(),
    }
  }
}

impl From<IndexSummary> for OffloadedIndex {
  fn from(summary: IndexSummary) -> Self {
    Self {
      id: summary.id,
      namespace: summary.namespace,
      created: summary.created,
      offloaded_at: summary.offloaded_at,
      document_count: summary.document_count,
      embedding_dimension: summary.embedding_dimension,
    }
  }
}

/// An unlisted folder, deleted on drop unless it is published.
pub(crate) struct Draft {
  folder: PathBuf,
}

impl Draft {
  pub(crate) fn index(&self) -> PathBuf {
    self.folder.join(FILE)
  }

  pub(crate) fn file(&self, name: &str) -> PathBuf {
    self.folder.join(name)
  }
}

impl Drop for Draft {
  fn drop(&mut self) {
    // Publishing renamed the folder.
    let _ = fs::remove_dir_all(&self.folder);
  }
}

impl Store {
  /// Makes the folder, and deletes what ended servers left unfinished unless another server runs.
  ///
  /// # Errors
  /// When it cannot be used.
  pub(crate) fn open(root: &Path, memory: Arc<Memory>) -> Result<Self, VectorError> {
    let failed = |e: io::Error| storage(root, "cannot be used", &e);
    fs::create_dir_all(root).map_err(failed)?;
    // Requests do not depend on the working directory.
    let root = root.canonicalize().map_err(failed)?;
    let mut options = File::options();
    let presence = options.create(true).truncate(false).write(true);
    let store = Self {
      presence: presence.open(root.join(PRESENCE)).map_err(failed)?,
      root,
      memory,
    };
    let alone = store.presence.try_lock();
    if alone.is_ok() {
      for name in store.names().map_err(failed)? {
        if name.starts_with(UNFINISHED) {
          let _ = fs::remove_dir_all(store.root.join(&name));
        }
      }
    }
    if let Err(error) = store.presence.lock_shared() {
      // Some network file systems know no locks.
      tracing::warn!("{} could not be locked: {error}", store.root.display());
    }
    Ok(store)
  }

  /// Releases the lock, as the end of the server does.
  #[cfg(test)]
  pub(crate) fn let_go(&self) {
    self.presence.unlock().expect("is held");
  }

  pub(crate) fn root(&self) -> &Path {
    &self.root
  }

  pub(crate) fn exists(&self, id: &IndexId) -> bool {
    self.file(id).is_file()
  }

  pub(crate) fn draft(&self) -> Result<Draft, VectorError> {
    let folder = self.root.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
    fs::create_dir(&folder).map_err(|e| storage(&self.root, "cannot be written", &e))?;
    Ok(Draft { folder })
  }

  pub(crate) fn create_in(
    &self,
    draft: &Draft,
    options: &IndexOptions,
    record: &IndexRecord,
  ) -> Result<Index, VectorError> {
    let index = Index::create(&draft.index(), options, &record.to_value(), &self.memory)?;
    Ok(index)
  }

  /// Closes the index of a draft, and gives it its place.
  pub(crate) fn finish(
    &self,
    draft: &Draft,
    index: Arc<Index>,
    record: &IndexRecord,
  ) -> Result<IndexSummary, VectorError> {
    index.checkpoint()?;
    let summary = IndexSummary::of(&index, record, Utc::now());
    drop(index);
    self.publish(draft, &summary)?;
    Ok(summary)
  }

  fn publish(&self, draft: &Draft, summary: &IndexSummary) -> Result<(), VectorError> {
    let bytes = serde_json::to_vec(summary).unwrap_or_default();
    let failed = |e: io::Error| storage(&self.root, "cannot be written", &e);
    write_privately(&draft.file(SUMMARY), &bytes).map_err(failed)?;
    fs::rename(&draft.folder, self.folder(&summary.id)).map_err(failed)?;
    sync_folder(&self.root).map_err(failed)
  }

  pub(crate) fn create(
    &self,
    options: &IndexOptions,
    record: &IndexRecord,
  ) -> Result<Index, VectorError> {
    let draft = self.draft()?;
    let index = self.create_in(&draft, options, record)?;
    let summary = IndexSummary::of(&index, record, record.created);
    drop(index);
    self.publish(&draft, &summary)?;
    let opened = Index::open(&self.file(&record.id), &self.memory)?;
    self.remove_summary(&record.id);
    Ok(opened)
  }

  pub(crate) fn load(&self, id: &IndexId) -> Result<(Index, IndexRecord), VectorError> {
    let index = Index::open(&self.file(id), &self.memory)?;
    let record = IndexRecord::read(index.record(), id)?;
    self.remove_summary(id);
    Ok((index, record))
  }

  /// Closes an index.
  ///
  /// # Errors
  /// When the log cannot be written into the file; returns the index, still open.
  pub(crate) fn close(
    &self,
    index: Index,
    record: &IndexRecord,
  ) -> Result<(), Box<(Index, VectorError)>> {
    if let Err(error) = index.checkpoint() {
      return Err(Box::new((index, error.into())));
    }
    let summary = IndexSummary::of(&index, record, Utc::now());
    drop(index);
    self.write_summary(&summary);
    Ok(())
  }

  /// The owner of an index, which is not opened for it. `None` if there is no such index.
  ///
  /// # Errors
  /// When it has no summary, and its file cannot be read.
  pub(crate) fn owner(&self, id: &IndexId) -> Result<Option<Ownership>, VectorError> {
    if let Some(summary) = read_summary(&self.folder(id)).filter(|summary| summary.id == *id) {
      return Ok(Some(Ownership {
        namespace: summary.namespace,
        permission: summary.permission,
      }));
    }
    let path = self.file(id);
    if !path.is_file() {
      return Ok(None);
    }
    let record: IndexRecord = serde_json::from_value(Index::read_record(&path)?)
      .map_err(|e| VectorError::Corrupt(format!("{}: {e}", path.display())))?;
    Ok(Some(Ownership {
      namespace: record.namespace,
      permission: record.permission,
    }))
  }

  /// Deletes a closed index.
  pub(crate) fn remove(&self, id: &IndexId) -> Result<(), VectorError> {
    let folder = self.folder(id);
    let failed = |e: io::Error| storage(&folder, "cannot be removed", &e);
    let gone = self.root.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
    fs::rename(&folder, &gone).map_err(failed)?;
    sync_folder(&self.root).map_err(failed)?;
    if let Err(error) = fs::remove_dir_all(&gone) {
      // Nobody finds it under this name; the next start deletes the rest.
      tracing::warn!("{}: {error}", gone.display());
    }
    Ok(())
  }

  /// Every folder of an index, and its summary if it has one.
  pub(crate) fn folders(&self) -> Vec<(String, Option<IndexSummary>)> {
    let names = self.names().unwrap_or_else(|error| {
      tracing::warn!("{}: {error}", self.root.display());
      Vec::new()
    });
    let is_index = |name: &String| self.root.join(name).join(FILE).is_file();
    let unfinished = |name: &String| name.starts_with(UNFINISHED);
    let names = names
      .into_iter()
      .filter(|name| !unfinished(name) && is_index(name));
    names
      .map(|name| {
        let summary = read_summary(&self.root.join(&name));
        (name, summary)
      })
      .collect()
  }

  /// Opens an index that has no summary, to write one.
  pub(crate) fn make_summary(&self, folder: &str) -> Result<IndexSummary, VectorError> {
    let path = self.root.join(folder).join(FILE);
    let index = Index::open(&path, &self.memory)?;
    let record: IndexRecord = serde_json::from_value(index.record())
      .map_err(|e| VectorError::Corrupt(format!("{}: {e}", path.display())))?;
    if record.id.folder() != folder {
      return Err(VectorError::Corrupt(format!(
        "{}: it is the file of {}",
        path.display(),
        record.id
      )));
    }
    let changed = fs::metadata(&path).and_then(|file| file.modified());
    let summary = IndexSummary::of(
      &index,
      &record,
      changed.map_or_else(|_| Utc::now(), Into::into),
    );
    drop(index);
    self.write_summary(&summary);
    Ok(summary)
  }

  fn write_summary(&self, summary: &IndexSummary) {
    let path = self.folder(&summary.id).join(SUMMARY);
    let bytes = serde_json::to_vec(summary).unwrap_or_default();
    if let Err(error) = write_privately(&path, &bytes) {
      // Only listings need it, and they can write another.
      tracing::warn!("{}: {error}", path.display());
    }
  }

  fn remove_summary(&self, id: &IndexId) {
    // One that stays is out of date, but is not read while the index is open.
    let _ = fs::remove_file(self.folder(id).join(SUMMARY));
  }

  fn folder(&self, id: &IndexId) -> PathBuf {
    self.root.join(id.folder())
  }

  fn file(&self, id: &IndexId) -> PathBuf {
    self.folder(id).join(FILE)
  }

  fn names(&self) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(&self.root)?.flatten();
    Ok(
      entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect(),
    )
  }
}

fn read_summary(folder: &Path) -> Option<IndexSummary> {
  serde_json::from_slice(&fs::read(folder.join(SUMMARY)).ok()?).ok()
}

fn storage(path: &Path, what: &str, error: &io::Error) -> VectorError {
  VectorError::Storage(format!("{} {what}: {error}", path.display()))
}

/// Writes a file whole or not at all; others on the machine cannot read it.
pub(crate) fn write_privately(path: &Path, bytes: &[u8]) -> io::Result<()> {
  let folder = path.parent().unwrap_or(Path::new("."));
  let draft = folder.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
  let mut options = fs::OpenOptions::new();
  options.write(true).create_new(true);
  #[cfg(unix)]
  std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
  let written = options.open(&draft).and_then(|mut file| {
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
  });
  if written.is_err() {
    let _ = fs::remove_file(&draft);
  }
  written
}

/// Makes a new name in a folder outlast a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
  if cfg!(unix) {
    File::open(path)?.sync_all()?;
  }
  Ok(())
}
