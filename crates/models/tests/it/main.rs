//! The client against an endpoint of this process that plays exact bytes.

mod cancel;
mod errors;
mod limits;
mod network;
mod retries;
mod server;
mod splits;
mod streams;
mod tool_calls;

use std::time::Duration;

use access::Secret;
use futures::StreamExt;
use models::CancellationToken;
use models::ChatClient;
use models::ChatDelta;
use models::ChatMessage;
use models::ChatRequest;
use models::Completion;
use models::Endpoint;
use models::FinishReason;
use models::Limits;
use models::ModelError;
use models::Retries;
use models::Trust;

use crate::server::Server;
use crate::server::Step;

const KEY: &str = "sk-hunter2";

/// Limits with which no test waits for long.
fn limits() -> Limits {
  Limits {
    first_token: Duration::from_secs(5),
    between_tokens: Duration::from_secs(5),
    total: Duration::from_secs(10),
    retries: Retries {
      most: 2,
      first_wait: Duration::from_millis(10),
      longest_wait: Duration::from_secs(2),
    },
    ..Limits::default()
  }
}

fn endpoint(url: &str) -> Endpoint {
  Endpoint::new(url, Some(Secret::new(KEY)), Trust::Operator).expect("an endpoint")
}

fn request() -> ChatRequest {
  ChatRequest::new("m", vec![ChatMessage::user("Say hello")])
}

/// Everything that a stream yields: deltas, and the error at its end.
async fn read(url: &str, limits: &Limits) -> (Vec<ChatDelta>, Option<ModelError>) {
  let client = ChatClient::default();
  let stream = client.stream(&endpoint(url), &request(), limits, CancellationToken::new());
  let mut stream = std::pin::pin!(stream);
  let mut deltas = Vec::new();
  let mut error = None;
  while let Some(item) = stream.next().await {
    assert_eq!(error, None, "nothing follows an error");
    match item {
      Ok(delta) => deltas.push(delta),
      Err(failed) => {
        let shown = format!("{failed} {failed:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        error = Some(failed);
      }
    }
  }
  let finished = |delta: &ChatDelta| matches!(delta, ChatDelta::Finished(_));
  let ends = deltas.iter().filter(|delta| finished(delta)).count();
  assert_eq!(ends, usize::from(error.is_none()), "{deltas:?} {error:?}");
  (deltas, error)
}

/// The deltas of a server that answers like this.
async fn deltas(script: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Vec<ChatDelta> {
  let server = Server::always(script).await;
  let (deltas, error) = read(&server.url(), &limits()).await;
  assert_eq!(error, None, "{deltas:?}");
  deltas
}

/// The text that came, and the error at the end, of a server that answers like this.
async fn failure(script: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> (String, ModelError) {
  let server = Server::always(script).await;
  let (deltas, error) = read(&server.url(), &limits()).await;
  (said(&deltas), error.expect("an error"))
}

fn said(deltas: &[ChatDelta]) -> String {
  let text = |delta: &ChatDelta| match delta {
    ChatDelta::Text(text) => Some(text.clone()),
    _ => None,
  };
  deltas.iter().filter_map(text).collect()
}

fn thought(deltas: &[ChatDelta]) -> String {
  let text = |delta: &ChatDelta| match delta {
    ChatDelta::Reasoning(text) => Some(text.clone()),
    _ => None,
  };
  deltas.iter().filter_map(text).collect()
}

fn finish(deltas: &[ChatDelta]) -> &FinishReason {
  match deltas.last() {
    Some(ChatDelta::Finished(reason)) => reason,
    other => panic!("not the end: {other:?}"),
  }
}

async fn complete(server: &Server, limits: &Limits) -> Result<Completion, ModelError> {
  ChatClient::default()
    .complete(
      &endpoint(&server.url()),
      &request(),
      limits,
      CancellationToken::new(),
    )
    .await
}
