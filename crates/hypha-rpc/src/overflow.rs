//! A second connection, for streams that are given while the first has more to say than it may. An answer must come from the
//! address that was called, and the items of a stream from the one that the stream names: only streams can be elsewhere.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;
use crate::core::Core;
use crate::options::Options;
use crate::state::State;

/// What the id of the second client has behind that of the first.
const SUFFIX: &str = "-streams";
/// After a second connection could not be had, how long none is asked for.
const REST: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Overflow(Mutex<Second>);

#[derive(Default)]
enum Second {
  /// Not asked for, or not again before this.
  #[default]
  Never,
  Refused(Instant),
  Connecting,
  There(Client),
}

impl Overflow {
  /// Ends the second connection, and asks for no other.
  pub(crate) fn close(&self) {
    *self.lock() = Second::Connecting;
  }

  fn lock(&self) -> MutexGuard<'_, Second> {
    self.0.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Core {
  /// Where a new stream is given: here, or on the second connection while this one may not say what it has to. Until that is
  /// there, here.
  pub(crate) fn for_stream(self: &Arc<Self>) -> Arc<Self> {
    if !self.options.may_overflow || !self.current_link().is_ok_and(|link| link.is_pressed()) {
      return Arc::clone(self);
    }
    let mut second = self.overflow.lock();
    match &*second {
      Second::There(client) if *client.core.state.borrow() == State::Connected => {
        return Arc::clone(&client.core);
      }
      Second::There(client) if client.core.stop.is_cancelled() => {
        *second = Second::Refused(Instant::now());
      }
      Second::Refused(at) if at.elapsed() < REST => {}
      Second::Never | Second::Refused(_) => {
        *second = Second::Connecting;
        tokio::spawn(connect(Arc::clone(self)));
      }
      Second::Connecting | Second::There(_) => {}
    }
    Arc::clone(self)
  }
}

async fn connect(core: Arc<Core>) {
  let identity = core.identity();
  let options = Options {
    client_id: Some(format!("{}{SUFFIX}", identity.client_id)),
    workspace: Some(identity.workspace.clone()),
    may_overflow: false,
    ..core.options.clone()
  };
  let connected = tokio::select! {
    () = core.stop.cancelled() => return,
    connected = Box::pin(Client::connect(options)) => connected,
  };
  let mut second = core.overflow.lock();
  *second = match connected {
    // The first was closed meanwhile.
    Ok(_) if core.stop.is_cancelled() => return,
    Ok(client) => {
      tracing::info!("a second connection carries streams: {}", client.address());
      Second::There(client)
    }
    Err(error) => {
      tracing::debug!("no second connection: {error}");
      Second::Refused(Instant::now())
    }
  };
}
