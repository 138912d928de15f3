//! Every environment variable and flag, parsed and checked once. Names and defaults of the variables
//! that the original knew are the original's.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use kernel_host::protocol::CaStore;
use kernel_host::protocol::RegistryAuth;
use kernel_host::sandbox::Confinement;
use kernel_host::sandbox::KernelUser;

use crate::app_origins::AppOrigins;
use crate::apps::artifacts::Artifacts;
use crate::apps::artifacts::HyphaConfig;
use crate::authority::Authority;
use crate::authority::Hosts;
use crate::authority::Malformed;
use crate::authority::Origins;
use crate::kernel::KernelType;
use crate::kernel::Language;
use crate::kernel::Mode;
use crate::kernel::MountRoot;
use crate::kernel::PermissionRequest;
use crate::log_budget::LogBudget;
use crate::outbound::is_loopback;
use crate::registries;
use crate::secret::Secret;
use crate::tokens;
use crate::tokens::TokenFileError;
use crate::tokens::Tokens;
use crate::vectordb::InactivityTimeout;
use crate::vectordb::VectorDbOptions;
use crate::vectordb::embedding::RegistryOptions;
use crate::vectordb::embedding::preconfigured;

const MIB: u64 = 1 << 20;

/// The flags of `serve`; each has an environment variable of the same meaning.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
  /// Address to listen on. Anything but a loopback address needs ENGINE_TOKENS or --no-auth.
  #[arg(long, env = "ENGINE_HOST", default_value = "127.0.0.1")]
  pub host: IpAddr,

  /// Port to listen on; 0 takes a free one.
  #[arg(long, env = "ENGINE_PORT", default_value_t = 8000)]
  pub port: u16,

  /// The port again, as the original took it.
  #[arg(value_name = "PORT", conflicts_with = "port", hide = true)]
  pub positional_port: Option<u16>,

  /// Folder for everything the engine keeps on disk.
  #[arg(long, env = "ENGINE_DATA_DIR", value_name = "DIR")]
  pub data_dir: Option<PathBuf>,

  /// Serve without tokens on an address that others can reach.
  #[arg(long)]
  pub no_auth: bool,

  /// Bearer tokens and what each may see: "token=namespace" or "token=*", separated by commas.
  #[arg(
    long,
    env = "ENGINE_TOKENS",
    value_name = "LIST",
    hide_env_values = true
  )]
  pub tokens: Option<Tokens>,

  /// File with the digests of bearer tokens and what each may see, as `deno-app-engine tokens add` makes
  /// it; read at the start.
  #[arg(long, env = "ENGINE_TOKENS_FILE", value_name = "FILE")]
  pub tokens_file: Option<PathBuf>,

  /// Names that this server goes by, as host or host:port, separated by commas. The address it listens
  /// on and localhost need not be named.
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
  #[arg(long, env = "ENGINE_MAX_CONNECTIONS", value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
  pub max_connections: u32,

  /// Largest request body, in bytes.
  #[arg(long, env = "MAX_BODY_BYTES", default_value_t = 16 * MIB as usize, value_name = "BYTES")]
  pub max_body_bytes: usize,

  #[command(flatten)]
  pub apps: AppArgs,

  #[command(flatten)]
  pub vectors: VectorArgs,

  #[command(flatten)]
  pub kernels: KernelArgs,
}

/// Which apps there are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Apps")]
pub struct AppArgs {
  /// Folder of apps: each folder in it, and each .ts, .js or .py file, is one.
  #[arg(long, env = "APPS_DIR", value_name = "DIR")]
  pub apps_dir: Option<PathBuf>,

  /// Run the apps that are published on the Hypha server.
  #[arg(long, env = "LOAD_APPS", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
  pub load_apps: bool,

