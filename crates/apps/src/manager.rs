//! All apps of the engine.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::Weak;
use std::time::Duration;

use access::Caller;
use access::Denied;
use access::Right;
use hypha_client::Artifacts;
use kernels::Execution;

use crate::app::App;
use crate::artifact;
use crate::background;
use crate::error::AppError;
use crate::folder;
use crate::folder::RefusedApp;
use crate::id::AppId;
use crate::instance::Launcher;
use crate::label;
use crate::manifest::Manifest;
use crate::manifest::WrittenManifest;
use crate::runner::STOP_GRACE;
use crate::spec::AppSpec;
use crate::spec::Source;
use crate::status::AppStatus;
use crate::store::Store;
use crate::supervisor::PortHolder;
use crate::table::Apps;

/// How long all apps together may take to stop: the grace of each, and a margin.
const SHUT_DOWN_TIME: Duration = STOP_GRACE.saturating_add(Duration::from_secs(3));

/// All apps. They belong to the engine, not to a namespace: its methods for faces, which take a
/// [`Caller`], refuse callers that are bound to one.
///
/// Where a method takes the id of an app as text, the id of the artifact it was published as, or of the session that it
/// is, will do.
pub struct AppManager {
  pub(crate) launcher: Arc<dyn Launcher>,
  /// Where published apps come from; `None` if none are run.
  pub(crate) artifacts: Option<Arc<Artifacts>>,
  store: Store,
  pub(crate) max_count: usize,
  apps: RwLock<Apps>,
  refused: Mutex<Vec<RefusedApp>>,
  /// Held while an app changes on disk and in memory, so that both stay the same; never while an app's
  /// program is waited for.
  changing: tokio::sync::Mutex<()>,
  pub(crate) me: Weak<Self>,
}

/// Checks that a caller sees apps at all, and has a right.
pub(crate) fn may(caller: &Caller, right: Right) -> Result<(), AppError> {
  if let Some(own) = caller.namespace() {
    return Err(Denied::OperatorOnly(own.to_owned()).into());
  }
  Ok(caller.require(right)?)
}

impl AppManager {
  /// Makes a manager that has loaded nothing yet. `data` is the engine's own folder, in which posted
  /// apps are kept.
  pub fn new(
    launcher: Arc<dyn Launcher>,
    data: &Path,
    max_count: usize,
    artifacts: Option<Arc<Artifacts>>,
  ) -> Arc<Self> {
    Arc::new_cyclic(|me| Self {
      launcher,
      artifacts,
      store: Store::new(data),
      max_count,
      apps: RwLock::default(),
      refused: Mutex::default(),
      changing: tokio::sync::Mutex::default(),
      me: me.clone(),
    })
  }

  // ------------------------------------------------------------ looking

  /// Lists every app, in the order of their ids.
  ///
  /// # Errors
  /// When the caller may not see apps.
  pub fn list(&self, caller: &Caller) -> Result<Vec<Arc<App>>, AppError> {
    may(caller, Right::Read)?;
    Ok(self.all())
  }

  /// Returns one app.
  ///
  /// # Errors
  /// When there is no such app, or the caller may not see apps.
  pub fn get(&self, caller: &Caller, id: &str) -> Result<Arc<App>, AppError> {
    may(caller, Right::Read)?;
    self.find(&self.known(id)?)
  }

  /// Lists what was meant to be an app and was refused, with the reasons. Those with an id that no app
  /// has can be listed as apps that failed.
  ///
  /// # Errors
  /// When the caller may not see apps.
  pub fn refused(&self, caller: &Caller) -> Result<Vec<RefusedApp>, AppError> {
    may(caller, Right::Read)?;
    Ok(self.all_refused())
  }

  pub(crate) fn all(&self) -> Vec<Arc<App>> {
    self.read().by_id.values().cloned().collect()
  }

  pub(crate) fn find(&self, id: &AppId) -> Result<Arc<App>, AppError> {
    let app = self.read().by_id.get(id).cloned();
    app.ok_or_else(|| AppError::NotFound(id.to_string()))
  }

  /// The app with this [label](AppId::label).
  pub(crate) fn find_by_label(&self, label: &str) -> Option<Arc<App>> {
    match label::plain(label) {
      Some(id) => self.find(&id).ok(),
      None => {
        let apps = self.read();
        let mut apps = apps.by_id.iter();
        apps
          .find(|(id, _)| id.label() == label)
          .map(|(_, app)| app.clone())
      }
    }
  }

