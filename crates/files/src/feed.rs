//! What watches tell, on its way to whoever reads it. Bounded: a slow reader is told to list again.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use kernel_protocol::files::ChangeKind;
use kernel_protocol::files::FileChange;
use kernel_protocol::files::FileChanges;
use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileKind;
use kernel_protocol::files::MAX_WATCHES;
use tokio::sync::Notify;

/// What the changes that wait for one reader may take, in bytes.
const MAX_WAITING: usize = 128 << 10;
/// What a change takes besides its name, in bytes.
const HOLDER: usize = 48;

/// The open watches of one kernel or namespace.
#[derive(Default)]
pub struct Feeds {
  open: Mutex<HashMap<u64, Arc<Feed>>>,
}

impl Feeds {
  /// Opens one; `None` when [`MAX_WATCHES`] are open.
  pub fn open(&self, id: u64) -> Option<Arc<Feed>> {
    let mut open = self.lock();
    if open.len() >= MAX_WATCHES {
      return None;
    }
    let feed = Arc::<Feed>::default();
    open.insert(id, feed.clone());
    Some(feed)
  }

  /// Forgets one; `false` when it was not open any more.
  pub fn close(&self, id: u64) -> bool {
    self.lock().remove(&id).is_some()
  }

  /// Takes what a watch tells. A claim where code of users may have made it: what no open watch has asked
  /// for is dropped.
  pub fn tell(&self, id: u64, changes: FileChanges) {
    let Some(feed) = self.lock().get(&id).cloned() else {
      return;
    };
    match changes {
      FileChanges::Names(changes) if changes.iter().all(|it| is_name(&it.name)) => {
        feed.push(changes);
      }
      FileChanges::Names(_) | FileChanges::TooMany => feed.overflow(),
      FileChanges::Gone => feed.end("it is not there any more: it was deleted or renamed"),
    }
  }

  /// Ends all of them.
  pub fn end(&self, reason: &str) {
    let ended = std::mem::take(&mut *self.lock());
    for feed in ended.into_values() {
      feed.end(reason);
    }
  }

  fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Feed>>> {
    self.open.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

/// Whether it is one part of a path.
fn is_name(name: &str) -> bool {
  !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// What one watch has told and nobody has read yet.
#[derive(Default)]
pub struct Feed {
  waiting: Mutex<Waiting>,
  changed: Notify,
}

#[derive(Default)]
struct Waiting {
  /// Something was left out before what waits.
  overflow: bool,
  changes: VecDeque<FileChange>,
  bytes: usize,
  ended: Option<String>,
}

impl Feed {
  fn push(&self, changes: Vec<FileChange>) {
    let mut waiting = self.lock();
    let bytes: usize = changes.iter().map(|it| it.name.len() + HOLDER).sum();
    if waiting.bytes + bytes > MAX_WAITING {
      waiting.overflow = true;
      waiting.changes = VecDeque::new();
      waiting.bytes = 0;
    } else if !waiting.overflow {
      waiting.bytes += bytes;
      waiting.changes.extend(changes);
    }
    // Otherwise whoever lists again sees it.
    drop(waiting);
    self.changed.notify_one();
  }

  fn overflow(&self) {
    let mut waiting = self.lock();
    waiting.overflow = true;
    waiting.changes = VecDeque::new();
    waiting.bytes = 0;
    drop(waiting);
    self.changed.notify_one();
  }

  fn end(&self, reason: &str) {
    self.lock().ended.get_or_insert_with(|| reason.to_owned());
    self.changed.notify_one();
  }

  /// The next of what was told.
  async fn next(&self) -> Told {
    loop {
      {
        let mut waiting = self.lock();
        if std::mem::take(&mut waiting.overflow) {
          return Told::Overflow;
        }
        if let Some(change) = waiting.changes.pop_front() {
          waiting.bytes -= change.name.len() + HOLDER;
          return Told::Change(change);
        }
        if let Some(reason) = &waiting.ended {
          return Told::Ended(reason.clone());
        }
      }
      self.changed.notified().await;
    }
  }

  fn lock(&self) -> MutexGuard<'_, Waiting> {
    self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

enum Told {
  Change(FileChange),
  Overflow,
  Ended(String),
}

/// A watch that stands, as whatever keeps the files hands it out.
pub struct OpenWatch {
  /// What is watched.
  pub entry: FileEntry,
  pub feed: Arc<Feed>,
  /// Ends the watch when it is dropped.
  pub held: Box<dyn Send>,
}

/// What happens to a file, or to what is directly in a folder. Dropped, it ends the watch.
pub struct FileWatch {
  /// As it was asked for.
  path: String,
  is_folder: bool,
  feed: Arc<Feed>,
  has_ended: bool,
  _held: Box<dyn Send>,
}

/// One thing that a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEvent {
  Changed {
    /// Below the watched path, as that was asked for.
    path: String,
    change: ChangeKind,
  },
  /// More has changed than is told: list the folder again.
  Overflow,
  /// Nothing more will be told.
  Ended { reason: String },
}

impl FileWatch {
  pub(crate) fn new(path: &str, open: OpenWatch) -> Self {
    Self {
      path: path.to_owned(),
      is_folder: open.entry.kind == FileKind::Directory,
      feed: open.feed,
      has_ended: false,
      _held: open.held,
    }
  }

  /// The next event, or `None` after the last.
  pub async fn next(&mut self) -> Option<FileEvent> {
    if self.has_ended {
      return None;
    }
    Some(match self.feed.next().await {
      Told::Change(FileChange { name, change }) => FileEvent::Changed {
        path: self.path_of(&name),
        change,
      },
      Told::Overflow => FileEvent::Overflow,
      Told::Ended(reason) => {
        self.has_ended = true;
        FileEvent::Ended { reason }
      }
    })
  }

  fn path_of(&self, name: &str) -> String {
    if !self.is_folder {
      return self.path.clone();
    }
    if self.path.is_empty() || self.path.ends_with('/') {
      return format!("{}{name}", self.path);
    }
    format!("{}/{name}", self.path)
  }
}

#[cfg(test)]
mod tests {
  use futures::FutureExt;

  use super::*;

  fn change(name: &str) -> FileChange {
    FileChange {
      name: name.into(),
      change: ChangeKind::Created,
    }
  }

  fn watch(feeds: &Feeds, path: &str, kind: FileKind) -> FileWatch {
    let entry = FileEntry {
      name: String::new(),
      kind,
      size: 0,
      modified: None,
    };
    let open = OpenWatch {
      entry,
      feed: feeds.open(1).expect("there is room"),
      held: Box::new(()),
    };
    FileWatch::new(path, open)
  }

  fn created(path: &str) -> FileEvent {
    FileEvent::Changed {
      path: path.into(),
      change: ChangeKind::Created,
    }
  }

  fn now(watch: &mut FileWatch) -> Option<FileEvent> {
    watch.next().now_or_never().expect("it is there")
  }

  #[test]
  fn paths_are_told_as_they_were_asked_for() {
    for (asked, kind, told) in [
      ("", FileKind::Directory, "x"),
      ("a/b", FileKind::Directory, "a/b/x"),
      ("a/", FileKind::Directory, "a/x"),
      ("/", FileKind::Directory, "/x"),
      ("a/x", FileKind::File, "a/x"),
    ] {
      let feeds = Feeds::default();
      let mut watch = watch(&feeds, asked, kind);
      feeds.tell(1, FileChanges::Names(vec![change("x")]));
      assert_eq!(now(&mut watch), Some(created(told)), "{asked}");
      assert!(watch.next().now_or_never().is_none(), "nothing more");
    }
  }

  #[test]
  fn what_is_no_name_is_not_passed_on_and_unknown_watches_are_dropped() {
    let feeds = Feeds::default();
    let mut watch = watch(&feeds, "", FileKind::Directory);
    feeds.tell(2, FileChanges::Names(vec![change("x")]));
    for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b"] {
      feeds.tell(1, FileChanges::Names(vec![change("x"), change(name)]));
      assert_eq!(now(&mut watch), Some(FileEvent::Overflow), "{name}");
    }
    assert!(watch.next().now_or_never().is_none(), "nothing more");
  }

  #[test]
  fn a_slow_reader_lists_again() {
    let feeds = Feeds::default();
    let mut watch = watch(&feeds, "", FileKind::Directory);
    for number in 0..100_000 {
      let name = number.to_string();
      feeds.tell(1, FileChanges::Names(vec![change(&name)]));
      assert!(watch.feed.lock().bytes <= MAX_WAITING);
    }
    assert_eq!(now(&mut watch), Some(FileEvent::Overflow));
    feeds.tell(1, FileChanges::Names(vec![change("x")]));
    assert_eq!(now(&mut watch), Some(created("x")));
    assert_eq!(watch.feed.lock().bytes, 0);
  }

  #[test]
  fn the_end_comes_after_all_that_was_told_and_once() {
    let feeds = Feeds::default();
    let mut watch = watch(&feeds, "", FileKind::Directory);
    feeds.tell(1, FileChanges::Names(vec![change("x")]));
    feeds.end("done");
    assert!(!feeds.close(1));
    assert_eq!(now(&mut watch), Some(created("x")));
    let reason = "done".to_owned();
    assert_eq!(now(&mut watch), Some(FileEvent::Ended { reason }));
    assert_eq!(now(&mut watch), None);
  }

  #[test]
  fn there_are_only_so_many() {
    let feeds = Feeds::default();
    for id in 0..MAX_WATCHES as u64 {
      assert!(feeds.open(id).is_some());
    }
    assert!(feeds.open(99).is_none());
    assert!(feeds.close(0));
    assert!(feeds.open(99).is_some());
  }
}
