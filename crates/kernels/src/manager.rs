//! All kernels of the engine.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use access::Caller;
use access::Right;
use kernel_protocol::ErrorReport;
use kernel_protocol::ExecutionId;
use kernel_protocol::HostPermissions;
use kernel_protocol::Question;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::json::JsonText;
use kernel_protocol::launch::ModuleCache;
use kernel_protocol::launch::PythonFiles;
use kernel_protocol::launch::Runtime;
use sandbox::Confinement;
use sandbox::Role;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::KernelError;
use crate::KernelId;
use crate::KernelType;
use crate::Language;
use crate::Mode;
use crate::events::EngineEvent;
use crate::events::EngineEventKind;
use crate::events::EventWatch;
use crate::execution::Execution;
use crate::execution::Work;
use crate::files::KernelFiles;
use crate::hosting::Blank;
use crate::kernel::Kernel;
use crate::kernel::Status;
use crate::launch::Hosts;
use crate::launch::LaunchSpec;
use crate::log_budget::LogBudget;
use crate::options::CreateKernel;
use crate::options::KernelOptions;
use crate::options::LaunchProgram;
use crate::options::OwnFolders;
use crate::owner::Listeners;
use crate::owner::Owner;
use crate::owner::ProgramNotice;
use crate::pool::PoolStats;
use crate::pools::Pools;

/// Engine events a slow watcher may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

pub struct KernelManager {
  pub options: KernelOptions,
  pub(crate) hosts: Arc<dyn Hosts>,
  /// Kernels' own folders are made here, and removed with the server.
  scratch_root: PathBuf,
  kernels: RwLock<HashMap<KernelId, Entry>>,
  /// The kernels of programs, which are no client's.
  programs: Mutex<Vec<Weak<Kernel>>>,
  modules: ModuleCache,
  pub(crate) pools: Pools,
  events: broadcast::Sender<EngineEvent>,
  /// Hears of every kernel whose time is limited.
  timed: mpsc::UnboundedSender<Timed>,
  /// Memory of all logs, those of programs included.
  pub logs: Arc<LogBudget>,
  me: Weak<Self>,
}

/// A kernel whose time is limited.
pub(crate) enum Timed {
  /// It may be unused only so long.
  Idleness(Weak<Kernel>),
  /// Each of its executions may take only so long.
  Executions {
    kernel: Weak<Kernel>,
    started: mpsc::UnboundedReceiver<Arc<Execution>>,
    limit: Duration,
  },
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
  /// Whoever reads the other half watches the time of kernels.
  pub(crate) fn new(
    options: KernelOptions,
    hosts: Arc<dyn Hosts>,
    scratch_root: PathBuf,
    modules: ModuleCache,
    python: Result<PythonFiles, String>,
  ) -> (Arc<Self>, mpsc::UnboundedReceiver<Timed>) {
    let (timed, heard) = mpsc::unbounded_channel();
    let manager = Arc::new_cyclic(|me| Self {
      timed,
      pools: Pools::new(&options, &hosts, modules.clone(), python),
      hosts,
      modules,
      programs: Mutex::default(),
      logs: LogBudget::new(
        options.logs_memory_bytes,
        options.logs_memory_bytes_per_namespace,
      ),
      options,
      scratch_root,
      kernels: RwLock::default(),
      events: broadcast::channel(EVENT_BUFFER).0,
      me: me.clone(),
    });
    (manager, heard)
  }

  // ------------------------------------------------------------ looking

  /// The kernels that `caller` sees, or those of them in the namespace `asked`, oldest first. Never waits
  /// for a kernel.
  ///
  /// # Errors
  /// When another namespace than the caller's is asked for.
  pub fn list(
    &self,
    caller: &Caller,
    asked: Option<&str>,
  ) -> Result<Vec<Arc<Kernel>>, KernelError> {
    caller.require(Right::Read)?;
    let namespace = caller.work_in(asked)?;
    let mut kernels = self.all();
    kernels.retain(|k| namespace.is_none() || k.id.namespace() == namespace.as_deref());
    kernels.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(kernels)
  }

