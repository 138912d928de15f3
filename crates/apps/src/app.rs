//! One app. Faces look at it; only the manager, which knows the caller, changes it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use app_proxy::route::Lease;
use chrono::DateTime;
use chrono::Utc;
use kernels::Execution;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::error::AppError;
use crate::id::AppId;
use crate::instance::Launcher;
use crate::log::AppLog;
use crate::runner::StopLevel;
use crate::snapshot::Snapshot;
use crate::spec::AppSpec;
use crate::stats::AppStats;
use crate::stats::Sampler;
use crate::status::AppState;
use crate::status::AppStatus;
use crate::supervisor::Command;
use crate::supervisor::PortHolder;
use crate::supervisor::Reply;
use crate::supervisor::Supervisor;

/// Commands that may wait for the supervisor, which takes each at once.
const COMMAND_BUFFER: usize = 16;

pub struct App {
  pub id: AppId,
  pub added: DateTime<Utc>,
  pub log: Arc<AppLog>,
  snapshot: watch::Receiver<Snapshot>,
  commands: mpsc::Sender<(Command, Reply)>,
  sampler: Arc<Mutex<Sampler>>,
}

/// Follows the status of an app.
#[cfg(test)]
pub struct AppWatch(watch::Receiver<Snapshot>);

#[cfg(test)]
impl AppWatch {
  /// The status after the next change; `None` if the app is gone.
  pub async fn changed(&mut self) -> Option<AppStatus> {
    self.0.changed().await.ok()?;
    Some(self.0.borrow_and_update().status.clone())
  }
}

impl App {
  /// Starts the app, in the background. Dropping it stops it.
  pub(crate) fn start_new(
    spec: AppSpec,
    launcher: Arc<dyn Launcher>,
    holder_of: PortHolder,
  ) -> Arc<Self> {
    let id = spec.manifest.id.clone();
    let log = Arc::new(launcher.new_log());
    let (commands, obeyed) = mpsc::channel(COMMAND_BUFFER);
    let (supervisor, snapshot) =
      Supervisor::new(Arc::new(spec), log.clone(), launcher, holder_of, obeyed);
    tokio::spawn(supervisor.run());
    Arc::new(Self {
      id,
      added: Utc::now(),
      log,
      snapshot,
      commands,
      sampler: Arc::default(),
    })
  }

  // ------------------------------------------------------------ status

  pub fn spec(&self) -> Arc<AppSpec> {
    self.snapshot.borrow().spec.clone()
  }

  pub fn status(&self) -> AppStatus {
    self.snapshot.borrow().status.clone()
  }

  /// Waits until it is no longer starting, and returns its status.
  pub async fn settled(&self) -> AppStatus {
    let mut snapshot = self.snapshot.clone();
    // An error means that the app is gone; its last snapshot stays.
    let _ = snapshot
      .wait_for(|snapshot| snapshot.status.state != AppState::Starting)
      .await;
    self.status()
  }

  /// Waits until it has failed and is not started again, or is gone.
  pub async fn failed(&self) {
    let mut snapshot = self.snapshot.clone();
    let failed = |snapshot: &Snapshot| snapshot.status.state == AppState::Failed;
    // An error means that the app is gone.
    let _ = snapshot.wait_for(failed).await;
  }

  /// Follows its status, from now on.
  #[cfg(test)]
  pub fn watch(&self) -> AppWatch {
    AppWatch(self.snapshot.clone())
  }

  /// Measures what it uses now.
  pub async fn stats(&self) -> AppStats {
    let status = self.status();
    let sampler = self.sampler.clone();
    let sample = move |pid| {
      sampler
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .sample(pid)
    };
    let process = match status.pid {
      Some(pid) => tokio::task::spawn_blocking(move || sample(pid))
        .await
        .unwrap_or_default(),
      None => crate::stats::ProcessStats::default(),
    };
    let runs = status.state == AppState::Running;
    let uptime = status
      .started
      .filter(|_| runs)
      .and_then(|at| (Utc::now() - at).to_std().ok());
    AppStats {
      uptime: uptime.map(|time| time.as_secs_f64()),
      restarts: status.restarts,
      process,
    }
  }

  // ------------------------------------------------------------ life

