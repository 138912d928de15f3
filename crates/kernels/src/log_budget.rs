//! One bound for the memory that all logs together take: what executions print, and what apps say. A
//! kernel, a namespace and the server have a share each; where one is used up, the oldest logs that
//! are complete make room.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

/// What a log that has this much already takes ahead, in bytes.
const AHEAD: usize = 16 << 10;

/// A complete log, which may be dropped to make room.
pub trait Evict: Send + Sync {
  /// Drops what the log holds, and gives back what it took of the budget.
  fn evict(&self);
}

pub struct LogBudget {
  /// Of the server, in bytes.
  most: usize,
  most_per_namespace: usize,
  state: Mutex<State>,
}

#[derive(Default)]
struct State {
  used: usize,
  namespaces: HashMap<Option<String>, Share>,
  /// Counts owners.
  last_owner: u64,
}

#[derive(Default)]
struct Share {
  used: usize,
  owners: HashMap<u64, usize>,
  /// What may be evicted, the oldest first, and whose it is.
  complete: VecDeque<(u64, Weak<dyn Evict>)>,
}

impl LogBudget {
  pub fn new(most: usize, most_per_namespace: usize) -> Arc<Self> {
    Arc::new(Self {
      most,
      most_per_namespace: most_per_namespace.min(most),
      state: Mutex::default(),
    })
  }

  /// A new owner of logs, a kernel or an app, that may take `most` bytes.
  pub fn owner(self: &Arc<Self>, namespace: Option<&str>, most: usize) -> LogOwner {
    let mut state = self.lock();
    state.last_owner += 1;
    LogOwner {
      budget: self.clone(),
      namespace: namespace.map(str::to_owned),
      number: state.last_owner,
      most,
    }
  }

  /// Bytes in use.
  #[cfg(test)]
  pub fn used(&self) -> usize {
    self.lock().used
  }

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

/// What a kernel or an app takes memory for its logs with.
#[derive(Clone)]
pub struct LogOwner {
  budget: Arc<LogBudget>,
  namespace: Option<String>,
  number: u64,
  most: usize,
}

impl LogOwner {
  /// The account of one log.
  pub fn account(&self) -> LogAccount {
    LogAccount {
      owner: self.clone(),
      taken: Mutex::default(),
    }
  }

  /// Offers a log that is complete to be evicted.
  pub fn offer(&self, log: Weak<dyn Evict>) {
    let mut state = self.budget.lock();
    let share = state.namespaces.entry(self.namespace.clone()).or_default();
    // Those that are gone by themselves would only pile up.
    while share
      .complete
      .front()
      .is_some_and(|(_, log)| log.strong_count() == 0)
    {
      share.complete.pop_front();
    }
    share.complete.push_back((self.number, log));
  }

  /// Takes bytes, evicting what it must, and `ahead` more where there is room for them anyway. Returns
  /// how many it took; `None` when there is no room whatever is evicted.
  fn take(&self, bytes: usize, ahead: usize) -> Option<usize> {
    loop {
      let victim = {
        let mut state = self.budget.lock();
        let more = bytes + ahead;
        if ahead > 0 && self.fits(&state, more) && self.try_take(&mut state, more).is_ok() {
          return Some(more);
        }
        match self.try_take(&mut state, bytes) {
          Ok(()) => return Some(bytes),
          Err(victim) => victim,
        }
      };
      // Without the lock: the victim takes its own, and then gives back.
      match victim {
        Some(victim) => {
          if let Some(log) = victim.upgrade() {
            log.evict();
          }
        }
        None => return None,
      }
    }
  }

  /// Whether nothing must go to make room.
  fn fits(&self, state: &State, bytes: usize) -> bool {
    let share = state.namespaces.get(&self.namespace);
    let own = share.and_then(|share| share.owners.get(&self.number));
    own.copied().unwrap_or_default() + bytes <= self.most
      && share.map_or(0, |share| share.used) + bytes <= self.budget.most_per_namespace
      && state.used + bytes <= self.budget.most
  }

  /// # Errors
  /// With what to evict first, or `None` when nothing can be.
  fn try_take(&self, state: &mut State, bytes: usize) -> Result<(), Option<Weak<dyn Evict>>> {
    let State {
      used, namespaces, ..
    } = state;
    // The name is not copied each time.
    if !namespaces.contains_key(&self.namespace) {
      namespaces.insert(self.namespace.clone(), Share::default());
    }
    let Some(share) = namespaces.get_mut(&self.namespace) else {
      return Err(None);
    };
    let own = share.owners.get(&self.number).copied().unwrap_or_default();
    if own + bytes > self.most {
      let mine = share
        .complete
        .iter()
        .position(|(owner, _)| *owner == self.number);
      let mine = mine.and_then(|position| share.complete.remove(position));
      return Err(mine.map(|(_, log)| log));
    }
    if share.used + bytes > self.budget.most_per_namespace {
      return Err(share.complete.pop_front().map(|(_, log)| log));
    }
    if *used + bytes > self.budget.most {
      let evictable = namespaces
        .values_mut()
        .filter(|share| !share.complete.is_empty());
      let largest = evictable.max_by_key(|share| share.used);
      let oldest = largest.and_then(|share| share.complete.pop_front());
      return Err(oldest.map(|(_, log)| log));
    }
    *used += bytes;
    share.used += bytes;
    *share.owners.entry(self.number).or_default() += bytes;
    Ok(())
  }

