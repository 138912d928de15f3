//! Vector indices: their lives, and what is known of them.

use access::Caller;
use access::Classified;
use access::ErrorKind;
use access::timestamp;
use engine::vectordb::ActivityInfo;
use engine::vectordb::CreateIndex;
use engine::vectordb::InactivityTimeout;
use engine::vectordb::IndexId;
use engine::vectordb::IndexInfo;
use engine::vectordb::Permission;
use engine::vectordb::VectorError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use super::base;
use super::done;
use super::short;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Nothing;
use crate::method::Outcome;
use crate::method::answer;

/// What callers of the original read of an index that is not there, or not theirs.
pub(super) const NOT_THEIRS: &str = "Vector index not found or access denied";

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "createVectorIndex",
      "Makes an index in the caller's workspace, or opens a closed one",
      create,
    ),
    Method::new(
      "listVectorIndices",
      "Lists the open indices of the caller's workspace",
      list,
    ),
    Method::new(
      "destroyVectorIndex",
      "Deletes an index, open or closed, with its files",
      destroy,
    ),
    Method::new("getVectorIndexInfo", "Tells all about an open index", info),
    Method::new(
      "getVectorDBStats",
      "Counts the open indices of the caller's workspace, and their documents",
      stats,
    ),
    Method::new(
      "pingVectorIndex",
      "Counts as use: the inactivity time-out starts again",
      ping,
    ),
    Method::new(
      "setVectorIndexTimeout",
      "Sets how long an open index may be unused before it is closed",
      set_timeout,
    ),
    Method::new(
      "manualOffloadVectorIndex",
      "Closes an index; the next use opens it again",
      offload,
    ),
    Method::new(
      "saveVectorIndex",
      "Writes an open index into its own file; it stays open",
      save,
    ),
    Method::new(
      "listOffloadedVectorIndices",
      "Lists the closed and saved indices of the caller's workspace, last closed first",
      offloaded,
    ),
    Method::new(
      "deleteOffloadedVectorIndex",
      "Deletes a closed index",
      delete_offloaded,
    ),
  ]
}

/// An index to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Create {
  /// Name, with or without the workspace; a UUID when left out.
  id: Option<String>,
  /// Kept; it has no other effect.
  embedding_model: Option<String>,
  /// The provider that embeds its texts; the engine's default when left out.
  embedding_provider_name: Option<String>,
  /// Most documents.
  max_documents: Option<u64>,
  /// Milliseconds without use after which it is closed; 0 for never.
  #[schema(value_type = Option<u64>)]
  inactivity_timeout: Option<InactivityTimeout>,
  /// Whether it is closed after a time without use.
  enable_activity_monitoring: Option<bool>,
  /// Opens the index of this id, which must be there and closed.
  resume: Option<bool>,
  /// What other workspaces may do with its documents.
  #[schema(inline, default = "private")]
  permission: Option<Permission>,
}

async fn create(call: Call<Create>) -> Outcome {
  let Create {
    id,
    embedding_model,
    embedding_provider_name,
    max_documents,
    inactivity_timeout,
    enable_activity_monitoring,
    resume,
    permission,
  } = call.given;
  // Listings give full ids, and clients open closed indices by these.
  let own = format!("{}:", call.asker.workspace);
  let id = id.map(|id| id.strip_prefix(&own).unwrap_or(&id).to_owned());
  let request = CreateIndex {
    id,
    embedding_model,
    embedding_provider_name,
    max_documents,
    inactivity_timeout,
    enable_activity_monitoring,
    permission,
    resume: resume.unwrap_or_default(),
    ..CreateIndex::default()
  };
  let vectors = &call.service.engine.vectors;
  let index = vectors.create(&call.asker.caller(), request).await?;
  answer(json!({
    "id": index.id,
    "created": timestamp(index.created),
    "name": name(&index.id),
    "activityMonitoring": {
      "enabled": index.activity_monitoring.enabled,
      "timeout": index.activity_monitoring.inactivity_timeout,
    },
  }))
}

fn name(id: &IndexId) -> String {
  format!("VectorDB-{}", short(base(id.as_str())))
}

async fn list(call: Call<Nothing>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let indices = vectors.list(&call.asker.caller(), None).await?;
  let shown = indices.iter().map(|index| {
    let mut shown = shown(index);
    shown["isFromOffload"] = json!(index.is_from_offload);
    shown["activityMonitoring"]["inactivityTimeout"] =
      json!(index.activity_monitoring.inactivity_timeout);
    shown
  });
  answer(shown.collect::<Vec<_>>())
}

/// What every listing has of an index.
fn shown(index: &IndexInfo) -> Value {
  let mut shown = json!({
    "id": index.id,
    "name": name(&index.id),
    "created": timestamp(index.created),
    "documentCount": index.document_count,
    "activityMonitoring": activity(&index.activity_monitoring),
  });
  if let Some(dimension) = index.embedding_dimension {
    shown["embeddingDimension"] = json!(dimension);
  }
  shown
}

fn activity(activity: &ActivityInfo) -> Value {
  let mut shown = json!({ "lastActivity": timestamp(activity.last_activity) });
  if let Some(time) = activity.time_until_offload {
    shown["timeUntilOffload"] = json!(time);
  }
  shown
}

