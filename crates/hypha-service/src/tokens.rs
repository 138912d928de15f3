//! What kernels learn of the Hypha server: its address, and a token for the workspace of whoever made them. Tokens live
//! shortly; a kernel that lives longer finds the next one in its environment before.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use engine::agents::Environments;
use engine::kernels::EnvironmentSource;
use engine::kernels::Variables;
use hypha_rpc::CallError;
use hypha_rpc::Client;
use hypha_rpc::Token;
use hypha_rpc::TokenRequest;

use crate::method::Asker;

/// Most time until a token that could not be made is asked for again.
const RETRY: Duration = Duration::from_secs(60);
/// How agents remember for whom they were made: somebody of a workspace, or nobody known.
const KNOWN: &str = "hypha:";
const ANONYMOUS: &str = "hypha-anonymous:";

/// Which tokens kernels get.
#[derive(Debug, Clone, Copy)]
pub struct TokenOptions {
  /// How long each is valid.
  pub life: Duration,
  /// Whether they may administer the whole server.
  pub powerful: bool,
}

/// Makes what kernels find in their environment.
pub(crate) struct ForKernels {
  client: Client,
  server_url: String,
  options: TokenOptions,
  /// Workspaces for which the engine may make no token; of each is told once.
  without: Mutex<HashSet<String>>,
}

/// Makes the variables of a caller's kernels.
struct Caller {
  tokens: Arc<ForKernels>,
  workspace: String,
  is_anonymous: bool,
}

impl ForKernels {
  pub(crate) fn new(client: Client, server_url: String, options: TokenOptions) -> Arc<Self> {
    Arc::new(Self {
      client,
      server_url,
      options,
      without: Mutex::default(),
    })
  }

  /// What makes the variables for a caller's kernel.
  pub(crate) fn environment(self: &Arc<Self>, asker: &Asker) -> Arc<dyn EnvironmentSource> {
    Arc::new(Caller {
      tokens: self.clone(),
      workspace: asker.workspace.clone(),
      is_anonymous: asker.is_anonymous,
    })
  }

  /// Makes a token for the workspace. `None`, said once, where the engine may not.
  ///
  /// # Errors
  /// When that may change.
  async fn token(&self, workspace: &str) -> Result<Option<Token>, CallError> {
    let request = TokenRequest {
      workspace: Some(workspace.to_owned()),
      // Registering a service takes that much: with `read` a client connects and can do nothing. Only `admin` could
      // make further tokens.
      permission: Some("read_write".into()),
      expires_in: Some(self.options.life),
      client_id: None,
    };
    let why = match self.client.generate_token(request).await {
      Ok(token) if token.administers_server() && !self.options.powerful => {
        "it would administer the whole Hypha server, as the engine's own does".to_owned()
      }
      Ok(token) => return Ok(Some(token)),
      Err(CallError::Remote(error)) => format!("the engine may not make one: {error}"),
      Err(error) => return Err(error),
    };
    let mut without = self.without.lock().unwrap_or_else(PoisonError::into_inner);
    if without.insert(workspace.to_owned()) {
      tracing::warn!("kernels of the workspace {workspace} get no HYPHA_TOKEN: {why}");
    }
    Ok(None)
  }
}

/// Hands out the variables to kernels of agents.
pub(crate) struct ForAgents(pub Arc<ForKernels>);

impl Environments for ForAgents {
  fn source(&self, whom: &str) -> Arc<dyn EnvironmentSource> {
    let known = whom.strip_prefix(KNOWN);
    let workspace = known.or_else(|| whom.strip_prefix(ANONYMOUS));
    Arc::new(Caller {
      tokens: self.0.clone(),
      workspace: workspace.unwrap_or(whom).to_owned(),
      is_anonymous: known.is_none(),
    })
  }
}

/// The name under which [`ForAgents`] knows a caller.
pub(crate) fn name_of(asker: &Asker) -> String {
  let kind = match asker.is_anonymous {
    true => ANONYMOUS,
    false => KNOWN,
  };
  format!("{kind}{}", asker.workspace)
}

#[async_trait]
impl EnvironmentSource for Caller {
  /// The token is of the caller's own workspace and never the engine's; callers that nobody knows get none.
  async fn variables(&self) -> Result<Variables, String> {
    let mut values = BTreeMap::from([
      (
        "HYPHA_SERVER_URL".to_owned(),
        self.tokens.server_url.clone(),
      ),
      ("HYPHA_WORKSPACE".to_owned(), self.workspace.clone()),
    ]);
    let life = self.tokens.options.life;
    let made = match self.is_anonymous {
      true => Ok(None),
      false => self.tokens.token(&self.workspace).await,
    };
    let renew_after = match made {
      Ok(Some(token)) => {
        values.insert("HYPHA_TOKEN".to_owned(), token.expose().to_owned());
        Some(life * 3 / 4)
      }
      Ok(None) => None,
      Err(error) => {
        tracing::warn!(
          "no HYPHA_TOKEN for a kernel of {} yet: {error}",
          self.workspace
        );
        Some(RETRY.min(life / 8))
      }
    };
    Ok(Variables {
      values,
      renew_after,
    })
  }
}

impl fmt::Debug for Caller {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_tuple("Caller").field(&self.workspace).finish()
  }
}
