//! Starts kernels on this machine: this binary again for those in V8, `cpython-host` for those of CPython.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel_protocol::launch::Runtime;
use kernels::LocalProcess;
use kernels::cpython::start::CPythonHosts;
use kernels::launch::HostProcess;
use kernels::launch::Hosts;
use kernels::launch::LaunchSpec;
use kernels::launch::Tenant;
use kernels::spawner;
use kernels::zygote::ForkedKernel;
use kernels::zygotes::Kind;
use kernels::zygotes::Recipe;
use kernels::zygotes::Zygotes;
use pyodide_dist::Distribution;
use sandbox::Confinement;
use tokio::process::Command;
use v8_host::SYSTEM_AUTHORITIES;
use v8_host::process;
use v8_host::process::Starting as Started;

use crate::registries;

/// The argument that makes this binary a kernel process.
pub const HOST_COMMAND: &str = "kernel-host";

/// This binary, even after it was replaced on disk; where /proc is not mounted, as it was called.
fn own_binary() -> OsString {
  const OWN: &str = "/proc/self/exe";
  match std::env::args_os().next() {
    Some(called) if !Path::new(OWN).exists() => called,
    _ => OWN.into(),
  }
}

/// Longest a kernel waits for a zygote that boots V8.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What kernels are forked from.
#[derive(Debug, Clone, Copy)]
pub struct ZygoteOptions {
  /// Most zygotes that are kept; 0 starts every kernel anew.
  pub most: usize,
  /// Whether each namespace has its own, for namespaces are strangers to each other.
  pub per_namespace: bool,
}

impl ZygoteOptions {
  /// Starts every kernel anew.
  pub const NONE: Self = Self {
    most: 0,
    per_namespace: false,
  };
}

/// Hosts on this machine, confined as the operator says.
pub(crate) struct LocalHosts {
  confinement: Confinement,
  pyodide: Distribution,
  /// Or why there are no CPython kernels.
  cpython: Result<CPythonHosts, String>,
  /// `None` to start every kernel anew.
  zygotes: Option<Arc<Zygotes>>,
  per_namespace: bool,
}

impl LocalHosts {
  /// Call it on a tokio runtime.
  pub(crate) fn new(
    confinement: Confinement,
    pyodide: Distribution,
    options: ZygoteOptions,
  ) -> Self {
    let zygotes = (options.most > 0).then(|| Zygotes::new(options.most));
    Self {
      cpython: CPythonHosts::beside_this_binary(zygotes.clone())
        .map(|hosts| hosts.confined(confinement.clone())),
      confinement,
      pyodide,
      zygotes,
      per_namespace: options.per_namespace,
    }
  }

  fn cpython(&self) -> Result<&CPythonHosts, String> {
    self.cpython.as_ref().map_err(Clone::clone)
  }

  /// Whose zygote a host of this tenant is forked from; `None` for one that must share no memory with any other.
  fn forked_with(&self, tenant: &Tenant) -> Option<Tenant> {
    match tenant {
      _ if !self.per_namespace => Some(Tenant::Anyone),
      Tenant::Anyone => None,
      Tenant::Apps | Tenant::Namespace(_) => Some(tenant.clone()),
    }
  }

  /// The zygote for hosts of this tenant that boot `runtime`, and how it is started; `None` for those that are not forked.
  fn zygote_of(&self, runtime: &Runtime, tenant: &Tenant) -> Option<(Kind, Recipe)> {
    let runtime = process::before_fork(runtime)?;
    let kind = Kind {
      boots: serde_json::to_string(&runtime).ok()?,
      tenant: self.forked_with(tenant)?,
    };
    let confinement = self.confinement.clone();
    let name = match &runtime {
      Runtime::JavaScript { main: None, .. } => "TypeScript",
      Runtime::JavaScript { main: Some(_), .. } => "apps",
      Runtime::Pyodide { .. } => "Pyodide",
    };
    let spawn = move |socket| {
      let command = command(&runtime, &confinement, Started::Zygote, socket);
      async move { spawner::spawn(command?).await }
    };
    let recipe = Recipe {
      name,
      spawn: Arc::new(move |socket| Box::pin(spawn(socket))),
      patience: PATIENCE,
    };
    Some((kind, recipe))
  }

  async fn fork(
    &self,
    runtime: &Runtime,
    tenant: &Tenant,
    socket: &UnixStream,
  ) -> Option<ForkedKernel> {
    let zygotes = self.zygotes.as_ref()?;
    let (kind, recipe) = self.zygote_of(runtime, tenant)?;
    let role = process::role(runtime);
    zygotes.fork(&kind, role, socket.as_fd(), &recipe).await
  }

