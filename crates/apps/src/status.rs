//! What an app shows of itself.

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
  /// It failed and stays so.
  Failed,
  /// It ended and is started again, soon or just now.
  Restarting,
  /// Somebody stopped it.
  Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
  pub state: AppState,
  /// Why it is in this state, where that is not plain.
  pub reason: Option<String>,
  /// Of the program that ended last.
  pub exit_code: Option<i32>,
  /// When it came into this state.
  pub since: DateTime<Utc>,
  /// When the program that runs was started.
  pub started: Option<DateTime<Utc>>,
  pub pid: Option<u32>,
  /// How often it was restarted because it had ended.
  pub restarts: u64,
  /// Which instance it is, counted from 1; 0 when there was none yet.
  pub instance: u64,
  /// Whether it listens, so that requests can be passed on to it.
  pub ready: bool,
  /// The port it listens on, when it has bound one of its own.
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
