//! What is said when there is no answer.

use access::Classified;
use access::ErrorKind;
use access::Secret;
use models::CancellationToken;
use models::ChatClient;
use models::ChatRequest;
use models::Endpoint;
use models::ModelError;
use models::Trust;

use crate::KEY;
use crate::complete;
use crate::failure;
use crate::limits;
use crate::request;
use crate::server::Server;
use crate::server::hello;
use crate::server::status;

async fn refused(line: &'static str, body: &'static str) -> (ModelError, usize) {
  let server = Server::always(move || status(line, "", body)).await;
  let error = complete(&server, &limits()).await.expect_err("refused");
  (error, server.requests().len())
}

#[tokio::test]
async fn a_missing_model_names_the_base_url_and_the_model() {
  let body = r#"{"error": {"message": "model 'm' not found"}}"#;
  let server = Server::always(move || status("404 Not Found", "", body)).await;
  let error = complete(&server, &limits()).await.expect_err("refused");
  assert_eq!(
    error.to_string(),
    format!(
      "Invalid endpoint or model: {} has no model `m`, or is not where the API is: check baseURL and model; \
       it says: model 'm' not found",
      server.url()
    )
  );
  assert_eq!(error.kind(), ErrorKind::Upstream);
  assert_eq!(server.requests().len(), 1, "it is not asked again");
}

#[tokio::test]
async fn a_wrong_key_is_told_and_not_repeated() {
  for line in ["401 Unauthorized", "403 Forbidden"] {
    let body = r#"{"error": {"message": "Incorrect API key provided: sk-hunter2."}}"#;
    let (error, requests) = refused(line, body).await;
    let message = error.to_string();
    assert!(
      message.starts_with("Authentication error: ")
        && message.ends_with("it says: Incorrect API key provided: [secret]."),
      "{message}"
    );
    assert!(!format!("{error:?}").contains(KEY), "{error:?}");
    assert_eq!(requests, 1);
  }
}

#[tokio::test]
async fn other_refusals_are_told_as_they_are() {
  for (line, body, end) in [
    (
      "400 Bad Request",
      r#"{"error": {"message": "too many\ntokens"}}"#,
      "answered 400; it says: too many tokens",
    ),
    (
      "402 Payment Required",
      "pay first",
      "answered 402; it says: pay first",
    ),
    ("418 I'm a teapot", "<html>", "answered 418"),
  ] {
    let (error, requests) = refused(line, body).await;
    let message = error.to_string();
    assert!(
      message.starts_with("API error: http://127.0.0.1:") && message.ends_with(end),
      "{message}"
    );
    assert_eq!(requests, 1);
  }
  let long = Box::leak("long ".repeat(100_000).into_boxed_str());
  let (error, _) = refused("400 Bad Request", long).await;
  assert!(error.to_string().len() < 500);
}

#[tokio::test]
async fn a_redirection_is_not_followed_and_its_target_named() {
  let other = Server::always(hello).await;
  let location = format!(
    "location: http://me:hunter2@{}/elsewhere?key=hunter2\r\n",
    other.address
  );
  for line in [
    "301 Moved Permanently",
    "302 Found",
    "307 Temporary Redirect",
    "308 Permanent Redirect",
  ] {
    let location = location.clone();
    let (_, error) = failure(move || status(line, &location, "")).await;
    let message = error.to_string();
    let target = format!("points to http://{}/elsewhere;", other.address);
    assert!(
      message.starts_with("API error: ") && message.contains(&target),
      "{message}"
    );
    assert!(
      message.contains("set baseURL to where the API is"),
      "{message}"
    );
  }
  assert_eq!(other.requests().len(), 0);
  let (_, error) = failure(|| status("302 Found", "", "")).await;
  assert!(error.to_string().contains("no readable address"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_down_is_named_without_its_password() {
  // Bound and given back: nobody listens there.
  let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
  let address = listener.local_addr().expect("bound");
  drop(listener);
  let url = format!("http://me:hunter2@{address}/v1?code=hunter2");
  let endpoint = Endpoint::new(&url, None, Trust::Operator).expect("an endpoint");
  let asked = ChatClient::default()
    .complete(&endpoint, &request(), &limits(), CancellationToken::new())
    .await;
  let error = asked.expect_err("it is down");
  let message = error.to_string();
  assert!(
    message.starts_with(&format!(
      "Connection failed: no answer from http://{address}/v1: "
    )),
    "{message}"
  );
  let shown = format!("{message} {error:?} {endpoint:?}");
  assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_model_without_a_name_is_refused_before_anything_is_sent() {
  let server = Server::always(hello).await;
  let endpoint = Endpoint::new(&server.url(), Some(Secret::new(KEY)), Trust::Operator);
  let asked = ChatClient::default()
    .complete(
      &endpoint.expect("an endpoint"),
      &ChatRequest::new("", Vec::new()),
      &limits(),
      CancellationToken::new(),
    )
    .await;
  let error = asked.expect_err("no model");
  assert_eq!(error.to_string(), "model: it is empty");
  assert_eq!(error.kind(), ErrorKind::Invalid);
  assert_eq!(server.requests().len(), 0);
}
