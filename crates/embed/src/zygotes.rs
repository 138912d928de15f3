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

/// What is known of one runtime's zygote; locked while it is started, so that many requests at once make one.
#[derive(Default)]
struct Slot {
  zygote: Option<Arc<Zygote>>,
  failed: Option<Instant>,
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
    // One that has ended unnoticed is found out by asking it.
    for attempt in 0..2 {
      let Some(zygote) = living(&slot, &spawn).await? else {
        return Ok(None);
      };
      match zygote.fork(Role::Kernel, socket).await {
        Err(_) if zygote.is_gone() && attempt == 0 => {}
        forked => return forked.map(Some),
      }
    }
    Ok(None)
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
  if let Some(zygote) = slot.zygote.as_ref().filter(|it| !it.is_gone()) {
    return Ok(Some(zygote.clone()));
  }
  slot.zygote = None;
  if slot.failed.is_some_and(|at| at.elapsed() < REST) {
    return Ok(None);
  }
  match Zygote::start(spawn).await {
    Ok(zygote) => {
      let zygote = Arc::new(zygote);
      slot.zygote = Some(zygote.clone());
      Ok(Some(zygote))
    }
    Err(error) => {
      slot.failed = Some(Instant::now());
      Err(error)
    }
  }
}
