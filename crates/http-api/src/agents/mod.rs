//! `/api/agents`: agents, their kernels and conversations. Chats are in `runs`, the registry in `models`.

pub(crate) mod models;
pub(crate) mod runs;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::extract::State;
use axum::http::Response;
use axum::http::request::Parts;
use engine::Engine;
use engine::agents::AgentInfo;
use engine::agents::AgentStats;
use engine::agents::AgentSummary;
use engine::agents::CreateAgent;
use engine::agents::UpdateAgent;
use engine::agents::models::ChatMessage;
use engine::kernels::Language;
use futures::stream;
use serde::Deserialize;
use serde::Serialize;
use serde::de::IgnoredAny;
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
use crate::stream::sse_events;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NamespaceOfAgents {
  /// The namespace; the header `X-Namespace` says the same.
  namespace: Option<String>,
}

/// The namespace that a request names.
pub(crate) struct Asked(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
  type Rejection = ApiError;

  async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
    let query = Query::<NamespaceOfAgents>::from_request_parts(parts, state).await;
    let named = parameters(query)?.namespace;
    let header = parts
      .headers
      .get("x-namespace")
      .and_then(|it| it.to_str().ok());
    let asked = named.or_else(|| header.map(str::to_owned));
    Ok(Self(asked.filter(|name| !name.is_empty())))
  }
}

impl Asked {
  /// The full id of what the path calls `id`: lists show ids without their namespace.
  pub(crate) fn id(&self, id: String) -> String {
    match &self.0 {
      Some(namespace) if !id.contains(':') => format!("{namespace}:{id}"),
      _ => id,
    }
  }
}

/// Lists agents.
#[utoipa::path(get, path = "/api/agents", tag = "agents", params(NamespaceOfAgents), responses(
  (status = 200, body = [AgentSummary]), (status = 403, body = ErrorBody)))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
) -> ApiResult<Json<Vec<AgentSummary>>> {
  Ok(Json(engine.agents.list(&caller, asked.0.as_deref())?))
}

/// Makes an agent. A full namespace makes room by ending its oldest agents.
#[utoipa::path(post, path = "/api/agents", tag = "agents", params(NamespaceOfAgents), request_body = CreateAgent, responses(
  (status = 200, body = AgentInfo), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 409, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn create(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  JsonBody(mut body): JsonBody<CreateAgent>,
) -> ApiResult<Json<AgentInfo>> {
  if let Some(namespace) = asked.0 {
    body.namespace = Some(namespace);
  }
  Ok(Json(engine.agents.create(&caller, body).await?))
}

/// Counts agents, their kernels and models.
#[utoipa::path(get, path = "/api/agents/stats", tag = "agents", responses((status = 200, body = AgentStats)))]
pub(crate) async fn stats(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<AgentStats>> {
  Ok(Json(engine.agents.stats(&caller)?))
}

/// Streams what happens to agents and models from now on, as server-sent events.
#[utoipa::path(get, path = "/api/agents/events", tag = "agents",
  responses((status = 200, content_type = "text/event-stream", description = "The events")))]
pub(crate) async fn events(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Response<Body>> {
  let watch = engine.agents.watch(&caller)?;
  let events = stream::unfold(watch, async |mut watch| {
    let event = watch.next().await?;
    Some((event, watch))
  });
  Ok(sse_events(events))
}

/// Tells all about an agent, but for its key and the values of its variables.
#[utoipa::path(get, path = "/api/agents/{id}", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  responses((status = 200, body = AgentInfo), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
) -> ApiResult<Json<AgentInfo>> {
  Ok(Json(engine.agents.get(&caller, &asked.id(id))?))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AgentUpdated {
  success: bool,
  message: &'static str,
  agent: AgentInfo,
}

/// Changes an agent: what is left out stays, null clears.
#[utoipa::path(put, path = "/api/agents/{id}", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  request_body = UpdateAgent, responses(
  (status = 200, body = AgentUpdated), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn update(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<UpdateAgent>,
) -> ApiResult<Json<AgentUpdated>> {
  let agent = engine.agents.update(&caller, &asked.id(id), body).await?;
  Ok(Json(AgentUpdated {
    success: true,
    message: "Agent updated successfully",
    agent,
  }))
}

/// Confirms a change of an agent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentDone {
  success: bool,
  message: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  agent_id: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  kernel_type: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  has_kernel: Option<bool>,
  #[serde(skip_serializing_if = "Option::is_none")]
  kernel_id: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  message_count: Option<usize>,
}

fn done(message: impl Into<String>) -> AgentDone {
  AgentDone {
    success: true,
    message: message.into(),
    agent_id: None,
    kernel_type: None,
    has_kernel: None,
    kernel_id: None,
    message_count: None,
  }
}

/// Ends an agent with its kernel, its runs and its conversation.
#[utoipa::path(delete, path = "/api/agents/{id}", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  responses((status = 200, body = AgentDone), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
) -> ApiResult<Json<AgentDone>> {
  engine.agents.delete(&caller, &asked.id(id.clone())).await?;
  Ok(Json(done(format!("Agent {id} deleted successfully"))))
}

// ------------------------------------------------------------ kernels

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct AttachBody {
  /// `python`, `typescript`, `javascript` or `cpython`, in any case.
  #[serde(default)]
  #[schema(value_type = String)]
  kernel_type: Value,
}

