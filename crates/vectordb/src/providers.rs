//! Providers as faces see them, and which index uses which.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use crate::answers::ConfigProvider;
use crate::answers::ProviderInfo;
use crate::answers::ProviderList;
use crate::answers::ProviderStats;
use crate::answers::ProviderTrial;
use crate::answers::ProviderUsage;
use crate::database::VectorDb;
use crate::embedding::Label;
use crate::embedding::MOCK_MODEL;
use crate::embedding::Provider;
use crate::embedding::ProviderConfig;
use crate::embedding::ProviderKind;
use crate::embedding::Text;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::record::About;
use crate::tasks::blocking;

/// What a provider is tried with.
const TRIAL: &str = "test";

impl VectorDb {
  /// The registry, and how it is used by open indices.
  pub fn providers(&self) -> ProviderList {
    let users = self.users();
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
    let builtin = ConfigProvider {
      name: MOCK_MODEL.to_owned(),
      kind: ProviderKind::Builtin,
      description: "The built-in model: deterministic, without meaning, for tests".into(),
      available: false,
    };
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
    ProviderList {
      config_providers: std::iter::once(builtin).chain(configured).collect(),
      stats: ProviderStats {
        total_providers: all.len(),
        providers_by_type: by_type,
        providers_in_use: usage.iter().filter(|one| one.instances_using > 0).count(),
        provider_usage: usage,
      },
      providers: all
        .iter()
        .map(|provider| describe(provider, &users))
        .collect(),
    }
  }

  /// # Errors
  /// When there is no such provider.
  pub fn provider_info(&self, name: &str) -> Result<ProviderInfo, VectorError> {
    let provider = self.registry.get(name);
    let provider = provider.ok_or_else(|| VectorError::NotFound("Provider not found".into()))?;
    Ok(describe(&provider, &self.users()))
  }

  /// It is not asked whether it runs.
  ///
  /// # Errors
  /// When the name is taken or no name, or the provider cannot be kept.
  pub async fn add_provider(
    &self,
    name: &str,
    config: ProviderConfig,
  ) -> Result<ProviderInfo, VectorError> {
    let (registry, known) = (self.registry.clone(), name.to_owned());
    let provider = blocking(move || registry.add(&known, config)).await?;
    self.announce(VectorEventKind::ProviderAdded(name.to_owned()));
    Ok(describe(&provider, &self.users()))
  }

  /// Changes a provider, for the indices that use it too.
  ///
  /// # Errors
  /// When there is none, another dimension would not fit the open indices that use it, or it cannot
  /// be kept.
  pub async fn update_provider(
    &self,
    name: &str,
    config: ProviderConfig,
  ) -> Result<ProviderInfo, VectorError> {
    let before = self.provider_info(name)?;
    let affected = before.instances_using;
    if affected > 0 && before.dimension != config.dimension() {
      return Err(VectorError::Conflict(format!(
        "Cannot update provider {name}: dimension change would affect {affected} instance(s)"
      )));
    }
    let (registry, known) = (self.registry.clone(), name.to_owned());
    let provider = blocking(move || registry.update(&known, config)).await?;
    self.announce(VectorEventKind::ProviderUpdated(name.to_owned()));
    Ok(describe(&provider, &self.users()))
  }

  /// # Errors
  /// When there is none, an open index uses it, or that cannot be kept.
  pub async fn remove_provider(&self, name: &str) -> Result<(), VectorError> {
    let users = self.provider_info(name)?.instances_using;
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

  /// Whether a provider of the registry embeds a text now.
  pub async fn test_provider(&self, name: &str) -> ProviderTrial {
    let mut trial = ProviderTrial {
      available: false,
      message: "Provider not found in registry".into(),
      provider: name.to_owned(),
      dimension: None,
      test_embedding_length: None,
    };
    let Some(provider) = self.registry.get(name) else {
      return trial;
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
    trial
  }

  /// Has another provider embed the texts of an open index from now on.
  ///
  /// # Errors
  /// When it is not open, or there is no such provider or one of another dimension.
  pub async fn change_provider(&self, id: &IndexId, name: &str) -> Result<(), VectorError> {
    let lease = self
      .open_lease(id)
      .await
      .map_err(|_| VectorError::no_index(id))?;
    let provider = self.named(name)?;
    let name = name.to_owned();
    let change = lease.describe(move |about, index| {
      check_dimension(index.dimension(), &provider)?;
      about.provider = Some(name);
      Ok(())
    });
    change.await
  }

  /// Who embeds the texts of an index.
  pub(crate) fn provider_of(&self, about: &About) -> Result<Arc<Provider>, VectorError> {
    let name = about
      .provider
      .as_ref()
      .or(self.options.default_provider.as_ref());
    match name {
      Some(name) => self.named(name),
      None if self.options.default_model == MOCK_MODEL => Ok(self.registry.builtin()),
      None => Err(VectorError::Provider(
        format!(
          "No embedding provider available: index {} names none, and the default model {} is not \
           part of the server; give the index a provider, or documents and queries vectors",
          about.id, self.options.default_model
        )
        .into(),
      )),
    }
  }

  fn named(&self, name: &str) -> Result<Arc<Provider>, VectorError> {
    if name == MOCK_MODEL {
      return Ok(self.registry.builtin());
    }
    self.registry.get(name).ok_or_else(|| {
      VectorError::NotFound(format!("Embedding provider {name} not found in registry"))
    })
  }

  /// Open indices by the provider they name.
  fn users(&self) -> HashMap<String, Vec<IndexId>> {
    let mut users: HashMap<String, Vec<IndexId>> = HashMap::new();
    for loaded in self.loaded() {
      if let Some(name) = loaded.about().provider {
        users.entry(name).or_default().push(loaded.id.clone());
      }
    }
    users
  }
}

impl Provider {
  /// Embeds a text that the cache must not answer. The length of its vector.
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

fn describe(provider: &Provider, users: &HashMap<String, Vec<IndexId>>) -> ProviderInfo {
  let mut instance_ids = users.get(&provider.name).cloned().unwrap_or_default();
  instance_ids.sort();
  let config = provider.config.as_ref();
  ProviderInfo {
    id: provider.name.clone(),
    name: provider.name.clone(),
    kind: provider.kind(),
    dimension: provider.dimension(),
    model: config.map(|config| config.model().to_owned()),
    host: config.map(ProviderConfig::shown_host),
    created: provider.created,
    last_used: provider.usage().last_used,
    instances_using: instance_ids.len(),
    instance_ids,
    usage: provider.usage(),
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
