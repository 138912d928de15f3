//! Watches of folders on disk. Each follows one folder and nothing below it, for the system counts every
//! watched folder and has only so many for a user.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use kernel_protocol::files::FileChanges;
use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileError;
use kernel_protocol::files::MAX_WATCHES;
use kernel_protocol::files::WATCH_INTERVAL;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::inotify;
use rustix::fs::inotify::CreateFlags;
use rustix::fs::inotify::ReadFlags;
use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;

use crate::folder::Folder;
use crate::folder::failed;
use crate::tally::Step;
use crate::tally::Tally;

/// What is asked of the system for each folder.
const SEEN: WatchFlags = WatchFlags::CREATE
  .union(WatchFlags::DELETE)
  .union(WatchFlags::MODIFY)
  .union(WatchFlags::ATTRIB)
  .union(WatchFlags::MOVED_FROM)
  .union(WatchFlags::MOVED_TO)
  .union(WatchFlags::DELETE_SELF)
  .union(WatchFlags::MOVE_SELF)
  // What is written to a file that was deleted is no change of the folder.
  .union(WatchFlags::EXCL_UNLINK)
  .union(WatchFlags::ONLYDIR);
/// What the folder is not there for any more, or not under its path.
const GONE: ReadFlags = ReadFlags::DELETE_SELF
  .union(ReadFlags::MOVE_SELF)
  .union(ReadFlags::UNMOUNT)
  .union(ReadFlags::IGNORED);
const BUFFER_BYTES: usize = 64 << 10;
/// Most events that are read at one time: as many as the system keeps by default. Where there are more, it
/// says that it dropped some.
const MAX_EVENTS: usize = 16_384;

/// Where changes are told, with the id of their watch. Called on the watcher's thread, which waits for it.
pub type Tell = Arc<dyn Fn(u64, FileChanges) + Send + Sync>;

/// Up to [`MAX_WATCHES`] watches of one owner. There is a thread as long as there are watches; it looks
/// once in [`WATCH_INTERVAL`] however much happens, so a flood costs a bounded amount.
pub struct Watcher {
  tell: Tell,
  running: Mutex<Option<Running>>,
}

struct Running {
  shared: Arc<Shared>,
  /// Dropped, it ends the thread.
  _life: PipeWriter,
}

/// What the thread and its owner share.
struct Shared {
  inotify: OwnedFd,
  watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
  watches: BTreeMap<u64, Watch>,
  /// Which watches follow a folder, by the system's number of it.
  places: HashMap<i32, Vec<u64>>,
}

struct Watch {
  place: i32,
  /// The one name in the folder that is watched, if not all are.
  only: Option<String>,
  tally: Tally,
  is_gone: bool,
}

impl Watcher {
  pub fn new(tell: Tell) -> Self {
    Self {
      tell,
      running: Mutex::default(),
    }
  }

  /// Watches a folder, or a file: then its folder is watched, so that the watch outlives a file that
  /// another one replaces. Returns what is watched. Blocking.
  ///
  /// # Errors
  /// When it is not there, or the owner or the system has no more watches.
  pub fn watch(&self, id: u64, folder: &Folder, path: &str) -> Result<FileEntry, FileError> {
    let mut running = self.lock();
    let shared = match &*running {
      Some(it) => it.shared.clone(),
      None => {
        let started = Running::start(self.tell.clone())?;
        running.insert(started).shared.clone()
      }
    };
    let watched = shared.watch(id, folder, path);
    if shared.lock().watches.is_empty() {
      *running = None;
    }
    watched
  }

  /// Ends a watch, if it is there.
  pub fn unwatch(&self, id: u64) {
    let mut running = self.lock();
    if let Some(it) = &*running {
      it.shared.remove(&mut it.shared.lock(), id);
      if it.shared.lock().watches.is_empty() {
        // The system has only so many of what it takes.
        *running = None;
      }
    }
  }

