//! The HTTP face: a thin mapping from routes to the managers' methods.

mod access;
mod apps;
mod body;
mod error;
mod executions;
mod gateway;
mod kernels;
mod openapi;
mod path;
mod status;
mod stream;
mod vectordb;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Method;
use axum::http::header;
use axum::middleware;
use axum::response::Redirect;
use axum::routing::get;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::Any;
use tower_http::cors::CorsLayer;

use self::error::ApiError;
use crate::engine::Engine;

/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything a handler needs.
type AppState = Arc<Engine>;

/// All routes.
pub fn router(engine: Arc<Engine>) -> Router {
  let (api, document) = openapi::api().split_for_parts();
  let cors = CorsLayer::new()
    .allow_origin(Any)
    .allow_methods([
      Method::GET,
      Method::POST,
      Method::PUT,
      Method::DELETE,
      Method::OPTIONS,
    ])
    .allow_headers([
      header::CONTENT_TYPE,
      header::AUTHORIZATION,
      header::HeaderName::from_static("x-namespace"),
      header::HeaderName::from_static("last-event-id"),
    ])
    .expose_headers([header::HeaderName::from_static(stream::SESSION_HEADER)]);
  let guarded = api.layer(middleware::from_fn_with_state(
    engine.clone(),
    access::guard,
  ));
  Router::new()
    .merge(guarded)
    .merge(openapi::pages(document))
    .route("/health", get(status::health))
    .route("/", get(|| async { Redirect::temporary("/api/docs/") }))
    .fallback(|| async { ApiError::not_found("Not found") })
    .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
    .layer(cors)
    // Apps answer for themselves, preflight requests included.
    .merge(gateway::router(&engine))
    .layer(CatchPanicLayer::custom(error::panicked))
    .with_state(engine)
}

/// Serves until `stop` resolves, then lets open requests finish for at most `drain`.
pub async fn serve(
  listener: TcpListener,
  engine: Arc<Engine>,
  stop: impl Future<Output = ()>,
  drain: Duration,
) {
  let app = router(engine);
  let graceful = GracefulShutdown::new();
  let mut server = auto::Builder::new(TokioExecutor::new());
  server
    .http1()
    .timer(TokioTimer::new())
    .header_read_timeout(HEADER_TIMEOUT);
  tokio::pin!(stop);
  loop {
    let (stream, peer) = tokio::select! {
      accepted = listener.accept() => match accepted {
        Ok((stream, peer)) => (stream, peer),
        Err(error) => {
          // Out of descriptors, most likely: others must close first.
          tracing::warn!("a connection could not be accepted: {error}");
          tokio::time::sleep(Duration::from_millis(50)).await;
          continue;
        }
      },
      () = &mut stop => break,
    };
    // Events are small, and each must leave at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(app.clone().layer(Extension(ConnectInfo(peer))));
    let connection = graceful.watch(
      server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned(),
    );
    tokio::spawn(async move {
      if let Err(error) = connection.await {
        tracing::trace!("connection: {error}");
      }
    });
  }
  drop(listener);
  let _ = tokio::time::timeout(drain, graceful.shutdown()).await;
}
