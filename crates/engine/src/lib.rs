//! Everything the engine offers, as a library: kernels, apps, vectors and agents behind typed requests and
//! answers. Faces (HTTP, later others) map to it and decide nothing. Knows the order of starting and
//! stopping. How kernels are started is handed in ([`Hosts`]); the crate `embed` has the usual way.

mod lasting_files;
mod scratch;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use kernel_protocol::launch::ModuleCache;
use kernel_protocol::launch::PythonFiles;
use sandbox::Confinement;

// What a face needs of the rooms below, under their own names.
pub use ::access;
pub use ::files;
pub use agents;
pub use app_proxy;
pub use apps;
pub use hypha_client;
pub use kernel_protocol;
pub use kernels;
pub use vector_index;
pub use vectordb;

use agents::AgentManager;
use agents::AgentOptions;
use app_proxy::Proxy;
use apps::AppManager;
use apps::KernelLauncher;
use hypha_client::Artifacts;
use kernels::KernelManager;
use kernels::KernelOptions;
use kernels::launch::Hosts;
use kernels::spawner;
use vectordb::VectorDb;
use vectordb::VectorDbOptions;

pub use self::lasting_files::LastingFiles;

/// What an engine is started with.
pub struct EngineOptions {
  /// Folder for everything the engine keeps on disk.
  pub data_dir: PathBuf,
  pub kernels: KernelOptions,
  /// Kernels import only modules that are in the cache.
  pub cached_only: bool,
  /// Pyodide's files, or why there are no Python kernels.
  pub python: Result<PythonFiles, String>,
  pub apps: AppOptions,
  pub vectors: VectorDbOptions,
  pub agents: AgentOptions,
}

/// Which apps there are.
#[derive(Clone)]
pub struct AppOptions {
  /// Folder whose entries are apps.
  pub folder: Option<PathBuf>,
  /// Most apps at one time.
  pub max_count: usize,
  /// Where published apps come from, when they are run.
  pub artifacts: Option<Arc<Artifacts>>,
  /// How often is looked for what was published.
  pub update_interval: Duration,
  /// How long the tokens of published apps are valid.
  pub token_life: Duration,
  /// Ports that no app may have: those of the server around the engine.
  pub reserved_ports: Vec<u16>,
}

impl Default for AppOptions {
  fn default() -> Self {
    Self {
      folder: None,
      max_count: 100,
      artifacts: None,
      update_interval: Duration::from_secs(60),
      token_life: Duration::from_hours(1),
      reserved_ports: Vec::new(),
    }
  }
}

pub struct Engine {
  pub kernels: Arc<KernelManager>,
  /// Files that namespaces keep.
  pub files: LastingFiles,
  pub apps: Arc<AppManager>,
  /// Carries requests to apps.
  pub proxy: Proxy,
  pub vectors: Arc<VectorDb>,
  pub agents: Arc<AgentManager>,
  pub started: Instant,
  app_folder: Option<PathBuf>,
  update_interval: Duration,
}

impl Engine {
  /// # Errors
  /// When the data directory cannot be used.
  pub fn start(options: EngineOptions, hosts: Arc<dyn Hosts>) -> io::Result<Arc<Self>> {
    let kernels = start_kernels(&options, hosts)?;
    let EngineOptions {
      data_dir,
      apps: app_options,
      vectors,
      agents,
      ..
    } = options;
    let artifacts = app_options.artifacts;
    if artifacts.as_ref().is_some_and(|it| it.apps_may_publish()) {
      tracing::warn!(
        "HYPHA_WORKSPACE is the workspace of the collection: each published app may publish others, which run \
         here. Set it to a workspace that holds nothing else"
      );
    }
    let launcher = KernelLauncher::new(
      kernels.clone(),
      std::path::absolute(data_dir.join("apps"))?,
      artifacts.clone().map(|from| (from, app_options.token_life)),
      app_options.reserved_ports,
    );
    let apps = AppManager::new(
      Arc::new(launcher),
      &data_dir,
      app_options.max_count,
      artifacts,
    );
    let vector_folder = vectors.folder.clone();
    let vectors = VectorDb::open(vectors).map_err(io::Error::other)?;
    keep_private(&data_dir, &vector_folder, kernels.confinement())?;
    let agents = AgentManager::open(agents, kernels.clone(), vectors.clone());
    let agents = agents.map_err(io::Error::other)?;
    let files = LastingFiles::new(
      kernels.options.lasting_files.clone().ok_or_else(|| {
        io::Error::other("the kernel manager was started without a folder of lasting files")
      })?,
      kernels.confinement().clone(),
    );
    Ok(Arc::new(Self {
      kernels,
      files,
      apps,
      proxy: Proxy::new(),
      vectors,
      agents,
      started: Instant::now(),
      app_folder: app_options.folder,
      update_interval: app_options.update_interval,
    }))
  }

