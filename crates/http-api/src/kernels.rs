//! `/api/kernels`: their lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::access::timestamp;
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::Response;
use axum::http::StatusCode;
use chrono::Utc;
use engine::Engine;
use engine::kernels::CreateKernel;
use engine::kernels::Filesystem;
use engine::kernels::Interrupted;
use engine::kernels::Kernel;
use engine::kernels::Language;
use engine::kernels::Limits;
use engine::kernels::Mode;
use engine::kernels::PermissionRequest;
use engine::kernels::Status;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::path::Path;
use crate::query::parameters;
use crate::stream;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KernelSummary {
  /// Full id, `namespace:name` when it has a namespace.
  id: String,
  name: String,
  mode: Mode,
  language: Language,
  status: Status,
  created: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  namespace: Option<String>,
}

impl KernelSummary {
  fn of(kernel: &Kernel) -> Self {
    let start: String = kernel.id.as_str().chars().take(8).collect();
    Self {
      id: kernel.id.to_string(),
      name: format!("Kernel-{start}"),
      mode: kernel.kind.mode,
      language: kernel.kind.language,
      status: kernel.status(),
      created: timestamp(kernel.created),
      namespace: kernel.id.namespace().map(str::to_owned),
    }
  }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamespaceQuery {
  /// Only kernels of this namespace.
  namespace: Option<String>,
}

/// Lists kernels. Answers at once, whatever they do.
#[utoipa::path(get, path = "/api/kernels", tag = "kernels", params(NamespaceQuery),
  responses((status = 200, body = [KernelSummary])))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> ApiResult<Json<Vec<KernelSummary>>> {
  let query = parameters(query)?;
  let asked = query.namespace.filter(|n| !n.is_empty());
  let kernels = engine.kernels.list(&caller, asked.as_deref())?;
  Ok(Json(
    kernels
      .iter()
      .map(|kernel| KernelSummary::of(kernel))
      .collect(),
  ))
}

/// A kernel to make. All fields may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct CreateKernelBody {
  /// Name within the namespace; a UUID when left out.
  id: Option<String>,
  namespace: Option<String>,
  /// `worker` or `main_thread`.
  #[schema(default = "worker")]
  mode: Option<String>,
  /// `typescript`, `javascript`, `python` or `cpython`, or their short forms.
  #[schema(default = "python")]
  #[serde(alias = "language")]
  lang: Option<String>,
  /// Interpreter of a `cpython` kernel, one of those that the operator offers.
  #[schema(value_type = Option<String>)]
  python: Option<PathBuf>,
  /// Environment variables; null becomes an empty string.
  #[serde(default)]
  #[schema(value_type = BTreeMap<String, String>)]
  env: BTreeMap<String, Value>,
  filesystem: Option<Filesystem>,
  #[serde(default)]
  permissions: PermissionRequest,
  /// Milliseconds without use after which the kernel is removed; 0 is never.
  inactivity_timeout: Option<u64>,
  /// Milliseconds after which an execution counts as stalled; 0 is never.
  max_execution_time: Option<u64>,
  #[serde(default)]
  limits: Limits,
}

impl CreateKernelBody {
  fn into_request(self, headers: &HeaderMap) -> ApiResult<CreateKernel> {
    let parse = |field: &str, message: String| ApiError::bad_request(format!("{field}: {message}"));
    let mode = self.mode.map_or(Ok(Mode::default()), |m| m.parse::<Mode>());
    let language = self
      .lang
      .map_or(Ok(Language::default()), |l| l.parse::<Language>());
    let mut env = BTreeMap::new();
    for (name, value) in self.env {
      let value = match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => {
          return Err(ApiError::bad_request(format!(
            "env.{name}: must be a string"
          )));
        }
      };
      env.insert(name, value);
    }
    let header = headers
      .get("x-namespace")
      .and_then(|v| v.to_str().ok())
      .map(str::to_owned);
    let asked = self.namespace.or(header).filter(|n| !n.is_empty());
    Ok(CreateKernel {
      id: self.id,
      namespace: asked,
      mode: mode.map_err(|e| parse("mode", e))?,
      language: language.map_err(|e| parse("lang", e))?,
      env,
      environment: None,
      python: self.python,
      filesystem: self.filesystem,
      permissions: self.permissions,
      inactivity_timeout: milliseconds("inactivityTimeout", self.inactivity_timeout)?,
      max_execution_time: milliseconds("maxExecutionTime", self.max_execution_time)?,
      limits: self.limits,
    })
  }
}

