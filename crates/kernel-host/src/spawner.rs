//! Starts the processes of kernels from one thread that never ends: a kernel's death signal is
//! bound to the thread that started it, and the runtime's threads come and go.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::oneshot;

type SpawnJob = (
  Command,
  tokio::runtime::Handle,
  oneshot::Sender<io::Result<Child>>,
);

/// # Errors
/// When the process, or the thread that starts it, cannot be started.
pub async fn spawn(command: Command) -> io::Result<Child> {
  static SPAWNER: OnceLock<Option<mpsc::Sender<SpawnJob>>> = OnceLock::new();
  let spawner = SPAWNER.get_or_init(|| {
    let (tx, rx) = mpsc::channel::<SpawnJob>();
    let thread = std::thread::Builder::new().name("kernel-spawner".into());
    let run = move || {
      for (mut command, runtime, done) in rx {
        let _entered = runtime.enter();
        let _ = done.send(command.spawn());
      }
    };
    thread.spawn(run).ok().map(|_| tx)
  });
  let gone = || io::Error::other("the thread that starts kernels is gone");
  let (done, spawned) = oneshot::channel();
  let job = (command, tokio::runtime::Handle::current(), done);
  spawner
    .as_ref()
    .ok_or_else(gone)?
    .send(job)
    .map_err(|_| gone())?;
  spawned.await.map_err(|_| gone())?
}
