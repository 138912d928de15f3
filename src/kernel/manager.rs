//! All kernels of the engine.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::Weak;
use std::time::Instant;

use kernel_host::lang::cpython::start::CPythonHosts;
use kernel_host::lang::cpython::start::Starting;
use kernel_host::sandbox::Confinement;
use kernel_host::sandbox::Role;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::CreateKernel;
use super::EngineEvent;
use super::EngineEventKind;
use super::Kernel;
use super::KernelError;
use super::KernelId;
use super::KernelType;
use super::Language;
use super::Mode;
use super::Status;
use super::handle::Owner;
use super::handle::ProgramNotice;
use super::host::HostConnection;
use super::options::Approved;
use super::options::LaunchApp;
use super::options::OwnFolders;
use super::pool::Pool;
use super::pool::PoolStats;
use super::supervisor;
use crate::host::HostSpec;
use crate::host::Program;
use crate::log_budget::LogBudget;
use crate::protocol::ErrorReport;
use crate::protocol::HostPermissions;
use crate::runtime::ModuleCache;
use crate::runtime::PythonFiles;
use crate::settings::KernelArgs;

/// Engine events a slow watcher may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

pub struct KernelManager {
  settings: KernelArgs,
  /// Kernels' own folders are made here, and removed with the server.
  scratch_root: PathBuf,
  kernels: RwLock<HashMap<KernelId, Entry>>,
  /// The kernels of apps, which are no client's.
  apps: Mutex<Vec<Weak<Kernel>>>,
  modules: ModuleCache,
  pools: Pools,
  events: broadcast::Sender<EngineEvent>,
  /// Memory of all logs, those of apps included.
  pub logs: Arc<LogBudget>,
  me: Weak<Self>,
}

enum Entry {
  /// An id that is taken while its kernel boots; not listed.
  Booting,
  Ready(Arc<Kernel>),
}

/// Numbers for the status page.
#[derive(Debug, Clone, Copy)]
pub struct ManagerStats {
  pub total: usize,
  pub busy: usize,
  pub dead: usize,
  pub pool: PoolStats,
}

impl KernelManager {
  /// Starts filling the pool at once, in the background.
  pub fn new(
    settings: KernelArgs,
    scratch_root: PathBuf,
    modules: ModuleCache,
    python: Result<PythonFiles, String>,
  ) -> Arc<Self> {
    let manager = Arc::new_cyclic(|me| Self {
      pools: Pools::new(&settings, modules.clone(), python),
      modules,
      apps: Mutex::default(),
      logs: settings.log_budget(),
      settings,
      scratch_root,
      kernels: RwLock::default(),
      events: broadcast::channel(EVENT_BUFFER).0,
      me: me.clone(),
    });
    manager.pools.fill();
    tokio::spawn(supervisor::watch_memory(manager.me.clone()));
    tokio::spawn(supervisor::watch_health(manager.me.clone()));
    manager
  }

  // ------------------------------------------------------------ looking

  /// Every kernel, or those of a namespace, oldest first. Never waits for a kernel.
  pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<Kernel>> {
    let mut kernels = self.all();
    kernels.retain(|k| namespace.is_none() || k.id.namespace() == namespace);
    kernels.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    kernels
  }

  /// Every kernel and the kernels of apps.
  pub fn processes(&self) -> Vec<Arc<Kernel>> {
    let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
    apps.retain(|kernel| kernel.strong_count() > 0);
    let mut kernels: Vec<_> = apps.iter().filter_map(Weak::upgrade).collect();
    drop(apps);
    kernels.append(&mut self.all());
    kernels
  }

  pub fn all(&self) -> Vec<Arc<Kernel>> {
    let ready = |entry: &Entry| match entry {
      Entry::Ready(kernel) => Some(kernel.clone()),
      Entry::Booting => None,
    };
    self.read().values().filter_map(ready).collect()
  }

  /// # Errors
  /// When there is no such kernel.
  pub fn get(&self, id: &KernelId) -> Result<Arc<Kernel>, KernelError> {
    match self.read().get(id) {
      Some(Entry::Ready(kernel)) => Ok(kernel.clone()),
      _ => Err(KernelError::NotFound),
    }
  }

  /// Whether this very kernel is still the one of its id.
  pub fn is_current(&self, kernel: &Arc<Kernel>) -> bool {
    self
      .get(&kernel.id)
      .is_ok_and(|current| Arc::ptr_eq(&current, kernel))
  }

  /// How the processes of kernels are confined.
  pub fn confinement(&self) -> Confinement {
    self.settings.confinement()
  }

