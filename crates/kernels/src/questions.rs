//! Questions that wait for an answer of a kernel.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use kernel_protocol::files::FileReply;
use kernel_protocol::json::JsonText;
use tokio::sync::oneshot;

/// Most questions that wait at one time.
const MAX_OPEN: usize = 32;

/// What a kernel answers.
pub(crate) enum Answer {
  /// About code.
  Code(JsonText),
  File(FileReply),
}

/// The open questions of one kernel.
#[derive(Default)]
pub(crate) struct Questions {
  open: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
  last: AtomicU64,
}

/// A question that waits for its answer. Dropped, it waits no more.
pub(crate) struct OpenQuestion<'a> {
  pub id: u64,
  questions: &'a Questions,
  answer: oneshot::Receiver<Answer>,
}

impl Questions {
  /// Opens a question; `None` when too many wait already.
  pub(crate) fn open(&self) -> Option<OpenQuestion<'_>> {
    let id = self.last.fetch_add(1, Ordering::Relaxed);
    let (sender, answer) = oneshot::channel();
    let mut open = self.lock();
    if open.len() >= MAX_OPEN {
      return None;
    }
    open.insert(id, sender);
    drop(open);
    Some(OpenQuestion {
      id,
      questions: self,
      answer,
    })
  }

  /// Answers a question, if it still waits.
  pub(crate) fn answer(&self, id: u64, answer: Answer) {
    if let Some(waiting) = self.lock().remove(&id) {
      let _ = waiting.send(answer);
    }
  }

  /// Gives up all questions: nobody will answer them.
  pub(crate) fn clear(&self) {
    self.lock().clear();
  }

  fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
    self.open.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl OpenQuestion<'_> {
  /// The answer, or `None` when there will be none.
  pub(crate) async fn answered(&mut self) -> Option<Answer> {
    (&mut self.answer).await.ok()
  }
}

impl Drop for OpenQuestion<'_> {
  fn drop(&mut self) {
    self.questions.lock().remove(&self.id);
  }
}
