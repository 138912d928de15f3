//! Stopping JavaScript from another thread, without a stop meant for one cell hitting the next.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Waker;

use deno_core::v8;
use futures::task::AtomicWaker;

use crate::lang::Interrupt;
use crate::protocol::ExecutionId;

/// A termination stays pending while no JavaScript is on the stack and would then kill whatever
/// runs next. So it is asked for, noticed and withdrawn under one lock.
pub struct Interrupter {
  isolate: v8::IsolateHandle,
  state: Mutex<State>,
  waker: AtomicWaker,
}

#[derive(Default)]
struct State {
  running: Option<ExecutionId>,
  pending: bool,
}

impl Interrupter {
  pub fn new(isolate: v8::IsolateHandle) -> Self {
    Self {
      isolate,
      state: Mutex::default(),
      waker: AtomicWaker::new(),
    }
  }

  pub fn begin(&self, execution_id: ExecutionId) {
    self.reset(Some(execution_id));
  }

  pub fn end(&self) {
    self.reset(None);
  }

  fn reset(&self, running: Option<ExecutionId>) {
    let mut state = self.lock();
    *state = State {
      running,
      pending: false,
    };
    self.isolate.cancel_terminate_execution();
  }

  /// Wakes `waker` when an interrupt comes, also while nothing runs that could be terminated.
  pub fn register(&self, waker: &Waker) {
    self.waker.register(waker);
  }

  pub fn is_pending(&self) -> bool {
    self.lock().pending
  }

  /// Whether an interrupt came; after this the isolate may run again.
  pub fn take(&self) -> bool {
    let mut state = self.lock();
    let pending = std::mem::take(&mut state.pending);
    if pending {
      self.isolate.cancel_terminate_execution();
    }
    pending
  }

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Interrupt for Interrupter {
  fn interrupt(&self, execution_id: Option<ExecutionId>) {
    {
      let mut state = self.lock();
      if execution_id.is_some() && execution_id != state.running {
        return;
      }
      state.pending = true;
      self.isolate.terminate_execution();
    }
    self.waker.wake();
  }
}
