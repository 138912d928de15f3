//! Starting the kernels: the manager, and those who watch over it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use kernel_protocol::launch::ModuleCache;
use kernel_protocol::launch::PythonFiles;
use tokio::sync::mpsc;

use crate::launch::Hosts;
use crate::manager::KernelManager;
use crate::manager::Timed;
use crate::options::KernelOptions;
use crate::recovery;
use crate::watchdog;

/// How long a server may take to come up.
const START: Duration = Duration::from_millis(50);

/// Starts the manager of kernels, which soon fills its pool, in the background. Kernels' own folders
/// are made in `scratch`, which goes with the manager; `python` says why there are no Python kernels, if
/// there are none. Call it on a tokio runtime.
pub fn start(
  options: KernelOptions,
  hosts: Arc<dyn Hosts>,
  scratch: PathBuf,
  modules: ModuleCache,
  python: Result<PythonFiles, String>,
) -> Arc<KernelManager> {
  let (manager, timed) = KernelManager::new(options, hosts, scratch, modules, python);
  let weak = Arc::downgrade(&manager);
  tokio::spawn(fill_pools(weak.clone()));
  tokio::spawn(watchdog::watch_memory(weak.clone()));
  tokio::spawn(watchdog::watch_health(weak.clone()));
  tokio::spawn(watch_times(weak, timed));
  manager
}

/// Boots blank kernels once the server has had time to come up: each boot takes a core from that.
async fn fill_pools(manager: Weak<KernelManager>) {
  tokio::time::sleep(START).await;
  if let Some(manager) = manager.upgrade() {
    manager.pools.fill();
  }
}

/// Watches the time of each kernel whose time is limited.
async fn watch_times(manager: Weak<KernelManager>, mut timed: mpsc::UnboundedReceiver<Timed>) {
  while let Some(kernel) = timed.recv().await {
    let manager = manager.clone();
    match kernel {
      Timed::Idleness(kernel) => {
        tokio::spawn(watchdog::watch_for_inactivity(manager, kernel));
      }
      Timed::Executions {
        kernel,
        started,
        limit,
      } => {
        tokio::spawn(recovery::watch_for_stalls(manager, kernel, started, limit));
      }
    }
  }
}
