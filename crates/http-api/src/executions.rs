//! `/api/kernels/{id}/…`: running code, and questions about it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Response;
use engine::Engine;
use engine::kernels::Execution;
use kernel_protocol::Question;
use kernel_protocol::json::JsonText;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::kernels::KernelDone;
use crate::path::Path;
use crate::stream;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeBody {
  /// The cell.
  code: Option<String>,
}

impl CodeBody {
  pub(crate) fn into_code(self) -> ApiResult<String> {
    self
      .code
      .filter(|c| !c.is_empty())
      .ok_or_else(|| ApiError::bad_request("No code provided"))
  }
}

/// Runs a cell and streams its events as one JSON object a line.
#[utoipa::path(post, path = "/api/kernels/{id}/execute", tag = "executions",
  params(("id" = String, Path)), request_body = CodeBody, responses(
  (status = 200, content_type = "application/x-ndjson", description = "`stream_start`, the events, `stream_complete`"),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn execute(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CodeBody>,
) -> ApiResult<Response<Body>> {
  let execution = engine.kernels.submit(&caller, &id, body.into_code()?)?;
  stream::unless_long(&execution).await;
  Ok(stream::ndjson(execution))
}

/// Runs a cell and streams its events as server-sent events. The header `X-Session-Id` names the
/// session, whose stream can be resumed.
#[utoipa::path(post, path = "/api/kernels/{id}/execute/stream", tag = "executions",
  params(("id" = String, Path)), request_body = CodeBody, responses(
  (status = 200, content_type = "text/event-stream", description = "The events"),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn execute_stream(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CodeBody>,
) -> ApiResult<Response<Body>> {
  let execution = engine.kernels.submit(&caller, &id, body.into_code()?)?;
  stream::unless_long(&execution).await;
  Ok(stream::sse(execution.reader(0)))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Submitted {
  session_id: String,
}

impl Submitted {
  pub(crate) fn of(execution: &Execution) -> Json<Self> {
    Json(Self {
      session_id: execution.id.session(),
    })
  }
}

/// Queues a cell and answers at once.
#[utoipa::path(post, path = "/api/kernels/{id}/execute/submit", tag = "executions",
  params(("id" = String, Path)), request_body = CodeBody, responses(
  (status = 200, body = Submitted),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn submit(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CodeBody>,
) -> ApiResult<Json<Submitted>> {
  let execution = engine.kernels.submit(&caller, &id, body.into_code()?)?;
  Ok(Submitted::of(&execution))
}

/// Waits until an execution has ended, then answers with all its events.
#[utoipa::path(get, path = "/api/kernels/{id}/execute/result/{session}", tag = "executions",
  params(("id" = String, Path), ("session" = String, Path)), responses(
  (status = 200, body = Vec<Object>), (status = 404, body = ErrorBody)))]
pub(crate) async fn result(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path((id, session_id)): Path<(String, String)>,
) -> ApiResult<Response<Body>> {
  let execution = engine.kernels.execution(&caller, &id, &session_id)?;
  execution.ended().await;
  Ok(stream::json_log(&execution))
}

/// Replays an execution's events as server-sent events and follows it to its end. With
/// `Last-Event-ID` it goes on after that event.
#[utoipa::path(get, path = "/api/kernels/{id}/execute/stream/{session}", tag = "executions",
  params(("id" = String, Path), ("session" = String, Path),
         ("Last-Event-ID" = Option<u64>, Header, description = "Position of the last event seen")),
  responses((status = 200, content_type = "text/event-stream", description = "The events"),
            (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn follow(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path((id, session_id)): Path<(String, String)>,
  headers: HeaderMap,
) -> ApiResult<Response<Body>> {
  let execution = engine.kernels.execution(&caller, &id, &session_id)?;
  let start = stream::position_after(&headers)?;
  Ok(stream::sse(execution.reader(start)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CursorBody {
  code: String,
  /// Position in UTF-16 code units; the end of the code when left out.
  #[serde(alias = "cursor")]
  cursor_pos: Option<usize>,
}

impl CursorBody {
  fn into_parts(self) -> (String, usize) {
    let end = || self.code.encode_utf16().count();
    let cursor = self.cursor_pos.unwrap_or_else(end);
    (self.code, cursor)
  }
}

/// What could be written at the cursor, as Jupyter's `complete_reply`.
#[utoipa::path(post, path = "/api/kernels/{id}/complete", tag = "code intelligence",
  params(("id" = String, Path)), request_body = CursorBody, responses(
  (status = 200, body = Object), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 504, body = ErrorBody)))]
pub(crate) async fn complete(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CursorBody>,
) -> ApiResult<Json<JsonText>> {
  let (code, cursor) = body.into_parts();
  let question = Question::Complete { code, cursor };
  Ok(Json(engine.kernels.ask(&caller, &id, question).await?))
}

/// What stands at the cursor, as Jupyter's `inspect_reply`.
#[utoipa::path(post, path = "/api/kernels/{id}/inspect", tag = "code intelligence",
  params(("id" = String, Path)), request_body = CursorBody, responses(
  (status = 200, body = Object), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 504, body = ErrorBody)))]
pub(crate) async fn inspect(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CursorBody>,
) -> ApiResult<Json<JsonText>> {
  let (code, cursor) = body.into_parts();
  let question = Question::Inspect { code, cursor };
  Ok(Json(engine.kernels.ask(&caller, &id, question).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IsCompleteBody {
  code: String,
}

/// Whether the code could be run or goes on, as Jupyter's `is_complete_reply`.
#[utoipa::path(post, path = "/api/kernels/{id}/is-complete", tag = "code intelligence",
  params(("id" = String, Path)), request_body = IsCompleteBody, responses(
  (status = 200, body = Object), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 504, body = ErrorBody)))]
pub(crate) async fn is_complete(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<IsCompleteBody>,
) -> ApiResult<Json<JsonText>> {
  let question = Question::IsComplete { code: body.code };
  Ok(Json(engine.kernels.ask(&caller, &id, question).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputBody {
  /// The answer; null cancels the prompt.
  value: Option<String>,
}

/// Answers an `input_request` event.
#[utoipa::path(post, path = "/api/kernels/{id}/input-reply", tag = "executions",
  params(("id" = String, Path)), request_body = InputBody, responses(
  (status = 200, body = KernelDone), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn input_reply(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<InputBody>,
) -> ApiResult<Json<KernelDone>> {
  engine.kernels.reply_to_input(&caller, &id, body.value)?;
  Ok(KernelDone::new("Input sent"))
}
