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
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures::FutureExt;
use sandbox::Confinement;
use sandbox::Role;
use tokio::process::Command;

use crate::cpython::installation::PythonInstallation;
use crate::launch::Tenant;
use crate::process::LocalProcess;
use crate::spawner;
use crate::zygotes::Kind;
use crate::zygotes::Recipe;
use crate::zygotes::Zygotes;

/// The binary that has Python embedded; it lies beside the server's.
const HOST_BINARY: &str = "cpython-host";

/// Longest a kernel waits for a zygote that imports IPython.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every installation that kernels were made of.
pub struct CPythonHosts {
  binary: PathBuf,
  /// `None` to start every kernel anew.
  zygotes: Option<Arc<Zygotes>>,
  confinement: Confinement,
  known: Mutex<HashMap<PathBuf, Arc<Slot>>>,
}

/// What is known of one installation; locked while it is probed, so that many requests at once probe it once.
type Slot = tokio::sync::Mutex<Option<PythonInstallation>>;

impl CPythonHosts {
  /// # Errors
  /// When the host binary is not where it belongs.
  pub fn beside_this_binary(zygotes: Option<Arc<Zygotes>>) -> Result<Self, String> {
    let binary = std::env::current_exe()
      .map_err(|e| format!("this program's own place is unknown: {e}"))?
      .with_file_name(HOST_BINARY);
    Self::with_binary(binary, zygotes)
  }

  /// # Errors
  /// When there is no such file.
  pub fn with_binary(binary: PathBuf, zygotes: Option<Arc<Zygotes>>) -> Result<Self, String> {
    if !binary.is_file() {
      return Err(format!(
        "CPython kernels need the program `{}`, which is missing: build or install it beside the \
         server",
        binary.display()
      ));
    }
    Ok(Self {
      binary,
      zygotes,
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
    let mut known = slot.lock().await;
    if let Some(known) = &*known {
      return Ok(known.clone());
    }
    let installation = PythonInstallation::probe(executable, self.confinement.user).await?;
    *known = Some(installation.clone());
    Ok(installation)
  }

  /// Starts a host for `role` that talks over `socket`; its first word there is `Ready`. It is forked from the zygote of
  /// `tenant`, or, when that is `None`, from none.
  ///
  /// # Errors
  /// A sentence for the client that asked for the kernel.
  pub async fn start(
    &self,
    executable: &Path,
    role: Role,
    tenant: Option<Tenant>,
    socket: BorrowedFd<'_>,
  ) -> Result<LocalProcess, String> {
    let installation = self.check(executable).await?;
    if let (Some(zygotes), Some(tenant)) = (&self.zygotes, tenant) {
      let kind = Kind {
        boots: format!("CPython {}", executable.display()),
        tenant,
      };
      let recipe = self.recipe(&installation);
      if let Some(forked) = zygotes.fork(&kind, role, socket, &recipe).await {
        return Ok(LocalProcess::Forked(forked));
      }
    }
    let failed = |e: io::Error| {
      // What is installed may have changed: probed again next time.
      self.forget(executable);
      format!(
        "a kernel of {} could not be started: {e}",
        executable.display()
      )
    };
    let socket = socket.try_clone_to_owned().map_err(failed)?;
    let command = command(&self.binary, &self.confinement, role, &installation, socket);
    let child = spawner::spawn(command).await;
    child.map(LocalProcess::Direct).map_err(failed)
  }

  fn forget(&self, executable: &Path) {
    self.lock().remove(executable);
  }

  fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Slot>>> {
    self.known.lock().unwrap_or_else(PoisonError::into_inner)
  }

  fn slot(&self, executable: &Path) -> Arc<Slot> {
    self
      .lock()
      .entry(executable.to_owned())
      .or_default()
      .clone()
  }

  fn recipe(&self, installation: &PythonInstallation) -> Recipe {
    let (binary, confinement) = (self.binary.clone(), self.confinement.clone());
    let installation = installation.clone();
    let spawn = move |socket| {
      spawner::spawn(command(
        &binary,
        &confinement,
        Role::Zygote,
        &installation,
        socket,
      ))
      .boxed()
    };
    Recipe {
      name: "CPython",
      spawn: Arc::new(spawn),
      patience: PATIENCE,
    }
  }
}

fn command(
  binary: &Path,
  confinement: &Confinement,
  role: Role,
  installation: &PythonInstallation,
  socket: OwnedFd,
) -> Command {
  let mut command = Command::new(binary);
  command
    .arg(role.to_argument())
    .arg(confinement.to_argument())
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
  command
}
