//! Executions and their event logs. Every reader (stream, result, history) reads the one log, so
//! nothing is seen twice or lost; nobody who reads slowly holds anybody up.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use kernel_protocol::ErrorReport;
use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use kernel_protocol::Outcome;
use kernel_protocol::Request;
use kernel_protocol::comm::CommKind;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::json::JsonText;
use tokio::sync::Notify;

use crate::log_budget::Evict;
use crate::log_budget::LogAccount;
use crate::log_budget::LogOwner;

/// Most events kept of one execution.
const MAX_EVENTS: usize = 200_000;
/// Errors kept even where there is no more room.
const MAX_ERRORS: usize = 16;
/// What stays of the code of an execution whose log made room for others, in bytes.
const EVICTED_CODE: usize = 1024;

/// What a kernel is given to do.
#[derive(Debug, Clone)]
pub enum Work {
  /// A cell.
  Code(String),
  /// A message to what listens for it.
  Comm(CommMessage),
}

/// One run of one cell, or of what a comm message sets off.
pub struct Execution {
  pub id: ExecutionId,
  /// `None` of a cell.
  comm: Option<CommKind>,
  max_bytes: usize,
  account: LogAccount,
  log: Mutex<Log>,
  changed: Notify,
  /// Told at the end alone: who waits for it is not woken by each line.
  finished: Notify,
}

#[derive(Default)]
struct Log {
  /// The source of a cell, or the body of a comm message.
  code: Arc<str>,
  events: Vec<Arc<KernelEvent>>,
  bytes: usize,
  truncated: bool,
  errors: usize,
  /// Whether it made room for others.
  evicted: bool,
  started: Option<Instant>,
  /// Set when the stall timer went off: how it ends is then told by the recovery.
  stalled: bool,
  ended: Option<Outcome>,
}

impl Execution {
  /// `None` when there is no room for the work itself.
  pub fn new(work: Work, max_bytes: u64, owner: &LogOwner) -> Option<Self> {
    let (code, comm) = match work {
      Work::Code(code) => (code, None),
      Work::Comm(message) => (message.body.as_str().to_owned(), Some(message.kind)),
    };
    let account = owner.account();
    account.take(code.len()).then(|| Self {
      id: ExecutionId::random(),
      comm,
      max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
      account,
      log: Mutex::new(Log {
        code: code.into(),
        ..Log::default()
      }),
      changed: Notify::new(),
      finished: Notify::new(),
    })
  }

  /// The cell's source, or the message's body; of an execution whose log made room for others only the start.
  pub fn code(&self) -> Arc<str> {
    self.lock().code.clone()
  }

  /// Whether it is a cell's, and no comm message's.
  pub fn is_cell(&self) -> bool {
    self.comm.is_none()
  }

  /// What a host is asked to do. For executions that have not ended: what is left of others is not all.
  pub(crate) fn request(&self) -> Request {
    let text = self.code().to_string();
    let execution_id = self.id;
    match self.comm {
      None => Request::Execute {
        execution_id,
        code: text,
      },
      Some(kind) => Request::Comm {
        execution_id,
        message: CommMessage {
          kind,
          body: JsonText::new(text).expect("was JSON before"),
        },
      },
    }
  }

  /// Appends an event; past the limit one last event says that output was cut. Errors are kept even
  /// then, without their tracebacks, for they tell how the execution ended.
  pub fn append(&self, event: KernelEvent) {
    let weight = event.weight();
    // Before the log is locked, for it may take the room of others.
    let room = self.account.take(weight);
    let kept = self.append_within(event, weight, room);
    if room && !kept {
      self.account.give_back(weight);
    }
    self.changed.notify_waiters();
  }