  /// The id of an app as a caller names it: its own, or that of its artifact or session.
  fn known(&self, id: &str) -> Result<AppId, AppError> {
    if let Ok(id) = AppId::new(id) {
      return Ok(id);
    }
    let is_it = |app: &&Arc<App>| match &app.spec().source {
      Source::Artifact { id: known, .. } | Source::Session { id: known, .. } => known == id,
      Source::Folder(_) | Source::File(_) | Source::Posted => false,
    };
    let apps = self.all();
    let found = apps.iter().find(is_it);
    found
      .map(|app| app.id.clone())
      .ok_or_else(|| AppError::NotFound(id.to_owned()))
  }

  pub(crate) fn all_refused(&self) -> Vec<RefusedApp> {
    self
      .refused
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .clone()
  }

  /// The app that has declared a port or listens on it.
  fn holder_of(&self, port: u16) -> Option<AppId> {
    self.read().holder_of(port, None)
  }

  /// [`Self::holder_of`], for as long as the manager lives.
  fn port_holder(&self) -> PortHolder {
    let manager = self.me.clone();
    Arc::new(move |port| manager.upgrade()?.holder_of(port))
  }

  // ------------------------------------------------------------ loading: for the engine itself

  /// Adds every app in the operator's folder; all start at the same time.
  pub async fn load_folder(&self, dir: PathBuf) {
    let read = tokio::task::spawn_blocking(move || folder::read(&dir)).await;
    self.add_all(read.unwrap_or_default());
  }

  /// Adds every app that was posted and not deleted.
  pub async fn load_posted(&self) {
    let store = self.store.clone();
    let read = tokio::task::spawn_blocking(move || store.load()).await;
    self.add_all(read.unwrap_or_default());
  }

  fn add_all(&self, read: Vec<Result<AppSpec, RefusedApp>>) {
    for app in read {
      let refused = match app {
        Ok(spec) => {
          let id = spec.manifest.id.clone();
          let path = folder::source_path(&spec.source).map(|path| path.display().to_string());
          match self.add(spec) {
            Ok(_) => continue,
            // Another app has the id: the path tells them apart.
            Err(error @ AppError::Exists(_)) => RefusedApp {
              id_or_path: path.unwrap_or_else(|| id.to_string()),
              reason: error.to_string(),
            },
            Err(error) => RefusedApp {
              id_or_path: id.to_string(),
              reason: error.to_string(),
            },
          }
        }
        Err(refused) => refused,
      };
      self.refuse(refused);
    }
  }

  /// Notes that something cannot be an app, in place of an earlier note about it.
  pub(crate) fn refuse(&self, app: RefusedApp) {
    tracing::warn!(app = app.id_or_path, "app refused: {}", app.reason);
    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
    refused.retain(|known| known.id_or_path != app.id_or_path);
    refused.push(app);
  }

  /// Adds an app and starts it, in the background.
  ///
  /// # Errors
  /// When its id or port is taken, or there are too many apps.
  pub(crate) fn add(&self, spec: AppSpec) -> Result<Arc<App>, AppError> {
    let id = spec.manifest.id.clone();
    let mut apps = self.write();
    apps.check_new(&spec.manifest, self.max_count)?;
    let app = App::start_new(spec, self.launcher.clone(), self.port_holder());
    apps.by_id.insert(id.clone(), app.clone());
    drop(apps);
    self.forget_refusal(&id);
    Ok(app)
  }

  fn forget_refusal(&self, id: &AppId) {
    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
    refused.retain(|known| known.id_or_path != id.as_str());
  }

  // ------------------------------------------------------------ changing

  /// Makes an app of a posted manifest, and keeps it on disk.
  ///
  /// # Errors
  /// When the caller is not the operator, the manifest is wrong, its id or port is taken, there are
  /// too many apps, or it cannot be written.
  pub async fn create(
    &self,
    caller: &Caller,
    written: WrittenManifest,
  ) -> Result<Arc<App>, AppError> {
    may(caller, Right::Operate)?;
    let spec = AppSpec::of_script(written.check(None)?, Source::Posted)?;
    self.launcher.check(&spec.manifest)?;
    let manifest = spec.manifest.clone();
    self
      .run_to_completion(move |manager| async move {
        let _changing = manager.changing.lock().await;
        manager.read().check_new(&manifest, manager.max_count)?;
        manager.stored(move |store| store.save(&manifest)).await?;
        let id = spec.manifest.id.clone();
        match manager.add(spec) {
          Ok(app) => Ok(app),
          Err(error) => {
            manager.stored(move |store| store.delete(&id)).await?;
            Err(error)
          }
        }
      })
      .await
  }

