//! Keeps one app as it is wanted: a task that obeys commands, hears of the app's instances, and after
//! each of them does what is due and shows how things stand.
//!
//! At most one instance *serves*: it is the app. Another may be *coming*, to replace it. All others
//! have been told to end.

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

use crate::AppError;
use crate::AppId;
use crate::face::Face;
use crate::instance::Launch;
use crate::instance::Launcher;
use crate::log::AppLog;
use crate::log::Level;
use crate::restart::Backoff;
use crate::runner::News;
use crate::runner::NewsSender;
use crate::runner::Order;
use crate::runner::Runner;
use crate::spec::AppSpec;
use crate::status::AppState;

/// How long an instance that replaces another may run before it listens; then it serves all the same.
const READY_TIME: Duration = Duration::from_secs(10);

/// Finds the app that has declared a port or listens on it.
pub type PortHolder = Arc<dyn Fn(u16) -> Option<AppId> + Send + Sync>;

pub type Answer = oneshot::Sender<Result<(), AppError>>;

pub enum Command {
  Start,
  /// Stop, at once or gracefully.
  Stop(Order),
  /// Start anew, perhaps as something else.
  Reload(Option<Arc<AppSpec>>),
  /// Stop for good.
  Close,
}

pub struct Supervisor {
  id: AppId,
  log: Arc<AppLog>,
  launcher: Arc<dyn Launcher>,
  holder_of: PortHolder,
  commands: mpsc::Receiver<(Command, Answer)>,
  news: mpsc::UnboundedReceiver<(u64, News)>,
  news_sender: NewsSender,
  face: watch::Sender<Face>,

  spec: Arc<AppSpec>,
  state: AppState,
  reason: Option<String>,
  exit_code: Option<i32>,
  since: DateTime<Utc>,
  restarts: u64,
  /// Of the last instance.
  number: u64,
  /// Every instance that is not gone.
  runners: BTreeMap<u64, Runner>,
  serving: Option<u64>,
  coming: Option<Coming>,
  /// When the next instance is due.
  launch_at: Option<Instant>,
  backoff: Backoff,
  /// Those who wait until all instances are gone.
  stopping: Vec<Answer>,
  closing: bool,
  /// Answers that are sent once the face shows what they tell.
  answers: Vec<(Answer, Result<(), AppError>)>,
}

/// An instance that is to replace the one that serves.
struct Coming {
  number: u64,
  spec: Arc<AppSpec>,
  answer: Answer,
  /// When it serves although it does not listen.
  serves_at: Option<Instant>,
}

impl Supervisor {
  pub fn new(
    spec: Arc<AppSpec>,
    log: Arc<AppLog>,
    launcher: Arc<dyn Launcher>,
    holder_of: PortHolder,
    commands: mpsc::Receiver<(Command, Answer)>,
  ) -> (Self, watch::Receiver<Face>) {
    let (news_sender, news) = mpsc::unbounded_channel();
    let (face, shown) = watch::channel(Face::new(spec.clone()));
    let supervisor = Self {
      id: spec.manifest.id.clone(),
      log,
      launcher,
      holder_of,
      commands,
      news,
      news_sender,
      face,
      spec,
      state: AppState::Starting,
      reason: None,
      exit_code: None,
      since: Utc::now(),
      restarts: 0,
      number: 0,
      runners: BTreeMap::new(),
      serving: None,
      coming: None,
      launch_at: Some(Instant::now()),
      backoff: Backoff::default(),
      stopping: Vec::new(),
      closing: false,
      answers: Vec::new(),
    };
    (supervisor, shown)
  }

  pub async fn run(mut self) {
    loop {
      self.do_what_is_due();
      self.show();
      if self.closing && self.runners.is_empty() {
        break;
      }
      let alarm = self.alarm();
      tokio::select! {
        biased;
        command = self.commands.recv(), if !self.closing => match command {
          Some((command, answer)) => self.obey(command, answer),
          None => self.stop(Order::Stop, None, true),
        },
        () = tokio::time::sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {}
        Some((number, news)) = self.news.recv() => self.hear(number, news),
      }
    }
    self.log.close();
  }

  // ------------------------------------------------------------ time

  /// Whether an instance that must be gone before the next is launched is still there.
  fn is_blocked(&self) -> bool {
    self.runners.values().any(Runner::is_ending)
  }

