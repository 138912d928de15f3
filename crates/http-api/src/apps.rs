//! `/api/apps`: create, inspect, control and delete apps.

use std::sync::Arc;

use ::access::timestamp;
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use engine::Engine;
use engine::apps::App;
use engine::apps::AppId;
use engine::apps::AppState;
use engine::apps::AppStats;
use engine::apps::LogEntry;
use engine::apps::RefusedApp;
use engine::apps::RestartPolicy;
use engine::apps::Source;
use engine::apps::WrittenManifest;
use engine::kernels::Language;
use engine::kernels::Limits;
use engine::kernels::PermissionRequest;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::executions::CodeBody;
use crate::path::Path;
use crate::query::parameters;
use crate::stream;

/// Most lines of a log in one answer.
const MAX_LINES: usize = 10_000;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppSummary {
  id: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  name: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  description: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  version: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  language: Option<Language>,
  status: AppState,
  /// Why it is in this state, if the state alone does not tell.
  #[serde(skip_serializing_if = "Option::is_none")]
  reason: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  exit_code: Option<i32>,
  /// Whether it listens, so that requests are forwarded to it.
  ready: bool,
  /// Path below which it is reached.
  #[serde(skip_serializing_if = "Option::is_none")]
  url: Option<String>,
  /// folder, file, posted, artifact, session or refused.
  source: &'static str,
  /// Id of the published artifact.
  #[serde(skip_serializing_if = "Option::is_none")]
  artifact: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  created: Option<String>,
  /// When it entered this state.
  #[serde(skip_serializing_if = "Option::is_none")]
  since: Option<String>,
  restarts: u64,
  /// Number of its instance, counted from 1.
  instance: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  pid: Option<u32>,
  /// A port of its own that it listens on.
  #[serde(skip_serializing_if = "Option::is_none")]
  port: Option<u16>,
}

impl AppSummary {
  fn of(app: &App) -> Self {
    let spec = app.spec();
    let status = app.status();
    let manifest = &spec.manifest;
    let (source, artifact) = match &spec.source {
      Source::Folder(_) => ("folder", None),
      Source::File(_) => ("file", None),
      Source::Posted => ("posted", None),
      Source::Artifact { id, .. } => ("artifact", Some(id.clone())),
      Source::Session { .. } => ("session", None),
    };
    Self {
      id: app.id.to_string(),
      name: manifest.name.clone(),
      description: manifest.description.clone(),
      version: manifest.version.clone(),
      language: Some(manifest.lang),
      status: status.state,
      reason: status.reason,
      exit_code: status.exit_code,
      ready: status.ready,
      url: Some(format!("/apps/{}/", app.id)),
      source,
      artifact,
      created: Some(timestamp(app.added)),
      since: Some(timestamp(status.since)),
      restarts: status.restarts,
      instance: status.instance,
      pid: status.pid,
      port: status.port,
    }
  }

  /// Something that was meant to be an app, and was refused.
  fn refused(app: RefusedApp) -> Self {
    Self {
      url: app.id().map(|id| format!("/apps/{id}/")),
      id: app.id_or_path,
      name: None,
      description: None,
      version: None,
      language: None,
      status: AppState::Failed,
      reason: Some(app.reason),
      exit_code: None,
      ready: false,
      source: "refused",
      artifact: None,
      created: None,
      since: None,
      restarts: 0,
      instance: 0,
      pid: None,
      port: None,
    }
  }
}

/// An app and its settings.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppDetails {
  #[serde(flatten)]
  summary: AppSummary,
  restart: RestartPolicy,
  permissions: PermissionRequest,
  limits: Limits,
  /// Names of its environment variables; their values are never returned.
  env: Vec<String>,
}

impl AppDetails {
  fn of(app: &App) -> Self {
    let manifest = &app.spec().manifest;
    Self {
      summary: AppSummary::of(app),
      restart: manifest.restart,
      permissions: manifest.permissions.clone(),
      limits: manifest.limits,
      env: manifest.env.keys().cloned().collect(),
    }
  }
}

