//! `/health`, `/api/status`, `/api/events`: how the engine is.

use std::sync::Arc;

use ::access::timestamp;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use engine::Engine;
use engine::kernels::EngineEventKind;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::By;
use crate::error::ApiResult;
use crate::stream;

#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
  status: &'static str,
}

/// Says that the server answers. Needs no token.
pub(crate) async fn health() -> Json<Health> {
  Json(Health { status: "ok" })
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EngineStatus {
  status: &'static str,
  version: &'static str,
  uptime_seconds: u64,
  kernels: KernelCounts,
  pool: PoolCounts,
  allowed_kernel_types: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct KernelCounts {
  total: usize,
  busy: usize,
  dead: usize,
  max: usize,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PoolCounts {
  enabled: bool,
  available: usize,
  total: usize,
}

/// Tells what runs; of a namespace, to those who see no more.
#[utoipa::path(get, path = "/api/status", tag = "engine", responses((status = 200, body = EngineStatus)))]
pub(crate) async fn status(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<EngineStatus>> {
  let stats = engine.kernels.stats(&caller)?;
  let options = &engine.kernels.options;
  Ok(Json(EngineStatus {
    status: "ok",
    version: env!("CARGO_PKG_VERSION"),
    uptime_seconds: engine.started.elapsed().as_secs(),
    kernels: KernelCounts {
      total: stats.total,
      busy: stats.busy,
      dead: stats.dead,
      max: options.max_count,
    },
    pool: PoolCounts {
      enabled: options.pool.enabled,
      available: stats.pool.available,
      total: stats.pool.total,
    },
    allowed_kernel_types: options.allowed.iter().map(ToString::to_string).collect(),
  }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireEngineEvent {
  kernel_id: String,
  timestamp: String,
  #[serde(flatten)]
  event: EngineEventKind,
}

/// Streams what happens to kernels from now on, as server-sent events.
#[utoipa::path(get, path = "/api/events", tag = "engine",
  responses((status = 200, content_type = "text/event-stream", body = WireEngineEvent)))]
pub(crate) async fn events(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Response<Body>> {
  let watch = engine.kernels.watch(&caller)?;
  Ok(stream::sse_events(futures::stream::unfold(
    watch,
    async |mut watch| {
      let event = watch.next().await?;
      let event = WireEngineEvent {
        kernel_id: event.kernel.to_string(),
        timestamp: timestamp(event.time),
        event: event.kind,
      };
      Some((event, watch))
    },
  )))
}