  fn give_back(&self, bytes: usize) {
    let mut state = self.budget.lock();
    state.used = state.used.saturating_sub(bytes);
    if let Some(share) = state.namespaces.get_mut(&self.namespace) {
      share.used = share.used.saturating_sub(bytes);
      if let Some(own) = share.owners.get_mut(&self.number) {
        *own = own.saturating_sub(bytes);
        if *own == 0 {
          share.owners.remove(&self.number);
        }
      }
      if share.used == 0 {
        state.namespaces.remove(&self.namespace);
      }
    }
  }
}

/// What one log has taken; given back when it is dropped.
pub struct LogAccount {
  owner: LogOwner,
  taken: Mutex<Taken>,
}

/// Bytes that one log has of the budget.
#[derive(Default)]
struct Taken {
  used: usize,
  /// Taken ahead, so that the budget of all is not asked for each line.
  spare: usize,
}

impl LogAccount {
  /// Takes bytes, evicting what it must; `false` when even that leaves no room. Not to be called while
  /// a log is locked: logs that are evicted are.
  #[must_use]
  pub fn take(&self, bytes: usize) -> bool {
    let ahead = {
      let mut taken = self.lock();
      if let Some(spare) = taken.spare.checked_sub(bytes) {
        taken.spare = spare;
        taken.used += bytes;
        return true;
      }
      if taken.used < AHEAD { 0 } else { AHEAD }
    };
    let Some(more) = self.owner.take(bytes, ahead) else {
      return false;
    };
    let mut taken = self.lock();
    taken.used += bytes;
    taken.spare += more - bytes;
    true
  }

  /// Gives back what was taken ahead: nothing more comes.
  pub fn settle(&self) {
    let spare = std::mem::take(&mut self.lock().spare);
    self.owner.give_back(spare);
  }

  /// Gives back some of what was taken.
  pub fn give_back(&self, bytes: usize) {
    let bytes = {
      let mut taken = self.lock();
      let bytes = bytes.min(taken.used);
      taken.used -= bytes;
      bytes
    };
    self.owner.give_back(bytes);
  }

  pub fn owner(&self) -> &LogOwner {
    &self.owner
  }

  fn lock(&self) -> MutexGuard<'_, Taken> {
    self.taken.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Drop for LogAccount {
  fn drop(&mut self) {
    self.give_back(usize::MAX);
    self.settle();
  }
}

#[cfg(test)]
mod tests {
  use std::sync::atomic::AtomicBool;
  use std::sync::atomic::Ordering;

  use super::*;

  struct Log {
    account: LogAccount,
    evicted: AtomicBool,
  }

  impl Log {
    fn complete(owner: &LogOwner, bytes: usize) -> Arc<Self> {
      let log = Arc::new(Self {
        account: owner.account(),
        evicted: AtomicBool::new(false),
      });
      assert!(log.account.take(bytes));
      let weak: Weak<dyn Evict> = Arc::downgrade(&log) as Weak<dyn Evict>;
      owner.offer(weak);
      log
    }

    fn is_evicted(&self) -> bool {
      self.evicted.load(Ordering::SeqCst)
    }
  }

  impl Evict for Log {
    fn evict(&self) {
      self.evicted.store(true, Ordering::SeqCst);
      self.account.give_back(usize::MAX);
    }
  }

  #[test]
  fn what_is_dropped_is_given_back() {
    let budget = LogBudget::new(100, 100);
    let account = budget.owner(None, 100).account();
    assert!(account.take(60) && account.take(40));
    assert!(!account.take(1));
    account.give_back(30);
    assert_eq!(budget.used(), 70);
    drop(account);
    assert_eq!(budget.used(), 0);
  }

  #[test]
  fn a_long_log_takes_ahead_what_nobody_needs() {
    let budget = LogBudget::new(3 * AHEAD, 3 * AHEAD);
    let owner = budget.owner(None, 3 * AHEAD);
    let account = owner.account();
    assert!(account.take(AHEAD) && account.take(1));
    assert_eq!(budget.used(), 2 * AHEAD + 1);
    assert!(account.take(AHEAD));
    assert_eq!(budget.used(), 2 * AHEAD + 1);
    // Not so much is left.
    assert!(account.take(1));
    assert_eq!(budget.used(), 2 * AHEAD + 2);
    account.give_back(2);
    account.settle();
    assert_eq!(budget.used(), 2 * AHEAD);
    let complete = Log::complete(&owner, AHEAD);
    assert!(account.take(1) && complete.is_evicted());
  }

  #[test]
  fn an_owner_evicts_its_own_first() {
    let budget = LogBudget::new(1000, 1000);
    let (one, other) = (budget.owner(None, 50), budget.owner(None, 50));
    let foreign = Log::complete(&other, 30);
    let (first, second) = (Log::complete(&one, 20), Log::complete(&one, 20));
    let running = one.account();
    assert!(running.take(30));
    assert!(first.is_evicted() && !second.is_evicted() && !foreign.is_evicted());
    assert!(!running.take(51));
  }

  #[test]
  fn a_namespace_that_is_full_takes_nothing_from_others() {
    let budget = LogBudget::new(1000, 100);
    let (alice, bob) = (
      budget.owner(Some("alice"), 500),
      budget.owner(Some("bob"), 500),
    );
    let theirs = Log::complete(&bob, 90);
    let oldest = Log::complete(&alice, 60);
    let running = alice.account();
    assert!(running.take(100));
    assert!(oldest.is_evicted() && !theirs.is_evicted());
    assert!(!running.take(1));
  }

  #[test]
  fn a_server_that_is_full_evicts_from_the_largest() {
    let budget = LogBudget::new(100, 80);
    let (alice, bob) = (
      budget.owner(Some("alice"), 80),
      budget.owner(Some("bob"), 80),
    );
    let small = Log::complete(&bob, 20);
    let large = Log::complete(&alice, 80);
    assert!(budget.owner(Some("carol"), 80).account().take(50));
    assert!(large.is_evicted() && !small.is_evicted());
  }
}
