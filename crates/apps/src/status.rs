//! Status of an app.

use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppState {
  /// Its program does not run yet.
  Starting,
  /// Its program runs.
  Running,
  /// Its program ended well; its process is kept, so that code can be executed in it.
  Exited,
  /// It failed and is not started again.
  Failed,
  /// It ended, and is being started again or will be soon.
  Restarting,
  /// It was stopped.
  Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
  pub state: AppState,
  /// Why it is in this state, if the state alone does not tell.
  pub reason: Option<String>,
  /// Exit code of the program that ended last.
  pub exit_code: Option<i32>,
  /// When it entered this state.
  pub since: DateTime<Utc>,
  /// When the running program was started.
  pub started: Option<DateTime<Utc>>,
  pub pid: Option<u32>,
  /// How often it was restarted because it had ended.
  pub restarts: u64,
  /// Number of its instance, counted from 1; 0 if there was none yet.
  pub instance: u64,
  /// Whether it listens, so that requests can be forwarded to it.
  pub ready: bool,
  /// The port of its own that it listens on.
  pub port: Option<u16>,
}

impl AppStatus {
  /// Whether waiting can make it ready.
  pub fn may_become_ready(&self) -> bool {
    matches!(
      self.state,
      AppState::Starting | AppState::Running | AppState::Restarting
    )
  }
}
