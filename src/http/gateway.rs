//! `/apps/{id}/…`: requests to apps, passed on as they are.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::any;

use super::AppState;
use super::access;
use super::error::ApiError;
use super::error::ApiResult;
use super::path::Path;
use super::patience;
use crate::apps::AppId;
use crate::apps::proxy::EngineToken;
use crate::apps::proxy::ProxyError;

/// How long a request waits for an app that starts or restarts.
const READY_WAIT: Duration = Duration::from_secs(5);
/// How long the engine may take to hear that a process has gone.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

pub fn router(engine: &AppState) -> Router<AppState> {
  Router::new()
    .route("/apps/{id}", any(add_slash))
    .route("/apps/{id}/", any(forward))
    .route("/apps/{id}/{*path}", any(forward))
    .layer(middleware::from_fn_with_state(
      patience::APPS,
      patience::for_bodies,
    ))
    .layer(middleware::from_fn_with_state(
      engine.clone(),
      access::guard_apps,
    ))
}

/// Relative addresses in an app's pages are meant from below its id.
async fn add_slash(Path(id): Path<String>, request: Request) -> ApiResult<Response<Body>> {
  let id = AppId::new(&id)?;
  let query = request.uri().query().map(|query| format!("?{query}"));
  let location = format!("/apps/{id}/{}", query.unwrap_or_default());
  Ok(
    (
      StatusCode::PERMANENT_REDIRECT,
      [(header::LOCATION, location)],
    )
      .into_response(),
  )
}

async fn forward(State(engine): State<AppState>, request: Request) -> ApiResult<Response<Body>> {
  // As it was sent: decoding and encoding again would change what the app sees.
  let target = request.uri().path_and_query();
  let target = target.map_or("/", |target| target.as_str()).to_owned();
  let rest = target.strip_prefix("/apps/").unwrap_or_default();
  let (id, path) = rest
    .split_once('/')
    .ok_or_else(|| ApiError::not_found("Not found"))?;
  let id = AppId::new(id)?;
  let app = engine.apps.get(&id)?;
  let (prefix, path) = (format!("/apps/{id}"), format!("/{path}"));
  let mut again = without_body(&request);
  let mut request = request;
  let deadline = Instant::now() + READY_WAIT;
  loop {
    let lease = app.upstream(READY_WAIT).await?;
    match engine.proxy.forward(lease, &prefix, &path, request).await {
      Ok(response) => return Ok(response),
      // Its process has just gone, which the engine is about to hear; nothing was sent.
      Err(ProxyError::Unreachable { .. }) if Instant::now() < deadline && again.is_some() => {
        tokio::time::sleep(RETRY_PAUSE).await;
        request = again.take().unwrap_or_default();
        again = without_body(&request);
      }
      Err(error) => return Err(ApiError::new(error.status(), error.to_string())),
    }
  }
}

/// A copy of a request that has no body and asks for no other protocol.
fn without_body(request: &Request) -> Option<Request> {
  if !request.body().is_end_stream() || request.headers().contains_key(header::UPGRADE) {
    return None;
  }
  let mut copy = Request::new(Body::empty());
  *copy.method_mut() = request.method().clone();
  *copy.uri_mut() = request.uri().clone();
  *copy.headers_mut() = request.headers().clone();
  let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
  if let Some(peer) = peer {
    copy.extensions_mut().insert(*peer);
  }
  if request.extensions().get::<EngineToken>().is_some() {
    mark_token(&mut copy);
  }
  Some(copy)
}

/// Marks a request whose token was the engine's.
pub fn mark_token(request: &mut Request) {
  request.extensions_mut().insert(EngineToken);
}
