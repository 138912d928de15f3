//! Every environment variable and flag, parsed and checked once. Names and defaults of the variables
//! that the original knew are the original's.

mod agents;
mod apps;
mod hypha;
mod kernels;
mod vectors;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use access::Tokens;
use access::tokens;
use access::tokens::TokenFileError;
use clap::Args;
use embed::ZygoteOptions;
use engine::AppOptions;
use http_api::AppOrigins;
use http_api::Hosts;
use http_api::HttpOptions;
use http_api::Origins;
use hypha_client::Artifacts;
use hypha_service::HyphaOptions;

use crate::pyodide::PYODIDE;

pub(crate) use self::agents::AgentArgs;
pub(crate) use self::apps::AppArgs;
pub(crate) use self::hypha::HyphaArgs;
pub(crate) use self::kernels::KernelArgs;
pub(crate) use self::vectors::VectorArgs;

const MIB: u64 = 1 << 20;

/// The flags of `serve`; each has an environment variable of the same meaning.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
  /// Address to listen on. Any but a loopback address needs ENGINE_TOKENS_FILE, ENGINE_TOKENS or
  /// --no-auth.
  #[arg(long, env = "ENGINE_HOST", default_value = "127.0.0.1")]
  pub host: IpAddr,

  /// Port to listen on; 0 takes a free one.
  #[arg(long, env = "ENGINE_PORT", default_value_t = 8000)]
  pub port: u16,

  /// The port again, as the original took it.
  #[arg(value_name = "PORT", conflicts_with = "port", hide = true, value_parser = bare_port)]
  pub positional_port: Option<u16>,

  /// Folder for everything the engine keeps on disk [default: deno-app-engine in XDG_DATA_HOME, which is
  /// ~/.local/share unless it is set].
  #[arg(long, env = "ENGINE_DATA_DIR", value_name = "DIR")]
  pub data_dir: Option<PathBuf>,

  /// Serve without tokens on an address that others can reach.
  #[arg(long)]
  pub no_auth: bool,

  /// Bearer tokens and what each may see: "token=namespace" or "token=*", separated by commas.
  ///
  /// "*" is every namespace. The server takes this out of its environment and its command line at the
  /// start, so that other programs of its account cannot read it there.
  #[arg(
    long,
    env = "ENGINE_TOKENS",
    value_name = "LIST",
    hide_env_values = true
  )]
  pub tokens: Option<Tokens>,

  /// File with the digests of bearer tokens and what each may see, as `deno-app-engine tokens add` makes
  /// it; read at the start.
  ///
  /// `deno-app-engine tokens add lab --tokens-file tokens.json` makes a token for the namespace lab, shows
  /// it once, and adds its digest to the file.
  #[arg(long, env = "ENGINE_TOKENS_FILE", value_name = "FILE")]
  pub tokens_file: Option<PathBuf>,

  /// Names that this server goes by, as host or host:port, separated by commas. The address it listens
  /// on and localhost need not be named.
  ///
  /// Behind a proxy, these are the proxy's names.
  #[arg(
    long,
    env = "ENGINE_HOSTS",
    value_name = "LIST",
    default_value = "",
    hide_default_value = true
  )]
  pub hosts: Hosts,

  /// Origins whose pages may use this server, as scheme://host[:port], separated by commas. Its own
  /// need not be named.
  #[arg(
    long,
    env = "ENGINE_ORIGINS",
    value_name = "LIST",
    default_value = "",
    hide_default_value = true
  )]
  pub origins: Origins,

  /// Most connections at one time; fewer where the system lets the server open fewer files.
  ///
  /// A peer other than this machine has at most a quarter of them.
  #[arg(long, env = "ENGINE_MAX_CONNECTIONS", value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
  pub max_connections: u32,

  /// Largest request body, in bytes.
  ///
  /// Large bodies wait for each other: together they take at most 64 MiB of memory while they are read,
  /// and those of one namespace half of that.
  #[arg(long, env = "MAX_BODY_BYTES", default_value_t = 16 * MIB as usize, value_name = "BYTES")]
  pub max_body_bytes: usize,

  /// Largest file that can be sent to a kernel or to the lasting files, in bytes.
  #[arg(long, env = "MAX_FILE_BYTES", default_value_t = 1 << 30, value_name = "BYTES")]
  pub max_file_bytes: u64,

  #[command(flatten)]
  pub apps: AppArgs,

  #[command(flatten)]
  pub hypha: HyphaArgs,

  #[command(flatten)]
  pub vectors: VectorArgs,

  #[command(flatten)]
  pub agents: AgentArgs,

  #[command(flatten)]
  pub kernels: KernelArgs,
}

