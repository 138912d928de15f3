//! Blank hosts, booted ahead of need. Everything that makes a host a kernel is applied when it is
//! claimed, so a pooled host serves any request.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::Mode;
use crate::connection::HostConnection;
use crate::launch::Hosts;
use crate::launch::LaunchSpec;
use crate::launch::Tenant;

/// How long a pool that is not empty is left as it is after a claim: who makes one kernel often makes several, and
/// each boot takes a core from them.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Pool {
  hosts: Arc<dyn Hosts>,
  spec: LaunchSpec,
  size: usize,
  auto_refill: bool,
  state: Mutex<State>,
}

#[derive(Default)]
struct State {
  ready: VecDeque<HostConnection>,
  booting: usize,
  closed: bool,
  claimed: Option<Instant>,
}

impl State {
  /// Until when no host is booted.
  fn pause(&self) -> Option<Instant> {
    let until = self.claimed.map(|at| at + PAUSE)?;
    (!self.ready.is_empty() && !self.closed && until > Instant::now()).then_some(until)
  }
}

/// How full the pool is.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolStats {
  pub available: usize,
  pub total: usize,
}

impl Pool {
  /// A pool of `size` hosts.
  pub(crate) fn new(
    hosts: Arc<dyn Hosts>,
    spec: LaunchSpec,
    size: usize,
    auto_refill: bool,
  ) -> Arc<Self> {
    Arc::new(Self {
      hosts,
      spec,
      size,
      auto_refill,
      state: Mutex::default(),
    })
  }

  /// The oldest blank host, if there is one. Schedules its replacement.
  pub(crate) fn take(self: &Arc<Self>) -> Option<HostConnection> {
    let host = {
      let mut state = self.lock();
      state.claimed = Some(Instant::now());
      state.ready.pop_front()
    };
    if self.auto_refill {
      self.fill();
    }
    host
  }

  /// Boots hosts until the pool is full, in the background, one after the other: a boot takes a
  /// whole core, and the kernels at work want theirs.
  pub(crate) fn fill(self: &Arc<Self>) {
    {
      let mut state = self.lock();
      if state.booting > 0 || state.closed || state.ready.len() >= self.size {
        return;
      }
      state.booting = 1;
    }
    let pool = self.clone();
    tokio::spawn(async move {
      loop {
        while let Some(until) = pool.pause() {
          tokio::time::sleep_until(until).await;
        }
        let launched = pool.launch().await;
        let mut state = pool.lock();
        match launched {
          Ok(host) if !state.closed => state.ready.push_back(host),
          Ok(_) => {}
          Err(error) => {
            tracing::error!("the kernel pool could not be filled: {error}");
            state.booting = 0;
            return;
          }
        }
        if state.closed || state.ready.len() >= pool.size {
          state.booting = 0;
          return;
        }
      }
    });
  }

  async fn launch(&self) -> io::Result<HostConnection> {
    HostConnection::launch(&*self.hosts, Mode::Worker, &self.spec, &Tenant::Anyone).await
  }

  /// Ends every blank host and makes no more.
  pub(crate) fn close(&self) {
    let mut state = self.lock();
    state.closed = true;
    state.ready.clear();
  }

  pub(crate) fn stats(&self) -> PoolStats {
    PoolStats {
      available: self.lock().ready.len(),
      total: self.size,
    }
  }

  fn pause(&self) -> Option<Instant> {
    self.lock().pause()
  }

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}
