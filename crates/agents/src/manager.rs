//! The agents of a server: made, found, changed and ended.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use access::Caller;
use access::Right;
use access::Scope;
use chrono::Utc;
use kernels::KernelManager;
use kernels::Language;
use models::ChatClient;
use models::ChatMessage;
use models::Endpoint;
use models::Trust;
use tokio::sync::Semaphore;
use uuid::Uuid;
use vectordb::VectorDb;

use crate::agent::Agent;
use crate::answers::AgentInfo;
use crate::answers::AgentStats;
use crate::answers::AgentSummary;
use crate::answers::ConversationInfo;
use crate::answers::HyphaCore;
use crate::config;
use crate::config::AgentConfig;
use crate::config::CreateAgent;
use crate::config::KernelLanguage;
use crate::config::KernelTimes;
use crate::config::ModelSettings;
use crate::config::ModelSettingsChange;
use crate::config::ModelSource;
use crate::config::UpdateAgent;
use crate::environment::Environments;
use crate::error::AgentError;
use crate::events::AgentEventKind;
use crate::events::AgentWatch;
use crate::events::Announcer;
use crate::id::AgentId;
use crate::mcp;
use crate::options::AgentOptions;
use crate::options::KEPT_IN_NAMESPACE;
use crate::registry::Registry;
use crate::saves;
use crate::store::Store;
use crate::tools;

/// Most messages that are set as a conversation at once.
const MAX_SET_MESSAGES: usize = 1000;

/// Makes agents, and lets them chat.
pub struct AgentManager {
  pub(crate) me: Weak<Self>,
  pub(crate) options: AgentOptions,
  pub(crate) store: Arc<Store>,
  pub(crate) kernels: Arc<KernelManager>,
  pub(crate) vectors: Arc<VectorDb>,
  pub(crate) client: Arc<ChatClient>,
  pub(crate) registry: Registry,
  pub(crate) events: Announcer,
  pub(crate) environments: RwLock<Option<Arc<dyn Environments>>>,
  agents: RwLock<HashMap<AgentId, Arc<Agent>>>,
  /// Held while agents are counted and made: limits hold under any number of requests.
  making: tokio::sync::Mutex<()>,
  /// Room for the runs of each namespace.
  pub(crate) room: Mutex<HashMap<Option<String>, Arc<Semaphore>>>,
}

impl AgentManager {
  /// Opens what is kept; runs that an ended server has left are interrupted.
  ///
  /// # Errors
  /// When it cannot be read.
  pub fn open(
    options: AgentOptions,
    kernels: Arc<KernelManager>,
    vectors: Arc<VectorDb>,
  ) -> Result<Arc<Self>, AgentError> {
    let (store, kept) = Store::open(&options.folder)?;
    if kept.interrupted > 0 {
      tracing::warn!(
        "{} runs of agents were interrupted; they can be resumed",
        kept.interrupted
      );
    }
    let registry = Registry::new(&options, kept.models, &kept.settings)?;
    let agents = kept.agents.into_iter().map(|stored| {
      let agent = Agent::new(
        stored.id.clone(),
        stored.config,
        stored.created,
        stored.last_used,
        stored.messages,
      );
      (stored.id, agent)
    });
    let agents = agents.collect();
    Ok(Arc::new_cyclic(|me| Self {
      me: me.clone(),
      client: Arc::new(ChatClient::new(options.client.clone())),
      options,
      store: Arc::new(store),
      kernels,
      vectors,
      registry,
      events: Announcer::new(),
      environments: RwLock::default(),
      agents: RwLock::new(agents),
      making: tokio::sync::Mutex::default(),
      room: Mutex::default(),
    }))
  }

  // ------------------------------------------------------------ making

  /// Makes an agent. The checks, their order and their words are the original's.
  ///
  /// # Errors
  /// When the request is wrong, there are too many, or the start-up script fails; nothing is left then.
  pub async fn create(
    &self,
    caller: &Caller,
    request: CreateAgent,
  ) -> Result<AgentInfo, AgentError> {
    caller.require(Right::Manage)?;
    let caller = caller.clone();
    self
      .run_to_completion(move |manager| async move { manager.make(&caller, request).await })
      .await
  }