/// Whatever is no command is taken for a port.
fn bare_port(text: &str) -> Result<u16, &'static str> {
  let wrong = "it is neither a command nor a port";
  text.parse().map_err(|_| wrong)
}

/// The settings of a running server, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
  pub host: IpAddr,
  pub port: u16,
  pub data_dir: PathBuf,
  pub access: Access,
  /// What it is called, besides its address.
  pub hosts: Hosts,
  /// Whose pages may use it, besides its own.
  pub origins: Origins,
  pub max_connections: u32,
  pub max_body_bytes: usize,
  pub max_file_bytes: u64,
  /// Where pages of apps are.
  pub app_origins: AppOrigins,
  pub apps: AppArgs,
  /// Where published apps come from, when they are run.
  pub artifacts: Option<Arc<Artifacts>>,
  /// Where the engine is a service.
  pub hypha: Option<HyphaOptions>,
  /// How long tokens of kernels and apps for the Hypha server are valid.
  pub token_life: Duration,
  pub vectors: VectorArgs,
  pub agents: AgentArgs,
  pub kernels: KernelArgs,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
  #[error(
    "--host {0} can be reached by others: set ENGINE_TOKENS_FILE or ENGINE_TOKENS, or say --no-auth to serve without tokens"
  )]
  OpenToOthers(IpAddr),
  #[error("ENGINE_TOKENS_FILE: {0}")]
  TokenFile(#[from] TokenFileError),
  #[error("no home directory is known: say where to keep data with --data-dir")]
  NoDataDir,
  #[error("KERNEL_MOUNT_ROOTS: `{0}` is not a directory")]
  MountRoot(PathBuf),
  #[error("APPS_DIR: `{0}` is not a directory")]
  AppsDir(PathBuf),
  #[error("{0}")]
  AppOrigins(String),
  #[error("ENGINE_APPS_PORT: {0} is the engine's own port")]
  AppsPort(u16),
  #[error("{0}")]
  Hypha(String),
  #[error("DENO_CERT: `{0}` is not a file")]
  Certificates(PathBuf),
  #[error("ENGINE_KERNEL_USER: {0}")]
  KernelUser(String),
}

impl Settings {
  /// # Errors
  /// When settings that are fine by themselves do not fit together.
  pub(crate) fn new(args: ServeArgs) -> Result<Self, SettingsError> {
    let in_file = args.tokens_file.as_deref().map(tokens::read).transpose()?;
    let tokens = match (in_file, args.tokens) {
      (Some(in_file), Some(named)) => Some(in_file.and(named)),
      (in_file, named) => in_file.or(named),
    };
    let access = match tokens {
      Some(tokens) => Access::Tokens(tokens),
      None if args.host.is_loopback() || args.no_auth => Access::Open,
      None => return Err(SettingsError::OpenToOthers(args.host)),
    };
    let data_dir = args
      .data_dir
      .or_else(default_data_dir)
      .ok_or(SettingsError::NoDataDir)?;
    let mut kernels = args.kernels;
    kernels.check()?;
    let mut apps = args.apps;
    if let Some(dir) = &mut apps.apps_dir {
      *dir = dir
        .canonicalize()
        .ok()
        .filter(|path| path.is_dir())
        .ok_or_else(|| SettingsError::AppsDir(dir.clone()))?;
    }
    let artifacts = apps
      .artifacts(kernels.deno_cert.clone())
      .map_err(SettingsError::Hypha)?
      .map(Arc::new);
    let hypha = args.hypha.options(&apps, kernels.deno_cert.as_ref());
    let hypha = hypha.map_err(SettingsError::Hypha)?;
    let port = args.positional_port.unwrap_or(args.port);
    if apps.apps_port == Some(port) {
      return Err(SettingsError::AppsPort(port));
    }
    let app_origins = AppOrigins::new(apps.apps_domain.clone(), apps.apps_port)
      .map_err(SettingsError::AppOrigins)?;
    Ok(Self {
      host: args.host,
      port,
      data_dir,
      access,
      hosts: args.hosts,
      origins: args.origins,
      max_connections: args.max_connections,
      max_body_bytes: args.max_body_bytes,
      max_file_bytes: args.max_file_bytes,
      app_origins,
      apps,
      artifacts,
      hypha,
      token_life: args.hypha.token_life(),
      vectors: args.vectors,
      agents: args.agents,
      kernels,
    })
  }

