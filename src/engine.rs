//! What a face holds: the settings and the managers. Knows the order of starting and stopping.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use kernel_host::sandbox;
use kernel_host::sandbox::Confinement;
use kernel_host::spawner;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Pid;
use uuid::Uuid;

use crate::apps::AppManager;
use crate::apps::Launcher;
use crate::apps::artifacts::Artifacts;
use crate::apps::proxy::Proxy;
use crate::apps::published;
use crate::kernel::KernelManager;
use crate::kernel::Language;
use crate::lang::pyodide::distribution;
use crate::runtime::ModuleCache;
use crate::runtime::PackageFolders;
use crate::runtime::PythonFiles;
use crate::settings::KernelArgs;
use crate::settings::Settings;
use crate::vectordb::VectorDb;

/// Extension of the file that a living server holds locked.
const LOCK: &str = "lock";

pub struct Engine {
  pub settings: Settings,
  pub kernels: Arc<KernelManager>,
  pub apps: Arc<AppManager>,
  /// Carries requests to apps.
  pub proxy: Proxy,
  /// Where published apps come from, when they are run.
  pub artifacts: Option<Arc<Artifacts>>,
  pub vectors: Arc<VectorDb>,
  pub started: Instant,
}

impl Engine {
  /// # Errors
  /// When the data directory cannot be used.
  pub fn start(settings: Settings) -> io::Result<Arc<Self>> {
    let kernels = kernels(&settings.kernels, &settings.data_dir)?;
    let artifacts = settings
      .apps
      .artifacts(settings.kernels.deno_cert.clone())
      .map_err(io::Error::other)?
      .map(Arc::new);
    if artifacts.as_ref().is_some_and(|it| it.apps_may_publish()) {
      tracing::warn!(
        "HYPHA_WORKSPACE is the workspace of the collection: each published app may publish others, which run \
         here. Set it to a workspace that holds nothing else"
      );
    }
    let folder = std::path::absolute(settings.data_dir.join("apps"))?;
    let own_ports = [Some(settings.port), settings.app_origins.port()];
    let own_ports = own_ports.into_iter().flatten().collect();
    let launcher = Launcher::new(kernels.clone(), folder, artifacts.clone(), own_ports);
    let apps = AppManager::new(
      Arc::new(launcher),
      &settings.data_dir,
      settings.apps.apps_max_count,
    );
    let certificates = settings.kernels.deno_cert.clone();
    let options = settings.vectors.options(&settings.data_dir, certificates);
    let vectors = VectorDb::open(options).map_err(io::Error::other)?;
    keep_private(&settings)?;
    Ok(Arc::new(Self {
      settings,
      kernels,
      apps,
      proxy: Proxy::new(),
      artifacts,
      vectors,
      started: Instant::now(),
    }))
  }

  /// Knows of every app of this machine when it returns; they start in the background. Published ones
  /// are looked for from then on.
  pub async fn load_apps(&self) {
    let settings = &self.settings.apps;
    if let Some(dir) = &settings.apps_dir {
      self.apps.load_folder(dir.clone()).await;
    }
    self.apps.load_posted().await;
    if let Some(artifacts) = &self.artifacts {
      let interval = Duration::from_secs(settings.apps_update_seconds);
      let apps = Arc::downgrade(&self.apps);
      tokio::spawn(published::follow(apps, artifacts.clone(), interval));
    }
  }

