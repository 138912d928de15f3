//! Lasting files: those that a namespace keeps in the data directory, whatever becomes of its kernels.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use access::Caller;
use access::Right;
use files::Folder;
use files::FolderStore;
use files::FolderWatches;
use files::StoreError;
use kernels::KernelError;
use kernels::LastingFolders;
use sandbox::Confinement;

/// The lasting files of all namespaces.
pub struct LastingFiles {
  folders: LastingFolders,
  confinement: Confinement,
  /// The watches of those namespaces that have any.
  watches: Mutex<HashMap<PathBuf, Weak<FolderWatches>>>,
}

impl LastingFiles {
  pub(crate) fn new(folders: LastingFolders, confinement: Confinement) -> Self {
    Self {
      folders,
      confinement,
      watches: Mutex::default(),
    }
  }

  /// The files of the caller's namespace, or of the one `asked` for, to read them or, with
  /// [`Right::Use`], to change them.
  ///
  /// # Errors
  /// When the caller may not use them, or they cannot be opened.
  pub async fn of(
    &self,
    caller: &Caller,
    right: Right,
    asked: Option<&str>,
  ) -> Result<FolderStore, StoreError> {
    caller.require(right).map_err(|e| StoreError::of(&e))?;
    let namespace = caller.work_in(asked).map_err(|e| StoreError::of(&e))?;
    let folder = self.folders.of(namespace.as_deref());
    let folder = folder.map_err(|e| StoreError::of(&e))?;
    let watches = self.watches_of(&folder);
    let confinement = self.confinement.clone();
    let opened = tokio::task::spawn_blocking(move || open(&folder, &confinement)).await;
    let opened = opened.unwrap_or_else(|e| Err(e.into()));
    let opened = opened.map_err(|e| {
      let message = format!("the lasting files cannot be opened: {e}");
      StoreError::of(&KernelError::Host(message))
    })?;
    Ok(FolderStore::new(opened, watches))
  }

  /// The watches of a folder; they last as long as anybody uses them.
  fn watches_of(&self, folder: &Path) -> Arc<FolderWatches> {
    let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = watches.get(folder).and_then(Weak::upgrade) {
      return known;
    }
    watches.retain(|_, watches| watches.strong_count() > 0);
    let new = Arc::<FolderWatches>::default();
    watches.insert(folder.to_owned(), Arc::downgrade(&new));
    new
  }
}

/// What is made there belongs to kernels, which may mount it.
fn open(folder: &Path, confinement: &Confinement) -> io::Result<Folder> {
  confinement.make_own(folder)?;
  let opened = Folder::open(folder)?;
  Ok(match confinement.user {
    Some(user) => opened.owned_by(user.uid().as_raw(), user.gid().as_raw()),
    None => opened,
  })
}

/// Where lasting files are below the data directory.
pub(crate) fn folders(data_dir: &Path, confinement: &Confinement) -> io::Result<LastingFolders> {
  let root: PathBuf = std::path::absolute(data_dir.join("files"))?;
  confinement.make_passable(&root)?;
  let root = root.canonicalize()?;
  let folders = LastingFolders::new(&root);
  for folder in folders.parents() {
    confinement.make_passable(&folder)?;
  }
  Ok(folders)
}
