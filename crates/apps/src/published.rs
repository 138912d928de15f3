//! Keeps published apps as they are in their Hypha collection.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use access::Right;
use hypha_client::Artifact;
use hypha_client::Artifacts;

use crate::artifact;
use crate::error::AppError;
use crate::folder::RefusedApp;
use crate::id::AppId;
use crate::manager::AppManager;
use crate::manager::may;
use crate::spec::Source;

/// What reading the collection has changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
  /// Apps in the collection.
  pub published: usize,
  pub added: Vec<AppId>,
  pub reloaded: Vec<AppId>,
  pub removed: Vec<AppId>,
  pub refused: Vec<RefusedApp>,
}

impl AppManager {
  /// Reads the collection now: starts new apps, reloads changed ones in the background, and deletes those
  /// that are no longer published.
  ///
  /// # Errors
  /// When the caller is not the operator; `Conflict` when no published apps are run, `Upstream` when
  /// the collection cannot be listed. Nothing has changed then.
  pub async fn update_published(&self, caller: &Caller) -> Result<Changes, AppError> {
    may(caller, Right::Operate)?;
    let artifacts = self.artifacts.as_ref().ok_or_else(|| {
      AppError::Conflict("This server runs no published apps: start it with --load-apps".into())
    })?;
    self.take_over(artifacts).await
  }

  /// Reads the collection at once and then every `interval`, in the background, for as long as the manager
  /// lives. Failures are logged and tried again. Does nothing if no published apps are run. For the engine
  /// itself.
  pub fn follow_published(self: &Arc<Self>, interval: Duration) {
    let Some(artifacts) = self.artifacts.clone() else {
      return;
    };
    let manager = Arc::downgrade(self);
    tokio::spawn(async move {
      while let Some(apps) = manager.upgrade() {
        match apps.take_over(&artifacts).await {
          Ok(changes) => tracing::debug!(?changes, "published apps"),
          Err(error) => tracing::warn!("published apps cannot be listed: {error}"),
        }
        drop(apps);
        tokio::time::sleep(interval).await;
      }
    });
  }

  async fn take_over(&self, artifacts: &Artifacts) -> Result<Changes, AppError> {
    let published = artifacts.list().await;
    let published = published.map_err(|e| AppError::Upstream(e.to_string()))?;
    let mut changes = Changes {
      published: published.len(),
      ..Default::default()
    };
    let ids: HashSet<String> = published.iter().map(|a| a.id.clone()).collect();
    for app in self.all() {
      if matches!(&app.spec().source, Source::Artifact { id, .. } if !ids.contains(id))
        && self.remove(&app.id).await.is_ok()
      {
        changes.removed.push(app.id.clone());
      }
    }
    for artifact in published {
      if let Err(error) = self.take(&artifact, &mut changes) {
        // An alias that is another app's id must not be listed in that app's place.
        let taken = matches!(error, AppError::Exists(_));
        let refused = RefusedApp {
          id_or_path: if taken { artifact.id } else { artifact.alias },
          reason: error.to_string(),
        };
        self.refuse(refused.clone());
        changes.refused.push(refused);
      }
    }
    Ok(changes)
  }

  fn take(&self, artifact: &Artifact, changes: &mut Changes) -> Result<(), AppError> {
    let id = AppId::new(&artifact.alias)?;
    let Ok(app) = self.find(&id) else {
      self.add(artifact::spec(&id, artifact)?)?;
      changes.added.push(id);
      return Ok(());
    };
    match (&app.spec().source, artifact::source(artifact)) {
      (known, new) if *known == new => return Ok(()),
      (Source::Artifact { id: known, .. }, Source::Artifact { id: new, .. }) if *known == new => {}
      _ => return Err(AppError::Exists(id.to_string())),
    }
    let spec = artifact::spec(&id, artifact)?;
    let manager = self.me.upgrade();
    tokio::spawn(async move {
      let Some(manager) = manager else { return };
      if let Err(error) = manager.replace(&app, Some(spec)).await {
        tracing::warn!(app = %app.id, "the new version does not come up: {error}");
      }
    });
    changes.reloaded.push(id);
    Ok(())
  }
}