  fn alarm(&self) -> Option<Instant> {
    let launch = self.launch_at.filter(|_| !self.is_blocked());
    let serves = self.coming.as_ref().and_then(|coming| coming.serves_at);
    launch.into_iter().chain(serves).min()
  }

  fn do_what_is_due(&mut self) {
    let now = Instant::now();
    if self.runners.is_empty() && !self.stopping.is_empty() {
      if self.launch_at.is_none() {
        self.become_state(AppState::Stopped, None, None);
      }
      let stopped = self.stopping.drain(..).map(|answer| (answer, Ok(())));
      self.answers.extend(stopped);
    }
    if self.launch_at.is_some_and(|at| at <= now) && !self.is_blocked() {
      self.launch_at = None;
      self.serving = Some(self.launch(self.spec.clone()));
    }
    let serves_at = self.coming.as_ref().and_then(|coming| coming.serves_at);
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
    let runner = Runner::start(launch, self.launcher.clone(), self.news_sender.clone());
    self.runners.insert(self.number, runner);
    self.number
  }

  // ------------------------------------------------------------ commands

  fn obey(&mut self, command: Command, answer: Answer) {
    match command {
      Command::Start => {
        let runs =
          self.serving.is_some() && !matches!(self.state, AppState::Exited | AppState::Failed);
        if !runs {
          self.start_anew();
        }
        self.answers.push((answer, Ok(())));
      }
      Command::Stop(order) => self.stop(order, Some(answer), false),
      Command::Close => self.stop(Order::Stop, Some(answer), true),
      Command::Reload(spec) => self.reload(spec, answer),
    }
  }

  /// Ends what there is, then starts from the beginning.
  fn start_anew(&mut self) {
    self.dismiss_coming("it was started anew");
    if let Some(runner) = self.serving.take().and_then(|n| self.runners.get(&n)) {
      runner.order(Order::Stop);
    }
    self.backoff = Backoff::default();
    self.launch_at = Some(Instant::now());
    self.become_state(AppState::Starting, None, None);
  }

  fn stop(&mut self, order: Order, answer: Option<Answer>, closing: bool) {
    self.dismiss_coming("it was stopped");
    for runner in self.runners.values() {
      runner.order(order);
    }
    self.serving = None;
    self.launch_at = None;
    self.closing = closing;
    self.stopping.extend(answer);
  }

  fn reload(&mut self, spec: Option<Arc<AppSpec>>, answer: Answer) {
    let spec = spec.unwrap_or_else(|| self.spec.clone());
    self.dismiss_coming("it was reloaded again");
    if self.can_overlap(&spec) {
      let number = self.launch(spec.clone());
      self.log.note(
        number,
        Level::Info,
        "a new instance starts, to replace the one that serves",
      );
      self.coming = Some(Coming {
        number,
        spec,
        answer,
        serves_at: None,
      });
    } else {
      self.spec = spec;
      self.start_anew();
      self.answers.push((answer, Ok(())));
    }
  }

  /// Two instances may run side by side when requests come through the engine alone.
  fn can_overlap(&self, spec: &AppSpec) -> bool {
    let Some(runner) = self.serving.and_then(|n| self.runners.get(&n)) else {
      return false;
    };
    let declared = self.spec.manifest.port.or(spec.manifest.port);
    self.state == AppState::Running && runner.route.is_some() && runner.port.or(declared).is_none()
  }

  fn dismiss_coming(&mut self, why: &str) {
    if let Some(coming) = self.coming.take() {
      if let Some(runner) = self.runners.get(&coming.number) {
        runner.order(Order::Kill);
      }
      let message = format!("app {} was not reloaded: {why}", self.id);
      self
        .answers
        .push((coming.answer, Err(AppError::Conflict(message))));
    }
  }

  // ------------------------------------------------------------ what others see

  fn show(&mut self) {
    let runner = self.serving.and_then(|n| self.runners.get(&n));
    let route = runner
      .filter(|_| self.state != AppState::Failed)
      .and_then(|runner| runner.route.clone());
    let instance = runner.and_then(|runner| runner.instance.clone());
    let face = Face {
      spec: self.spec.clone(),
      status: super::AppStatus {
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
    self.face.send_if_modified(|shown| {
      let changed = !shown.shows_the_same(&face);
      if changed {
        *shown = face;
      }
      changed
    });
    for (answer, result) in self.answers.drain(..) {
      let _ = answer.send(result);
    }
  }
}
