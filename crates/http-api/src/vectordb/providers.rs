//! The providers that embed texts. All may see and use them; they are the operator's to change, for
//! the server itself connects to them.

use std::sync::Arc;

use ::access::timestamp;
use axum::Json;
use axum::extract::State;
use engine::Engine;
use engine::vectordb::ConfigProvider;
use engine::vectordb::ProviderInfo;
use engine::vectordb::ProviderStats;
use engine::vectordb::ProviderTrial;
use engine::vectordb::embedding::ProviderConfig;
use engine::vectordb::embedding::ProviderKind;
use engine::vectordb::embedding::UsageReport;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::access::Operator;
use crate::access::Visible;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::path::Path;
use crate::vectordb::Done;
use crate::vectordb::done;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Providers {
  providers: Vec<ListedProvider>,
  registry_providers: Vec<RegisteredProvider>,
  config_providers: Vec<ConfigProvider>,
  stats: ProviderStats,
}

#[derive(Serialize, ToSchema)]
pub struct ListedProvider {
  name: String,
  #[serde(rename = "type")]
  kind: ProviderKind,
  /// The name again.
  model: String,
  dimension: usize,
  description: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredProvider {
  name: String,
  #[serde(rename = "type")]
  kind: ProviderKind,
  dimension: usize,
  description: String,
  created: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  last_used: Option<String>,
}

fn describe(provider: &ProviderInfo) -> String {
  format!("{} ({})", provider.name, provider.kind)
}

/// Lists the providers there are.
#[utoipa::path(get, path = "/api/vectordb/providers", tag = "vector database",
  responses((status = 200, body = Providers)))]
