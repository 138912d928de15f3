//! Services and streams of peers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures::Stream;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::arguments::Arguments;
use crate::client::Client;
use crate::core::Core;
use crate::error::CallError;
use crate::request::own;
use crate::value::GeneratorRef;
use crate::value::Map;
use crate::value::MethodRef;
use crate::value::Value;

/// A service of a peer.
#[derive(Debug, Clone)]
pub struct RemoteService {
  client: Client,
  members: Map,
}

impl RemoteService {
  pub(crate) fn new(client: Client, members: Map) -> Self {
    Self { client, members }
  }

  /// `workspace/client_id:service_id`.
  pub fn id(&self) -> &str {
    self.members.text("id").unwrap_or_default()
  }

  /// All that the service consists of: methods, names and configuration.
  pub fn members(&self) -> &Map {
    &self.members
  }

  /// The method at a dotted path; `None` if there is none.
  pub fn method(&self, path: &str) -> Option<&MethodRef> {
    let mut names = path.split('.');
    let first = self.members.get(names.next()?)?;
    names
      .try_fold(first, |value, name| value.get(name))?
      .as_method()
  }

  /// Calls a method and waits for its answer.
  ///
  /// # Errors
  /// When the service has no such method, or the call has no result: see [`CallError`].
  pub async fn call(
    &self,
    method: &str,
    arguments: impl Into<Arguments>,
  ) -> Result<Value, CallError> {
    let reference = self.method(method).ok_or_else(|| {
      CallError::Invalid(format!(
        "the service `{}` has no method `{method}`",
        self.id()
      ))
    })?;
    self.client.call(reference, arguments).await
  }

  /// Calls a method whose answer is a stream.
  ///
  /// # Errors
  /// As [`RemoteService::call`], and when the answer is no stream.
  pub async fn stream(
    &self,
    method: &str,
    arguments: impl Into<Arguments>,
  ) -> Result<RemoteStream, CallError> {
    match self.call(method, arguments).await? {
      Value::Generator(generator) => Ok(self.client.stream(*generator)),
      _ => Err(CallError::Invalid(format!("`{method}` answers no stream"))),
    }
  }
}

/// A stream of a peer. Each item is asked for when it is polled, so that the peer runs no further than this
/// program. Dropping it before its end closes it at the peer; an error is its last item.
pub struct RemoteStream {
  items: BoxStream<'static, Result<Value, CallError>>,
}

impl std::fmt::Debug for RemoteStream {
  fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    f.write_str("RemoteStream")
  }
}

impl RemoteStream {
  pub(crate) fn new(core: Arc<Core>, generator: GeneratorRef) -> Self {
    let open = Open {
      core,
      generator: Some(generator),
    };
    let items = futures::stream::unfold(open, |mut open| async {
      let item = open.next().await?;
      if item.is_err() {
        open.generator = None;
      }
      Some((item, open))
    });
    Self {
      items: items.boxed(),
    }
  }
}

impl Stream for RemoteStream {
  type Item = Result<Value, CallError>;

  fn poll_next(
    mut self: Pin<&mut Self>,
    context: &mut std::task::Context<'_>,
  ) -> Poll<Option<Self::Item>> {
    self.items.poll_next_unpin(context)
  }
}

/// A stream that has not ended.
struct Open {
  core: Arc<Core>,
  /// `None` once it has ended.
  generator: Option<GeneratorRef>,
}

impl Open {
  async fn next(&mut self) -> Option<Result<Value, CallError>> {
    let generator = self.generator.as_ref()?;
    if let Err(error) = own(generator.given_by.as_deref(), &generator.target) {
      return Some(Err(error));
    }
    let item = self
      .core
      .request(&generator.target, &generator.method, Arguments::none())
      .await;
    match item {
      Ok(Value::StopIteration) => {
        self.generator = None;
        None
      }
      item => Some(item),
    }
  }
}

impl Drop for Open {
  fn drop(&mut self) {
    let Some(generator) = self.generator.take() else {
      return;
    };
    let foreign = own(generator.given_by.as_deref(), &generator.target).is_err();
    let (Some(close), Ok(runtime), false) = (
      generator.close_method,
      tokio::runtime::Handle::try_current(),
      foreign,
    ) else {
      return;
    };
    let core = Arc::clone(&self.core);
    runtime.spawn(async move {
      let closed = core.request(&generator.target, &close, Arguments::none());
      if let Err(error) = closed.await {
        tracing::debug!(peer = generator.target, "a stream is not closed: {error}");
      }
    });
  }
}
