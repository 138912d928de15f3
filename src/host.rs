//! The hosts there are: how the server starts each, and what its process does.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;

use kernel_host::host;
use kernel_host::host::Capture;
use kernel_host::host::Ending;
use kernel_host::host::Surroundings;
use kernel_host::lang::Language;
use kernel_host::lang::cpython::start::CPythonHosts;
use kernel_host::lang::cpython::start::HostProcess;
use kernel_host::sandbox::Confinement;
use kernel_host::sandbox::Role;
use kernel_host::spawner;
use serde::Deserialize;
use serde::Serialize;
use tokio::process::Command;

use crate::lang::Pyodide;
use crate::lang::TypeScript;
use crate::lang::pyodide::distribution;
use crate::protocol::MainProgram;
use crate::registries;
use crate::runtime::ModuleCache;
use crate::runtime::PythonFiles;
use crate::runtime::SYSTEM_AUTHORITIES;

/// The hidden command that turns this binary into a kernel process.
pub const HOST_COMMAND: &str = "kernel-host";

/// What a blank host boots.
#[derive(Clone)]
pub enum HostSpec {
  /// This binary again.
  V8 {
    program: Program,
    confinement: Confinement,
  },
  /// Python in a process of its own kind.
  CPython {
    hosts: Arc<CPythonHosts>,
    executable: PathBuf,
    role: Role,
  },
}

/// What runs in V8, and the files it needs; the argument of the hidden command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Program {
  /// TypeScript and JavaScript: cells, or a main program.
  JavaScript {
    modules: ModuleCache,
    main: Option<MainProgram>,
  },
  Pyodide {
    files: PythonFiles,
    modules: ModuleCache,
  },
}

impl HostSpec {
  /// The same for the main program of an app. What runs in V8 knows its program already.
  pub fn for_program(mut self) -> Self {
    if let Self::CPython { role, .. } = &mut self {
      *role = Role::Program;
    }
    self
  }

  pub fn confinement(&self) -> &Confinement {
    match self {
      Self::V8 { confinement, .. } => confinement,
      Self::CPython { hosts, .. } => hosts.confinement(),
    }
  }

  /// Starts a process that talks over `socket`.
  ///
  /// # Errors
  /// When it cannot be started, or its files cannot be put in place.
  pub async fn start(&self, socket: UnixStream) -> io::Result<HostProcess> {
    let (program, confinement) = match self {
      Self::V8 {
        program,
        confinement,
      } => (program, confinement),
      Self::CPython {
        hosts,
        executable,
        role,
      } => {
        let started = hosts.start(executable, *role, socket.as_fd()).await;
        return started.map_err(io::Error::other);
      }
    };
    program.unpack().await?;
    let mut command = Command::new(own_binary()?);
    command
      .arg(HOST_COMMAND)
      .arg(serde_json::to_string(program)?)
      .arg(confinement.to_argument())
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
      .stdin(Stdio::from(OwnedFd::from(socket)))
      .stdout(Stdio::null())
      .stderr(Stdio::inherit())
      .kill_on_drop(true);
    spawner::spawn(command).await.map(HostProcess::Direct)
  }

  /// Runs the host on threads of this process.
  ///
  /// # Errors
  /// When it cannot: CPython has one interpreter a process.
  pub async fn start_on_thread(&self, socket: UnixStream) -> io::Result<()> {
    match self {
      Self::V8 { program, .. } => {
        program.unpack().await?;
        match program.clone() {
          Program::JavaScript { modules, main } => {
            run_on_thread(socket, boot_typescript(modules, main))
          }
          Program::Pyodide { files, modules } => {
            run_on_thread(socket, boot_pyodide(files, modules))
          }
        }
      }
      Self::CPython { .. } => Err(io::Error::other(
        "CPython kernels need a process of their own: use the mode `worker`",
      )),
    }
  }
}

impl Program {
  async fn unpack(&self) -> io::Result<()> {
    let Self::Pyodide { files, .. } = self else {
      return Ok(());
    };
    let assets = files.assets.clone();
    tokio::task::spawn_blocking(move || distribution::unpack(&assets))
      .await
      .map_err(io::Error::other)?
      .map_err(|e| io::Error::other(format!("Python cannot be unpacked: {e}")))
  }
}

/// This binary, also after it was replaced on disk.
fn own_binary() -> io::Result<PathBuf> {
  if cfg!(target_os = "linux") {
    Ok("/proc/self/exe".into())
  } else {
    std::env::current_exe()
  }
}

// ------------------------------------------------------------ the process of a kernel

/// Boots a language on its own thread.
trait Boot<L: Language>: AsyncFnOnce(Surroundings) -> io::Result<L> + Send + 'static {}
impl<L: Language, F: AsyncFnOnce(Surroundings) -> io::Result<L> + Send + 'static> Boot<L> for F {}

fn boot_typescript(modules: ModuleCache, main: Option<MainProgram>) -> impl Boot<TypeScript> {
  async move |surroundings: Surroundings| {
    TypeScript::boot(surroundings, &modules, main.as_ref()).await
  }
}

fn boot_pyodide(files: PythonFiles, modules: ModuleCache) -> impl Boot<Pyodide> {
  async move |surroundings: Surroundings| Pyodide::boot(surroundings, files, &modules).await
}

/// The body of the hidden command, with its arguments; the socket to the server is descriptor 0.
/// `None` when the arguments are not the server's.
pub fn run_command(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
  let mut args = args.into_iter();
  let program: Program = serde_json::from_str(args.next()?.to_str()?).ok()?;
  let confinement = Confinement::from_argument(args.next()?.to_str()?)?;
  let (role, passed) = match &program {
    Program::JavaScript {
      main: Some(main), ..
    } => (Role::Program, main.stdin),
    Program::JavaScript { main: None, .. } | Program::Pyodide { .. } => (Role::Kernel, None),
  };
  if let Err(error) = confinement.enter(role, passed.as_slice()) {
    return Some(failed(&error));
  }
  match program {
    Program::JavaScript { modules, main } => Some(run_process(boot_typescript(modules, main))),
    Program::Pyodide { files, modules } => {
      crate::runtime::optimise_wasm_late();
      Some(run_process(boot_pyodide(files, modules)))
    }
  }
}

fn run_process<L: Language>(boot: impl Boot<L>) -> ExitCode {
  let run = || -> io::Result<()> {
    let socket = host::take_socket()?;
    let (control, owner) = host::halves(socket, host::capture_stdio()?, Ending::Process)?;
    crate::runtime::spawn_isolate_thread("kernel", move || owner.run(boot))?;
    control.run();
    Ok(())
  };
  match run() {
    Ok(()) => ExitCode::SUCCESS,
    Err(error) => failed(&error),
  }
}

fn failed(error: &io::Error) -> ExitCode {
  use std::io::Write;
  let _ = writeln!(io::stderr(), "kernel host: {error}");
  ExitCode::FAILURE
}

fn run_on_thread<L: Language>(socket: UnixStream, boot: impl Boot<L>) -> io::Result<()> {
  let (control, owner) = host::halves(socket, Capture::pipes()?, Ending::Thread)?;
  crate::runtime::spawn_isolate_thread("kernel", move || owner.run(boot))?;
  control.spawn()
}
