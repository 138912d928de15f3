//! What happens to kernels, for whoever wants to watch.

use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
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
