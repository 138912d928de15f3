//! `/apps/{id}/…`: requests to apps, passed on as they are.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
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
use crate::apps::AppId;
use crate::apps::proxy::EngineToken;

/// How long a request waits for an app that starts or restarts.
const READY_WAIT: Duration = Duration::from_secs(5);

pub fn router(engine: &AppState) -> Router<AppState> {
  Router::new()
    .route("/apps/{id}", any(add_slash))
    .route("/apps/{id}/", any(forward))
    .route("/apps/{id}/{*path}", any(forward))
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
  let lease = engine.apps.get(&id)?.upstream(READY_WAIT).await?;
  engine
    .proxy
    .forward(lease, &format!("/apps/{id}"), &format!("/{path}"), request)
    .await
    .map_err(|error| ApiError::new(error.status(), error.to_string()))
}

/// Marks a request whose token was the engine's.
pub fn mark_token(request: &mut Request) {
  request.extensions_mut().insert(EngineToken);
}
