//! The zygotes of kernels in V8, one for each runtime that they are forked from.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use kernels::zygote::ForkedKernel;
use kernels::zygote::Zygote;
use sandbox::Role;
use tokio::process::Child;

/// After a zygote could not be had, how long kernels are started without one.
const REST: Duration = Duration::from_secs(10);

/// Longest it may take to fork: a kernel that is started takes no longer.
const FORK_TIME: Duration = Duration::from_millis(1500);
/// Kernels of one zygote, and its life, before another takes its place: what kernels share, the layout of their memory above
/// all, is not shared for ever.
const FORKS: usize = 500;
const LIFE: Duration = Duration::from_secs(600);

/// What is known of one runtime's zygote; locked while it is started, so that many requests at once make one.
#[derive(Default)]
struct Slot {
  zygote: Option<Used>,
  failed: Option<Instant>,
}

/// A zygote, and how long and how much it has served.
struct Used {
  zygote: Arc<Zygote>,
  since: Instant,
  forks: usize,
}

impl Used {
  fn serves(&self) -> bool {
    !self.zygote.is_gone() && self.forks < FORKS && self.since.elapsed() < LIFE
  }
}

#[derive(Default)]
pub(crate) struct Zygotes {
  /// By the runtime, as JSON.
  known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl Zygotes {
  /// Forks a kernel of this runtime; `spawn` starts its zygote, given the end of its control socket. `None` when that has
  /// failed of late.
  ///
  /// # Errors
  /// When there is no zygote, or it cannot fork.
  pub(crate) async fn fork<F>(
    &self,
    runtime: &str,
    socket: BorrowedFd<'_>,
    spawn: impl Fn(OwnedFd) -> F,
  ) -> io::Result<Option<ForkedKernel>>
  where
    F: Future<Output = io::Result<Child>>,
  {
    let slot = self.lock().entry(runtime.to_owned()).or_default().clone();
    let mut may_be_gone = true;
    loop {
      let Some(zygote) = living(&slot, &spawn).await? else {
        return Ok(None);
      };
      let error = match zygote.fork(Role::Kernel, socket, FORK_TIME).await {
        Ok(forked) => return Ok(Some(forked)),
        Err(error) => error,
      };
      let was_gone = zygote.is_gone();
      slot.lock().await.discard(&zygote);
      // One that has ended unnoticed is found out by asking it.
      if !(was_gone && may_be_gone) {
        return Err(error);
      }
      may_be_gone = false;
    }
  }

  /// Ends all; kernels live on.
  pub(crate) fn close(&self) {
    self.lock().clear();
  }

  fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<Slot>>>> {
    self.known.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

async fn living<F>(
  slot: &tokio::sync::Mutex<Slot>,
  spawn: impl Fn(OwnedFd) -> F,
) -> io::Result<Option<Arc<Zygote>>>
where
  F: Future<Output = io::Result<Child>>,
{
  let mut slot = slot.lock().await;
  if let Some(used) = slot.zygote.as_mut().filter(|it| it.serves()) {
    used.forks += 1;
    return Ok(Some(used.zygote.clone()));
  }
  slot.zygote = None;
  if slot.failed.is_some_and(|at| at.elapsed() < REST) {
    return Ok(None);
  }
  match Zygote::start(spawn).await {
    Ok(zygote) => {
      let zygote = Arc::new(zygote);
      slot.zygote = Some(Used {
        zygote: zygote.clone(),
        since: Instant::now(),
        forks: 1,
      });
      Ok(Some(zygote))
    }
    Err(error) => {
      slot.failed = Some(Instant::now());
      Err(error)
    }
  }
}

impl Slot {
  /// Ends a zygote that does not do what it should; the next request starts another.
  fn discard(&mut self, zygote: &Arc<Zygote>) {
    let is_it = |used: &Used| Arc::ptr_eq(&used.zygote, zygote);
    if self.zygote.as_ref().is_some_and(is_it) {
      self.zygote = None;
    }
  }
}
