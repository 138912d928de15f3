//! Settings of the service at a Hypha server.

use std::path::PathBuf;
use std::time::Duration;

use access::Secret;
use clap::Args;
use clap::ValueEnum;
use hypha_service::HyphaOptions;
use hypha_service::Token;
use hypha_service::TokenOptions;
use hypha_service::WorkerOptions;
use outbound::is_loopback;

use super::AppArgs;

/// Whether the engine is a service of a Hypha server. Which server, as whom, say the settings of apps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hypha")]
pub(crate) struct HyphaArgs {
  /// Offer the engine as the service deno-app-engine of the Hypha server.
  #[arg(long, env = "HYPHA_SERVICE", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
  pub hypha: bool,

  /// Name of this engine in its workspace [default: a random one].
  ///
  /// With a fixed one, an engine that is started again replaces the service of the one before.
  #[arg(long, env = "HYPHA_CLIENT_ID", value_name = "NAME")]
  pub hypha_client_id: Option<String>,

  /// Whose apps of the type deno-app the engine runs for the Hypha server, when that installs and starts them.
  #[arg(long, env = "HYPHA_WORKER", value_enum, value_name = "WHOSE", default_value_t = WorkerFor::Workspace)]
  pub hypha_worker: WorkerFor,

  /// Seconds that tokens of kernels and published apps are valid; those that live longer get the next one before.
  #[arg(long, env = "HYPHA_KERNEL_TOKEN_SECONDS", value_name = "N", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
  pub hypha_kernel_token_seconds: u64,

  /// File with variables, as NAME=value lines, that are not in the environment; the command hypha reads .env of the
  /// working directory by itself.
  #[arg(long, value_name = "FILE")]
  pub env_file: Option<PathBuf>,
}

/// Whose apps the engine runs as a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkerFor {
  /// Nobody's.
  Off,
  /// Those of the engine's own workspace.
  Workspace,
  /// Those of every workspace.
  Everyone,
}

impl HyphaArgs {
  /// How long tokens of kernels and apps are valid.
  pub(crate) fn token_life(&self) -> Duration {
    Duration::from_secs(self.hypha_kernel_token_seconds)
  }

  /// Where the service is to be registered, if it is wanted.
  ///
  /// # Errors
  /// When the file of certificates cannot be read.
  pub(crate) fn options(
    &self,
    apps: &AppArgs,
    certificates: Option<&PathBuf>,
  ) -> Result<Option<HyphaOptions>, String> {
    if !self.hypha {
      return Ok(None);
    }
    let authorities = certificates.map(|file| {
      std::fs::read(file).map_err(|e| format!("DENO_CERT: {} cannot be read: {e}", file.display()))
    });
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Ok(Some(HyphaOptions {
      server_url: apps.hypha_server_url.clone(),
      workspace: given(&apps.hypha_workspace),
      token: apps
        .hypha_token
        .as_ref()
        .map(Secret::expose)
        .filter(|text| !text.is_empty())
        .map(Token::new),
      client_id: given(&self.hypha_client_id),
      authorities: authorities.transpose()?,
      worker: (self.hypha_worker != WorkerFor::Off).then(|| WorkerOptions {
        for_everyone: self.hypha_worker == WorkerFor::Everyone,
        certificates: certificates.cloned(),
      }),
      kernel_tokens: TokenOptions {
        life: self.token_life(),
        // A server on this machine is there to be tried out.
        powerful: is_loopback(&apps.hypha_server_url),
      },
    }))
  }
}
