//! Chats: runs that are begun, wait for their turn, go on and end.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access::Caller;
use access::Right;
use chrono::DateTime;
use chrono::Utc;
use models::ChatMessage;
use models::Endpoint;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::agent::Job;
use crate::config::ModelSource;
use crate::error::AgentError;
use crate::events::AgentEventKind;
use crate::id::RunId;
use crate::kernel;
use crate::manager::AgentManager;
use crate::mcp::Servers;
use crate::run::ChatOptions;
use crate::run::Run;
use crate::run::RunKind;
use crate::run::RunRecord;
use crate::run::RunStatus;
use crate::run::Task;
use crate::saves;
use crate::saves::Metadata;
use crate::tools;
use crate::tools::Tools;
use crate::turns::Ending;
use crate::turns::Turns;

/// Runs of one agent that may wait.
const MAX_WAITING: usize = 100;
/// Stateless runs of one agent at the same time.
const MAX_STATELESS: usize = 32;
/// Most bytes of the messages of one chat.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
const MAX_MESSAGES: usize = 1000;

impl AgentManager {
  /// Begins a run that answers `message` as part of the agent's conversation, or queues it behind others.
  ///
  /// # Errors
  /// When there is no such agent, or too much waits for it.
  pub async fn chat(
    &self,
    caller: &Caller,
    id: &str,
    message: String,
    options: ChatOptions,
  ) -> Result<Arc<Run>, AgentError> {
    let task = Task {
      messages: vec![ChatMessage::user(message)],
      options,
    };
    self.begin(caller, id, RunKind::Chat, task).await
  }

  /// Begins a run that answers the last of `messages`, apart from the agent's conversation. It does not wait for
  /// others.
  ///
  /// # Errors
  /// When there is no such agent, no message, or too much goes on.
  pub async fn chat_stateless(
    &self,
    caller: &Caller,
    id: &str,
    messages: Vec<ChatMessage>,
    options: ChatOptions,
  ) -> Result<Arc<Run>, AgentError> {
    if messages.is_empty() {
      return Err(AgentError::Invalid(
        "Messages array is required and cannot be empty".into(),
      ));
    }
    let task = Task { messages, options };
    self.begin(caller, id, RunKind::Stateless, task).await
  }

  async fn begin(
    &self,
    caller: &Caller,
    id: &str,
    kind: RunKind,
    task: Task,
  ) -> Result<Arc<Run>, AgentError> {
    let agent = self.find(caller, Right::Use, id)?;
    let request = serde_json::to_string(&task)?;
    if request.len() > MAX_MESSAGE_BYTES || task.messages.len() > MAX_MESSAGES {
      return Err(AgentError::TooLarge(format!(
        "a chat takes at most {MAX_MESSAGES} messages of {} MiB together",
        MAX_MESSAGE_BYTES >> 20
      )));
    }
    check_room(&agent, kind)?;
    let record = RunRecord {
      id: RunId::random(),
      agent_id: agent.id.clone(),
      kind,
      status: RunStatus::Queued,
      created: Utc::now(),
      started: None,
      ended: None,
      steps: 0,
      prompt_tokens: 0,
      completion_tokens: 0,
      error: None,
    };
    let run = Run::new(record.clone());
    let job = Job {
      run: run.clone(),
      task,
      entries: Vec::new(),
      resumed: false,
    };
    self
      .run_to_completion(move |manager| async move {
        manager.store.insert_run(&record, request).await?;
        manager.enqueue(&agent, job)
      })
      .await?;
    Ok(run)
  }

  /// Goes on with a run that the end of a server interrupted, after its last finished step.
  ///
  /// # Errors
  /// When there is no such run, or it has ended otherwise.
  pub async fn resume(&self, caller: &Caller, id: &str, run: &str) -> Result<Arc<Run>, AgentError> {
    let agent = self.find(caller, Right::Use, id)?;
    let run_id = RunId::addressed(run);
    if agent.active_run(&run_id).is_some() {
      return Err(AgentError::Conflict("The run goes on already".into()));
    }
    let (record, request) = self
      .store
      .run(&run_id)
      .await?
      .filter(|(record, _)| record.agent_id == agent.id)
      .ok_or(AgentError::RunNotFound)?;
    if record.status != RunStatus::Interrupted {
      return Err(AgentError::Conflict(format!(
        "The run is {}: only an interrupted run can be resumed",
        record.status.as_str()
      )));
    }
    check_room(&agent, record.kind)?;
    self
      .run_to_completion(move |manager| async move {
        let events = manager.store.events(&run_id).await?;
        let entries = manager.store.entries(&run_id).await?;
        let record = RunRecord {
          status: RunStatus::Queued,
          ended: None,
          ..record
        };
        manager.store.update_run(&record).await?;
        let run = Run::resumed(record, events);
        let job = Job {
          run: run.clone(),
          task: serde_json::from_str(&request)?,
          entries,
          resumed: true,
        };
        manager.enqueue(&agent, job)?;
        Ok(run)
      })
      .await
  }

