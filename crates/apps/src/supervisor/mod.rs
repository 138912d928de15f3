//! Supervises one app: a task that takes commands and the events of the app's instances, and after each
//! of them does what is due and updates the snapshot that others see.
//!
//! At most one instance *serves*: it is the app. Another may be its *replacement*. All others have been
//! asked to stop.

mod events;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::AppError;
use crate::id::AppId;
use crate::instance::InstanceEvent;
use crate::instance::Launch;
use crate::instance::Launcher;
use crate::log::AppLog;
use crate::log::Level;
use crate::restart::Backoff;
use crate::runner::EventSender;
use crate::runner::Runner;
use crate::runner::StopLevel;
use crate::snapshot::Snapshot;
use crate::spec::AppSpec;
use crate::status::AppState;
use crate::status::AppStatus;

/// How long a replacement may run before it listens. After that it serves anyway.
const READY_TIME: Duration = Duration::from_secs(10);

/// Finds the app that has declared a port or listens on it.
pub(crate) type PortHolder = Arc<dyn Fn(u16) -> Option<AppId> + Send + Sync>;

/// Takes the result of a command.
pub(crate) type Reply = oneshot::Sender<Result<(), AppError>>;

pub(crate) enum Command {
  Start,
  /// Stop, at once or gracefully.
  Stop(StopLevel),
  /// Start anew, as this if there is something.
  Reload(Option<Arc<AppSpec>>),
  /// Stop for good.
  Close,
}

pub(crate) struct Supervisor {
  id: AppId,
  log: Arc<AppLog>,
  launcher: Arc<dyn Launcher>,
  holder_of: PortHolder,
  commands: mpsc::Receiver<(Command, Reply)>,
  events: mpsc::UnboundedReceiver<(u64, InstanceEvent)>,
  event_sender: EventSender,
  snapshot: watch::Sender<Snapshot>,

  spec: Arc<AppSpec>,
  state: AppState,
  reason: Option<String>,
  exit_code: Option<i32>,
  since: DateTime<Utc>,
  restarts: u64,
  /// Number of the last instance.
  number: u64,
  /// Every instance that is not gone.
  runners: BTreeMap<u64, Runner>,
  serving: Option<u64>,
  replacement: Option<Replacement>,
  /// When the next instance is due.
  launch_at: Option<Instant>,
  backoff: Backoff,
  /// Replies that are sent once all instances are gone.
  stopping: Vec<Reply>,
  closing: bool,
  /// Replies that are sent once the snapshot shows their results.
  replies: Vec<(Reply, Result<(), AppError>)>,
}

/// An instance that will replace the one that serves.
struct Replacement {
  number: u64,
  spec: Arc<AppSpec>,
  reply: Reply,
  /// When it serves even though it does not listen.
  serves_at: Option<Instant>,
}

impl Supervisor {
  pub(crate) fn new(
    spec: Arc<AppSpec>,
    log: Arc<AppLog>,
    launcher: Arc<dyn Launcher>,
    holder_of: PortHolder,
    commands: mpsc::Receiver<(Command, Reply)>,
  ) -> (Self, watch::Receiver<Snapshot>) {
    let (event_sender, events) = mpsc::unbounded_channel();
    let (snapshot, receiver) = watch::channel(Snapshot::new(spec.clone()));
    let supervisor = Self {
      id: spec.manifest.id.clone(),
      log,
      launcher,
      holder_of,
      commands,
      events,
      event_sender,
      snapshot,
      spec,
      state: AppState::Starting,
      reason: None,
      exit_code: None,
      since: Utc::now(),
      restarts: 0,
      number: 0,
      runners: BTreeMap::new(),
      serving: None,
      replacement: None,
      launch_at: Some(Instant::now()),
      backoff: Backoff::default(),
      stopping: Vec::new(),
      closing: false,
      replies: Vec::new(),
    };
    (supervisor, receiver)
  }

  pub(crate) async fn run(mut self) {
    loop {
      self.do_due();
      self.update_snapshot();
      if self.closing && self.runners.is_empty() {
        break;
      }
      let deadline = self.deadline();
      tokio::select! {
        biased;
        command = self.commands.recv(), if !self.closing => match command {
          Some((command, reply)) => self.on_command(command, reply),
          None => self.stop(StopLevel::Stop, None, true),
        },
        () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        Some((number, event)) = self.events.recv() => self.on_event(number, event),
      }
    }
    self.log.close();
  }

  // ------------------------------------------------------------ time

  /// Whether the next launch still has to wait for an instance that is stopping.
  fn is_blocked(&self) -> bool {
    self.runners.values().any(Runner::is_ending)
  }

  fn deadline(&self) -> Option<Instant> {
    let launch = self.launch_at.filter(|_| !self.is_blocked());
    let serves = self
      .replacement
      .as_ref()
      .and_then(|replacement| replacement.serves_at);
    launch.into_iter().chain(serves).min()
  }