  async fn make(&self, caller: &Caller, mut request: CreateAgent) -> Result<AgentInfo, AgentError> {
    let asked = request.namespace.take().filter(|name| !name.is_empty());
    let namespace = caller.work_in(asked.as_deref())?;
    let name = request
      .id
      .take()
      .unwrap_or_else(|| Uuid::new_v4().to_string());
    let title = request.name.take().unwrap_or_else(|| "New Agent".into());
    if name.is_empty() || title.is_empty() {
      return Err(AgentError::Invalid("Agent ID and name are required".into()));
    }
    let id = AgentId::new(namespace.as_deref(), &name)?;
    let attach = request.auto_attach_kernel;
    let agent = {
      let _making = self.making.lock().await;
      self.make_room(&id).await?;
      let config = self.config_of(caller, title, request)?;
      let agent = Agent::new(id.clone(), config.clone(), Utc::now(), None, 0);
      self.store.insert_agent(&id, &config, agent.created).await?;
      self.write().insert(id, agent.clone());
      self
        .events
        .tell(Some(&agent.id), AgentEventKind::AgentCreated);
      agent
    };
    if attach {
      let failed = self.attach_kernel(&agent, None, None).await.err();
      match failed {
        Some(error @ AgentError::Startup { .. }) => {
          self.end(&agent).await?;
          return Err(error);
        }
        // The agent is there, and its kernel is made when it is needed.
        Some(error) => tracing::warn!("the kernel of agent {} was not made: {error}", agent.id),
        None => {}
      }
    }
    Ok(self.info(caller, &agent))
  }

  /// Checks that the id is free and that there may be one more, if need be without the oldest of its namespace.
  async fn make_room(&self, id: &AgentId) -> Result<(), AgentError> {
    let (exists, total) = {
      let agents = self.read();
      (agents.contains_key(id), agents.len())
    };
    if exists {
      return Err(AgentError::Exists(id.clone()));
    }
    if total >= self.options.max_agents {
      return Err(AgentError::TooMany(self.options.max_agents));
    }
    let Some(namespace) = id.namespace() else {
      return Ok(());
    };
    let most = self.options.max_per_namespace;
    let mut own = self.of_namespace(Some(namespace));
    if own.len() < most {
      return Ok(());
    }
    // Agents at work are the last to go.
    own.sort_by_key(|agent| (!agent.active().is_empty(), agent.used()));
    let extra = own
      .len()
      .saturating_sub(KEPT_IN_NAMESPACE.min(most.saturating_sub(1)));
    for agent in own
      .iter()
      .take(extra)
      .filter(|agent| agent.active().is_empty())
    {
      tracing::info!("agent {} made room for another of its namespace", agent.id);
      self.end(agent).await?;
    }
    if self.of_namespace(Some(namespace)).len() >= most {
      return Err(AgentError::TooManyInNamespace {
        most,
        namespace: namespace.to_owned(),
      });
    }
    Ok(())
  }

  fn config_of(
    &self,
    caller: &Caller,
    name: String,
    request: CreateAgent,
  ) -> Result<AgentConfig, AgentError> {
    let model = self.model_source(caller, request.model_settings, request.model_id, None)?;
    let kernel_type = request
      .kernel_type
      .unwrap_or(KernelLanguage(Language::Python));
    Ok(AgentConfig {
      name,
      description: request.description.unwrap_or_default(),
      instructions: request
        .instructions
        .unwrap_or_else(|| config::DEFAULT_INSTRUCTIONS.into()),
      startup_script: config::script(request.startup_script),
      kernel_type,
      kernel_environs: request.kernel_environs.unwrap_or_default(),
      environment: request.environment,
      model,
      max_steps: steps(request.max_steps)?,
      enable_planning: request.enable_planning,
      planning_interval: request.planning_interval,
      hypha_services: request.hypha_services.unwrap_or_default(),
      tool_mode: request.tool_mode.unwrap_or_default(),
      send_history: request.send_history.unwrap_or(true),
      knowledge: request.knowledge.unwrap_or_default(),
      memory: request.memory,
      mcp_servers: mcp::checked(request.mcp_servers.unwrap_or_default(), is_tenant(caller))?,
      max_tokens_per_run: request.max_tokens_per_run,
      max_run_seconds: request.max_run_seconds,
      times: KernelTimes::new(request.inactivity_timeout, request.max_execution_time)?,
      has_kernel: false,
    })
  }