pub async fn list(State(engine): State<Arc<Engine>>) -> Json<Providers> {
  let list = engine.vectors.providers();
  let listed = list.providers.iter().map(|provider| ListedProvider {
    name: provider.name.clone(),
    kind: provider.kind,
    model: provider.name.clone(),
    dimension: provider.dimension,
    description: describe(provider),
  });
  let registered = list.providers.iter().map(|provider| RegisteredProvider {
    name: provider.id.clone(),
    kind: provider.kind,
    dimension: provider.dimension,
    description: describe(provider),
    created: timestamp(provider.created),
    last_used: provider.last_used.map(timestamp),
  });
  Json(Providers {
    providers: listed.collect(),
    registry_providers: registered.collect(),
    config_providers: list.config_providers,
    stats: list.stats,
  })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestBody {
  provider: Option<String>,
}

/// Tries whether a provider embeds a text now. For the operator: what it answers may tell of their
/// network.
#[utoipa::path(post, path = "/api/vectordb/providers/test", tag = "vector database", request_body = TestBody,
  responses((status = 200, body = ProviderTrial), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub async fn test(
  State(engine): State<Arc<Engine>>,
  _: Operator,
  JsonBody(body): JsonBody<TestBody>,
) -> ApiResult<Json<ProviderTrial>> {
  let name = body.provider.filter(|name| !name.is_empty());
  let name = name.ok_or_else(|| ApiError::bad_request("Provider name is required"))?;
  Ok(Json(engine.vectors.test_provider(&name).await))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddBody {
  name: Option<String>,
  /// ollama or openai.
  #[serde(rename = "type")]
  kind: Option<String>,
  /// For ollama host, model and dimension; for openai baseURL, model, dimension and apiKey.
  config: Option<Value>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
  #[serde(rename = "type")]
  kind: Option<String>,
  config: Option<Value>,
}

#[derive(Serialize, ToSchema)]
pub struct ProviderSet {
  success: bool,
  message: String,
  provider: SetProvider,
}

/// Without its secrets.
#[derive(Serialize, ToSchema)]
pub struct SetProvider {
  name: String,
  #[serde(rename = "type")]
  kind: ProviderKind,
  dimension: usize,
  model: Option<String>,
  host: Option<String>,
}

fn set(provider: ProviderInfo, what: &str) -> Json<ProviderSet> {
  Json(ProviderSet {
    success: true,
    message: format!("Provider {} {what} successfully", provider.name),
    provider: SetProvider {
      name: provider.name,
      kind: provider.kind,
      dimension: provider.dimension,
      model: provider.model,
      host: provider.host,
    },
  })
}

/// Adds a provider. It is kept when the server restarts; whether it runs is not asked.
#[utoipa::path(post, path = "/api/vectordb/providers", tag = "vector database", request_body = AddBody,
  responses((status = 200, body = ProviderSet), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub async fn add(
  State(engine): State<Arc<Engine>>,
  _: Operator,
  JsonBody(body): JsonBody<AddBody>,
) -> ApiResult<Json<ProviderSet>> {
  let given = |text: Option<String>| text.filter(|text| !text.is_empty());
  let (Some(name), Some(kind), Some(config)) = (given(body.name), given(body.kind), body.config)
  else {
    return Err(ApiError::bad_request("Name, type, and config are required"));
  };
  let config = ProviderConfig::parse(&kind, &config)?;
  let provider = engine.vectors.add_provider(&name, config).await?;
  Ok(set(provider, "added"))
}

/// Changes a provider, also for the indices that use it.
#[utoipa::path(put, path = "/api/vectordb/providers/{name}", tag = "vector database", params(("name" = String, Path)),
  request_body = UpdateBody, responses((status = 200, body = ProviderSet), (status = 400, body = ErrorBody),
  (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn update(
  State(engine): State<Arc<Engine>>,
  _: Operator,
  Path(name): Path<String>,
  JsonBody(body): JsonBody<UpdateBody>,
) -> ApiResult<Json<ProviderSet>> {
  let (Some(kind), Some(config)) = (body.kind.filter(|kind| !kind.is_empty()), body.config) else {
    return Err(ApiError::bad_request("Type and config are required"));
  };
  let config = ProviderConfig::parse(&kind, &config)?;
  let provider = engine.vectors.update_provider(&name, config).await?;
  Ok(set(provider, "updated"))
}

/// Removes a provider that no open index uses.
#[utoipa::path(delete, path = "/api/vectordb/providers/{name}", tag = "vector database", params(("name" = String, Path)),
  responses((status = 200, body = Done), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub async fn remove(
  State(engine): State<Arc<Engine>>,
  _: Operator,
  Path(name): Path<String>,
) -> ApiResult<Json<Done>> {
  engine.vectors.remove_provider(&name).await?;
  Ok(done(format!("Provider {name} removed successfully")))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderDetails {
  id: String,
  name: String,
  #[serde(rename = "type")]
  kind: ProviderKind,
  dimension: usize,
  #[serde(skip_serializing_if = "Option::is_none")]
  model: Option<String>,
  /// Told the operator only.
  #[serde(skip_serializing_if = "Option::is_none")]
  host: Option<String>,
  created: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  last_used: Option<String>,
  /// Open indices that the caller may see.
  instances_using: usize,
  instance_ids: Vec<String>,
  usage: UsageReport,
}

/// Tells about a provider.
#[utoipa::path(get, path = "/api/vectordb/providers/{name}", tag = "vector database", params(("name" = String, Path)),
  responses((status = 200, body = ProviderDetails), (status = 404, body = ErrorBody)))]
pub async fn info(
  State(engine): State<Arc<Engine>>,
  visible: Visible,
  Path(name): Path<String>,
) -> ApiResult<Json<ProviderDetails>> {
  let namespace = visible.namespace(None)?;
  let provider = engine.vectors.provider_info(&name)?;
  let seen = provider
    .instance_ids
    .iter()
    .filter(|id| namespace.is_none() || id.namespace() == namespace.as_deref());
  let seen: Vec<String> = seen.map(ToString::to_string).collect();
  Ok(Json(ProviderDetails {
    instances_using: seen.len(),
    instance_ids: seen,
    id: provider.id,
    name: provider.name,
    kind: provider.kind,
    dimension: provider.dimension,
    model: provider.model,
    host: provider.host.filter(|_| namespace.is_none()),
    created: timestamp(provider.created),
    last_used: provider.last_used.map(timestamp),
    usage: provider.usage,
  }))
}
