//! List, add, change and test providers, and the indices that use them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use access::Caller;
use access::Right;
use serde_json::Value;

use crate::answers::ConfigProvider;
use crate::answers::ListedProvider;
use crate::answers::ProviderInfo;
use crate::answers::ProviderList;
use crate::answers::ProviderStats;
use crate::answers::ProviderSummary;
use crate::answers::ProviderTrial;
use crate::answers::ProviderUsage;
use crate::answers::RegisteredProvider;
use crate::database::VectorDb;
use crate::database::own;
use crate::embedding::LOCAL_MODEL;
use crate::embedding::Label;
use crate::embedding::MOCK_MODEL;
use crate::embedding::Provider;
use crate::embedding::ProviderConfig;
use crate::embedding::ProviderKind;
use crate::embedding::Text;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::record::IndexRecord;
use crate::tasks::blocking;

/// Text for testing a provider.
const TRIAL: &str = "test";

impl VectorDb {
  /// Lists the providers of the registry, and their use by the open indices that `caller` sees.
  ///
  /// # Errors
  /// When the caller may not look.
  pub fn providers(&self, caller: &Caller) -> Result<ProviderList, VectorError> {
    caller.require(Right::Read)?;
    let users = self.users(caller);
    let all = self.registry.list();
    let mut usage: Vec<_> = all
      .iter()
      .map(|provider| usage_of(provider, &users))
      .collect();
    usage.sort_by_key(|one| Reverse((one.instances_using, one.last_used, one.created)));
    let mut by_type = BTreeMap::new();
    for provider in &all {
      *by_type.entry(provider.kind()).or_default() += 1;
    }
    let own = [
      (
        MOCK_MODEL,
        ProviderKind::Builtin,
        "The built-in model: deterministic, without meaning, for tests",
      ),
      (
        LOCAL_MODEL,
        ProviderKind::Local,
        "The local model: static token embeddings, part of the server",
      ),
    ];
    let own = own.map(|(name, kind, description)| ConfigProvider {
      name: name.to_owned(),
      kind,
      description: description.to_owned(),
      available: false,
    });
    let configured = self
      .options
      .providers
      .iter()
      .map(|(name, config)| ConfigProvider {
        name: name.clone(),
        kind: config.kind(),
        description: format!("{} model {}", config.kind().title(), config.model()),
        available: self.registry.get(name).is_some(),
      });
    Ok(ProviderList {
      config_providers: own.into_iter().chain(configured).collect(),
      stats: ProviderStats {
        total_providers: all.len(),
        providers_by_type: by_type,
        providers_in_use: usage.iter().filter(|one| one.instances_using > 0).count(),
        provider_usage: usage,
      },
      providers: all.iter().map(|provider| listed(provider)).collect(),
      registry_providers: all.iter().map(|provider| registered(provider)).collect(),
    })
  }

  /// Describes a provider. Only the operator sees its address; a caller of a namespace sees which of its
  /// own indices use it.
  ///
  /// # Errors
  /// When there is no such provider.
  pub fn provider_info(&self, caller: &Caller, name: &str) -> Result<ProviderInfo, VectorError> {
    caller.require(Right::Read)?;
    let provider = self.registered(name)?;
    let mut instance_ids = self.users(caller).remove(name).unwrap_or_default();
    instance_ids.sort();
    let ProviderSummary { model, host, .. } = summary(&provider);
    Ok(ProviderInfo {
      id: provider.name.clone(),
      name: provider.name.clone(),
      kind: provider.kind(),
      dimension: provider.dimension(),
      model,
      host: host.filter(|_| caller.namespace().is_none()),
      created: provider.created,
      last_used: provider.usage().last_used,
      instances_using: instance_ids.len(),
      instance_ids,
      usage: provider.usage(),
    })
  }

