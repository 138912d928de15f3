//! Interrupting Python: bytecode sees a signal in the interrupt buffer, a cell that waits is cancelled
//! by the thread that drives it.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Waker;

use futures::task::AtomicWaker;
use kernel_host::language::Interrupt;
use kernel_protocol::ExecutionId;

use crate::pyodide::ops::InterruptBuffer;

pub(super) struct Interrupter {
  buffer: InterruptBuffer,
  running: Mutex<Option<ExecutionId>>,
  waker: AtomicWaker,
}

impl Interrupter {
  pub(super) fn new(buffer: InterruptBuffer) -> Self {
    Self {
      buffer,
      running: Mutex::default(),
      waker: AtomicWaker::new(),
    }
  }

  pub(super) fn begin(&self, execution_id: ExecutionId) {
    self.set(Some(execution_id));
  }

  pub(super) fn end(&self) {
    self.set(None);
  }

  /// A signal that came too late is not for the next cell.
  fn set(&self, running: Option<ExecutionId>) {
    let mut current = self.lock();
    *current = running;
    self.buffer.withdraw();
  }

  /// Wakes `waker` when an interrupt comes, for a cell that waits runs no bytecode.
  pub(super) fn register(&self, waker: &Waker) {
    self.waker.register(waker);
  }

  /// Takes an interrupt that Python has not seen.
  pub(super) fn take_unseen(&self) -> bool {
    self.buffer.withdraw()
  }

  fn lock(&self) -> MutexGuard<'_, Option<ExecutionId>> {
    self.running.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Interrupt for Interrupter {
  fn interrupt(&self, execution_id: Option<ExecutionId>, cancel_prompt: &dyn Fn()) {
    {
      // Held, so that the signal cannot fall into the next cell.
      let running = self.lock();
      if execution_id.is_some() && running.is_some() && execution_id != *running {
        return;
      }
      self.buffer.raise();
    }
    self.waker.wake();
    cancel_prompt();
  }
}