  /// Cancels a run: what it waits for or runs is ended at once.
  ///
  /// # Errors
  /// When there is no such run, or it has ended.
  pub async fn cancel(
    &self,
    caller: &Caller,
    id: &str,
    run: &str,
  ) -> Result<RunRecord, AgentError> {
    let agent = self.find(caller, Right::Use, id)?;
    let run_id = RunId::addressed(run);
    let Some(run) = agent.active_run(&run_id) else {
      let known = self.store.run(&run_id).await?;
      let (record, _) = known
        .filter(|(record, _)| record.agent_id == agent.id)
        .ok_or(AgentError::RunNotFound)?;
      return Err(AgentError::Conflict(format!(
        "The run has ended already: it is {}",
        record.status.as_str()
      )));
    };
    self.cancel_run(&agent, &run).await;
    Ok(run.record())
  }

  /// Ends a run, whether it goes on or waits.
  pub(crate) async fn cancel_run(&self, agent: &Agent, run: &Arc<Run>) {
    let waiting = {
      let mut state = agent.lock();
      let at = state.queue.iter().position(|job| job.run.id == run.id);
      at.and_then(|at| state.queue.remove(at))
    };
    run.cancel.cancel();
    match waiting {
      Some(_) => self.finish(agent, run, Ok(Ending::Cancelled)).await,
      None => run.closed().await,
    }
  }

  /// The runs of an agent that are kept, the newest first.
  ///
  /// # Errors
  /// When there is no such agent for this caller.
  pub async fn runs(&self, caller: &Caller, id: &str) -> Result<Vec<RunRecord>, AgentError> {
    let agent = self.find(caller, Right::Read, id)?;
    let mut runs = self.store.runs(&agent.id).await?;
    // Tokens of a call that goes on are not stored yet.
    for active in agent.active() {
      if let Some(run) = runs.iter_mut().find(|run| run.id == active.id) {
        *run = active.record();
      }
    }
    Ok(runs)
  }

  /// A run with its log: one that goes on, or one that is kept.
  ///
  /// # Errors
  /// When there is no such run of this agent.
  pub async fn run(&self, caller: &Caller, id: &str, run: &str) -> Result<Arc<Run>, AgentError> {
    let agent = self.find(caller, Right::Read, id)?;
    let run_id = RunId::addressed(run);
    if let Some(run) = agent.active_run(&run_id) {
      return Ok(run);
    }
    let (record, _) = self
      .store
      .run(&run_id)
      .await?
      .filter(|(record, _)| record.agent_id == agent.id)
      .ok_or(AgentError::RunNotFound)?;
    let events = self.store.events(&run_id).await?;
    Ok(Run::ended(record, events))
  }

  // ------------------------------------------------------------ the queue

  fn enqueue(self: &Arc<Self>, agent: &Arc<Agent>, job: Job) -> Result<(), AgentError> {
    let mut state = agent.lock();
    if state.deleted {
      return Err(AgentError::Unknown);
    }
    state.last_used = Some(Utc::now());
    if job.run.record().kind == RunKind::Stateless {
      state.running.push(job.run.clone());
      drop(state);
      let (manager, agent) = (self.clone(), agent.clone());
      tokio::spawn(async move { manager.carry_out(&agent, job).await });
      return Ok(());
    }
    state.queue.push_back(job);
    if !std::mem::replace(&mut state.worked, true) {
      drop(state);
      let (manager, agent) = (self.clone(), agent.clone());
      tokio::spawn(async move { manager.work_off(&agent).await });
    }
    Ok(())
  }

  /// Carries out what waits, one run after the other.
  async fn work_off(self: &Arc<Self>, agent: &Arc<Agent>) {
    loop {
      let job = {
        let mut state = agent.lock();
        match state.queue.pop_front() {
          Some(job) => {
            state.running.push(job.run.clone());
            job
          }
          None => {
            state.worked = false;
            return;
          }
        }
      };
      self.carry_out(agent, job).await;
    }
  }

  /// Carries out one run, to its end.
  async fn carry_out(self: &Arc<Self>, agent: &Arc<Agent>, job: Job) {
    let run = job.run.clone();
    let ending = tokio::select! {
      biased;
      () = run.cancel.cancelled() => Ok(Ending::Cancelled),
      permit = self.room_of(agent.id.namespace()) => {
        let ending = self.attempt(agent, job).await;
        drop(permit);
        ending
      }
    };
    self.finish(agent, &run, ending).await;
    agent.lock().running.retain(|other| other.id != run.id);
  }

