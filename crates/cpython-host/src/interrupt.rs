//! Stopping Python from another thread, without a stop meant for one cell hitting the next.
//!
//! An interrupt is a real SIGINT to the thread that runs cells: it ends blocking system calls as
//! well as loops. What becomes of it (an exception in user code, or the cancellation of a task that
//! awaits) is for the handler in `engine_kernel/interrupts.py`, which does nothing where no user
//! code runs.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;

use kernel_host::language::Interrupt;
use kernel_protocol::ExecutionId;
use pyo3::prelude::*;

/// A signal that Python has not handled yet stays pending and would hit whatever runs next. So
/// which code runs, and that a signal was sent to it, change under one lock, and a cell begins and
/// ends only once nothing is pending.
pub(crate) struct Interrupter {
  thread: libc::pthread_t,
  state: Mutex<State>,
}

#[derive(Default)]
struct State {
  running: Option<ExecutionId>,
  /// A signal was sent since the last change of `running`.
  sent: bool,
  /// Interrupted before it began.
  early: Option<ExecutionId>,
}

/// Whether a cell is still wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin {
  Run,
  Interrupted,
}

impl Interrupter {
  /// Interrupts the calling thread, which must be Python's main thread and outlive the kernel.
  pub(crate) fn of_this_thread() -> Arc<Self> {
    Arc::new(Self {
      // SAFETY: takes nothing and cannot fail.
      thread: unsafe { libc::pthread_self() },
      state: Mutex::default(),
    })
  }

  pub(crate) fn begin(&self, py: Python<'_>, execution_id: ExecutionId) -> Begin {
    self.change(py, Some(execution_id));
    if self.lock().early.take() == Some(execution_id) {
      self.end(py);
      return Begin::Interrupted;
    }
    Begin::Run
  }

  /// After a cell, or a question, whose interrupts must not outlive it.
  pub(crate) fn end(&self, py: Python<'_>) {
    self.change(py, None);
  }

  fn change(&self, py: Python<'_>, running: Option<ExecutionId>) {
    loop {
      {
        let mut state = self.lock();
        state.running = None;
        if !std::mem::take(&mut state.sent) {
          state.running = running;
          return;
        }
      }
      swallow(py);
    }
  }

  /// Interrupts what runs after `limit`, unless the returned guard is dropped before.
  pub(crate) fn time_limit(self: &Arc<Self>, limit: Duration) -> TimeLimit {
    let (done, wait) = mpsc::channel::<()>();
    let interrupter = self.clone();
    let watch = move || {
      if wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        interrupter.interrupt(None, &|| {});
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

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

/// Ends the time limit when dropped.
pub(crate) struct TimeLimit {
  _done: mpsc::Sender<()>,
}

impl Interrupt for Interrupter {
  fn interrupt(&self, execution_id: Option<ExecutionId>, cancel_prompt: &dyn Fn()) {
    {
      let mut state = self.lock();
      match (execution_id, state.running) {
        (Some(meant), Some(running)) if meant != running => {
          state.early = Some(meant);
          return;
        }
        // What an earlier cell left behind keeps the named one waiting.
        (Some(meant), None) => state.early = Some(meant),
        _ => {}
      }
      state.sent = true;
      // SAFETY: the thread outlives the kernel, and Python has a handler for the signal.
      unsafe { libc::pthread_kill(self.thread, libc::SIGINT) };
    }
    cancel_prompt();
  }
}

/// Lets Python handle a signal that comes too late, now that it hits nothing.
fn swallow(py: Python<'_>) {
  // A system call: the signal, already sent, is delivered on the way back at the latest.
  std::thread::yield_now();
  if let Err(error) = py.check_signals() {
    tracing::debug!("a signal handler between cells failed: {error}");
  }
}
