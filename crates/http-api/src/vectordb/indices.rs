//! Create, open, close and delete indices; export and import them.

use std::io;
use std::sync::Arc;

use ::access::timestamp;
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::Response;
use axum::http::header;
use engine::Engine;
use engine::vector_index::Metric;
use engine::vectordb::CreateIndex;
use engine::vectordb::DatabaseStats;
use engine::vectordb::DimensionRule;
use engine::vectordb::ImportIndex;
use engine::vectordb::InactivityTimeout;
use engine::vectordb::IndexInfo;
use engine::vectordb::OffloadedIndex;
use engine::vectordb::Permission;
use engine::vectordb::VectorEvent;
use futures::TryStreamExt;
use futures::stream;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use tokio_util::io::ReaderStream;
use tokio_util::io::StreamReader;
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
use crate::vectordb::IndicesQuery;
use crate::vectordb::VectorDone;
use crate::vectordb::VectorDoneAt;
use crate::vectordb::done;
use crate::vectordb::done_now;

/// Lists the indices that are open.
#[utoipa::path(get, path = "/api/vectordb/instances", tag = "vector database", params(IndicesQuery),
  responses((status = 200, body = [IndexInfo]), (status = 403, body = ErrorBody)))]
pub(crate) async fn list(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  query: Result<Query<IndicesQuery>, QueryRejection>,
) -> ApiResult<Json<Vec<IndexInfo>>> {
  let asked = parameters(query)?.namespace;
  let list = engine.vectors.list(&caller, asked.as_deref()).await?;
  Ok(Json(list))
}

/// Counts open indices and their documents.
#[utoipa::path(get, path = "/api/vectordb/stats", tag = "vector database",
  responses((status = 200, body = DatabaseStats)))]