  /// Waits until there is room for one more run of the namespace.
  async fn room_of(&self, namespace: Option<&str>) -> Option<OwnedSemaphorePermit> {
    let room = {
      let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
      let most = self.options.max_runs_per_namespace;
      let own = room.entry(namespace.map(str::to_owned));
      own
        .or_insert_with(|| Arc::new(Semaphore::new(most)))
        .clone()
    };
    room.acquire_owned().await.ok()
  }

  async fn attempt(self: &Arc<Self>, agent: &Arc<Agent>, job: Job) -> Result<Ending, AgentError> {
    let Job {
      run,
      task,
      entries,
      resumed,
    } = job;
    let kind = run.record().kind;
    let record = run.change(|record| {
      record.status = RunStatus::Running;
      record.started.get_or_insert_with(Utc::now);
    });
    self.store.update_run(&record).await?;
    let run_id = run.id.clone();
    self
      .events
      .tell(Some(&agent.id), AgentEventKind::RunStarted { run_id });
    let message = match (resumed, kind) {
      (true, _) => json!({ "type": "resumed", "message": "Going on after the last finished step" }),
      (false, RunKind::Chat) => json!({ "type": "start", "message": "Starting chat..." }),
      (false, RunKind::Stateless) => {
        json!({ "type": "start", "message": "Starting stateless chat..." })
      }
    };
    run.append(&self.store, vec![message]).await?;
    let config = agent.config();
    if let Some(error) = agent.kernel.now().startup_error {
      return Err(AgentError::Startup {
        message: error
          .message
          .trim_start_matches("Startup script failed: ")
          .to_owned(),
        full_error: error.full_error,
      });
    }
    let (model, trust) = self.model_of(&config)?;
    if let ModelSource::Registry(id) = &config.model {
      self.registry.note_use(id);
    }
    let endpoint = Endpoint::new(&model.base_url, model.api_key.clone(), trust)?;
    let base = match kind {
      RunKind::Stateless => task.messages.clone(),
      RunKind::Chat => {
        self
          .conversation_with(agent, &task, config.send_history)
          .await?
      }
    };
    let caller = kernel::caller(agent.id.namespace());
    let certificates = self.options.client.certificates.as_deref();
    let asked = task.options.max_steps.unwrap_or(config.max_steps);
    let timer = Timer::start(&run, config.max_run_seconds);
    let turns = Turns {
      store: self.store.clone(),
      kernels: self.kernels.clone(),
      environment: self.environment_of(&config),
      client: self.client.clone(),
      endpoint,
      model,
      limits: self.options.limits.clone(),
      options: task.options,
      namespace: agent.id.namespace().map(str::to_owned),
      kernel: agent.kernel.clone(),
      tools: Tools {
        vectors: self.vectors.clone(),
        knowledge: config
          .knowledge
          .iter()
          .map(|id| caller.full_id(id))
          .collect(),
        memory: config.memory.then(|| tools::memory_index(&agent.id)),
        servers: tokio::select! {
          biased;
          () = run.cancel.cancelled() => return Ok(Ending::Cancelled),
          servers = Servers::connect(&config.mcp_servers, certificates) => servers,
        },
        caller,
      },
      refuses_extras: agent.refuses_extras.clone(),
      most_steps: asked.min(self.options.max_steps_cap).max(1),
      config,
      run: run.clone(),
      base,
      entries,
    };
    let ending = turns.run().await?;
    if let (Ending::Cancelled, Some(most)) = (&ending, timer.fired()) {
      return Ok(Ending::Failed(format!(
        "The run took more than its {most} seconds"
      )));
    }
    Ok(ending)
  }

  /// The conversation with the new message as its last, which is stored.
  async fn conversation_with(
    &self,
    agent: &Agent,
    task: &Task,
    send_history: bool,
  ) -> Result<Vec<ChatMessage>, AgentError> {
    let mut messages = self.store.conversation(&agent.id).await?.messages;
    let new = task
      .messages
      .last()
      .cloned()
      .unwrap_or_else(|| ChatMessage::user(""));
    let is_there = messages.last().is_some_and(|last| *last == new);
    if !is_there {
      self.say(agent, new.clone()).await?;
      messages.push(new.clone());
    }
    Ok(if send_history { messages } else { vec![new] })
  }

  /// Appends to the conversation.
  async fn say(&self, agent: &Agent, message: ChatMessage) -> Result<(), AgentError> {
    let now = Utc::now();
    let count = self
      .store
      .append_messages(&agent.id, &[message], now)
      .await?;
    let mut state = agent.lock();
    state.messages = count;
    state.last_used = Some(now);
    Ok(())
  }

