//! What a method answers.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use futures::Stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::error::RemoteError;
use crate::value::Map;
use crate::value::Value;

pub(crate) type ItemStream = BoxStream<'static, Result<Value, RemoteError>>;

/// The answer of a method: a value, or a stream that the caller pulls.
pub enum Reply {
  Value(Value),
  /// The caller asks for one item after the other, so that the stream runs no further than its consumer.
  /// An error ends it. It is dropped when the consumer closes it, leaves, or has not asked for a while.
  Stream(ItemStream),
}

impl Reply {
  pub fn stream(items: impl Stream<Item = Result<Value, RemoteError>> + Send + 'static) -> Self {
    Self::Stream(items.boxed())
  }
}

impl fmt::Debug for Reply {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match self {
      Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
      Self::Stream(_) => f.write_str("Stream"),
    }
  }
}

macro_rules! from {
  ($($source:ty),*) => {$(
    impl From<$source> for Reply {
      fn from(value: $source) -> Self {
        Self::Value(value.into())
      }
    }
  )*};
}

from!(
  Value,
  (),
  bool,
  i64,
  u64,
  f64,
  &str,
  String,
  Vec<u8>,
  Vec<Value>,
  Map,
  serde_json::Value
);

/// A stream that a peer pulls.
pub(crate) struct ServedStream {
  id: String,
  /// `None` once it has ended.
  items: Mutex<Option<ItemStream>>,
  closed: CancellationToken,
  pulls: AtomicUsize,
}

/// What one pull comes to.
pub(crate) struct Pulled {
  pub(crate) outcome: Result<Value, RemoteError>,
  pub(crate) ended: bool,
}

impl ServedStream {
  pub(crate) fn new(id: String, items: ItemStream) -> Self {
    Self {
      id,
      items: Mutex::new(Some(items)),
      closed: CancellationToken::new(),
      pulls: AtomicUsize::new(0),
    }
  }

  pub(crate) fn id(&self) -> &str {
    &self.id
  }

  /// Whether its consumer waits for an item.
  pub(crate) fn is_pulled(&self) -> bool {
    self.pulls.load(Ordering::Relaxed) > 0
  }

  /// Waits for the next item. Pulls at the same time get different ones.
  pub(crate) async fn pull(&self) -> Pulled {
    let _waiting = Waiting::new(&self.pulls);
    let mut items = self.items.lock().await;
    let next = match items.as_mut() {
      None => None,
      Some(items) => tokio::select! {
        biased;
        () = self.closed.cancelled() => None,
        next = items.next() => next,
      },
    };
    let ended = !matches!(next, Some(Ok(_)));
    if ended {
      *items = None;
    }
    Pulled {
      outcome: next.unwrap_or(Ok(Value::StopIteration)),
      ended,
    }
  }

  /// Drops the stream; a consumer that waits gets its end.
  pub(crate) fn close(&self) {
    self.closed.cancel();
    // A pull that holds the lock sees that it is closed, and drops the stream itself.
    if let Ok(mut items) = self.items.try_lock() {
      *items = None;
    }
  }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
  fn new(count: &'a AtomicUsize) -> Self {
    count.fetch_add(1, Ordering::Relaxed);
    Self(count)
  }
}

impl Drop for Waiting<'_> {
  fn drop(&mut self) {
    self.0.fetch_sub(1, Ordering::Relaxed);
  }
}
