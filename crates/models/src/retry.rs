//! When a request is made again, and after how long.

use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;
use reqwest::header::HeaderMap;
use reqwest::header::RETRY_AFTER;

use crate::limits::Retries;

/// Statuses after which the same request may succeed.
const MAY_PASS: [u16; 5] = [429, 500, 502, 503, 504];

pub(crate) fn may_pass(status: u16) -> bool {
  MAY_PASS.contains(&status)
}

impl Retries {
  /// The pause before the next attempt after `made` ones; `None` if there is none. `asked` is what the
  /// server asks for.
  pub(crate) fn wait(&self, made: u32, asked: Option<Duration>) -> Option<Duration> {
    if made > self.most {
      return None;
    }
    let doubled = self
      .first_wait
      .saturating_mul(2_u32.saturating_pow(made.saturating_sub(1)));
    // Clients that failed together do not come back together.
    let own = doubled.min(self.longest_wait).mul_f64(jitter());
    match asked {
      // Before that it would be refused again.
      Some(asked) if asked > self.longest_wait => None,
      Some(asked) => Some(asked.max(own)),
      None => Some(own),
    }
  }
}

/// A number from 0.5 to 1. The ids of this crate are random as well.
fn jitter() -> f64 {
  let random = uuid::Uuid::new_v4().as_u128() as u32;
  0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0
}

/// The pause that an answer asks for: milliseconds, seconds or a date.
pub(crate) fn asked(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
  let number = |text: &str| text.parse().ok().filter(|number: &f64| *number >= 0.0);
  let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
  if let Some(milliseconds) = text("retry-after-ms").and_then(number) {
    return Duration::try_from_secs_f64(milliseconds / 1000.0).ok();
  }
  let text = text(RETRY_AFTER.as_str())?;
  if let Some(seconds) = number(text) {
    return Duration::try_from_secs_f64(seconds).ok();
  }
  let until = DateTime::parse_from_rfc2822(text).ok()?;
  let pause = until.with_timezone(&Utc) - now;
  // What is past needs no pause.
  Some(pause.to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
  use super::*;

  fn asked_with(name: &'static str, value: &str) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert(name, value.parse().expect("a value"));
    let now = DateTime::parse_from_rfc3339("2026-03-01T12:00:00Z").expect("a time");
    asked(&headers, now.with_timezone(&Utc))
  }

  #[test]
  fn servers_ask_for_pauses_in_several_ways() {
    let seconds = |number| Some(Duration::from_secs_f64(number));
    assert_eq!(asked_with("retry-after", "7"), seconds(7.0));
    assert_eq!(asked_with("retry-after", " 0.25 "), seconds(0.25));
    assert_eq!(asked_with("retry-after-ms", "1500"), seconds(1.5));
    assert_eq!(
      asked_with("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT"),
      seconds(30.0)
    );
    assert_eq!(
      asked_with("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT"),
      seconds(0.0)
    );
    for nonsense in ["", "soon", "-3", "NaN", "inf", "1e300"] {
      assert_eq!(asked_with("retry-after", nonsense), None, "{nonsense}");
    }
    assert_eq!(asked(&HeaderMap::new(), Utc::now()), None);
  }

  #[test]
  fn pauses_double_up_to_the_longest_and_vary() {
    let retries = Retries {
      most: 40,
      first_wait: Duration::from_secs(1),
      longest_wait: Duration::from_secs(10),
    };
    for (made, most) in [
      (1, 1.0),
      (2, 2.0),
      (3, 4.0),
      (4, 8.0),
      (5, 10.0),
      (40, 10.0),
    ] {
      let wait = retries.wait(made, None).expect("a pause").as_secs_f64();
      assert!((most / 2.0..=most).contains(&wait), "{made}: {wait}");
    }
    assert_eq!(retries.wait(41, None), None);
    let waits: Vec<_> = (0..10).map(|_| retries.wait(5, None)).collect();
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
  }

  #[test]
  fn a_pause_that_is_asked_for_is_kept_or_too_long() {
    let retries = Retries::default();
    let asked = |seconds| retries.wait(1, Some(Duration::from_secs(seconds)));
    assert_eq!(asked(3), Some(Duration::from_secs(3)));
    assert!(asked(0).expect("a pause") >= Duration::from_millis(250));
    assert_eq!(asked(3600), None);
  }

  #[test]
  fn no_retries_are_none() {
    let retries = Retries {
      most: 0,
      ..Retries::default()
    };
    assert_eq!(retries.wait(1, None), None);
  }
}
