//! Counters of the use of a provider.

use std::sync::Mutex;
use std::sync::PoisonError;

use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;

/// Use of a provider since the server started or the provider was added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
  /// Batches that were sent to it.
  pub requests: u64,
  /// Texts that it embedded.
  pub texts: u64,
  /// Texts whose vector was in the cache.
  pub cached: u64,
  /// Batches that failed.
  pub failures: u64,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "crate::answers::optional_timestamp"
  )]
  pub last_used: Option<DateTime<Utc>>,
}

#[derive(Default)]
pub(crate) struct Usage(Mutex<UsageReport>);

impl Usage {
  pub(crate) fn report(&self) -> UsageReport {
    *self.0.lock().unwrap_or_else(PoisonError::into_inner)
  }

  pub(crate) fn note(&self, change: impl FnOnce(&mut UsageReport)) {
    let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut report);
    report.last_used = Some(Utc::now());
  }
}