  /// What the engine is told.
  pub(crate) fn engine(&self) -> embed::Options {
    let own_ports = [Some(self.port), self.app_origins.port()];
    let certificates = self.kernels.deno_cert.clone();
    embed::Options {
      kernels: self.kernels.options(),
      cached_only: self.kernels.cached_only,
      zygotes: ZygoteOptions {
        most: match self.kernels.zygote {
          true => self.kernels.zygotes_max.into(),
          false => 0,
        },
        // Whoever may call us from there is as good as one with a token.
        per_namespace: matches!(self.access, Access::Tokens(_)) || self.hypha.is_some(),
      },
      pyodide: PYODIDE,
      pyodide_packages_dir: self.kernels.pyodide_packages_dir.clone(),
      apps: AppOptions {
        folder: self.apps.apps_dir.clone(),
        max_count: self.apps.apps_max_count,
        artifacts: self.artifacts.clone(),
        update_interval: Duration::from_secs(self.apps.apps_update_seconds),
        token_life: self.token_life,
        reserved_ports: own_ports.into_iter().flatten().collect(),
      },
      agents: self.agents.options(&self.data_dir, certificates.clone()),
      vectors: self.vectors.options(&self.data_dir, certificates),
      data_dir: self.data_dir.clone(),
    }
  }

  /// What the HTTP face is told.
  pub(crate) fn http(&self) -> HttpOptions {
    HttpOptions {
      access: self.access.clone(),
      bound: self.host,
      hosts: self.hosts.clone(),
      origins: self.origins.clone(),
      app_origins: self.app_origins.clone(),
      apps_public: self.apps.apps_public,
      max_body_bytes: self.max_body_bytes,
      max_file_bytes: self.max_file_bytes,
    }
  }
}

/// The platform's folder for application data, else one below the home directory.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
  let absolute = |name| {
    std::env::var_os(name)
      .map(PathBuf::from)
      .filter(|p| p.is_absolute())
  };
  let base = absolute("XDG_DATA_HOME")
    .or_else(|| absolute("HOME").map(|home| home.join(".local").join("share")))?;
  Some(base.join("deno-app-engine"))
}

#[cfg(test)]
mod tests {
  use clap::Parser;

  use std::path::Path;

  use super::*;

  #[derive(Parser)]
  struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
  }

  fn settings(args: &[&str]) -> Result<Settings, SettingsError> {
    let args = ["engine", "--data-dir", "/tmp/x"].iter().chain(args);
    Settings::new(Cli::try_parse_from(args).expect("parses").serve)
  }

  #[test]
  fn a_public_address_needs_tokens_or_a_word() {
    let refused = settings(&["--host", "0.0.0.0"]);
    assert!(matches!(refused, Err(SettingsError::OpenToOthers(_))));
    assert!(settings(&["--host", "0.0.0.0", "--no-auth"]).is_ok());
    assert!(settings(&["--host", "0.0.0.0", "--tokens", "a=*"]).is_ok());
  }

  #[test]
  fn a_mount_root_must_exist() {
    let missing = settings(&["--kernel-mount-roots", "/no/such/dir"]);
    assert!(
      matches!(missing, Err(SettingsError::MountRoot(root)) if root == Path::new("/no/such/dir"))
    );
  }
}
