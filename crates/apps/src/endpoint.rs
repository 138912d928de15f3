//! An app as requests to it see it.

use std::sync::Arc;
use std::time::Duration;

use app_proxy::route::Lease;

use crate::AppError;
use crate::AppId;
use crate::app::App;
use crate::manager::AppManager;

/// Where requests to one app go, and nothing else of it. Using an app takes no [`access::Caller`]: a
/// face lets in everybody whom the operator lets use apps, and the app answers for itself.
pub struct Endpoint(Arc<App>);

impl AppManager {
  /// # Errors
  /// When there is no such app.
  pub fn endpoint(&self, id: &AppId) -> Result<Endpoint, AppError> {
    self.find(id).map(Endpoint)
  }

  /// The endpoint of the app with this [label](AppId::label).
  pub fn endpoint_at(&self, label: &str) -> Option<Endpoint> {
    self.find_by_label(label).map(Endpoint)
  }
}

impl Endpoint {
  pub fn id(&self) -> &AppId {
    &self.0.id
  }

  /// Where to send a request now; waits for an app that is about to listen. Keep the lease until the
  /// answer has gone.
  ///
  /// # Errors
  /// `Conflict` when the app does not run, `Unavailable` when it does not listen in time.
  pub async fn upstream(&self, wait: Duration) -> Result<Lease, AppError> {
    self.0.upstream(wait).await
  }
}
