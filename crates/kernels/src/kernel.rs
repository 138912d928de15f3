//! One kernel: its queue, its history, its host, and what happens when that host misbehaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use chrono::DateTime;
use chrono::Utc;
use files::Feeds;
use kernel_protocol::ErrorReport;
use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use kernel_protocol::MainProgram;
use kernel_protocol::Outcome;
use kernel_protocol::Question;
use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;
use kernel_protocol::json::JsonText;
use rustix::process::Pid;
use rustix::process::Signal;
use serde::Serialize;
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::KernelError;
use crate::KernelId;
use crate::KernelType;
use crate::connection::HostConnection;
use crate::connection::HostHandle;
use crate::events::EngineEvent;
use crate::events::EngineEventKind;
use crate::execution::Execution;
use crate::execution::Work;
use crate::history::History;
use crate::log_budget::LogBudget;
use crate::log_budget::LogOwner;
use crate::options::Approved;
use crate::outgoing::Unread;
use crate::owner::Listeners;
use crate::owner::Owner;
use crate::owner::ProgramNotice;
use crate::questions::Answer;
use crate::questions::OpenQuestion;
use crate::questions::Questions;

/// Executions that may wait in the queue.
const MAX_QUEUE: usize = 1000;
/// What the code of those may weigh together, in bytes.
const MAX_QUEUE_BYTES: usize = 64 << 20;
/// How long a step of the interrupt ladder is given before the next.
const INTERRUPT_GRACE: Duration = Duration::from_millis(1500);
/// How long a question about code may wait for the kernel.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for a kernel's logs besides what one execution may print, in bytes.
const HISTORY_BYTES: u64 = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
  /// Ready for a cell.
  Active,
  /// Running one.
  Busy,
  /// Being restarted.
  Restarting,
  /// Its host has ended; restart it or delete it.
  Dead,
}

/// What asking the running cell to stop has come to.
pub enum Stop {
  /// Nothing was running.
  Idle,
  /// The cell stopped; state is kept.
  Stopped,
  /// The cell goes on.
  Stubborn(Arc<Execution>),
}

pub struct Kernel {
  pub id: KernelId,
  pub kind: KernelType,
  pub created: DateTime<Utc>,
  pub max_execution_time: Option<Duration>,
  pub approved: Approved,
  logs: LogOwner,
  state: Mutex<State>,
  questions: Questions,
  /// What watches of its files tell.
  pub(crate) watches: Feeds,
  /// Held while a host is being replaced: two replacements at once would leave one host behind.
  pub replacing: tokio::sync::Mutex<()>,
  /// Told when a host has gone for good.
  host_gone: Notify,
  /// Told when `inactivity_timeout` is another.
  pub(crate) timeout_changed: Arc<Notify>,
  owner: Owner,
}

struct State {
  phase: Phase,
  /// Counts hosts: what an earlier one still says is not heard.
  generation: u64,
  running: Option<Arc<Execution>>,
  queue: VecDeque<Arc<Execution>>,
  history: History,
  inactivity_timeout: Option<Duration>,
  last_activity: Instant,
  awaits_input: bool,
}

enum Phase {
  Up(HostHandle),
  Restarting,
  Dead(String),
  Removed,
}

impl Kernel {
  pub fn new(
    id: KernelId,
    kind: KernelType,
    approved: Approved,
    timeouts: (Option<Duration>, Option<Duration>),
    owner: Owner,
    logs: &Arc<LogBudget>,
  ) -> Arc<Self> {
    let most = usize::try_from(approved.output_bytes + HISTORY_BYTES).unwrap_or(usize::MAX);
    Arc::new(Self {
      logs: logs.owner(id.namespace(), most),
      id,
      kind,
      created: Utc::now(),
      max_execution_time: timeouts.1,
      approved,
      state: Mutex::new(State {
        phase: Phase::Restarting,
        generation: 0,
        running: None,
        queue: VecDeque::new(),
        history: History::default(),
        inactivity_timeout: timeouts.0,
        last_activity: Instant::now(),
        awaits_input: false,
      }),
      questions: Questions::default(),
      watches: Feeds::default(),
      replacing: tokio::sync::Mutex::default(),
      host_gone: Notify::new(),
      timeout_changed: Arc::default(),
      owner,
    })
  }

  // ------------------------------------------------------------ what it is

  pub fn status(&self) -> Status {
    let state = self.lock();
    match state.phase {
      Phase::Up(_) if state.running.is_some() => Status::Busy,
      Phase::Up(_) => Status::Active,
      Phase::Restarting => Status::Restarting,
      Phase::Dead(_) | Phase::Removed => Status::Dead,
    }
  }

