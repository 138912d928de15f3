//! One agent while the server runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use chrono::DateTime;
use chrono::Utc;

use crate::answers::AgentInfo;
use crate::answers::AgentSummary;
use crate::answers::ShownModel;
use crate::answers::ShownServer;
use crate::config::AgentConfig;
use crate::config::ModelSettings;
use crate::config::ModelSource;
use crate::id::AgentId;
use crate::id::RunId;
use crate::kernel::AgentKernel;
use crate::run::Run;
use crate::run::Task;
use crate::store::Entry;

pub(crate) struct Agent {
  pub id: AgentId,
  pub created: DateTime<Utc>,
  pub kernel: Arc<AgentKernel>,
  pub refuses_extras: Arc<AtomicBool>,
  state: Mutex<State>,
}

pub(crate) struct State {
  pub config: AgentConfig,
  pub last_used: Option<DateTime<Utc>>,
  /// Messages of the conversation.
  pub messages: usize,
  /// Runs that go on: at most one of the conversation, and any number of stateless ones.
  pub running: Vec<Arc<Run>>,
  /// Runs of the conversation that wait, in their order.
  pub queue: VecDeque<Job>,
  /// Whether a task works the queue off.
  pub worked: bool,
  pub deleted: bool,
}

/// A run with all that it begins with.
pub(crate) struct Job {
  pub run: Arc<Run>,
  pub task: Task,
  /// What an interrupted run has said already.
  pub entries: Vec<Entry>,
  pub resumed: bool,
}

impl Agent {
  pub(crate) fn new(
    id: AgentId,
    config: AgentConfig,
    created: DateTime<Utc>,
    last_used: Option<DateTime<Utc>>,
    messages: usize,
  ) -> Arc<Self> {
    Arc::new(Self {
      id,
      created,
      kernel: Arc::default(),
      refuses_extras: Arc::default(),
      state: Mutex::new(State {
        config,
        last_used,
        messages,
        running: Vec::new(),
        queue: VecDeque::new(),
        worked: false,
        deleted: false,
      }),
    })
  }

  pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }

  pub(crate) fn config(&self) -> AgentConfig {
    self.lock().config.clone()
  }

  /// When it was used last, or made.
  pub(crate) fn used(&self) -> DateTime<Utc> {
    self.lock().last_used.unwrap_or(self.created)
  }

  /// Runs that go on or wait.
  pub(crate) fn active(&self) -> Vec<Arc<Run>> {
    let state = self.lock();
    let waiting = state.queue.iter().map(|job| job.run.clone());
    state.running.iter().cloned().chain(waiting).collect()
  }

  pub(crate) fn active_run(&self, id: &RunId) -> Option<Arc<Run>> {
    self.active().into_iter().find(|run| run.id == *id)
  }

  pub(crate) fn summary(&self) -> AgentSummary {
    let attached = self.kernel.now();
    let state = self.lock();
    let config = &state.config;
    AgentSummary {
      id: self.id.name().to_owned(),
      name: config.name.clone(),
      description: Some(config.description.clone()).filter(|text| !text.is_empty()),
      kernel_type: config.kernel_type.0.to_string(),
      has_kernel: config.has_kernel,
      has_startup_script: config.startup_script.is_some(),
      has_startup_error: attached.startup_error.is_some(),
      created: self.created,
      last_used: state.last_used,
      conversation_length: state.messages,
      namespace: self.id.namespace().map(str::to_owned),
    }
  }

  /// `model` is what it asks; `with_address` says whether the caller may know where that is.
  pub(crate) fn info(&self, model: &ModelSettings, with_address: bool) -> AgentInfo {
    let attached = self.kernel.now();
    let state = self.lock();
    let config = &state.config;
    AgentInfo {
      id: self.id.to_string(),
      name: config.name.clone(),
      description: config.description.clone(),
      instructions: config.instructions.clone(),
      startup_script: config.startup_script.clone(),
      kernel_type: config.kernel_type.0.to_string(),
      kernel_environs: config.kernel_environs.keys().cloned().collect(),
      has_kernel: config.has_kernel,
      kernel_id: attached.kernel_id,
      has_startup_error: attached.startup_error.is_some(),
      startup_error: attached.startup_error,
      max_steps: config.max_steps,
      max_tokens_per_run: config.max_tokens_per_run,
      max_run_seconds: config.max_run_seconds,
      inactivity_timeout: config.times.inactivity_timeout,
      max_execution_time: config.times.max_execution_time,
      created: self.created,
      last_used: state.last_used,
      conversation_length: state.messages,
      model_id: match &config.model {
        ModelSource::Registry(id) => Some(id.clone()),
        ModelSource::Default | ModelSource::Own { .. } => None,
      },
      model_settings: ShownModel::of(model, with_address),
      enable_planning: config.enable_planning,
      planning_interval: config.planning_interval,
      tool_mode: config.tool_mode,
      send_history: config.send_history,
      knowledge: config.knowledge.clone(),
      memory: config.memory,
      mcp_servers: shown_servers(config),
      hypha_services: config.hypha_services.clone(),
      namespace: self.id.namespace().map(str::to_owned),
    }
  }
}

fn shown_servers(config: &AgentConfig) -> Vec<ShownServer> {
  let servers = config.mcp_servers.iter().map(|server| ShownServer {
    name: server.name().to_owned(),
    url: server.shown(),
  });
  servers.collect()
}