/// An index.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Which {
  /// Its id, with or without the workspace.
  index_id: Option<String>,
}

impl Which {
  fn id(&self) -> Result<&str, Failure> {
    id(self.index_id.as_deref())
  }
}

/// # Errors
/// When there is none. The original checked ids of indices with what checked those of kernels.
pub(super) fn id(given: Option<&str>) -> Result<&str, Failure> {
  let id = given.filter(|id| !id.is_empty());
  id.ok_or_else(|| Failure::new("Invalid kernel ID: undefined"))
}

/// Words the errors of what is only about an index of the caller's own.
fn not_theirs(error: VectorError) -> Failure {
  match error.kind() {
    ErrorKind::NotFound => Failure::new(NOT_THEIRS),
    _ => error.into(),
  }
}

/// Words the errors of what may miss something else too, such as the provider of the index.
pub(super) fn without_index(
  caller: &Caller,
  id: &str,
  missing: &'static str,
) -> impl Fn(VectorError) -> Failure + use<> {
  let absent = VectorError::no_index(&IndexId::full(caller.full_id(id)));
  move |error| match error == absent {
    true => Failure::new(missing),
    false => error.into(),
  }
}

async fn destroy(call: Call<Which>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let deleted = vectors.delete(&call.asker.caller(), call.given.id()?).await;
  deleted.map_err(not_theirs)?;
  answer(json!({ "success": true }))
}

async fn info(call: Call<Which>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let found = vectors.info(&call.asker.caller(), call.given.id()?).await;
  let index = found.map_err(not_theirs)?;
  let monitoring = index.activity_monitoring;
  answer(json!({
    "id": index.id,
    "name": name(&index.id),
    "created": timestamp(index.created),
    "documentCount": index.document_count,
    "embeddingDimension": index.embedding_dimension.unwrap_or_default(),
    "isFromOffload": index.is_from_offload,
    // Queries are not kept: the original's history grew without bounds.
    "history": [],
    "activityMonitoring": {
      "lastActivity": timestamp(monitoring.last_activity),
      "timeUntilOffload": monitoring.time_until_offload,
      "inactivityTimeout": monitoring.inactivity_timeout,
      "enabled": monitoring.enabled,
    },
  }))
}

async fn stats(call: Call<Nothing>) -> Outcome {
  let (vectors, caller) = (&call.service.engine.vectors, call.asker.caller());
  let overall = vectors.stats(&caller).await?;
  let indices = vectors.list(&caller, None).await?;
  let documents: u64 = indices.iter().map(|index| index.document_count).sum();
  answer(json!({
    "overall": overall,
    "namespace": { "totalIndices": indices.len(), "totalDocuments": documents },
    "indices": indices.iter().map(shown).collect::<Vec<_>>(),
  }))
}

async fn ping(call: Call<Which>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let pinged = vectors.ping(&call.asker.caller(), call.given.id()?);
  pinged.map_err(not_theirs)?;
  answer(done("Vector index activity timer reset"))
}

/// An index, and its time-out.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SetTimeout {
  /// Its id, with or without the workspace.
  index_id: Option<String>,
  /// Milliseconds without use; 0 for never.
  #[schema(value_type = u64)]
  timeout: Option<Value>,
}

async fn set_timeout(call: Call<SetTimeout>) -> Outcome {
  let id = id(call.given.index_id.as_deref())?;
  let timeout = InactivityTimeout::deserialize(call.given.timeout.unwrap_or_default());
  let timeout = timeout.map_err(|_| Failure::new("Invalid timeout value"))?;
  let vectors = &call.service.engine.vectors;
  let set = vectors.set_timeout(&call.asker.caller(), id, timeout).await;
  set.map_err(not_theirs)?;
  let ms = timeout.as_millis();
  let mut done = done(format!("Inactivity timeout set to {ms}ms"));
  done["timeout"] = json!(ms);
  answer(done)
}

async fn offload(call: Call<Which>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let (caller, id) = (call.asker.caller(), call.given.id()?);
  vectors.offload(&caller, id).await.map_err(not_theirs)?;
  answer(done("Vector index offloaded successfully"))
}

async fn save(call: Call<Which>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let saved = vectors.save(&call.asker.caller(), call.given.id()?).await;
  saved.map_err(not_theirs)?;
  answer(done("Vector index saved successfully"))
}

async fn offloaded(call: Call<Nothing>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let indices = vectors.offloaded(&call.asker.caller(), None).await?;
  let shown = indices.iter().map(|index| {
    let mut shown = json!({
      "id": index.id,
      "name": name(&index.id),
      "created": timestamp(index.created),
      "offloadedAt": timestamp(index.offloaded_at),
      "documentCount": index.document_count,
    });
    if let Some(dimension) = index.embedding_dimension {
      shown["embeddingDimension"] = json!(dimension);
    }
    shown
  });
  answer(shown.collect::<Vec<_>>())
}

async fn delete_offloaded(call: Call<Which>) -> Outcome {
  let (vectors, id) = (&call.service.engine.vectors, call.given.id()?);
  vectors.delete_offloaded(&call.asker.caller(), id).await?;
  answer(done(format!(
    "Offloaded vector index {id} deleted successfully"
  )))
}
