//! What kernels and agents learn of the Hypha server: its address, and a token for the workspace of whoever made them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use hypha_rpc::Client;
use hypha_rpc::TokenRequest;

use crate::method::Asker;

/// How long a token is valid.
const VALID: Duration = Duration::from_hours(24);

/// Makes what kernels find in their environment.
pub(crate) struct ForKernels {
  client: Client,
  server_url: String,
  /// Workspaces for which the engine may make no token; each is told once.
  without: Mutex<HashSet<String>>,
}

impl ForKernels {
  pub(crate) fn new(client: Client, server_url: String) -> Self {
    Self {
      client,
      server_url,
      without: Mutex::default(),
    }
  }

  /// The variables for a caller's kernel. The token is of the caller's own workspace and never the engine's; it is left
  /// out where the engine may not make one, and for callers that nobody knows.
  pub(crate) async fn environment(&self, asker: &Asker) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
      ("HYPHA_SERVER_URL".to_owned(), self.server_url.clone()),
      ("HYPHA_WORKSPACE".to_owned(), asker.workspace.clone()),
    ]);
    if let Some(token) = self.token(asker).await {
      variables.insert("HYPHA_TOKEN".to_owned(), token);
    }
    variables
  }

  async fn token(&self, asker: &Asker) -> Option<String> {
    if asker.is_anonymous || self.lock().contains(&asker.workspace) {
      return None;
    }
    let request = TokenRequest {
      workspace: Some(asker.workspace.clone()),
      permission: Some("read_write".into()),
      expires_in: Some(VALID),
      client_id: None,
    };
    match self.client.generate_token(request).await {
      Ok(token) => Some(token.expose().to_owned()),
      Err(error) => {
        tracing::warn!(
          "kernels of the workspace {} get no HYPHA_TOKEN, for the engine may not make one: {error}",
          asker.workspace
        );
        self.lock().insert(asker.workspace.clone());
        None
      }
    }
  }

  fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
    self.without.lock().unwrap_or_else(PoisonError::into_inner)
  }
}