  /// Which model a request means.
  fn model_source(
    &self,
    caller: &Caller,
    settings: Option<ModelSettingsChange>,
    id: Option<String>,
    present: Option<&ModelSettings>,
  ) -> Result<ModelSource, AgentError> {
    let id = id.filter(|id| !id.is_empty());
    match (settings, id) {
      (Some(_), Some(_)) => Err(AgentError::Invalid(
        "modelId: an agent has a model of the registry or ModelSettings, not both".into(),
      )),
      (Some(settings), None) => {
        if !self.registry.allows_custom() {
          return Err(AgentError::Invalid(
            "Custom model settings are not allowed. Choose a model of the registry with modelId"
              .into(),
          ));
        }
        let settings = settings.over(present)?;
        let of_tenant = is_tenant(caller);
        let trust = if of_tenant {
          Trust::Tenant
        } else {
          Trust::Operator
        };
        Endpoint::new(&settings.base_url, settings.api_key.clone(), trust)?;
        Ok(ModelSource::Own {
          settings,
          of_tenant,
        })
      }
      (None, Some(id)) => {
        self.registry.usable(&id)?;
        Ok(ModelSource::Registry(id))
      }
      (None, None) => Ok(ModelSource::Default),
    }
  }

  /// What an agent asks, and how far its address is trusted.
  pub(crate) fn model_of(
    &self,
    config: &AgentConfig,
  ) -> Result<(ModelSettings, Trust), AgentError> {
    match &config.model {
      ModelSource::Default => Ok((self.options.default_model.clone(), Trust::Operator)),
      ModelSource::Registry(id) => Ok((self.registry.usable(id)?, Trust::Operator)),
      ModelSource::Own {
        settings,
        of_tenant,
      } => {
        let trust = if *of_tenant {
          Trust::Tenant
        } else {
          Trust::Operator
        };
        Ok((settings.clone(), trust))
      }
    }
  }

  // ------------------------------------------------------------ looking

  /// The agents that a caller sees, the oldest first.
  ///
  /// # Errors
  /// When another namespace than the caller's is asked for.
  pub fn list(
    &self,
    caller: &Caller,
    namespace: Option<&str>,
  ) -> Result<Vec<AgentSummary>, AgentError> {
    caller.require(Right::Read)?;
    let namespace = caller.work_in(namespace)?;
    let mut agents: Vec<Arc<Agent>> = self
      .visible(caller)
      .into_iter()
      .filter(|agent| namespace.is_none() || agent.id.namespace() == namespace.as_deref())
      .collect();
    agents.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(agents.iter().map(|agent| agent.summary()).collect())
  }

  /// # Errors
  /// When there is no such agent for this caller.
  pub fn get(&self, caller: &Caller, id: &str) -> Result<AgentInfo, AgentError> {
    let agent = self.find(caller, Right::Read, id)?;
    Ok(self.info(caller, &agent))
  }

  /// # Errors
  /// When the caller may not look.
  pub fn stats(&self, caller: &Caller) -> Result<AgentStats, AgentError> {
    caller.require(Right::Read)?;
    let agents = self.visible(caller);
    let configs: Vec<AgentConfig> = agents.iter().map(|agent| agent.config()).collect();
    let mut by_type = BTreeMap::new();
    for config in configs.iter().filter(|config| config.has_kernel) {
      *by_type.entry(config.kernel_type.0.to_string()).or_default() += 1;
    }
    let is_operator = caller.require(Right::Operate).is_ok();
    Ok(AgentStats {
      total_agents: agents.len(),
      agents_with_kernels: configs.iter().filter(|config| config.has_kernel).count(),
      max_agents: self.options.max_agents,
      agents_by_kernel_type: by_type,
      auto_save_conversations: self.options.auto_save_conversations,
      data_directory: is_operator.then(|| self.options.folder.display().to_string()),
      model_registry: self.registry.stats(&configs),
      hypha_core: HyphaCore { enabled: false },
      active_runs: agents.iter().map(|agent| agent.active().len()).sum(),
    })
  }

