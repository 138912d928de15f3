//! What an app shows of itself: one value, so that nobody sees half a change.

use std::sync::Arc;

use app_proxy::route::Route;
use chrono::Utc;

use crate::instance::Instance;
use crate::spec::AppSpec;
use crate::status::AppState;
use crate::status::AppStatus;

/// What the supervisor shows; all of it changes at one time.
pub struct Face {
  pub spec: Arc<AppSpec>,
  pub status: AppStatus,
  pub route: Option<Route>,
  pub instance: Option<Arc<dyn Instance>>,
}

impl Face {
  /// Of an app that was never launched.
  pub fn new(spec: Arc<AppSpec>) -> Self {
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

  pub fn shows_the_same(&self, other: &Self) -> bool {
    let same_route = match (&self.route, &other.route) {
      (Some(a), Some(b)) => a.is(b),
      (None, None) => true,
      _ => false,
    };
    let pointer = |face: &Self| {
      face
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