  fn lock(&self) -> MutexGuard<'_, Option<Running>> {
    self.running.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Running {
  fn start(tell: Tell) -> Result<Self, FileError> {
    let none = |_| FileError::CannotWatch;
    let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
    let shared = Arc::new(Shared {
      inotify: inotify::init(flags).map_err(none)?,
      watched: Mutex::default(),
    });
    let none = |_| FileError::CannotWatch;
    let (ended, life) = std::io::pipe().map_err(none)?;
    let thread = std::thread::Builder::new().name("file-watches".into());
    let followed = shared.clone();
    let spawned = thread.spawn(move || followed.follow(&ended, &*tell));
    spawned.map_err(none)?;
    Ok(Self {
      shared,
      _life: life,
    })
  }
}

impl Shared {
  fn watch(&self, id: u64, folder: &Folder, path: &str) -> Result<FileEntry, FileError> {
    let found = folder.watchable(path)?;
    let mut watched = self.lock();
    if watched.watches.len() >= MAX_WATCHES {
      return Err(FileError::TooManyWatches);
    }
    // The link names the very folder that was opened.
    let opened = format!("/proc/self/fd/{}", found.folder.as_raw_fd());
    let place = inotify::add_watch(&self.inotify, opened, SEEN).map_err(|errno| match errno {
      Errno::NOSPC | Errno::NOMEM | Errno::MFILE => FileError::CannotWatch,
      errno => failed(errno),
    })?;
    // Not before: what is new from here on is told.
    let names = match &found.only {
      Some(name) => Some(vec![name.clone()]),
      None => found.names(),
    };
    watched.places.entry(place).or_default().push(id);
    let watch = Watch {
      place,
      only: found.only,
      tally: Tally::new(names),
      is_gone: false,
    };
    watched.watches.insert(id, watch);
    Ok(found.entry)
  }

  fn remove(&self, watched: &mut Watched, id: u64) {
    let Some(watch) = watched.watches.remove(&id) else {
      return;
    };
    if let Some(others) = watched.places.get_mut(&watch.place) {
      others.retain(|other| *other != id);
      if others.is_empty() {
        watched.places.remove(&watch.place);
        // It may be gone already.
        let _ = inotify::remove_watch(&self.inotify, watch.place);
      }
    }
  }

  /// Tells what happens until the watcher is dropped.
  fn follow(&self, ended: &PipeReader, tell: &dyn Fn(u64, FileChanges)) {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
    // What comes in the interval is kept by the system, which puts the same events together and drops
    // those that are too many.
    while wait(ended, Some(&self.inotify), None) && wait(ended, None, Some(WATCH_INTERVAL)) {
      for (id, changes) in self.gathered(&mut buffer) {
        tell(id, changes);
      }
    }
  }

  /// What each watch has to tell.
  fn gathered(&self, buffer: &mut [MaybeUninit<u8>]) -> Vec<(u64, FileChanges)> {
    let mut watched = self.lock();
    let mut events = inotify::Reader::new(&self.inotify, buffer);
    let mut count = 0;
    while count < MAX_EVENTS || !events.is_buffer_empty() {
      count += 1;
      match events.next() {
        Ok(event) => watched.note(&event),
        Err(Errno::INTR) => {}
        Err(_) => break,
      }
    }
    let mut told = Vec::new();
    for (id, watch) in &mut watched.watches {
      let changes = if watch.is_gone {
        Some(FileChanges::Gone)
      } else {
        watch.tally.take()
      };
      told.extend(changes.map(|changes| (*id, changes)));
    }
    for (id, changes) in &told {
      if *changes == FileChanges::Gone {
        self.remove(&mut watched, *id);
      }
    }
    told
  }

