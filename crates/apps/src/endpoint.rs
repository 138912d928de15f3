//! An app as requests to it see it.

use std::sync::Arc;
use std::time::Duration;

use app_proxy::ProxyError;
use app_proxy::retry::Destination;
use app_proxy::route::Lease;

use crate::app::App;
use crate::error::AppError;
use crate::id::AppId;
use crate::manager::AppManager;

/// Where requests to one app go, and nothing else of it. Using an app takes no [`access::Caller`]: a
/// face lets in everybody whom the operator lets use apps, and the app answers for itself.
///
/// A face hands it to [`app_proxy::Proxy::forward_to`].
pub struct Endpoint(Arc<App>);

/// Why a request got no answer from an app.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
  /// The app does not serve.
  #[error(transparent)]
  App(#[from] AppError),
  #[error(transparent)]
  Proxy(#[from] ProxyError),
}

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
}

impl Destination for Endpoint {
  type Error = ForwardError;

  async fn lease(&self, wait: Duration) -> Result<Lease, ForwardError> {
    Ok(self.0.upstream(wait).await?)
  }
}
