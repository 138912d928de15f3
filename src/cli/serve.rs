//! `deno-app-engine serve`: listens, serves, and stops in good order.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use access::Access;
use http_api::Listeners;
use tokio::net::TcpListener;

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
  #[error("{0}")]
  Io(#[from] io::Error),
}

pub(super) fn run(args: ServeArgs) -> Result<(), ServeError> {
  let settings = Settings::new(args)?;
  tokio::runtime::Builder::new_multi_thread()
    .enable_all()
    .build()?
    .block_on(serve(settings))
}

async fn serve(mut settings: Settings) -> Result<(), ServeError> {
  let listener = listen(settings.host, settings.port, "--port").await?;
  let address = listener.local_addr()?;
  // Where any free one was asked for, it is known now.
  settings.port = address.port();
  let apps = match settings.app_origins.port() {
    Some(port) => Some(listen(settings.host, port, "--apps-port").await?),
    None => None,
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
  tracing::info!("listening on http://{address}  (API: http://{address}/api/docs)");
  if let Some(apps) = &apps {
    tracing::info!("apps are at http://{}/apps/", apps.local_addr()?);
  }
  if open_to_others {
    tracing::warn!("anybody who can reach {address} can run code here: --no-auth was given");
  }
  http_api::serve(
    Listeners {
      engine: listener,
      apps,
    },
    engine.clone(),
    settings.http(),
    connections,
    stop_signal(),
    DRAIN_TIMEOUT,
  )
  .await;
  tracing::info!("stopping");
  engine.shut_down().await;
  Ok(())
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
