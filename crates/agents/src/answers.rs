//! What callers are told of agents, in the shapes of the original.

use std::collections::BTreeMap;

use chrono::DateTime;
use chrono::Utc;
use models::ChatMessage;
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::HIDDEN_KEY;
use crate::config::ModelSettings;
use crate::config::ServiceNote;
use crate::config::ToolMode;
use crate::kernel::StartupError;
use crate::run::as_timestamp;

/// An agent in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSummary {
  /// Without the namespace.
  pub id: String,
  pub name: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub description: Option<String>,
  #[serde(rename = "kernel_type")]
  pub kernel_type: String,
  pub has_kernel: bool,
  pub has_startup_script: bool,
  pub has_startup_error: bool,
  #[serde(serialize_with = "as_timestamp")]
  #[schema(value_type = String, format = DateTime)]
  pub created: DateTime<Utc>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "as_timestamp"
  )]
  #[schema(value_type = Option<String>, format = DateTime)]
  pub last_used: Option<DateTime<Utc>>,
  pub conversation_length: usize,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub namespace: Option<String>,
}

/// One agent.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentInfo {
  /// With the namespace.
  pub id: String,
  pub name: String,
  pub description: String,
  pub instructions: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub startup_script: Option<String>,
  pub kernel_type: String,
  /// Names of the kernel's variables; their values are not shown.
  pub kernel_environs: Vec<String>,
  pub has_kernel: bool,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub kernel_id: Option<String>,
  pub has_startup_error: bool,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub startup_error: Option<StartupError>,
  pub max_steps: u32,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub max_tokens_per_run: Option<u64>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub max_run_seconds: Option<u64>,
  /// Milliseconds; 0 is never.
  pub inactivity_timeout: u64,
  /// Milliseconds; 0 is never.
  pub max_execution_time: u64,
  #[serde(serialize_with = "as_timestamp")]
  #[schema(value_type = String, format = DateTime)]
  pub created: DateTime<Utc>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "as_timestamp"
  )]
  #[schema(value_type = Option<String>, format = DateTime)]
  pub last_used: Option<DateTime<Utc>>,
  pub conversation_length: usize,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub model_id: Option<String>,
  /// Without the key.
  #[serde(rename = "ModelSettings")]
  pub model_settings: ShownModel,
  pub enable_planning: bool,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub planning_interval: Option<u32>,
  pub tool_mode: ToolMode,
  pub send_history: bool,
  pub knowledge: Vec<String>,
  pub memory: bool,
  /// Names and addresses, without tokens.
  pub mcp_servers: Vec<ShownServer>,
  pub hypha_services: BTreeMap<String, ServiceNote>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub namespace: Option<String>,
}

/// An MCP server as listings show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShownServer {
  pub name: String,
  pub url: String,
}

/// Settings of a model as listings show them. The address of the operator's is the operator's to know.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownModel {
  #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
  pub base_url: Option<String>,
  /// `***` where there is one.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub api_key: Option<&'static str>,
  pub model: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub temperature: Option<f64>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub max_tokens: Option<u32>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub context_tokens: Option<u32>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub vision: Option<bool>,
}

impl ShownModel {
  pub(crate) fn of(settings: &ModelSettings, with_address: bool) -> Self {
    let shown = settings
      .api_key
      .as_ref()
      .filter(|_| with_address)
      .map(|_| HIDDEN_KEY);
    Self {
      base_url: with_address.then(|| settings.shown_address()),
      api_key: shown,
      model: settings.model.clone(),
      temperature: settings.temperature,
      max_tokens: settings.max_tokens,
      context_tokens: settings.context_tokens,
      vision: settings.vision,
    }
  }
}

/// Numbers over the agents that a caller sees.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStats {
  pub total_agents: usize,
  pub agents_with_kernels: usize,
  pub max_agents: usize,
  pub agents_by_kernel_type: BTreeMap<String, usize>,
  pub auto_save_conversations: bool,
  /// For the operator only.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub data_directory: Option<String>,
  pub model_registry: RegistryStats,
  pub hypha_core: HyphaCore,
  /// Runs that wait or go on.
  pub active_runs: usize,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStats {
  pub total_models: usize,
  pub models_in_use: usize,
  pub allow_custom_models: bool,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub allowed_models: Option<Vec<String>>,
}

/// There is no Hypha server inside the engine.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HyphaCore {
  pub enabled: bool,
}

/// A model of the registry.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelEntry {
  pub id: String,
  pub model_settings: ShownModel,
  #[serde(serialize_with = "as_timestamp")]
  #[schema(value_type = String, format = DateTime)]
  pub created: DateTime<Utc>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "as_timestamp"
  )]
  #[schema(value_type = Option<String>, format = DateTime)]
  pub last_used: Option<DateTime<Utc>>,
  pub agents_using: usize,
}

/// What an agent and its users have said.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationInfo {
  pub agent_id: String,
  pub messages: Vec<ChatMessage>,
  /// Older messages that are not kept any more.
  pub dropped: usize,
}
