//! Handlers that want to know when their caller leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use tokio_util::sync::CancellationToken;

/// Cancelled when one peer leaves.
pub(crate) type Departure = Arc<CancellationToken>;

/// Number of peers from which those that nobody watches are looked for.
const SWEEP: usize = 64;

/// The peers whose calls are in progress.
#[derive(Default)]
pub(crate) struct Departures {
  peers: Mutex<HashMap<String, Weak<CancellationToken>>>,
}

impl Departures {
  /// What is cancelled when a peer leaves. The peer is forgotten with the last of them.
  pub(crate) fn watch(&self, peer: &str) -> Departure {
    let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(departure) = peers.get(peer).and_then(Weak::upgrade) {
      return departure;
    }
    if peers.len() >= SWEEP && peers.len().is_power_of_two() {
      peers.retain(|_, departure| departure.strong_count() > 0);
    }
    let departure = Departure::default();
    peers.insert(peer.to_owned(), Arc::downgrade(&departure));
    departure
  }

  /// Tells the handlers of a peer's calls that it has left.
  pub(crate) fn leave(&self, peer: &str) {
    let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
    let departure = peers.remove(peer);
    drop(peers);
    if let Some(departure) = departure.and_then(|it| it.upgrade()) {
      departure.cancel();
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn only_the_calls_of_the_peer_that_leaves_are_told() {
    let departures = Departures::default();
    let (one, same) = (departures.watch("w/a"), departures.watch("w/a"));
    let other = departures.watch("w/b");
    departures.leave("w/a");
    assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
    // It has come back.
    assert!(!departures.watch("w/a").is_cancelled());
  }

  #[test]
  fn peers_without_calls_are_forgotten() {
    let departures = Departures::default();
    for number in 0..10_000 {
      departures.watch(&format!("w/{number}"));
    }
    let kept = departures.peers.lock().expect("no panic").len();
    assert!(kept <= SWEEP, "{kept}");
  }
}
