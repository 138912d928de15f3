//! The bounded log of an app: its output and what happens to it. Readers replay and follow it.

mod lines;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use chrono::DateTime;
use chrono::Utc;
use kernel_protocol::StreamName;
use kernels::log_budget::LogAccount;
use kernels::log_budget::LogBudget;
use serde::Serialize;
use serde::Serializer;
use tokio::sync::Notify;
use utoipa::ToSchema;

use self::lines::LineSplitter;

/// Most entries of one app.
const MAX_ENTRIES: usize = 10_000;
/// Most memory for the entries of one app.
const MAX_BYTES: usize = 4 << 20;
/// Name under which logs of apps are accounted. No namespace has a colon in its name.
const APPS: &str = "apps:";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
  Debug,
  Info,
  Warning,
  Error,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
  Stdout,
  Stderr,
  /// The engine, about the app.
  Engine,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogEntry {
  /// Number of the entry, counted from 1.
  pub seq: u64,

  #[serde(serialize_with = "timestamp")]
  pub time: DateTime<Utc>,
  pub level: Level,
  pub stream: LogStream,
  /// The line, without its newline.
  pub text: String,
  /// Number of the instance that it is from, or about.
  pub instance: u64,
}

fn timestamp<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
  serializer.serialize_str(&access::timestamp(*time))
}

pub struct AppLog {
  ring: Mutex<Ring>,
  changed: Notify,
  account: LogAccount,
}

#[derive(Default)]
struct Ring {
  entries: VecDeque<Arc<LogEntry>>,
  bytes: usize,
  /// Number of the last entry.
  seq: u64,
  /// Lines that have begun and not ended.
  unfinished: HashMap<(u64, LogStream), LineSplitter>,
  closed: bool,
}

impl AppLog {
  /// Makes an empty log that takes its memory from `budget`.
  pub fn new(budget: &Arc<LogBudget>) -> Self {
    // Apps belong to no namespace: all of them share the part of one.
    let owner = budget.owner(Some(APPS), MAX_BYTES);
    Self {
      ring: Mutex::default(),
      changed: Notify::new(),
      account: owner.account(),
    }
  }

  /// Takes a piece of an instance's output. A line becomes an entry once it is finished.
  pub fn output(&self, instance: u64, stream: StreamName, text: &str) {
    let stream = match stream {
      StreamName::Stdout => LogStream::Stdout,
      StreamName::Stderr => LogStream::Stderr,
    };
    {
      let mut ring = self.lock();
      let splitter = ring.unfinished.entry((instance, stream)).or_default();
      for line in splitter.push(text) {
        ring.add(&self.account, level_of(stream), stream, line, instance);
      }
    }
    self.changed.notify_waiters();
  }

  /// Adds a note about an instance.
  pub fn note(&self, instance: u64, level: Level, text: impl Into<String>) {
    let text: String = text.into();
    {
      let mut ring = self.lock();
      for line in text.lines() {
        ring.add(
          &self.account,
          level,
          LogStream::Engine,
          line.to_owned(),
          instance,
        );
      }
    }
    self.changed.notify_waiters();
  }

  /// Finishes the lines that an instance has begun, when it has ended.
  pub fn end_instance(&self, instance: u64) {
    {
      let mut ring = self.lock();
      for stream in [LogStream::Stdout, LogStream::Stderr] {
        let rest = ring.unfinished.remove(&(instance, stream));
        if let Some(line) = rest.and_then(LineSplitter::finish) {
          ring.add(&self.account, level_of(stream), stream, line, instance);
        }
      }
    }
    self.changed.notify_waiters();
  }

  /// Ends the log of an app that was deleted.
  pub fn close(&self) {
    self.lock().closed = true;
    self.changed.notify_waiters();
  }

  /// The last `count` entries, oldest first.
  pub fn last(&self, count: usize) -> Vec<Arc<LogEntry>> {
    let ring = self.lock();
    let skip = ring.entries.len().saturating_sub(count);
    ring.entries.iter().skip(skip).cloned().collect()
  }

  /// The entries after number `seq` that are still kept.
  pub fn since(&self, seq: u64) -> Vec<Arc<LogEntry>> {
    let ring = self.lock();
    let skip = ring.index_after(seq);
    ring.entries.iter().skip(skip).cloned().collect()
  }

  /// Reads everything after entry number `seq`, then follows the log. A slow reader delays no writer: it
  /// gets a gap in place of entries that were dropped.
  pub fn follow(self: &Arc<Self>, seq: u64) -> LogFollower {
    LogFollower {
      log: self.clone(),
      seq,
    }
  }

  fn lock(&self) -> MutexGuard<'_, Ring> {
    self.ring.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

fn level_of(stream: LogStream) -> Level {
  match stream {
    // Servers write there where they listen, programs what went wrong; there is no telling which.
    LogStream::Stderr => Level::Warning,
    LogStream::Stdout | LogStream::Engine => Level::Info,
  }
}

/// Memory that an entry takes, in bytes.
fn weight(text: &str) -> usize {
  text.len() + size_of::<LogEntry>() + 2 * size_of::<usize>()
}

impl Ring {
  fn add(
    &mut self,
    account: &LogAccount,
    level: Level,
    stream: LogStream,
    text: String,
    instance: u64,
  ) {
    self.seq += 1;
    let weight = weight(&text);
    // The budget evicts executions only, never what is locked here.
    while !account.take(weight) && self.drop_oldest(account) {}
    self.bytes += weight;
    self.entries.push_back(Arc::new(LogEntry {
      seq: self.seq,
      time: Utc::now(),
      level,
      stream,
      text,
      instance,
    }));
    while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
      if !self.drop_oldest(account) {
        break;
      }
    }
  }

