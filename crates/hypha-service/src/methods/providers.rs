//! Providers that embed texts. All workspaces use the same, so they are the operator's to change: of the callers
//! here, the service's own workspace.

use std::collections::HashMap;

use access::Caller;
use access::timestamp;
use engine::vectordb::ProviderSummary;
use engine::vectordb::VectorError;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use super::done;
use super::vectors;
use super::vectors::NOT_THEIRS;
use super::vectors::without_index;
use crate::method::Asker;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Nothing;
use crate::method::Outcome;
use crate::method::answer;

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "listEmbeddingProviders",
      "Lists the providers that embed texts",
      list,
    ),
    Method::new(
      "getEmbeddingProvider",
      "Describes a provider, and which of the caller's open indices use it",
      info,
    ),
    Method::new(
      "addEmbeddingProvider",
      "Adds a provider; the engine does not connect to it yet",
      add,
    ),
    Method::new(
      "removeEmbeddingProvider",
      "Removes a provider that no open index uses",
      remove,
    ),
    Method::new(
      "updateEmbeddingProvider",
      "Changes a provider, for the indices that use it, too",
      update,
    ),
    Method::new(
      "testEmbeddingProvider",
      "Tests whether a provider embeds a text now",
      test,
    ),
    Method::new(
      "changeIndexEmbeddingProvider",
      "Changes the provider of an open index",
      change_of_index,
    ),
    Method::new(
      "getEmbeddingProviderStats",
      "Counts providers, and the open indices that use them",
      stats,
    ),
  ]
}

/// Whose use of providers is counted: the operator sees that of all workspaces, others see their own.
fn counted(asker: &Asker) -> Caller {
  match asker.is_own {
    true => Caller::operator(),
    false => asker.caller(),
  }
}

/// The operator, if that is who asks.
///
/// # Errors
/// When it is another workspace.
fn operator<P>(call: &Call<P>, what: &str) -> Result<Caller, Failure> {
  call.asker.require_own(&call.service, what)?;
  Ok(Caller::operator())
}

async fn list(call: Call<Nothing>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let list = vectors.providers(&counted(&call.asker))?;
  let shown = list.registry_providers.iter().map(|provider| {
    let mut shown = json!({
      "id": provider.name,
      "name": provider.name,
      "type": provider.kind,
      "dimension": provider.dimension,
      "created": timestamp(provider.created),
    });
    if let Some(time) = provider.last_used {
      shown["lastUsed"] = json!(timestamp(time));
    }
    shown
  });
  answer(json!({
    "providers": shown.collect::<Vec<_>>(),
    "stats": {
      "totalProviders": list.stats.total_providers,
      "providersByType": list.stats.providers_by_type,
      "providersInUse": list.stats.providers_in_use,
    },
  }))
}

/// A provider.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Which {
  /// Its name.
  provider_id: Option<String>,
}

impl Which {
  fn id(&self) -> Result<&str, Failure> {
    id(self.provider_id.as_deref())
  }
}

fn id(given: Option<&str>) -> Result<&str, Failure> {
  let id = given.filter(|id| !id.is_empty());
  id.ok_or_else(|| Failure::new("Provider name is required"))
}

async fn info(call: Call<Which>) -> Outcome {
  let vectors = &call.service.engine.vectors;
  let provider = vectors.provider_info(&call.asker.caller(), call.given.id()?)?;
  let mut shown = json!({
    "id": provider.id,
    "name": provider.name,
    "type": provider.kind,
    "dimension": provider.dimension,
    "created": timestamp(provider.created),
    "instancesUsing": provider.instances_using,
    "instanceIds": provider.instance_ids,
  });
  if let Some(time) = provider.last_used {
    shown["lastUsed"] = json!(timestamp(time));
  }
  answer(shown)
}

/// A provider to add.
#[derive(Deserialize, ToSchema)]
struct Add {
  name: Option<String>,
  /// `ollama`, `openai` or `local`.
  #[serde(rename = "type")]
  kind: Option<String>,
  /// For ollama host, model and dimension; for openai baseURL, model, dimension and apiKey; for local dimension.
  config: Option<Map<String, Value>>,
}

