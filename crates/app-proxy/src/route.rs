//! Routes to instances, and the requests that each has in hand.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::watch;

use crate::upstream::Upstream;

/// Counts the requests that an instance has in hand.
#[derive(Clone, Default)]
pub struct InFlight(Arc<watch::Sender<usize>>);

impl InFlight {
  /// Waits until there is none.
  pub async fn idle(&self) {
    // The sender lives as long as `self`.
    let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
  }
}

/// An instance that listens.
#[derive(Clone)]
pub struct Route {
  pub upstream: Upstream,
  pub in_flight: InFlight,
}

impl Route {
  /// Counts a request until the lease is dropped.
  pub fn lease(&self) -> Lease {
    self.in_flight.0.send_modify(|count| *count += 1);
    Lease {
      upstream: self.upstream.clone(),
      in_flight: self.in_flight.clone(),
    }
  }

  /// Whether both are the route to the same instance.
  pub fn is(&self, other: &Self) -> bool {
    self.upstream == other.upstream && Arc::ptr_eq(&self.in_flight.0, &other.in_flight.0)
  }
}

/// The hold of a request on its instance. Keep it until the last byte of the answer has been sent, even of
/// a streamed body or a WebSocket: an instance that is being replaced waits for it.
pub struct Lease {
  upstream: Upstream,
  in_flight: InFlight,
}

impl Deref for Lease {
  type Target = Upstream;

  fn deref(&self) -> &Upstream {
    &self.upstream
  }
}

impl Drop for Lease {
  fn drop(&mut self) {
    self
      .in_flight
      .0
      .send_modify(|count| *count = count.saturating_sub(1));
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[tokio::test]
  async fn it_is_idle_when_the_last_lease_is_dropped() {
    let upstream = Upstream::open(([127, 0, 0, 1], 1).into());
    let route = Route {
      upstream: upstream.clone(),
      in_flight: InFlight::default(),
    };
    route.in_flight.idle().await;
    let (first, second) = (route.lease(), route.lease());
    assert_eq!(*first, upstream);
    drop(first);
    let idle = tokio::spawn({
      let in_flight = route.in_flight.clone();
      async move { in_flight.idle().await }
    });
    tokio::task::yield_now().await;
    assert!(!idle.is_finished());
    drop(second);
    idle.await.expect("becomes idle");
  }
}
