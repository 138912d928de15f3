//! Settings of agents.

use std::path::Path;
use std::path::PathBuf;

use access::Secret;
use agents::AgentOptions;
use agents::ModelSettings;
use agents::models::ClientOptions;
use clap::Args;

/// What agents ask, and how many of them there are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Agents")]
pub(crate) struct AgentArgs {
  /// Address of the OpenAI-compatible API that agents ask which name no model.
  #[arg(
    long,
    env = "AGENT_MODEL_BASE_URL",
    value_name = "URL",
    default_value = "http://localhost:11434/v1/"
  )]
  pub agent_model_base_url: String,

  /// Key for it.
  ///
  /// The server takes this out of its environment and its command line at the start.
  #[arg(
    long,
    env = "AGENT_MODEL_API_KEY",
    value_name = "KEY",
    default_value = "ollama",
    hide_default_value = true,
    hide_env_values = true
  )]
  pub agent_model_api_key: Secret,

  /// Model that is asked.
  #[arg(
    long,
    env = "AGENT_MODEL_NAME",
    value_name = "NAME",
    default_value = "qwen2.5-coder:7b"
  )]
  pub agent_model_name: String,

  /// How freely it answers, 0 to 2.
  #[arg(long, env = "AGENT_MODEL_TEMPERATURE", value_name = "N", default_value_t = 0.7, value_parser = temperature)]
  pub agent_model_temperature: f64,

  /// Tokens of a conversation that the model takes; older messages are left out.
  #[arg(long, env = "AGENT_MODEL_CONTEXT_TOKENS", value_name = "N", value_parser = clap::value_parser!(u32).range(1024..))]
  pub agent_model_context_tokens: Option<u32>,

  /// Most agents at one time; a namespace has at most 10 of them.
  #[arg(long, env = "MAX_AGENTS", value_name = "N", default_value_t = 1000)]
  pub max_agents: usize,

  /// Most steps of any run.
  #[arg(long, env = "AGENT_MAX_STEPS_CAP", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
  pub agent_max_steps_cap: u32,

  /// Folder of agents and what they say [default: agents in the data folder].
  #[arg(long, env = "AGENT_DATA_DIRECTORY", value_name = "DIR")]
  pub agent_data_directory: Option<PathBuf>,

  /// Also writes a conversation to a JSON file after each chat, off only when `false`.
  ///
  /// The 10 newest of each agent are kept, in the folder of agents. Conversations themselves are always kept.
  #[arg(long, env = "AUTO_SAVE_CONVERSATIONS", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, value_parser = unless_false)]
  pub auto_save_conversations: bool,

  /// Runs of one namespace that go on at the same time; others wait.
  #[arg(long, env = "AGENT_MAX_RUNS_PER_NAMESPACE", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
  pub agent_max_runs_per_namespace: u32,
}

/// As the original reads its switches that are on by themselves.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a parser")]
fn unless_false(text: &str) -> Result<bool, std::convert::Infallible> {
  Ok(text != "false")
}

fn temperature(text: &str) -> Result<f64, &'static str> {
  let number: Option<f64> = text.parse().ok();
  number
    .filter(|number| (0.0..=2.0).contains(number))
    .ok_or("it is not a number from 0 to 2")
}

impl AgentArgs {
  /// What the agents are told. `certificates` is a PEM file of authorities that models may use.
  pub(crate) fn options(&self, data_dir: &Path, certificates: Option<PathBuf>) -> AgentOptions {
    let folder = self.agent_data_directory.clone();
    AgentOptions {
      max_agents: self.max_agents,
      max_steps_cap: self.agent_max_steps_cap,
      auto_save_conversations: self.auto_save_conversations,
      max_runs_per_namespace: self.agent_max_runs_per_namespace as usize,
      default_model: ModelSettings {
        base_url: self.agent_model_base_url.clone(),
        api_key: Some(self.agent_model_api_key.clone()),
        model: self.agent_model_name.clone(),
        temperature: Some(self.agent_model_temperature),
        max_tokens: None,
        context_tokens: self.agent_model_context_tokens,
        vision: None,
      },
      client: ClientOptions {
        certificates,
        ..ClientOptions::default()
      },
      ..AgentOptions::new(folder.unwrap_or_else(|| data_dir.join("agents")))
    }
  }
}
