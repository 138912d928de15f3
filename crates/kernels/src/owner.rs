//! Whose a kernel is, and what its owner hears of it.

use std::sync::Arc;

use kernel_protocol::KernelEvent;
use kernel_protocol::ProgramEvent;
use kernel_protocol::Reply;
use tokio::sync::broadcast;
use tokio::sync::mpsc;

use crate::connection::HostEnd;
use crate::events::EngineEvent;
use crate::execution::Execution;

/// Whose a kernel is.
pub enum Owner {
  /// A client's: the manager has it under its id, replaces its host when need be, and hears here
  /// what happens to it.
  Client(Listeners),
  /// A program's: whoever reads this hears of it, and starts another kernel when need be.
  Program(mpsc::Sender<ProgramNotice>),
}

/// Who hears of a client's kernel.
pub struct Listeners {
  pub events: broadcast::Sender<EngineEvent>,
  /// Hears of every execution that starts, where those may take only so long.
  pub started: Option<mpsc::UnboundedSender<Arc<Execution>>>,
}

/// What a kernel reports of its main program.
#[derive(Debug)]
pub enum ProgramNotice {
  /// Output, also that of cells.
  Event(KernelEvent),
  Program(ProgramEvent),
  /// The process is gone, and why. The last notice.
  Ended(HostEnd),
}

impl ProgramNotice {
  pub(crate) fn of(reply: &Reply) -> Option<Self> {
    match reply {
      Reply::Event { event, .. } => Some(Self::Event(event.clone())),
      Reply::Program(event) => Some(Self::Program(event.clone())),
      _ => None,
    }
  }
}
