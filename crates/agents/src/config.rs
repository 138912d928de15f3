//! What an agent is made of, and requests to make and change one.

use std::collections::BTreeMap;
use std::str::FromStr;

use access::Secret;
use access::exposed;
use kernels::Language;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use utoipa::ToSchema;

use crate::error::AgentError;
use crate::mcp::McpServer;
use crate::mcp::StoredServer;

/// What an API key is shown as, and what leaves it as it is when it comes back.
pub(crate) const HIDDEN_KEY: &str = "***";

/// Where a model is asked, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelSettings {
  /// Address of an OpenAI-compatible API, such as `https://api.openai.com/v1/`.
  #[serde(rename = "baseURL")]
  pub base_url: String,
  /// Never shown: `***` stands for it.
  #[serde(
    default,
    skip_serializing_if = "Option::is_none",
    serialize_with = "exposed"
  )]
  #[schema(value_type = Option<String>)]
  pub api_key: Option<Secret>,
  pub model: String,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub temperature: Option<f64>,
  /// Most tokens that the model writes in one message.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub max_tokens: Option<u32>,
  /// Tokens of a conversation that the model takes, 32,768 where it is left out.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub context_tokens: Option<u32>,
  /// Whether the model sees images.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub vision: Option<bool>,
}

impl ModelSettings {
  /// The address as listings show it: without a user, a password or a query.
  pub(crate) fn shown_address(&self) -> String {
    reqwest::Url::parse(&self.base_url).map_or_else(|_| String::new(), |url| outbound::shown(&url))
  }
}

/// Some of the settings, to be put over others.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelSettingsChange {
  #[serde(rename = "baseURL")]
  pub base_url: Option<String>,
  #[schema(value_type = Option<String>)]
  pub api_key: Option<Secret>,
  pub model: Option<String>,
  pub temperature: Option<f64>,
  pub max_tokens: Option<u32>,
  pub context_tokens: Option<u32>,
  pub vision: Option<bool>,
}

impl ModelSettingsChange {
  /// These settings, and those of `base` for what is left out. An API key belongs to its address: one for
  /// another address is not taken over.
  pub(crate) fn over(self, base: Option<&ModelSettings>) -> Result<ModelSettings, AgentError> {
    let missing = |name: &str| AgentError::Invalid(format!("ModelSettings.{name}: must be given"));
    let key = self.api_key.filter(|key| key.expose() != HIDDEN_KEY);
    // What a listing has shown comes back for the address itself.
    let given = self.base_url.filter(|given| {
      base.is_none_or(|base| *given != base.base_url && *given != base.shown_address())
    });
    let inherited = base
      .filter(|_| given.is_none())
      .and_then(|base| base.api_key.clone());
    let temperature = self.temperature.or(base.and_then(|base| base.temperature));
    if temperature.is_some_and(|it| !(0.0..=2.0).contains(&it)) {
      return Err(AgentError::Invalid(
        "ModelSettings.temperature: must be a number from 0 to 2".into(),
      ));
    }
    Ok(ModelSettings {
      base_url: given
        .or_else(|| base.map(|base| base.base_url.clone()))
        .ok_or_else(|| missing("baseURL"))?,
      api_key: key.or(inherited),
      model: self
        .model
        .or_else(|| base.map(|base| base.model.clone()))
        .filter(|model| !model.is_empty())
        .ok_or_else(|| missing("model"))?,
      temperature,
      max_tokens: self.max_tokens.or(base.and_then(|base| base.max_tokens)),
      context_tokens: self
        .context_tokens
        .or(base.and_then(|base| base.context_tokens)),
      vision: self.vision.or(base.and_then(|base| base.vision)),
    })
  }
}

/// Which model an agent asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ModelSource {
  /// The server's default.
  Default,
  /// One of the operator's, by its id.
  Registry(String),
  Own {
    settings: ModelSettings,
    /// Whether a tenant has given the address, which must then be a public one.
    of_tenant: bool,
  },
}

/// How a model asks for code to be run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
  /// By tags, and by tool calls where the model makes them.
  #[default]
  Auto,
  Tags,
  /// By tool calls only; an answer is plain text.
  Native,
}

/// What a service is to the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceNote {
  #[serde(default)]
  pub description: String,
}

/// The language of a kernel, in the manner of the original: any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelLanguage(pub Language);

impl FromStr for KernelLanguage {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    let language = text
      .parse()
      .map_err(|_| format!("Invalid kernelType: {text}"));
    language.map(Self)
  }
}

impl<'de> Deserialize<'de> for KernelLanguage {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
  }
}

impl Serialize for KernelLanguage {
  fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&self.0)
  }
}