  /// Adds a provider of the type `kind`. Whether it runs is not asked.
  ///
  /// # Errors
  /// When the caller is not the operator, something is missing or invalid, the name is taken or
  /// no name, or the provider cannot be kept.
  pub async fn add_provider(
    &self,
    caller: &Caller,
    name: &str,
    kind: &str,
    config: &Value,
  ) -> Result<ProviderSummary, VectorError> {
    caller.require(Right::Operate)?;
    if name.is_empty() || kind.is_empty() || config.is_null() {
      return Err(VectorError::Invalid(
        "Name, type, and config are required".into(),
      ));
    }
    let config = ProviderConfig::parse(kind, config)?;
    let (registry, known) = (self.registry.clone(), name.to_owned());
    let provider = blocking(move || registry.add(&known, config)).await?;
    self.announce(VectorEventKind::ProviderAdded(name.to_owned()));
    Ok(summary(&provider))
  }

  /// Changes a provider, for the indices that use it too.
  ///
  /// # Errors
  /// When the caller is not the operator, something is missing or invalid, there is no such
  /// provider, another dimension would not fit the open indices that use it, or it cannot be kept.
  pub async fn update_provider(
    &self,
    caller: &Caller,
    name: &str,
    kind: &str,
    config: &Value,
  ) -> Result<ProviderSummary, VectorError> {
    caller.require(Right::Operate)?;
    if kind.is_empty() || config.is_null() {
      return Err(VectorError::Invalid("Type and config are required".into()));
    }
    let config = ProviderConfig::parse(kind, config)?;
    let before = self.registered(name)?;
    let affected = self.users(caller).get(name).map_or(0, Vec::len);
    if affected > 0 && before.dimension() != config.dimension() {
      return Err(VectorError::Conflict(format!(
        "Cannot update provider {name}: dimension change would affect {affected} instance(s)"
      )));
    }
    let (registry, known) = (self.registry.clone(), name.to_owned());
    let provider = blocking(move || registry.update(&known, config)).await?;
    self.announce(VectorEventKind::ProviderUpdated(name.to_owned()));
    Ok(summary(&provider))
  }

  /// Removes a provider that no open index uses.
  ///
  /// # Errors
  /// When the caller is not the operator, there is no such provider, an open index uses it, or that
  /// cannot be kept.
  pub async fn remove_provider(&self, caller: &Caller, name: &str) -> Result<(), VectorError> {
    caller.require(Right::Operate)?;
    self.registered(name)?;
    let users = self.users(caller).get(name).map_or(0, Vec::len);
    if users > 0 {
      return Err(VectorError::Conflict(format!(
        "Cannot remove provider {name}: it is being used by {users} instance(s)"
      )));
    }
    let (registry, known) = (self.registry.clone(), name.to_owned());
    blocking(move || registry.remove(&known)).await?;
    self.announce(VectorEventKind::ProviderRemoved(name.to_owned()));
    Ok(())
  }

  /// Tests whether a provider of the registry embeds a text now. Only for the operator: its answers may
  /// describe their network.
  ///
  /// # Errors
  /// When the caller is not the operator, or the name is empty.
  pub async fn test_provider(
    &self,
    caller: &Caller,
    name: &str,
  ) -> Result<ProviderTrial, VectorError> {
    caller.require(Right::Operate)?;
    if name.is_empty() {
      return Err(VectorError::Invalid("Provider name is required".into()));
    }
    let mut trial = ProviderTrial {
      available: false,
      message: "Provider not found in registry".into(),
      provider: name.to_owned(),
      dimension: None,
      test_embedding_length: None,
    };
    let Some(provider) = self.registry.get(name) else {
      return Ok(trial);
    };
    match provider.try_out(TRIAL).await {
      Ok(length) => {
        trial.available = true;
        trial.message = "Provider is working correctly".into();
        trial.dimension = Some(provider.dimension());
        trial.test_embedding_length = Some(length);
      }
      Err(error) => trial.message = error.to_string(),
    }
    Ok(trial)
  }

