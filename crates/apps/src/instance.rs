//! Instances and their launcher as a supervisor sees them; `process.rs` implements both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use app_proxy::Upstream;
use async_trait::async_trait;
use kernels::Execution;
use tokio::sync::mpsc;

use crate::error::AppError;
use crate::id::AppId;
use crate::log::AppLog;
use crate::manifest::Manifest;
use crate::session::SessionFile;
use crate::spec::AppSpec;

/// Launches instances.
#[async_trait]
pub trait Launcher: Send + Sync {
  /// Checks that an app may be launched with this manifest.
  ///
  /// # Errors
  /// When it asks for more than the operator allows; the message names it.
  fn check(&self, manifest: &Manifest) -> Result<(), AppError>;

  /// Makes the log of a new app.
  fn new_log(&self) -> AppLog;

  /// Writes the files of an app into a folder of its own, which only its processes enter.
  ///
  /// # Errors
  /// When they cannot be written.
  async fn unpack(&self, app: &AppId, files: Vec<SessionFile>) -> Result<PathBuf, AppError>;

  /// Removes what an app that has ended has left on disk.
  async fn forget(&self, app: &AppId);

  /// Starts the process and, in it, the main program. Everything but [`InstanceEvent::Launched`] and
  /// [`End::Refused`] is sent to `events`.
  ///
  /// # Errors
  /// When the app asks for more than the operator allows, or no process can be started.
  async fn launch(
    &self,
    launch: Launch,
    events: mpsc::Sender<InstanceEvent>,
  ) -> Result<Arc<dyn Instance>, AppError>;
}

/// A process of an app.
#[async_trait]
pub trait Instance: Send + Sync {
  fn pid(&self) -> Option<u32>;

  /// Asks the process to stop, kills it after `grace`, and returns when it is gone.
  async fn stop(&self, grace: Duration);

  /// Executes code beside the main program.
  ///
  /// # Errors
  /// When the process is gone, or too much code is waiting.
  fn execute(&self, code: String) -> Result<Arc<Execution>, AppError>;
}

/// What an instance is launched with.
pub struct Launch {
  pub app: AppId,
  pub number: u64,
  pub spec: Arc<AppSpec>,
  /// Takes its output.
  pub log: Arc<AppLog>,
}

/// What happens to an instance.
pub enum InstanceEvent {
  /// Its process was started. The first event, unless [`Self::Ended`] is; the task that owns the instance
  /// sends it.
  Launched(Arc<dyn Instance>),
  /// The main program runs.
  Started,
  Listening {
    upstream: Upstream,
    /// The port, if the app chose it itself.
    port: Option<u16>,
  },
  PortTaken {
    port: u16,
  },
  /// The main program has ended. The process lives on, unless [`Self::Ended`] follows.
  Finished {
    code: i32,
  },
  /// The process is gone. The last event.
  Ended(End),
}

/// Why an instance is gone.
pub enum End {
  /// It could not be launched.
  Refused(AppError),
  Ended {
    reason: String,
    /// Exit code as a shell gives it.
    code: Option<i32>,
  },
}

impl End {
  /// An end without an exit code.
  pub fn because(reason: impl Into<String>) -> Self {
    Self::Ended {
      reason: reason.into(),
      code: None,
    }
  }
}
