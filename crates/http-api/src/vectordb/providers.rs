//! List, add, change and test the providers that embed texts. Every caller sees and uses them. Only the
//! operator changes them: the server itself connects to them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use engine::Engine;
use engine::vectordb::ProviderInfo;
use engine::vectordb::ProviderList;
use engine::vectordb::ProviderSummary;
use engine::vectordb::ProviderTrial;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::path::Path;
use crate::vectordb::VectorDone;
use crate::vectordb::done;

/// Lists embedding providers.
#[utoipa::path(get, path = "/api/vectordb/providers", tag = "vector database",
  responses((status = 200, body = ProviderList)))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<ProviderList>> {
  Ok(Json(engine.vectors.providers(&caller)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestProviderBody {
  provider: Option<String>,
}

/// Tests whether a provider embeds a text now. Only for the operator: its answers may describe their
/// network.
#[utoipa::path(post, path = "/api/vectordb/providers/test", tag = "vector database", request_body = TestProviderBody,
  responses((status = 200, body = ProviderTrial), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub(crate) async fn test(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  JsonBody(body): JsonBody<TestProviderBody>,
) -> ApiResult<Json<ProviderTrial>> {
  let name = body.provider.unwrap_or_default();
  Ok(Json(engine.vectors.test_provider(&caller, &name).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddProviderBody {
  name: Option<String>,
  /// local, ollama or openai.
  #[serde(rename = "type")]
  kind: Option<String>,
  /// For local dimension (64, 128 or 256); for ollama host, model and dimension; for openai baseURL, model, dimension and apiKey.
  config: Option<Value>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateProviderBody {
  #[serde(rename = "type")]
  kind: Option<String>,
  config: Option<Value>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderSet {
  success: bool,
  message: String,
  provider: ProviderSummary,
}

fn set(provider: ProviderSummary, what: &str) -> Json<ProviderSet> {
  Json(ProviderSet {
    success: true,
    message: format!("Provider {} {what} successfully", provider.name),
    provider,
  })
}

/// Adds a provider, which outlasts a restart of the server. The server does not connect to it yet.
#[utoipa::path(post, path = "/api/vectordb/providers", tag = "vector database", request_body = AddProviderBody,
  responses((status = 200, body = ProviderSet), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub(crate) async fn add(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  JsonBody(body): JsonBody<AddProviderBody>,
) -> ApiResult<Json<ProviderSet>> {
  let provider = engine
    .vectors
    .add_provider(
      &caller,
      &body.name.unwrap_or_default(),
      &body.kind.unwrap_or_default(),
      &body.config.unwrap_or_default(),
    )
    .await?;
  Ok(set(provider, "added"))
}

/// Changes a provider, for the indices that use it, too.
#[utoipa::path(put, path = "/api/vectordb/providers/{name}", tag = "vector database", params(("name" = String, Path)),
  request_body = UpdateProviderBody, responses((status = 200, body = ProviderSet), (status = 400, body = ErrorBody),
  (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn update(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(name): Path<String>,
  JsonBody(body): JsonBody<UpdateProviderBody>,
) -> ApiResult<Json<ProviderSet>> {
  let (kind, config) = (
    body.kind.unwrap_or_default(),
    body.config.unwrap_or_default(),
  );
  let provider = engine
    .vectors
    .update_provider(&caller, &name, &kind, &config)
    .await?;
  Ok(set(provider, "updated"))
}

/// Removes a provider that no open index uses.
#[utoipa::path(delete, path = "/api/vectordb/providers/{name}", tag = "vector database", params(("name" = String, Path)),
  responses((status = 200, body = VectorDone), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub(crate) async fn remove(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(name): Path<String>,
) -> ApiResult<Json<VectorDone>> {
  engine.vectors.remove_provider(&caller, &name).await?;
  Ok(done(format!("Provider {name} removed successfully")))
}

/// Describes a provider. Only the operator sees its address.
#[utoipa::path(get, path = "/api/vectordb/providers/{name}", tag = "vector database", params(("name" = String, Path)),
  responses((status = 200, body = ProviderInfo), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(name): Path<String>,
) -> ApiResult<Json<ProviderInfo>> {
  Ok(Json(engine.vectors.provider_info(&caller, &name)?))
}
