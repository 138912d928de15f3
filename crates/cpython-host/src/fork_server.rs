//! What makes this process fit to fork kernels, and how Python forks.

use std::io;

use pyo3::prelude::*;
use rustix::process::Pid;

/// Whether this process can be forked: an installation may start threads while it is imported.
///
/// # Errors
/// When there is more than the one thread, or the system does not tell.
pub(crate) fn check_threads() -> io::Result<()> {
  match std::fs::read_dir("/proc/self/task")?.count() {
    0 | 1 => Ok(()),
    threads => Err(io::Error::other(format!(
      "importing IPython started {} threads, which forked kernels would lack; start kernels \
       directly instead",
      threads - 1
    ))),
  }
}

/// Forks the way Python wants it; `None` in the child.
///
/// # Errors
/// When the system has no more processes.
pub(crate) fn fork(py: Python<'_>) -> io::Result<Option<Pid>> {
  let pid = py.import("os")?.call_method0("fork")?.extract()?;
  Ok(Pid::from_raw(pid))
}