  /// Counts kernels, or those of a namespace.
  pub fn stats(&self, namespace: Option<&str>) -> ManagerStats {
    let kernels = self.list(namespace);
    let with = |status| kernels.iter().filter(|k| k.status() == status).count();
    ManagerStats {
      total: kernels.len(),
      busy: with(Status::Busy),
      dead: with(Status::Dead),
      pool: self.pools.stats(),
    }
  }

  /// Follows what happens to kernels from now on.
  pub fn watch(&self) -> broadcast::Receiver<EngineEvent> {
    self.events.subscribe()
  }

  pub fn announce(&self, event: EngineEvent) {
    let _ = self.events.send(event);
  }

  // ------------------------------------------------------------ life

  /// Makes a kernel and returns once it is ready for cells.
  ///
  /// # Errors
  /// When the request is not allowed or not possible; nothing is left behind then.
  pub async fn create(&self, request: CreateKernel) -> Result<Arc<Kernel>, KernelError> {
    let started = Instant::now();
    let kind = KernelType {
      mode: request.mode,
      language: request.language,
    };
    let name = request
      .id
      .clone()
      .unwrap_or_else(|| Uuid::new_v4().to_string());
    let id = KernelId::new(request.namespace.as_deref(), &name)?;
    self.check_type(kind)?;
    let scratch = self.scratch_root.join(Uuid::new_v4().to_string());
    let approved = request.approve(&self.settings, &OwnFolders::scratch(scratch))?;
    self.reserve(&id)?;
    // Gives the id back on every way out, also when the caller stops waiting.
    let reservation = Reservation {
      manager: self,
      id: &id,
    };
    let pool = self.pools.of(kind.language, &approved.python).await?;
    let host = configured_host(kind, &pool, &approved).await?;
    let timeouts = (request.inactivity_timeout, request.max_execution_time);
    let kernel = Kernel::new(
      id.clone(),
      kind,
      approved,
      timeouts,
      Owner::Manager(self.me.clone()),
      &self.logs,
    );
    kernel.attach(host);
    self
      .write()
      .insert(id.clone(), Entry::Ready(kernel.clone()));
    std::mem::forget(reservation);
    if let (Some(_), Some(me)) = (kernel.inactivity_timeout, self.me.upgrade()) {
      tokio::spawn(supervisor::watch_for_inactivity(
        me,
        Arc::downgrade(&kernel),
      ));
    }
    tracing::debug!(kernel = %id, %kind, "created in {:?}", started.elapsed());
    Ok(kernel)
  }

  fn check_type(&self, kind: KernelType) -> Result<(), KernelError> {
    let allowed = &self.settings.allowed_kernel_types.0;
    if !allowed.contains(&kind) {
      let list: Vec<String> = allowed.iter().map(ToString::to_string).collect();
      return Err(KernelError::Forbidden(format!(
        "Kernel type {kind} is not allowed. Allowed types: {}",
        list.join(", ")
      )));
    }
    Ok(())
  }

  fn reserve(&self, id: &KernelId) -> Result<(), KernelError> {
    let mut kernels = self.write();
    if kernels.contains_key(id) {
      return Err(KernelError::Exists(id.clone()));
    }
    let most = self.settings.kernel_max_count;
    if kernels.len() >= most {
      return Err(KernelError::LimitReached(format!(
        "{most} kernels exist already, the most this server allows (KERNEL_MAX_COUNT): delete one first"
      )));
    }
    kernels.insert(id.clone(), Entry::Booting);
    Ok(())
  }