  /// Watches what happens to the agents that a caller sees, from now on.
  ///
  /// # Errors
  /// When the caller may not look.
  pub fn watch(&self, caller: &Caller) -> Result<AgentWatch, AgentError> {
    caller.require(Right::Read)?;
    Ok(self.events.watch(caller))
  }

  pub(crate) fn info(&self, caller: &Caller, agent: &Agent) -> AgentInfo {
    let config = agent.config();
    let model = self.model_of(&config).map(|(model, _)| model);
    let own = matches!(config.model, ModelSource::Own { .. });
    let with_address = own || caller.require(Right::Operate).is_ok();
    // A model that has gone from the registry is told when it is asked.
    agent.info(
      &model.unwrap_or_else(|_| self.options.default_model.clone()),
      with_address,
    )
  }

  // ------------------------------------------------------------ changing

  /// Changes an agent: what is left out stays, what is null is cleared.
  ///
  /// # Errors
  /// When there is no such agent, or the change is wrong; nothing is changed then.
  pub async fn update(
    &self,
    caller: &Caller,
    id: &str,
    change: UpdateAgent,
  ) -> Result<AgentInfo, AgentError> {
    let agent = self.change(caller, Right::Manage, id)?;
    let caller = caller.clone();
    self
      .run_to_completion(move |manager| async move {
        manager.apply(&caller, &agent, change).await?;
        Ok(manager.info(&caller, &agent))
      })
      .await
  }

  async fn apply(
    &self,
    caller: &Caller,
    agent: &Arc<Agent>,
    change: UpdateAgent,
  ) -> Result<(), AgentError> {
    let _making = self.making.lock().await;
    let before = agent.config();
    let mut config = before.clone();
    if let Some(name) = change.name {
      if name.is_empty() {
        return Err(AgentError::Invalid("Agent ID and name are required".into()));
      }
      config.name = name;
    }
    if let Some(description) = change.description {
      config.description = description.unwrap_or_default();
    }
    if let Some(instructions) = change.instructions {
      config.instructions = instructions.unwrap_or_else(|| config::DEFAULT_INSTRUCTIONS.into());
    }
    if let Some(script) = change.startup_script {
      config.startup_script = config::script(script);
    }
    if let Some(environs) = change.kernel_environs {
      config.kernel_environs = environs.unwrap_or_default();
    }
    config.environment = change.environment.or(config.environment);
    if let Some(most) = change.max_steps {
      config.max_steps = steps(most)?;
    }
    if let Some(kernel_type) = change.kernel_type {
      config.kernel_type = kernel_type;
    }
    match (change.model_settings, change.model_id) {
      (None, None) => {}
      (settings, id) => {
        let present = match &before.model {
          ModelSource::Own { settings, .. } => Some(settings),
          ModelSource::Default | ModelSource::Registry(_) => None,
        };
        config.model = self.model_source(caller, settings.flatten(), id.flatten(), present)?;
      }
    }
    if let Some(enable) = change.enable_planning {
      config.enable_planning = enable;
    }
    if let Some(interval) = change.planning_interval {
      config.planning_interval = interval;
    }
    if let Some(services) = change.hypha_services {
      match services {
        Some(services) => config.hypha_services.extend(services),
        None => config.hypha_services.clear(),
      }
    }
    config.tool_mode = change.tool_mode.unwrap_or(config.tool_mode);
    config.send_history = change.send_history.unwrap_or(config.send_history);
    if let Some(knowledge) = change.knowledge {
      config.knowledge = knowledge.unwrap_or_default();
    }
    config.memory = change.memory.unwrap_or(config.memory);
    if let Some(servers) = change.mcp_servers {
      config.mcp_servers = mcp::checked(servers.unwrap_or_default(), is_tenant(caller))?;
    }
    if let Some(most) = change.max_tokens_per_run {
      config.max_tokens_per_run = most;
    }
    if let Some(most) = change.max_run_seconds {
      config.max_run_seconds = most;
    }
    let KernelTimes {
      inactivity_timeout: idle,
      max_execution_time: most,
    } = before.times;
    config.times = KernelTimes::new(
      change.inactivity_timeout.unwrap_or(Some(idle)),
      change.max_execution_time.unwrap_or(Some(most)),
    )?;
    self.keep_config(agent, config.clone()).await?;
    self
      .events
      .tell(Some(&agent.id), AgentEventKind::AgentUpdated);
    if config.model != before.model {
      agent.refuses_extras.store(false, Ordering::Relaxed);
    }
    if config.kernel_type != before.kernel_type {
      // The next step makes one of the new language.
      let namespace = agent.id.namespace();
      agent.kernel.detach(&self.kernels, namespace).await;
    }
    if config.startup_script != before.startup_script {
      agent.kernel.forget_startup_error();
      if config.has_kernel {
        let (agent, kernels) = (agent.clone(), self.kernels.clone());
        tokio::spawn(async move {
          let script = config.startup_script.as_deref();
          agent
            .kernel
            .start_up_again(&kernels, agent.id.namespace(), script)
            .await;
        });
      }
    }
    Ok(())
  }

