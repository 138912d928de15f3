//! Variables on their way from the thread that reads requests to the isolate's.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Waker;

use futures::task::AtomicWaker;
use kernel_host::language::Environment;

#[derive(Default)]
pub(crate) struct NewVariables {
  waiting: Mutex<BTreeMap<String, String>>,
  waker: AtomicWaker,
}

impl NewVariables {
  /// Takes what has come, if anything has; what comes later wakes `waker`.
  pub(crate) fn take(&self, waker: &Waker) -> Option<BTreeMap<String, String>> {
    self.waker.register(waker);
    let variables = std::mem::take(&mut *self.lock());
    (!variables.is_empty()).then_some(variables)
  }

  /// Has variables taken again, but for those of which newer ones have come.
  pub(crate) fn put_back(&self, variables: BTreeMap<String, String>) {
    let mut waiting = self.lock();
    for (name, value) in variables {
      waiting.entry(name).or_insert(value);
    }
  }

  fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
    self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Environment for NewVariables {
  fn set(&self, variables: BTreeMap<String, String>) {
    self.lock().extend(variables);
    self.waker.wake();
  }
}
