//! Functions of this program that peers may call.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::arguments::Arguments;
use crate::error::RemoteError;
use crate::value::Value;

type Function = dyn Fn(Arguments) -> BoxFuture<'static, Result<Value, RemoteError>> + Send + Sync;

/// A function of this program that is passed to a peer.
///
/// As an argument it lives until the call has ended, as part of an answer until the peer leaves or has not
/// used it for a while. Only the peer that it was sent to may call it.
#[derive(Clone)]
pub struct Callback {
  name: Arc<str>,
  function: Arc<Function>,
}

impl Callback {
  /// `name` is for people who read logs of the peer.
  pub fn new<F, A>(name: &str, function: F) -> Self
  where
    F: Fn(Arguments) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value, RemoteError>> + Send + 'static,
  {
    Self {
      name: name.into(),
      function: Arc::new(move |arguments| function(arguments).boxed()),
    }
  }

  pub fn name(&self) -> &str {
    &self.name
  }

  pub(crate) fn call(
    &self,
    arguments: Arguments,
  ) -> BoxFuture<'static, Result<Value, RemoteError>> {
    (self.function)(arguments)
  }
}

impl PartialEq for Callback {
  /// Whether both are the same function, not only alike.
  fn eq(&self, other: &Self) -> bool {
    Arc::ptr_eq(&self.function, &other.function)
  }
}

impl fmt::Debug for Callback {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "Callback({})", self.name)
  }
}
