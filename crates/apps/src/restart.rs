//! When an app whose program has ended is started again.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// How long an app must be up to have recovered: its next failure counts as the first.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);

/// What happens when an app's program has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
  /// It stays as it is.
  Never,
  /// It is started again if it failed.
  #[default]
  OnFailure,
  /// It is started again, even when it ended well.
  Always,
}

impl RestartPolicy {
  pub fn after_failure(self) -> bool {
    self != Self::Never
  }

  pub fn after_success(self) -> bool {
    self == Self::Always
  }
}

/// Exponential back-off between restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Backoff {
  failures: u32,
}

impl Backoff {
  /// The time to wait before the next start, after an instance that was up for `up`.
  pub(crate) fn next(&mut self, up: Duration) -> Duration {
    if up >= RECOVERED_AFTER {
      self.failures = 0;
    }
    let delay = SHORTEST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
    self.failures = self.failures.saturating_add(1);
    delay.min(LONGEST)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  const SHORT: Duration = Duration::from_secs(9);

  #[test]
  fn delays_double_up_to_the_longest() {
    let mut backoff = Backoff::default();
    let delays: Vec<u128> = (0..11).map(|_| backoff.next(SHORT).as_millis()).collect();
    assert_eq!(
      delays,
      [
        100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000
      ]
    );
  }

  #[test]
  fn no_number_of_failures_overflows() {
    let mut backoff = Backoff { failures: u32::MAX };
    assert_eq!(backoff.next(SHORT), LONGEST);
    assert_eq!(backoff.next(SHORT), LONGEST);
  }

  #[test]
  fn an_app_that_was_up_for_a_while_is_back_at_once() {
    let mut backoff = Backoff { failures: 9 };
    assert_eq!(backoff.next(RECOVERED_AFTER), SHORTEST);
    assert_eq!(backoff.next(SHORT), SHORTEST * 2);
  }
}
