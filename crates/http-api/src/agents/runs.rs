//! `/api/agents/{id}/chat` and `/api/agents/{id}/runs`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Response;
use bytes::Bytes;
use engine::Engine;
use engine::agents::ChatOptions;
use engine::agents::Run;
use engine::agents::RunReader;
use engine::agents::RunRecord;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Asked;
use super::NamespaceOfAgents;
use super::messages_of;
use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::path::Path;
use crate::stream;

/// Names the run of a streamed chat, so that its reader can come back.
const RUN_HEADER: &str = "x-run-id";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ChatBody {
  #[serde(default)]
  #[schema(value_type = String)]
  message: Value,
  /// Added to the agent's instructions.
  system_prompt: Option<String>,
  temperature: Option<f64>,
  max_steps: Option<u32>,
  /// Whether the run goes on when its reader leaves.
  #[serde(default = "yes")]
  detach: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct StatelessBody {
  /// Each with `role` (system, user, assistant or tool) and `content`.
  #[serde(default)]
  #[schema(value_type = Vec<Object>)]
  messages: Value,
  system_prompt: Option<String>,
  temperature: Option<f64>,
  max_steps: Option<u32>,
  /// Whether the run goes on when its reader leaves.
  #[serde(default = "yes")]
  detach: bool,
}

fn yes() -> bool {
  true
}

/// Lets an agent answer a message as part of its conversation, and streams what it does. The header `X-Run-Id` names
/// the run, which can be followed again.
#[utoipa::path(post, path = "/api/agents/{id}/chat", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  request_body = ChatBody, responses(
  (status = 200, content_type = "text/event-stream", description = "`start`, what the agent does, `complete`"),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn chat(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<ChatBody>,
) -> ApiResult<Response<Body>> {
  let Value::String(message) = body.message else {
    return Err(required());
  };
  if message.is_empty() {
    return Err(required());
  }
  let options = ChatOptions {
    system_prompt: body.system_prompt,
    temperature: body.temperature,
    max_steps: body.max_steps,
  };
  let run = engine
    .agents
    .chat(&caller, &asked.id(id), message, options)
    .await?;
  Ok(events(&run, 0, body.detach))
}

fn required() -> ApiError {
  ApiError::bad_request("Message is required and must be a string")
}

/// Lets an agent answer messages apart from its conversation, and streams what it does.
#[utoipa::path(post, path = "/api/agents/{id}/chat-stateless", tag = "agents",
  params(("id" = String, Path), NamespaceOfAgents), request_body = StatelessBody, responses(
  (status = 200, content_type = "text/event-stream", description = "`start`, what the agent does, `complete`"),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn chat_stateless(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<StatelessBody>,
) -> ApiResult<Response<Body>> {
  let messages = messages_of(
    body.messages,
    "Messages array is required and cannot be empty",
  )?;
  let options = ChatOptions {
    system_prompt: body.system_prompt,
    temperature: body.temperature,
    max_steps: body.max_steps,
  };
  let id = asked.id(id);
  let run = engine
    .agents
    .chat_stateless(&caller, &id, messages, options)
    .await?;
  Ok(events(&run, 0, body.detach))
}

/// Lists the runs of an agent, the newest first.
#[utoipa::path(get, path = "/api/agents/{id}/runs", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  responses((status = 200, body = [RunRecord]), (status = 404, body = ErrorBody)))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
) -> ApiResult<Json<Vec<RunRecord>>> {
  Ok(Json(engine.agents.runs(&caller, &asked.id(id)).await?))
}

/// Tells how a run goes.
#[utoipa::path(get, path = "/api/agents/{id}/runs/{run}", tag = "agents",
  params(("id" = String, Path), ("run" = String, Path), NamespaceOfAgents),
  responses((status = 200, body = RunRecord), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path((id, run)): Path<(String, String)>,
) -> ApiResult<Json<RunRecord>> {
  let run = engine.agents.run(&caller, &asked.id(id), &run).await?;
  Ok(Json(run.record()))
}

/// Replays the events of a run and follows it to its end. With `Last-Event-ID` it goes on after that event.
#[utoipa::path(get, path = "/api/agents/{id}/runs/{run}/stream", tag = "agents",
  params(("id" = String, Path), ("run" = String, Path), NamespaceOfAgents,
         ("Last-Event-ID" = Option<u64>, Header, description = "Position of the last event seen")),
  responses((status = 200, content_type = "text/event-stream", description = "The events"),
            (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn follow(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path((id, run)): Path<(String, String)>,
  headers: HeaderMap,
) -> ApiResult<Response<Body>> {
  let run = engine.agents.run(&caller, &asked.id(id), &run).await?;
  Ok(events(&run, stream::position_after(&headers)?, true))
}

/// Cancels a run: the call of the model or the running cell is ended at once.
#[utoipa::path(post, path = "/api/agents/{id}/runs/{run}/cancel", tag = "agents",
  params(("id" = String, Path), ("run" = String, Path), NamespaceOfAgents), responses(
  (status = 200, body = RunRecord), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn cancel(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path((id, run)): Path<(String, String)>,
) -> ApiResult<Json<RunRecord>> {
  Ok(Json(
    engine.agents.cancel(&caller, &asked.id(id), &run).await?,
  ))
}

/// Goes on with a run that the end of a server interrupted, after its last finished step, and streams it from its
/// beginning.
#[utoipa::path(post, path = "/api/agents/{id}/runs/{run}/resume", tag = "agents",
  params(("id" = String, Path), ("run" = String, Path), NamespaceOfAgents), responses(
  (status = 200, content_type = "text/event-stream", description = "The events"),
  (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn resume(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path((id, run)): Path<(String, String)>,
  headers: HeaderMap,
) -> ApiResult<Response<Body>> {
  let position = stream::position_after(&headers)?;
  let run = engine.agents.resume(&caller, &asked.id(id), &run).await?;
  Ok(events(&run, position, true))
}

/// The events of a run; one that is not detached ends with its reader.
fn events(run: &Arc<Run>, position: usize, detach: bool) -> Response<Body> {
  let reader = run.reader(position);
  let leash = (!detach).then(|| Leash(run.clone()));
  let mut response = stream::numbered(Followed {
    reader,
    _leash: leash,
  });
  if let Ok(id) = HeaderValue::from_str(run.id.as_str()) {
    response.headers_mut().insert(RUN_HEADER, id);
  }
  response
}

/// Cancels a run when its reader has gone.
struct Leash(Arc<Run>);

impl Drop for Leash {
  fn drop(&mut self) {
    self.0.cancel();
  }
}

struct Followed {
  reader: RunReader,
  _leash: Option<Leash>,
}

impl stream::Numbered for Followed {
  async fn next(&mut self) -> Option<(usize, Bytes)> {
    let (position, event) = self.reader.next().await?;
    Some((position, Bytes::copy_from_slice(event.as_bytes())))
  }
}
