//! Answers that nobody wants any more.

use std::pin::pin;
use std::time::Duration;
use std::time::Instant;

use futures::StreamExt;
use models::CancellationToken;
use models::ChatClient;
use models::ChatDelta;
use models::ModelError;

use crate::endpoint;
use crate::limits;
use crate::request;
use crate::server::Server;
use crate::server::Step;
use crate::server::chunk;
use crate::server::events;
use crate::server::head;
use crate::server::status;
use crate::server::text;

const SOON: Duration = Duration::from_millis(50);

fn open() -> Vec<Step> {
  vec![head(), chunk(events([text("Hel")])), Step::Hang]
}

#[tokio::test]
async fn dropping_a_stream_closes_the_connection_at_once() {
  let server = Server::always(open).await;
  let client = ChatClient::default();
  let mut stream = Box::pin(client.stream(
    &endpoint(&server.url()),
    &request(),
    &limits(),
    CancellationToken::new(),
  ));
  let first = stream.next().await.expect("an item").expect("text");
  assert_eq!(first, ChatDelta::Text("Hel".to_owned()));
  let dropped = Instant::now();
  drop(stream);
  let took = server.closed().await - dropped;
  assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn dropping_a_stream_before_the_server_answers_closes_the_connection_too() {
  let server = Server::always(|| vec![Step::Hang]).await;
  let client = ChatClient::default();
  let mut stream = Box::pin(client.stream(
    &endpoint(&server.url()),
    &request(),
    &limits(),
    CancellationToken::new(),
  ));
  let waited = tokio::time::timeout(Duration::from_millis(100), stream.next()).await;
  waited.expect_err("silence");
  let dropped = Instant::now();
  drop(stream);
  let took = server.closed().await - dropped;
  assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn cancelling_ends_the_stream_and_the_connection() {
  for script in [open, || vec![Step::Hang]] {
    let server = Server::always(script).await;
    let client = ChatClient::default();
    let cancel = CancellationToken::new();
    let stream = client.stream(
      &endpoint(&server.url()),
      &request(),
      &limits(),
      cancel.clone(),
    );
    let cancelled = tokio::spawn(async move {
      tokio::time::sleep(Duration::from_millis(100)).await;
      cancel.cancel();
      Instant::now()
    });
    let items: Vec<_> = stream.collect().await;
    let cancelled = cancelled.await.expect("no panic");
    assert_eq!(items.last(), Some(&Err(ModelError::Cancelled)));
    let took = server.closed().await.saturating_duration_since(cancelled);
    assert!(took < SOON, "{took:?}");
  }
}

#[tokio::test]
async fn cancelling_ends_the_wait_for_another_attempt() {
  let server = Server::always(|| status("503 Service Unavailable", "retry-after: 2\r\n", "")).await;
  let client = ChatClient::default();
  let cancel = CancellationToken::new();
  let stream = client.stream(
    &endpoint(&server.url()),
    &request(),
    &limits(),
    cancel.clone(),
  );
  let mut stream = pin!(stream);
  let waited = tokio::time::timeout(Duration::from_millis(200), stream.next()).await;
  waited.expect_err("it waits");
  cancel.cancel();
  let item = tokio::time::timeout(SOON, stream.next()).await;
  assert_eq!(item.expect("at once"), Some(Err(ModelError::Cancelled)));
  assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_stream_that_is_cancelled_before_it_begins_sends_nothing() {
  let server = Server::always(open).await;
  let cancel = CancellationToken::new();
  cancel.cancel();
  let client = ChatClient::default();
  let stream = client.stream(&endpoint(&server.url()), &request(), &limits(), cancel);
  let items: Vec<_> = stream.collect().await;
  assert_eq!(items, [Err(ModelError::Cancelled)]);
  assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_reader_that_takes_its_time_loses_nothing() {
  let server = Server::always(|| {
    let mut steps = vec![head()];
    steps.extend((0..5).map(|_| chunk(events([text("a")]))));
    steps.push(chunk("data: [DONE]\n\n"));
    steps
  })
  .await;
  let client = ChatClient::default();
  let mut limits = limits();
  limits.between_tokens = Duration::from_millis(30);
  let stream = client.stream(
    &endpoint(&server.url()),
    &request(),
    &limits,
    CancellationToken::new(),
  );
  let mut stream = pin!(stream);
  let mut count = 0;
  while let Some(item) = stream.next().await {
    item.expect("a delta");
    count += 1;
    tokio::time::sleep(Duration::from_millis(60)).await;
  }
  assert_eq!(count, 6);
}
