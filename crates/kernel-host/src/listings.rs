//! Watches of files that a language keeps in memory: what it lists now is compared with what it listed
//! before, for nothing tells when something has changed.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel_protocol::files::ChangeKind;
use kernel_protocol::files::FileChange;
use kernel_protocol::files::FileChanges;
use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileKind;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;
use kernel_protocol::files::MAX_WATCHES;
use kernel_protocol::files::WATCH_INTERVAL;
use tokio::time::Instant;

use crate::language::Language;

/// How much longer it is until the next look than the last one took: looks take a twentieth of the
/// kernel's time at most.
const PAUSE: u32 = 20;
/// Longest time between two looks: one that took long on a machine with much else to do is not held
/// against the next.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The open watches.
#[derive(Default)]
pub(crate) struct ListingWatches {
  watches: BTreeMap<u64, Watch>,
  /// When it was looked at them, and how long that took.
  last: Option<(Instant, Duration)>,
}

struct Watch {
  path: String,
  seen: Seen,
}

enum Seen {
  File(Option<State>),
  /// `None` where there are too many entries to list.
  Folder(Option<Entries>),
}

type Entries = BTreeMap<String, State>;

/// What tells whether something has changed.
#[derive(PartialEq, Eq)]
struct State {
  kind: FileKind,
  size: u64,
  modified: Option<i64>,
}

impl ListingWatches {
  /// Opens a watch.
  pub(crate) async fn open(
    &mut self,
    id: u64,
    path: String,
    language: &mut impl Language,
  ) -> FileReply {
    if self.watches.len() >= MAX_WATCHES {
      return FileReply::Failed(FileError::TooManyWatches);
    }
    let reply = language
      .file(FileRequest::Stat { path: path.clone() })
      .await;
    let FileReply::Entry(entry) = &reply else {
      return reply;
    };
    let seen = match entry.kind {
      FileKind::File => Seen::File(Some(State::of(entry))),
      FileKind::Directory => match listed(&path, language).await {
        Ok(entries) => Seen::Folder(Some(entries)),
        Err(FileError::TooManyEntries) => Seen::Folder(None),
        Err(error) => return FileReply::Failed(error),
      },
      FileKind::Other => return FileReply::Failed(FileError::NotFile),
    };
    self.watches.insert(id, Watch { path, seen });
    self.last.get_or_insert((Instant::now(), Duration::ZERO));
    reply
  }

  pub(crate) fn close(&mut self, id: u64) {
    self.watches.remove(&id);
  }

  /// When to look the next time; `None` while nothing is watched.
  pub(crate) fn due(&self) -> Option<Instant> {
    let (last, took) = self.last.filter(|_| !self.watches.is_empty())?;
    Some(last + (took * PAUSE).clamp(WATCH_INTERVAL, MAX_PAUSE))
  }

  /// Looks what has changed, and tells it.
  pub(crate) async fn look(
    &mut self,
    language: &mut impl Language,
    tell: impl Fn(u64, FileChanges),
  ) {
    let started = Instant::now();
    let mut gone = Vec::new();
    for (id, watch) in &mut self.watches {
      let changes = watch.look(language).await;
      if changes == Some(FileChanges::Gone) {
        gone.push(*id);
      }
      if let Some(changes) = changes {
        tell(*id, changes);
      }
    }
    for id in gone {
      self.close(id);
    }
    let ended = Instant::now();
    self.last = Some((ended, ended - started));
  }
}

