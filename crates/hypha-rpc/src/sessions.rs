//! What peers may call besides services: answers to calls, functions and streams that they were given.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::callback::Callback;
use crate::error::CallError;
use crate::reply::ItemStream;
use crate::reply::ServedStream;
use crate::value::Value;

/// Most streams and functions that all peers together are given at the same time.
const EXPORTS: usize = 16_384;

type Outcome = Result<Value, CallError>;

/// Sessions by their random ids.
#[derive(Default)]
pub(crate) struct Sessions {
  table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
  calls: HashMap<String, Pending>,
  exports: HashMap<String, Export>,
}

/// A call of ours that waits for its answer.
struct Pending {
  /// The peer that was called. Nobody else answers.
  peer: String,
  answer: Option<oneshot::Sender<Outcome>>,
  alive: Arc<Notify>,
  callbacks: HashMap<String, Callback>,
}

/// What an answer of ours gave to a peer.
struct Export {
  peer: String,
  used: Instant,
  what: Exported,
}

enum Exported {
  Stream(Arc<ServedStream>),
  Callbacks(HashMap<String, Callback>),
}

/// What a peer calls in a session.
pub(crate) enum Found {
  Callback(Callback),
  Pull(Arc<ServedStream>),
  /// The stream is dropped already.
  Closed,
  /// Another peer was given it.
  Forbidden,
  /// It never was, or has ended.
  Missing,
}

/// A call of ours, until it is dropped.
pub(crate) struct Call<'a> {
  sessions: &'a Sessions,
  pub(crate) id: String,
  pub(crate) answer: oneshot::Receiver<Outcome>,
  /// Notified by each sign of life.
  pub(crate) alive: Arc<Notify>,
}

impl Drop for Call<'_> {
  fn drop(&mut self) {
    let pending = self.sessions.lock().calls.remove(&self.id);
    // Outside the lock: callbacks are the user's, and may do anything when they are dropped.
    drop(pending);
  }
}

impl Call<'_> {
  /// Lets the peer call a function for as long as the call lasts. Returns its path.
  pub(crate) fn give(&self, callback: Callback) -> String {
    let name = format!("{}#{}", new_id(), callback.name().replace('.', "_"));
    let path = format!("{}.{name}", self.id);
    if let Some(pending) = self.sessions.lock().calls.get_mut(&self.id) {
      pending.callbacks.insert(name, callback);
    }
    path
  }
}