  fn lock(&self) -> MutexGuard<'_, Watched> {
    self.watched.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Watched {
  fn note(&mut self, event: &inotify::Event<'_>) {
    let happened = event.events();
    if happened.contains(ReadFlags::QUEUE_OVERFLOW) {
      for watch in self.watches.values_mut() {
        watch.tally.overflow();
      }
      return;
    }
    let ids = self.places.get(&event.wd()).into_iter().flatten();
    let name = event.file_name().map(|name| name.to_string_lossy());
    for id in ids {
      let Some(watch) = self.watches.get_mut(id) else {
        continue;
      };
      if happened.intersects(GONE) {
        watch.is_gone = true;
      } else if let Some(name) = &name
        && watch.only.as_ref().is_none_or(|only| only == name)
      {
        watch.tally.note(name, step(happened));
      }
    }
  }
}

fn step(happened: ReadFlags) -> Step {
  if happened.contains(ReadFlags::CREATE) {
    Step::Made
  } else if happened.contains(ReadFlags::MOVED_TO) {
    Step::Arrived
  } else if happened.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
    Step::Left
  } else {
    Step::Changed
  }
}

/// Waits for events, or until `most` has passed; `false` once the watcher was dropped.
fn wait(ended: &PipeReader, events: Option<&OwnedFd>, most: Option<Duration>) -> bool {
  let deadline = most.map(|most| Instant::now() + most);
  loop {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let mut polled = vec![PollFd::new(ended, PollFlags::IN)];
    polled.extend(events.map(|events| PollFd::new(events, PollFlags::IN)));
    match rustix::event::poll(&mut polled, left.as_ref()) {
      Err(Errno::INTR) => {}
      Err(_) => return false,
      Ok(_) => return polled[0].revents().is_empty(),
    }
  }
}

#[cfg(test)]
mod tests {
  use std::path::Path;
  use std::sync::mpsc;
  use std::sync::mpsc::Receiver;

  use kernel_protocol::files::ChangeKind;
  use kernel_protocol::files::FileChange;
  use kernel_protocol::files::FileKind;
  use kernel_protocol::files::MAX_CHANGES;
  use tempfile::TempDir;

  use super::*;

  /// Longest a change may take to be told, on a machine with much else to do.
  const PATIENCE: Duration = Duration::from_secs(30);

  struct Fixture {
    dir: TempDir,
    folder: Folder,
    watcher: Watcher,
    told: Receiver<(u64, FileChanges)>,
  }

  fn fixture() -> Fixture {
    let dir = TempDir::new().expect("a folder");
    let (sender, told) = mpsc::channel();
    let tell = move |id, changes| {
      let _ = sender.send((id, changes));
    };
    Fixture {
      folder: Folder::open(dir.path()).expect("opens"),
      watcher: Watcher::new(Arc::new(tell)),
      dir,
      told,
    }
  }

  impl Fixture {
    fn path(&self, name: &str) -> std::path::PathBuf {
      self.dir.path().join(name)
    }

    fn watch(&self, id: u64, path: &str) -> Result<FileEntry, FileError> {
      self.watcher.watch(id, &self.folder, path)
    }

    fn next(&self) -> (u64, FileChanges) {
      self.told.recv_timeout(PATIENCE).expect("it is told")
    }

    /// Waits until a watch has told that. A file that is written in two steps may be told as modified besides.
    fn tells(&self, id: u64, name: &str, change: ChangeKind) {
      let expected = FileChange {
        name: name.into(),
        change,
      };
      loop {
        match self.next() {
          (of, FileChanges::Names(changes)) if of == id && changes.len() == 1 => {
            if changes[0] == expected {
              return;
            }
            assert_eq!(changes[0].change, ChangeKind::Modified, "{changes:?}");
          }
          other => panic!("{other:?} instead of {expected:?}"),
        }
      }
    }
  }

  fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("is written");
  }