/// Lists all apps. Those that were refused are among them, with the reason.
#[utoipa::path(get, path = "/api/apps", tag = "apps", responses((status = 200, body = [AppSummary])))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<Vec<AppSummary>>> {
  let apps = engine.apps.list(&caller)?;
  let summaries = apps.iter().map(|app| AppSummary::of(app));
  let refused = engine.apps.refused(&caller)?.into_iter();
  Ok(Json(
    summaries.chain(refused.map(AppSummary::refused)).collect(),
  ))
}

/// Creates an app from a manifest and starts it. It is still there after a restart of the server.
#[utoipa::path(post, path = "/api/apps", tag = "apps", request_body = WrittenManifest, responses(
  (status = 201, body = AppDetails), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 409, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn create(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  JsonBody(manifest): JsonBody<WrittenManifest>,
) -> ApiResult<(StatusCode, Json<AppDetails>)> {
  let app = engine.apps.create(&caller, manifest).await?;
  Ok((StatusCode::CREATED, Json(AppDetails::of(&app))))
}

/// Returns an app and its settings.
#[utoipa::path(get, path = "/api/apps/{id}", tag = "apps", params(("id" = String, Path)), responses(
  (status = 200, body = AppDetails), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<AppDetails>> {
  let app = engine.apps.get(&caller, &id)?;
  Ok(Json(AppDetails::of(&app)))
}

/// Replaces the manifest of a posted app and reloads it.
#[utoipa::path(put, path = "/api/apps/{id}", tag = "apps", params(("id" = String, Path)),
  request_body = WrittenManifest, responses(
  (status = 200, body = AppDetails), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn update(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(manifest): JsonBody<WrittenManifest>,
) -> ApiResult<Json<AppDetails>> {
  let app = engine.apps.update(&caller, &id, manifest).await?;
  Ok(Json(AppDetails::of(&app)))
}

/// Stops an app and deletes it.
#[utoipa::path(delete, path = "/api/apps/{id}", tag = "apps", params(("id" = String, Path)), responses(
  (status = 200, body = AppDone), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<AppDone>> {
  engine.apps.delete(&caller, &id).await?;
  Ok(Json(AppDone { success: true }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AppDone {
  success: bool,
}

/// Starts an app that does not run.
#[utoipa::path(post, path = "/api/apps/{id}/start", tag = "apps", params(("id" = String, Path)), responses(
  (status = 200, body = AppDetails), (status = 404, body = ErrorBody)))]
pub(crate) async fn start(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<AppDetails>> {
  let app = engine.apps.start(&caller, &id).await?;
  Ok(Json(AppDetails::of(&app)))
}

/// Stops an app: it gets SIGTERM and 5 s. It can be started again.
#[utoipa::path(post, path = "/api/apps/{id}/stop", tag = "apps", params(("id" = String, Path)), responses(
  (status = 200, body = AppDetails), (status = 404, body = ErrorBody)))]
pub(crate) async fn stop(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<AppDetails>> {
  let app = engine.apps.stop(&caller, &id).await?;
  Ok(Json(AppDetails::of(&app)))
}

/// Reads an app again and replaces its instance: script, environment and permissions are as they are now.
/// Where possible, the new instance is ready before the old one is stopped.
#[utoipa::path(post, path = "/api/apps/{id}/reload", tag = "apps", params(("id" = String, Path)), responses(
  (status = 200, body = AppDetails), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody)))]
pub(crate) async fn reload(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<AppDetails>> {
  let app = engine.apps.reload(&caller, &id).await?;
  Ok(Json(AppDetails::of(&app)))
}

/// Returns what an app uses now: processor time and memory.
#[utoipa::path(get, path = "/api/apps/{id}/stats", tag = "apps", params(("id" = String, Path)), responses(
  (status = 200, body = AppStats), (status = 404, body = ErrorBody)))]
