//! The executions that a kernel remembers, for late readers and its history.

use std::collections::VecDeque;
use std::sync::Arc;

use kernel_protocol::ExecutionId;

use crate::execution::Execution;

/// Cells that are remembered.
const MAX_CELLS: usize = 500;
/// Comm messages whose output is kept. A slider that is dragged sends hundreds: cells are not forgotten for them.
const MAX_COMMS: usize = 100;

/// In the order they were submitted, in which they also run.
#[derive(Default)]
pub(crate) struct History {
  cells: VecDeque<Arc<Execution>>,
  comms: VecDeque<Arc<Execution>>,
}

impl History {
  pub(crate) fn push(&mut self, execution: Arc<Execution>) {
    match execution.is_cell() {
      true => self.cells.push_back(execution),
      false => self.comms.push_back(execution),
    }
  }

  pub(crate) fn find(&self, id: ExecutionId) -> Option<Arc<Execution>> {
    let all = self.cells.iter().rev().chain(self.comms.iter().rev());
    all.into_iter().find(|it| it.id == id).cloned()
  }

  /// Cells that have ended.
  pub(crate) fn finished_cells(&self) -> Vec<Arc<Execution>> {
    let finished = self.cells.iter().filter(|it| it.outcome().is_some());
    finished.cloned().collect()
  }

  /// Forgets the oldest of those that are too many. What runs or waits is never forgotten.
  pub(crate) fn forget_old(&mut self) {
    for (remembered, most) in [(&mut self.cells, MAX_CELLS), (&mut self.comms, MAX_COMMS)] {
      while remembered.len() > most && remembered.front().is_some_and(|it| it.outcome().is_some()) {
        remembered.pop_front();
      }
    }
  }

  /// Forgets all that have ended.
  pub(crate) fn forget_finished(&mut self) {
    for remembered in [&mut self.cells, &mut self.comms] {
      remembered.retain(|it| it.outcome().is_none());
    }
  }
}
