//! Watches of folders that the server itself reads.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use kernel_protocol::files::FileError;

use crate::feed::Feeds;
use crate::feed::OpenWatch;
use crate::folder::Folder;
use crate::watcher::Watcher;

/// The watches of one owner's folder. Each owner has a queue of the system's to itself, so that a flood of
/// changes in one folder costs no other owner an event.
pub struct FolderWatches {
  feeds: Arc<Feeds>,
  watcher: Watcher,
  last: AtomicU64,
}

impl Default for FolderWatches {
  fn default() -> Self {
    let feeds = Arc::<Feeds>::default();
    let told = feeds.clone();
    Self {
      watcher: Watcher::new(Arc::new(move |id, changes| told.tell(id, changes))),
      feeds,
      last: AtomicU64::default(),
    }
  }
}

impl FolderWatches {
  /// Blocking.
  pub(crate) fn open(
    self: &Arc<Self>,
    folder: &Folder,
    path: &str,
  ) -> Result<OpenWatch, FileError> {
    let id = self.last.fetch_add(1, Ordering::Relaxed);
    let feed = self.feeds.open(id).ok_or(FileError::TooManyWatches)?;
    let held = Held {
      watches: self.clone(),
      id,
    };
    let entry = self.watcher.watch(id, folder, path)?;
    Ok(OpenWatch {
      entry,
      feed,
      held: Box::new(held),
    })
  }
}

/// One watch; ends when it is dropped.
struct Held {
  watches: Arc<FolderWatches>,
  id: u64,
}

impl Drop for Held {
  fn drop(&mut self) {
    self.watches.feeds.close(self.id);
    self.watches.watcher.unwatch(self.id);
  }
}