impl Watch {
  async fn look(&mut self, language: &mut impl Language) -> Option<FileChanges> {
    let changes = match &mut self.seen {
      Seen::File(before) => {
        let path = self.path.clone();
        let now = match language.file(FileRequest::Stat { path }).await {
          FileReply::Entry(entry) => Some(State::of(&entry)),
          FileReply::Failed(FileError::NotFound | FileError::NotDirectory) => None,
          // Nothing is known of it now.
          _ => return None,
        };
        let change = changed(before.as_ref(), now.as_ref());
        *before = now;
        let name = self.path.rsplit('/').find(|part| !part.is_empty());
        let name = name.unwrap_or_default().to_owned();
        let change = change.map(|change| FileChange { name, change });
        change.into_iter().collect()
      }
      Seen::Folder(before) => match (listed(&self.path, language).await, &*before) {
        (Ok(now), Some(old)) => {
          let changes = difference(old, &now);
          *before = Some(now);
          changes
        }
        // What has changed since there were too many is not known.
        (Ok(now), None) => {
          *before = Some(now);
          return Some(FileChanges::TooMany);
        }
        (Err(FileError::TooManyEntries), Some(_)) => {
          *before = None;
          return Some(FileChanges::TooMany);
        }
        // Or an entry of it was deleted while it was listed.
        (Err(FileError::NotFound | FileError::NotDirectory), _) => {
          let path = self.path.clone();
          let folder = language.file(FileRequest::Stat { path }).await;
          let is_there =
            matches!(folder, FileReply::Entry(entry) if entry.kind == FileKind::Directory);
          return (!is_there).then_some(FileChanges::Gone);
        }
        (Err(_), _) => return None,
      },
    };
    (!changes.is_empty()).then(|| FileChanges::of(changes))
  }
}

impl State {
  fn of(entry: &FileEntry) -> Self {
    Self {
      kind: entry.kind,
      size: entry.size,
      // That of a folder changes with what is in it, which is not watched.
      modified: entry.modified.filter(|_| entry.kind != FileKind::Directory),
    }
  }
}

async fn listed(path: &str, language: &mut impl Language) -> Result<Entries, FileError> {
  let request = FileRequest::List { path: path.into() };
  match language.file(request).await {
    FileReply::Entries(entries) => {
      let entries = entries.into_iter().map(|entry| {
        let state = State::of(&entry);
        (entry.name, state)
      });
      Ok(entries.collect())
    }
    FileReply::Failed(error) => Err(error),
    _ => Err(FileError::Other("there is no listing".into())),
  }
}

fn changed(before: Option<&State>, now: Option<&State>) -> Option<ChangeKind> {
  match (before, now) {
    (None, Some(_)) => Some(ChangeKind::Created),
    (Some(_), None) => Some(ChangeKind::Removed),
    (Some(before), Some(now)) if before != now => Some(ChangeKind::Modified),
    _ => None,
  }
}

fn difference(before: &Entries, now: &Entries) -> Vec<FileChange> {
  let gone = before.keys().filter(|name| !now.contains_key(*name));
  let names = now.keys().chain(gone);
  let changes = names.filter_map(|name| {
    let change = changed(before.get(name), now.get(name))?;
    let name = name.clone();
    Some(FileChange { name, change })
  });
  changes.collect()
}

#[cfg(test)]
mod tests {
  use std::collections::BTreeMap;
  use std::os::fd::OwnedFd;
  use std::sync::Arc;
  use std::sync::Mutex;

  use async_trait::async_trait;
  use files::Folder;
  use kernel_protocol::HostConfig;
  use kernel_protocol::MainProgram;
  use kernel_protocol::Outcome;
  use kernel_protocol::Question;
  use kernel_protocol::comm::CommMessage;
  use kernel_protocol::files::MAX_CHANGES;
  use serde_json::Value;
  use tempfile::TempDir;

  use super::*;
  use crate::language::Cell;
  use crate::language::Environment;
  use crate::language::Interrupt;

  /// A language whose memory is a folder.
  struct Memory(Folder);

  struct Nobody;

  impl Interrupt for Nobody {
    fn interrupt(&self, _: Option<kernel_protocol::ExecutionId>, _: &dyn Fn()) {}
  }

  impl Environment for Nobody {
    fn set(&self, _: BTreeMap<String, String>) {}
  }

  #[async_trait(?Send)]
  impl Language for Memory {
    const FILES_ON_DISK: bool = false;

    fn interrupter(&self) -> Arc<dyn Interrupt> {
      Arc::new(Nobody)
    }

    fn environment(&self) -> Arc<dyn Environment> {
      Arc::new(Nobody)
    }

    async fn configure(&mut self, _: &HostConfig, _: Vec<OwnedFd>) -> Result<(), String> {
      Ok(())
    }

    async fn execute(&mut self, _: Cell) -> Outcome {
      Outcome::Ok
    }

    async fn comm(&mut self, _: kernel_protocol::ExecutionId, _: CommMessage) -> Outcome {
      Outcome::Ok
    }

    async fn run_program(&mut self, _: MainProgram) {}

