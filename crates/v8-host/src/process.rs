//! A kernel in V8: in a process of its own, or on threads of the server.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use kernel_host::host;
use kernel_host::host::Capture;
use kernel_host::host::Ending;
use kernel_host::host::Surroundings;
use kernel_host::host::zygote;
use kernel_host::language::Language;
use kernel_protocol::MainProgram;
use kernel_protocol::launch::ModuleCache;
use kernel_protocol::launch::PythonFiles;
use kernel_protocol::launch::Runtime;
use sandbox::Confinement;
use sandbox::Role;

use crate::pyodide::Pyodide;
use crate::runtime;
use crate::typescript::TypeScript;

/// What a kernel process is started with, for [`run`].
///
/// # Errors
/// When a path is not UTF-8.
pub fn arguments(
  runtime: &Runtime,
  confinement: &Confinement,
  starting: Starting,
) -> io::Result<Vec<String>> {
  let mut arguments = vec![serde_json::to_string(runtime)?, confinement.to_argument()];
  if starting == Starting::Zygote {
    arguments.push(Role::Zygote.to_argument().to_owned());
  }
  Ok(arguments)
}

/// What a process is started to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starting {
  /// What its runtime says: a kernel, or a program.
  Kernel,
  /// What forks such kernels.
  Zygote,
}

/// What a process has booted that such a host is forked from; `None` for one that is not forked: its script reads from a
/// descriptor, or has arguments.
pub fn before_fork(runtime: &Runtime) -> Option<Runtime> {
  match runtime {
    Runtime::JavaScript {
      modules,
      main: Some(main),
    } => {
      let blank = MainProgram {
        path: PathBuf::new(),
        args: Vec::new(),
        behind_engine: main.behind_engine,
        stdin: None,
      };
      (main.args.is_empty() && main.stdin.is_none()).then(|| Runtime::JavaScript {
        modules: modules.clone(),
        main: Some(blank),
      })
    }
    Runtime::JavaScript { main: None, .. } | Runtime::Pyodide { .. } => Some(runtime.clone()),
  }
}

/// What a process that boots this is for.
pub fn role(runtime: &Runtime) -> Role {
  match runtime {
    Runtime::JavaScript { main: Some(_), .. } => Role::Program,
    Runtime::JavaScript { main: None, .. } | Runtime::Pyodide { .. } => Role::Kernel,
  }
}

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

/// Runs the kernel of this process, to its end; the socket to the server is descriptor 0. Returns `None`
/// when `args` are not those of [`arguments`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> Option<io::Result<()>> {
  let mut args = args.into_iter();
  let started_as: Runtime = serde_json::from_str(args.next()?.to_str()?).ok()?;
  let confinement = Confinement::from_argument(args.next()?.to_str()?)?;
  let starting = match args.next() {
    None => Starting::Kernel,
    Some(role) => match Role::from_argument(role.to_str()?)? {
      Role::Zygote => Starting::Zygote,
      Role::Kernel | Role::Program => return None,
    },
  };
  Some(start(started_as, starting, &confinement))
}

fn start(runtime: Runtime, starting: Starting, confinement: &Confinement) -> io::Result<()> {
  let passed = match &runtime {
    Runtime::JavaScript {
      main: Some(main), ..
    } => main.stdin,
    Runtime::JavaScript { main: None, .. } | Runtime::Pyodide { .. } => None,
  };
  let role = match starting {
    Starting::Kernel => role(&runtime),
    Starting::Zygote => Role::Zygote,
  };
  confinement.enter(role, passed.as_slice())?;
  match runtime {
    Runtime::JavaScript { modules, main } => run_process(starting, boot_typescript(modules, main)),
    Runtime::Pyodide { files, modules } => {
      runtime::optimise_wasm_late();
      run_process(starting, boot_pyodide(files, modules))
    }
  }
}

fn run_process<L: Language>(starting: Starting, boot: impl Boot<L>) -> io::Result<()> {
  match starting {
    Starting::Kernel => run_kernel(boot),
    Starting::Zygote => run_zygote(boot),
  }
}

fn run_kernel<L: Language>(boot: impl Boot<L>) -> io::Result<()> {
  let socket = host::take_socket()?;
  let (control, owner) = host::halves(socket, host::capture_stdio()?, Ending::Process)?;
  runtime::spawn_isolate_thread("kernel", move || owner.run(boot))?;
  control.run();
  Ok(())
}

/// Forks kernels until the server has gone.
fn run_zygote<L: Language>(boot: impl Boot<L>) -> io::Result<()> {
  runtime::forking::will_fork();
  let owner = zygote::owner(host::take_socket()?, host::capture_stdio()?)?;
  runtime::spawn_isolate_thread("kernel", move || owner.run(boot))?;
  loop {
    std::thread::park();
  }
}

fn run_on_thread<L: Language>(socket: UnixStream, boot: impl Boot<L>) -> io::Result<()> {
  let (control, owner) = host::halves(socket, Capture::pipes()?, Ending::Thread)?;
  runtime::spawn_isolate_thread("kernel", move || owner.run(boot))?;
  control.spawn()
}

/// Runs a kernel on threads of this process.
///
/// # Errors
/// When threads or descriptors run out.
pub fn start_on_thread(runtime: Runtime, socket: UnixStream) -> io::Result<()> {
  match runtime {
    Runtime::JavaScript { modules, main } => run_on_thread(socket, boot_typescript(modules, main)),
    Runtime::Pyodide { files, modules } => run_on_thread(socket, boot_pyodide(files, modules)),
  }
}
