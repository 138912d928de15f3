//! Sessions: apps that another system starts and ends, such as the controller of a Hypha server. They are kept
//! nowhere, and leave nothing behind.

use std::path::Component;
use std::path::PathBuf;
use std::sync::Arc;

use access::Caller;
use access::Right;
use sha2::Digest;
use sha2::Sha256;

use crate::app::App;
use crate::error::AppError;
use crate::id::AppId;
use crate::log::LogStream;
use crate::manager::AppManager;
use crate::manager::may;
use crate::manifest::Manifest;
use crate::manifest::WrittenManifest;
use crate::spec::AppSpec;
use crate::spec::Source;
use crate::status::AppState;

/// Most characters of a session's name that go into the id of its app.
const NAME: usize = 80;
/// Lines of output in the error of a program that does not start.
const LINES: usize = 20;

/// What a session is started with.
#[derive(Debug, Clone)]
pub struct NewSession {
  /// By which the other system knows it.
  pub id: String,
  /// On whose account it is: no owner gets more than half of all apps.
  pub owner: String,
  /// What people call it.
  pub name: String,
  pub manifest: WrittenManifest,
  /// What the manifest's `entry` is one of; none for a program that stands in the manifest.
  pub files: Vec<SessionFile>,
}

/// A file of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFile {
  /// Relative, and without `..`.
  pub path: PathBuf,
  pub content: Vec<u8>,
}

impl AppManager {
  /// Starts a session, and returns once its program runs.
  ///
  /// # Errors
  /// When the caller is not the operator, the session exists, the manifest is wrong, there are too many apps, or
  /// the program does not start. Nothing is left of it then.
  pub async fn start_session(
    &self,
    caller: &Caller,
    session: NewSession,
  ) -> Result<Arc<App>, AppError> {
    may(caller, Right::Operate)?;
    let id = app_id(&session.name, &session.id)?;
    let manifest = session.manifest.check(Some(id.clone()))?;
    self.check_session(&manifest, &session.owner)?;
    let source = Source::Session {
      id: session.id,
      owner: session.owner,
    };
    let spec = self.session_spec(manifest, source, session.files).await;
    let app = match spec.and_then(|spec| self.add(spec)) {
      Ok(app) => app,
      Err(error) => {
        self.launcher.forget(&id).await;
        return Err(error);
      }
    };
    let status = app.settled().await;
    if matches!(status.state, AppState::Failed | AppState::Restarting) {
      let said = app.log.last(usize::MAX);
      let said = said
        .iter()
        .filter(|entry| entry.stream != LogStream::Engine);
      let lines: Vec<&str> = said.map(|entry| entry.text.as_str()).take(LINES).collect();
      let reason = status.reason.as_deref().unwrap_or("for no known reason");
      self.remove(&id).await?;
      return Err(AppError::Invalid(format!(
        "the program does not start: {reason}\n{}",
        lines.join("\n")
      )));
    }
    Ok(app)
  }

  /// Ends a session; `false` if there is none with this id.
  ///
  /// # Errors
  /// When the caller is not the operator.
  pub async fn end_session(&self, caller: &Caller, id: &str) -> Result<bool, AppError> {
    may(caller, Right::Operate)?;
    let Some(app) = self.session(id) else {
      return Ok(false);
    };
    match self.remove(&app.id).await {
      Ok(()) => Ok(true),
      // Somebody else was faster.
      Err(AppError::NotFound(_)) => Ok(false),
      Err(error) => Err(error),
    }
  }

  /// Lists the sessions of an owner.
  ///
  /// # Errors
  /// When the caller may not see apps.
  pub fn sessions(&self, caller: &Caller, owner: &str) -> Result<Vec<Arc<App>>, AppError> {
    may(caller, Right::Read)?;
    let mut apps = self.all();
    apps
      .retain(|app| matches!(&app.spec().source, Source::Session { owner: it, .. } if it == owner));
    Ok(apps)
  }

  fn session(&self, id: &str) -> Option<Arc<App>> {
    let is_it =
      |app: &Arc<App>| matches!(&app.spec().source, Source::Session { id: it, .. } if it == id);
    self.all().into_iter().find(is_it)
  }

  async fn session_spec(
    &self,
    manifest: Manifest,
    source: Source,
    files: Vec<SessionFile>,
  ) -> Result<AppSpec, AppError> {
    if manifest.entry.is_none() {
      return AppSpec::of_script(manifest, source);
    }
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
    if let Some(odd) = files.iter().find(|file| !file.path.components().all(plain)) {
      let path = odd.path.display();
      return Err(AppError::Invalid(format!(
        "{path} is not a path inside the app's folder"
      )));
    }
    let folder = self.launcher.unpack(&manifest.id, files).await?;
    let spec = AppSpec::of_folder(manifest, folder)?;
    Ok(AppSpec { source, ..spec })
  }

  fn check_session(&self, manifest: &Manifest, owner: &str) -> Result<(), AppError> {
    self.launcher.check(manifest)?;
    // Its files must not be written over those of one that runs.
    if self.find(&manifest.id).is_ok() {
      return Err(AppError::Exists(manifest.id.to_string()));
    }
    let most = (self.max_count / 2).max(1);
    if self.sessions(&Caller::operator(), owner)?.len() >= most {
      return Err(AppError::LimitReached(format!(
        "{owner} has {most} sessions already, half of the apps that this server allows (APPS_MAX_COUNT): stop one \
         first"
      )));
    }
    Ok(())
  }
}

/// The id of a session's app: its name, for people, and a digest that no other session has.
fn app_id(name: &str, session: &str) -> Result<AppId, AppError> {
  let digest = Sha256::digest(session);
  let digest = hex::encode(&digest[..6]);
  let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
  let name: String = name.chars().take(NAME).map(plain).collect();
  AppId::new(&format!("{name}-{digest}"))
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn any_name_makes_an_id_and_sessions_have_different_ones() {
    let id = |name: &str, session: &str| app_id(name, session).expect("an id");
    for name in ["", "..", "a/b c", "é", &"x".repeat(500)] {
      assert_ne!(id(name, "w/1"), id(name, "w/2"), "{name}");
    }
    assert!(id("my-app", "w/1").as_str().starts_with("my-app-"));
  }
}