  /// Address of the Hypha server.
  #[arg(
    long,
    env = "HYPHA_SERVER_URL",
    value_name = "URL",
    default_value = "https://hypha.aicell.io"
  )]
  pub hypha_server_url: reqwest::Url,

  /// Workspace that published apps work in, and get tokens for; without it they get none. It should hold
  /// nothing else.
  #[arg(long, env = "HYPHA_WORKSPACE", value_name = "NAME")]
  pub hypha_workspace: Option<String>,

  /// Token for the Hypha server; apps get tokens made from it.
  #[arg(
    long,
    env = "HYPHA_TOKEN",
    value_name = "TOKEN",
    hide_env_values = true
  )]
  pub hypha_token: Option<Secret>,

  /// Collection of published apps, as workspace/name.
  #[arg(
    long,
    env = "HYPHA_APPS_COLLECTION",
    value_name = "ID",
    default_value = "hypha-agents/agents"
  )]
  pub hypha_apps_collection: String,

  /// Seconds between looks at what is published.
  #[arg(long, env = "APPS_UPDATE_SECONDS", value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
  pub apps_update_seconds: u64,

  /// Most apps at one time.
  #[arg(long, env = "APPS_MAX_COUNT", value_name = "N", default_value_t = 100)]
  pub apps_max_count: usize,

  /// Pass requests on to apps without asking for a token, also those of pages of other origins.
  #[arg(long, env = "APPS_PUBLIC", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
  pub apps_public: bool,

  /// Domain whose `*.` leads to this server; the pages of each app are at a name of their own below it
  /// [default: below localhost for those who come from this machine, else none].
  #[arg(long = "apps-domain", env = "ENGINE_APPS_DOMAIN", value_name = "NAME", value_parser = domain)]
  pub apps_domain: Option<Authority>,

  /// Port where only apps are served, for pages of their own origin without a domain.
  #[arg(long = "apps-port", env = "ENGINE_APPS_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
  pub apps_port: Option<u16>,
}

fn domain(text: &str) -> Result<Authority, String> {
  text
    .parse()
    .map_err(|Malformed| "it is not the name of a domain, such as apps.example".to_owned())
}

impl AppArgs {
  /// Where published apps come from, when they are wanted.
  ///
  /// # Errors
  /// When the settings cannot work; the message names the one.
  pub fn artifacts(&self, certificates: Option<PathBuf>) -> Result<Option<Artifacts>, String> {
    if !self.load_apps {
      return Ok(None);
    }
    let config = HyphaConfig {
      server_url: self.hypha_server_url.clone(),
      workspace: self.hypha_workspace.clone(),
      collection: self.hypha_apps_collection.clone(),
      token: self.hypha_token.clone(),
      certificates,
      // A server on this machine is there to be tried out.
      powerful_tokens: is_loopback(&self.hypha_server_url),
    };
    Artifacts::new(config).map(Some).map_err(|e| e.to_string())
  }
}

/// How vector indices are held, and what embeds their texts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Vector database")]
pub struct VectorArgs {
  /// Folder of the indices; those that the original off-loaded there are taken over [default:
  /// vectordb in the data folder].
  #[arg(long, env = "VECTORDB_OFFLOAD_DIRECTORY", value_name = "DIR")]
  pub vectordb_offload_directory: Option<PathBuf>,

  /// Most indices open at one time.
  #[arg(
    long,
    env = "MAX_VECTOR_DB_INSTANCES",
    value_name = "N",
    default_value_t = 10
  )]
  pub max_vector_db_instances: usize,

  /// Most bytes of vectors in memory, of all indices together; an index that has no more room is
  /// searched on disk.
  #[arg(
    long,
    env = "VECTORDB_MEMORY_BYTES",
    value_name = "BYTES",
    default_value_t = 1 << 30
  )]
  pub vectordb_memory_bytes: usize,

  /// Milliseconds without use after which an index is closed; 0 for never.
  #[arg(
    long,
    env = "VECTORDB_DEFAULT_INACTIVITY_TIMEOUT",
    value_name = "MS",
    default_value_t = 1_800_000
  )]
  pub vectordb_default_inactivity_timeout: u64,

  /// Close indices that nobody uses.
  #[arg(long, env = "VECTORDB_ACTIVITY_MONITORING", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
  pub vectordb_activity_monitoring: bool,

  /// Model of indices that name no provider; only mock-model is part of the server.
  #[arg(
    long,
    env = "EMBEDDING_MODEL",
    value_name = "NAME",
    default_value = "mock-model"
  )]
  pub embedding_model: String,

  /// Provider of indices that name none.
  #[arg(long, env = "DEFAULT_EMBEDDING_PROVIDER_NAME", value_name = "NAME")]
  pub default_embedding_provider_name: Option<String>,

  /// Address of the Ollama server behind the providers that are there from the start.
  #[arg(
    long,
    env = "OLLAMA_HOST",
    value_name = "URL",
    default_value = "http://localhost:11434"
  )]
  pub ollama_host: String,
}

