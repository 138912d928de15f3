//! What all parts of a client share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chunks::Parts;
use crate::context::User;
use crate::departures::Departures;
use crate::error::CallError;
use crate::link::Link;
use crate::options::Options;
use crate::options::Token;
use crate::overflow::Overflow;
use crate::service::Service;
use crate::sessions::Sessions;
use crate::state::State;
use crate::wire::Bounds;

/// Who the client is on the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
  pub(crate) workspace: String,
  pub(crate) client_id: String,
  /// Address of the workspace manager. It changes when the server starts again.
  pub(crate) manager: String,
  pub(crate) server: String,
  pub(crate) user: User,
}

impl Identity {
  pub(crate) fn address(&self) -> String {
    format!("{}/{}", self.workspace, self.client_id)
  }
}

pub(crate) struct Core {
  pub(crate) options: Options,
  pub(crate) sessions: Sessions,
  pub(crate) state: watch::Sender<State>,
  /// `None` while there is no connection.
  pub(crate) link: watch::Sender<Option<Link>>,
  pub(crate) parts: Parts,
  pub(crate) departures: Departures,
  /// A permit for each call of a peer that runs.
  pub(crate) running: Arc<Semaphore>,
  /// Cancelled when this program wants no connection any more, or the server refuses for good.
  pub(crate) stop: CancellationToken,
  pub(crate) overflow: Overflow,
  identity: Mutex<Arc<Identity>>,
  services: Mutex<BTreeMap<String, Arc<Service>>>,
  reconnection: Mutex<Option<Token>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
  mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
  pub(crate) fn new(options: Options) -> Self {
    Self {
      parts: Parts::new(&options.limits),
      departures: Departures::default(),
      running: Arc::new(Semaphore::new(options.limits.calls_in_progress)),
      options,
      sessions: Sessions::default(),
      state: watch::Sender::new(State::Connecting),
      link: watch::Sender::new(None),
      stop: CancellationToken::new(),
      overflow: Overflow::default(),
      identity: Mutex::default(),
      services: Mutex::default(),
      reconnection: Mutex::default(),
    }
  }

  pub(crate) fn bounds(&self) -> Bounds {
    Bounds {
      depth: self.options.limits.depth,
      values: self.options.limits.values,
    }
  }

  pub(crate) fn identity(&self) -> Arc<Identity> {
    Arc::clone(&lock(&self.identity))
  }

  pub(crate) fn set_identity(&self, identity: Identity) {
    *lock(&self.identity) = Arc::new(identity);
  }

  pub(crate) fn reconnection(&self) -> Option<Token> {
    lock(&self.reconnection).clone()
  }

  pub(crate) fn set_reconnection(&self, token: Option<Token>) {
    *lock(&self.reconnection) = token;
  }

  /// Ends what a peer that has left was part of.
  pub(crate) fn forget_peer(&self, peer: &str) {
    self.sessions.forget_peer(peer);
    self.parts.forget_peer(peer);
    self.departures.leave(peer);
  }

  pub(crate) fn service(&self, id: &str) -> Option<Arc<Service>> {
    lock(&self.services).get(id).cloned()
  }

  pub(crate) fn services(&self) -> Vec<Arc<Service>> {
    lock(&self.services).values().cloned().collect()
  }

  /// Adds a service. Returns the one that it replaces.
  pub(crate) fn add_service(&self, service: Arc<Service>) -> Option<Arc<Service>> {
    lock(&self.services).insert(service.id().to_owned(), service)
  }

  pub(crate) fn remove_service(&self, id: &str) -> Option<Arc<Service>> {
    lock(&self.services).remove(id)
  }

  /// The connection, if there is one.
  pub(crate) fn current_link(&self) -> Result<Link, CallError> {
    if self.stop.is_cancelled() {
      return Err(CallError::Closed);
    }
    let link = self.link.borrow().clone();
    link.filter(Link::is_up).ok_or(CallError::Disconnected)
  }

  /// The connection, once there is one; an error if that takes longer than an outage may.
  pub(crate) async fn next_link(&self) -> Result<Link, CallError> {
    let mut links = self.link.subscribe();
    let up = links.wait_for(|link| link.as_ref().is_some_and(Link::is_up));
    tokio::select! {
      () = self.stop.cancelled() => Err(CallError::Closed),
      up = tokio::time::timeout(self.options.limits.outage, up) => match up {
        Ok(Ok(link)) => link.clone().ok_or(CallError::Disconnected),
        _ => Err(CallError::Disconnected),
      },
    }
  }
}