  /// Drops the oldest entry; `false` if there is none.
  fn drop_oldest(&mut self, account: &LogAccount) -> bool {
    let Some(oldest) = self.entries.pop_front() else {
      return false;
    };
    let weight = weight(&oldest.text);
    self.bytes -= weight;
    account.give_back(weight);
    true
  }

  /// Number of the last entry that was dropped.
  fn dropped(&self) -> u64 {
    self.seq - self.entries.len() as u64
  }

  /// Index of the entry after number `seq`.
  fn index_after(&self, seq: u64) -> usize {
    usize::try_from(seq.saturating_sub(self.dropped())).unwrap_or(usize::MAX)
  }
}

/// Item that a follower reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
  Entry(Arc<LogEntry>),
  /// Entries were dropped before they could be read.
  Gap {
    missed: u64,
  },
}

/// Reader of a log.
pub struct LogFollower {
  log: Arc<AppLog>,
  /// Number of the last entry that was read.
  seq: u64,
}

impl LogFollower {
  /// Waits for the next entry or gap; `None` if the log has ended and all of it was read.
  pub async fn next(&mut self) -> Option<LogItem> {
    loop {
      let changed = self.log.changed.notified();
      {
        let ring = self.log.lock();
        let dropped = ring.dropped();
        if self.seq < dropped {
          let missed = dropped - self.seq;
          self.seq = dropped;
          return Some(LogItem::Gap { missed });
        }
        if let Some(entry) = ring.entries.get(ring.index_after(self.seq)) {
          self.seq = entry.seq;
          return Some(LogItem::Entry(entry.clone()));
        }
        if ring.closed {
          return None;
        }
      }
      changed.await;
    }
  }
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  fn log() -> AppLog {
    AppLog::new(&LogBudget::new(8 << 20, 8 << 20))
  }

  fn texts(entries: &[Arc<LogEntry>]) -> Vec<&str> {
    entries.iter().map(|entry| entry.text.as_str()).collect()
  }

  #[test]
  fn pieces_become_lines_and_streams_do_not_mix() {
    let log = log();
    log.output(1, StreamName::Stdout, "one\ntw");
    log.output(1, StreamName::Stderr, "bad\n");
    log.output(2, StreamName::Stdout, "other\n");
    log.output(1, StreamName::Stdout, "o\r\n\nthr");
    log.note(1, Level::Warning, "watch out");
    assert_eq!(
      texts(&log.last(9)),
      ["one", "bad", "other", "two", "", "watch out"]
    );
    log.end_instance(1);
    log.end_instance(1);
    let last = &log.last(1)[0];
    assert_eq!((last.text.as_str(), last.seq, last.instance), ("thr", 7, 1));
    assert_eq!(log.last(6)[0].level, Level::Warning);
    assert_eq!(texts(&log.since(5)), ["watch out", "thr"]);
    assert_eq!(log.since(7).len(), 0);
    assert_eq!(log.since(u64::MAX).len(), 0);
  }

  #[test]
  fn times_are_written_with_milliseconds() {
    let log = log();
    log.note(1, Level::Info, "now");
    let entry = log.last(1).remove(0);
    let entry = LogEntry {
      time: DateTime::from_timestamp_nanos(1_700_000_000_123_456_789),
      ..(*entry).clone()
    };
    assert_eq!(
      serde_json::to_value(entry).expect("is JSON"),
      json!({
        "seq": 1, "time": "2023-11-14T22:13:20.123Z", "level": "info", "stream": "engine",
        "text": "now", "instance": 1
      })
    );
  }

  #[test]
  fn it_keeps_a_bounded_number_of_entries_and_bytes() {
    let log = log();
    for i in 0..MAX_ENTRIES + 5 {
      log.note(1, Level::Info, i.to_string());
    }
    assert_eq!(log.last(usize::MAX).len(), MAX_ENTRIES);
    assert_eq!(log.since(0)[0].seq, 6);
    for _ in 0..MAX_BYTES / 1000 + 10 {
      log.note(1, Level::Info, "x".repeat(1000));
    }
    let bytes: usize = log
      .last(usize::MAX)
      .iter()
      .map(|entry| weight(&entry.text))
      .sum();
    assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES - 2000, "{bytes}");
  }

  #[tokio::test]
  async fn a_follower_replays_follows_and_ends_with_the_log() {
    let log = Arc::new(log());
    for text in ["a", "b", "c"] {
      log.note(1, Level::Info, text);
    }
    let mut follower = log.follow(1);
    let reading = tokio::spawn(async move {
      let mut read = Vec::new();
      while let Some(LogItem::Entry(entry)) = follower.next().await {
        read.push(entry.text.clone());
      }
      read
    });
    tokio::task::yield_now().await;
    log.note(1, Level::Info, "d");
    log.close();
    assert_eq!(reading.await.expect("ends"), ["b", "c", "d"]);
  }

  #[tokio::test]
  async fn a_follower_that_is_too_slow_is_told_what_it_missed() {
    let log = Arc::new(log());
    log.note(1, Level::Info, "first");
    let mut follower = log.follow(0);
    assert!(matches!(follower.next().await, Some(LogItem::Entry(entry)) if entry.seq == 1));
    for _ in 0..MAX_ENTRIES + 3 {
      log.note(1, Level::Info, "x");
    }
    assert_eq!(follower.next().await, Some(LogItem::Gap { missed: 3 }));
    assert!(matches!(follower.next().await, Some(LogItem::Entry(entry)) if entry.seq == 5));
  }
}
