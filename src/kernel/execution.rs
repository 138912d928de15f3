//! Executions and their event logs. Every reader (stream, result, history) reads the one log, so
//! nothing is seen twice or lost; nobody who reads slowly holds anybody up.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;

use crate::protocol::ErrorReport;
use crate::protocol::ExecutionId;
use crate::protocol::KernelEvent;
use crate::protocol::Outcome;

/// Most events kept of one execution.
const MAX_EVENTS: usize = 200_000;

/// One run of one cell.
pub struct Execution {
  pub id: ExecutionId,
  pub code: String,
  max_bytes: usize,
  log: Mutex<Log>,
  changed: Notify,
}

#[derive(Default)]
struct Log {
  events: Vec<Arc<KernelEvent>>,
  bytes: usize,
  truncated: bool,
  started: Option<Instant>,
  /// Set when the stall timer went off: how it ends is then told by the recovery.
  stalled: bool,
  ended: Option<Outcome>,
}

impl Execution {
  pub fn new(code: String, max_bytes: u64) -> Self {
    Self {
      id: ExecutionId::random(),
      code,
      max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
      log: Mutex::default(),
      changed: Notify::new(),
    }
  }

  /// Appends an event; past the limit one last event says that output was cut. Errors are kept even
  /// then, for they tell how the execution ended.
  pub fn append(&self, event: KernelEvent) {
    {
      let mut log = self.lock();
      if log.stalled && is_interrupt_report(&event) {
        return;
      }
      let weight = event.weight();
      // Once cut it stays cut: smaller output that still fits would hide the gap.
      let full =
        log.truncated || log.bytes + weight > self.max_bytes || log.events.len() >= MAX_EVENTS;
      if full && !matches!(event, KernelEvent::ExecuteError(_)) {
        if std::mem::replace(&mut log.truncated, true) {
          return;
        }
        let limit = self.max_bytes;
        log.events.push(Arc::new(KernelEvent::stderr(format!(
          "\n[output truncated: the limit of {limit} bytes or {MAX_EVENTS} events an execution is reached]\n"
        ))));
      } else {
        log.bytes += weight;
        log.events.push(Arc::new(event));
      }
    }
    self.changed.notify_waiters();
  }

  pub fn start(&self) {
    self.lock().started = Some(Instant::now());
  }

  pub fn mark_stalled(&self) {
    self.lock().stalled = true;
  }

  pub fn is_stalled(&self) -> bool {
    self.lock().stalled
  }

  /// Ends the execution, once; later calls change nothing.
  pub fn finish(&self, outcome: Outcome) {
    self.lock().ended.get_or_insert(outcome);
    self.changed.notify_waiters();
  }

  pub fn fail(&self, report: ErrorReport) {
    self.append(KernelEvent::ExecuteError(report));
    self.finish(Outcome::Error);
  }

  /// How long it has been running, `None` while it waits for its turn.
  pub fn runtime(&self) -> Option<Duration> {
    self.lock().started.map(|started| started.elapsed())
  }

  pub fn outcome(&self) -> Option<Outcome> {
    self.lock().ended
  }

  /// Waits until the execution has ended.
  pub async fn ended(&self) -> Outcome {
    loop {
      let changed = self.changed.notified();
      if let Some(outcome) = self.outcome() {
        return outcome;
      }
      changed.await;
    }
  }

  /// What the log weighs, in bytes.
  pub fn bytes(&self) -> usize {
    self.lock().bytes + self.code.len()
  }

  /// Everything logged so far.
  pub fn events(&self) -> Vec<Arc<KernelEvent>> {
    self.lock().events.clone()
  }

  /// A reader that replays the log from `position` (counted from 0) and then follows it.
  pub fn reader(self: &Arc<Self>, position: usize) -> LogReader {
    LogReader {
      execution: self.clone(),
      position,
    }
  }

  fn lock(&self) -> MutexGuard<'_, Log> {
    self.log.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

fn is_interrupt_report(event: &KernelEvent) -> bool {
  matches!(event, KernelEvent::ExecuteError(report) if report.ename == "KeyboardInterrupt")
}

/// Follows one execution's log.
pub struct LogReader {
  execution: Arc<Execution>,
  position: usize,
}

impl LogReader {
  /// The next event and its position, or `None` when the execution has ended and all is read.
  pub async fn next(&mut self) -> Option<(usize, Arc<KernelEvent>)> {
    loop {
      let changed = self.execution.changed.notified();
      {
        let log = self.execution.lock();
        if let Some(event) = log.events.get(self.position) {
          let position = self.position;
          self.position += 1;
          return Some((position, event.clone()));
        }
        if log.ended.is_some() {
          return None;
        }
      }
      changed.await;
    }
  }

  pub fn execution(&self) -> &Arc<Execution> {
    &self.execution
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn print(text: &str) -> KernelEvent {
    KernelEvent::Stream {
      name: crate::protocol::StreamName::Stdout,
      text: text.into(),
    }
  }

  #[tokio::test]
  async fn two_readers_see_the_same_whenever_they_start() {
    let execution = Arc::new(Execution::new(String::new(), 1 << 20));
    execution.append(print("a"));
    let mut early = execution.reader(0);
    let follower = tokio::spawn(async move {
      let mut seen = Vec::new();
      while let Some((_, event)) = early.next().await {
        seen.push(event);
      }
      seen
    });
    execution.append(print("b"));
    execution.finish(Outcome::Ok);
    let early = follower.await.expect("joins");
    assert_eq!(early, execution.events());
    assert_eq!(early.len(), 2);
    assert_eq!(
      execution.reader(1).next().await,
      Some((1, early[1].clone()))
    );
  }

  #[test]
  fn output_past_the_limit_is_cut_with_one_notice_but_errors_are_kept() {
    let execution = Execution::new(String::new(), 1000);
    for _ in 0..100 {
      execution.append(print(&"x".repeat(100)));
    }
    execution.fail(ErrorReport::new("Error", "boom"));
    let events = execution.events();
    let notices = events
      .iter()
      .filter(|e| format!("{e:?}").contains("output truncated"))
      .count();
    assert_eq!(notices, 1);
    assert!(matches!(
      events.last().map(|e| &**e),
      Some(KernelEvent::ExecuteError(_))
    ));
    assert!(execution.bytes() < 1200);
  }
}