  /// Stores how a run has ended, and tells its readers.
  async fn finish(&self, agent: &Agent, run: &Arc<Run>, ending: Result<Ending, AgentError>) {
    let complete = || json!({ "type": "complete" });
    let mut record = run.record();
    let said = match &ending {
      Ok(Ending::Answer { content, .. } | Ending::Stopped(content))
        if record.kind == RunKind::Chat =>
      {
        Some(ChatMessage::assistant(content.clone()))
      }
      _ => None,
    };
    let (status, error, events) = match ending {
      Ok(Ending::Answer { content, commits }) => {
        let mut text = json!({ "type": "text", "content": content });
        if !commits.is_empty() {
          text["commitIds"] = json!(commits);
        }
        (RunStatus::Completed, None, vec![text, complete()])
      }
      Ok(Ending::Stopped(message)) => {
        let text = json!({ "type": "text", "content": message });
        (RunStatus::Failed, Some(message), vec![text, complete()])
      }
      Ok(Ending::Failed(message)) => {
        let error = json!({ "type": "error", "content": message, "error": { "message": message } });
        (RunStatus::Failed, Some(message), vec![error, complete()])
      }
      Ok(Ending::Cancelled) => {
        let message = "The run was cancelled";
        let event = json!({ "type": "cancelled", "message": message });
        (
          RunStatus::Cancelled,
          Some(message.into()),
          vec![event, complete()],
        )
      }
      Err(error) => {
        if matches!(error, AgentError::Storage(_)) && !self.store.is_closed() {
          tracing::error!("run {}: {error}", run.id);
        }
        let message = error.told_in(run.agent.namespace());
        let event = json!({ "type": "error", "error": message });
        (RunStatus::Failed, Some(message), vec![event])
      }
    };
    let now = Utc::now();
    record.status = status;
    record.error = error;
    record.ended = Some(now);
    let (first, events) = run.bounded(events);
    let last = (first, events.clone());
    match self.store.finish_run(&record, last, said, now).await {
      Ok(Some(count)) => {
        {
          let mut state = agent.lock();
          state.messages = count;
          state.last_used = Some(now);
        }
        if let Err(error) = self.save_as_file(agent, now).await {
          tracing::warn!("the conversation of {} is in no file: {error}", agent.id);
        }
      }
      Ok(None) => {}
      Err(error) if !self.store.is_closed() => {
        tracing::error!("the end of run {} could not be stored: {error}", run.id);
      }
      Err(_) => {}
    }
    run.change(|known| *known = record.clone());
    run.show(events);
    run.close();
    let ended = AgentEventKind::RunEnded {
      run_id: record.id,
      status: record.status,
      steps: record.steps,
      error: record.error,
    };
    self.events.tell(Some(&run.agent), ended);
  }

  /// Writes the conversation to a file, where the operator wants that.
  async fn save_as_file(&self, agent: &Agent, now: DateTime<Utc>) -> Result<(), AgentError> {
    if !self.options.auto_save_conversations {
      return Ok(());
    }
    let messages = self.store.conversation(&agent.id).await?.messages;
    let config = agent.config();
    let metadata = Metadata {
      agent_name: &config.name,
      agent_description: &config.description,
    };
    let folder = &self.options.folder;
    saves::save(folder, &agent.id, metadata, &messages, now)
      .await
      .map_err(|e| AgentError::Storage(e.to_string()))
  }
}

/// Whether one more run may wait or go on.
fn check_room(agent: &Agent, kind: RunKind) -> Result<(), AgentError> {
  let state = agent.lock();
  let stateless = state
    .running
    .iter()
    .filter(|run| run.record().kind == RunKind::Stateless);
  match kind {
    RunKind::Chat if state.queue.len() >= MAX_WAITING => Err(AgentError::LimitReached(format!(
      "{MAX_WAITING} runs wait for this agent already"
    ))),
    RunKind::Stateless if stateless.count() >= MAX_STATELESS => Err(AgentError::LimitReached(
      format!("{MAX_STATELESS} stateless chats go on with this agent already"),
    )),
    _ => Ok(()),
  }
}

/// Cancels a run that takes too long.
struct Timer {
  most: Option<u64>,
  fired: Arc<AtomicBool>,
  task: Option<tokio::task::JoinHandle<()>>,
}

impl Timer {
  fn start(run: &Arc<Run>, most: Option<u64>) -> Self {
    let fired = Arc::new(AtomicBool::new(false));
    let task = most.map(|seconds| {
      let (run, fired) = (run.clone(), fired.clone());
      tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        fired.store(true, Ordering::Relaxed);
        run.cancel.cancel();
      })
    });
    Self { most, fired, task }
  }

  /// After how many seconds it has cancelled the run, if it has.
  fn fired(&self) -> Option<u64> {
    self.most.filter(|_| self.fired.load(Ordering::Relaxed))
  }
}

impl Drop for Timer {
  fn drop(&mut self) {
    if let Some(task) = &self.task {
      task.abort();
    }
  }
}
