//! Messages in pieces, both ways.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::TryStreamExt;
use tokio::time::Instant;

use crate::arguments::Arguments;
use crate::core::Core;
use crate::error::CallError;
use crate::error::RemoteError;
use crate::link::Link;
use crate::options::Limits;
use crate::sessions::new_id;
use crate::value::Value;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that are on their way at the same time.
const AT_A_TIME: usize = 16;
/// Time after which an incomplete message is dropped.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most pieces of one message: they need not be full.
const PIECES: usize = 1 << 16;
/// Incomplete messages of all peers together, and bytes of those in messages of the greatest size.
const MESSAGES: usize = 1024;
const GREATEST: usize = 4;

/// Sends a frame in pieces. `session` is the caller's session that the frame answers, so that each piece is
/// a sign of life for it.
pub(crate) async fn send(
  core: &Core,
  link: &Link,
  peer: &str,
  frame: Bytes,
  session: Option<&str>,
) -> Result<(), CallError> {
  // Only a session at the top has a place in the peer's table under its own name.
  let session = session.filter(|session| !session.contains('.'));
  let alive = Value::Bool(session.is_some());
  let key = session.map_or_else(new_id, str::to_owned);
  let call = |method: &str, arguments: Arguments| {
    let method = format!("services.built-in.message_cache.{method}");
    async move { core.short_request(link, peer, &method, arguments).await }
  };
  let arguments = || Arguments::none().with(key.as_str());
  call("create", arguments().with(alive.clone())).await?;
  let pieces = (0..frame.len()).step_by(PIECE).enumerate();
  let sent = futures::stream::iter(pieces)
    .map(|(index, start)| {
      let piece = frame.slice(start..frame.len().min(start + PIECE));
      let arguments = arguments().with(index).with(piece).with(alive.clone());
      call("set", arguments)
    })
    .buffer_unordered(AT_A_TIME)
    .try_for_each(|_| async { Ok(()) })
    .await;
  let sent = match sent {
    Ok(()) => call("process", arguments().with(alive.clone()))
      .await
      .map(|_| ()),
    Err(error) => Err(error),
  };
  if sent.is_err() {
    // Best effort: the peer drops it by itself otherwise.
    let _ = call("remove", arguments()).await;
  }
  sent
}

/// Pieces of messages that are not complete yet.
pub(crate) struct Parts {
  limit: usize,
  table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
  /// By peer and key: a peer reaches its own messages only.
  messages: HashMap<(String, String), Message>,
  bytes: usize,
}

struct Message {
  pieces: BTreeMap<usize, Bytes>,
  bytes: usize,
  used: Instant,
}

impl Parts {
  pub(crate) fn new(limits: &Limits) -> Self {
    Self {
      limit: limits.message_bytes,
      table: Mutex::default(),
    }
  }

  /// Begins a message, or begins it anew.
  pub(crate) fn create(&self, peer: &str, key: &str) -> Result<(), RemoteError> {
    let mut table = self.lock();
    let name = (peer.to_owned(), key.to_owned());
    table.remove(&name);
    if table.messages.len() >= MESSAGES {
      return Err("too many messages in pieces at the same time".into());
    }
    let message = Message {
      pieces: BTreeMap::new(),
      bytes: 0,
      used: Instant::now(),
    };
    table.messages.insert(name, message);
    Ok(())
  }

  /// Adds a piece: at `index`, or after the last.
  pub(crate) fn set(
    &self,
    peer: &str,
    key: &str,
    index: Option<usize>,
    piece: Bytes,
  ) -> Result<(), RemoteError> {
    let mut table = self.lock();
    let table = &mut *table;
    let name = (peer.to_owned(), key.to_owned());
    let Some(message) = table.messages.get_mut(&name) else {
      return Err(RemoteError::new(format!("there is no message `{key}`")));
    };
    let index = index.unwrap_or(message.pieces.len());
    let replaced = message.pieces.get(&index).map_or(0, Bytes::len);
    let grown = piece.len().saturating_sub(replaced);
    let too_large = index >= PIECES || message.bytes + grown > self.limit;
    if too_large || table.bytes + grown > self.limit.saturating_mul(GREATEST) {
      table.remove(&name);
      return Err(RemoteError::new(format!(
        "the message is refused: one has at most {} bytes in {PIECES} pieces",
        self.limit
      )));
    }
    message.used = Instant::now();
    message.bytes = message.bytes + piece.len() - replaced;
    table.bytes = table.bytes + piece.len() - replaced;
    message.pieces.insert(index, piece);
    Ok(())
  }

