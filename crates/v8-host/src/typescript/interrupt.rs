//! Stopping JavaScript from another thread, without a stop meant for one cell hitting the next, or
//! hitting Deno while it loads a part of itself.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use deno_core::v8;
use futures::task::AtomicWaker;
use kernel_host::language::Interrupt;
use kernel_protocol::ExecutionId;

use crate::runtime::SafePoint;
use crate::runtime::at_safe_point;

/// How long the isolate may take to come to a safe point in user code. JavaScript, regular
/// expressions and waits come to one at once; native code that does not could not be terminated
/// either.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a prompt that was opened during the interrupt may stay open.
const PROMPT_PAUSE: Duration = Duration::from_millis(5);
/// Pause before a second look at an isolate that loads itself.
const LOADING_PAUSE: Duration = Duration::from_millis(2);

/// A termination stays pending while no JavaScript is on the stack and would then kill whatever
/// runs next. So it is asked for, noticed and withdrawn under one lock.
pub(super) struct Interrupter(Arc<Shared>);

struct Shared {
  isolate: v8::IsolateHandle,
  state: Mutex<State>,
  /// Told when an interrupt was noticed, and when the isolate came to a safe point.
  changed: Condvar,
  waker: AtomicWaker,
}

#[derive(Default)]
struct State {
  running: Option<ExecutionId>,
  pending: bool,
  /// The answer to the last look.
  seen: Option<SafePoint>,
}

impl Interrupter {
  pub(super) fn new(isolate: v8::IsolateHandle) -> Self {
    Self(Arc::new(Shared {
      isolate,
      state: Mutex::default(),
      changed: Condvar::new(),
      waker: AtomicWaker::new(),
    }))
  }

  pub(super) fn begin(&self, execution_id: ExecutionId) {
    self.reset(Some(execution_id));
  }

  pub(super) fn end(&self) {
    self.reset(None);
  }

  fn reset(&self, running: Option<ExecutionId>) {
    let mut state = self.0.lock();
    *state = State {
      running,
      ..State::default()
    };
    self.0.isolate.cancel_terminate_execution();
    self.0.changed.notify_all();
  }

  /// Wakes `waker` when an interrupt comes, also while nothing runs that could be terminated.
  pub(super) fn register(&self, waker: &Waker) {
    self.0.waker.register(waker);
  }

  pub(super) fn is_pending(&self) -> bool {
    self.0.lock().pending
  }

  /// Whether an interrupt came; after this the isolate may run again.
  pub(super) fn take(&self) -> bool {
    let mut state = self.0.lock();
    let pending = std::mem::take(&mut state.pending);
    if pending {
      self.0.isolate.cancel_terminate_execution();
      self.0.changed.notify_all();
    }
    pending
  }

  /// Interrupts what runs after `limit`, unless the returned guard is dropped before.
  pub(super) fn time_limit(&self, limit: Duration) -> TimeLimit {
    let (done, wait) = mpsc::channel::<()>();
    let shared = self.0.clone();
    let watch = move || {
      if wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        Interrupter(shared).interrupt(None, &|| {});
      }
    };
    if let Err(error) = std::thread::Builder::new()
      .name("time-limit".into())
      .spawn(watch)
    {
      tracing::warn!("a time limit could not be set: {error}");
    }
    TimeLimit { _done: done }
  }
}

/// Ends the time limit when dropped.
pub(super) struct TimeLimit {
  _done: mpsc::Sender<()>,
}

impl Interrupt for Interrupter {
  fn interrupt(&self, execution_id: Option<ExecutionId>, cancel_prompt: &dyn Fn()) {
    {
      let mut state = self.0.lock();
      // While none runs, what an earlier cell left behind keeps the named one waiting.
      let meant_for_another = execution_id.is_some() && state.running.is_some();
      if meant_for_another && execution_id != state.running {
        return;
      }
      state.pending = true;
    }
    self.0.waker.wake();
    self.0.deliver(cancel_prompt);
  }
}

impl Shared {
  /// Terminates what runs, once that does no harm, or returns when the interrupt was noticed anyway.
  fn deliver(self: &Arc<Self>, cancel_prompt: &dyn Fn()) {
    let deadline = Instant::now() + PATIENCE;
    self.look();
    while Instant::now() < deadline {
      // Again each time: code that got no answer may ask the next question before it is stopped.
      cancel_prompt();
      let (state, _) = self
        .changed
        .wait_timeout_while(self.lock(), PROMPT_PAUSE, |s| s.pending && s.seen.is_none())
        .unwrap_or_else(PoisonError::into_inner);
      let State { pending, seen, .. } = *state;
      drop(state);
      match seen {
        _ if !pending => return,
        None => continue,
        Some(SafePoint::RunsCode) => return,
        // The next look may well find the user's code again.
        Some(SafePoint::BetweenCalls) => {}
        Some(SafePoint::LoadsItself) => {
          #[expect(
            clippy::disallowed_methods,
            reason = "this thread has nothing else to do"
          )]
          std::thread::sleep(LOADING_PAUSE);
        }
      }
      self.look();
    }
    let state = self.lock();
    if state.pending {
      self.isolate.terminate_execution();
    }
  }

  fn look(self: &Arc<Self>) {
    self.lock().seen = None;
    let shared = self.clone();
    at_safe_point(&self.isolate, move |point| shared.came_to(point));
  }

  /// Runs on the isolate's thread, maybe long after it was asked for.
  fn came_to(&self, point: SafePoint) {
    let mut state = self.lock();
    if state.pending {
      state.seen = Some(point);
      if point == SafePoint::RunsCode {
        self.isolate.terminate_execution();
      }
      self.changed.notify_all();
    }
  }

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}