  /// Starts it, unless it runs or is about to.
  ///
  /// # Errors
  /// When it was deleted.
  pub(crate) async fn start(&self) -> Result<(), AppError> {
    self.command(Command::Start).await
  }

  /// Asks it to stop, kills it after a grace period, and returns when it is gone.
  ///
  /// # Errors
  /// When it was deleted.
  pub(crate) async fn stop(&self) -> Result<(), AppError> {
    self.command(Command::Stop(StopLevel::Stop)).await
  }

  /// Kills it.
  ///
  /// # Errors
  /// When it was deleted.
  #[cfg(test)]
  pub async fn kill(&self) -> Result<(), AppError> {
    self.command(Command::Stop(StopLevel::Kill)).await
  }

  /// Starts it anew, as `spec` if there is one, and returns when it runs. Where two instances may run
  /// side by side, the new one is up before the old one is stopped, and no request is lost.
  ///
  /// # Errors
  /// When the new instance does not come up. The old one then goes on, unless it had to be stopped
  /// first.
  pub(crate) async fn reload(&self, spec: Option<Arc<AppSpec>>) -> Result<AppStatus, AppError> {
    self.command(Command::Reload(spec)).await?;
    let status = self.settled().await;
    match status.state {
      AppState::Failed | AppState::Restarting => Err(AppError::Host(format!(
        "app {} was reloaded, but does not come up: {}",
        self.id,
        status.reason.as_deref().unwrap_or("for no known reason")
      ))),
      _ => Ok(status),
    }
  }

  /// Stops it for good.
  pub(crate) async fn close(&self) {
    // An error means that this was done before.
    let _ = self.command(Command::Close).await;
  }

  async fn command(&self, command: Command) -> Result<(), AppError> {
    let gone = || AppError::NotFound(self.id.to_string());
    let (answer, answered) = oneshot::channel();
    self
      .commands
      .send((command, answer))
      .await
      .map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
  }

  // ------------------------------------------------------------ use

  /// Returns where to send a request; waits for an app that is about to listen. Keep the lease until the
  /// answer has gone.
  ///
  /// # Errors
  /// `Conflict` when the app does not run, `Unavailable` when it does not listen in time.
  pub(crate) async fn upstream(&self, wait: Duration) -> Result<Lease, AppError> {
    let mut snapshot = self.snapshot.clone();
    let decided =
      |snapshot: &Snapshot| snapshot.route.is_some() || !snapshot.status.may_become_ready();
    let waited = tokio::time::timeout(wait, snapshot.wait_for(decided)).await;
    let (may_come, status) = match waited {
      Ok(Ok(snapshot)) => match &snapshot.route {
        // Counted while the snapshot cannot change: an instance that is replaced later waits for this
        // request.
        Some(route) => return Ok(route.lease()),
        None => (false, snapshot.status.clone()),
      },
      Ok(Err(_)) => return Err(AppError::NotFound(self.id.to_string())),
      Err(_) => (true, self.status()),
    };
    Err(self.no_upstream(may_come, &status))
  }

  fn no_upstream(&self, may_come: bool, status: &AppStatus) -> AppError {
    let id = &self.id;
    let why = status
      .reason
      .as_ref()
      .map(|reason| format!(" ({reason})"))
      .unwrap_or_default();
    if !may_come {
      let what = match status.state {
        AppState::Stopped => "is stopped; start it",
        AppState::Exited => "has ended and does not listen; let its program serve, or reload it",
        _ => "has failed; look into its log, then reload it",
      };
      return AppError::Conflict(format!("app {id} {what}{why}"));
    }
    let what = match status.state {
      AppState::Running => "runs, but does not listen; let its program serve HTTP",
      AppState::Restarting => "is being restarted; try again soon",
      _ => "is starting; try again soon",
    };
    AppError::Unavailable(format!("app {id} {what}{why}"))
  }

  /// Executes code in the process of the app.
  ///
  /// # Errors
  /// `Conflict` when there is none.
  pub(crate) fn execute(&self, code: String) -> Result<Arc<Execution>, AppError> {
    let instance = self.snapshot.borrow().instance.clone();
    match instance {
      Some(instance) => instance.execute(code),
      None => Err(AppError::Conflict(format!(
        "app {} has no process to execute code in; start it first",
        self.id
      ))),
    }
  }
}
