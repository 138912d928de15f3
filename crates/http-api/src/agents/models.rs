//! `/api/agents/models`: the models that agents may have by name.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use engine::Engine;
use engine::agents::ModelEntry;
use engine::agents::ModelSettingsChange;
use engine::agents::RegistryRules;
use engine::agents::RegistryStats;
use serde::Deserialize;
use utoipa::ToSchema;

use super::AgentDone;
use super::done;
use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::path::Path;

/// Lists the models of the registry that agents may have.
#[utoipa::path(get, path = "/api/agents/models", tag = "agents", responses((status = 200, body = [ModelEntry])))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<Vec<ModelEntry>>> {
  Ok(Json(engine.agents.models(&caller)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ModelBody {
  id: String,
  #[serde(alias = "ModelSettings")]
  model_settings: ModelSettingsChange,
}

/// Adds a model to the registry. For the operator.
#[utoipa::path(post, path = "/api/agents/models", tag = "agents", request_body = ModelBody, responses(
  (status = 200, body = ModelEntry), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub(crate) async fn add(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  JsonBody(body): JsonBody<ModelBody>,
) -> ApiResult<Json<ModelEntry>> {
  let added = engine
    .agents
    .put_model(&caller, &body.id, body.model_settings, false);
  Ok(Json(added.await?))
}

/// Tells about a model of the registry.
#[utoipa::path(get, path = "/api/agents/models/{model}", tag = "agents", params(("model" = String, Path)),
  responses((status = 200, body = ModelEntry), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(model): Path<String>,
) -> ApiResult<Json<ModelEntry>> {
  Ok(Json(engine.agents.model(&caller, &model)?))
}

/// Changes a model of the registry: what is left out stays. For the operator.
#[utoipa::path(put, path = "/api/agents/models/{model}", tag = "agents", params(("model" = String, Path)),
  request_body = ModelSettingsChange, responses(
  (status = 200, body = ModelEntry), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 404, body = ErrorBody)))]
pub(crate) async fn update(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(model): Path<String>,
  JsonBody(body): JsonBody<ModelSettingsChange>,
) -> ApiResult<Json<ModelEntry>> {
  Ok(Json(
    engine.agents.put_model(&caller, &model, body, true).await?,
  ))
}

/// Removes a model from the registry, if no agent uses it. For the operator.
#[utoipa::path(delete, path = "/api/agents/models/{model}", tag = "agents", params(("model" = String, Path)),
  responses((status = 200, body = AgentDone), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub(crate) async fn remove(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(model): Path<String>,
) -> ApiResult<Json<AgentDone>> {
  engine.agents.remove_model(&caller, &model).await?;
  Ok(Json(done(format!("Model {model} removed successfully"))))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RulesBody {
  /// Ids of the models that agents may have; null allows all.
  #[serde(default, deserialize_with = "given")]
  #[schema(value_type = Option<Vec<String>>)]
  allowed_models: Option<Option<Vec<String>>>,
  /// Whether agents may have settings of their own.
  allow_custom_models: Option<bool>,
}

fn given<'de, D: serde::Deserializer<'de>>(
  deserializer: D,
) -> Result<Option<Option<Vec<String>>>, D::Error> {
  Option::deserialize(deserializer).map(Some)
}

/// Says which models agents may have. For the operator.
#[utoipa::path(put, path = "/api/agents/models", tag = "agents", request_body = RulesBody, responses(
  (status = 200, body = RegistryStats), (status = 403, body = ErrorBody)))]
pub(crate) async fn set_rules(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  JsonBody(body): JsonBody<RulesBody>,
) -> ApiResult<Json<RegistryStats>> {
  let rules = RegistryRules {
    allowed_models: body.allowed_models,
    allow_custom_models: body.allow_custom_models,
  };
  Ok(Json(engine.agents.set_rules(&caller, rules).await?))
}
