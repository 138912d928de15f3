//! What the operator decides about agents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use access::Secret;
use models::ClientOptions;
use models::Limits;

use crate::config::ModelSettings;

/// Agents that stay when a full namespace makes room for a new one.
pub(crate) const KEPT_IN_NAMESPACE: usize = 5;

#[derive(Debug, Clone)]
pub struct AgentOptions {
  /// Where agents are kept.
  pub folder: PathBuf,
  pub max_agents: usize,
  pub max_per_namespace: usize,
  /// Most steps of any run.
  pub max_steps_cap: u32,
  /// Whether conversations are also written to files, as the original did. They are always kept in the store.
  pub auto_save_conversations: bool,
  /// What an agent asks that names no model.
  pub default_model: ModelSettings,
  /// Models of the registry that are there from the start.
  pub models: BTreeMap<String, ModelSettings>,
  /// Ids of the registry that agents may have; `None` means all.
  pub allowed_models: Option<Vec<String>>,
  /// Whether agents may have settings of their own.
  pub allow_custom_models: bool,
  /// Runs of one namespace at the same time; others wait.
  pub max_runs_per_namespace: usize,
  pub limits: Limits,
  pub client: ClientOptions,
}

impl AgentOptions {
  pub fn new(folder: impl Into<PathBuf>) -> Self {
    Self {
      folder: folder.into(),
      max_agents: 1000,
      max_per_namespace: 10,
      max_steps_cap: 10,
      auto_save_conversations: true,
      default_model: ModelSettings {
        base_url: "http://localhost:11434/v1/".into(),
        api_key: Some(Secret::new("ollama")),
        model: "qwen2.5-coder:7b".into(),
        temperature: Some(0.7),
        max_tokens: None,
        context_tokens: None,
        vision: None,
      },
      models: BTreeMap::new(),
      allowed_models: None,
      allow_custom_models: true,
      max_runs_per_namespace: 64,
      limits: Limits::default(),
      client: ClientOptions::default(),
    }
  }
}
