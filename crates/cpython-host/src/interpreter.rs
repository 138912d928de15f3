//! Starting Python, and in it the host.

use std::ffi::CString;
use std::ffi::OsString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;

use include_dir::Dir;
use include_dir::include_dir;
use kernel_host::host;
use kernel_host::host::Ending;
use kernel_protocol::Reply;
use kernel_protocol::zygote::ZygoteReply;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sandbox::Confinement;
use sandbox::Role;

use crate::fork_server;
use crate::language::CPython;

/// The Python half of the kernel.
static PYTHON: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python");

/// What only the loader and the allocator were to see.
const STARTER_VARIABLES: [&str; 2] = ["LD_PRELOAD", "MALLOC_ARENA_MAX"];

/// Options of the interpreter: isolated from the account's settings, UTF-8 whatever the locale,
/// and nothing of descriptors 1 and 2 held back.
const OPTIONS: [&str; 6] = [
  "-I",
  "-u",
  "-X",
  "utf8",
  "-c",
  "import _cpython_host; _cpython_host.main()",
];

struct Start {
  role: Role,
  /// To the server.
  socket: UnixStream,
}

/// Handed from `main` to the function that Python calls.
static START: Mutex<Option<Start>> = Mutex::new(None);

/// `cpython-host ROLE CONFINEMENT EXECUTABLE`, with the socket to the server as descriptor 0.
pub(crate) fn main() -> ExitCode {
  let mut arguments = std::env::args_os().skip(1);
  let mut text = || arguments.next()?.into_string().ok();
  let role = text().and_then(|role| Role::from_argument(&role));
  let confinement = text().and_then(|confinement| Confinement::from_argument(&confinement));
  let (Some(role), Some(confinement), Some(executable), None) =
    (role, confinement, arguments.next(), arguments.next())
  else {
    return fail("this program is started by deno-app-engine, for its CPython kernels");
  };
  match prepare(role, &confinement).and_then(|()| run_python(executable)) {
    Ok(code) => code,
    Err(error) => fail(&error.to_string()),
  }
}

fn fail(reason: &str) -> ExitCode {
  let _ = writeln!(io::stderr(), "cpython-host: {reason}");
  ExitCode::FAILURE
}

#[expect(clippy::disallowed_methods, reason = "there is one thread")]
fn prepare(role: Role, confinement: &Confinement) -> io::Result<()> {
  confinement.enter(role, &[])?;
  for name in STARTER_VARIABLES {
    // SAFETY: the process has no other thread yet.
    unsafe { std::env::remove_var(name) };
  }
  let socket = host::take_socket()?;
  *START.lock().unwrap_or_else(PoisonError::into_inner) = Some(Start { role, socket });
  Ok(())
}

/// Runs the interpreter the way its own executable would, so that it finds its library, its
/// virtual environment and their `.pth` files by itself.
fn run_python(executable: OsString) -> io::Result<ExitCode> {
  pyo3::append_to_inittab!(_cpython_host);
  let arguments = std::iter::once(executable)
    .chain(OPTIONS.map(OsString::from))
    .map(|argument| CString::new(argument.into_vec()))
    .collect::<Result<Vec<_>, _>>()?;
  let mut argv: Vec<*mut c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
  let argc = c_int::try_from(argv.len()).map_err(io::Error::other)?;
  argv.push(std::ptr::null_mut());
  // SAFETY: `argv` holds `argc` C strings and a null, alive until this returns; Python does not
  // write to them.
  let code = unsafe { pyo3::ffi::Py_BytesMain(argc, argv.as_mut_ptr()) };
  Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

#[pymodule]
fn _cpython_host(module: &Bound<'_, PyModule>) -> PyResult<()> {
  module.add_function(wrap_pyfunction!(host_main, module)?)
}

/// Becomes the host; never returns, for a kernel's process ends without Python's farewell.
#[pyfunction(name = "main")]
fn host_main(py: Python<'_>) -> PyResult<()> {
  let start = START.lock().unwrap_or_else(PoisonError::into_inner).take();
  let Some(Start { role, mut socket }) = start else {
    return Ok(());
  };
  let made = make_kernel(py).and_then(|kernel| {
    if let Role::Zygote = role {
      kernel.call_method0(py, "warm_up")?;
      fork_server::check_threads()?;
      settle_memory(py)?;
    }
    Ok(kernel)
  });
  let kernel = match made {
    Ok(kernel) => kernel,
    Err(error) => {
      let reason = format!("the kernel's Python could not start: {error}");
      let frame = match role {
        Role::Kernel | Role::Program => kernel_protocol::encode(&Reply::Fatal { reason }),
        Role::Zygote => kernel_protocol::encode(&ZygoteReply::Failed { reason }),
      };
      let _ = socket.write_all(&frame);
      return Err(error);
    }
  };
  if let Role::Zygote = role {
    match host::fork_server::serve(socket, || fork_server::fork(py))? {
      Some(kernels) => socket = kernels,
      None => host::exit_now(0),
    }
  }
  py.detach(|| match run_host(socket, &kernel) {
    Ok(()) => host::exit_now(0),
    Err(error) => {
      fail(&error.to_string());
      host::exit_now(1)
    }
  })
}

/// Imports the Python half and builds its kernel, without a host yet.
fn make_kernel(py: Python<'_>) -> PyResult<Py<PyAny>> {
  let sources = PyDict::new(py);
  add_sources(&PYTHON, &sources)?;
  PyModule::from_code(
    py,
    c_str!(include_str!("bootstrap.py")),
    c_str!("<engine>/bootstrap.py"),
    c_str!("_engine_bootstrap"),
  )?
  .call_method1("install", (sources,))?;
  Ok(
    py.import("engine_kernel._cpython")?
      .getattr("CPythonKernel")?
      .call0()?
      .unbind(),
  )
}

fn add_sources(dir: &Dir<'_>, sources: &Bound<'_, PyDict>) -> PyResult<()> {
  for file in dir.files() {
    if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8())
      && path.ends_with(".py")
    {
      sources.set_item(path, text)?;
    }
  }
  dir.dirs().try_for_each(|dir| add_sources(dir, sources))
}

/// Keeps the collector from writing to what forked kernels share.
fn settle_memory(py: Python<'_>) -> PyResult<()> {
  let gc = py.import("gc")?;
  gc.call_method0("collect")?;
  gc.call_method0("freeze")?;
  host::give_free_memory_back();
  Ok(())
}

fn run_host(socket: UnixStream, kernel: &Py<PyAny>) -> io::Result<()> {
  let capture = host::capture_stdio()?;
  let (control, owner) = host::halves(socket, capture, Ending::Process)?;
  control.guard_forks()?;
  control.spawn()?;
  owner.run(async |surroundings| CPython::boot(kernel, surroundings));
  Ok(())
}