  pub(crate) async fn keep_config(
    &self,
    agent: &Agent,
    config: AgentConfig,
  ) -> Result<(), AgentError> {
    self.store.update_agent(&agent.id, &config).await?;
    agent.lock().config = config;
    Ok(())
  }

  /// Ends an agent with its kernel, its runs and its conversation.
  ///
  /// # Errors
  /// When there is no such agent for this caller.
  pub async fn delete(&self, caller: &Caller, id: &str) -> Result<(), AgentError> {
    let agent = self.change(caller, Right::Manage, id)?;
    self
      .run_to_completion(move |manager| async move { manager.end(&agent).await })
      .await
  }

  async fn end(&self, agent: &Arc<Agent>) -> Result<(), AgentError> {
    {
      let mut state = agent.lock();
      if std::mem::replace(&mut state.deleted, true) {
        return Err(AgentError::NotFound(agent.id.to_string()));
      }
    }
    // Those that wait first, so that none of them takes the place of one that ends.
    for run in agent.active().iter().rev() {
      self.cancel_run(agent, run).await;
    }
    agent
      .kernel
      .detach(&self.kernels, agent.id.namespace())
      .await;
    self.store.delete_agent(&agent.id).await?;
    self.write().remove(&agent.id);
    // The conversation goes, in whatever form.
    let _ = saves::remove(&self.options.folder, &agent.id, 0).await;
    self
      .events
      .tell(Some(&agent.id), AgentEventKind::AgentDestroyed);
    if agent.config().memory {
      let index = tools::memory_index(&agent.id);
      let caller = crate::kernel::caller(agent.id.namespace());
      // It may never have remembered anything.
      let _ = self.vectors.delete(&caller, &index).await;
    }
    Ok(())
  }

  // ------------------------------------------------------------ conversations

  /// # Errors
  /// When there is no such agent for this caller.
  pub async fn conversation(
    &self,
    caller: &Caller,
    id: &str,
  ) -> Result<ConversationInfo, AgentError> {
    let agent = self.find(caller, Right::Read, id)?;
    let conversation = self.store.conversation(&agent.id).await?;
    Ok(ConversationInfo {
      agent_id: agent.id.to_string(),
      messages: conversation.messages,
      dropped: conversation.dropped,
    })
  }

