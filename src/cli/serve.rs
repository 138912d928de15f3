//! `deno-app-engine serve`: listens, serves, and stops in good order.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use engine::Engine;
use http_api::Listeners;
use http_api::Routes;
use hypha_service::HyphaError;
use hypha_service::HyphaOptions;
use hypha_service::Refusal;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::login;
use super::login::LoginError;
use crate::descriptors;
use crate::memory;
use crate::settings::ServeArgs;
use crate::settings::Settings;
use crate::settings::SettingsError;

/// How long open requests may take to finish when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
  #[error(transparent)]
  Settings(#[from] SettingsError),
  #[error("port {port} of {host} is in use: stop what listens there or choose another with {flag}")]
  PortInUse {
    host: IpAddr,
    port: u16,
    flag: &'static str,
  },
  #[error("cannot listen on {0}: {1}")]
  Listen(SocketAddr, io::Error),
  #[error("the data directory {0} cannot be used: {1}")]
  DataDir(String, io::Error),
  #[error(transparent)]
  Login(#[from] LoginError),
  #[error("{0}{remedy}", remedy = remedy(.0))]
  Hypha(#[from] HyphaError),
  #[error("{0}")]
  Io(#[from] io::Error),
}

/// Which setting to change.
fn remedy(error: &HyphaError) -> &'static str {
  match error.refusal() {
    Some(Refusal::Token) => "; HYPHA_TOKEN is to be a token of this server that is still valid",
    Some(Refusal::Workspace) => {
      "; HYPHA_WORKSPACE is to be the workspace of HYPHA_TOKEN, or to be left out"
    }
    Some(Refusal::ClientExists) => {
      "; choose another HYPHA_CLIENT_ID, or stop the engine that has this one"
    }
    Some(Refusal::Other) | None => "",
  }
}

/// What a server is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faces {
  /// HTTP, and Hypha where the settings say so.
  Http,
  /// Hypha alone.
  Hypha,
}

pub(super) fn run(args: ServeArgs, faces: Faces) -> Result<(), ServeError> {
  let settings = Settings::new(args)?;
  tokio::runtime::Builder::new_multi_thread()
    .enable_all()
    .build()?
    .block_on(serve(settings, faces))
}

async fn serve(mut settings: Settings, faces: Faces) -> Result<(), ServeError> {
  if let Some(hypha) = &mut settings.hypha
    && hypha.token.is_none()
  {
    let certificates = settings.kernels.deno_cert.as_deref();
    let token = login::log_in(&hypha.server_url, hypha.workspace.as_deref(), certificates).await?;
    hypha.token = Some(token);
  }
  let http = match faces {
    Faces::Http => {
      let listeners = listeners(&mut settings).await?;
      // While the engine starts.
      let routes = tokio::task::spawn_blocking(Routes::default);
      Some((listeners, routes))
    }
    Faces::Hypha => None,
  };
  let data_dir = settings.data_dir.display().to_string();
  let limit = descriptors::raise_limit();
  let wanted = settings.max_connections as usize;
  let connections = descriptors::connections(wanted, limit, settings.kernels.kernel_max_count);
  if connections < wanted {
    tracing::info!(
      "at most {connections} connections at one time, not {wanted}: this process may open {} files",
      limit.unwrap_or_default()
    );
  }
  memory::set_up();
  let open_to_others = settings.access == Access::Open && !settings.host.is_loopback();
  let engine = embed::start(settings.engine()).await;
  let engine = engine.map_err(|e| ServeError::DataDir(data_dir, e))?;
  engine.vectors.take_over().await;
  engine.load_apps().await;
  let stop = CancellationToken::new();
  tokio::spawn({
    let stop = stop.clone();
    async move {
      stop_signal().await;
      stop.cancel();
    }
  });
  let hypha = settings
    .hypha
    .take()
    .map(|options| tokio::spawn(offer(engine.clone(), options, stop.clone())));
  match http {
    Some((listeners, routes)) => {
      let address = listeners.engine.local_addr()?;
      tracing::info!("listening on http://{address}  (API: http://{address}/api/docs)");
      if let Some(apps) = &listeners.apps {
        tracing::info!("apps are at http://{}/apps/", apps.local_addr()?);
      }
      if open_to_others {
        tracing::warn!("anybody who can reach {address} can run code here: --no-auth was given");
      }
      http_api::serve(
        listeners,
        routes.await.map_err(io::Error::other)?,
        engine.clone(),
        settings.http(),
        connections,
        stop.cancelled_owned(),
        DRAIN_TIMEOUT,
      )
      .await;
    }
    None => stop.cancelled().await,
  }
  tracing::info!("stopping");
  let offered = match hypha {
    Some(hypha) => hypha.await.map_err(io::Error::other)?,
    None => Ok(()),
  };
  engine.shut_down().await;
  Ok(offered?)
}

/// Offers the engine at a Hypha server; all of it stops when that cannot go on.
async fn offer(
  engine: Arc<Engine>,
  options: HyphaOptions,
  stop: CancellationToken,
) -> Result<(), HyphaError> {
  let _stops = stop.clone().drop_guard();
  hypha_service::serve(engine, options, stop.cancelled()).await
}

async fn listeners(settings: &mut Settings) -> Result<Listeners, ServeError> {
  let engine = listen(settings.host, settings.port, "--port").await?;
  // Where any free one was asked for, it is known now.
  settings.port = engine.local_addr()?.port();
  let apps = match settings.app_origins.port() {
    Some(port) => Some(listen(settings.host, port, "--apps-port").await?),
    None => None,
  };
  Ok(Listeners { engine, apps })
}

/// `flag` is the one that says another port.
async fn listen(host: IpAddr, port: u16, flag: &'static str) -> Result<TcpListener, ServeError> {
  let address = SocketAddr::new(host, port);
  let listener = TcpListener::bind(address).await;
  listener.map_err(|e| match e.kind() {
    io::ErrorKind::AddrInUse => ServeError::PortInUse { host, port, flag },
    _ => ServeError::Listen(address, e),
  })
}

/// Resolves on SIGINT and SIGTERM.
async fn stop_signal() {
  use tokio::signal::unix::SignalKind;
  use tokio::signal::unix::signal;
  let terminate = async {
    match signal(SignalKind::terminate()) {
      Ok(mut signals) => {
        signals.recv().await;
      }
      Err(_) => std::future::pending().await,
    }
  };
  tokio::select! {
    _ = tokio::signal::ctrl_c() => {}
    () = terminate => {}
  }
}
