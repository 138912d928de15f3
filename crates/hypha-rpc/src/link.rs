//! One connection: what is sent on it, and how fast.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::Sink;
use futures::SinkExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::error::CallError;
use crate::options::Limits;
use crate::rate::Bucket;

/// Messages that go before others and may wait: signs of life, and answers to pings.
const URGENT: usize = 1024;
/// Tokens that those may take beyond the burst of the others.
const RESERVE: f64 = 150.0;
/// Most time that one message takes: a server that reads nothing is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sending side of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
  urgent: mpsc::Sender<Message>,
  bulk: mpsc::Sender<Message>,
  /// Cancelled when the connection is lost.
  down: CancellationToken,
  /// Whether messages wait because no more may be sent now.
  pressed: Arc<AtomicBool>,
}

/// The receiving ends of the queues.
pub(crate) struct Queues {
  urgent: mpsc::Receiver<Message>,
  bulk: mpsc::Receiver<Message>,
  pressed: Arc<AtomicBool>,
}

impl Link {
  pub(crate) fn new(limits: &Limits) -> (Self, Queues) {
    let (urgent, urgent_end) = mpsc::channel(URGENT);
    let (bulk, bulk_end) = mpsc::channel(limits.queue.max(1));
    let link = Self {
      urgent,
      bulk,
      down: CancellationToken::new(),
      pressed: Arc::default(),
    };
    let queues = Queues {
      urgent: urgent_end,
      bulk: bulk_end,
      pressed: Arc::clone(&link.pressed),
    };
    (link, queues)
  }

  pub(crate) fn down(&self) -> &CancellationToken {
    &self.down
  }

  /// Whether messages wait because no more may be sent now.
  pub(crate) fn is_pressed(&self) -> bool {
    self.pressed.load(Ordering::Relaxed)
  }

  pub(crate) fn is_up(&self) -> bool {
    !self.down.is_cancelled()
  }

  /// Queues a frame, and waits while the queue is full.
  pub(crate) async fn send(&self, frame: Bytes) -> Result<(), CallError> {
    tokio::select! {
      biased;
      () = self.down.cancelled() => Err(CallError::Disconnected),
      sent = self.bulk.send(Message::Binary(frame)) => sent.map_err(|_| CallError::Disconnected),
    }
  }

  /// Queues a frame before all others. It is dropped when too many of those wait already.
  pub(crate) fn send_urgently(&self, frame: Bytes) {
    self.urge(Message::Binary(frame));
  }

  pub(crate) fn urge(&self, message: Message) {
    if self.is_up() && self.urgent.try_send(message).is_err() {
      tracing::debug!("too many urgent messages wait, one is dropped");
    }
  }
}

/// Sends what is queued until the connection is lost, and says so by `down`.
pub(crate) async fn write<S>(
  mut sink: S,
  mut queues: Queues,
  down: CancellationToken,
  bucket: Bucket,
) where
  S: Sink<Message> + Unpin,
{
  let _lost = down.clone().drop_guard();
  let mut bucket = bucket;
  let mut held: Option<Message> = None;
  loop {
    let message = match held.take() {
      Some(message) => message,
      None => {
        // A binary message must have a token; a text is not counted by the server.
        let wait = bucket.wait(0.0);
        let pressed = !wait.is_zero() && !queues.bulk.is_empty();
        queues.pressed.store(pressed, Ordering::Relaxed);
        tokio::select! {
          biased;
          () = down.cancelled() => break,
          Some(message) = queues.urgent.recv() => message,
          Some(message) = queues.bulk.recv(), if wait.is_zero() => message,
          () = tokio::time::sleep(wait), if !wait.is_zero() => continue,
          else => break,
        }
      }
    };
    if message.is_binary() {
      let wait = bucket.wait(-RESERVE);
      if !wait.is_zero() {
        held = Some(message);
        tokio::select! {
          () = down.cancelled() => break,
          () = tokio::time::sleep(wait) => continue,
        }
      }
      bucket.take();
    }
    let closing = message.is_close();
    let sent = tokio::select! {
      sent = timeout(PATIENCE, sink.send(message)) => sent.is_ok_and(|it| it.is_ok()),
      () = down.cancelled() => false,
    };
    if !sent || closing {
      break;
    }
  }
  // The server learns at once that nobody is there any more.
  let _ = timeout(Duration::from_secs(1), sink.close()).await;
}
