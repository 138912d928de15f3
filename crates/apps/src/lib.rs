//! Apps: programs that the engine loads, runs and keeps alive. What a face offers is a method of
//! [`AppManager`], which takes the [`access::Caller`] first; an [`App`] is what it looks at.

mod app;
mod endpoint;
mod error;
mod folder;
mod instance;
mod label;
mod log;
mod manager;
mod manifest;
mod ports;
mod process;
mod published;
mod restart;
mod runner;
pub mod script;
mod snapshot;
mod spec;
mod stats;
mod status;
mod store;
mod supervisor;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

pub use self::app::App;
pub use self::endpoint::Endpoint;
pub use self::endpoint::ForwardError;
pub use self::error::AppError;
pub use self::folder::RefusedApp;
pub use self::instance::End;
pub use self::instance::Instance;
pub use self::instance::InstanceEvent;
pub use self::instance::Launch;
pub use self::instance::Launcher;
pub use self::log::AppLog;
pub use self::log::Level;
pub use self::log::LogEntry;
pub use self::log::LogFollower;
pub use self::log::LogItem;
pub use self::manager::AppManager;
pub use self::manifest::Manifest;
pub use self::manifest::WrittenManifest;
pub use self::process::KernelLauncher;
pub use self::published::Changes;
pub use self::restart::RestartPolicy;
pub use self::spec::AppSpec;
pub use self::spec::Entry;
pub use self::spec::Source;
pub use self::stats::AppStats;
pub use self::status::AppState;
pub use self::status::AppStatus;

/// An app's id, which is also the name of a folder and a segment of URLs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct AppId(String);

impl AppId {
  const MAX_LENGTH: usize = 128;

  /// Checks an id.
  ///
  /// # Errors
  /// When it is empty, too long, starts with a dot or holds a character that ids may not have.
  pub fn new(id: &str) -> Result<Self, AppError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if id.is_empty()
      || id.len() > Self::MAX_LENGTH
      || id.starts_with('.')
      || !id.chars().all(allowed)
    {
      let shown: String = id.chars().take(Self::MAX_LENGTH).collect();
      return Err(AppError::Invalid(format!(
        "id: `{shown}` cannot be the id of an app: use 1 to {} characters of A-Z a-z 0-9 _ - . and \
         no dot at the start",
        Self::MAX_LENGTH
      )));
    }
    Ok(Self(id.to_owned()))
  }

  pub fn as_str(&self) -> &str {
    &self.0
  }

  /// Label of the app in host names. No two apps share one.
  pub fn label(&self) -> String {
    label::of(self)
  }
}

impl fmt::Display for AppId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}

impl FromStr for AppId {
  type Err = AppError;

  fn from_str(id: &str) -> Result<Self, AppError> {
    Self::new(id)
  }
}

impl TryFrom<String> for AppId {
  type Error = AppError;

  fn try_from(id: String) -> Result<Self, AppError> {
    Self::new(&id)
  }
}

impl From<AppId> for String {
  fn from(id: AppId) -> Self {
    id.0
  }
}
