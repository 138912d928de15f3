//! Memory budget of the snapshots of all indices.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Bytes that snapshots may take together.
#[derive(Debug)]
pub struct Memory {
  limit: usize,
  lent: AtomicUsize,
}

impl Memory {
  pub fn new(limit: usize) -> Arc<Self> {
    Arc::new(Self {
      limit,
      lent: AtomicUsize::new(0),
    })
  }

  /// Lends memory; `None` if fewer than `bytes` remain.
  pub(crate) fn lend(self: &Arc<Self>, bytes: usize) -> Option<Loan> {
    let mut loan = Loan {
      memory: self.clone(),
      bytes: 0,
    };
    loan.resize(bytes).then_some(loan)
  }

  #[cfg(test)]
  pub(crate) fn lent(&self) -> usize {
    self.lent.load(Ordering::Acquire)
  }
}

/// Bytes of one snapshot, given back on drop.
#[derive(Debug)]
pub(crate) struct Loan {
  memory: Arc<Memory>,
  bytes: usize,
}

impl Loan {
  /// Resizes the loan. `false` if fewer bytes remain; the loan is then unchanged.
  pub(crate) fn resize(&mut self, bytes: usize) -> bool {
    let (limit, old) = (self.memory.limit, self.bytes);
    let change = |lent: usize| Some(lent - old + bytes).filter(|all| bytes <= old || *all <= limit);
    let order = Ordering::AcqRel;
    let changed = self
      .memory
      .lent
      .fetch_update(order, Ordering::Acquire, change);
    if changed.is_ok() {
      self.bytes = bytes;
    }
    changed.is_ok()
  }
}

impl Drop for Loan {
  fn drop(&mut self) {
    self.memory.lent.fetch_sub(self.bytes, Ordering::AcqRel);
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn no_more_is_lent_than_there_is_and_all_of_it_comes_back() {
    let memory = Memory::new(100);
    let mut first = memory.lend(60).expect("is there");
    assert!(memory.lend(41).is_none());
    let second = memory.lend(40).expect("is there");
    assert!(!first.resize(61) && memory.lent() == 100);
    assert!(first.resize(10) && memory.lent() == 50);
    drop(second);
    assert!(first.resize(100));
    drop(first);
    assert_eq!(memory.lent(), 0);
  }
}