pub(crate) async fn stats(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Json<DatabaseStats>> {
  Ok(Json(engine.vectors.stats(&caller).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateIndexBody {
  /// Without one the index gets a random one.
  id: Option<String>,
  #[schema(default = "default")]
  namespace: Option<String>,
  /// Kept and shown; it has no other effect.
  embedding_model: Option<String>,
  /// A provider of the registry, or `local-model` or `mock-model`, which are part of the server; `default` or none
  /// for the server's default.
  embedding_provider: Option<String>,
  #[schema(default = "cosine")]
  metric: Option<Metric>,
  /// A whole number, `strict` (that of the first vector, the default) or `flexible` (others are
  /// padded or cut). Texts that a model of the server embeds are padded or cut in any case.
  #[serde(default)]
  #[schema(value_type = Option<Value>)]
  dimension: Option<DimensionRule>,
  max_documents: Option<u64>,
  /// Milliseconds without use after which it is closed; 0 for never.
  #[schema(value_type = Option<u64>)]
  inactivity_timeout: Option<InactivityTimeout>,
  enable_activity_monitoring: Option<bool>,
  /// Access of other namespaces.
  #[schema(default = "private")]
  permission: Option<Permission>,
  /// Opens the index of this id, which must be there and closed.
  resume: Option<bool>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedIndex {
  id: String,
  namespace: String,
  document_count: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  embedding_dimension: Option<usize>,
  embedding_provider: String,
  metric: Metric,
  permission: Permission,
  created: String,
  activity_monitoring: Monitoring,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Monitoring {
  enabled: bool,
  /// Milliseconds.
  timeout: u64,
}

/// Creates an index, or opens a closed one.
#[utoipa::path(post, path = "/api/vectordb/indices", tag = "vector database", request_body = CreateIndexBody,
  responses((status = 200, body = CreatedIndex), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
  (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn create(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  JsonBody(body): JsonBody<CreateIndexBody>,
) -> ApiResult<Json<CreatedIndex>> {
  let request = CreateIndex {
    id: body.id,
    namespace: body.namespace,
    embedding_model: body.embedding_model,
    embedding_provider_name: body.embedding_provider,
    metric: body.metric,
    dimension: body.dimension.unwrap_or_default(),
    max_documents: body.max_documents,
    inactivity_timeout: body.inactivity_timeout,
    enable_activity_monitoring: body.enable_activity_monitoring,
    permission: body.permission,
    resume: body.resume.unwrap_or_default(),
  };
  let index = engine.vectors.create(&caller, request).await?;
  Ok(Json(CreatedIndex {
    id: index.id.to_string(),
    namespace: index.id.namespace().unwrap_or_default().to_owned(),
    document_count: index.document_count,
    embedding_dimension: index.embedding_dimension,
    embedding_provider: index.embedding_provider,
    metric: index.metric,
    permission: index.permission,
    created: timestamp(index.created),
    activity_monitoring: Monitoring {
      enabled: index.activity_monitoring.enabled,
      timeout: index.activity_monitoring.inactivity_timeout.as_millis(),
    },
  }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexDetails {
  #[serde(flatten)]
  index: IndexInfo,
  /// Size on disk.
  bytes: u64,
  /// Size in memory, without the caches of SQLite itself.
  memory_bytes: u64,
}

/// Describes an open index.
#[utoipa::path(get, path = "/api/vectordb/indices/{id}/info", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = IndexDetails), (status = 404, body = ErrorBody)))]
pub(crate) async fn info(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<IndexDetails>> {
  let index = engine.vectors.info(&caller, &id).await?;
  let size = engine.vectors.index_stats(&caller, &id).await?;
  Ok(Json(IndexDetails {
    index,
    bytes: size.bytes,
    memory_bytes: size.memory_bytes,
  }))
}

/// Deletes an index, open or closed, with its files.
#[utoipa::path(delete, path = "/api/vectordb/indices/{id}", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = VectorDone), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<VectorDone>> {
  engine.vectors.delete(&caller, &id).await?;
  Ok(done(format!("Index {id} deleted successfully")))
}

/// Counts as use of an open index.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/ping", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = VectorDoneAt), (status = 404, body = ErrorBody)))]
pub(crate) async fn ping(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<VectorDoneAt>> {
  engine.vectors.ping(&caller, &id)?;
  Ok(done_now("Vector index activity timer reset"))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeoutBody {
  /// Milliseconds; 0 for never.
  #[schema(value_type = u64)]
  timeout: Option<Value>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct TimeoutSet {
  #[serde(flatten)]
  done: VectorDoneAt,
  timeout: u64,
}

/// Sets how long an open index may be unused before it is closed.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/timeout", tag = "vector database", params(("id" = String, Path)),
  request_body = TimeoutBody, responses((status = 200, body = TimeoutSet), (status = 400, body = ErrorBody),
  (status = 404, body = ErrorBody)))]
pub(crate) async fn set_timeout(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(body): JsonBody<TimeoutBody>,
) -> ApiResult<Json<TimeoutSet>> {
  let timeout: InactivityTimeout = body
    .timeout
    .and_then(|value| serde_json::from_value(value).ok())
    .ok_or_else(|| ApiError::bad_request("Invalid timeout value"))?;
  engine.vectors.set_timeout(&caller, &id, timeout).await?;
  let timeout = timeout.as_millis();
  let Json(done) = done_now(format!("Inactivity timeout set to {timeout}ms"));
  Ok(Json(TimeoutSet { done, timeout }))
}

/// Closes an index. The next use opens it again.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/offload", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = VectorDoneAt), (status = 404, body = ErrorBody)))]
pub(crate) async fn offload(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<VectorDoneAt>> {
  engine.vectors.offload(&caller, &id).await?;
  Ok(done_now("Vector index offloaded successfully"))
}

/// Writes an open index from the log into its own file. Answered writes outlast a crash without this, too.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/save", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = VectorDoneAt), (status = 404, body = ErrorBody)))]
pub(crate) async fn save(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<VectorDoneAt>> {
  engine.vectors.save(&caller, &id).await?;
  Ok(done_now("Vector index saved successfully"))
}

/// Checks the whole file of an open index for damage.
#[utoipa::path(post, path = "/api/vectordb/indices/{id}/verify", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = VectorDoneAt), (status = 404, body = ErrorBody), (status = 500, body = ErrorBody)))]
pub(crate) async fn verify(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<VectorDoneAt>> {
  engine.vectors.verify(&caller, &id).await?;
  Ok(done_now("Vector index is whole"))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderBody {
  /// Name of a provider of the registry, `local-model` or `mock-model`.
  provider: String,
}

/// Changes the provider that embeds the texts of an open index.
#[utoipa::path(put, path = "/api/vectordb/indices/{id}/provider", tag = "vector database", params(("id" = String, Path)),
  request_body = ProviderBody, responses((status = 200, body = VectorDone), (status = 404, body = ErrorBody),
  (status = 409, body = ErrorBody)))]
pub(crate) async fn change_provider(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
  JsonBody(ProviderBody { provider }): JsonBody<ProviderBody>,
) -> ApiResult<Json<VectorDone>> {
  engine
    .vectors
    .change_provider(&caller, &id, &provider)
    .await?;
  Ok(done(format!("Index {id} uses provider {provider} now")))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OffloadedList {
  indices: Vec<OffloadedIndex>,
  count: usize,
}

/// Lists closed and saved indices, last closed first.
#[utoipa::path(get, path = "/api/vectordb/offloaded", tag = "vector database", params(IndicesQuery),
  responses((status = 200, body = OffloadedList), (status = 403, body = ErrorBody)))]
pub(crate) async fn offloaded(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  query: Result<Query<IndicesQuery>, QueryRejection>,
) -> ApiResult<Json<OffloadedList>> {
  let asked = parameters(query)?.namespace;
  let indices = engine.vectors.offloaded(&caller, asked.as_deref()).await?;
  Ok(Json(OffloadedList {
    count: indices.len(),
    indices,
  }))
}

/// Deletes a closed index.
#[utoipa::path(delete, path = "/api/vectordb/offloaded/{id}", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, body = VectorDone), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete_offloaded(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Json<VectorDone>> {
  engine.vectors.delete_offloaded(&caller, &id).await?;
  Ok(done(format!(
    "Offloaded vector index {id} deleted successfully"
  )))
}

/// Exports an index as JSON Lines: a line that describes it, then one document a line with its vector.
#[utoipa::path(get, path = "/api/vectordb/indices/{id}/export", tag = "vector database", params(("id" = String, Path)),
  responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 404, body = ErrorBody)))]
pub(crate) async fn export(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path(id): Path<String>,
) -> ApiResult<Response<Body>> {
  let export = engine.vectors.export(&caller, &id).await?;
  let body = Body::from_stream(ReaderStream::new(export.file));
  let mut response = Response::new(body);
  let headers = response.headers_mut();
  let lines = header::HeaderValue::from_static("application/x-ndjson");
  headers.insert(header::CONTENT_TYPE, lines);
  headers.insert(header::CONTENT_LENGTH, export.bytes.into());
  Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportQuery {
  /// New id; without one the index keeps its own.
  id: Option<String>,
  /// New namespace; without one the index keeps its own.
  namespace: Option<String>,
}

/// Creates a closed index from an export. The first use opens it.
#[utoipa::path(post, path = "/api/vectordb/import", tag = "vector database", params(ImportQuery),
  request_body(content = String, content_type = "application/x-ndjson"), responses(
  (status = 200, body = OffloadedIndex), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
  (status = 413, body = ErrorBody)))]
pub(crate) async fn import(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  query: Result<Query<ImportQuery>, QueryRejection>,
  request: Request,
) -> ApiResult<Json<OffloadedIndex>> {
  let ImportQuery { id, namespace } = parameters(query)?;
  // The body is streamed, not held in memory; the length of each line is bounded.
  let bytes = request.into_body().into_data_stream();
  let lines = StreamReader::new(bytes.map_err(io::Error::other));
  let request = ImportIndex { id, namespace };
  Ok(Json(engine.vectors.import(&caller, lines, request).await?))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireVectorEvent {
  /// `index_created`, `document_added`…
  #[serde(rename = "type")]
  kind: &'static str,
  timestamp: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  instance_id: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  provider_id: Option<String>,
  data: Value,
}

impl From<VectorEvent> for WireVectorEvent {
  fn from(event: VectorEvent) -> Self {
    Self {
      kind: event.kind.name(),
      timestamp: timestamp(event.time),
      instance_id: event.kind.index().map(ToString::to_string),
      provider_id: event.kind.provider().map(str::to_owned),
      data: event.kind.data(),
    }
  }
}

/// Streams events of indices and providers from now on, as server-sent events.
#[utoipa::path(get, path = "/api/vectordb/events", tag = "vector database",
  responses((status = 200, content_type = "text/event-stream", body = WireVectorEvent)))]
pub(crate) async fn events(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
) -> ApiResult<Response<Body>> {
  let watch = engine.vectors.watch(&caller)?;
  let events = stream::unfold(watch, async |mut watch| {
    let event = watch.next().await?;
    Some((WireVectorEvent::from(event), watch))
  });
  Ok(sse_events(events))
}
