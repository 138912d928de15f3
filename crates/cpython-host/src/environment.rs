//! The environment of a kernel: what it must have for packages and child processes to work, and changes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kernel_host::language::Environment;
use kernel_host::sink::SharedSink;
use kernel_protocol::KernelEvent;
use pyo3::prelude::*;

/// Where commands are looked for after the installation's own.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The kernel's environment, with defaults for what it does not say.
pub(crate) fn complete(
  py: Python<'_>,
  env: &BTreeMap<String, String>,
  cwd: &str,
) -> PyResult<BTreeMap<String, String>> {
  let sys = py.import("sys")?;
  let executable: String = sys.getattr("executable")?.extract()?;
  let prefix: String = sys.getattr("prefix")?.extract()?;
  let mut complete = env.clone();
  let mut default = |name: &str, value: String| {
    complete.entry(name.to_owned()).or_insert(value);
  };
  if let Some(bin) = Path::new(&executable).parent() {
    default("PATH", format!("{}:{SYSTEM_PATH}", bin.display()));
  }
  if prefix != sys.getattr("base_prefix")?.extract::<String>()? {
    default("VIRTUAL_ENV", prefix);
  }
  // Many packages keep settings and caches there; the account's own home is not the kernel's.
  default("HOME", cwd.to_owned());
  default("LANG", "C.UTF-8".to_owned());
  Ok(complete)
}

/// Changes the environment of a kernel while its code runs.
pub(crate) struct RunningEnvironment {
  /// An object of `engine_kernel`.
  kernel: Arc<Py<PyAny>>,
  sink: SharedSink,
}

impl RunningEnvironment {
  pub(crate) fn new(kernel: Py<PyAny>, sink: SharedSink) -> Self {
    Self {
      kernel: Arc::new(kernel),
      sink,
    }
  }
}

impl Environment for RunningEnvironment {
  fn set(&self, variables: BTreeMap<String, String>) {
    let (kernel, sink) = (self.kernel.clone(), self.sink.clone());
    // On a thread of its own: native code may keep Python for itself for long.
    let thread = std::thread::Builder::new().name("environment".into());
    let started = thread.spawn(move || {
      Python::attach(|py| {
        if let Err(error) = kernel.call_method1(py, "set_environment", (variables,)) {
          tell(&sink, &error);
        }
      });
    });
    if let Err(error) = started {
      tell(&self.sink, &error);
    }
  }
}

fn tell(sink: &SharedSink, error: &dyn std::fmt::Display) {
  let text = format!("variables of the environment were not renewed: {error}\n");
  sink.emit(KernelEvent::stderr(text));
}
