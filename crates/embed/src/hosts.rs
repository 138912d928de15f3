//! Starts kernels on this machine: this binary again for those in V8, `cpython-host` for those of CPython.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use async_trait::async_trait;
use kernel_protocol::launch::Runtime;
use kernels::LocalProcess;
use kernels::cpython::start::CPythonHosts;
use kernels::cpython::start::Starting;
use kernels::launch::HostProcess;
use kernels::launch::Hosts;
use kernels::launch::LaunchSpec;
use kernels::spawner;
use kernels::zygote::ForkedKernel;
use pyodide_dist::Distribution;
use sandbox::Confinement;
use tokio::process::Child;
use tokio::process::Command;
use v8_host::SYSTEM_AUTHORITIES;
use v8_host::process;
use v8_host::process::Starting as Started;

use crate::registries;
use crate::zygotes::Zygotes;

/// The argument that makes this binary a kernel process.
pub const HOST_COMMAND: &str = "kernel-host";

/// This binary, even after it was replaced on disk.
const OWN_BINARY: &str = "/proc/self/exe";

/// Hosts on this machine, confined as the operator says.
pub(crate) struct LocalHosts {
  confinement: Confinement,
  pyodide: Distribution,
  /// Or why there are no CPython kernels.
  cpython: Result<CPythonHosts, String>,
  /// `None` to start every kernel in V8 anew.
  zygotes: Option<Zygotes>,
}

impl LocalHosts {
  /// `forks` says whether kernels in V8 are forked where they can be.
  pub(crate) fn new(confinement: Confinement, pyodide: Distribution, forks: bool) -> Self {
    Self {
      cpython: CPythonHosts::beside_this_binary(Starting::FromZygote)
        .map(|hosts| hosts.confined(confinement.clone())),
      confinement,
      pyodide,
      zygotes: forks.then(Zygotes::default),
    }
  }

  fn cpython(&self) -> Result<&CPythonHosts, String> {
    self.cpython.as_ref().map_err(Clone::clone)
  }

  /// A kernel that is forked; `None` for one that must be started, because its runtime is not forked from or there is no
  /// zygote.
  async fn fork(&self, runtime: &Runtime, socket: &UnixStream) -> Option<ForkedKernel> {
    let zygotes = self.zygotes.as_ref()?;
    let Runtime::JavaScript { main: None, .. } = runtime else {
      return None;
    };
    let key = serde_json::to_string(runtime).ok()?;
    let spawn = |control| self.spawn(runtime, Started::Zygote, control);
    match zygotes.fork(&key, socket.as_fd(), spawn).await {
      Ok(forked) => forked,
      Err(error) => {
        tracing::warn!("kernels are started anew for a while, for they cannot be forked: {error}");
        None
      }
    }
  }

  async fn spawn(
    &self,
    runtime: &Runtime,
    starting: Started,
    socket: OwnedFd,
  ) -> io::Result<Child> {
    let mut command = Command::new(Path::new(OWN_BINARY));
    command
      .arg(HOST_COMMAND)
      .args(process::arguments(runtime, &self.confinement, starting)?)
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
    spawner::spawn(command).await
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

  async fn start(&self, spec: &LaunchSpec, socket: UnixStream) -> io::Result<Box<dyn HostProcess>> {
    let runtime = match spec {
      LaunchSpec::V8(runtime) => runtime,
      LaunchSpec::CPython { executable, role } => {
        let hosts = self.cpython().map_err(io::Error::other)?;
        let started = hosts.start(executable, *role, socket.as_fd()).await;
        return Ok(Box::new(started.map_err(io::Error::other)?));
      }
    };
    self.unpack(runtime).await?;
    if let Some(forked) = self.fork(runtime, &socket).await {
      return Ok(Box::new(LocalProcess::Forked(forked)));
    }
    let child = self.spawn(runtime, Started::Kernel, socket.into()).await?;
    Ok(Box::new(LocalProcess::Direct(child)))
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
    if let Ok(hosts) = &self.cpython {
      hosts.close();
    }
  }
}