/// Times that bound a kernel, in milliseconds; 0 is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct KernelTimes {
  pub inactivity_timeout: u64,
  pub max_execution_time: u64,
}

impl Default for KernelTimes {
  fn default() -> Self {
    Self {
      inactivity_timeout: 60 * 60 * 1000,
      max_execution_time: 10 * 60 * 1000,
    }
  }
}

impl KernelTimes {
  /// # Errors
  /// When a time is too long for a clock.
  pub(crate) fn new(
    inactivity_timeout: Option<u64>,
    max_execution_time: Option<u64>,
  ) -> Result<Self, AgentError> {
    /// Ten years.
    const MOST: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
    let bounded = |name: &str, given: Option<u64>, default: u64| match given {
      Some(ms) if ms > MOST => Err(AgentError::Invalid(format!(
        "{name}: must be at most {MOST} milliseconds"
      ))),
      given => Ok(given.unwrap_or(default)),
    };
    let default = Self::default();
    Ok(Self {
      inactivity_timeout: bounded(
        "inactivityTimeout",
        inactivity_timeout,
        default.inactivity_timeout,
      )?,
      max_execution_time: bounded(
        "maxExecutionTime",
        max_execution_time,
        default.max_execution_time,
      )?,
    })
  }
}

/// An agent as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentConfig {
  pub name: String,
  pub description: String,
  pub instructions: String,
  pub startup_script: Option<String>,
  pub kernel_type: KernelLanguage,
  pub kernel_environs: BTreeMap<String, String>,
  /// Whose variables its kernels get besides. Not the variables: they are made for each kernel.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub environment: Option<String>,
  pub model: ModelSource,
  pub max_steps: u32,
  pub enable_planning: bool,
  pub planning_interval: Option<u32>,
  pub hypha_services: BTreeMap<String, ServiceNote>,
  pub tool_mode: ToolMode,
  /// Whether earlier turns are sent with a new message.
  pub send_history: bool,
  /// Ids of vector indices that it may search.
  #[serde(default)]
  pub knowledge: Vec<String>,
  /// Whether it remembers things in an index of its own.
  #[serde(default)]
  pub memory: bool,
  #[serde(default)]
  pub mcp_servers: Vec<StoredServer>,
  /// Most tokens of one run, prompts included.
  #[serde(default)]
  pub max_tokens_per_run: Option<u64>,
  /// Most seconds of one run.
  #[serde(default)]
  pub max_run_seconds: Option<u64>,
  #[serde(default, flatten)]
  pub times: KernelTimes,
  /// Whether it has a kernel, which is made again when it is needed and gone.
  #[serde(default)]
  pub has_kernel: bool,
}

/// A request for an agent. What is left out takes its default.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateAgent {
  /// A UUID when left out.
  pub id: Option<String>,
  #[schema(default = "New Agent")]
  pub name: Option<String>,
  pub description: Option<String>,
  #[schema(default = "You are a helpful assistant.")]
  pub instructions: Option<String>,
  /// Code that runs in each new kernel of the agent; the model is told what it prints.
  pub startup_script: Option<String>,
  /// `python`, `typescript`, `javascript` or `cpython`, in any case.
  #[schema(value_type = Option<String>)]
  pub kernel_type: Option<KernelLanguage>,
  /// Environment variables of the kernel.
  pub kernel_environs: Option<BTreeMap<String, String>>,
  /// Whose variables its kernels get besides, as [`Environments`](crate::Environments) names them. No client's to say.
  #[serde(skip)]
  pub environment: Option<String>,
  /// Turns with code that one run may take, 10 when left out.
  pub max_steps: Option<u32>,
  #[serde(rename = "ModelSettings", alias = "modelSettings")]
  pub model_settings: Option<ModelSettingsChange>,
  /// A model of the operator's registry, instead of `ModelSettings`.
  pub model_id: Option<String>,
  /// Makes the kernel at once.
  #[serde(default)]
  pub auto_attach_kernel: bool,
  #[serde(default)]
  pub enable_planning: bool,
  pub planning_interval: Option<u32>,
  pub hypha_services: Option<BTreeMap<String, ServiceNote>>,
  pub tool_mode: Option<ToolMode>,
  pub send_history: Option<bool>,
  pub knowledge: Option<Vec<String>>,
  #[serde(default)]
  pub memory: bool,
  /// MCP servers whose tools the model may call.
  pub mcp_servers: Option<Vec<McpServer>>,
  pub max_tokens_per_run: Option<u64>,
  pub max_run_seconds: Option<u64>,
  /// Milliseconds without use after which the kernel is deleted: an hour when left out, never when 0.
  #[schema(default = 3_600_000)]
  pub inactivity_timeout: Option<u64>,
  /// Milliseconds after which a cell is interrupted: ten minutes when left out, never when 0.
  #[schema(default = 600_000)]
  pub max_execution_time: Option<u64>,
  pub namespace: Option<String>,
}

