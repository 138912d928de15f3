//! What happens to agents and models, for those who watch.

use access::Caller;
use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::id::AgentId;
use crate::id::RunId;
use crate::run::RunStatus;
use crate::run::as_timestamp;

/// Events that a watcher may be behind before it misses some.
pub(crate) const BACKLOG: usize = 1024;

/// One event; `type` has the original's name where that had one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentEvent {
  #[serde(serialize_with = "as_timestamp")]
  pub timestamp: DateTime<Utc>,
  /// `None` of events about models.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub agent_id: Option<AgentId>,
  #[serde(flatten)]
  pub kind: AgentEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum AgentEventKind {
  AgentCreated,
  AgentDestroyed,
  AgentUpdated,
  #[serde(rename_all = "camelCase")]
  KernelAttached {
    kernel_id: String,
    kernel_type: String,
  },
  KernelDetached,
  #[serde(rename_all = "camelCase")]
  RunStarted {
    run_id: RunId,
  },
  #[serde(rename_all = "camelCase")]
  RunEnded {
    run_id: RunId,
    status: RunStatus,
    steps: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
  },
  #[serde(rename_all = "camelCase")]
  ModelAdded {
    model_id: String,
  },
  #[serde(rename_all = "camelCase")]
  ModelUpdated {
    model_id: String,
  },
  #[serde(rename_all = "camelCase")]
  ModelRemoved {
    model_id: String,
  },
}

/// Tells watchers.
pub(crate) struct Announcer(broadcast::Sender<AgentEvent>);

impl Announcer {
  pub(crate) fn new() -> Self {
    Self(broadcast::channel(BACKLOG).0)
  }

  pub(crate) fn tell(&self, agent: Option<&AgentId>, kind: AgentEventKind) {
    // Nobody may be watching.
    let _ = self.0.send(AgentEvent {
      timestamp: Utc::now(),
      agent_id: agent.cloned(),
      kind,
    });
  }

  pub(crate) fn watch(&self, caller: &Caller) -> AgentWatch {
    AgentWatch {
      events: self.0.subscribe(),
      caller: caller.clone(),
    }
  }
}

/// The events of the agents that a caller sees, and of models.
pub struct AgentWatch {
  events: broadcast::Receiver<AgentEvent>,
  caller: Caller,
}

impl AgentWatch {
  /// The next event, or `None` once there are no agents any more. A watcher that falls behind misses events.
  pub async fn next(&mut self) -> Option<AgentEvent> {
    loop {
      match self.events.recv().await {
        Ok(event) => {
          let agent = event.agent_id.as_ref();
          if agent.is_none_or(|id| self.caller.sees(id.namespace())) {
            return Some(event);
          }
        }
        Err(RecvError::Lagged(_)) => {}
        Err(RecvError::Closed) => return None,
      }
    }
  }
}
