//! The client itself.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::arguments::Arguments;
use crate::context::User;
use crate::core::Core;
use crate::driver::Driver;
use crate::error::CallError;
use crate::error::ConnectError;
use crate::options::Options;
use crate::registry;
use crate::remote::RemoteStream;
use crate::service::Service;
use crate::sessions::new_id;
use crate::state::State;
use crate::transport;
use crate::transport::Transport;
use crate::value::GeneratorRef;
use crate::value::MethodRef;
use crate::value::Value;

/// A connected client. Clones are the same client; it disconnects when the last is dropped.
#[derive(Clone)]
pub struct Client {
  pub(crate) core: Arc<Core>,
  /// `None` in the hands of a handler: a call in progress does not keep the client connected.
  _connected: Option<Arc<DropGuard>>,
}

impl Client {
  /// Connects to a server, and returns once it has let the client in and lists it.
  ///
  /// From then on the client stays connected by itself: when the connection is lost it comes back, under
  /// the same address if the server permits it, with all services registered again.
  ///
  /// # Errors
  /// When an option cannot work, nobody answers, the server refuses, or what answers is no Hypha server.
  /// Nothing runs on then.
  pub async fn connect(options: Options) -> Result<Self, ConnectError> {
    let client_id = options.client_id.clone().unwrap_or_else(new_id);
    transport::check_client_id(&client_id)?;
    let transport = Transport::new(&options)?;
    let address = transport.address().to_owned();
    let welcome = options.limits.welcome;
    let core = Arc::new(Core::new(options));
    let driver = Driver::new(Arc::clone(&core), transport, client_id);
    let (socket, greeting) = driver.connect().await?;
    let connected = Arc::new(core.stop.clone().drop_guard());
    let mut states = core.state.subscribe();
    tokio::spawn(driver.run(socket, greeting));
    let settled = states.wait_for(|state| *state != State::Connecting);
    let settled = match tokio::time::timeout(welcome, settled).await {
      Ok(Ok(state)) => state.clone(),
      _ => {
        return Err(ConnectError::NotHypha {
          address,
          reason: format!("its workspace manager does not answer within {welcome:?}"),
        });
      }
    };
    match settled {
      State::Connected => Ok(Self {
        core,
        _connected: Some(connected),
      }),
      State::Lost(reason) | State::Refused(reason) => {
        Err(ConnectError::Unreachable { address, reason })
      }
      State::Connecting | State::Disconnected => Err(ConnectError::Unreachable {
        address,
        reason: "the connection ended at once".into(),
      }),
    }
  }

  pub(crate) fn of(core: &Arc<Core>) -> Self {
    Self {
      core: Arc::clone(core),
      _connected: None,
    }
  }

  /// The client's address: `workspace/client_id`.
  pub fn address(&self) -> String {
    self.core.identity().address()
  }

  pub fn workspace(&self) -> String {
    self.core.identity().workspace.clone()
  }

  pub fn client_id(&self) -> String {
    self.core.identity().client_id.clone()
  }

  /// The user that the client is connected as.
  pub fn user(&self) -> User {
    self.core.identity().user.clone()
  }

  /// The state of the connection, to look at and to wait for changes of.
  pub fn state(&self) -> watch::Receiver<State> {
    self.core.state.subscribe()
  }

  /// Offers a service, in place of one with the same id. Returns its whole id:
  /// `workspace/client_id:service_id`.
  ///
  /// # Errors
  /// When the service cannot be registered so, or the server does not take it. It is not offered then; the
  /// one before is.
  pub async fn register(&self, service: Service) -> Result<String, CallError> {
    service.check()?;
    let service = Arc::new(service);
    let identity = self.core.identity();
    let before = self.core.add_service(Arc::clone(&service));
    if let Err(error) = registry::register(&self.core, &identity, &service).await {
      match before {
        Some(before) => drop(self.core.add_service(before)),
        None => drop(self.core.remove_service(service.id())),
      }
      return Err(error);
    }
    Ok(format!("{}:{}", identity.address(), service.id()))
  }

  /// Takes a service back. Calls of it that are in progress go on.
  ///
  /// # Errors
  /// When the server does not say that it has forgotten the service. Nobody can call it even then.
  pub async fn unregister(&self, id: &str) -> Result<(), CallError> {
    if self.core.remove_service(id).is_none() {
      return Err(CallError::Invalid(format!("there is no service `{id}`")));
    }
    let id = format!("{}:{id}", self.address());
    registry::ask(&self.core, "unregister_service", [id].into()).await?;
    Ok(())
  }

  /// Calls a method that a peer has named, and waits for its answer. [`Value::Nil`] at once for a method
  /// that does not answer.
  ///
  /// # Errors
  /// When the call has no result: see [`CallError`]. A method that a caller passed to a handler must be the
  /// caller's own.
  pub async fn call(
    &self,
    method: &MethodRef,
    arguments: impl Into<Arguments>,
  ) -> Result<Value, CallError> {
    self.core.call_method(method, arguments.into()).await
  }

  /// The items of a stream that a peer has named.
  pub fn stream(&self, generator: GeneratorRef) -> RemoteStream {
    RemoteStream::new(Arc::clone(&self.core), generator)
  }

  /// Calls a method of the workspace manager, by its name.
  ///
  /// # Errors
  /// When the call has no result: see [`CallError`].
  pub async fn manager(
    &self,
    method: &str,
    arguments: impl Into<Arguments>,
  ) -> Result<Value, CallError> {
    registry::ask(&self.core, method, arguments.into()).await
  }

  /// Disconnects, and waits until the connection is closed. Calls in progress end.
  pub async fn disconnect(&self) {
    self.core.stop.cancel();
    let mut states = self.core.state.subscribe();
    let ended = |state: &State| matches!(state, State::Disconnected | State::Refused(_));
    // It fails only when there is no state any more, and so no connection.
    let _ = states.wait_for(ended).await;
  }

  /// Cancelled when the client is disconnected by the program, or refused for good.
  pub fn stopped(&self) -> CancellationToken {
    self.core.stop.child_token()
  }
}

impl fmt::Debug for Client {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct("Client")
      .field("server", &transport::shown(&self.core.options.server_url))
      .field("address", &self.address())
      .field("state", &*self.core.state.borrow())
      .finish_non_exhaustive()
  }
}
