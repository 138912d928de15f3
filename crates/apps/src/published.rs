//! Keeps the apps of a Hypha collection as they are published there.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use hypha_client::Artifact;
use hypha_client::Artifacts;
use hypha_client::ArtifactsError;

use crate::AppError;
use crate::AppId;
use crate::folder::RefusedApp;
use crate::manager::AppManager;
use crate::manifest::WrittenManifest;
use crate::spec::AppSpec;
use crate::spec::Source;

/// What a look at the collection has changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
  pub published: usize,
  pub added: Vec<AppId>,
  pub reloaded: Vec<AppId>,
  pub removed: Vec<AppId>,
  pub refused: Vec<RefusedApp>,
}

/// Looks at the collection at once and then every `interval`; failures are logged and tried again.
pub async fn follow(manager: Weak<AppManager>, artifacts: Arc<Artifacts>, interval: Duration) {
  loop {
    let Some(apps) = manager.upgrade() else {
      return;
    };
    match update(&apps, &artifacts).await {
      Ok(changes) => tracing::debug!(?changes, "published apps"),
      Err(error) => tracing::warn!("published apps cannot be listed: {error}"),
    }
    drop(apps);
    tokio::time::sleep(interval).await;
  }
}

/// Starts what is new, reloads what has changed, in the background, and deletes what is gone.
///
/// # Errors
/// When the collection cannot be listed; nothing has changed then.
pub async fn update(
  manager: &Arc<AppManager>,
  artifacts: &Artifacts,
) -> Result<Changes, ArtifactsError> {
  let published = artifacts.list().await?;
  let mut changes = Changes {
    published: published.len(),
    ..Default::default()
  };
  let ids: HashSet<String> = published.iter().map(|a| a.id.clone()).collect();
  for app in manager.list() {
    if matches!(&app.spec().source, Source::Artifact { id, .. } if !ids.contains(id))
      && manager.delete(&app.id).await.is_ok()
    {
      changes.removed.push(app.id.clone());
    }
  }
  for artifact in published {
    let (artifact_id, alias) = (artifact.id.clone(), artifact.alias.clone());
    if let Err(error) = take(manager, artifact, &mut changes) {
      // An alias that is another app's id must not speak for that.
      let taken = matches!(error, AppError::Exists(_));
      let refused = RefusedApp {
        id_or_path: if taken { artifact_id } else { alias },
        reason: error.to_string(),
      };
      manager.refuse(refused.clone());
      changes.refused.push(refused);
    }
  }
  Ok(changes)
}

/// Reloads an app as it is published now.
///
/// # Errors
/// When it cannot be read, is no longer one, or does not come up; it then goes on as before.
pub async fn reload(
  manager: &Arc<AppManager>,
  artifacts: &Artifacts,
  id: &AppId,
  artifact: &str,
) -> Result<(), AppError> {
  let artifact = artifacts
    .read(artifact)
    .await
    .map_err(|e| AppError::Host(format!("app {id} was not reloaded: {e}")))?;
  let source = Source::Artifact {
    id: artifact.id,
    version: artifact.version,
  };
  let spec = spec(id, source, &artifact.manifest)?;
  manager.reload(id, Some(spec)).await.map(|_| ())
}

fn take(
  manager: &Arc<AppManager>,
  artifact: Artifact,
  changes: &mut Changes,
) -> Result<(), AppError> {
  let id = AppId::new(&artifact.alias)?;
  let source = Source::Artifact {
    id: artifact.id,
    version: artifact.version,
  };
  if let Ok(app) = manager.get(&id) {
    match (&app.spec().source, &source) {
      (known, new) if known == new => return Ok(()),
      (Source::Artifact { id: known, .. }, Source::Artifact { id: new, .. }) if known == new => {}
      _ => return Err(AppError::Exists(id)),
    }
    let spec = spec(&id, source, &artifact.manifest)?;
    changes.reloaded.push(id.clone());
    let manager = manager.clone();
    tokio::spawn(async move {
      if let Err(error) = manager.reload(&id, Some(spec)).await {
        tracing::warn!(app = %id, "the new version does not come up: {error}");
      }
    });
    return Ok(());
  }
  manager.add(spec(&id, source, &artifact.manifest)?)?;
  changes.added.push(id);
  Ok(())
}

fn spec(id: &AppId, source: Source, manifest: &serde_json::Value) -> Result<AppSpec, AppError> {
  let written = WrittenManifest::of_artifact(manifest)?;
  AppSpec::of_script(written.check(Some(id.clone()))?, source)
}
