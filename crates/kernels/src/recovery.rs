//! What helps a kernel whose cell does not stop: a ladder of interrupt, restart and termination.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use access::Caller;
use access::Right;
use kernel_protocol::ErrorReport;
use kernel_protocol::KernelEvent;
use tokio::sync::mpsc;

use crate::KernelError;
use crate::events::EngineEventKind;
use crate::execution::Execution;
use crate::kernel::Kernel;
use crate::kernel::Stop;
use crate::manager::KernelManager;

/// Characters of a stalled cell that are announced.
const SHOWN_CODE: usize = 1000;

/// How an interrupt ended the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
  /// Nothing was running.
  Idle,
  /// The cell stopped; state is kept.
  Stopped,
  /// The cell could not be stopped: the kernel was restarted, state is lost.
  Restarted,
}

impl KernelManager {
  /// Asks the running cell of a kernel to stop, climbing from a request to a restart until it has.
  ///
  /// # Errors
  /// When there is no such kernel, it is dead, or not even a restart helped.
  pub async fn interrupt(&self, caller: &Caller, id: &str) -> Result<Interrupted, KernelError> {
    let kernel = self.get_to(caller, Right::Use, id)?;
    self
      .run_to_completion(move |manager| async move { interrupt(&manager, &kernel).await })
      .await
  }
}

async fn interrupt(
  manager: &KernelManager,
  kernel: &Arc<Kernel>,
) -> Result<Interrupted, KernelError> {
  let execution = match kernel.interrupt().await? {
    Stop::Idle => return Ok(Interrupted::Idle),
    Stop::Stopped => return Ok(Interrupted::Stopped),
    Stop::Stubborn(execution) => execution,
  };
  let report = execution.recovery_report(
    "KernelRestarted",
    "restarted: the cell could not be interrupted",
  );
  manager
    .replace_host(kernel, report, "the cell could not be interrupted")
    .await?;
  Ok(Interrupted::Restarted)
}

/// Recovers a kernel whose executions run longer than `limit`, one after the other. Ends with the
/// kernel.
pub(crate) async fn watch_for_stalls(
  manager: Weak<KernelManager>,
  kernel: Weak<Kernel>,
  mut started: mpsc::UnboundedReceiver<Arc<Execution>>,
  limit: Duration,
) {
  while let Some(execution) = started.recv().await {
    // Recovering from the one before may have taken some of it.
    let left = limit.saturating_sub(execution.runtime().unwrap_or_default());
    if tokio::time::timeout(left, execution.ended()).await.is_ok() {
      continue;
    }
    let (Some(manager), Some(kernel)) = (manager.upgrade(), kernel.upgrade()) else {
      return;
    };
    recover(&manager, &kernel, &execution, limit).await;
  }
}

/// Reports the execution as stalled and recovers the kernel, step by step.
async fn recover(
  manager: &KernelManager,
  kernel: &Arc<Kernel>,
  execution: &Execution,
  limit: Duration,
) {
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
  if let Err(error) = interrupt(manager, kernel).await {
    // The last step: without a kernel there is nothing left to recover.
    tracing::error!(kernel = %kernel.id, "a stalled kernel could not be restarted: {error}");
    let report = execution.recovery_report("KernelForcedTermination", "terminated");
    let reason = report.evalue.clone();
    if manager
      .remove(&kernel.id, &reason, Some(report))
      .await
      .is_err()
    {
      kernel.announce(EngineEventKind::KernelUnrecoverable {
        reason: error.to_string(),
      });
    }
  }
}
