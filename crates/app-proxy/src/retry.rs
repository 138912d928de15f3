//! Retries requests whose instance has just gone.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use tokio::time::Instant;

use crate::error::ProxyError;
use crate::headers::EngineToken;
use crate::proxy::Proxy;
use crate::route::Lease;
use crate::site::Site;

/// How long a request waits for an app that starts or restarts.
const READY_WAIT: Duration = Duration::from_secs(5);
/// Pause between two tries: the engine may take so long to notice that a process has ended.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// An app, whose instances serve one after the other.
pub trait Destination: Sync {
  type Error: From<ProxyError> + Send;

  /// Returns where requests go now; waits up to `wait` for an app that is about to listen.
  ///
  /// # Errors
  /// When the app does not listen in time, or never will.
  fn lease(&self, wait: Duration) -> impl Future<Output = Result<Lease, Self::Error>> + Send;
}

impl Proxy {
  /// [`Self::forward`] to the instance that serves now. If its process has just gone, so that nothing was
  /// sent, a request without a body waits for the next instance.
  ///
  /// # Errors
  /// When the app does not listen in time, or gives no answer.
  pub async fn forward_to<D: Destination>(
    &self,
    destination: &D,
    site: &Site,
    path_and_query: &str,
    mut request: Request,
  ) -> Result<Response, D::Error> {
    let deadline = Instant::now() + READY_WAIT;
    loop {
      let again = without_body(&request);
      let lease = destination.lease(READY_WAIT).await?;
      let forwarded = self.forward(lease, site, path_and_query, request).await;
      request = match (forwarded, again) {
        (Ok(response), _) => return Ok(response),
        // The engine is about to notice that the process has ended.
        (Err(ProxyError::Unreachable { .. }), Some(again)) if Instant::now() < deadline => again,
        (Err(error), _) => return Err(error.into()),
      };
      tokio::time::sleep(RETRY_PAUSE).await;
    }
  }
}

/// Copies a request that has no body and asks for no other protocol.
fn without_body(request: &Request) -> Option<Request> {
  if !request.body().is_end_stream() || request.headers().contains_key(header::UPGRADE) {
    return None;
  }
  let mut copy = Request::new(Body::empty());
  *copy.method_mut() = request.method().clone();
  *copy.uri_mut() = request.uri().clone();
  *copy.headers_mut() = request.headers().clone();
  if let Some(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
    copy.extensions_mut().insert(*peer);
  }
  if let Some(token) = request.extensions().get::<EngineToken>() {
    copy.extensions_mut().insert(*token);
  }
  Some(copy)
}
