//! How fast messages may be sent.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: it fills at a steady rate up to its size, and a message takes one token.
#[derive(Debug)]
pub(crate) struct Bucket {
  rate: f64,
  size: f64,
  tokens: f64,
  filled: Instant,
}

impl Bucket {
  /// A full one.
  pub(crate) fn new(rate: f64, size: f64) -> Self {
    // A rate of zero would stop everything, and one that is no number would never wait.
    let rate = if rate.is_finite() { rate.max(0.1) } else { 0.1 };
    let size = size.max(1.0);
    Self {
      rate,
      size,
      tokens: size,
      filled: Instant::now(),
    }
  }

  /// How long until a message may go that leaves at least `floor` tokens. A floor below zero is for those
  /// that must not wait behind others.
  pub(crate) fn wait(&mut self, floor: f64) -> Duration {
    let now = Instant::now();
    let elapsed = now.duration_since(self.filled).as_secs_f64();
    self.tokens = (self.tokens + elapsed * self.rate).min(self.size);
    self.filled = now;
    let missing = floor + 1.0 - self.tokens;
    if missing <= 0.0 {
      return Duration::ZERO;
    }
    // Timers are exact to a millisecond: a shorter wait would be asked for again and again.
    Duration::from_secs_f64(missing / self.rate).max(Duration::from_millis(1))
  }

  pub(crate) fn take(&mut self) {
    self.tokens -= 1.0;
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[tokio::test(start_paused = true)]
  async fn a_burst_goes_at_once_and_what_follows_at_the_rate() {
    let mut bucket = Bucket::new(10.0, 5.0);
    let start = Instant::now();
    for _ in 0..25 {
      tokio::time::sleep(bucket.wait(0.0)).await;
      bucket.take();
    }
    let elapsed = start.elapsed().as_secs_f64();
    assert!((1.9..2.1).contains(&elapsed), "{elapsed}");
  }

  #[tokio::test(start_paused = true)]
  async fn the_reserve_is_for_what_is_urgent() {
    let mut bucket = Bucket::new(1.0, 1.0);
    bucket.take();
    assert!(bucket.wait(0.0) > Duration::ZERO);
    assert_eq!(bucket.wait(-5.0), Duration::ZERO);
    for _ in 0..5 {
      bucket.take();
    }
    assert!(bucket.wait(-5.0) > Duration::ZERO);
  }
}
