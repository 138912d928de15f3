//! `/api/kernels/{id}/comms`: messages to widgets and their like, and which are open.

use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::Engine;
use kernel_protocol::Question;
use kernel_protocol::comm::CommKind;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::json::JsonText;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::executions::Submitted;
use crate::path::Path;
use crate::query::parameters;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommBody {
  /// `comm_open`, `comm_msg` or `comm_close`.
  #[serde(rename = "type")]
  #[schema(value_type = String)]
  kind: CommKind,
  /// `comm_id`, `data`, and `target_name` of a comm that opens.
  #[schema(value_type = Object)]
  content: Map<String, Value>,
  #[serde(default)]
  #[schema(value_type = Object)]
  metadata: Map<String, Value>,
  /// Bytes, in base64.
  #[serde(default)]
  buffers: Vec<String>,
}

impl CommBody {
  fn into_message(self) -> ApiResult<CommMessage> {
    for (index, buffer) in self.buffers.iter().enumerate() {
      let wrong = |e| ApiError::bad_request(format!("buffers[{index}]: is not base64: {e}"));
      BASE64_STANDARD.decode(buffer).map_err(wrong)?;
    }
    CommMessage::new(self.kind, &self.content, &self.metadata, &self.buffers)
      .map_err(ApiError::bad_request)
  }
}

/// Sends a comm message, as Jupyter's of the same name, and answers at once. What the code that listens
/// for it prints and sends is the log of a session, as that of a cell.
#[utoipa::path(post, path = "/api/kernels/{id}/comms", tag = "comms",
  params(("id" = String, Path)), request_body = CommBody, responses(
  (status = 200, body = Submitted),
  (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn send(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<CommBody>,
) -> ApiResult<Json<Submitted>> {
  let execution = engine.kernels.comm(&caller, &id, body.into_message()?)?;
  Ok(Submitted::of(&execution))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CommsOf {
  /// Only comms to this target.
  target_name: Option<String>,
}

/// The comms that are open, as Jupyter's `comm_info_reply`.
#[utoipa::path(get, path = "/api/kernels/{id}/comms", tag = "comms",
  params(("id" = String, Path), CommsOf), responses(
  (status = 200, body = Object), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 504, body = ErrorBody)))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  query: Result<Query<CommsOf>, QueryRejection>,
) -> ApiResult<Json<JsonText>> {
  let CommsOf { target_name } = parameters(query)?;
  let question = Question::CommInfo { target_name };
  Ok(Json(engine.kernels.ask(&caller, &id, question).await?))
}
