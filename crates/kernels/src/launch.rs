//! Between kernels and whatever starts their processes: this machine today, a sandbox, a zygote or
//! another machine tomorrow.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;

use async_trait::async_trait;
use kernel_protocol::launch::Runtime;
use sandbox::Role;

/// Whose a host will be, as far as that is known when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenant {
  /// Whoever takes it.
  Anyone,
  /// The apps of the engine.
  Apps,
  /// Those of one namespace, or of none.
  Namespace(Option<String>),
}

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

  /// Starts a process that talks over `socket`; its first reply is `Ready`. Where strangers share the server, it has no
  /// memory in common with those of another tenant.
  ///
  /// # Errors
  /// When it cannot be started, or its files cannot be put in place.
  async fn start(
    &self,
    spec: &LaunchSpec,
    tenant: &Tenant,
    socket: UnixStream,
  ) -> io::Result<Box<dyn HostProcess>>;

  /// Whether this tenant should start a host of its own rather than take one that was started for anyone.
  fn has_own(&self, _spec: &LaunchSpec, _tenant: &Tenant) -> bool {
    false
  }

  /// Hears that such a host ended before it was up. Whether the next one will be started in another way.
  fn distrust(&self, _spec: &LaunchSpec, _tenant: &Tenant) -> bool {
    false
  }

  /// Makes ready, in the background, that the tenant's next host starts quickly.
  fn prepare(&self, _spec: &LaunchSpec, _tenant: &Tenant) {}

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
