//! What a published app learns of its Hypha server: the address, and a token that is renewed while the app runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hypha_client::Artifacts;
use hypha_client::ArtifactsError;
use kernels::EnvironmentSource;
use kernels::Variables;

use crate::log::AppLog;
use crate::log::Level;

/// Makes the variables of one instance.
pub(crate) struct PublishedEnvironment {
  pub artifacts: Arc<Artifacts>,
  pub token_life: Duration,
  /// Id of the artifact.
  pub artifact: String,
  /// The instance.
  pub number: u64,
  pub log: Arc<AppLog>,
}

#[async_trait]
impl EnvironmentSource for PublishedEnvironment {
  async fn variables(&self) -> Result<Variables, String> {
    let server = self.artifacts.server_url().to_owned();
    let mut values = BTreeMap::from([("HYPHA_SERVER_URL".to_owned(), server)]);
    if let Some(workspace) = self.artifacts.workspace() {
      values.insert("HYPHA_WORKSPACE".into(), workspace.into());
    }
    let renew_after = match self
      .artifacts
      .token_for(&self.artifact, self.token_life)
      .await
    {
      Ok(token) => {
        values.insert("HYPHA_TOKEN".into(), token.expose().to_owned());
        Some(self.token_life * 3 / 4)
      }
      Err(
        error @ (ArtifactsError::NoToken
        | ArtifactsError::NoWorkspace
        | ArtifactsError::TooPowerful),
      ) => {
        let text = error.to_string();
        self.log.note(self.number, Level::Warning, text);
        None
      }
      Err(error) => return Err(error.to_string()),
    };
    Ok(Variables {
      values,
      renew_after,
    })
  }
}

impl fmt::Debug for PublishedEnvironment {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_tuple("PublishedEnvironment")
      .field(&self.artifact)
      .finish()
  }
}