  /// Changes the provider that embeds the texts of an open index.
  ///
  /// # Errors
  /// When it is not open, or there is no such provider or one of another dimension.
  pub async fn change_provider(
    &self,
    caller: &Caller,
    id: &str,
    name: &str,
  ) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Manage, VectorError::no_index)?;
    let lease = self
      .open_lease(&id)
      .await
      .map_err(|_| VectorError::no_index(&id))?;
    let provider = self.named(name)?;
    let name = name.to_owned();
    lease
      .describe(move |record, index| {
        check_dimension(index.dimension(), &provider)?;
        record.provider = Some(name);
        Ok(())
      })
      .await
  }

  /// The provider that embeds the texts of an index.
  pub(crate) fn provider_of(&self, record: &IndexRecord) -> Result<Arc<Provider>, VectorError> {
    let name = record
      .provider
      .as_ref()
      .or(self.options.default_provider.as_ref());
    match name {
      Some(name) => self.named(name),
      // One that is kept since before the local model: its vectors are the mock's.
      None if [MOCK_MODEL, LOCAL_MODEL].contains(&self.options.default_model.as_str()) => {
        self.named(MOCK_MODEL)
      }
      None => Err(VectorError::Provider(
        format!(
          "No embedding provider available: index {} names none, and the default model {} is not \
           part of the server; give the index a provider, or documents and queries vectors",
          record.id, self.options.default_model
        )
        .into(),
      )),
    }
  }

  fn named(&self, name: &str) -> Result<Arc<Provider>, VectorError> {
    let provider = self.registry.own(name);
    let provider = provider.or_else(|| self.registry.get(name));
    provider.ok_or_else(|| {
      VectorError::NotFound(format!("Embedding provider {name} not found in registry"))
    })
  }

  fn registered(&self, name: &str) -> Result<Arc<Provider>, VectorError> {
    let provider = self.registry.get(name);
    provider.ok_or_else(|| VectorError::NotFound("Provider not found".into()))
  }

  /// The open indices that `caller` sees, by the provider they name.
  fn users(&self, caller: &Caller) -> HashMap<String, Vec<IndexId>> {
    let mut users: HashMap<String, Vec<IndexId>> = HashMap::new();
    for open_index in self.open_indices() {
      if caller.sees(open_index.id.namespace())
        && let Some(name) = open_index.record().provider
      {
        users.entry(name).or_default().push(open_index.id.clone());
      }
    }
    users
  }
}

impl Provider {
  /// Embeds a text without the cache, and returns the length of its vector.
  async fn try_out(&self, text: &str) -> Result<usize, VectorError> {
    let label = Label::Trial;
    let vectors = self.embed_anew(&[Text { label, text }]).await?;
    Ok(vectors.first().map_or(0, Vec::len))
  }
}

/// # Errors
/// When the provider's vectors cannot be compared with those of the index.
pub(crate) fn check_dimension(
  dimension: Option<usize>,
  provider: &Provider,
) -> Result<(), VectorError> {
  match dimension {
    Some(dimension) if dimension != provider.dimension() => Err(VectorError::Conflict(format!(
      "Cannot change provider: dimension mismatch. The index has the dimension {dimension}, \
         provider {} makes {}",
      provider.name,
      provider.dimension()
    ))),
    _ => Ok(()),
  }
}

fn summary(provider: &Provider) -> ProviderSummary {
  let config = provider.config.as_ref();
  ProviderSummary {
    name: provider.name.clone(),
    kind: provider.kind(),
    dimension: provider.dimension(),
    model: config.map(|config| config.model().to_owned()),
    host: config.and_then(ProviderConfig::shown_host),
  }
}

fn description(provider: &Provider) -> String {
  format!("{} ({})", provider.name, provider.kind())
}

fn listed(provider: &Provider) -> ListedProvider {
  ListedProvider {
    name: provider.name.clone(),
    kind: provider.kind(),
    model: provider.name.clone(),
    dimension: provider.dimension(),
    description: description(provider),
  }
}

fn registered(provider: &Provider) -> RegisteredProvider {
  RegisteredProvider {
    name: provider.name.clone(),
    kind: provider.kind(),
    dimension: provider.dimension(),
    description: description(provider),
    created: provider.created,
    last_used: provider.usage().last_used,
  }
}

fn usage_of(provider: &Provider, users: &HashMap<String, Vec<IndexId>>) -> ProviderUsage {
  ProviderUsage {
    id: provider.name.clone(),
    name: provider.name.clone(),
    kind: provider.kind(),
    dimension: provider.dimension(),
    instances_using: users.get(&provider.name).map_or(0, Vec::len),
    last_used: provider.usage().last_used,
    created: provider.created,
  }
}
