//! An app at one moment, as others see it.

use std::sync::Arc;

use app_proxy::route::Route;
use chrono::Utc;

use crate::instance::Instance;
use crate::spec::AppSpec;
use crate::status::AppState;
use crate::status::AppStatus;

/// State of an app at one moment. It is replaced as a whole, so that nobody sees half a change.
pub(crate) struct Snapshot {
  pub spec: Arc<AppSpec>,
  pub status: AppStatus,
  pub route: Option<Route>,
  pub instance: Option<Arc<dyn Instance>>,
}

impl Snapshot {
  /// Snapshot of an app that was never launched.
  pub(crate) fn new(spec: Arc<AppSpec>) -> Self {
    Self {
      spec,
      status: AppStatus {
        state: AppState::Starting,
        reason: None,
        exit_code: None,
        since: Utc::now(),
        started: None,
        pid: None,
        restarts: 0,
        instance: 0,
        ready: false,
        port: None,
      },
      route: None,
      instance: None,
    }
  }

  /// Whether nothing has changed between the two.
  pub(crate) fn is_same_as(&self, other: &Self) -> bool {
    let same_route = match (&self.route, &other.route) {
      (Some(a), Some(b)) => a.is(b),
      (None, None) => true,
      _ => false,
    };
    let pointer = |snapshot: &Self| {
      snapshot
        .instance
        .as_ref()
        .map(|it| Arc::as_ptr(it).cast::<()>())
    };
    same_route
      && pointer(self) == pointer(other)
      && self.status == other.status
      && Arc::ptr_eq(&self.spec, &other.spec)
  }
}
