//! Apps made of the artifacts of a Hypha collection.

use hypha_client::Artifact;
use hypha_client::Artifacts;

use crate::error::AppError;
use crate::id::AppId;
use crate::manifest::WrittenManifest;
use crate::spec::AppSpec;
use crate::spec::Source;

/// Where an artifact's app comes from.
pub(crate) fn source(artifact: &Artifact) -> Source {
  Source::Artifact {
    id: artifact.id.clone(),
    version: artifact.version.clone(),
  }
}

/// The app with this id that an artifact is.
///
/// # Errors
/// When its manifest is wrong.
pub(crate) fn spec(id: &AppId, artifact: &Artifact) -> Result<AppSpec, AppError> {
  let written = WrittenManifest::of_artifact(&artifact.manifest)?;
  AppSpec::of_script(written.check(Some(id.clone()))?, source(artifact))
}

/// Reads an app as it is published now.
///
/// # Errors
/// When it cannot be read, or is no longer one.
pub(crate) async fn read_again(
  id: &AppId,
  artifact: &str,
  artifacts: &Artifacts,
) -> Result<AppSpec, AppError> {
  let artifact = artifacts
    .read(artifact)
    .await
    .map_err(|e| AppError::Host(format!("app {id} was not reloaded: {e}")))?;
  spec(id, &artifact)
}