  /// Replaces the conversation of an agent. Returns how many messages it has.
  ///
  /// # Errors
  /// When there is no such agent, there are too many messages, or a run is about to write the conversation.
  pub async fn set_conversation(
    &self,
    caller: &Caller,
    id: &str,
    messages: Vec<ChatMessage>,
  ) -> Result<usize, AgentError> {
    let agent = self.change(caller, Right::Use, id)?;
    if messages.len() > MAX_SET_MESSAGES {
      return Err(AgentError::TooLarge(format!(
        "messages: {} are more than the {MAX_SET_MESSAGES} of a conversation",
        messages.len()
      )));
    }
    let busy = {
      let state = agent.lock();
      state.worked || !state.queue.is_empty()
    };
    if busy {
      return Err(AgentError::Conflict(
        "A run of this agent is writing its conversation: cancel it, or wait for its end".into(),
      ));
    }
    let now = Utc::now();
    let count = self.store.set_messages(&agent.id, &messages, now).await?;
    let mut state = agent.lock();
    state.messages = count;
    state.last_used = Some(now);
    Ok(count)
  }

  /// Gives up what goes on, for the server ends. Runs are resumed after the next start.
  pub fn shut_down(&self) {
    self.store.close();
    for agent in self.read().values() {
      for run in agent.active() {
        run.cancel();
      }
    }
  }

  // ------------------------------------------------------------ finding

  /// The agent that a caller calls `id`, as its address names it.
  pub(crate) fn find(
    &self,
    caller: &Caller,
    right: Right,
    id: &str,
  ) -> Result<Arc<Agent>, AgentError> {
    caller.require(right)?;
    let full = caller.full_id(id);
    let found = self.read().get(&AgentId::addressed(full)).cloned();
    found
      .filter(|agent| caller.sees(agent.id.namespace()) && !agent.lock().deleted)
      .ok_or(AgentError::Unknown)
  }

  /// The same, to change it.
  pub(crate) fn change(
    &self,
    caller: &Caller,
    right: Right,
    id: &str,
  ) -> Result<Arc<Agent>, AgentError> {
    self.find(caller, right, id).map_err(|error| match error {
      AgentError::Unknown => AgentError::NotFound(id.to_owned()),
      other => other,
    })
  }

  pub(crate) fn visible(&self, caller: &Caller) -> Vec<Arc<Agent>> {
    let agents = self.read();
    let visible = agents
      .values()
      .filter(|agent| caller.sees(agent.id.namespace()));
    visible.cloned().collect()
  }

  fn of_namespace(&self, namespace: Option<&str>) -> Vec<Arc<Agent>> {
    let agents = self.read();
    let own = agents
      .values()
      .filter(|agent| agent.id.namespace() == namespace);
    own.cloned().collect()
  }

  /// Runs to completion even when the caller stops waiting: half of it would leave something behind.
  pub(crate) async fn run_to_completion<T: Send + 'static, F>(
    &self,
    work: impl FnOnce(Arc<Self>) -> F + Send + 'static,
  ) -> Result<T, AgentError>
  where
    F: Future<Output = Result<T, AgentError>> + Send + 'static,
  {
    let gone = || AgentError::Conflict("the server is shutting down".into());
    let manager = self.me.upgrade().ok_or_else(gone)?;
    let failed = |e| AgentError::Storage(format!("the work on the agent ended early: {e}"));
    tokio::spawn(work(manager)).await.map_err(failed)?
  }

  fn read(&self) -> RwLockReadGuard<'_, HashMap<AgentId, Arc<Agent>>> {
    self.agents.read().unwrap_or_else(PoisonError::into_inner)
  }

  fn write(&self) -> RwLockWriteGuard<'_, HashMap<AgentId, Arc<Agent>>> {
    self.agents.write().unwrap_or_else(PoisonError::into_inner)
  }
}

/// Whether what a caller gives is a tenant's.
fn is_tenant(caller: &Caller) -> bool {
  matches!(caller.scope(), Scope::Namespace(_))
}

fn steps(asked: Option<u32>) -> Result<u32, AgentError> {
  match asked {
    None => Ok(config::DEFAULT_STEPS),
    Some(0) => Err(AgentError::Invalid("maxSteps: must be at least 1".into())),
    Some(most) => Ok(most),
  }
}
