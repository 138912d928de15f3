//! The models that the operator offers by name, and which of them agents may have.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use access::Caller;
use access::Right;
use chrono::Utc;

use crate::answers::ModelEntry;
use crate::answers::RegistryStats;
use crate::answers::ShownModel;
use crate::config::AgentConfig;
use crate::config::ModelSettings;
use crate::config::ModelSettingsChange;
use crate::config::ModelSource;
use crate::error::AgentError;
use crate::events::AgentEventKind;
use crate::manager::AgentManager;
use crate::options::AgentOptions;
use crate::store::StoredModel;

const ALLOWED: &str = "allowed models";
const CUSTOM: &str = "allow custom models";

pub(crate) struct Registry {
  state: Mutex<State>,
}

struct State {
  models: BTreeMap<String, StoredModel>,
  allowed: Option<Vec<String>>,
  custom: bool,
}

impl Registry {
  /// What is stored, over what the server was started with.
  pub(crate) fn new(
    options: &AgentOptions,
    stored: Vec<StoredModel>,
    settings: &BTreeMap<String, String>,
  ) -> Result<Self, AgentError> {
    let offered = options.models.iter().map(|(id, settings)| StoredModel {
      id: id.clone(),
      settings: settings.clone(),
      created: Utc::now(),
      last_used: None,
    });
    let models = offered.chain(stored).map(|model| (model.id.clone(), model));
    let models = models.collect();
    let allowed = match settings.get(ALLOWED) {
      Some(text) => serde_json::from_str(text)?,
      None => options.allowed_models.clone(),
    };
    let custom = match settings.get(CUSTOM) {
      Some(text) => serde_json::from_str(text)?,
      None => options.allow_custom_models,
    };
    Ok(Self {
      state: Mutex::new(State {
        models,
        allowed,
        custom,
      }),
    })
  }

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }

  pub(crate) fn allows_custom(&self) -> bool {
    self.lock().custom
  }

  /// The settings of a model that agents may have.
  pub(crate) fn usable(&self, id: &str) -> Result<ModelSettings, AgentError> {
    let state = self.lock();
    let allowed = state
      .allowed
      .as_ref()
      .is_none_or(|allowed| allowed.iter().any(|it| it == id));
    let model = state
      .models
      .get(id)
      .ok_or_else(|| AgentError::ModelNotFound(id.to_owned()))?;
    if !allowed {
      return Err(AgentError::Invalid(format!(
        "Model {id} is not in the allowed models list"
      )));
    }
    Ok(model.settings.clone())
  }

  /// Notes that a model is asked, if there is such a one.
  pub(crate) fn note_use(&self, id: &str) {
    if let Some(model) = self.lock().models.get_mut(id) {
      model.last_used = Some(Utc::now());
    }
  }

  pub(crate) fn stats(&self, configs: &[AgentConfig]) -> RegistryStats {
    let state = self.lock();
    RegistryStats {
      total_models: state.models.len(),
      models_in_use: state
        .models
        .values()
        .filter(|model| users(model, configs) > 0)
        .count(),
      allow_custom_models: state.custom,
      allowed_models: state.allowed.clone(),
    }
  }
}

/// Agents whose model is this one, or has the same name at the same address.
fn users(model: &StoredModel, configs: &[AgentConfig]) -> usize {
  let uses = |config: &&AgentConfig| match &config.model {
    ModelSource::Registry(id) => *id == model.id,
    ModelSource::Own { settings, .. } => {
      settings.model == model.settings.model && settings.base_url == model.settings.base_url
    }
    ModelSource::Default => false,
  };
  configs.iter().filter(uses).count()
}

/// What may be changed about all models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryRules {
  /// `Some(None)` allows all.
  pub allowed_models: Option<Option<Vec<String>>>,
  pub allow_custom_models: Option<bool>,
}

impl AgentManager {
  /// The models of the registry that agents may have; all of them for the operator.
  ///
  /// # Errors
  /// When the caller may not look.
  pub fn models(&self, caller: &Caller) -> Result<Vec<ModelEntry>, AgentError> {
    caller.require(Right::Read)?;
    let is_operator = caller.require(Right::Operate).is_ok();
    let configs: Vec<AgentConfig> = self.visible(caller).iter().map(|it| it.config()).collect();
    let state = self.registry.lock();
    let shown = state.models.values().filter(|model| {
      let allowed = state.allowed.as_ref();
      is_operator || allowed.is_none_or(|allowed| allowed.contains(&model.id))
    });
    Ok(
      shown
        .map(|model| entry(model, is_operator, &configs))
        .collect(),
    )
  }