  /// Takes a complete message.
  pub(crate) fn take(&self, peer: &str, key: &str) -> Result<Bytes, RemoteError> {
    let name = (peer.to_owned(), key.to_owned());
    let Some(message) = self.lock().remove(&name) else {
      return Err(RemoteError::new(format!("there is no message `{key}`")));
    };
    let complete = message.pieces.keys().copied().eq(0..message.pieces.len());
    if !complete {
      return Err("a piece of the message is missing".into());
    }
    let mut whole = Vec::with_capacity(message.bytes);
    for piece in message.pieces.into_values() {
      whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
  }

  pub(crate) fn remove(&self, peer: &str, key: &str) {
    self.lock().remove(&(peer.to_owned(), key.to_owned()));
  }

  /// Drops the messages of a peer that has left.
  pub(crate) fn forget_peer(&self, peer: &str) {
    self.lock().remove_where(|(owner, _), _| owner == peer);
  }

  /// Drops messages that nobody goes on with.
  pub(crate) fn drop_idle(&self) {
    self
      .lock()
      .remove_where(|_, message| message.used.elapsed() >= PATIENCE);
  }

  fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
    self.table.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Table {
  fn remove(&mut self, name: &(String, String)) -> Option<Message> {
    let message = self.messages.remove(name)?;
    self.bytes -= message.bytes;
    Some(message)
  }

  fn remove_where(&mut self, which: impl Fn(&(String, String), &Message) -> bool) {
    let names = self.messages.iter().filter(|(name, it)| which(name, it));
    let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
    for name in names {
      self.remove(&name);
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn parts(message_bytes: usize) -> Parts {
    Parts::new(&Limits {
      message_bytes,
      ..Limits::default()
    })
  }

  #[test]
  fn pieces_come_in_any_order() {
    let parts = parts(100);
    parts.create("w/a", "k").expect("room");
    for (index, piece) in [(1, "other"), (0, "one-")] {
      let piece = Bytes::from_static(piece.as_bytes());
      parts.set("w/a", "k", Some(index), piece).expect("room");
    }
    assert_eq!(parts.take("w/a", "k").expect("complete"), "one-other");
    assert!(parts.take("w/a", "k").is_err());
    assert_eq!(parts.lock().bytes, 0);
  }

  #[test]
  fn another_peer_reaches_nothing() {
    let parts = parts(100);
    parts.create("w/a", "k").expect("room");
    assert!(parts.set("w/b", "k", Some(0), Bytes::new()).is_err());
    assert!(parts.take("w/b", "k").is_err());
    parts.forget_peer("w/b");
    assert!(parts.take("w/a", "k").is_ok());
  }

  #[test]
  fn a_message_that_is_too_large_is_dropped() {
    let parts = parts(10);
    parts.create("w/a", "k").expect("room");
    let piece = || Bytes::from_static(b"12345678");
    parts.set("w/a", "k", Some(0), piece()).expect("room");
    // Replaced, not added.
    parts.set("w/a", "k", Some(0), piece()).expect("room");
    assert!(parts.set("w/a", "k", Some(1), piece()).is_err());
    assert_eq!(parts.lock().bytes, 0);
    parts.create("w/a", "k").expect("room");
    assert!(parts.set("w/a", "k", Some(PIECES), Bytes::new()).is_err());
  }

  #[test]
  fn a_missing_piece_is_an_error() {
    let parts = parts(10);
    parts.create("w/a", "k").expect("room");
    parts.set("w/a", "k", Some(1), Bytes::new()).expect("room");
    assert!(parts.take("w/a", "k").is_err());
  }
}