  fn do_due(&mut self) {
    let now = Instant::now();
    if self.runners.is_empty() && !self.stopping.is_empty() {
      if self.launch_at.is_none() {
        self.set_state(AppState::Stopped, None, None);
      }
      let stopped = self.stopping.drain(..).map(|reply| (reply, Ok(())));
      self.replies.extend(stopped);
    }
    if self.launch_at.is_some_and(|at| at <= now) && !self.is_blocked() {
      self.launch_at = None;
      self.serving = Some(self.launch(self.spec.clone()));
    }
    let serves_at = self
      .replacement
      .as_ref()
      .and_then(|replacement| replacement.serves_at);
    if serves_at.is_some_and(|at| at <= now) {
      self.replace();
    }
  }

  fn launch(&mut self, spec: Arc<AppSpec>) -> u64 {
    self.number += 1;
    let launch = Launch {
      app: self.id.clone(),
      number: self.number,
      spec,
      log: self.log.clone(),
    };
    let runner = Runner::start(launch, self.launcher.clone(), self.event_sender.clone());
    self.runners.insert(self.number, runner);
    self.number
  }

  // ------------------------------------------------------------ commands

  fn on_command(&mut self, command: Command, reply: Reply) {
    match command {
      Command::Start => {
        let runs =
          self.serving.is_some() && !matches!(self.state, AppState::Exited | AppState::Failed);
        if !runs {
          self.start_anew();
        }
        self.replies.push((reply, Ok(())));
      }
      Command::Stop(level) => self.stop(level, Some(reply), false),
      Command::Close => self.stop(StopLevel::Stop, Some(reply), true),
      Command::Reload(spec) => self.reload(spec, reply),
    }
  }

  /// Stops what runs, then starts from the beginning.
  fn start_anew(&mut self) {
    self.cancel_replacement("it was started anew");
    if let Some(runner) = self.serving.take().and_then(|n| self.runners.get(&n)) {
      runner.stop(StopLevel::Stop);
    }
    self.backoff = Backoff::default();
    self.launch_at = Some(Instant::now());
    self.set_state(AppState::Starting, None, None);
  }

  fn stop(&mut self, level: StopLevel, reply: Option<Reply>, closing: bool) {
    self.cancel_replacement("it was stopped");
    for runner in self.runners.values() {
      runner.stop(level);
    }
    self.serving = None;
    self.launch_at = None;
    self.closing = closing;
    self.stopping.extend(reply);
  }

  fn reload(&mut self, spec: Option<Arc<AppSpec>>, reply: Reply) {
    let spec = spec.unwrap_or_else(|| self.spec.clone());
    self.cancel_replacement("it was reloaded again");
    if self.can_overlap(&spec) {
      let number = self.launch(spec.clone());
      self.log.note(
        number,
        Level::Info,
        "a new instance starts, to replace the one that serves",
      );
      self.replacement = Some(Replacement {
        number,
        spec,
        reply,
        serves_at: None,
      });
    } else {
      self.spec = spec;
      self.start_anew();
      self.replies.push((reply, Ok(())));
    }
  }

  /// Whether two instances may run side by side: where requests come through the engine alone.
  fn can_overlap(&self, spec: &AppSpec) -> bool {
    let Some(runner) = self.serving.and_then(|n| self.runners.get(&n)) else {
      return false;
    };
    let declared = self.spec.manifest.port.or(spec.manifest.port);
    self.state == AppState::Running && runner.route.is_some() && runner.port.or(declared).is_none()
  }

  fn cancel_replacement(&mut self, why: &str) {
    if let Some(replacement) = self.replacement.take() {
      if let Some(runner) = self.runners.get(&replacement.number) {
        runner.stop(StopLevel::Kill);
      }
      let message = format!("app {} was not reloaded: {why}", self.id);
      self
        .replies
        .push((replacement.reply, Err(AppError::Conflict(message))));
    }
  }

  // ------------------------------------------------------------ snapshot

  fn update_snapshot(&mut self) {
    let runner = self.serving.and_then(|n| self.runners.get(&n));
    let route = runner
      .filter(|_| self.state != AppState::Failed)
      .and_then(|runner| runner.route.clone());
    let instance = runner.and_then(|runner| runner.instance.clone());
    let snapshot = Snapshot {
      spec: self.spec.clone(),
      status: AppStatus {
        state: self.state,
        reason: self.reason.clone(),
        exit_code: self.exit_code,
        since: self.since,
        started: runner
          .and_then(|runner| runner.started)
          .map(|(_, time)| time),
        pid: instance.as_ref().and_then(|instance| instance.pid()),
        restarts: self.restarts,
        instance: self.serving.unwrap_or(self.number),
        ready: route.is_some(),
        port: runner.and_then(|runner| runner.port),
      },
      route,
      instance,
    };
    self.snapshot.send_if_modified(|current| {
      let changed = !current.is_same_as(&snapshot);
      if changed {
        *current = snapshot;
      }
      changed
    });
    for (reply, result) in self.replies.drain(..) {
      let _ = reply.send(result);
    }
  }
}
