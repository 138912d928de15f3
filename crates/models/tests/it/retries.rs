//! Asking again where that may help.

use std::time::Duration;

use access::Classified;
use access::ErrorKind;
use models::ModelError;

use crate::complete;
use crate::failure;
use crate::limits;
use crate::read;
use crate::said;
use crate::server::STOP;
use crate::server::Server;
use crate::server::Step;
use crate::server::chunk;
use crate::server::events;
use crate::server::head;
use crate::server::hello;
use crate::server::status;
use crate::server::stream;
use crate::server::text;

#[tokio::test]
async fn what_may_pass_is_asked_again() {
  for line in [
    "429 Too Many Requests",
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway Timeout",
  ] {
    let server = Server::start(move |number| match number {
      0 | 1 => status(line, "", "busy"),
      _ => hello(),
    })
    .await;
    let completion = complete(&server, &limits()).await.expect(line);
    assert_eq!(completion.text, "Hello");
    assert_eq!(server.requests().len(), 3, "{line}");
  }
}

#[tokio::test]
async fn connections_that_break_before_an_answer_are_made_again() {
  let server = Server::start(|number| match number {
    // Not even a head; then a head and half an event.
    0 => vec![],
    1 => vec![head(), chunk("data: {\"choi")],
    _ => hello(),
  })
  .await;
  let completion = complete(&server, &limits()).await.expect("the third time");
  assert_eq!(completion.text, "Hello");
}

#[tokio::test]
async fn a_passing_error_inside_a_stream_without_text_is_asked_again() {
  let server = Server::start(|number| match number {
    0 => stream(events([r#"{"error": {"message": "busy", "code": 429}}"#])),
    1 => status(
      "200 OK",
      "",
      r#"{"error": {"message": "busy", "code": 503}}"#,
    ),
    _ => hello(),
  })
  .await;
  let completion = complete(&server, &limits()).await.expect("the third time");
  assert_eq!(completion.text, "Hello");
}

#[tokio::test]
async fn a_server_that_stays_busy_is_given_up() {
  let server = Server::always(|| status("503 Service Unavailable", "", "busy")).await;
  let error = complete(&server, &limits()).await.expect_err("busy");
  assert!(
    error.to_string().ends_with("answered 503; it says: busy"),
    "{error}"
  );
  assert_eq!(server.requests().len(), 3);
  let mut limits = limits();
  limits.retries.most = 0;
  complete(&server, &limits).await.expect_err("busy");
  assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn nothing_is_asked_again_once_text_was_delivered() {
  let server = Server::always(|| vec![head(), chunk(events([text("Hel")]))]).await;
  let (deltas, error) = read(&server.url(), &limits()).await;
  assert_eq!(said(&deltas), "Hel");
  assert!(
    matches!(error, Some(ModelError::Broken { .. })),
    "{error:?}"
  );
  assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_kept() {
  // A date has whole seconds: of two, one is left at least.
  let date = || {
    let at = chrono::Utc::now() + Duration::from_secs(2);
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
  };
  for asked in [|| "1".to_owned(), date] {
    let server = Server::start(move |number| match number {
      0 => {
        let header = format!("retry-after: {}\r\n", asked());
        status("429 Too Many Requests", &header, "")
      }
      _ => hello(),
    })
    .await;
    complete(&server, &limits()).await.expect("the second time");
    let requests = server.requests();
    let pause = requests[1].arrived - requests[0].arrived;
    let expected = Duration::from_millis(950)..Duration::from_millis(2500);
    assert!(expected.contains(&pause), "{}: {pause:?}", asked());
  }
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_told_instead() {
  let server = Server::always(|| {
    status(
      "429 Too Many Requests",
      "retry-after: 3600\r\n",
      r#"{"error": {"message": "slow down"}}"#,
    )
  })
  .await;
  let error = complete(&server, &limits()).await.expect_err("too long");
  let message = error.to_string();
  assert!(
    message.starts_with("Rate limit exceeded at ")
      && message.ends_with("try again in 3600 s; it says: slow down"),
    "{message}"
  );
  assert_eq!(error.kind(), ErrorKind::Unavailable);
  assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn no_attempt_begins_after_the_total_time() {
  let server = Server::always(|| status("503 Service Unavailable", "retry-after: 1\r\n", "")).await;
  let mut limits = limits();
  limits.total = Duration::from_millis(500);
  let begun = std::time::Instant::now();
  complete(&server, &limits).await.expect_err("busy");
  assert!(begun.elapsed() < Duration::from_millis(400));
  assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_wrong_is_not_asked_for_again() {
  let (_, error) = failure(|| stream(events(["no JSON", STOP]))).await;
  assert!(matches!(error, ModelError::Broken { .. }), "{error:?}");
  let server = Server::always(|| {
    vec![Step::Send(
      b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec(),
    )]
  })
  .await;
  complete(&server, &limits()).await.expect_err("no answer");
  assert_eq!(server.requests().len(), 1);
}