  /// The tenant's own zygote for such hosts, where tenants have one.
  fn own_zygote(
    &self,
    spec: &LaunchSpec,
    tenant: &Tenant,
  ) -> Option<(&Arc<Zygotes>, Kind, Recipe)> {
    let LaunchSpec::V8(runtime) = spec else {
      return None;
    };
    let zygotes = self.zygotes.as_ref().filter(|_| self.per_namespace)?;
    let (kind, recipe) = self.zygote_of(runtime, tenant)?;
    Some((zygotes, kind, recipe))
  }

  async fn unpack(&self, runtime: &Runtime) -> io::Result<()> {
    let Runtime::Pyodide { files, .. } = runtime else {
      return Ok(());
    };
    let (pyodide, assets) = (self.pyodide.clone(), files.assets.clone());
    tokio::task::spawn_blocking(move || pyodide.unpack(&assets))
      .await
      .map_err(io::Error::other)?
      .map_err(|e| io::Error::other(format!("Python cannot be unpacked: {e}")))
  }
}

#[async_trait]
impl Hosts for LocalHosts {
  async fn check(&self, spec: &LaunchSpec) -> Result<(), String> {
    match spec {
      LaunchSpec::V8(_) => Ok(()),
      LaunchSpec::CPython { executable, .. } => {
        self.cpython()?.check(executable).await?;
        Ok(())
      }
    }
  }

  async fn start(
    &self,
    spec: &LaunchSpec,
    tenant: &Tenant,
    socket: UnixStream,
  ) -> io::Result<Box<dyn HostProcess>> {
    let runtime = match spec {
      LaunchSpec::V8(runtime) => runtime,
      LaunchSpec::CPython { executable, role } => {
        let hosts = self.cpython().map_err(io::Error::other)?;
        let tenant = self.forked_with(tenant);
        let started = hosts.start(executable, *role, tenant, socket.as_fd()).await;
        return Ok(Box::new(started.map_err(io::Error::other)?));
      }
    };
    self.unpack(runtime).await?;
    if let Some(forked) = self.fork(runtime, tenant, &socket).await {
      return Ok(Box::new(LocalProcess::Forked(forked)));
    }
    let command = command(runtime, &self.confinement, Started::Kernel, socket.into())?;
    let child = spawner::spawn(command).await?;
    Ok(Box::new(LocalProcess::Direct(child)))
  }

  fn has_own(&self, spec: &LaunchSpec, tenant: &Tenant) -> bool {
    self
      .own_zygote(spec, tenant)
      .is_some_and(|(zygotes, kind, _)| zygotes.has(&kind))
  }

  fn distrust(&self, spec: &LaunchSpec, tenant: &Tenant) -> bool {
    let (LaunchSpec::V8(runtime), Some(zygotes)) = (spec, &self.zygotes) else {
      return false;
    };
    self
      .zygote_of(runtime, tenant)
      .is_some_and(|(kind, recipe)| zygotes.distrust(&kind, &recipe))
  }

  fn prepare(&self, spec: &LaunchSpec, tenant: &Tenant) {
    if let Some((zygotes, kind, recipe)) = self.own_zygote(spec, tenant) {
      zygotes.prepare(&kind, &recipe);
    }
  }

  async fn start_on_thread(&self, spec: &LaunchSpec, socket: UnixStream) -> io::Result<()> {
    match spec {
      LaunchSpec::V8(runtime) => {
        self.unpack(runtime).await?;
        process::start_on_thread(runtime.clone(), socket)
      }
      LaunchSpec::CPython { .. } => Err(io::Error::other(
        "CPython kernels need a process of their own: use the mode `worker`",
      )),
    }
  }

  fn close(&self) {
    if let Some(zygotes) = &self.zygotes {
      zygotes.close();
    }
  }
}

fn command(
  runtime: &Runtime,
  confinement: &Confinement,
  starting: Started,
  socket: OwnedFd,
) -> io::Result<Command> {
  let mut command = Command::new(own_binary());
  command
    .arg(HOST_COMMAND)
    .args(process::arguments(runtime, confinement, starting)?)
    // Nothing else of the server's environment is for kernels.
    .env_clear()
    .envs(registries::environment())
    .envs(
      SYSTEM_AUTHORITIES
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?))),
    )
    // One isolate, few threads: glibc's arena a core would only spread the heap out.
    .env("MALLOC_ARENA_MAX", "1")
    .stdin(Stdio::from(socket))
    .stdout(Stdio::null())
    .stderr(Stdio::inherit())
    .kill_on_drop(true);
  Ok(command)
}
