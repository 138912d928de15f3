//! CPython cells in a process that has an interpreter embedded: the binary `cpython-host`.
//!
//! This is the server's side, which needs no Python: it asks an installation about itself ([`installation`]) and
//! starts hosts from it ([`start`], [`zygote`]). The interpreter's side is the crate `cpython-host`.

pub mod installation;
pub mod start;
pub mod zygote;

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor for something to read, on the current tokio runtime.
///
/// # Errors
/// When the system refuses.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
  // SAFETY: the descriptor is open and stays so while the `AsyncFd`, which owns it, lives.
  Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
