//! Settings of kernels.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use embed::registries;
use kernel_protocol::CaStore;
use kernel_protocol::RegistryAuth;
use kernels::KernelOptions;
use kernels::KernelType;
use kernels::Language;
use kernels::Mode;
use kernels::MountRoot;
use kernels::PermissionRequest;
use kernels::PoolOptions;
use sandbox::Confinement;
use sandbox::KernelUser;

use super::MIB;
use super::SettingsError;

/// How kernels are made and held.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kernels")]
pub(crate) struct KernelArgs {
  /// Kernel types that may be created, e.g. "worker-typescript,worker-javascript".
  ///
  /// Each is mode-language. Kernels of the mode main_thread run inside the server, and worker-cpython ones
  /// without a sandbox: both are for trusted code. An empty list means the default.
  #[arg(
    long,
    env = "ALLOWED_KERNEL_TYPES",
    value_name = "LIST",
    default_value = "worker-python,worker-typescript,worker-javascript"
  )]
  pub allowed_kernel_types: KernelTypes,

  /// Keep blank kernels ready, so that creating one takes next to no time.
  #[arg(long, env = "KERNEL_POOL_ENABLED", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
  pub kernel_pool_enabled: bool,

  /// Blank kernels kept ready for each preloaded runtime; TypeScript and JavaScript share one.
  #[arg(long, env = "KERNEL_POOL_SIZE", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=1000))]
  pub kernel_pool_size: u16,

  /// Replace a blank kernel when it is taken.
  #[arg(long, env = "KERNEL_POOL_AUTO_REFILL", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
  pub kernel_pool_auto_refill: bool,

  /// Types to keep ready, written like ALLOWED_KERNEL_TYPES [default: the allowed types but CPython, whose kernels are
  /// always forked].
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

  /// Largest JavaScript heap of a kernel, in MiB: the default, and the most a request may ask for.
  #[arg(long, env = "KERNEL_MAX_HEAP_MB", value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..=65536))]
  pub kernel_max_heap_mb: u64,

  /// Most memory of a kernel process, in MiB: the default, and the most a request may ask for.
  #[arg(long, env = "KERNEL_MAX_MEMORY_MB", value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(128..=1_048_576))]
  pub kernel_max_memory_mb: u64,

  /// Most output kept of one execution, in bytes: the default, and the most a request may ask for.
  ///
  /// What is over it is cut, and an event says so.
  #[arg(long, env = "KERNEL_MAX_OUTPUT_BYTES", value_name = "BYTES", default_value_t = 32 * MIB, value_parser = clap::value_parser!(u64).range(1024..))]
  pub kernel_max_output_bytes: u64,

  /// The most a kernel may be permitted, as JSON, e.g. `{"net": true, "run": ["git"]}`; members left
  /// out keep their default.
  ///
  /// The form is that of `permissions` in a request. By default a kernel reads and writes its own folder,
  /// reaches the public network, and has no `run`, `ffi` or `sys`.
  #[arg(
    long,
    env = "KERNEL_PERMISSIONS_MAX",
    value_name = "JSON",
    default_value = "{}"
  )]
  pub kernel_permissions_max: PermissionRequest,

  /// Host folders that kernels may mount, separated by colons; in /data/{namespace} the kernels of each
  /// namespace may mount a folder of their own [default: none].
  #[arg(long, env = "KERNEL_MOUNT_ROOTS", value_name = "PATHS", value_delimiter = PATH_SEPARATOR)]
  pub kernel_mount_roots: Vec<MountRoot>,

  /// Most memory of the outputs of kernels and the logs of apps, all together, in bytes; the oldest
  /// make room.
  #[arg(long, env = "LOGS_MEMORY_BYTES", value_name = "BYTES", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..))]
  pub logs_memory_bytes: u64,

  /// The same for one namespace, in bytes [default: half of LOGS_MEMORY_BYTES].
  ///
  /// Kernels without a namespace count as one namespace, and so do apps.
  #[arg(long, env = "LOGS_MEMORY_BYTES_PER_NAMESPACE", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 20..))]
  pub logs_memory_bytes_per_namespace: Option<u64>,

  /// User that kernels and apps run as when the server runs as root: a name, uid or uid:gid [default: the
  /// server's own, without privileges].
  ///
  /// A name is looked up in /etc/passwd. The user must be able to pass the folders above the data folder,
  /// and to read app folders, mounts and the CPython that is named.
  #[arg(long, env = "ENGINE_KERNEL_USER", value_name = "USER")]
  pub kernel_user: Option<KernelUser>,

  /// What opens the package registries.
  #[arg(skip)]
  pub registry_auth: Vec<RegistryAuth>,

  /// Whether files that kernels make are for others too: those of a program in the foreground are.
  #[arg(skip)]
  pub shared_files: bool,

  /// Fork kernels and apps from a process that has booted what they need, instead of starting each.
  ///
  /// They share its memory, and the layout of it (see docs/security.md): with access tokens, or with Hypha, only within a
  /// namespace.
  #[arg(long = "zygote", env = "KERNEL_ZYGOTE", value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
  pub zygote: bool,

  /// Most such processes: one for each runtime, and for each namespace that is in use. What has none is started anew.
  #[arg(long = "zygotes-max", env = "KERNEL_ZYGOTES_MAX", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
  pub zygotes_max: u16,

  /// Import only modules that are in the cache.
  #[arg(long, env = "DENO_CACHED_ONLY", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
  pub cached_only: bool,

  /// PEM file with certificate authorities that kernels trust besides the usual ones.
  #[arg(long = "cert", env = "DENO_CERT", value_name = "FILE")]
  pub deno_cert: Option<PathBuf>,

  /// Certificate authorities that kernels trust: "mozilla", "system" or both, separated by commas.
  ///
  /// The system has those of an organisation, for example.
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

  /// More interpreters that a kernel may ask for with `python`, separated by colons.
  #[arg(long, env = "CPYTHON_OTHERS", value_name = "PATHS", value_delimiter = PATH_SEPARATOR)]
  pub cpython_others: Vec<PathBuf>,

  /// Folder with packages of the Pyodide distribution; the CDN is asked for those that it does not have.
  ///
  /// `deno-app-engine packages fetch` fills it.
  #[arg(long, env = "PYODIDE_PACKAGES_DIR", value_name = "DIR")]
  pub pyodide_packages_dir: Option<PathBuf>,
}

