//! The HTTP face: a thin mapping from routes to the managers' methods.

mod access;
mod agents;
mod app_origins;
mod apps;
mod authority;
mod body;
mod body_memory;
mod comms;
mod connections;
mod engine_status;
mod error;
mod executions;
mod file_watch;
mod files;
mod gateway;
mod hypha;
mod kernels;
mod openapi;
mod origin;
mod path;
mod patience;
mod protection;
mod query;
mod stream;
mod vectordb;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::access::Access;
use axum::Extension;
use axum::Router;
use axum::extract::FromRef;
use axum::middleware;
use axum::response::Redirect;
use axum::routing::get;
use engine::Engine;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use self::body_memory::BodyMemory;
use self::connections::Times;
use self::error::ApiError;
use self::gateway::Door;
use self::origin::Policy;

pub use self::app_origins::AppOrigins;
pub use self::authority::Authority;
pub use self::authority::Hosts;
pub use self::authority::Malformed;
pub use self::authority::Origins;
pub use self::openapi::document as openapi;

/// What the operator decides about this face.
#[derive(Debug, Clone)]
pub struct HttpOptions {
  /// Who may call.
  pub access: Access,
  /// Address that is listened on.
  pub bound: IpAddr,
  /// What the server is called, besides its address.
  pub hosts: Hosts,
  /// Whose pages may use it, besides its own.
  pub origins: Origins,
  /// Where pages of apps are.
  pub app_origins: AppOrigins,
  /// Requests to apps need no token.
  pub apps_public: bool,
  /// Largest request body, in bytes.
  pub max_body_bytes: usize,
  /// Largest file that can be sent, in bytes.
  pub max_file_bytes: u64,
}

/// Everything a handler needs.
#[derive(Clone)]
struct Face {
  engine: Arc<Engine>,
  options: Arc<HttpOptions>,
}

impl FromRef<Face> for Arc<Engine> {
  fn from_ref(face: &Face) -> Self {
    face.engine.clone()
  }
}

/// The routes of the API, and the pages that describe them: the same for every server. It takes milliseconds to describe them
/// all, in which a server can start other things.
pub struct Routes {
  api: Router<Face>,
  pages: Router<Face>,
}

impl Default for Routes {
  fn default() -> Self {
    let (api, document) = openapi::api().split_for_parts();
    Self {
      api,
      pages: openapi::pages(document),
    }
  }
}

/// All routes.
fn router(routes: Routes, face: &Face) -> Router {
  let policy = Policy::of(&face.options);
  let guarded = routes
    .api
    .merge(hypha::routes())
    .layer(middleware::from_fn_with_state(
      patience::API,
      patience::for_bodies,
    ))
    .layer(Extension(BodyMemory::new(face.options.max_body_bytes)))
    .layer(middleware::from_fn(origin::typed_bodies))
    .layer(middleware::from_fn_with_state(face.clone(), access::guard));
  let routes = Router::new()
    .merge(guarded)
    .merge(routes.pages)
    .route("/health", get(engine_status::health))
    .route("/", get(|| async { Redirect::temporary("/api/docs/") }))
    .fallback(|| async { ApiError::not_found("Not found") })
    .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
    .layer(policy.cors())
    // Apps answer for themselves, preflight requests included.
    .merge(gateway::router(face, Door::Engine));
  screened(routes, policy, face)
}

/// Apps only, for a port whose pages are of another origin than the engine's.
fn router_of_apps(face: &Face) -> Router {
  let routes = gateway::router(face, Door::Apps)
    .fallback(|| async { ApiError::not_found("Not found: apps are below /apps/{id}/") });
  let policy = Policy::of(&face.options);
  screened(routes, policy, face)
}

/// What every request passes first, whatever port it came to.
fn screened(routes: Router<Face>, policy: Arc<Policy>, face: &Face) -> Router {
  routes
    .layer(middleware::from_fn_with_state(
      gateway::by_hosts(face),
      gateway::own_hosts,
    ))
    .layer(middleware::from_fn_with_state(policy, origin::guard))
    .layer(CatchPanicLayer::custom(error::panicked))
    .with_state(face.clone())
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
  routes: Routes,
  engine: Arc<Engine>,
  options: HttpOptions,
  connections: usize,
  stop: impl Future<Output = ()>,
  drain: Duration,
) {
  let face = Face {
    engine,
    options: Arc::new(options),
  };
  let mut doors = vec![(listeners.engine, router(routes, &face))];
  doors.extend(listeners.apps.map(|apps| (apps, router_of_apps(&face))));
  connections::serve(doors, connections, Times::default(), stop, drain).await;
}