/// A change of an agent. A member that is null is cleared, one that is left out stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UpdateAgent {
  pub name: Option<String>,
  #[serde(default, deserialize_with = "given")]
  pub description: Option<Option<String>>,
  #[serde(default, deserialize_with = "given")]
  pub instructions: Option<Option<String>>,
  #[serde(default, deserialize_with = "given")]
  pub startup_script: Option<Option<String>>,
  #[schema(value_type = Option<String>)]
  pub kernel_type: Option<KernelLanguage>,
  #[serde(default, deserialize_with = "given")]
  pub kernel_environs: Option<Option<BTreeMap<String, String>>>,
  /// As that of [`CreateAgent`]; `None` leaves it.
  #[serde(skip)]
  pub environment: Option<String>,
  #[serde(default, deserialize_with = "given")]
  pub max_steps: Option<Option<u32>>,
  /// Put over the present settings; null goes back to the server's default.
  #[serde(
    default,
    rename = "ModelSettings",
    alias = "modelSettings",
    deserialize_with = "given"
  )]
  #[schema(value_type = Option<ModelSettingsChange>)]
  pub model_settings: Option<Option<ModelSettingsChange>>,
  #[serde(default, deserialize_with = "given")]
  pub model_id: Option<Option<String>>,
  pub enable_planning: Option<bool>,
  #[serde(default, deserialize_with = "given")]
  pub planning_interval: Option<Option<u32>>,
  #[serde(default, deserialize_with = "given")]
  pub hypha_services: Option<Option<BTreeMap<String, ServiceNote>>>,
  pub tool_mode: Option<ToolMode>,
  pub send_history: Option<bool>,
  #[serde(default, deserialize_with = "given")]
  pub knowledge: Option<Option<Vec<String>>>,
  pub memory: Option<bool>,
  #[serde(default, deserialize_with = "given")]
  pub mcp_servers: Option<Option<Vec<McpServer>>>,
  #[serde(default, deserialize_with = "given")]
  pub max_tokens_per_run: Option<Option<u64>>,
  #[serde(default, deserialize_with = "given")]
  pub max_run_seconds: Option<Option<u64>>,
  /// Of the next kernel.
  #[serde(default, deserialize_with = "given")]
  pub inactivity_timeout: Option<Option<u64>>,
  /// Of the next kernel.
  #[serde(default, deserialize_with = "given")]
  pub max_execution_time: Option<Option<u64>>,
}

/// A member that is there, null included.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
  deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
  Option::deserialize(deserializer).map(Some)
}

/// A script that is not blank.
pub(crate) fn script(text: Option<String>) -> Option<String> {
  text.filter(|text| !text.trim().is_empty())
}

pub(crate) const DEFAULT_INSTRUCTIONS: &str = "You are a helpful assistant.";
pub(crate) const DEFAULT_STEPS: u32 = 10;

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;
  use crate::answers::ShownModel;

  fn settings(key: Option<&str>) -> ModelSettings {
    ModelSettings {
      base_url: "https://a.example/v1".into(),
      api_key: key.map(Secret::new),
      model: "m".into(),
      temperature: Some(0.5),
      max_tokens: None,
      context_tokens: None,
      vision: None,
    }
  }

  #[test]
  fn a_key_is_not_shown_and_stays_when_its_stars_come_back() {
    for address in ["https://a.example/v1", "https://ann:pw@a.example/v1?k=v"] {
      let kept = ModelSettings {
        base_url: address.into(),
        ..settings(Some("sk-1"))
      };
      let shown = serde_json::to_value(ShownModel::of(&kept, true)).expect("writes");
      assert_eq!(shown["apiKey"], "***");
      assert_eq!(shown["baseURL"], "https://a.example/v1");
      let change: ModelSettingsChange = serde_json::from_value(shown).expect("reads");
      assert_eq!(change.over(Some(&kept)).expect("merges"), kept);
    }
  }

  #[test]
  fn a_key_does_not_follow_to_another_address() {
    let change = ModelSettingsChange {
      base_url: Some("https://b.example/v1".into()),
      ..Default::default()
    };
    let merged = change.over(Some(&settings(Some("sk-1")))).expect("merges");
    assert_eq!((merged.api_key, merged.model.as_str()), (None, "m"));
  }

  #[test]
  fn null_clears_and_what_is_left_out_stays() {
    let change: UpdateAgent =
      serde_json::from_value(json!({"startupScript": null, "maxSteps": 3})).expect("reads");
    assert_eq!(change.startup_script, Some(None));
    assert_eq!(change.max_steps, Some(Some(3)));
    assert_eq!(change.description, None);
  }
}
