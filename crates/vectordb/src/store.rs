//! The folder with one folder for each index. Blocking. What appears there is whole: an index is made
//! under another name first, and goes under another name before its files are removed.

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
use crate::record::About;

/// A file that every server which is there has locked.
const PRESENCE: &str = "lock";
const FILE: &str = "index.db";
const CARD: &str = "card.json";
/// No folder of an index begins so: they end in a digest, and a dot is in none.
const UNFINISHED: &str = ".unfinished-";

#[derive(Debug)]
pub(crate) struct Store {
  root: PathBuf,
  /// Locked as long as the server runs; the system lets it go however the server ends.
  presence: File,
  memory: Arc<Memory>,
}

/// What is told of a closed index without opening it. There is none while it is open, nor after a
/// crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Card {
  pub id: IndexId,
  pub namespace: Option<String>,
  pub permission: Permission,
  pub created: DateTime<Utc>,
  pub offloaded_at: DateTime<Utc>,
  pub document_count: u64,
  pub embedding_dimension: Option<usize>,
}

impl Card {
  pub fn of(index: &Index, about: &About, offloaded_at: DateTime<Utc>) -> Self {
    Self {
      id: about.id.clone(),
      namespace: about.namespace.clone(),
      permission: about.permission,
      created: about.created,
      offloaded_at,
      document_count: index.count(),
      embedding_dimension: index.dimension(),
    }
  }

  pub fn shown(self) -> OffloadedIndex {
    OffloadedIndex {
      id: self.id,
      namespace: self.namespace,
      created: self.created,
      offloaded_at: self.offloaded_at,
      document_count: self.document_count,
      embedding_dimension: self.embedding_dimension,
    }
  }
}

/// A folder that nobody sees; removed unless it is published.
pub(crate) struct Draft {
  folder: PathBuf,
}

impl Draft {
  pub fn index(&self) -> PathBuf {
    self.folder.join(FILE)
  }

  pub fn file(&self, name: &str) -> PathBuf {
    self.folder.join(name)
  }
}

impl Drop for Draft {
  fn drop(&mut self) {
    // Nothing is there after it was published.
    let _ = fs::remove_dir_all(&self.folder);
  }
}