  /// Whether an app that asks for this could be launched, and what it would be permitted.
  ///
  /// # Errors
  /// When the operator does not allow it, or it makes no sense.
  #[cfg_attr(
    test,
    expect(dead_code, reason = "the instances of the tests have no process")
  )]
  pub fn check_app(&self, kernel: &CreateKernel) -> Result<HostPermissions, KernelError> {
    self.check_type(KernelType {
      mode: Mode::Worker,
      language: kernel.language,
    })?;
    let folders = OwnFolders::scratch(self.scratch_root.clone());
    let approved = kernel.approve(&self.settings, &folders)?;
    Ok(approved.host.permissions)
  }

  /// Starts the main program of an app in a process of its own, which also runs cells.
  ///
  /// # Errors
  /// When the request is not allowed or not possible; nothing is left behind then.
  pub async fn launch(
    &self,
    app: LaunchApp,
    notices: mpsc::Sender<ProgramNotice>,
  ) -> Result<Arc<Kernel>, KernelError> {
    let kind = KernelType {
      mode: Mode::Worker,
      language: app.kernel.language,
    };
    self.check_type(kind)?;
    let mut approved = app.kernel.approve(&self.settings, &app.folders)?;
    approved.host.permissions.own_address = app.own_address;
    let id = KernelId::addressed(&app.name);
    let pool = match kind.language {
      Language::TypeScript | Language::JavaScript => {
        let program = Program::JavaScript {
          modules: self.modules.clone(),
          main: Some(app.program.clone()),
        };
        let confinement = self.confinement();
        Pool::new(
          HostSpec::V8 {
            program,
            confinement,
          },
          0,
          false,
        )
      }
      Language::Python => {
        approved.show(&app.folders.read);
        self.pools.of(kind.language, &approved.python).await?
      }
      Language::CPython => {
        let pool = self.pools.of(kind.language, &approved.python).await?;
        Pool::new(pool.spec().clone().for_program(), 0, false)
      }
    };
    let host = configured_host(kind, &pool, &approved).await?;
    let owner = Owner::App(notices);
    let kernel = Kernel::new(id, kind, approved, (None, None), owner, &self.logs);
    self
      .apps
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .push(Arc::downgrade(&kernel));
    kernel.attach(host);
    kernel.run(app.program);
    Ok(kernel)
  }

  /// Ends a kernel and forgets it. Executions end quietly, or with `report`.
  ///
  /// # Errors
  /// When there is no such kernel.
  pub async fn remove(
    &self,
    id: &KernelId,
    reason: &str,
    report: Option<ErrorReport>,
  ) -> Result<(), KernelError> {
    let kernel = {
      let mut kernels = self.write();
      match kernels.remove(id) {
        Some(Entry::Ready(kernel)) => kernel,
        Some(booting @ Entry::Booting) => {
          kernels.insert(id.clone(), booting);
          return Err(KernelError::UnknownId(id.clone()));
        }
        None => return Err(KernelError::UnknownId(id.clone())),
      }
    };
    // Goes on when the caller stops waiting: nothing of the kernel may stay behind.
    let reason = reason.to_owned();
    let removal = tokio::spawn(async move { kernel.remove(&reason, report).await });
    removal
      .await
      .map_err(|e| KernelError::Host(format!("the kernel could not be removed: {e}")))
  }

  /// Restarts a kernel: same id, options and environment, nothing else kept.
  ///
  /// # Errors
  /// When there is no such kernel, or no new host can be made; it is dead then.
  pub async fn restart(&self, id: &KernelId) -> Result<(), KernelError> {
    let kernel = self.get(id)?;
    let report = ErrorReport::new("KernelRestarted", "The kernel was restarted");
    self.replace_host(&kernel, report, "requested").await?;
    kernel.forget();
    Ok(())
  }

  /// Gives a kernel a new host; what runs or waits ends with `report`.
  ///
  /// # Errors
  /// When the kernel was removed meanwhile, or no new host can be made.
  pub async fn replace_host(
    &self,
    kernel: &Arc<Kernel>,
    report: ErrorReport,
    reason: &str,
  ) -> Result<(), KernelError> {
    let _replacing = kernel.replacing.lock().await;
    kernel.begin_restart(report).await?;
    // State on disk goes with the state in memory.
    let _ = tokio::fs::remove_dir_all(&kernel.approved.host.scratch).await;
    match self.new_host(kernel).await {
      Ok(host) => {
        kernel.attach(host);
        kernel.announce(EngineEventKind::KernelRestarted {
          reason: reason.to_owned(),
        });
        Ok(())
      }
      Err(error) => {
        kernel.restart_failed(&error.to_string());
        Err(error)
      }
    }
  }

  async fn new_host(&self, kernel: &Kernel) -> Result<HostConnection, KernelError> {
    let Kernel { kind, approved, .. } = kernel;
    let pool = self.pools.of(kind.language, &approved.python).await?;
    configured_host(*kind, &pool, approved).await
  }

  /// Ends every kernel and the pool.
  pub async fn shut_down(&self) {
    self.pools.close();
    let kernels = std::mem::take(&mut *self.write());
    let ends = kernels.into_values().filter_map(|entry| match entry {
      Entry::Ready(kernel) => Some(async move { kernel.remove("the server stops", None).await }),
      Entry::Booting => None,
    });
    futures::future::join_all(ends).await;
    let _ = tokio::fs::remove_dir_all(&self.scratch_root).await;
    // The lock of the server that stood beside it.
    let _ = tokio::fs::remove_file(self.scratch_root.with_extension("lock")).await;
  }

  fn read(&self) -> RwLockReadGuard<'_, HashMap<KernelId, Entry>> {
    self.kernels.read().unwrap_or_else(PoisonError::into_inner)
  }

  fn write(&self) -> RwLockWriteGuard<'_, HashMap<KernelId, Entry>> {
    self.kernels.write().unwrap_or_else(PoisonError::into_inner)
  }
}