impl VectorArgs {
  /// What the database is told. `certificates` is a PEM file of authorities that providers may use.
  pub fn options(&self, data_dir: &Path, certificates: Option<PathBuf>) -> VectorDbOptions {
    let folder = self.vectordb_offload_directory.clone();
    let provider = self.default_embedding_provider_name.clone();
    VectorDbOptions {
      max_instances: self.max_vector_db_instances,
      memory: self.vectordb_memory_bytes,
      default_timeout: InactivityTimeout::from_millis(self.vectordb_default_inactivity_timeout),
      activity_monitoring: self.vectordb_activity_monitoring,
      default_model: self.embedding_model.clone(),
      default_provider: provider.filter(|name| !name.is_empty()),
      providers: preconfigured(&with_scheme(&self.ollama_host)),
      registry: RegistryOptions {
        certificates,
        ..RegistryOptions::default()
      },
      ..VectorDbOptions::new(folder.unwrap_or_else(|| data_dir.join("vectordb")))
    }
  }
}

/// Ollama itself takes its variable without one.
fn with_scheme(host: &str) -> String {
  match host.contains("://") {
    true => host.to_owned(),
    false => format!("http://{host}"),
  }
}

/// How kernels are made and held.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kernels")]
pub struct KernelArgs {
  /// Kernel types that may be created, e.g. "worker-typescript,worker-javascript".
  #[arg(
    long,
    env = "ALLOWED_KERNEL_TYPES",
    value_name = "LIST",
    default_value = "worker-python,worker-typescript,worker-javascript"
  )]
  pub allowed_kernel_types: KernelTypes,

  /// Keep blank kernels ready.
  #[arg(long, env = "KERNEL_POOL_ENABLED", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
  pub kernel_pool_enabled: bool,

  /// Blank kernels kept ready for each preloaded runtime.
  #[arg(long, env = "KERNEL_POOL_SIZE", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=1000))]
  pub kernel_pool_size: u16,

  /// Replace a blank kernel when it is taken.
  #[arg(long, env = "KERNEL_POOL_AUTO_REFILL", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
  pub kernel_pool_auto_refill: bool,

  /// Types to keep ready [default: the allowed Python types].
  #[arg(long, env = "KERNEL_POOL_PRELOAD_CONFIGS", value_name = "LIST")]
  pub kernel_pool_preload_configs: Option<KernelTypes>,

  /// Most kernels at one time.
  #[arg(
    long,
    env = "KERNEL_MAX_COUNT",
    value_name = "N",
    default_value_t = 200
  )]
  pub kernel_max_count: usize,

  /// Largest JavaScript heap of a kernel, and its default, in MiB.
  #[arg(long, env = "KERNEL_MAX_HEAP_MB", value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..=65536))]
  pub kernel_max_heap_mb: u64,

  /// Most memory of a kernel process, and its default, in MiB.
  #[arg(long, env = "KERNEL_MAX_MEMORY_MB", value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(128..=1_048_576))]
  pub kernel_max_memory_mb: u64,

  /// Most output kept of one execution, and its default, in bytes.
  #[arg(long, env = "KERNEL_MAX_OUTPUT_BYTES", value_name = "BYTES", default_value_t = 32 * MIB, value_parser = clap::value_parser!(u64).range(1024..))]
  pub kernel_max_output_bytes: u64,

  /// The most a kernel may be permitted, as JSON, e.g. {"net": true, "run": ["git"]}; members left
  /// out keep their default.
  #[arg(
    long,
    env = "KERNEL_PERMISSIONS_MAX",
    value_name = "JSON",
    default_value = "{}"
  )]
  pub kernel_permissions_max: PermissionRequest,

  /// Host folders that kernels may mount, separated like PATH; in /data/{namespace} the kernels of each
  /// namespace may mount a folder of their own [default: none].
  #[arg(long, env = "KERNEL_MOUNT_ROOTS", value_name = "PATHS", value_delimiter = PATH_SEPARATOR)]
  pub kernel_mount_roots: Vec<MountRoot>,

  /// Most memory of the outputs of kernels and the logs of apps, all together, in bytes; the oldest
  /// make room.
  #[arg(long, env = "LOGS_MEMORY_BYTES", value_name = "BYTES", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..))]
  pub logs_memory_bytes: u64,

  /// The same of one namespace [default: half of it].
  #[arg(long, env = "LOGS_MEMORY_BYTES_PER_NAMESPACE", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 20..))]
  pub logs_memory_bytes_per_namespace: Option<u64>,

  /// User that kernels run as, when the server runs as root: a name, uid or uid:gid [default: the
  /// server's own, without privileges].
  #[arg(long, env = "ENGINE_KERNEL_USER", value_name = "USER")]
  pub kernel_user: Option<KernelUser>,

  /// What opens the package registries.
  #[arg(skip)]
  pub registry_auth: Vec<RegistryAuth>,

  /// Whether files that kernels make are for others too: those of a program in the foreground are.
  #[arg(skip)]
  pub shared_files: bool,

  /// Import only modules that are in the cache.
  #[arg(long, env = "DENO_CACHED_ONLY", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
  pub cached_only: bool,

  /// PEM file with certificate authorities that kernels trust besides the usual ones.
  #[arg(long = "cert", env = "DENO_CERT", value_name = "FILE")]
  pub deno_cert: Option<PathBuf>,

  /// Certificate authorities that kernels trust: "mozilla", "system" or both, separated by commas.
  #[arg(
    long = "tls-ca-store",
    env = "DENO_TLS_CA_STORE",
    value_name = "LIST",
    value_delimiter = ',',
    default_value = "mozilla"
  )]
  pub tls_ca_store: Vec<CaStore>,

  /// Interpreter of CPython kernels: a path, or a name looked for in PATH. These kernels are not
  /// sandboxed; allow them with ALLOWED_KERNEL_TYPES for people you trust.
  #[arg(
    long,
    env = "CPYTHON_EXECUTABLE",
    value_name = "FILE",
    default_value = "python3"
  )]
  pub cpython_executable: PathBuf,

  /// More interpreters that a kernel may ask for with `python`, separated like PATH.
  #[arg(long, env = "CPYTHON_OTHERS", value_name = "PATHS", value_delimiter = PATH_SEPARATOR)]
  pub cpython_others: Vec<PathBuf>,

  /// Folder with packages of the Pyodide distribution, looked in before the CDN.
  #[arg(long, env = "PYODIDE_PACKAGES_DIR", value_name = "DIR")]
  pub pyodide_packages_dir: Option<PathBuf>,
}

