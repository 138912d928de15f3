//! Starting CPython hosts: what the server calls.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sandbox::Confinement;
use sandbox::Role;
use tokio::process::Child;
use tokio::process::Command;

use crate::cpython::installation::PythonInstallation;
use crate::process::LocalProcess;
use crate::spawner;
use crate::zygote::Zygote;

/// The binary that has Python embedded; it lies beside the server's.
const HOST_BINARY: &str = "cpython-host";

/// Longest a zygote may take to fork.
const FORK_TIME: Duration = Duration::from_secs(10);

/// Whether kernels are forked or started one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starting {
  FromZygote,
  Direct,
}

/// Every installation that kernels were made of, and its zygote.
pub struct CPythonHosts {
  binary: PathBuf,
  starting: Starting,
  confinement: Confinement,
  known: Mutex<HashMap<PathBuf, Arc<Slot>>>,
}

/// What is known of one installation; locked while it is probed, so that many requests at once
/// make one zygote.
type Slot = tokio::sync::Mutex<Option<Prepared>>;

#[derive(Clone)]
struct Prepared {
  installation: PythonInstallation,
  zygote: Option<Arc<Zygote>>,
}

impl CPythonHosts {
  /// # Errors
  /// When the host binary is not where it belongs.
  pub fn beside_this_binary(starting: Starting) -> Result<Self, String> {
    let binary = std::env::current_exe()
      .map_err(|e| format!("this program's own place is unknown: {e}"))?
      .with_file_name(HOST_BINARY);
    Self::with_binary(binary, starting)
  }

  /// # Errors
  /// When there is no such file.
  pub fn with_binary(binary: PathBuf, starting: Starting) -> Result<Self, String> {
    if !binary.is_file() {
      return Err(format!(
        "CPython kernels need the program `{}`, which is missing: build or install it beside the \
         server",
        binary.display()
      ));
    }
    Ok(Self {
      binary,
      starting,
      confinement: Confinement::default(),
      known: Mutex::default(),
    })
  }

  /// With processes that are confined so.
  #[must_use]
  pub fn confined(self, confinement: Confinement) -> Self {
    Self {
      confinement,
      ..self
    }
  }

  pub fn confinement(&self) -> &Confinement {
    &self.confinement
  }

  /// Whether kernels can be made of this Python; what a kernel's creation asks first.
  ///
  /// # Errors
  /// A sentence for the client that asked for the kernel.
  pub async fn check(&self, executable: &Path) -> Result<PythonInstallation, String> {
    let slot = self.slot(executable);
    let mut prepared = slot.lock().await;
    if let Some(prepared) = &*prepared {
      return Ok(prepared.installation.clone());
    }
    let installation = PythonInstallation::probe(executable, self.confinement.user).await?;
    *prepared = Some(Prepared {
      installation: installation.clone(),
      zygote: None,
    });
    Ok(installation)
  }

  /// Starts a host for `role` that talks over `socket`; its first word there is `Ready`.
  ///
  /// # Errors
  /// A sentence for the client that asked for the kernel.
  pub async fn start(
    &self,
    executable: &Path,
    role: Role,
    socket: BorrowedFd<'_>,
  ) -> Result<LocalProcess, String> {
    let installation = self.check(executable).await?;
    let failed = |e: io::Error| {
      format!(
        "a kernel of {} could not be started: {e}",
        executable.display()
      )
    };
    if self.starting == Starting::Direct {
      let socket = socket.try_clone_to_owned().map_err(failed)?;
      let child = self.spawn(role, &installation, socket).await;
      return child.map(LocalProcess::Direct).map_err(failed);
    }
    // A zygote that ended unnoticed is found out by asking it.
    let mut zygote = self
      .zygote(executable, &installation)
      .await
      .map_err(failed)?;
    let mut forked = zygote.fork(role, socket, FORK_TIME).await;
    if forked.is_err() && zygote.is_gone() {
      zygote = self
        .zygote(executable, &installation)
        .await
        .map_err(failed)?;
      forked = zygote.fork(role, socket, FORK_TIME).await;
    }
    forked.map(LocalProcess::Forked).map_err(failed)
  }

  /// Ends all zygotes; kernels live on.
  pub fn close(&self) {
    self
      .known
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .clear();
  }

  fn slot(&self, executable: &Path) -> Arc<Slot> {
    self
      .known
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .entry(executable.to_owned())
      .or_default()
      .clone()
  }

  /// The living zygote of the installation, started if need be.
  async fn zygote(
    &self,
    executable: &Path,
    installation: &PythonInstallation,
  ) -> io::Result<Arc<Zygote>> {
    let slot = self.slot(executable);
    let mut prepared = slot.lock().await;
    let living = prepared.as_ref().and_then(|p| p.zygote.clone());
    if let Some(zygote) = living.filter(|z| !z.is_gone()) {
      return Ok(zygote);
    }
    // What is installed may have changed by the next attempt: probed again then.
    *prepared = None;
    let zygote = Zygote::start(|socket| self.spawn(Role::Zygote, installation, socket)).await?;
    let zygote = Arc::new(zygote);
    *prepared = Some(Prepared {
      installation: installation.clone(),
      zygote: Some(zygote.clone()),
    });
    Ok(zygote)
  }

  async fn spawn(
    &self,
    role: Role,
    installation: &PythonInstallation,
    socket: OwnedFd,
  ) -> io::Result<Child> {
    let mut command = Command::new(&self.binary);
    command
      .arg(role.to_argument())
      .arg(self.confinement.to_argument())
      .arg(&installation.executable)
      // Nothing of the server's environment is for kernels.
      .env_clear()
      .env("LD_PRELOAD", &installation.library)
      // One thread holds the GIL: glibc's arena a core would only spread the heap out.
      .env("MALLOC_ARENA_MAX", "1")
      .stdin(Stdio::from(socket))
      .stdout(Stdio::null())
      .stderr(Stdio::inherit())
      .kill_on_drop(true);
    spawner::spawn(command).await
  }
}
