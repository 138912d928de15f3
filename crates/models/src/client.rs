//! The client: connections, and the two ways to ask.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use futures::stream;
use outbound::Reach;
use reqwest::Client;
use reqwest::Url;
use tokio_util::sync::CancellationToken;

use crate::asking::Asking;
use crate::asking::Question;
use crate::completion::ChatDelta;
use crate::completion::Completion;
use crate::endpoint::Endpoint;
use crate::error::ModelError;
use crate::limits::Limits;
use crate::request::ChatRequest;

/// How models are connected to.
#[derive(Debug, Clone)]
pub struct ClientOptions {
  /// A PEM file with authorities to trust besides the platform's.
  pub certificates: Option<PathBuf>,
  /// Until a connection stands.
  pub connect: Duration,
}

impl Default for ClientOptions {
  fn default() -> Self {
    Self {
      certificates: None,
      connect: Duration::from_secs(10),
    }
  }
}

/// Asks models. It keeps connections, so one is enough for a server.
#[derive(Debug, Default)]
pub struct ChatClient {
  options: ClientOptions,
  clients: Mutex<HashMap<Kind, Client>>,
}

/// Endpoints that share connections and trust. What a tenant reaches goes through no connection that
/// was made for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
  reach: Reach,
  is_https: bool,
  is_loopback: bool,
}

impl ChatClient {
  pub fn new(options: ClientOptions) -> Self {
    Self {
      options,
      clients: Mutex::default(),
    }
  }

  /// Asks a model, and yields its answer as it is written. The stream ends with
  /// [`ChatDelta::Finished`] or with an error; what came before an error is valid.
  ///
  /// Nothing is sent until the stream is polled. Dropping it, or cancelling while it is polled, closes
  /// the connection, so that the server stops as well.
  pub fn stream(
    &self,
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &Limits,
    cancel: CancellationToken,
  ) -> impl Stream<Item = Result<ChatDelta, ModelError>> + Send + use<> {
    let asking = self
      .question(endpoint, request)
      .map(|question| Asking::new(question, limits.clone(), cancel));
    stream::unfold(Some(asking), |asking| async move {
      match asking? {
        Ok(mut asking) => {
          let item = asking.next().await?;
          Some((item, Some(Ok(asking))))
        }
        Err(error) => Some((Err(error), None)),
      }
    })
    .fuse()
  }

  /// Asks a model, and returns its whole answer. Dropping the future closes the connection.
  ///
  /// # Errors
  /// When there is no answer, or not all of it; what came of it is dropped.
  pub async fn complete(
    &self,
    endpoint: &Endpoint,
    request: &ChatRequest,
    limits: &Limits,
    cancel: CancellationToken,
  ) -> Result<Completion, ModelError> {
    let mut stream = pin!(self.stream(endpoint, request, limits, cancel));
    let mut completion = Completion::new();
    while let Some(delta) = stream.next().await {
      completion.add(delta?);
    }
    Ok(completion)
  }

  fn question(&self, endpoint: &Endpoint, request: &ChatRequest) -> Result<Question, ModelError> {
    let invalid = |text: String| ModelError::Invalid(text);
    if request.model.is_empty() {
      return Err(invalid("model: it is empty".to_owned()));
    }
    // This machine may have got the address since the endpoint was made.
    endpoint.check_address()?;
    let url = endpoint.url();
    let body = request
      .body()
      .map_err(|error| invalid(format!("the request cannot be written as JSON: {error}")))?;
    Ok(Question {
      http: self.client(&url, endpoint)?,
      url,
      endpoint: endpoint.clone(),
      model: request.model.clone(),
      body: body.into(),
      connect: self.options.connect,
    })
  }

  fn client(&self, url: &Url, endpoint: &Endpoint) -> Result<Client, ModelError> {
    let kind = Kind {
      reach: endpoint.reach(),
      is_https: url.scheme() == "https",
      is_loopback: outbound::is_loopback(url),
    };
    let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&kind) {
      return Ok(client.clone());
    }
    let certificates = self.options.certificates.as_deref();
    let client = outbound::streaming_client(url, certificates, self.options.connect, kind.reach)
      .map_err(ModelError::NoClient)?;
    clients.insert(kind, client.clone());
    Ok(client)
  }
}