  /// Ends everything that runs.
  pub async fn shut_down(&self) {
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

/// The manager of kernels that keep their files in `data_dir`.
///
/// # Errors
/// When the data directory cannot be used.
pub fn kernels(settings: &KernelArgs, data_dir: &Path) -> io::Result<Arc<KernelManager>> {
  let confinement = settings.confinement();
  confinement.check_way_to(data_dir)?;
  if !data_dir.exists() {
    confinement.make_passable(data_dir)?;
  }
  check_readable(settings, &confinement)?;
  let scratch = data_dir.join("scratch");
  confinement.make_passable(&scratch)?;
  remove_leftovers(&scratch);
  let scratch = locked_folder(&scratch.canonicalize()?)?;
  confinement.make_passable(&scratch)?;
  let modules = ModuleCache {
    folder: std::path::absolute(data_dir.join("deno"))?,
    cached_only: settings.cached_only,
  };
  confinement.take_over(&modules.folder)?;
  let python = python_files(settings, data_dir);
  if let Ok(files) = &python {
    confinement.make_passable(&data_dir.join("pyodide"))?;
    confinement.take_over(&files.packages.cache)?;
  }
  Ok(KernelManager::new(
    settings.clone(),
    scratch,
    modules,
    python,
  ))
}

/// Whether kernels can read what the operator named for them.
fn check_readable(settings: &KernelArgs, confinement: &Confinement) -> io::Result<()> {
  let named = [
    ("DENO_CERT", &settings.deno_cert),
    ("PYODIDE_PACKAGES_DIR", &settings.pyodide_packages_dir),
  ];
  for (name, path) in named {
    if let Some(path) = path
      && path.exists()
      && !confinement.can_read(path)?
    {
      return Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
          "{name}: {} cannot read {}: let that user read it (chmod o+r, and o+x for the folders above)",
          confinement.who(),
          path.display()
        ),
      ));
    }
  }
  Ok(())
}

/// Keeps the user of kernels, if there is one, from what is the server's alone: vectors, and the
/// manifests of posted apps with their secrets.
fn keep_private(settings: &Settings) -> io::Result<()> {
  for folder in [
    settings.data_dir.join("vectordb"),
    settings.data_dir.join("apps").join("posted"),
  ] {
    if folder.is_dir() {
      fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    }
  }
  let confinement = settings.kernels.confinement();
  match &settings.vectors.vectordb_offload_directory {
    Some(folder) if confinement.user.is_some() && confinement.can_read(folder)? => {
      Err(io::Error::other(format!(
        "VECTORDB_OFFLOAD_DIRECTORY: {} can read {}: make it the server's alone (chmod 700)",
        confinement.who(),
        folder.display()
      )))
    }
    _ => Ok(()),
  }
}

/// Pyodide's files, or why there are no Python kernels.
fn python_files(settings: &KernelArgs, data_dir: &Path) -> Result<PythonFiles, String> {
  let mut allowed = settings.allowed_kernel_types.0.iter();
  if !allowed.any(|kind| kind.language == Language::Python) {
    return Err("Python kernels are not allowed on this server".into());
  }
  let folder = data_dir.join("pyodide");
  Ok(PythonFiles {
    assets: distribution::path_in(&folder)?,
    packages: PackageFolders {
      local: settings.pyodide_packages_dir.clone(),
      cache: folder.join("packages"),
    },
  })
}

/// This server's folder below `scratch`. A lock beside it tells that the server lives: its process id would
/// not, for in a container the next one has the same.
fn locked_folder(scratch: &Path) -> io::Result<PathBuf> {
  let folder = scratch.join(format!(
    "{}-{}",
    std::process::id(),
    Uuid::new_v4().simple()
  ));
  // Nobody sees it before it is locked.
  let unfinished = folder.with_extension("new");
  let lock = fs::File::create(&unfinished)?;
  rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
  fs::rename(&unfinished, folder.with_extension(LOCK))?;
  // Held until the process has ended, however it does.
  std::mem::forget(lock);
  Ok(folder)
}

/// Removes what servers that no longer live have left.
fn remove_leftovers(scratch: &Path) {
  let Ok(entries) = fs::read_dir(scratch) else {
    return;
  };
  for path in entries.flatten().map(|entry| entry.path()) {
    if path.extension().is_some_and(|extension| extension == LOCK) {
      let lock = fs::File::open(&path);
      let is_left = lock.is_ok_and(|lock| {
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
      });
      if is_left {
        let _ = fs::remove_dir_all(path.with_extension(""));
        let _ = fs::remove_file(&path);
      }
      continue;
    }
    // Servers before the locks had nothing but their process id.
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.parse().ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
      && rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
    {
      let _ = fs::remove_dir_all(&path);
    }
  }
}
