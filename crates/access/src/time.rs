//! Times as clients see them.

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;

/// Formats a time in RFC 3339 with milliseconds, as JavaScript's `Date.toJSON` does.
pub fn timestamp(time: DateTime<Utc>) -> String {
  time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn times_have_milliseconds_and_a_z() {
    let time = DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("in range");
    assert_eq!(timestamp(time), "2023-11-14T22:13:20.123Z");
  }
}