/// A host made into a kernel: from the pool, else a new one.
async fn configured_host(
  kind: KernelType,
  pool: &Arc<Pool>,
  approved: &Approved,
) -> Result<HostConnection, KernelError> {
  let (confinement, scratch) = (
    pool.spec().confinement().clone(),
    approved.host.scratch.clone(),
  );
  tokio::task::spawn_blocking(move || confinement.make_own(&scratch))
    .await
    .unwrap_or_else(|e| Err(e.into()))
    .map_err(|e| {
      // Where it is, is not for those who ask.
      tracing::error!("{}: {e}", approved.host.scratch.display());
      KernelError::Host(format!("the kernel's folder cannot be made: {e}"))
    })?;
  let pooled = (kind.mode == Mode::Worker).then(|| pool.take()).flatten();
  let mut waiting = pooled;
  loop {
    let (mut host, fresh) = match waiting.take() {
      Some(host) => (host, false),
      None => {
        let host = HostConnection::launch(kind.mode, pool.spec()).await;
        (
          host.map_err(|e| KernelError::Host(format!("the kernel could not be started: {e}")))?,
          true,
        )
      }
    };
    let roots = approved.open_mounts()?;
    match host.configure(approved.host.clone(), roots).await {
      Ok(()) => return Ok(host),
      Err(Some(reason)) => return Err(KernelError::Invalid(reason)),
      // A blank host may have died while it waited; a new one has no excuse.
      Err(None) if !fresh => waiting = pool.take(),
      Err(None) => {
        let end = host.end().await;
        return Err(KernelError::Host(format!(
          "the kernel could not be started: it {end}"
        )));
      }
    }
  }
}

/// The pools of blank hosts: one for each runtime, not for each language.
struct Pools {
  javascript: Arc<Pool>,
  /// Or why there are no Python kernels.
  python: Result<Arc<Pool>, String>,
  /// Or why there are no CPython kernels. These are forked, so none waits.
  cpython: Result<Arc<CPythonHosts>, String>,
}

impl Pools {
  fn new(settings: &KernelArgs, modules: ModuleCache, python: Result<PythonFiles, String>) -> Self {
    let preload = settings.preload();
    let is_served = |language, python: bool| match language {
      Language::TypeScript | Language::JavaScript => !python,
      Language::Python => python,
      Language::CPython => false,
    };
    let pool = |program, python: bool| {
      let wanted = preload
        .iter()
        .any(|kind| kind.mode == Mode::Worker && is_served(kind.language, python));
      let size = if settings.kernel_pool_enabled && wanted {
        usize::from(settings.kernel_pool_size)
      } else {
        0
      };
      let spec = HostSpec::V8 {
        program,
        confinement: settings.confinement(),
      };
      Pool::new(spec, size, settings.kernel_pool_auto_refill)
    };
    Self {
      python: python.map(|files| {
        let modules = modules.clone();
        pool(Program::Pyodide { files, modules }, true)
      }),
      javascript: pool(
        Program::JavaScript {
          modules,
          main: None,
        },
        false,
      ),
      cpython: CPythonHosts::beside_this_binary(Starting::FromZygote)
        .map(|hosts| Arc::new(hosts.confined(settings.confinement()))),
    }
  }

  /// The pool for a language; `python` is the interpreter of CPython.
  async fn of(&self, language: Language, python: &Path) -> Result<Arc<Pool>, KernelError> {
    let unsupported = |reason: &String| KernelError::Unsupported(reason.clone());
    match language {
      Language::TypeScript | Language::JavaScript => Ok(self.javascript.clone()),
      Language::Python => self.python.clone().map_err(|reason| unsupported(&reason)),
      Language::CPython => {
        let hosts = self.cpython.as_ref().map_err(unsupported)?;
        let checked = hosts.check(python).await;
        checked.map_err(KernelError::Unsupported)?;
        let spec = HostSpec::CPython {
          hosts: hosts.clone(),
          executable: python.to_owned(),
          role: Role::Kernel,
        };
        Ok(Pool::new(spec, 0, false))
      }
    }
  }

  fn all(&self) -> impl Iterator<Item = &Arc<Pool>> {
    std::iter::once(&self.javascript).chain(&self.python)
  }

  fn fill(&self) {
    self.all().for_each(Pool::fill);
  }

  fn close(&self) {
    self.all().for_each(|pool| pool.close());
    if let Ok(hosts) = &self.cpython {
      hosts.close();
    }
  }

  fn stats(&self) -> PoolStats {
    self
      .all()
      .map(|pool| pool.stats())
      .fold(PoolStats::default(), |sum, pool| PoolStats {
        available: sum.available + pool.available,
        total: sum.total + pool.total,
      })
  }
}

/// An id held for a kernel that boots.
struct Reservation<'a> {
  manager: &'a KernelManager,
  id: &'a KernelId,
}

impl Drop for Reservation<'_> {
  fn drop(&mut self) {
    self.manager.write().remove(self.id);
  }
}