impl Sessions {
  fn lock(&self) -> MutexGuard<'_, Table> {
    self.table.lock().unwrap_or_else(PoisonError::into_inner)
  }

  /// Opens a call of `peer`.
  pub(crate) fn call(&self, peer: &str) -> Call<'_> {
    let id = new_id();
    let (sender, answer) = oneshot::channel();
    let alive = Arc::new(Notify::new());
    let pending = Pending {
      peer: peer.to_owned(),
      answer: Some(sender),
      alive: Arc::clone(&alive),
      callbacks: HashMap::new(),
    };
    self.lock().calls.insert(id.clone(), pending);
    Call {
      sessions: self,
      id,
      answer,
      alive,
    }
  }

  /// Whether a session is a call of ours.
  pub(crate) fn is_call(&self, id: &str) -> bool {
    self.lock().calls.contains_key(id)
  }

  /// Ends a call of ours; `false` if `peer` is not the one that was called.
  pub(crate) fn answer(&self, id: &str, peer: &str, outcome: Outcome) -> bool {
    let mut table = self.lock();
    let pending = table.calls.get_mut(id).filter(|it| it.peer == peer);
    let sender = pending.and_then(|it| it.answer.take());
    // Nobody waits any more if it cannot be sent.
    sender.is_some_and(|sender| sender.send(outcome).is_ok())
  }

  /// Notes a sign of life; `false` if no call of `peer` has this id.
  pub(crate) fn alive(&self, id: &str, peer: &str) -> bool {
    let table = self.lock();
    let pending = table.calls.get(id).filter(|it| it.peer == peer);
    pending.is_some_and(|it| {
      it.alive.notify_one();
      true
    })
  }

  /// Fails a call whatever its peer is: the server says that the peer is not there.
  pub(crate) fn fail(&self, id: &str, error: CallError) {
    let mut table = self.lock();
    let sender = table.calls.get_mut(id).and_then(|it| it.answer.take());
    if let Some(sender) = sender {
      let _ = sender.send(Err(error));
    }
  }

  /// Fails all calls.
  pub(crate) fn fail_all(&self, error: &CallError) {
    for pending in self.lock().calls.values_mut() {
      if let Some(sender) = pending.answer.take() {
        let _ = sender.send(Err(error.clone()));
      }
    }
  }

  /// Fails the calls of a peer that has left, and drops what it was given.
  pub(crate) fn forget_peer(&self, peer: &str) {
    let mut dropped = Vec::new();
    let mut table = self.lock();
    for pending in table.calls.values_mut().filter(|it| it.peer == peer) {
      if let Some(sender) = pending.answer.take() {
        let _ = sender.send(Err(CallError::PeerGone(peer.to_owned())));
      }
    }
    table.take_exports(&mut dropped, |export| export.peer == peer);
    drop(table);
    close(dropped);
  }

  /// Drops all that peers were given.
  pub(crate) fn clear_exports(&self) {
    let mut dropped = Vec::new();
    self.lock().take_exports(&mut dropped, |_| true);
    close(dropped);
  }

  /// Drops what was not used for `idle`.
  pub(crate) fn drop_idle(&self, idle: Duration) {
    let mut dropped = Vec::new();
    self.lock().take_exports(&mut dropped, |export| {
      let pulled = matches!(&export.what, Exported::Stream(stream) if stream.is_pulled());
      !pulled && export.used.elapsed() >= idle
    });
    close(dropped);
  }

  /// Gives a stream to a peer. Returns its id; `None` if too much is given already.
  pub(crate) fn give_stream(&self, peer: &str, stream: ItemStream) -> Option<String> {
    let id = new_id();
    let stream = ServedStream::new(id.clone(), stream);
    self.give(id, peer, Exported::Stream(Arc::new(stream)))
  }

  /// Gives functions, under their names, to a peer. Returns the id before the names.
  pub(crate) fn give_callbacks(
    &self,
    peer: &str,
    callbacks: HashMap<String, Callback>,
  ) -> Option<String> {
    self.give(new_id(), peer, Exported::Callbacks(callbacks))
  }

  fn give(&self, id: String, peer: &str, what: Exported) -> Option<String> {
    let export = Export {
      peer: peer.to_owned(),
      used: Instant::now(),
      what,
    };
    let mut table = self.lock();
    if table.exports.len() >= EXPORTS {
      return None;
    }
    table.exports.insert(id.clone(), export);
    Some(id)
  }

  /// What `peer` means by `name` in the session `id`.
  pub(crate) fn find(&self, id: &str, name: &str, peer: &str) -> Found {
    let mut table = self.lock();
    if let Some(pending) = table.calls.get(id) {
      return match pending.callbacks.get(name) {
        Some(_) if pending.peer != peer => Found::Forbidden,
        Some(callback) => Found::Callback(callback.clone()),
        None => Found::Missing,
      };
    }
    let Some(export) = table.exports.get_mut(id) else {
      return Found::Missing;
    };
    if export.peer != peer {
      return Found::Forbidden;
    }
    export.used = Instant::now();
    match &export.what {
      Exported::Callbacks(callbacks) => match callbacks.get(name) {
        Some(callback) => Found::Callback(callback.clone()),
        None => Found::Missing,
      },
      Exported::Stream(stream) => match name {
        "next" => Found::Pull(Arc::clone(stream)),
        "close" => {
          let export = table.exports.remove(id);
          drop(table);
          close(export.into_iter().collect());
          Found::Closed
        }
        _ => Found::Missing,
      },
    }
  }

  /// Forgets a stream that has ended; otherwise notes that it was used.
  pub(crate) fn pulled(&self, stream: &Arc<ServedStream>, ended: bool) {
    let mut table = self.lock();
    let is_this =
      |export: &Export| matches!(&export.what, Exported::Stream(it) if Arc::ptr_eq(it, stream));
    let id = stream.id();
    if !table.exports.get(id).is_some_and(is_this) {
      return;
    }
    if ended {
      table.exports.remove(id);
    } else if let Some(export) = table.exports.get_mut(id) {
      export.used = Instant::now();
    }
  }
}

impl Table {
  fn take_exports(&mut self, taken: &mut Vec<Export>, which: impl Fn(&Export) -> bool) {
    taken.extend(self.exports.extract_if(|_, it| which(it)).map(|(_, it)| it));
  }
}

/// Drops what was given. Not under the lock: streams are the user's, and may do anything then.
fn close(exports: Vec<Export>) {
  for export in exports {
    if let Exported::Stream(stream) = export.what {
      stream.close();
    }
  }
}

/// A random id, which nobody guesses.
pub(crate) fn new_id() -> String {
  Uuid::new_v4().simple().to_string()
}