impl Store {
  /// Makes the folder, and removes what ended servers left unfinished, unless another one is there.
  ///
  /// # Errors
  /// When it cannot be used.
  pub fn open(root: &Path, memory: Arc<Memory>) -> Result<Self, VectorError> {
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

  /// As if the server had ended.
  #[cfg(test)]
  pub fn let_go(&self) {
    self.presence.unlock().expect("is held");
  }

  pub fn root(&self) -> &Path {
    &self.root
  }

  pub fn exists(&self, id: &IndexId) -> bool {
    self.file(id).is_file()
  }

  pub fn draft(&self) -> Result<Draft, VectorError> {
    let folder = self.root.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
    fs::create_dir(&folder).map_err(|e| storage(&self.root, "cannot be written", &e))?;
    Ok(Draft { folder })
  }

  pub fn create_in(
    &self,
    draft: &Draft,
    options: &IndexOptions,
    about: &About,
  ) -> Result<Index, VectorError> {
    let index = Index::create(&draft.index(), options, &about.to_value(), &self.memory)?;
    Ok(index)
  }

  /// Closes the index of a draft, and gives it its place.
  pub fn finish(
    &self,
    draft: Draft,
    index: Arc<Index>,
    about: &About,
  ) -> Result<Card, VectorError> {
    index.checkpoint()?;
    let card = Card::of(&index, about, Utc::now());
    drop(index);
    self.publish(draft, &card)?;
    Ok(card)
  }

  fn publish(&self, draft: Draft, card: &Card) -> Result<(), VectorError> {
    let bytes = serde_json::to_vec(card).unwrap_or_default();
    let failed = |e: io::Error| storage(&self.root, "cannot be written", &e);
    write_privately(&draft.file(CARD), &bytes).map_err(failed)?;
    fs::rename(&draft.folder, self.folder(&card.id)).map_err(failed)?;
    sync_folder(&self.root).map_err(failed)
  }

  pub fn create(&self, options: &IndexOptions, about: &About) -> Result<Index, VectorError> {
    let draft = self.draft()?;
    let index = self.create_in(&draft, options, about)?;
    let card = Card::of(&index, about, about.created);
    drop(index);
    self.publish(draft, &card)?;
    let opened = Index::open(&self.file(&about.id), &self.memory)?;
    self.remove_card(&about.id);
    Ok(opened)
  }

  pub fn load(&self, id: &IndexId) -> Result<(Index, About), VectorError> {
    let index = Index::open(&self.file(id), &self.memory)?;
    let about = About::read(index.about(), id)?;
    self.remove_card(id);
    Ok((index, about))
  }

  /// Closes an index.
  ///
  /// # Errors
  /// When not everything can be put into its file; the index comes back, still open.
  pub fn close(&self, index: Index, about: &About) -> Result<(), Box<(Index, VectorError)>> {
    if let Err(error) = index.checkpoint() {
      return Err(Box::new((index, error.into())));
    }
    let card = Card::of(&index, about, Utc::now());
    drop(index);
    self.write_card(&card);
    Ok(())
  }

  /// Whose an index is. It need not be opened for that; `None` when there is none.
  ///
  /// # Errors
  /// When it has no card, and its file cannot be read.
  pub fn owner(&self, id: &IndexId) -> Result<Option<Ownership>, VectorError> {
    if let Some(card) = read_card(&self.folder(id)).filter(|card| card.id == *id) {
      return Ok(Some(Ownership {
        namespace: card.namespace,
        permission: card.permission,
      }));
    }
    let path = self.file(id);
    if !path.is_file() {
      return Ok(None);
    }
    let about: About = serde_json::from_value(Index::read_about(&path)?)
      .map_err(|e| VectorError::Corrupt(format!("{}: {e}", path.display())))?;
    Ok(Some(Ownership {
      namespace: about.namespace,
      permission: about.permission,
    }))
  }

  /// Removes a closed index.
  pub fn remove(&self, id: &IndexId) -> Result<(), VectorError> {
    let folder = self.folder(id);
    let failed = |e: io::Error| storage(&folder, "cannot be removed", &e);
    let gone = self.root.join(format!("{UNFINISHED}{}", Uuid::new_v4()));
    fs::rename(&folder, &gone).map_err(failed)?;
    sync_folder(&self.root).map_err(failed)?;
    if let Err(error) = fs::remove_dir_all(&gone) {
      // Gone already for everybody; what stays is removed at the next start.
      tracing::warn!("{}: {error}", gone.display());
    }
    Ok(())
  }

  /// Every folder of an index, and its card if it has one.
  pub fn folders(&self) -> Vec<(String, Option<Card>)> {
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
        let card = read_card(&self.root.join(&name));
        (name, card)
      })
      .collect()
  }

  /// Opens an index that has no card, to write one.
  pub fn make_card(&self, folder: &str) -> Result<Card, VectorError> {
    let path = self.root.join(folder).join(FILE);
    let index = Index::open(&path, &self.memory)?;
    let about: About = serde_json::from_value(index.about())
      .map_err(|e| VectorError::Corrupt(format!("{}: {e}", path.display())))?;
    if about.id.folder() != folder {
      return Err(VectorError::Corrupt(format!(
        "{}: it is the file of {}",
        path.display(),
        about.id
      )));
    }
    let changed = fs::metadata(&path).and_then(|file| file.modified());
    let card = Card::of(
      &index,
      &about,
      changed.map_or_else(|_| Utc::now(), Into::into),
    );
    drop(index);
    self.write_card(&card);
    Ok(card)
  }

  fn write_card(&self, card: &Card) {
    let path = self.folder(&card.id).join(CARD);
    let bytes = serde_json::to_vec(card).unwrap_or_default();
    if let Err(error) = write_privately(&path, &bytes) {
      // Only listings need it, and they can make another.
      tracing::warn!("{}: {error}", path.display());
    }
  }

  fn remove_card(&self, id: &IndexId) {
    // One that stays would be out of date, but is not looked at while the index is open.
    let _ = fs::remove_file(self.folder(id).join(CARD));
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

fn read_card(folder: &Path) -> Option<Card> {
  serde_json::from_slice(&fs::read(folder.join(CARD)).ok()?).ok()
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

/// Makes a new name in it outlast a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
  if cfg!(unix) {
    File::open(path)?.sync_all()?;
  }
  Ok(())
}