  /// # Errors
  /// When there is no such model, or the caller may not look.
  pub fn model(&self, caller: &Caller, id: &str) -> Result<ModelEntry, AgentError> {
    let mut models = self.models(caller)?;
    let at = models.iter().position(|model| model.id == id);
    at.map(|at| models.swap_remove(at))
      .ok_or_else(|| AgentError::ModelNotFound(id.to_owned()))
  }

  /// Adds a model, or with `replace` changes one.
  ///
  /// # Errors
  /// When the caller is not the operator, the settings are wrong, or the model is there, or is not.
  pub async fn put_model(
    &self,
    caller: &Caller,
    id: &str,
    settings: ModelSettingsChange,
    replace: bool,
  ) -> Result<ModelEntry, AgentError> {
    caller.require(Right::Operate)?;
    if id.is_empty() || id.len() > 128 {
      return Err(AgentError::Invalid("id: must have 1 to 128 bytes".into()));
    }
    let present = self.registry.lock().models.get(id).cloned();
    match (&present, replace) {
      (Some(_), false) => return Err(AgentError::Conflict(format!("Model {id} already exists"))),
      (None, true) => return Err(AgentError::ModelNotFound(id.to_owned())),
      _ => {}
    }
    let settings = settings.over(present.as_ref().map(|model| &model.settings))?;
    models::Endpoint::new(
      &settings.base_url,
      settings.api_key.clone(),
      models::Trust::Operator,
    )?;
    let model = StoredModel {
      id: id.to_owned(),
      settings,
      created: present
        .as_ref()
        .map_or_else(Utc::now, |model| model.created),
      last_used: present.and_then(|model| model.last_used),
    };
    self.store.put_model(&model).await?;
    self.registry.lock().models.insert(model.id.clone(), model);
    let model_id = id.to_owned();
    let changed = match replace {
      true => AgentEventKind::ModelUpdated { model_id },
      false => AgentEventKind::ModelAdded { model_id },
    };
    self.events.tell(None, changed);
    self.model(caller, id)
  }

  /// # Errors
  /// When the caller is not the operator, there is no such model, or agents use it.
  pub async fn remove_model(&self, caller: &Caller, id: &str) -> Result<(), AgentError> {
    caller.require(Right::Operate)?;
    let using = self.model(caller, id)?.agents_using;
    if using > 0 {
      return Err(AgentError::Conflict(format!(
        "Cannot remove model {id}: it is being used by {using} agent(s)"
      )));
    }
    self.store.delete_model(id).await?;
    self.registry.lock().models.remove(id);
    let model_id = id.to_owned();
    self
      .events
      .tell(None, AgentEventKind::ModelRemoved { model_id });
    Ok(())
  }

  /// # Errors
  /// When the caller is not the operator.
  pub async fn set_rules(
    &self,
    caller: &Caller,
    rules: RegistryRules,
  ) -> Result<RegistryStats, AgentError> {
    caller.require(Right::Operate)?;
    if let Some(allowed) = rules.allowed_models {
      self
        .store
        .set_setting(ALLOWED, serde_json::to_string(&allowed)?)
        .await?;
      self.registry.lock().allowed = allowed;
    }
    if let Some(custom) = rules.allow_custom_models {
      self.store.set_setting(CUSTOM, custom.to_string()).await?;
      self.registry.lock().custom = custom;
    }
    let configs: Vec<AgentConfig> = self.visible(caller).iter().map(|it| it.config()).collect();
    Ok(self.registry.stats(&configs))
  }
}

fn entry(model: &StoredModel, with_address: bool, configs: &[AgentConfig]) -> ModelEntry {
  ModelEntry {
    id: model.id.clone(),
    model_settings: ShownModel::of(&model.settings, with_address),
    created: model.created,
    last_used: model.last_used,
    agents_using: users(model, configs),
  }
}