  /// Every kernel and the kernels of programs.
  pub fn processes(&self) -> Vec<Arc<Kernel>> {
    let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
    programs.retain(|kernel| kernel.strong_count() > 0);
    let mut kernels: Vec<_> = programs.iter().filter_map(Weak::upgrade).collect();
    drop(programs);
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

  /// The kernel that `caller` calls `id`.
  ///
  /// # Errors
  /// When there is no such kernel, or none that the caller sees: nobody learns what others have.
  pub fn get(&self, caller: &Caller, id: &str) -> Result<Arc<Kernel>, KernelError> {
    self.get_to(caller, Right::Read, id)
  }

  /// The same, to do with it what takes `right`.
  pub(crate) fn get_to(
    &self,
    caller: &Caller,
    right: Right,
    id: &str,
  ) -> Result<Arc<Kernel>, KernelError> {
    caller.require(right)?;
    let id = visible(caller, id).ok_or(KernelError::NotFound)?;
    self.find(&id).ok_or(KernelError::NotFound)
  }

  fn find(&self, id: &KernelId) -> Option<Arc<Kernel>> {
    match self.read().get(id) {
      Some(Entry::Ready(kernel)) => Some(kernel.clone()),
      Some(Entry::Booting) | None => None,
    }
  }

  /// Whether this very kernel is still the one of its id.
  pub fn is_current(&self, kernel: &Arc<Kernel>) -> bool {
    self
      .find(&kernel.id)
      .is_some_and(|current| Arc::ptr_eq(&current, kernel))
  }

  /// How the processes of kernels are confined.
  pub fn confinement(&self) -> &Confinement {
    &self.options.confinement
  }

  /// Counts the kernels that `caller` sees.
  ///
  /// # Errors
  /// When the caller may not look at kernels.
  pub fn stats(&self, caller: &Caller) -> Result<ManagerStats, KernelError> {
    let kernels = self.list(caller, None)?;
    let with = |status| kernels.iter().filter(|k| k.status() == status).count();
    Ok(ManagerStats {
      total: kernels.len(),
      busy: with(Status::Busy),
      dead: with(Status::Dead),
      pool: self.pools.stats(),
    })
  }

  /// Follows what happens to the kernels that `caller` sees.
  ///
  /// # Errors
  /// When the caller may not look at kernels.
  pub fn watch(&self, caller: &Caller) -> Result<EventWatch, KernelError> {
    caller.require(Right::Read)?;
    Ok(EventWatch::new(self.events.subscribe(), caller))
  }

  // ------------------------------------------------------------ life

  /// Makes a kernel and returns once it is ready for cells. It is in the caller's namespace.
  ///
  /// # Errors
  /// When the request is not allowed or not possible; nothing is left behind then.
  pub async fn create(
    &self,
    caller: &Caller,
    mut request: CreateKernel,
  ) -> Result<Arc<Kernel>, KernelError> {
    let started = Instant::now();
    caller.require(Right::Manage)?;
    request.namespace = caller.work_in(request.namespace.as_deref())?;
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
    let approved = request.approve(&self.options, &OwnFolders::scratch(scratch.clone()))?;
    self.reserve(&id)?;
    // Gives the id back on every way out, even when the caller stops waiting.
    let reservation = Reservation {
      manager: self,
      id: &id,
      scratch,
      kept: false,
    };
    let host = self
      .configured_host(&id, kind, &approved, std::future::ready(Ok(())))
      .await?;
    let timeouts = (request.inactivity_timeout, request.max_execution_time);
    let (listener, stalls) = match request.max_execution_time {
      Some(limit) => {
        let (listener, heard) = mpsc::unbounded_channel();
        (Some(listener), Some((heard, limit)))
      }
      None => (None, None),
    };
    let owner = Owner::Client(Listeners {
      events: self.events.clone(),
      started: listener,
    });
    let kernel = Kernel::new(id.clone(), kind, approved, timeouts, owner, &self.logs);
    kernel.attach(host);
    reservation.keep(&kernel);
    if let Some((started, limit)) = stalls {
      let kernel = Arc::downgrade(&kernel);
      let _ = self.timed.send(Timed::Executions {
        kernel,
        started,
        limit,
      });
    }
    // Not before it can be found: whoever hears of it may ask for it at once.
    kernel.ready();
    if kernel.inactivity_timeout().is_some() {
      self.watch_idleness(&kernel);
    }
    tracing::debug!(kernel = %id, %kind, "created in {:?}", started.elapsed());
    Ok(kernel)
  }

  fn check_type(&self, kind: KernelType) -> Result<(), KernelError> {
    let allowed = &self.options.allowed;
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
    let most = self.options.max_count;
    if kernels.len() >= most {
      return Err(KernelError::LimitReached(format!(
        "{most} kernels exist already, the most this server allows (KERNEL_MAX_COUNT): delete one first"
      )));
    }
    kernels.insert(id.clone(), Entry::Booting);
    Ok(())
  }

  /// Whether a program that asks for this could be launched, and what it would be permitted.
  ///
  /// # Errors
  /// When the operator does not allow it, or it makes no sense.
  pub fn check_program(&self, kernel: &CreateKernel) -> Result<HostPermissions, KernelError> {
    self.check_type(KernelType {
      mode: Mode::Worker,
      language: kernel.language,
    })?;
    let folders = OwnFolders::scratch(self.scratch_root.clone());
    let approved = kernel.approve(&self.options, &folders)?;
    Ok(approved.host.permissions)
  }

  /// Starts a main program in a process of its own, which also runs cells.
  ///
  /// # Errors
  /// When the request is not allowed or not possible; nothing is left behind then.
  pub async fn launch(
    &self,
    launch: LaunchProgram,
    notices: mpsc::Sender<ProgramNotice>,
  ) -> Result<Arc<Kernel>, KernelError> {
    let kind = KernelType {
      mode: Mode::Worker,
      language: launch.kernel.language,
    };
    self.check_type(kind)?;
    let mut approved = launch.kernel.approve(&self.options, &launch.folders)?;
    approved.host.permissions.own_address = launch.own_address;
    let (spec, pool) = match kind.language {
      Language::TypeScript | Language::JavaScript => {
        let runtime = Runtime::JavaScript {
          modules: self.modules.clone(),
          main: Some(launch.program.clone()),
        };
        (LaunchSpec::V8(runtime), None)
      }
      Language::Python => {
        approved.show(&launch.folders.read);
        self.pools.of(kind.language, &approved.python)?
      }
      Language::CPython => {
        let spec = LaunchSpec::CPython {
          executable: approved.python.clone(),
          role: Role::Program,
        };
        (spec, None)
      }
    };
    let blank = Blank {
      mode: kind.mode,
      spec: &spec,
      pool,
      tenant: &launch.tenant,
    };
    let host = self
      .host_of(&blank, &approved, std::future::ready(Ok(())))
      .await?;
    let id = KernelId::addressed(&launch.label);
    let owner = Owner::Program(notices);
    let kernel = Kernel::new(id, kind, approved, (None, None), owner, &self.logs);
    self
      .programs
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .push(Arc::downgrade(&kernel));
    kernel.attach(host);
    kernel.ready();
    kernel.run(launch.program);
    Ok(kernel)
  }

  /// Ends a kernel and deletes it. Executions end quietly, or, by force, with an error that says so.
  ///
  /// # Errors
  /// When there is no such kernel.
  pub async fn delete(&self, caller: &Caller, id: &str, force: bool) -> Result<(), KernelError> {
    caller.require(Right::Manage)?;
    // Reported as one that does not exist.
    let id = visible(caller, id).ok_or_else(|| KernelError::UnknownId(KernelId::addressed(id)))?;
    let report = force.then(|| {
      ErrorReport::new(
        "KernelForcedTermination",
        "The kernel was terminated by force",
      )
    });
    self.remove(&id, "deleted", report).await
  }

  /// Ends a kernel and forgets it. Executions end quietly, or with `report`.
  ///
  /// # Errors
  /// When there is no such kernel.
  pub(crate) async fn remove(
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
    let reason = reason.to_owned();
    self
      .run_to_completion(move |_| async move {
        kernel.remove(&reason, report).await;
        Ok(())
      })
      .await
  }

  /// Restarts a kernel: same id, options and environment, nothing else kept. What a source makes of the
  /// environment is made anew.
  ///
  /// # Errors
  /// When there is no such kernel, or no new host can be made; it is dead then.
  pub async fn restart(&self, caller: &Caller, id: &str) -> Result<(), KernelError> {
    let kernel = self.get_to(caller, Right::Use, id)?;
    self
      .run_to_completion(move |manager| async move {
        let report = ErrorReport::new("KernelRestarted", "The kernel was restarted");
        manager.replace_host(&kernel, report, "requested").await?;
        kernel.forget();
        Ok(())
      })
      .await
  }

  // ------------------------------------------------------------ use

  /// Counts as use: the inactivity timeout starts again.
  ///
  /// # Errors
  /// When there is no such kernel.
  pub fn touch(&self, caller: &Caller, id: &str) -> Result<(), KernelError> {
    self.get_to(caller, Right::Use, id)?.touch();
    Ok(())
  }

  /// Changes how long a kernel may be unused before it is removed; `None` for ever. The time counts from its last
  /// use.
  ///
  /// # Errors
  /// When there is no such kernel, or the caller may not end it.
  pub fn set_inactivity_timeout(
    &self,
    caller: &Caller,
    id: &str,
    timeout: Option<Duration>,
  ) -> Result<(), KernelError> {
    let kernel = self.get_to(caller, Right::Manage, id)?;
    let before = kernel.set_inactivity_timeout(timeout);
    if before.is_none() && timeout.is_some() {
      self.watch_idleness(&kernel);
    }
    Ok(())
  }

  fn watch_idleness(&self, kernel: &Arc<Kernel>) {
    let _ = self.timed.send(Timed::Idleness(Arc::downgrade(kernel)));
  }

  /// Queues a cell. It runs whether or not anybody reads its log.
  ///
  /// # Errors
  /// When there is no such kernel, it is dead, or its queue is full.
  pub fn submit(
    &self,
    caller: &Caller,
    id: &str,
    code: String,
  ) -> Result<Arc<Execution>, KernelError> {
    let kernel = self.get_to(caller, Right::Use, id)?;
    kernel.submit(Work::Code(code))
  }

  /// Queues a comm message. What the code that listens for it prints is the log of an execution.
  ///
  /// # Errors
  /// As [`Self::submit`].
  pub fn comm(
    &self,
    caller: &Caller,
    id: &str,
    message: CommMessage,
  ) -> Result<Arc<Execution>, KernelError> {
    let kernel = self.get_to(caller, Right::Use, id)?;
    kernel.submit(Work::Comm(message))
  }

  /// An execution of a kernel, by its id or the bare form of it.
  ///
  /// # Errors
  /// When there is no such kernel or execution.
  pub fn execution(
    &self,
    caller: &Caller,
    id: &str,
    execution: &str,
  ) -> Result<Arc<Execution>, KernelError> {
    let kernel = self.get(caller, id)?;
    let execution = ExecutionId::parse(execution).and_then(|id| kernel.execution(id));
    execution.ok_or(KernelError::SessionNotFound)
  }

  /// Asks the language about code; answered between cells.
  ///
  /// # Errors
  /// When there is no such kernel, it is dead, or has no time to answer.
  pub async fn ask(
    &self,
    caller: &Caller,
    id: &str,
    question: Question,
  ) -> Result<JsonText, KernelError> {
    self.get_to(caller, Right::Use, id)?.ask(question).await
  }

  /// Answers an open prompt; `None` cancels it.
  ///
  /// # Errors
  /// When there is no such kernel, or no prompt is open.
  pub fn reply_to_input(
    &self,
    caller: &Caller,
    id: &str,
    value: Option<String>,
  ) -> Result<(), KernelError> {
    self.get_to(caller, Right::Use, id)?.reply_to_input(value)
  }

  /// The files of a kernel, to read and watch them or, with [`Right::Use`], to change them.
  ///
  /// # Errors
  /// When there is no such kernel, or the caller does not have `right`.
  pub fn files(&self, caller: &Caller, right: Right, id: &str) -> Result<KernelFiles, KernelError> {
    Ok(KernelFiles::of(self.get_to(caller, right, id)?))
  }

  // ------------------------------------------------------------ hosts

  /// Runs to completion even when the caller stops waiting: half of it would leave something behind.
  pub(crate) async fn run_to_completion<T: Send + 'static, F>(
    &self,
    work: impl FnOnce(Arc<Self>) -> F + Send + 'static,
  ) -> Result<T, KernelError>
  where
    F: Future<Output = Result<T, KernelError>> + Send + 'static,
  {
    let gone = || KernelError::Conflict("the server is shutting down".into());
    let manager = self.me.upgrade().ok_or_else(gone)?;
    let task = tokio::spawn(work(manager));
    let failed = |e| KernelError::Host(format!("the work on the kernel ended early: {e}"));
    task.await.map_err(failed)?
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
    let ended = async {
      kernel.begin_restart(report).await?;
      // State on disk goes with the state in memory.
      let _ = tokio::fs::remove_dir_all(&kernel.approved.host.scratch).await;
      Ok(())
    };
    // The new host starts while the old one ends.
    let host = self.configured_host(&kernel.id, kernel.kind, &kernel.approved, ended);
    match host.await {
      Ok(host) => {
        kernel.attach(host);
        kernel.ready();
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

  /// Ends every kernel and the pool.
  pub async fn shut_down(&self) {
    self.pools.close();
    self.hosts.close();
    let kernels = std::mem::take(&mut *self.write());
    let ends = kernels.into_values().filter_map(|entry| match entry {
      Entry::Ready(kernel) => {
        Some(async move { kernel.remove("the server is shutting down", None).await })
      }
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

/// The id of what `caller` calls `id`, if it can see that.
fn visible(caller: &Caller, id: &str) -> Option<KernelId> {
  let id = KernelId::addressed(&caller.full_id(id));
  caller.sees(id.namespace()).then_some(id)
}

/// An id held for a kernel that boots.
struct Reservation<'a> {
  manager: &'a KernelManager,
  id: &'a KernelId,
  /// The folder that is made for it.
  scratch: PathBuf,
  kept: bool,
}

impl Reservation<'_> {
  /// Gives the id, and the folder, to the kernel.
  fn keep(mut self, kernel: &Arc<Kernel>) {
    self.kept = true;
    let entry = Entry::Ready(kernel.clone());
    self.manager.write().insert(self.id.clone(), entry);
  }
}

impl Drop for Reservation<'_> {
  #[expect(clippy::disallowed_methods, reason = "passed to the blocking pool")]
  fn drop(&mut self) {
    if self.kept {
      return;
    }
    self.manager.write().remove(self.id);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
      let scratch = std::mem::take(&mut self.scratch);
      runtime.spawn_blocking(move || std::fs::remove_dir_all(scratch));
    }
  }
}
