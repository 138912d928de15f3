//! Where the output of code goes, and whose process it runs in. Apart from both sides, so that a
//! language needs nothing of the host and the host nothing of a language.

use std::sync::Arc;

use kernel_protocol::KernelEvent;
use kernel_protocol::ProgramEvent;

/// Where the output of code goes, and where its questions are answered. Called on whichever thread
/// runs code.
pub trait EventSink: Send + Sync {
  fn emit(&self, event: KernelEvent);

  /// The same where more may follow at once, which then leaves with it: it waits for that a millisecond at most.
  fn emit_soon(&self, event: KernelEvent);

  /// The same of the last event of a cell: it leaves with the cell's end, which must follow at once.
  fn emit_last(&self, event: KernelEvent);

  /// Sends what waits for more: the process is about to end.
  fn flush(&self);

  /// Asks the client for a line of text; blocks until it is answered, or `None` when the prompt is
  /// cancelled or the execution interrupted.
  fn ask(&self, prompt: String, password: bool) -> Option<String>;

  /// Tells what becomes of the main program.
  fn program(&self, event: ProgramEvent);

  /// The runtime cannot go on; the last chance to say why.
  fn fatal(&self, reason: &str);
}

pub type SharedSink = Arc<dyn EventSink>;

/// What `Deno.exit` and its kin may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessOwner {
  /// The process is the kernel's own: ending it ends the kernel.
  Kernel,
  /// The process is the server's: nothing may touch it.
  Server,
}