  /// Knows of every app of this machine when it returns; they start in the background. Published ones
  /// are looked for from then on.
  pub async fn load_apps(&self) {
    if let Some(folder) = &self.app_folder {
      self.apps.load_folder(folder.clone()).await;
    }
    self.apps.load_posted().await;
    self.apps.follow_published(self.update_interval);
  }

  /// Ends everything that runs.
  pub async fn shut_down(&self) {
    self.agents.shut_down();
    self.apps.shut_down().await;
    self.kernels.shut_down().await;
    self.vectors.shut_down().await;
    spawner::end_orphans().await;
  }
}

/// What a process does before it starts kernels: it keeps its memory to itself, and takes over what they
/// leave running.
///
/// # Errors
/// When the system refuses.
pub async fn keep_watch() -> io::Result<()> {
  sandbox::keep_secrets()?;
  spawner::adopt_orphans().await
}

/// The manager of kernels that keep their files in the data directory.
///
/// # Errors
/// When the data directory cannot be used.
pub fn start_kernels(
  options: &EngineOptions,
  hosts: Arc<dyn Hosts>,
) -> io::Result<Arc<KernelManager>> {
  let EngineOptions {
    data_dir,
    kernels: kernel_options,
    python,
    ..
  } = options;
  let confinement = &kernel_options.confinement;
  confinement.check_way_to(data_dir)?;
  if !data_dir.exists() {
    confinement.make_passable(data_dir)?;
  }
  if let Some(path) = &kernel_options.certificates {
    check_readable("DENO_CERT", path, confinement)?;
  }
  let folder = data_dir.join("scratch");
  confinement.make_passable(&folder)?;
  scratch::remove_leftovers(&folder);
  let folder = scratch::locked_folder(&folder.canonicalize()?)?;
  confinement.make_passable(&folder)?;
  let modules = ModuleCache {
    folder: std::path::absolute(data_dir.join("deno"))?,
    cached_only: options.cached_only,
  };
  confinement.take_over(&modules.folder)?;
  if let Ok(files) = python {
    if let Some(path) = &files.packages.local {
      check_readable("PYODIDE_PACKAGES_DIR", path, confinement)?;
    }
    confinement.make_passable(&data_dir.join("pyodide"))?;
    confinement.take_over(&files.packages.cache)?;
  }
  let kernel_options = KernelOptions {
    lasting_files: Some(lasting_files::folders(data_dir, confinement)?),
    ..kernel_options.clone()
  };
  Ok(kernels::start(
    kernel_options,
    hosts,
    folder,
    modules,
    python.clone(),
  ))
}

/// Checks that kernels can read what the operator named for them.
fn check_readable(name: &str, path: &Path, confinement: &Confinement) -> io::Result<()> {
  if !path.exists() || confinement.can_read(path)? {
    return Ok(());
  }
  Err(io::Error::new(
    io::ErrorKind::PermissionDenied,
    format!(
      "{name}: {} cannot read {}: let that user read it (chmod o+r, and o+x for the folders above)",
      confinement.who(),
      path.display()
    ),
  ))
}

/// Keeps the user of kernels, if there is one, from what is the server's alone: vectors, and the
/// manifests of posted apps with their secrets.
#[expect(
  clippy::disallowed_methods,
  reason = "at the start, before anything is served"
)]
fn keep_private(data_dir: &Path, vectors: &Path, confinement: &Confinement) -> io::Result<()> {
  let own_vectors = data_dir.join("vectordb");
  for folder in [&own_vectors, &data_dir.join("apps").join("posted")] {
    if folder.is_dir() {
      fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
  }
  if vectors != own_vectors && confinement.user.is_some() && confinement.can_read(vectors)? {
    return Err(io::Error::other(format!(
      "VECTORDB_OFFLOAD_DIRECTORY: {} can read {}: make it the server's alone (chmod 700)",
      confinement.who(),
      vectors.display()
    )));
  }
  Ok(())
}
