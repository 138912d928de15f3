//! The HTTP face: a thin mapping from routes to the managers' methods.

mod access;
mod apps;
mod body;
mod body_memory;
mod connections;
mod error;
mod executions;
mod gateway;
mod kernels;
mod openapi;
mod origin;
mod path;
mod patience;
mod status;
mod stream;
mod vectordb;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::middleware;
use axum::response::Redirect;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use self::body_memory::BodyMemory;
use self::connections::Times;
use self::error::ApiError;
use self::gateway::Door;
use self::origin::Policy;
use crate::engine::Engine;

/// Everything a handler needs.
type AppState = Arc<Engine>;

/// All routes.
pub fn router(engine: Arc<Engine>) -> Router {
  let policy = Policy::of(&engine.settings);
  let (api, document) = openapi::api().split_for_parts();
  let guarded = api
    .layer(middleware::from_fn_with_state(
      patience::API,
      patience::for_bodies,
    ))
    .layer(Extension(BodyMemory::new(engine.settings.max_body_bytes)))
    .layer(middleware::from_fn(origin::typed_bodies))
    .layer(middleware::from_fn_with_state(
      engine.clone(),
      access::guard,
    ));
  let routes = Router::new()
    .merge(guarded)
    .merge(openapi::pages(document))
    .route("/health", get(status::health))
    .route("/", get(|| async { Redirect::temporary("/api/docs/") }))
    .fallback(|| async { ApiError::not_found("Not found") })
    .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
    .layer(policy.cors())
    // Apps answer for themselves, preflight requests included.
    .merge(gateway::router(&engine, Door::Engine));
  screened(routes, policy, engine)
}

/// Apps only, for a port whose pages are of another origin than the engine's.
fn router_of_apps(engine: Arc<Engine>) -> Router {
  let routes = gateway::router(&engine, Door::Apps)
    .fallback(|| async { ApiError::not_found("Not found: apps are below /apps/{id}/") });
  let policy = Policy::of(&engine.settings);
  screened(routes, policy, engine)
}

/// What every request passes first, whatever port it came to.
fn screened(routes: Router<AppState>, policy: Arc<Policy>, engine: AppState) -> Router {
  routes
    .layer(middleware::from_fn_with_state(
      gateway::by_hosts(&engine),
      gateway::own_hosts,
    ))
    .layer(middleware::from_fn_with_state(policy, origin::guard))
    .layer(CatchPanicLayer::custom(error::panicked))
    .with_state(engine)
}

/// Where clients come in.
pub struct Listeners {
  pub engine: TcpListener,
  /// For apps only.
  pub apps: Option<TcpListener>,
}

/// Serves at most `connections` at one time until `stop` resolves, then lets open requests finish for at
/// most `drain`.
pub async fn serve(
  listeners: Listeners,
  engine: Arc<Engine>,
  connections: usize,
  stop: impl Future<Output = ()>,
  drain: Duration,
) {
  let mut doors = vec![(listeners.engine, router(engine.clone()))];
  doors.extend(listeners.apps.map(|apps| (apps, router_of_apps(engine))));
  connections::serve(doors, connections, Times::default(), stop, drain).await;
}
