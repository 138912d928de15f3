//! What happens to kernels, for whoever wants to watch.

use access::Caller;
use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;

use crate::KernelId;

/// A change in the life of a kernel; the names are the original's.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(
  rename_all = "snake_case",
  tag = "type",
  content = "data",
  rename_all_fields = "camelCase"
)]
pub enum EngineEventKind {
  KernelReady,
  KernelBusy,
  KernelIdle,
  /// An execution ran longer than the kernel's `maxExecutionTime`.
  ExecutionStalled {
    execution_id: String,
    max_execution_time: u64,
    actual_runtime: u64,
    code: String,
  },
  ExecutionInterrupted {
    execution_id: String,
  },
  KernelRestarted {
    reason: String,
  },
  /// The kernel was removed.
  KernelTerminated {
    reason: String,
  },
  /// The kernel's host ended by itself; it is dead until restarted.
  KernelDied {
    reason: String,
  },
  /// Neither interrupt, restart nor termination helped.
  KernelUnrecoverable {
    reason: String,
  },
}

#[derive(Debug, Clone)]
pub struct EngineEvent {
  pub kernel: KernelId,
  pub time: DateTime<Utc>,
  pub kind: EngineEventKind,
}

/// What happens to the kernels that a caller sees, from now on.
pub struct EventWatch {
  events: broadcast::Receiver<EngineEvent>,
  caller: Caller,
}

impl EventWatch {
  pub(crate) fn new(events: broadcast::Receiver<EngineEvent>, caller: &Caller) -> Self {
    Self {
      events,
      caller: caller.clone(),
    }
  }

  /// The next event, or `None` once the engine has shut down. A watcher that falls behind misses events.
  pub async fn next(&mut self) -> Option<EngineEvent> {
    loop {
      match self.events.recv().await {
        Ok(event) if self.caller.sees(event.kernel.namespace()) => return Some(event),
        Ok(_) | Err(RecvError::Lagged(_)) => {}
        Err(RecvError::Closed) => return None,
      }
    }
  }
}