const PATH_SEPARATOR: char = if cfg!(windows) { ';' } else { ':' };

/// The settings of a running server, checked.
#[derive(Debug, Clone)]
pub struct Settings {
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
  /// Where pages of apps are.
  pub app_origins: AppOrigins,
  pub apps: AppArgs,
  pub vectors: VectorArgs,
  pub kernels: KernelArgs,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
  Open,
  Tokens(Tokens),
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
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
  pub fn new(args: ServeArgs) -> Result<Self, SettingsError> {
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
    apps
      .artifacts(kernels.deno_cert.clone())
      .map_err(SettingsError::Hypha)?;
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
      app_origins,
      apps,
      vectors: args.vectors,
      kernels,
    })
  }
}

impl KernelArgs {
  /// What the environment says, the defaults for the rest.
  ///
  /// # Errors
  /// When a variable has no valid value.
  pub fn from_environment() -> Result<Self, clap::Error> {
    let command = Self::augment_args(clap::Command::new(env!("CARGO_PKG_NAME")));
    let matches = command.try_get_matches_from([env!("CARGO_PKG_NAME")])?;
    let mut settings = <Self as clap::FromArgMatches>::from_arg_matches(&matches)?;
    settings.registry_auth = registries::auth();
    settings
      .check()
      .map_err(|e| clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{e}\n")))?;
    Ok(settings)
  }

  /// Finds the folders and files that are named.
  fn check(&mut self) -> Result<(), SettingsError> {
    self.kernel_mount_roots.retain(|root| !root.is_empty());
    for root in &mut self.kernel_mount_roots {
      if !root.resolve() {
        return Err(SettingsError::MountRoot(root.written().to_owned()));
      }
    }
    if let Some(path) = &mut self.deno_cert {
      *path = path
        .canonicalize()
        .ok()
        .filter(|path| path.is_file())
        .ok_or_else(|| SettingsError::Certificates(path.clone()))?;
    }
    for python in self
      .cpython_others
      .iter_mut()
      .chain([&mut self.cpython_executable])
    {
      if let Some(found) = program(python) {
        *python = found;
      }
    }
    self
      .kernel_user
      .map_or(Ok(()), KernelUser::check)
      .map_err(SettingsError::KernelUser)
  }

  /// How the processes of kernels are confined.
  pub fn confinement(&self) -> Confinement {
    Confinement {
      user: self.kernel_user,
      shared_files: self.shared_files,
    }
  }

  /// The budget of all logs.
  pub fn log_budget(&self) -> Arc<LogBudget> {
    let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let most = self.logs_memory_bytes;
    let per_namespace = self.logs_memory_bytes_per_namespace.unwrap_or(most / 2);
    LogBudget::new(bytes(most), bytes(per_namespace))
  }

  /// Types to keep ready; what is not allowed is left out.
  pub fn preload(&self) -> Vec<KernelType> {
    match &self.kernel_pool_preload_configs {
      Some(list) => {
        let (allowed, dropped): (Vec<_>, Vec<_>) = list
          .0
          .iter()
          .copied()
          .partition(|kind| self.allowed_kernel_types.0.contains(kind));
        for kind in dropped {
          tracing::warn!(
            "KERNEL_POOL_PRELOAD_CONFIGS: {kind} is not an allowed kernel type, ignored"
          );
        }
        allowed
      }
      None => {
        let python = |kind: &&KernelType| kind.language == Language::Python;
        self
          .allowed_kernel_types
          .0
          .iter()
          .filter(python)
          .copied()
          .collect()
      }
    }
  }
}

/// The absolute path of a program: of one that PATH has, or below the folder that the server was started
/// in. Links stay: a Python finds out by them which environment it is of.
fn program(written: &Path) -> Option<PathBuf> {
  if written.as_os_str().is_empty() || written.components().count() > 1 {
    return std::path::absolute(written).ok();
  }
  let usual = || "/usr/local/bin:/usr/bin:/bin".into();
  let path = std::env::var_os("PATH").unwrap_or_else(usual);
  let is_program = |path: &PathBuf| {
    let metadata = path.metadata();
    metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
  };
  std::env::split_paths(&path)
    .filter(|folder| folder.is_absolute())
    .map(|folder| folder.join(written))
    .find(is_program)
}

/// The platform's folder for application data, else one below the home directory.
pub fn default_data_dir() -> Option<PathBuf> {
  let absolute = |name| {
    std::env::var_os(name)
      .map(PathBuf::from)
      .filter(|p| p.is_absolute())
  };
  let base = absolute("XDG_DATA_HOME")
    .or_else(|| absolute("HOME").map(|home| home.join(".local").join("share")))?;
  Some(base.join("deno-app-engine"))
}

/// A comma list of `mode-language`. `main_thread` must be written out; an empty list means the
/// default, as the original had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelTypes(pub Vec<KernelType>);

impl FromStr for KernelTypes {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    let mut kinds: Vec<KernelType> = Vec::new();
    for item in text
      .split(',')
      .map(str::trim)
      .filter(|item| !item.is_empty())
    {
      let (mode, language) = item.split_once('-').ok_or_else(|| {
        format!("`{item}` is not a kernel type: write mode-language, e.g. worker-typescript")
      })?;
      let mode = Mode::from_str(mode).map_err(|e| format!("`{item}`: {e}"))?;
      let language = Language::from_str(language).map_err(|e| format!("`{item}`: {e}"))?;
      let kind = KernelType { mode, language };
      if !kinds.contains(&kind) {
        kinds.push(kind);
      }
    }
    if kinds.is_empty() {
      kinds = [Language::Python, Language::TypeScript, Language::JavaScript]
        .map(|language| KernelType {
          mode: Mode::Worker,
          language,
        })
        .into();
    }
    Ok(Self(kinds))
  }
}