    async fn answer(&mut self, _: Question) -> Value {
      Value::Null
    }

    async fn file(&mut self, request: FileRequest) -> FileReply {
      self.0.answer(&request)
    }

    async fn idle(&mut self) {}

    fn relax(&mut self) {}
  }

  struct Fixture {
    dir: TempDir,
    memory: Memory,
    watches: ListingWatches,
  }

  fn fixture() -> Fixture {
    let dir = TempDir::new().expect("a folder");
    let folder = Folder::open(dir.path()).expect("opens");
    Fixture {
      dir,
      memory: Memory(folder),
      watches: ListingWatches::default(),
    }
  }

  impl Fixture {
    async fn open(&mut self, id: u64, path: &str) -> FileReply {
      self.watches.open(id, path.into(), &mut self.memory).await
    }

    fn write(&self, name: &str, text: &str) {
      std::fs::write(self.dir.path().join(name), text).expect("is written");
    }

    async fn told(&mut self) -> Vec<(u64, FileChanges)> {
      let told = Mutex::new(Vec::new());
      let tell = |id, changes| told.lock().expect("one thread").push((id, changes));
      self.watches.look(&mut self.memory, tell).await;
      told.into_inner().expect("one thread")
    }
  }

  fn names(changes: &[(&str, ChangeKind)]) -> FileChanges {
    let changes = changes.iter().map(|(name, change)| FileChange {
      name: (*name).into(),
      change: *change,
    });
    FileChanges::Names(changes.collect())
  }

  #[tokio::test]
  async fn what_differs_from_the_last_listing_is_told() {
    let mut it = fixture();
    it.write("a", "x");
    it.write("b", "x");
    assert_eq!(it.watches.due(), None);
    assert!(matches!(it.open(1, "").await, FileReply::Entry(_)));
    assert!(matches!(it.open(2, "a").await, FileReply::Entry(_)));
    assert!(it.watches.due().is_some());
    assert_eq!(it.told().await, []);
    it.write("a", "longer");
    std::fs::remove_file(it.dir.path().join("b")).expect("is deleted");
    it.write("c", "x");
    assert_eq!(
      it.told().await,
      [
        (
          1,
          names(&[
            ("a", ChangeKind::Modified),
            ("c", ChangeKind::Created),
            ("b", ChangeKind::Removed)
          ])
        ),
        (2, names(&[("a", ChangeKind::Modified)])),
      ]
    );
    assert_eq!(it.told().await, []);
    std::fs::remove_file(it.dir.path().join("a")).expect("is deleted");
    it.watches.close(1);
    assert_eq!(it.told().await, [(2, names(&[("a", ChangeKind::Removed)]))]);
    it.watches.close(2);
    assert_eq!(it.watches.due(), None);
  }

  #[tokio::test]
  async fn a_folder_that_has_gone_ends_its_watch() {
    let mut it = fixture();
    std::fs::create_dir(it.dir.path().join("in")).expect("is made");
    it.open(1, "in").await;
    std::fs::remove_dir(it.dir.path().join("in")).expect("is deleted");
    assert_eq!(it.told().await, [(1, FileChanges::Gone)]);
    assert_eq!(it.told().await, []);
    let missing = it.open(2, "in").await;
    assert_eq!(missing, FileReply::Failed(FileError::NotFound));
  }

  #[tokio::test]
  async fn more_changes_than_can_be_told_are_too_many() {
    let mut it = fixture();
    it.open(1, "").await;
    for number in 0..=MAX_CHANGES {
      it.write(&number.to_string(), "");
    }
    assert_eq!(it.told().await, [(1, FileChanges::TooMany)]);
    it.write("x", "");
    assert_eq!(it.told().await, [(1, names(&[("x", ChangeKind::Created)]))]);
  }

  #[tokio::test]
  async fn there_are_only_so_many() {
    let mut it = fixture();
    for id in 0..MAX_WATCHES as u64 {
      assert!(matches!(it.open(id, "").await, FileReply::Entry(_)));
    }
    let refused = it.open(99, "").await;
    assert_eq!(refused, FileReply::Failed(FileError::TooManyWatches));
    it.watches.close(0);
    assert!(matches!(it.open(99, "").await, FileReply::Entry(_)));
  }
}
