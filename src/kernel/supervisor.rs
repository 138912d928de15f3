//! What watches kernels: time without use, time of one execution, memory of the process.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use super::EngineEventKind;
use super::Kernel;
use super::KernelManager;
use super::execution::Execution;
use super::handle::recovery_report;
use crate::protocol::ErrorReport;
use crate::protocol::KernelEvent;

/// Characters of a stalled cell that are announced.
const SHOWN_CODE: usize = 1000;
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often hosts are asked for a sign of life, and how long they may owe one.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the kernel once it was idle for its `inactivity_timeout`. Ends with the kernel.
pub async fn watch_for_inactivity(manager: Arc<KernelManager>, kernel: Weak<Kernel>) {
  loop {
    let left = {
      let Some(kernel) = kernel.upgrade() else {
        return;
      };
      let Some(timeout) = kernel.inactivity_timeout else {
        return;
      };
      timeout.saturating_sub(kernel.idle_time())
    };
    if left.is_zero() {
      let Some(kernel) = kernel.upgrade() else {
        return;
      };
      if manager.is_current(&kernel) {
        tracing::info!(kernel = %kernel.id, "removed after its inactivity timeout");
        let _ = manager.remove(&kernel.id, "inactivity timeout", None).await;
      }
      return;
    }
    tokio::time::sleep(left).await;
  }
}

/// After `limit`, reports the execution as stalled and recovers the kernel, step by step.
pub async fn watch_for_stall(kernel: Arc<Kernel>, execution: Arc<Execution>, limit: Duration) {
  if tokio::time::timeout(limit, execution.ended()).await.is_ok() {
    return;
  }
  let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
  let runtime_ms =
    u64::try_from(execution.runtime().unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
  execution.mark_stalled();
  kernel.announce(EngineEventKind::ExecutionStalled {
    execution_id: execution.id.to_string(),
    max_execution_time: limit_ms,
    actual_runtime: runtime_ms,
    code: execution.code().chars().take(SHOWN_CODE).collect(),
  });
  execution.append(KernelEvent::ExecuteError(ErrorReport::new(
    "ExecutionStalledError",
    format!("Execution stalled or potentially deadlocked (running > {limit_ms}ms)"),
  )));
  if let Err(error) = kernel.interrupt().await {
    // The last step: without a kernel there is nothing left to recover.
    tracing::error!(kernel = %kernel.id, "a stalled kernel could not be restarted: {error}");
    let report = recovery_report("KernelForcedTermination", "terminated", &execution);
    if kernel.terminate(report).await.is_err() {
      kernel.announce(EngineEventKind::KernelUnrecoverable {
        reason: error.to_string(),
      });
    }
  }
}

/// Kills kernel processes that use more memory than they may. V8's own limits do not cover
/// WebAssembly memories and array buffers.
pub async fn watch_memory(manager: Weak<KernelManager>) {
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
pub async fn watch_health(manager: Weak<KernelManager>) {
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
pub fn resident_bytes(pid: u32) -> Option<u64> {
  let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
  let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
  Some(pages * rustix::param::page_size() as u64)
}