impl AttachBody {
  fn language(&self) -> ApiResult<Language> {
    let text = self.kernel_type.as_str().filter(|text| !text.is_empty());
    let text =
      text.ok_or_else(|| ApiError::bad_request("kernelType is required and must be a string"))?;
    let wrong = |_| ApiError::bad_request(format!("Invalid kernelType: {text}"));
    text.parse().map_err(wrong)
  }
}

/// Gives an agent a kernel, and runs its start-up script in it.
#[utoipa::path(post, path = "/api/agents/{id}/kernel", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  request_body = AttachBody, responses(
  (status = 200, body = AgentDone), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn attach(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<AttachBody>,
) -> ApiResult<Json<AgentDone>> {
  let language = body.language()?;
  let agent = engine
    .agents
    .attach(&caller, &asked.id(id), language, None)
    .await?;
  Ok(Json(AgentDone {
    agent_id: Some(agent.id),
    kernel_type: Some(agent.kernel_type),
    has_kernel: Some(agent.has_kernel),
    kernel_id: agent.kernel_id,
    ..done("Kernel attached successfully")
  }))
}

/// Takes the kernel of an agent away.
#[utoipa::path(delete, path = "/api/agents/{id}/kernel", tag = "agents", params(("id" = String, Path), NamespaceOfAgents),
  responses((status = 200, body = AgentDone), (status = 404, body = ErrorBody)))]
pub(crate) async fn detach(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
) -> ApiResult<Json<AgentDone>> {
  let id = asked.id(id);
  engine.agents.detach(&caller, &id).await?;
  Ok(Json(AgentDone {
    agent_id: Some(caller.full_id(&id)),
    has_kernel: Some(false),
    ..done("Kernel detached successfully")
  }))
}

// ------------------------------------------------------------ conversations

/// What an agent and its users have said. `conversation` and `messages` are the same.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentConversation {
  agent_id: String,
  #[schema(value_type = Vec<Object>)]
  conversation: Vec<ChatMessage>,
  #[schema(value_type = Vec<Object>)]
  messages: Vec<ChatMessage>,
  message_count: usize,
  length: usize,
  /// Older messages that are not kept any more.
  #[serde(skip_serializing_if = "is_zero")]
  dropped: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &usize) -> bool {
  *number == 0
}

/// Returns the conversation of an agent.
#[utoipa::path(get, path = "/api/agents/{id}/conversation", tag = "agents",
  params(("id" = String, Path), NamespaceOfAgents),
  responses((status = 200, body = AgentConversation), (status = 404, body = ErrorBody)))]
pub(crate) async fn conversation(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
) -> ApiResult<Json<AgentConversation>> {
  let info = engine.agents.conversation(&caller, &asked.id(id)).await?;
  let count = info.messages.len();
  Ok(Json(AgentConversation {
    agent_id: info.agent_id,
    conversation: info.messages.clone(),
    messages: info.messages,
    message_count: count,
    length: count,
    dropped: info.dropped,
  }))
}

/// Forgets the conversation of an agent.
#[utoipa::path(delete, path = "/api/agents/{id}/conversation", tag = "agents",
  params(("id" = String, Path), NamespaceOfAgents), responses(
  (status = 200, body = AgentDone), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn clear_conversation(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
) -> ApiResult<Json<AgentDone>> {
  let id = asked.id(id);
  engine
    .agents
    .set_conversation(&caller, &id, Vec::new())
    .await?;
  Ok(Json(done("Conversation cleared successfully")))
}

/// What the original has written into a file of a conversation may be sent as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesBody {
  /// Each with `role` (system, user, assistant or tool) and `content`.
  #[serde(default)]
  #[schema(value_type = Vec<Object>)]
  messages: Value,
  /// Of a file of the original; not used.
  #[serde(default, rename = "agentId")]
  #[schema(value_type = Option<String>)]
  _agent_id: IgnoredAny,
  #[serde(default, rename = "savedAt")]
  #[schema(value_type = Option<String>)]
  _saved_at: IgnoredAny,
  #[serde(default, rename = "metadata")]
  #[schema(value_type = Option<Object>)]
  _metadata: IgnoredAny,
}

/// Messages in the form of the Chat Completions API.
fn messages_of(value: Value, wrong: &str) -> ApiResult<Vec<ChatMessage>> {
  let Value::Array(messages) = value else {
    return Err(ApiError::bad_request(wrong));
  };
  let parsed = messages.into_iter().enumerate().map(|(index, message)| {
    let named = |e| ApiError::bad_request(format!("messages[{index}]: {e}"));
    serde_json::from_value(message).map_err(named)
  });
  parsed.collect()
}

/// Replaces the conversation of an agent.
#[utoipa::path(post, path = "/api/agents/{id}/set-conversation", tag = "agents",
  params(("id" = String, Path), NamespaceOfAgents), request_body = MessagesBody, responses(
  (status = 200, body = AgentDone), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub(crate) async fn set_conversation(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  asked: Asked,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<MessagesBody>,
) -> ApiResult<Json<AgentDone>> {
  let messages = messages_of(body.messages, "Messages must be an array")?;
  let given = messages.len();
  let count = engine
    .agents
    .set_conversation(&caller, &asked.id(id), messages)
    .await?;
  Ok(Json(AgentDone {
    message_count: Some(count),
    ..done(format!("Conversation history set with {given} messages"))
  }))
}
