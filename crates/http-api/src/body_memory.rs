//! One bound for the memory that request bodies take while they are read and parsed. A namespace has a
//! share of it, so that no tenant keeps the others waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Bodies up to this size need no place, in bytes: connections, which are bounded, bound them too.
pub(crate) const SMALL: usize = 64 << 10;
/// What all bodies and those of one namespace may take, in bytes, where the largest body allows it.
const TOTAL: usize = 64 << 20;
const SHARE: usize = TOTAL / 2;
/// How long a body waits for its place.
const PATIENCE: Duration = Duration::from_secs(30);
const UNIT: usize = 1 << 10;

#[derive(Clone)]
pub(crate) struct BodyMemory(Arc<Inner>);

struct Inner {
  total: Arc<Semaphore>,
  /// Units of a namespace's share.
  share: usize,
  /// Of the namespaces that bodies are read for, and of callers without one.
  shares: Mutex<HashMap<Option<String>, Weak<Semaphore>>>,
}

/// Memory for one body; given back when dropped.
pub(crate) struct Place {
  _total: OwnedSemaphorePermit,
  _share: OwnedSemaphorePermit,
}

impl BodyMemory {
  /// For bodies of at most `largest` bytes.
  pub(crate) fn new(largest: usize) -> Self {
    let largest = cost(largest);
    Self(Arc::new(Inner {
      total: Arc::new(Semaphore::new(largest.max(TOTAL / UNIT))),
      share: largest.max(SHARE / UNIT),
      shares: Mutex::default(),
    }))
  }

  /// Waits for the memory that a body of `bytes` takes.
  ///
  /// # Errors
  /// When there is none for a long while, with a status that tells clients to try again.
  pub(crate) async fn place(
    &self,
    namespace: Option<String>,
    bytes: usize,
  ) -> Result<Place, ApiError> {
    let units = u32::try_from(cost(bytes)).unwrap_or(u32::MAX);
    let share = self.share(namespace);
    // A body takes all that it needs at once: two that each hold a half would wait for each other.
    let places = async {
      let share = share.acquire_many_owned(units).await;
      let total = self.0.total.clone().acquire_many_owned(units).await;
      Some(Place {
        _total: total.ok()?,
        _share: share.ok()?,
      })
    };
    let place = tokio::time::timeout(PATIENCE, places).await.ok().flatten();
    place.ok_or_else(|| {
      ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("Too many large request bodies at once: none could be read for {PATIENCE:?}. Send fewer at a time"),
      )
    })
  }

  fn share(&self, namespace: Option<String>) -> Arc<Semaphore> {
    let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(share) = shares.get(&namespace).and_then(Weak::upgrade) {
      return share;
    }
    shares.retain(|_, share| share.strong_count() > 0);
    let share = Arc::new(Semaphore::new(self.0.share));
    shares.insert(namespace, Arc::downgrade(&share));
    share
  }
}

/// Units for a body: its text, and what is parsed from it.
fn cost(bytes: usize) -> usize {
  bytes
    .saturating_mul(2)
    .div_ceil(UNIT)
    .min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
  use axum::response::IntoResponse;
  use futures::FutureExt;

  use super::*;

  const MIB: usize = 1 << 20;

  #[expect(clippy::unnecessary_wraps, reason = "as callers have it")]
  fn namespace(name: &str) -> Option<String> {
    Some(name.to_owned())
  }

  #[tokio::test]
  async fn a_namespace_that_reads_much_leaves_room_for_others() {
    let memory = BodyMemory::new(16 * MIB);
    let held = memory.place(namespace("a"), 16 * MIB).await;
    assert!(memory.place(namespace("a"), MIB).now_or_never().is_none());
    assert!(
      memory
        .place(namespace("b"), 16 * MIB)
        .now_or_never()
        .is_some()
    );
    drop(held);
    assert!(memory.place(namespace("a"), MIB).now_or_never().is_some());
  }

  #[tokio::test]
  async fn the_largest_body_has_room_whatever_its_size() {
    let memory = BodyMemory::new(500 * MIB);
    assert!(memory.place(None, 500 * MIB).now_or_never().is_some());
    assert!(memory.0.shares.lock().expect("a lock").len() == 1);
  }

  #[tokio::test(start_paused = true)]
  async fn waiting_has_an_end() {
    let memory = BodyMemory::new(16 * MIB);
    let _held = memory.place(None, 16 * MIB).await;
    let refused = memory.place(None, MIB).await;
    let status = refused.map(drop).into_response().status();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
  }
}
