//! What a method answers.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use futures::FutureExt;
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

  /// A stream whose items are joined while its consumer is slower than they come: what is ready when it asks
  /// comes as one item, in one message.
  ///
  /// `join` adds the second to the first and returns `None`, or returns the second if the two do not belong
  /// together. At most `most` items are joined into one.
  pub fn coalesced(
    items: impl Stream<Item = Result<Value, RemoteError>> + Send + 'static,
    most: usize,
    join: impl FnMut(&mut Value, Value) -> Option<Value> + Send + 'static,
  ) -> Self {
    // Its end may be seen while an item is still kept.
    let state = (items.fuse().boxed(), None, join);
    Self::stream(futures::stream::unfold(
      state,
      move |(mut items, kept, mut join)| async move {
        let mut first = match kept {
          Some(kept) => kept,
          None => items.next().await?,
        };
        let mut kept = None;
        for _ in 1..most {
          let Ok(into) = &mut first else { break };
          match items.next().now_or_never() {
            None | Some(None) => break,
            Some(Some(Ok(next))) => kept = join(into, next).map(Ok),
            Some(Some(error)) => kept = Some(error),
          }
          if kept.is_some() {
            break;
          }
        }
        Some((first, (items, kept, join)))
      },
    ))
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

#[cfg(test)]
mod tests {
  use super::*;

  async fn all(reply: Reply) -> Vec<Value> {
    let Reply::Stream(items) = reply else {
      panic!("a stream")
    };
    let items = items.map(|item| item.unwrap_or_else(Value::from));
    items.collect().await
  }

  #[tokio::test]
  async fn items_that_are_ready_are_joined() {
    let texts = ["a", "b", "c"].map(|it| Ok(Value::from(it)));
    let rest = [Ok(Value::Int(1)), Err(RemoteError::new("end"))];
    let items = futures::stream::iter(texts.into_iter().chain(rest));
    let joined = Reply::coalesced(items, 10, |first, second| match (first, second) {
      (Value::Text(first), Value::Text(second)) => {
        first.push_str(&second);
        None
      }
      (_, second) => Some(second),
    });
    let expected = ["abc".into(), Value::Int(1), RemoteError::new("end").into()];
    assert_eq!(all(joined).await, expected);
  }

  /// An `unfold` panics when it is asked again.
  #[tokio::test]
  async fn a_stream_is_not_asked_again_after_its_end() {
    let items = futures::stream::unfold(
      0,
      |n| async move { (n < 3).then_some((Ok(n.into()), n + 1)) },
    );
    let joined = Reply::coalesced(items, 10, |_, _| None);
    assert_eq!(all(joined).await, [Value::Int(0)]);
  }

  #[tokio::test]
  async fn a_closed_stream_ends_for_a_consumer_that_waits() {
    let stream = ServedStream::new("id".into(), futures::stream::pending().boxed());
    let (pulled, ()) = futures::join!(stream.pull(), async { stream.close() });
    assert!(pulled.ended);
    assert_eq!(pulled.outcome, Ok(Value::StopIteration));
  }
}