  #[test]
  fn what_is_made_changed_and_deleted_in_a_folder_is_told() {
    let it = fixture();
    std::fs::create_dir_all(it.path("in/below")).expect("is made");
    let entry = it.watch(7, "in").expect("is watched");
    assert_eq!((&*entry.name, entry.kind), ("in", FileKind::Directory));
    // What lies deeper is not told.
    write(&it.path("in/below/deep"), "x");
    write(&it.path("in/a"), "x");
    it.tells(7, "a", ChangeKind::Created);
    write(&it.path("in/a"), "y");
    it.tells(7, "a", ChangeKind::Modified);
    write(&it.path("part"), "z");
    std::fs::rename(it.path("part"), it.path("in/a")).expect("takes its place");
    it.tells(7, "a", ChangeKind::Modified);
    std::fs::remove_file(it.path("in/a")).expect("is deleted");
    it.tells(7, "a", ChangeKind::Removed);
    std::fs::remove_dir_all(it.path("in")).expect("is deleted");
    assert_eq!(it.next(), (7, FileChanges::Gone));
  }

  #[test]
  fn a_watched_file_may_be_replaced_and_come_back_and_others_are_not_told() {
    let it = fixture();
    write(&it.path("a"), "x");
    let entry = it.watch(1, "a").expect("is watched");
    assert_eq!((&*entry.name, entry.kind), ("a", FileKind::File));
    write(&it.path("b"), "x");
    std::fs::rename(it.path("b"), it.path("a")).expect("takes its place");
    it.tells(1, "a", ChangeKind::Modified);
    std::fs::remove_file(it.path("a")).expect("is deleted");
    it.tells(1, "a", ChangeKind::Removed);
    write(&it.path("a"), "x");
    it.tells(1, "a", ChangeKind::Created);
  }

  #[test]
  fn a_folder_that_is_renamed_is_gone() {
    let it = fixture();
    std::fs::create_dir(it.path("a")).expect("is made");
    it.watch(1, "a").expect("is watched");
    std::fs::rename(it.path("a"), it.path("b")).expect("is renamed");
    assert_eq!(it.next(), (1, FileChanges::Gone));
  }

  #[test]
  fn two_watches_of_one_folder_end_each_by_itself() {
    let it = fixture();
    for id in [1, 2] {
      it.watch(id, "").expect("is watched");
    }
    it.watcher.unwatch(1);
    it.watcher.unwatch(1);
    write(&it.path("a"), "x");
    it.tells(2, "a", ChangeKind::Created);
    it.watcher.unwatch(2);
    assert!(it.watcher.lock().is_none(), "no thread is left");
    it.watch(3, "").expect("is watched again");
    write(&it.path("b"), "x");
    it.tells(3, "b", ChangeKind::Created);
  }

  #[test]
  fn there_are_only_so_many_watches() {
    let it = fixture();
    let most = MAX_WATCHES as u64;
    for id in 0..most {
      it.watch(id, "").expect("is watched");
    }
    assert_eq!(it.watch(most, ""), Err(FileError::TooManyWatches));
    it.watcher.unwatch(0);
    it.watch(most, "").expect("there is room again");
  }

  #[test]
  fn what_is_missing_or_outside_or_no_file_is_not_watched() {
    let it = fixture();
    std::os::unix::fs::symlink("/etc", it.path("out")).expect("a link");
    for path in ["missing", "..", "out", "out/passwd", "a\0b"] {
      assert!(it.watch(1, path).is_err(), "{path}");
    }
    assert!(it.watcher.lock().is_none(), "no thread is left");
  }

  #[test]
  fn a_flood_is_told_in_few_words() {
    let it = fixture();
    it.watch(1, "").expect("is watched");
    let count = 5 * MAX_CHANGES;
    for number in 0..count {
      write(&it.path(&number.to_string()), "");
    }
    let mut names = 0;
    loop {
      match it.next() {
        (1, FileChanges::TooMany) => break,
        (1, FileChanges::Names(changes)) => names += changes.len(),
        other => panic!("{other:?}"),
      }
      if names >= count {
        break;
      }
    }
    // One for each interval in which something happened, at most.
    assert!(it.told.try_iter().count() < 100);
  }
}
