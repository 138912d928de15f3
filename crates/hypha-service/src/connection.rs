//! Keeps the engine registered at a Hypha server.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use engine::hypha_client::ArtifactsError;
use hypha_rpc::CallError;
use hypha_rpc::Client;
use hypha_rpc::ConnectError;
use hypha_rpc::Limits;
use hypha_rpc::Options;
use hypha_rpc::Refusal;
use hypha_rpc::State;
use hypha_rpc::Token;
use url::Url;

use crate::method::Service;
use crate::rpc;
use crate::rpc::SERVICE_ID;
use crate::tokens::ForKernels;
use crate::tokens::TokenOptions;
use crate::worker::Worker;
use crate::worker::WorkerOptions;

/// Pauses between attempts to reach a server that is not there yet.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Shortest and longest pause before a lost connection is tried again: callers wait for the service, and a server takes
/// some seconds to start.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Where the service is registered, and as whom.
#[derive(Debug, Clone)]
pub struct HyphaOptions {
  pub server_url: Url,
  /// `None` for the workspace of the token.
  pub workspace: Option<String>,
  /// `None` for an anonymous user, who has a workspace alone.
  pub token: Option<Token>,
  /// A fixed one lets a restarted engine replace its own service.
  pub client_id: Option<String>,
  /// Certificate authorities (PEM) to trust besides those of the platform.
  pub authorities: Option<Vec<u8>>,
  /// `None` to run no apps for the server.
  pub worker: Option<WorkerOptions>,
  pub kernel_tokens: TokenOptions,
}

/// Why the service cannot be there.
#[derive(Debug, thiserror::Error)]
pub enum HyphaError {
  #[error(transparent)]
  Connect(#[from] ConnectError),
  #[error("the service cannot be registered: {0}")]
  Register(#[from] hypha_rpc::CallError),
  #[error(transparent)]
  Files(#[from] ArtifactsError),
  #[error("the Hypha server does not let this engine in any more: {0}")]
  Refused(String),
}

impl HyphaError {
  /// What the server refuses about the settings.
  pub fn refusal(&self) -> Option<Refusal> {
    match self {
      Self::Connect(ConnectError::Refused { kind, .. }) => Some(*kind),
      _ => None,
    }
  }
}

/// Registers the engine, and keeps it registered until `stop` is there: a server that is away is waited for, also at the
/// start.
///
/// # Errors
/// When the server refuses the engine, or what answers is no Hypha server.
pub async fn serve(
  engine: Arc<Engine>,
  options: HyphaOptions,
  stop: impl Future<Output = ()>,
) -> Result<(), HyphaError> {
  let mut stop = std::pin::pin!(stop);
  let client = tokio::select! {
    () = &mut stop => return Ok(()),
    client = connect(&options) => client?,
  };
  let url = options.server_url.to_string();
  let hypha = ForKernels::new(client.clone(), url, options.kernel_tokens);
  let service = Arc::new(Service::at_hypha(engine.clone(), client.workspace(), hypha));
  let workspace = client.workspace();
  let worker = match &options.worker {
    Some(wanted) => Some(Worker::new(
      engine,
      workspace.clone(),
      options.clone(),
      wanted,
    )?),
    None => None,
  };
  let registered = async {
    let id = register(&client, || rpc::service(&service)).await?;
    tracing::info!("registered at Hypha as {id}");
    let base = options.server_url.as_str().trim_end_matches('/');
    tracing::info!("the service is at {base}/{workspace}/services/{SERVICE_ID}");
    if let Some(worker) = &worker {
      let id = register(&client, || worker.service()).await?;
      tracing::info!("runs apps for Hypha as {id}");
    }
    Ok::<(), HyphaError>(())
  };
  tokio::select! {
    () = &mut stop => return Ok(()),
    registered = registered => registered?,
  }
  let follow = async {
    if let Some(worker) = &worker {
      worker.follow(&client).await;
    }
    std::future::pending::<()>().await;
  };
  let ended = tokio::select! {
    () = stop => Ok(()),
    reason = refused(&client) => Err(HyphaError::Refused(reason)),
    () = follow => unreachable!("it follows for ever"),
  };
  if let Some(worker) = worker {
    worker.end_all().await;
  }
  client.disconnect().await;
  ended
}

/// Registers a service, again when the connection was lost meanwhile.
async fn register(
  client: &Client,
  service: impl Fn() -> hypha_rpc::Service,
) -> Result<String, HyphaError> {
  loop {
    let error = match client.register(service()).await {
      Ok(id) => return Ok(id),
      Err(error) => error,
    };
    if !matches!(
      error,
      CallError::Disconnected | CallError::PeerGone(_) | CallError::TimedOut { .. }
    ) {
      return Err(error.into());
    }
    tracing::warn!("not registered at Hypha yet: {error}");
    tokio::time::sleep(FIRST_PAUSE).await;
    let mut states = client.state();
    let settled = states.wait_for(|it| matches!(it, State::Connected | State::Refused(_)));
    if let Ok(state) = settled.await
      && let State::Refused(reason) = &*state
    {
      return Err(HyphaError::Refused(reason.clone()));
    }
  }
}

/// Limits of a connection that others wait for.
pub(crate) fn limits() -> Limits {
  Limits {
    reconnect: RECONNECT,
    ..Limits::default()
  }
}

async fn connect(options: &HyphaOptions) -> Result<Client, HyphaError> {
  let mut pause = FIRST_PAUSE;
  loop {
    let wanted = Options {
      client_id: options.client_id.clone(),
      workspace: options.workspace.clone(),
      token: options.token.clone(),
      authorities: options.authorities.clone(),
      limits: limits(),
      // Another client without a token would be another user.
      may_overflow: options.token.is_some(),
      ..Options::new(options.server_url.clone())
    };
    match Client::connect(wanted).await {
      Ok(client) => {
        tracing::info!("connected to Hypha as {}", client.address());
        return Ok(client);
      }
      Err(error @ ConnectError::Unreachable { .. }) => {
        tracing::warn!("{error}; trying again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
      }
      Err(error) => return Err(error.into()),
    }
  }
}

/// Tells what becomes of the connection; returns when the server does not let the client in any more.
async fn refused(client: &Client) -> String {
  let mut states = client.state();
  loop {
    let state = states.borrow_and_update().clone();
    match state {
      State::Lost(reason) => tracing::warn!("the connection to Hypha is lost: {reason}"),
      State::Refused(reason) => return reason,
      State::Connected => tracing::info!("the service is registered at Hypha"),
      State::Connecting | State::Disconnected => {}
    }
    if states.changed().await.is_err() {
      return "the client has ended".into();
    }
  }
}