  /// Starts an app anew, as its folder, its file or its artifact is now. A posted app stays as it is.
  ///
  /// # Errors
  /// When the caller is not the operator, there is no such app, it can no longer be read, its port is
  /// taken, or it does not come up. It then goes on as before, unless it had to be stopped first.
  pub async fn reload(&self, caller: &Caller, id: &str) -> Result<Arc<App>, AppError> {
    may(caller, Right::Operate)?;
    let id = self.known(id)?;
    let app = self.find(&id)?;
    let spec = match (&app.spec().source, &self.artifacts) {
      (Source::Folder(path) | Source::File(path), _) => Some(read_again(path.clone()).await?),
      (Source::Artifact { id: published, .. }, Some(artifacts)) => {
        Some(artifact::read_again(&id, published, artifacts).await?)
      }
      (Source::Artifact { .. }, None) | (Source::Posted | Source::Session { .. }, _) => None,
    };
    self.replace(&app, spec).await?;
    self.find(&id)
  }

  /// Starts an app anew, as `spec` if there is one.
  ///
  /// # Errors
  /// When the port of `spec` is taken, its id is another one, or it does not come up.
  pub(crate) async fn replace(
    &self,
    app: &App,
    spec: Option<AppSpec>,
  ) -> Result<AppStatus, AppError> {
    let spec = spec.map(Arc::new);
    if let Some(spec) = &spec {
      self.check_replacement(&app.id, &spec.manifest)?;
    }
    app.reload(spec).await
  }

  /// Replaces the manifest of a posted app and reloads it.
  ///
  /// # Errors
  /// As [`Self::reload`], and when the manifest is wrong or the app was not posted.
  pub async fn update(
    &self,
    caller: &Caller,
    id: &str,
    written: WrittenManifest,
  ) -> Result<Arc<App>, AppError> {
    may(caller, Right::Operate)?;
    let id = self.known(id)?;
    let spec = AppSpec::of_script(written.check(Some(id.clone()))?, Source::Posted)?;
    self.launcher.check(&spec.manifest)?;
    let app = self.find(&id)?;
    if app.spec().source != Source::Posted {
      return Err(AppError::Conflict(format!(
        "app {id} was not posted; change it where it comes from, then reload it"
      )));
    }
    self.check_replacement(&id, &spec.manifest)?;
    self
      .run_to_completion(move |manager| async move {
        let spec = Arc::new(spec);
        let reloaded = app.reload(Some(spec.clone())).await;
        let _changing = manager.changing.lock().await;
        // An app that does not come up may have taken the new manifest anyway, and one that did may be
        // deleted by now.
        let is_current = manager
          .find(&app.id)
          .is_ok_and(|current| Arc::ptr_eq(&current, &app));
        if is_current && Arc::ptr_eq(&app.spec(), &spec) {
          manager
            .stored(move |store| store.save(&spec.manifest))
            .await?;
        }
        reloaded
      })
      .await?;
    self.find(&id)
  }

  /// Starts an app, unless it runs or is about to.
  ///
  /// # Errors
  /// When the caller is not the operator, or there is no such app.
  pub async fn start(&self, caller: &Caller, id: &str) -> Result<Arc<App>, AppError> {
    may(caller, Right::Operate)?;
    let id = self.known(id)?;
    self.find(&id)?.start().await?;
    self.find(&id)
  }

  /// Stops an app; it stays, and can be started again.
  ///
  /// # Errors
  /// When the caller is not the operator, or there is no such app.
  pub async fn stop(&self, caller: &Caller, id: &str) -> Result<Arc<App>, AppError> {
    may(caller, Right::Operate)?;
    let id = self.known(id)?;
    self.find(&id)?.stop().await?;
    self.find(&id)
  }

  /// Executes code in the process of an app, beside its program and with the same permissions.
  ///
  /// # Errors
  /// When the caller is not the operator or there is no such app; `Conflict` when it has no process.
  pub fn execute(
    &self,
    caller: &Caller,
    id: &str,
    code: String,
  ) -> Result<Arc<Execution>, AppError> {
    may(caller, Right::Operate)?;
    self.find(&self.known(id)?)?.execute(code)
  }

