//! Whom a client connects to, and whom it does not.

use hypha_rpc::Client;
use hypha_rpc::ConnectError;
use hypha_rpc::Options;
use hypha_rpc::Refusal;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use crate::support::scripted::Scripted;
use crate::support::soon;

async fn error(options: Options) -> ConnectError {
  let outcome = soon(Client::connect(options)).await;
  let error = outcome.expect_err("no connection");
  let text = format!("{error} {error:?}");
  assert!(!text.contains("s3cret"), "{text}");
  error
}

fn is_not_hypha(error: &ConnectError) -> bool {
  matches!(error, ConnectError::NotHypha { .. })
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
  let server = Scripted::start().await;
  let options = server.options();
  drop(server);
  let error = error(options).await;
  assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn garbage_is_not_hypha() {
  let server = Scripted::start().await;
  let serve = async {
    let mut stream = server.tcp().await;
    stream.write_all(b"SSH-2.0-server\r\n").await.expect("sent");
    stream
  };
  let (error, _stream) = tokio::join!(error(server.options()), serve);
  assert!(is_not_hypha(&error), "{error}");
}

#[tokio::test]
async fn a_web_server_without_hypha_is_not_hypha_and_one_in_front_of_it_is_unreachable() {
  for (status, is_hypha) in [("404 Not Found", false), ("502 Bad Gateway", true)] {
    let server = Scripted::start().await;
    let serve = async {
      let mut stream = server.tcp().await;
      let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
      stream.write_all(answer.as_bytes()).await.expect("sent");
      stream
    };
    let (error, _stream) = tokio::join!(error(server.options()), serve);
    assert_eq!(is_not_hypha(&error), !is_hypha, "{error}");
    assert!(error.may_pass());
  }
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_not_hypha() {
  let server = Scripted::start().await;
  let serve = async { drop(server.tcp().await) };
  let (at_once, ()) = tokio::join!(error(server.options()), serve);
  assert!(is_not_hypha(&at_once), "{at_once}");
  let serve = async { drop(server.socket().await) };
  let (after_request, ()) = tokio::join!(error(server.options()), serve);
  assert!(is_not_hypha(&after_request), "{after_request}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_hypha() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.welcome = Duration::from_millis(200);
  let (silent, _stream) = tokio::join!(error(options.clone()), server.tcp());
  assert!(is_not_hypha(&silent), "{silent}");
  let (silent, _socket) = tokio::join!(error(options), server.socket());
  assert!(is_not_hypha(&silent), "{silent}");
}

#[tokio::test]
async fn texts_that_are_none_of_hyphas_are_not_hypha() {
  for text in [
    "hello",
    "[]",
    "{\"type\": \"welcome\"}",
    "{\"type\": \"connection_info\"}",
    "{\"type\": \"connection_info\", \"workspace\": \"a/b\", \"client_id\": \"c\", \"manager_id\": \"m\"}",
  ] {
    let server = Scripted::start().await;
    let serve = async {
      let (mut conversation, _) = server.socket().await;
      conversation.send(Message::text(text)).await;
      conversation
    };
    let (error, _conversation) = tokio::join!(error(server.options()), serve);
    assert!(is_not_hypha(&error), "{text}: {error}");
  }
}

#[tokio::test]
async fn refusals_are_told_apart_and_quote_no_token() {
  for (message, wanted) in [
    ("Authentication error: bad s3cret-token", Refusal::Token),
    (
      "Failed to authenticate user: Current workspace encoded in the token (a) does not match",
      Refusal::Workspace,
    ),
    (
      "Failed to establish connection: Permission denied for workspace: b",
      Refusal::Workspace,
    ),
    (
      "Failed to establish connection: 'Workspace b does not exist or is not accessible'",
      Refusal::Workspace,
    ),
    (
      "Failed to establish connection: Client already exists and is active: a/me",
      Refusal::ClientExists,
    ),
    ("You are blocked", Refusal::Other),
  ] {
    let server = Scripted::start().await;
    let serve = async {
      let (mut conversation, request) = server.socket().await;
      assert_eq!(request["token"], "s3cret-token");
      conversation
        .text(json!({"type": "error", "message": message}))
        .await;
      conversation
    };
    let (error, _conversation) = tokio::join!(error(server.options()), serve);
    match error {
      ConnectError::Refused { kind, .. } => assert_eq!(kind, wanted, "{message}"),
      other => panic!("{message}: {other}"),
    }
  }
}

#[tokio::test]
async fn a_busy_server_is_unreachable() {
  let server = Scripted::start().await;
  let serve = async {
    let (mut conversation, _) = server.socket().await;
    let message = json!({"type": "error", "message": "Server busy, please retry"});
    conversation.text(message).await;
    conversation
  };
  let (error, _conversation) = tokio::join!(error(server.options()), serve);
  assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_cannot_work_is_not_sent() {
  for address in [
    "ftp://server",
    "http://user:s3cret@server",
    "https://server/?token=s3cret",
    "https://server/#x",
  ] {
    let options = Options::new(Url::parse(address).expect("an address"));
    let error = error(options.clone()).await;
    assert!(
      matches!(error, ConnectError::Invalid(_)),
      "{address}: {error}"
    );
    assert!(!format!("{options:?}").contains("s3cret"));
  }
  let mut options = Options::new(Url::parse("http://server").expect("an address"));
  options.client_id = Some("a/b".into());
  assert!(matches!(error(options).await, ConnectError::Invalid(_)));
}
