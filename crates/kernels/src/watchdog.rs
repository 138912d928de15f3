//! What watches kernels: time without use, memory of the process, signs of life.

use std::sync::Weak;
use std::time::Duration;

use crate::kernel::Kernel;
use crate::manager::KernelManager;

const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often hosts are asked for a sign of life, and how long they may owe one.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the kernel once it was idle for its inactivity timeout. Ends with the kernel, and when it has no timeout.
pub(crate) async fn watch_for_inactivity(manager: Weak<KernelManager>, kernel: Weak<Kernel>) {
  loop {
    let (left, changed) = {
      let Some(kernel) = kernel.upgrade() else {
        return;
      };
      let Some(timeout) = kernel.inactivity_timeout() else {
        return;
      };
      let left = timeout.saturating_sub(kernel.idle_time());
      (left, kernel.timeout_changed.clone())
    };
    if left.is_zero() {
      let (Some(manager), Some(kernel)) = (manager.upgrade(), kernel.upgrade()) else {
        return;
      };
      if manager.is_current(&kernel) {
        tracing::info!(kernel = %kernel.id, "removed after its inactivity timeout");
        let _ = manager.remove(&kernel.id, "inactivity timeout", None).await;
      }
      return;
    }
    tokio::select! {
      () = tokio::time::sleep(left) => {}
      () = changed.notified() => {}
    }
  }
}

/// Kills kernel processes that use more memory than they may. V8's own limits do not cover
/// WebAssembly memories and array buffers.
pub(crate) async fn watch_memory(manager: Weak<KernelManager>) {
  let mut interval = tokio::time::interval(MEMORY_CHECK_INTERVAL);
  loop {
    interval.tick().await;
    let Some(manager) = manager.upgrade() else {
      return;
    };
    for kernel in manager.processes() {
      let limit = kernel.approved.memory_bytes;
      let used = kernel.pid().and_then(resident_bytes);
      if used.is_some_and(|used| used > limit) {
        kernel.kill_host(&format!(
          "ran out of memory: it used more than its {} MiB",
          limit >> 20
        ));
      }
    }
  }
}

/// Kills kernel processes that have stopped reading what they are sent: the server would hold it for
/// as long as they live.
pub(crate) async fn watch_health(manager: Weak<KernelManager>) {
  let mut interval = tokio::time::interval(PING_INTERVAL);
  loop {
    interval.tick().await;
    let Some(manager) = manager.upgrade() else {
      return;
    };
    for kernel in manager.processes() {
      kernel.check_health(PING_TIMEOUT);
    }
  }
}

/// Resident memory of a process, in bytes.
#[expect(clippy::disallowed_methods, reason = "files of /proc wait for no disk")]
pub fn resident_bytes(pid: u32) -> Option<u64> {
  let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
  let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
  Some(pages * rustix::param::page_size() as u64)
}