/// Between the paths of a list.
const PATH_SEPARATOR: char = ':';

impl KernelArgs {
  /// What the environment says, the defaults for the rest.
  ///
  /// # Errors
  /// When a variable has no valid value.
  pub(crate) fn from_environment() -> Result<Self, clap::Error> {
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
  pub(crate) fn check(&mut self) -> Result<(), SettingsError> {
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

  /// What the kernels are told.
  pub(crate) fn options(&self) -> KernelOptions {
    let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let logs = self.logs_memory_bytes;
    KernelOptions {
      allowed: self.allowed_kernel_types.0.clone(),
      pool: PoolOptions {
        enabled: self.kernel_pool_enabled,
        size: self.kernel_pool_size.into(),
        auto_refill: self.kernel_pool_auto_refill,
        preload: self
          .kernel_pool_preload_configs
          .as_ref()
          .map(|types| types.0.clone()),
      },
      max_count: self.kernel_max_count,
      max_heap_mb: self.kernel_max_heap_mb,
      max_memory_mb: self.kernel_max_memory_mb,
      max_output_bytes: self.kernel_max_output_bytes,
      permissions_max: self.kernel_permissions_max.clone(),
      mount_roots: self.kernel_mount_roots.clone(),
      lasting_files: None,
      logs_memory_bytes: bytes(logs),
      logs_memory_bytes_per_namespace: bytes(
        self.logs_memory_bytes_per_namespace.unwrap_or(logs / 2),
      ),
      confinement: Confinement {
        user: self.kernel_user,
        shared_files: self.shared_files,
      },
      registry_auth: self.registry_auth.clone(),
      certificates: self.deno_cert.clone(),
      ca_stores: self.tls_ca_store.clone(),
      cpython_executable: self.cpython_executable.clone(),
      cpython_others: self.cpython_others.clone(),
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

/// A comma list of `mode-language`. `main_thread` must be written out; an empty list means the
/// default, as the original had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelTypes(pub Vec<KernelType>);

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
  use super::*;

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
}
