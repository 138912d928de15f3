//! Between kernels and whatever starts their processes: this machine today, a sandbox, a zygote or
//! another machine tomorrow.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;

use async_trait::async_trait;
use kernel_protocol::launch::Runtime;
use sandbox::Role;

/// What a blank host boots.
#[derive(Debug, Clone)]
pub enum LaunchSpec {
  /// A runtime in V8.
  V8(Runtime),
  /// Python in a process of its own kind.
  CPython { executable: PathBuf, role: Role },
}

/// Starts hosts. Kernels know of their processes only what is here.
#[async_trait]
pub trait Hosts: Send + Sync {
  /// Finds out whether such a host can be started, before one is.
  ///
  /// # Errors
  /// A sentence for the client that asked for the kernel.
  async fn check(&self, spec: &LaunchSpec) -> Result<(), String>;

  /// Starts a process that talks over `socket`; its first reply is `Ready`.
  ///
  /// # Errors
  /// When it cannot be started, or its files cannot be put in place.
  async fn start(&self, spec: &LaunchSpec, socket: UnixStream) -> io::Result<Box<dyn HostProcess>>;

  /// Runs a host on threads of this process.
  ///
  /// # Errors
  /// When it cannot be started, or needs a process of its own.
  async fn start_on_thread(&self, spec: &LaunchSpec, socket: UnixStream) -> io::Result<()>;

  /// Ends what is kept to start hosts from; hosts live on.
  fn close(&self);
}

/// The process of a host, whoever its parent is. Dropping it ends the process.
#[async_trait]
pub trait HostProcess: Send {
  fn id(&self) -> Option<u32>;

  /// Whether the process has ended, without collecting its status: until that is done its id, and
  /// so that of its group, cannot become another's.
  fn has_exited(&self) -> bool;

  /// Kills the process and its group, if it has come to make one; does nothing once it has been
  /// waited for. What left the group comes to the server, which ends it.
  fn kill_group(&mut self);

  /// Waits until it has ended; `None` when how it ended cannot be known.
  async fn wait(&mut self) -> Option<ExitStatus>;
}