/// Words the refusal of a provider as the original did, which named the one type that it knew.
fn refused(kind: &str, doing: &str) -> impl Fn(VectorError) -> Failure {
  let prefix = match kind {
    "ollama" => format!("Failed to {doing} Ollama provider: "),
    _ => String::new(),
  };
  move |error| match &error {
    VectorError::Invalid(why) | VectorError::Conflict(why) => {
      Failure::new(format!("{prefix}{why}"))
    }
    _ => error.into(),
  }
}

fn filled(text: Option<String>) -> Option<String> {
  text.filter(|text| !text.is_empty())
}

async fn add(call: Call<Add>) -> Outcome {
  let operator = operator(&call, "add embedding providers")?;
  let Add { name, kind, config } = call.given;
  let (Some(name), Some(kind), Some(config)) = (filled(name), filled(kind), config) else {
    return Err(Failure::new("Name, type, and config are required"));
  };
  let vectors = &call.service.engine.vectors;
  let added = vectors
    .add_provider(&operator, &name, &kind, &config.into())
    .await;
  set(&added.map_err(refused(&kind, "create"))?, "added")
}

fn set(provider: &ProviderSummary, what: &str) -> Outcome {
  let mut done = done(format!("Provider {} {what} successfully", provider.name));
  done["provider"] = json!(provider);
  answer(done)
}

/// A provider, and what to change it to.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Update {
  /// Its name.
  provider_id: Option<String>,
  /// As when one is added.
  #[serde(rename = "type")]
  kind: Option<String>,
  /// As when one is added.
  config: Option<Map<String, Value>>,
}

async fn update(call: Call<Update>) -> Outcome {
  let operator = operator(&call, "update embedding providers")?;
  let id = id(call.given.provider_id.as_deref())?;
  let (Some(kind), Some(config)) = (filled(call.given.kind), call.given.config) else {
    return Err(Failure::new("Type and config are required"));
  };
  let vectors = &call.service.engine.vectors;
  let updated = vectors
    .update_provider(&operator, id, &kind, &config.into())
    .await;
  set(&updated.map_err(refused(&kind, "update"))?, "updated")
}

async fn remove(call: Call<Which>) -> Outcome {
  let operator = operator(&call, "remove embedding providers")?;
  let id = call.given.id()?;
  let vectors = &call.service.engine.vectors;
  vectors.remove_provider(&operator, id).await?;
  answer(done(format!("Provider {id} removed successfully")))
}

async fn test(call: Call<Which>) -> Outcome {
  let operator = operator(&call, "test embedding providers")?;
  let id = call.given.id()?;
  let vectors = &call.service.engine.vectors;
  // One that is not there is an error here; a trial would say that it is not available.
  vectors.provider_info(&operator, id)?;
  answer(vectors.test_provider(&operator, id).await?)
}

/// An index, and the provider that it is to use.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChangeOfIndex {
  /// Its id, with or without the workspace.
  index_id: Option<String>,
  /// Name of the provider, or `local-model` or `mock-model`, which are part of the engine.
  provider_id: Option<String>,
}

async fn change_of_index(call: Call<ChangeOfIndex>) -> Outcome {
  let index = vectors::id(call.given.index_id.as_deref())?;
  let provider = id(call.given.provider_id.as_deref())?;
  let (vectors, caller) = (&call.service.engine.vectors, call.asker.caller());
  let changed = vectors.change_provider(&caller, index, provider).await;
  changed.map_err(without_index(&caller, index, NOT_THEIRS))?;
  let index = caller.full_id(index);
  let mut done = done(format!("Index {index} uses provider {provider} now"));
  done["indexId"] = json!(index);
  done["providerId"] = json!(provider);
  answer(done)
}

async fn stats(call: Call<Nothing>) -> Outcome {
  let (vectors, caller) = (&call.service.engine.vectors, call.asker.caller());
  let global = vectors.providers(&counted(&call.asker))?.stats;
  let own = vectors.providers(&caller)?.stats.provider_usage;
  let own: HashMap<_, _> = own
    .into_iter()
    .map(|usage| (usage.id, usage.instances_using))
    .collect();
  let usage = global.provider_usage.iter().map(|usage| {
    let mut shown = json!(usage);
    shown["instancesInWorkspace"] = json!(own.get(&usage.id).copied().unwrap_or_default());
    shown
  });
  let usage: Vec<_> = usage.collect();
  answer(json!({
    "global": global,
    "workspace": {
      "totalInstances": vectors.stats(&caller).await?.total_instances,
      "providerUsage": usage,
    },
  }))
}
