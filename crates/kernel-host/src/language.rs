//! Languages: what turns a cell into events. One trait, so that a host need not know which it runs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use kernel_protocol::ExecutionId;
use kernel_protocol::HostConfig;
use kernel_protocol::MainProgram;
use kernel_protocol::Outcome;
use kernel_protocol::Question;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;
use serde_json::Value;

/// One piece of source a client wants run.
pub struct Cell {
  pub execution_id: ExecutionId,
  pub code: String,
}

/// A language runtime on its own thread.
#[async_trait(?Send)]
pub trait Language {
  /// Whether its files are in the scratch folder and the mounts, as the system sees them. Requests for
  /// files are then answered without the language.
  const FILES_ON_DISK: bool = true;

  /// Stops what runs, from another thread.
  fn interrupter(&self) -> Arc<dyn Interrupt>;

  /// Changes the environment of what runs, from another thread.
  fn environment(&self) -> Arc<dyn Environment>;

  /// Applies what the kernel was created with. `roots` are the mounts' directories, in their order.
  ///
  /// # Errors
  /// A sentence for the client that asked for the kernel.
  async fn configure(&mut self, config: &HostConfig, roots: Vec<OwnedFd>) -> Result<(), String>;

  /// Runs a cell to its end. Output and errors leave as events.
  async fn execute(&mut self, cell: Cell) -> Outcome;

  /// Hands a comm message to the code that listens for it, as a cell that runs. One for which nobody
  /// listens is dropped, and the comm that it opens is closed.
  async fn comm(&mut self, execution_id: ExecutionId, message: CommMessage) -> Outcome;

  /// Starts a main program, which goes on beside cells, and returns. What becomes of it leaves as
  /// [`ProgramEvent`](kernel_protocol::ProgramEvent)s.
  async fn run_program(&mut self, program: MainProgram);

  /// Answers a question about code, in the shape of the Jupyter reply of the same name.
  async fn answer(&mut self, question: Question) -> Value;

  /// Does a step with files that the language keeps in memory. Watches ask it what is there, again and
  /// again.
  async fn file(&mut self, _request: FileRequest) -> FileReply {
    FileReply::Failed(FileError::Denied)
  }

  /// Drives the main program, and timers, promises and servers that cells left behind. Ends only
  /// when dropped.
  async fn idle(&mut self);

  /// Gives memory back after a while without work.
  fn relax(&mut self);

  /// Makes the language, which has booted and knows nothing of a kernel, fit to be forked: what kernels will touch is
  /// touched, and no other thread does anything.
  ///
  /// # Errors
  /// When kernels cannot be forked from it.
  async fn prepare_to_fork(&mut self) -> io::Result<()> {
    Err(io::Error::other("kernels of this language are not forked"))
  }

  /// Makes anew, in a kernel that was forked, what it must not share with others.
  ///
  /// # Errors
  /// When the system fails it.
  fn forked(&mut self) -> io::Result<()> {
    Ok(())
  }

  /// Starts the threads that a kernel which was forked lacks. Nothing of a cell has run yet.
  ///
  /// # Errors
  /// When the system has no more of them.
  fn start_threads(&mut self) -> io::Result<()> {
    Ok(())
  }
}

pub trait Environment: Send + Sync {
  /// Sets these variables and leaves others, as soon as that can be done. Does not wait for it.
  fn set(&self, variables: BTreeMap<String, String>);
}

pub trait Interrupt: Send + Sync {
  /// Stops the named execution if it is the running one, or whatever runs when `None`. Calls
  /// `cancel_prompt` once that is under way: what runs must not take it for an answer and go on.
  fn interrupt(&self, execution_id: Option<ExecutionId>, cancel_prompt: &dyn Fn());
}