pub(crate) async fn stats(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<AppStats>> {
  let app = engine.apps.get(&caller, &id)?;
  Ok(Json(app.stats().await))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
  /// Most lines to return, counted from the end of the log.
  #[param(default = 100, maximum = 10_000)]
  lines: Option<usize>,
  /// Return only entries after this number.
  since: Option<u64>,
}

/// Returns the log of an app: its output, and what happens to it.
#[utoipa::path(get, path = "/api/apps/{id}/logs", tag = "apps", params(("id" = String, Path), LogQuery),
  responses((status = 200, body = [LogEntry]), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn logs(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  query: Result<Query<LogQuery>, QueryRejection>,
) -> ApiResult<Response<Body>> {
  let query = parameters(query)?;
  let log = &engine.apps.get(&caller, &id)?.log;
  let lines = query.lines.unwrap_or(100).min(MAX_LINES);
  let entries = match query.since {
    Some(seq) => log.since(seq),
    None => log.last(lines),
  };
  let skip = entries.len().saturating_sub(lines);
  Ok(Json(&entries[skip..]).into_response())
}

/// Follows the log of an app as server-sent events, from the entry after `Last-Event-ID`, otherwise from
/// the oldest that is kept. `{"missed": n}` stands for entries that a slow reader lost.
#[utoipa::path(get, path = "/api/apps/{id}/logs/stream", tag = "apps",
  params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last entry seen")),
  responses((status = 200, content_type = "text/event-stream", body = LogEntry), (status = 404, body = ErrorBody)))]
pub(crate) async fn follow(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  headers: HeaderMap,
) -> ApiResult<Response<Body>> {
  let last = headers.get("last-event-id").map(|value| {
    let number = value
      .to_str()
      .ok()
      .and_then(|text| text.parse::<u64>().ok());
    number.ok_or_else(|| ApiError::bad_request("Last-Event-ID: must be the number of an entry"))
  });
  let last = last.transpose()?.unwrap_or(0);
  let follower = engine.apps.get(&caller, &id)?.log.follow(last);
  Ok(stream::app_log(follower))
}

/// Executes code in the process of an app, beside its program, and streams the events as one JSON
/// object a line.
#[utoipa::path(post, path = "/api/apps/{id}/execute", tag = "apps", params(("id" = String, Path)),
  request_body = CodeBody, responses(
  (status = 200, content_type = "application/x-ndjson", description = "`stream_start`, the events, `stream_complete`"),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn execute(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CodeBody>,
) -> ApiResult<Response<Body>> {
  let execution = engine.apps.execute(&caller, &id, body.into_code()?)?;
  Ok(stream::ndjson(execution))
}

/// Executes code in the process of an app, beside its program, and streams the events as server-sent
/// events.
#[utoipa::path(post, path = "/api/apps/{id}/execute/stream", tag = "apps", params(("id" = String, Path)),
  request_body = CodeBody, responses(
  (status = 200, content_type = "text/event-stream", description = "The events"),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn execute_stream(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CodeBody>,
) -> ApiResult<Response<Body>> {
  let execution = engine.apps.execute(&caller, &id, body.into_code()?)?;
  Ok(stream::sse(execution.reader(0)))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateReport {
  /// Apps in the collection.
  published: usize,
  added: Vec<String>,
  reloaded: Vec<String>,
  removed: Vec<String>,
}

/// Reads the collection of published apps now, and starts, reloads and deletes apps accordingly.
#[utoipa::path(post, path = "/api/apps/update", tag = "apps", responses(
  (status = 200, body = UpdateReport), (status = 409, body = ErrorBody), (status = 502, body = ErrorBody)))]
pub(crate) async fn update_published(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<UpdateReport>> {
  let changes = engine.apps.update_published(&caller).await?;
  let names = |ids: Vec<AppId>| ids.into_iter().map(String::from).collect();
  Ok(Json(UpdateReport {
    published: changes.published,
    added: names(changes.added),
    reloaded: names(changes.reloaded),
    removed: names(changes.removed),
  }))
}