#[cfg(test)]
mod tests {
  use clap::Parser;

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
  fn kernel_types_are_checked_and_an_empty_list_is_the_default() {
    let types = |text: &str| text.parse::<KernelTypes>();
    assert_eq!(types("").expect("default").0.len(), 3);
    assert_eq!(
      types("worker-ts, main_thread-javascript")
        .expect("two")
        .0
        .len(),
      2
    );
    assert!(
      types("worker-cobol")
        .expect_err("unknown")
        .contains("worker-cobol")
    );
    assert!(
      types("typescript")
        .expect_err("no mode")
        .contains("worker-typescript")
    );
  }

  #[test]
  fn a_program_is_looked_for_in_path() {
    let found = program(Path::new("sh")).expect("every system has one");
    assert!(found.is_absolute() && found.ends_with("sh"), "{found:?}");
    assert_eq!(program(Path::new("no-such-program-xyz")), None);
    assert_eq!(program(Path::new("/a/b")), Some("/a/b".into()));
    let relative = program(Path::new("env/bin/python")).expect("a path");
    assert!(relative.is_absolute() && relative.ends_with("env/bin/python"));
  }

  #[test]
  fn a_mount_root_must_exist() {
    let missing = settings(&["--kernel-mount-roots", "/no/such/dir"]);
    assert!(
      matches!(missing, Err(SettingsError::MountRoot(root)) if root == Path::new("/no/such/dir"))
    );
  }
}