/// A duration in milliseconds; 0 means none.
fn milliseconds(field: &str, value: Option<u64>) -> ApiResult<Option<Duration>> {
  /// Ten years, far from where clocks overflow.
  const MOST: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
  match value {
    Some(ms) if ms > MOST => Err(ApiError::bad_request(format!(
      "{field}: must be at most {MOST} milliseconds"
    ))),
    ms => Ok(ms.filter(|ms| *ms > 0).map(Duration::from_millis)),
  }
}

/// Makes a kernel; answers when it is ready for cells.
#[utoipa::path(post, path = "/api/kernels", tag = "kernels", request_body = CreateKernelBody, responses(
  (status = 200, body = KernelSummary),
  (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn create(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  headers: HeaderMap,
  JsonBody(body): JsonBody<CreateKernelBody>,
) -> ApiResult<Json<KernelSummary>> {
  let request = body.into_request(&headers)?;
  let kernel = engine.kernels.create(&caller, request).await?;
  Ok(Json(KernelSummary::of(&kernel)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
  /// Readers of what runs see a `KernelForcedTermination` error instead of a quiet end.
  #[serde(default)]
  force: bool,
}

/// Ends a kernel and what it runs.
#[utoipa::path(delete, path = "/api/kernels/{id}", tag = "kernels",
  params(("id" = String, Path), DeleteQuery),
  responses((status = 200, description = "Empty"), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  query: Result<Query<DeleteQuery>, QueryRejection>,
) -> ApiResult<StatusCode> {
  let query = parameters(query)?;
  engine.kernels.delete(&caller, &id, query.force).await?;
  Ok(StatusCode::OK)
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KernelInfo {
  #[serde(flatten)]
  summary: KernelSummary,
  /// Finished executions that are still remembered, oldest first.
  #[serde(skip_serializing_if = "Vec::is_empty")]
  history: Vec<HistoryEntry>,
  /// What runs and waits.
  executions: Executions,
  /// Why the kernel is dead, if it is.
  #[serde(skip_serializing_if = "Option::is_none")]
  death: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  inactivity_timeout: Option<u64>,
  #[serde(skip_serializing_if = "Option::is_none")]
  max_execution_time: Option<u64>,
  /// When it was used last; now, while it works.
  last_activity_time: String,
  /// Milliseconds until an unused kernel is removed.
  #[serde(skip_serializing_if = "Option::is_none")]
  time_until_shutdown: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryEntry {
  id: String,
  script: String,
  #[schema(value_type = Vec<Object>)]
  outputs: Vec<serde_json::Value>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Executions {
  count: usize,
  /// Whether one runs longer than `maxExecutionTime`.
  is_stuck: bool,
  /// Milliseconds.
  #[serde(skip_serializing_if = "Option::is_none")]
  longest_running_time: Option<u64>,
  execution_ids: Vec<String>,
}

fn as_ms(duration: Duration) -> u64 {
  u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tells all about a kernel.
#[utoipa::path(get, path = "/api/kernels/{id}/info", tag = "kernels", params(("id" = String, Path)),
  responses((status = 200, body = KernelInfo), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Response<Body>> {
  let kernel = engine.kernels.get(&caller, &id)?;
  let unfinished = kernel.unfinished();
  let longest = unfinished.iter().filter_map(|e| e.runtime()).max();
  let info = KernelInfo {
    summary: KernelSummary::of(&kernel),
    // Follows in pieces: it may be large.
    history: Vec::new(),
    executions: Executions {
      count: unfinished.len(),
      is_stuck: longest
        .zip(kernel.max_execution_time)
        .is_some_and(|(ran, most)| ran > most),
      longest_running_time: longest.map(as_ms),
      execution_ids: unfinished.iter().map(|e| e.id.to_string()).collect(),
    },
    death: kernel.death(),
    inactivity_timeout: kernel.inactivity_timeout().map(as_ms),
    max_execution_time: kernel.max_execution_time.map(as_ms),
    last_activity_time: timestamp(Utc::now() - kernel.idle_time()),
    time_until_shutdown: kernel
      .inactivity_timeout()
      .map(|timeout| as_ms(timeout.saturating_sub(kernel.idle_time()))),
  };
  stream::json_with_history(&info, kernel.history())
    .map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// What an action on a kernel answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct KernelDone {
  success: bool,
  message: &'static str,
  timestamp: String,
  /// After an interrupt: the cell could only be stopped by restarting the kernel; its state is lost.
  #[serde(skip_serializing_if = "std::ops::Not::not")]
  restarted: bool,
}

impl KernelDone {
  pub(crate) fn new(message: &'static str) -> Json<Self> {
    Json(Self {
      success: true,
      message,
      timestamp: timestamp(Utc::now()),
      restarted: false,
    })
  }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KernelTimeoutBody {
  /// Milliseconds without use; 0 for never.
  timeout: u64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct KernelTimeoutSet {
  success: bool,
  message: String,
  timeout: u64,
  timestamp: String,
}

/// Sets how long a kernel may be unused before it is deleted, from its last use.
#[utoipa::path(post, path = "/api/kernels/{id}/timeout", tag = "kernels", params(("id" = String, Path)),
  request_body = KernelTimeoutBody, responses((status = 200, body = KernelTimeoutSet), (status = 400, body = ErrorBody),
  (status = 404, body = ErrorBody)))]
pub(crate) async fn set_timeout(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<KernelTimeoutBody>,
) -> ApiResult<Json<KernelTimeoutSet>> {
  let timeout = milliseconds("timeout", Some(body.timeout))?;
  engine
    .kernels
    .set_inactivity_timeout(&caller, &id, timeout)?;
  Ok(Json(KernelTimeoutSet {
    success: true,
    message: format!("Inactivity timeout set to {}ms", body.timeout),
    timeout: body.timeout,
    timestamp: timestamp(Utc::now()),
  }))
}

/// Counts as use: the inactivity timeout starts again.
#[utoipa::path(post, path = "/api/kernels/{id}/ping", tag = "kernels", params(("id" = String, Path)),
  responses((status = 200, body = KernelDone), (status = 404, body = ErrorBody)))]
pub(crate) async fn ping(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<KernelDone>> {
  engine.kernels.touch(&caller, &id)?;
  Ok(KernelDone::new("Kernel activity timer reset"))
}

/// Starts a kernel anew: same id, options and environment; state and history are gone.
#[utoipa::path(post, path = "/api/kernels/{id}/restart", tag = "kernels", params(("id" = String, Path)),
  responses((status = 200, body = KernelDone), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody)))]
pub(crate) async fn restart(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<KernelDone>> {
  engine.kernels.restart(&caller, &id).await?;
  Ok(KernelDone::new("Kernel restarted successfully"))
}

/// Stops the running cell; answers when it has ended. State is kept unless `restarted` is true.
#[utoipa::path(post, path = "/api/kernels/{id}/interrupt", tag = "kernels", params(("id" = String, Path)),
  responses((status = 200, body = KernelDone), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn interrupt(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<KernelDone>> {
  let how = engine.kernels.interrupt(&caller, &id).await?;
  let Json(done) = KernelDone::new("Kernel execution interrupted");
  Ok(Json(KernelDone {
    restarted: how == Interrupted::Restarted,
    ..done
  }))
}
