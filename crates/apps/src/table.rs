//! The table of all apps, and checks of new ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::App;
use crate::error::AppError;
use crate::id::AppId;
use crate::manifest::Manifest;

#[derive(Default)]
pub(crate) struct Apps {
  pub by_id: BTreeMap<AppId, Arc<App>>,
  /// The server is shutting down: nothing may be added.
  pub closed: bool,
}

impl Apps {
  /// Checks that there is room for a new app.
  ///
  /// # Errors
  /// When the server is shutting down, the id or port is taken, or there are too many apps.
  pub(crate) fn check_new(&self, manifest: &Manifest, max_count: usize) -> Result<(), AppError> {
    if self.closed {
      return Err(AppError::Conflict("the server is shutting down".into()));
    }
    if self.by_id.contains_key(&manifest.id) {
      return Err(AppError::Exists(manifest.id.to_string()));
    }
    if self.by_id.len() >= max_count {
      return Err(AppError::LimitReached(format!(
        "{max_count} apps exist already, the most this server allows (APPS_MAX_COUNT): delete one \
         first"
      )));
    }
    self.check_port(manifest)
  }

  /// Checks that no other app has the port of this one.
  ///
  /// # Errors
  /// When one has; it is named.
  pub(crate) fn check_port(&self, manifest: &Manifest) -> Result<(), AppError> {
    let Some(port) = manifest.port else {
      return Ok(());
    };
    match self.holder_of(port, Some(&manifest.id)) {
      None => Ok(()),
      Some(holder) => Err(AppError::Conflict(format!(
        "port: {port} is the port of app {holder}; choose another"
      ))),
    }
  }

  /// The app that has declared a port or listens on it, other than `except`.
  pub(crate) fn holder_of(&self, port: u16, except: Option<&AppId>) -> Option<AppId> {
    let holds = |app: &&Arc<App>| {
      let declared = app.spec().manifest.port;
      except != Some(&app.id) && (declared == Some(port) || app.status().port == Some(port))
    };
    self.by_id.values().find(holds).map(|app| app.id.clone())
  }
}