  /// Whether the event itself was kept.
  fn append_within(&self, event: KernelEvent, weight: usize, room: bool) -> bool {
    let mut log = self.lock();
    if log.stalled && is_interrupt_report(&event) {
      return false;
    }
    let own_limit = log.bytes + weight > self.max_bytes || log.events.len() >= MAX_EVENTS;
    // Once cut it stays cut: smaller output that still fits would hide the gap.
    if !(log.truncated || own_limit || !room || log.evicted) {
      log.bytes += weight;
      log.events.push(Arc::new(event));
      return true;
    }
    let essence = match &event {
      KernelEvent::ExecuteError(report) => Some(KernelEvent::ExecuteError(report.essence())),
      KernelEvent::Error(report) => Some(KernelEvent::Error(report.essence())),
      _ => None,
    };
    if let Some(essence) = essence {
      if log.errors < MAX_ERRORS {
        log.errors += 1;
        log.events.push(Arc::new(essence));
      }
    } else if !log.evicted && !std::mem::replace(&mut log.truncated, true) {
      let notice = if own_limit {
        format!(
          "the limit of {} bytes or {MAX_EVENTS} events an execution is reached",
          self.max_bytes
        )
      } else {
        "the outputs that the server keeps have no more room (LOGS_MEMORY_BYTES)".to_owned()
      };
      let notice = format!("\n[output truncated: {notice}]\n");
      log.events.push(Arc::new(KernelEvent::stderr(notice)));
    }
    false
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
  pub fn finish(self: &Arc<Self>, outcome: Outcome) {
    let first = {
      let mut log = self.lock();
      let first = log.ended.is_none();
      log.ended.get_or_insert(outcome);
      first
    };
    if first {
      self.account.settle();
      let log: Weak<Self> = Arc::downgrade(self);
      self.account.owner().offer(log);
    }
    self.changed.notify_waiters();
    self.finished.notify_waiters();
  }

  pub fn fail(self: &Arc<Self>, report: ErrorReport) {
    self.append(KernelEvent::ExecuteError(report));
    self.finish(Outcome::Error);
  }

  /// The error event of a recovery step, in the words of the original's.
  pub(crate) fn recovery_report(&self, ename: &str, what: &str) -> ErrorReport {
    let runtime = self.runtime().unwrap_or_default().as_millis();
    let code: String = self.code().chars().take(200).collect();
    let evalue = format!("Kernel execution was {what} after {runtime}ms");
    ErrorReport {
      ename: ename.to_owned(),
      traceback: vec![
        format!("{ename}: {evalue}"),
        format!("Runtime: {runtime}ms"),
        format!("Code: {code}"),
      ],
      evalue,
      status: None,
    }
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
      let finished = self.finished.notified();
      if let Some(outcome) = self.outcome() {
        return outcome;
      }
      finished.await;
    }
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

impl Evict for Execution {
  fn evict(&self) {
    let mut log = self.lock();
    log.evicted = true;
    log.bytes = 0;
    // Readers that have got further see nothing more of it.
    log.events = vec![Arc::new(KernelEvent::stderr(
      "[the output of this execution was dropped: newer output took its room (LOGS_MEMORY_BYTES)]\n",
    ))];
    if log.code.len() > EVICTED_CODE {
      let start = &log.code[..log.code.floor_char_boundary(EVICTED_CODE)];
      log.code = format!("{start}…").into();
    }
    drop(log);
    self.account.give_back(usize::MAX);
  }
}

fn is_interrupt_report(event: &KernelEvent) -> bool {
  event
    .error()
    .is_some_and(|report| report.ename == "KeyboardInterrupt")
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
  use crate::log_budget::LogBudget;

  fn print(text: &str) -> KernelEvent {
    KernelEvent::Stream {
      name: kernel_protocol::StreamName::Stdout,
      text: text.into(),
    }
  }

  fn execution(max_bytes: u64) -> Arc<Execution> {
    let owner = LogBudget::new(1 << 20, 1 << 20).owner(None, 1 << 20);
    Arc::new(Execution::new(Work::Code(String::new()), max_bytes, &owner).expect("there is room"))
  }

  #[tokio::test]
  async fn two_readers_see_the_same_whenever_they_start() {
    let execution = execution(1 << 20);
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
    let execution = execution(4000);
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
    let kept: usize = events.iter().map(|event| event.weight()).sum();
    assert!(kept < 4600, "{kept}");
  }

  #[tokio::test]
  async fn an_old_log_makes_room_for_a_new_one() {
    let budget = LogBudget::new(10_000, 10_000);
    let owner = budget.owner(None, 10_000);
    let new =
      || Arc::new(Execution::new(Work::Code("1".into()), 1 << 20, &owner).expect("there is room"));
    let old = new();
    old.append(print(&"x".repeat(8000)));
    old.finish(Outcome::Ok);
    let running = new();
    running.append(print(&"y".repeat(8000)));
    assert_eq!(running.events().len(), 1);
    let events = old.events();
    assert!(events.len() == 1 && format!("{events:?}").contains("was dropped"));
    running.append(print(&"z".repeat(8000)));
    assert!(format!("{:?}", running.events()).contains("truncated"));
    running.fail(ErrorReport::new("Error", "boom"));
    assert!(matches!(
      running.events().last().map(|event| &**event),
      Some(KernelEvent::ExecuteError(_))
    ));
    drop((old, running));
    assert_eq!(budget.used(), 0);
  }
}