  /// As [`Self::execute`], for a caller who does not wait: what the code comes to is noted in the log of the
  /// app, which has its output anyway.
  ///
  /// # Errors
  /// Those of [`Self::execute`].
  pub fn execute_in_background(
    &self,
    caller: &Caller,
    id: &str,
    code: String,
  ) -> Result<Arc<Execution>, AppError> {
    may(caller, Right::Operate)?;
    let app = self.find(&self.known(id)?)?;
    let execution = app.execute(code)?;
    let (log, instance) = (app.log.clone(), app.status().instance);
    tokio::spawn(background::note(log, instance, execution.reader(0)));
    Ok(execution)
  }

  /// Stops an app and deletes it. An app of the operator's folder is back at the next start. A refused
  /// app is deleted from disk.
  ///
  /// # Errors
  /// When the caller is not the operator, there is no such app, or it cannot be deleted from disk; it
  /// then runs on.
  pub async fn delete(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
    may(caller, Right::Operate)?;
    self.remove(&self.known(id)?).await
  }

  /// [`Self::delete`], for the engine itself.
  pub(crate) async fn remove(&self, id: &AppId) -> Result<(), AppError> {
    let id = id.clone();
    self
      .run_to_completion(move |manager| async move {
        let _changing = manager.changing.lock().await;
        let app = manager.find(&id);
        let refused = manager
          .all_refused()
          .iter()
          .any(|app| app.id_or_path == id.as_str());
        let kept = match &app {
          Ok(app) => app.spec().source == Source::Posted,
          Err(error) if !refused => return Err(error.clone()),
          Err(_) => true,
        };
        if kept {
          let id = id.clone();
          manager.stored(move |store| store.delete(&id)).await?;
        }
        if let Ok(app) = app {
          app.close().await;
          if let Source::Session { .. } = app.spec().source {
            manager.launcher.forget(&id).await;
          }
          manager.write().by_id.remove(&id);
        }
        manager.forget_refusal(&id);
        Ok(())
      })
      .await
  }

  /// Stops every app, all at the same time. For the engine itself.
  pub async fn shut_down(&self) {
    let apps = {
      let mut apps = self.write();
      apps.closed = true;
      std::mem::take(&mut apps.by_id)
    };
    let ends = futures::future::join_all(apps.values().map(|app| app.close()));
    if tokio::time::timeout(SHUT_DOWN_TIME, ends).await.is_err() {
      tracing::warn!("some apps did not end within {SHUT_DOWN_TIME:?}");
    }
  }

  /// Finishes a change even when the caller stops waiting.
  async fn run_to_completion<T, F>(
    &self,
    change: impl FnOnce(Arc<Self>) -> F + Send + 'static,
  ) -> Result<T, AppError>
  where
    T: Send + 'static,
    F: Future<Output = Result<T, AppError>> + Send + 'static,
  {
    let stops = || AppError::Conflict("the server is shutting down".into());
    let manager = self.me.upgrade().ok_or_else(stops)?;
    let task = tokio::spawn(change(manager));
    task
      .await
      .map_err(|e| AppError::Host(format!("the app could not be changed: {e}")))?
  }

  async fn stored(
    &self,
    change: impl FnOnce(Store) -> Result<(), AppError> + Send + 'static,
  ) -> Result<(), AppError> {
    let store = self.store.clone();
    tokio::task::spawn_blocking(move || change(store))
      .await
      .map_err(|e| AppError::Host(format!("the app could not be kept on disk: {e}")))?
  }

  fn check_replacement(&self, id: &AppId, manifest: &Manifest) -> Result<(), AppError> {
    if manifest.id != *id {
      return Err(AppError::Invalid(format!(
        "id: app {id} cannot become `{}`; delete it and add the other",
        manifest.id
      )));
    }
    self.read().check_port(manifest)
  }

  fn read(&self) -> RwLockReadGuard<'_, Apps> {
    self.apps.read().unwrap_or_else(PoisonError::into_inner)
  }

  fn write(&self) -> RwLockWriteGuard<'_, Apps> {
    self.apps.write().unwrap_or_else(PoisonError::into_inner)
  }
}

async fn read_again(path: PathBuf) -> Result<AppSpec, AppError> {
  let shown = path.display().to_string();
  let read = tokio::task::spawn_blocking(move || folder::read_one(&path)).await;
  read.ok().flatten().unwrap_or_else(|| {
    Err(AppError::Invalid(format!(
      "there is no app at {shown} any more; delete it, or put it back"
    )))
  })
}