  /// Why it is dead, if it is.
  pub fn death(&self) -> Option<String> {
    match &self.lock().phase {
      Phase::Dead(reason) => Some(reason.clone()),
      _ => None,
    }
  }

  pub fn pid(&self) -> Option<u32> {
    match &self.lock().phase {
      Phase::Up(host) => host.pid,
      _ => None,
    }
  }

  /// Finished executions of cells, in the order they were submitted.
  pub fn history(&self) -> Vec<Arc<Execution>> {
    self.lock().history.finished_cells()
  }

  /// Executions that run or wait, the running one first.
  pub fn unfinished(&self) -> Vec<Arc<Execution>> {
    let state = self.lock();
    state.running.iter().chain(&state.queue).cloned().collect()
  }

  pub fn execution(&self, id: ExecutionId) -> Option<Arc<Execution>> {
    self.lock().history.find(id)
  }

  pub fn touch(&self) {
    self.lock().last_activity = Instant::now();
  }

  /// How long it may be unused before it is removed; `None` for ever.
  pub fn inactivity_timeout(&self) -> Option<Duration> {
    self.lock().inactivity_timeout
  }

  /// Returns the earlier one.
  pub(crate) fn set_inactivity_timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
    let before = std::mem::replace(&mut self.lock().inactivity_timeout, timeout);
    self.timeout_changed.notify_one();
    before
  }

  /// How long nothing was done with it; zero while it works.
  pub fn idle_time(&self) -> Duration {
    let state = self.lock();
    if state.running.is_some() {
      Duration::ZERO
    } else {
      state.last_activity.elapsed()
    }
  }

  /// Reports to the watchers of the engine.
  pub fn announce(&self, kind: EngineEventKind) {
    if let Owner::Client(listeners) = &self.owner
      && listeners.events.receiver_count() > 0
    {
      let _ = listeners.events.send(EngineEvent {
        kernel: self.id.clone(),
        time: Utc::now(),
        kind,
      });
    }
  }

  // ------------------------------------------------------------ hosts

  /// Gives the kernel a configured host and starts listening to it. [`Self::ready`] follows.
  pub fn attach(self: &Arc<Self>, host: HostConnection) {
    let generation = {
      let mut state = self.lock();
      if matches!(state.phase, Phase::Removed) {
        return;
      }
      state.generation += 1;
      state.phase = Phase::Up(host.handle.clone());
      state.last_activity = Instant::now();
      state.awaits_input = false;
      state.generation
    };
    tokio::spawn(self.clone().listen(host, generation));
  }

  /// Reports that the kernel can be used, once it can be found, and starts what waits.
  pub fn ready(self: &Arc<Self>) {
    self.announce(EngineEventKind::KernelReady);
    self.start_next();
  }

  async fn listen(self: Arc<Self>, mut host: HostConnection, generation: u64) {
    while let Some(reply) = host.next().await {
      if let Owner::Program(owner) = &self.owner
        && let Some(notice) = ProgramNotice::of(&reply)
      {
        // Waits for a slow listener, and the program with it.
        let _ = owner.send(notice).await;
      }
      self.hear(reply, generation);
    }
    let end = host.end().await;
    self.host_ended(&end.reason, generation);
    if let Owner::Program(owner) = &self.owner {
      let _ = owner.send(ProgramNotice::Ended(end)).await;
    }
    self.host_gone.notify_waiters();
  }

  fn hear(self: &Arc<Self>, reply: Reply, generation: u64) {
    match reply {
      Reply::Event {
        execution_id,
        event,
      } => {
        let execution = {
          let mut state = self.lock();
          if state.generation != generation {
            return;
          }
          if matches!(event, KernelEvent::InputRequest { .. }) {
            state.awaits_input = true;
          }
          let running = state
            .running
            .as_ref()
            .filter(|e| Some(e.id) == execution_id)
            .cloned();
          running.or_else(|| state.history.find(execution_id?))
        };
        if let Some(execution) = execution {
          execution.append(event);
        }
      }
      Reply::Done {
        execution_id,
        outcome,
      } => self.done(execution_id, outcome, generation),
      Reply::Answer { id, answer } => self.questions.answer(id, Answer::Code(answer)),
      Reply::File { id, reply } => self.questions.answer(id, Answer::File(reply)),
      Reply::FilesChanged { watch, changes } => {
        if self.lock().generation == generation {
          self.watches.tell(watch, changes);
        }
      }
      Reply::Ready { .. }
      | Reply::Configured { .. }
      | Reply::Alive
      | Reply::Program(_)
      | Reply::Fatal { .. } => {}
    }
  }

  fn done(self: &Arc<Self>, id: ExecutionId, outcome: Outcome, generation: u64) {
    let execution = {
      let mut state = self.lock();
      if state.generation != generation {
        return;
      }
      match state.running.take_if(|e| e.id == id) {
        Some(execution) => {
          state.last_activity = Instant::now();
          state.awaits_input = false;
          execution
        }
        None => return,
      }
    };
    if execution.is_stalled() {
      execution.fail(execution.recovery_report("ExecutionInterrupted", "interrupted"));
    }
    execution.finish(outcome);
    self.lock().history.forget_old();
    if outcome == Outcome::Interrupted {
      self.announce(EngineEventKind::ExecutionInterrupted {
        execution_id: id.to_string(),
      });
    }
    self.start_next();
  }

  /// Sends the next cell of the queue, if there is one and the host is free.
  fn start_next(self: &Arc<Self>) {
    let started = {
      let mut state = self.lock();
      let Phase::Up(host) = &state.phase else {
        return;
      };
      if state.running.is_some() {
        return;
      }
      let host = host.clone();
      match state.queue.pop_front() {
        Some(execution) => {
          execution.start();
          host.send(&execution.request());
          state.running = Some(execution.clone());
          Some(execution)
        }
        None => None,
      }
    };
    match started {
      Some(execution) => {
        self.announce(EngineEventKind::KernelBusy);
        if let Owner::Client(Listeners {
          started: Some(started),
          ..
        }) = &self.owner
        {
          let _ = started.send(execution);
        }
      }
      None => self.announce(EngineEventKind::KernelIdle),
    }
  }

  /// The host has gone: what ran on it ends with an error that says how.
  fn host_ended(&self, reason: &str, generation: u64) {
    let orphans = {
      let mut state = self.lock();
      if state.generation != generation || !matches!(state.phase, Phase::Up(_)) {
        return;
      }
      state.phase = Phase::Dead(format!("the kernel {reason}"));
      state.take_unfinished()
    };
    self.watches.end(&format!("the kernel {reason}"));
    if matches!(self.owner, Owner::Client(_)) {
      tracing::warn!(kernel = %self.id, "the kernel {reason}");
    }
    for execution in orphans {
      execution.fail(ErrorReport::new(
        "KernelDied",
        format!("The kernel {reason}"),
      ));
    }
    self.announce(EngineEventKind::KernelDied {
      reason: reason.to_owned(),
    });
  }

  /// Takes the host away, ends it, and ends every execution with `report`; without one they end
  /// quietly. Watches are told `ending`. Returns when the host is gone.
  async fn detach(
    &self,
    next: Phase,
    ending: &str,
    report: Option<ErrorReport>,
  ) -> Result<(), KernelError> {
    let (host, orphans) = {
      let mut state = self.lock();
      if matches!(state.phase, Phase::Removed) {
        return Err(KernelError::NotFound);
      }
      let previous = std::mem::replace(&mut state.phase, next);
      state.generation += 1;
      (previous, state.take_unfinished())
    };
    self.questions.clear();
    self.watches.end(ending);
    for execution in orphans {
      match &report {
        Some(report) => execution.fail(report.clone()),
        None => execution.finish(Outcome::Interrupted),
      }
    }
    if let Phase::Up(host) = host {
      let gone = self.host_gone.notified();
      tokio::pin!(gone);
      gone.as_mut().enable();
      host.send(&Request::Shutdown);
      host.kill();
      // Only a host stuck in the operating system takes longer; its memory is then not ours to free.
      let _ = tokio::time::timeout(Duration::from_secs(5), gone).await;
    }
    Ok(())
  }

  /// Takes the kernel out of service for a restart.
  ///
  /// # Errors
  /// When it was removed meanwhile.
  pub async fn begin_restart(&self, report: ErrorReport) -> Result<(), KernelError> {
    let ending = "the kernel was restarted";
    self.detach(Phase::Restarting, ending, Some(report)).await
  }

  /// Forgets sessions and history, as a restart over HTTP does.
  pub fn forget(&self) {
    let mut state = self.lock();
    state.history.forget_finished();
  }

  /// A restart has failed.
  pub fn restart_failed(&self, reason: &str) {
    let mut state = self.lock();
    if matches!(state.phase, Phase::Restarting) {
      state.phase = Phase::Dead(format!("the kernel could not be restarted: {reason}"));
    }
  }

  /// Ends the kernel for good.
  pub async fn remove(&self, reason: &str, report: Option<ErrorReport>) {
    let ending = format!("the kernel was ended: {reason}");
    let detached = self.detach(Phase::Removed, &ending, report).await;
    if detached.is_ok() {
      self.announce(EngineEventKind::KernelTerminated {
        reason: reason.to_owned(),
      });
      if matches!(self.owner, Owner::Client(_)) {
        let scratch = self.approved.host.scratch.clone();
        tokio::spawn(async move {
          let _ = tokio::fs::remove_dir_all(scratch).await;
        });
      }
    }
  }

  /// Kills a host that has shown no sign of life for `most`, and asks the others for one.
  pub fn check_health(&self, most: Duration) {
    let silent = match &self.lock().phase {
      Phase::Up(host) => host.ping() > most,
      _ => false,
    };
    if silent {
      self.kill_host(&format!(
        "stopped answering: it showed no sign of life for {} seconds",
        most.as_secs()
      ));
    }
  }

  /// Starts the main program.
  pub fn run(&self, program: MainProgram) {
    if let Phase::Up(host) = &self.lock().phase {
      host.send(&Request::Run(program));
    }
  }

  /// Sends a signal to the process, if it has one of its own.
  pub fn signal(&self, signal: Signal) {
    let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
      // One that is gone has been heard of, or will be.
      let _ = rustix::process::kill_process(pid, signal);
    }
  }

  /// Asks the process to end (SIGTERM) and ends it after `grace`; what runs ends with `report`. Returns
  /// when it is gone.
  pub async fn stop(&self, grace: Duration, report: ErrorReport) {
    let gone = self.host_gone.notified();
    tokio::pin!(gone);
    gone.as_mut().enable();
    if matches!(self.lock().phase, Phase::Up(_)) {
      self.signal(Signal::TERM);
      let _ = tokio::time::timeout(grace, gone).await;
    }
    self.remove("stopped", Some(report)).await;
  }

  /// Kills the host as if it had ended by itself, for `reason`.
  pub fn kill_host(&self, reason: &str) {
    let host = {
      let state = self.lock();
      match &state.phase {
        Phase::Up(host) => Some((host.clone(), state.generation)),
        _ => None,
      }
    };
    if let Some((host, generation)) = host {
      self.host_ended(reason, generation);
      host.kill();
    }
  }

  // ------------------------------------------------------------ executions

  /// Queues a cell or a comm message. It runs whether or not anybody reads its log.
  ///
  /// # Errors
  /// When the kernel is dead or the queue is full.
  pub fn submit(self: &Arc<Self>, work: Work) -> Result<Arc<Execution>, KernelError> {
    let execution = Execution::new(work, self.approved.output_bytes, &self.logs).map(Arc::new);
    let execution = execution.ok_or_else(|| {
      KernelError::LimitReached(
        "the outputs and cells that the server keeps leave no room for this one (LOGS_MEMORY_BYTES): \
         delete kernels, or wait for what runs"
          .into(),
      )
    })?;
    {
      let mut state = self.lock();
      if !matches!(state.phase, Phase::Restarting) {
        state.host()?;
      }
      let queued: usize = state.queue.iter().map(|e| e.code().len()).sum();
      let length = execution.code().len();
      if state.queue.len() >= MAX_QUEUE || queued + length > MAX_QUEUE_BYTES {
        return Err(KernelError::LimitReached(format!(
          "too much waits for this kernel already: at most {MAX_QUEUE} executions, {} MiB of code",
          MAX_QUEUE_BYTES >> 20
        )));
      }
      state.last_activity = Instant::now();
      state.queue.push_back(execution.clone());
      state.history.push(execution.clone());
    }
    self.start_next();
    Ok(execution)
  }

  /// Asks the running cell to stop, twice.
  ///
  /// # Errors
  /// When the kernel is dead.
  pub async fn interrupt(&self) -> Result<Stop, KernelError> {
    let (host, running) = {
      let mut state = self.lock();
      state.last_activity = Instant::now();
      match &state.phase {
        Phase::Restarting => return Ok(Stop::Idle),
        _ => (state.host()?.clone(), state.running.clone()),
      }
    };
    let Some(execution) = running else {
      // A loop in a timer that a cell left behind is stopped too.
      let _ = host.try_send(&Request::Interrupt { execution_id: None });
      return Ok(Stop::Idle);
    };
    for _ in 0..2 {
      // A host that reads nothing has to be replaced.
      let _ = host.try_send(&Request::Interrupt {
        execution_id: Some(execution.id),
      });
      if tokio::time::timeout(INTERRUPT_GRACE, execution.ended())
        .await
        .is_ok()
      {
        return Ok(Stop::Stopped);
      }
    }
    Ok(Stop::Stubborn(execution))
  }

  /// # Errors
  /// When no prompt is open.
  pub fn reply_to_input(&self, value: Option<String>) -> Result<(), KernelError> {
    let mut state = self.lock();
    state.last_activity = Instant::now();
    match &state.phase {
      Phase::Up(host) if state.awaits_input => {
        let sent = host.try_send(&Request::InputReply { value });
        sent.map_err(|Unread| {
          KernelError::LimitReached("The kernel reads nothing: interrupt or restart it".into())
        })?;
        state.awaits_input = false;
        Ok(())
      }
      _ => Err(KernelError::Conflict(
        "The kernel is not waiting for input".into(),
      )),
    }
  }

  /// Asks the language about code; answered between cells.
  ///
  /// # Errors
  /// When the kernel is dead or has no time to answer.
  pub async fn ask(&self, question: Question) -> Result<JsonText, KernelError> {
    match self.answered(|id| Request::Ask { id, question }).await? {
      Answer::Code(answer) => Ok(answer),
      Answer::File(_) => Err(odd_answer()),
    }
  }

  /// Does a step with the files of the kernel.
  ///
  /// # Errors
  /// When the kernel is dead or has no time to answer.
  pub async fn file(&self, request: FileRequest) -> Result<FileReply, KernelError> {
    match self.answered(|id| Request::File { id, request }).await? {
      Answer::File(reply) => Ok(reply),
      Answer::Code(_) => Err(odd_answer()),
    }
  }

  /// Starts to watch files. `opened` is called with the watch's id before the request is sent; `None`
  /// sends nothing.
  ///
  /// # Errors
  /// When the kernel is dead or has no time to answer.
  pub(crate) async fn watch<T>(
    &self,
    path: String,
    opened: impl FnOnce(u64) -> Option<T>,
  ) -> Result<Option<(T, FileReply)>, KernelError> {
    let question = self.questions.open().ok_or_else(busy)?;
    let id = question.id;
    let Some(open) = opened(id) else {
      return Ok(None);
    };
    match self
      .answer_to(question, Request::Watch { id, path })
      .await?
    {
      Answer::File(reply) => Ok(Some((open, reply))),
      Answer::Code(_) => Err(odd_answer()),
    }
  }

  /// Ends a watch. Each was opened by a request that was bounded, and so is this.
  pub(crate) fn unwatch(&self, id: u64) {
    self.watches.close(id);
    if let Phase::Up(host) = &self.lock().phase {
      host.send(&Request::Unwatch { id });
    }
  }

  /// Sends a request and waits for the answer to it.
  async fn answered(&self, request: impl FnOnce(u64) -> Request) -> Result<Answer, KernelError> {
    let question = self.questions.open().ok_or_else(busy)?;
    let request = request(question.id);
    self.answer_to(question, request).await
  }

  /// Sends a request that asks an open question, and waits for the answer to it.
  async fn answer_to(
    &self,
    mut question: OpenQuestion<'_>,
    request: Request,
  ) -> Result<Answer, KernelError> {
    {
      let mut state = self.lock();
      state.last_activity = Instant::now();
      let sent = state.host()?.try_send(&request);
      sent.map_err(|Unread| busy())?;
    }
    // It may be large, and the answer takes its time.
    drop(request);
    match tokio::time::timeout(ANSWER_TIMEOUT, question.answered()).await {
      Ok(Some(answer)) => Ok(answer),
      Ok(None) => Err(KernelError::Conflict(
        "The kernel ended before it could answer".into(),
      )),
      Err(_) => Err(KernelError::TookTooLong(
        "The kernel is busy and did not answer in time: wait for the cell or interrupt it".into(),
      )),
    }
  }

  fn lock(&self) -> MutexGuard<'_, State> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

fn busy() -> KernelError {
  KernelError::LimitReached(
    "too many questions wait for this kernel already: wait for the cell or interrupt it".into(),
  )
}

fn odd_answer() -> KernelError {
  KernelError::Host("the kernel answered something else than it was asked".into())
}

impl State {
  /// The host, while it is up.
  fn host(&self) -> Result<&HostHandle, KernelError> {
    match &self.phase {
      Phase::Up(host) => Ok(host),
      Phase::Restarting => Err(KernelError::Conflict("The kernel is restarting".into())),
      Phase::Dead(reason) => Err(KernelError::Conflict(format!(
        "Kernel is dead ({reason}): restart it first"
      ))),
      Phase::Removed => Err(KernelError::NotFound),
    }
  }

  fn take_unfinished(&mut self) -> Vec<Arc<Execution>> {
    self.awaits_input = false;
    self
      .running
      .take()
      .into_iter()
      .chain(self.queue.drain(..))
      .collect()
  }
}
