use std::collections::BTreeMap;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::Version;

use crate::error::ProxyError;
use crate::proxy::Proxy;
use crate::tests::support::Answer;
use crate::tests::support::Front;
use crate::tests::support::Listener;
use crate::tests::support::PREFIX;
use crate::tests::support::deaf;
use crate::tests::support::get;
use crate::tests::support::request;
use crate::tests::support::route_to;
use crate::tests::support::serve;
use crate::tests::support::site;

type Seen = BTreeMap<String, String>;

/// An app that answers with what it was asked.
fn mirror() -> Router {
  async fn show(method: Method, uri: Uri, version: Version, headers: HeaderMap) -> Json<Seen> {
    let mut seen = Seen::new();
    for name in headers.keys() {
      let values = headers.get_all(name).iter();
      let values: Vec<_> = values.map(|value| value.to_str().expect("text")).collect();
      seen.insert(name.to_string(), values.join(" | "));
    }
    seen.insert("asked".to_owned(), format!("{method} {uri} {version:?}"));
    Json(seen)
  }
  Router::new().fallback(show)
}

async fn seen(front: &Front, request: Request) -> Seen {
  let answer = Answer::of(front.send(request).await).await;
  serde_json::from_str(&answer.text).expect("what the app saw")
}

/// What the mirror saw of a request that a test writes itself.
async fn seen_of_bytes(bytes: &str) -> Seen {
  let mut wire = Front::before(mirror()).await.connect().await;
  wire.write(bytes).await;
  let answer = wire.read_rest().await;
  let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
  serde_json::from_str(body).expect("what the app saw")
}

#[tokio::test]
async fn an_app_sees_its_own_path_and_the_clients_host() {
  let front = Front::before(mirror()).await;
  let seen = seen(&front, get("/a%20b//c?d=/e&f")).await;
  assert_eq!(seen["asked"], "GET /a%20b//c?d=/e&f HTTP/1.1");
  assert_eq!(seen["host"], "example.org");
}

#[tokio::test]
async fn an_app_is_told_who_asks_and_under_which_address() {
  let front = Front::before(mirror()).await;
  let request = request("POST", "/")
    .header("x-forwarded-for", "10.0.0.1")
    .header("x-forwarded-for", "10.0.0.2, 10.0.0.3")
    .header("x-forwarded-host", "forged")
    .header("x-forwarded-proto", "forged")
    .header("x-forwarded-prefix", "forged")
    .header("x_forwarded_host", "forged")
    .header("x-forwarded_prefix", "forged")
    .header("forwarded", "host=forged")
    .header("x-forwarded-port", "forged")
    .header("x-forwarded-user", "forged")
    .header("x-real-ip", "forged")
    .header("x_real_ip", "forged")
    .header("x-original-url", "/forged")
    .header("x-rewrite-url", "/forged")
    .header("x-other_header", "kept");
  let seen = seen(&front, request.body(Body::empty()).expect("a request")).await;
  assert_eq!(
    seen["x-forwarded-for"],
    "10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1"
  );
  assert_eq!(seen["x-forwarded-host"], "example.org");
  assert_eq!(seen["x-forwarded-proto"], "http");
  assert_eq!(seen["x-forwarded-prefix"], PREFIX);
  assert_eq!(seen["x-other_header"], "kept");
  assert!(
    !seen.values().any(|value| value.contains("forged")),
    "{seen:?}"
  );
}

#[tokio::test]
async fn a_request_without_a_known_client_keeps_its_chain() {
  let route = route_to(serve(mirror()).await);
  let request = request("GET", "/").header("x-forwarded-for", "10.0.0.1");
  let request = request.body(Body::empty()).expect("a request");
  let answer = Proxy::new()
    .forward(route.lease(), &site(), "/", request)
    .await;
  let body = axum::body::to_bytes(answer.expect("an answer").into_body(), usize::MAX).await;
  let seen: Seen = serde_json::from_slice(&body.expect("a body")).expect("what the app saw");
  assert_eq!(seen["x-forwarded-for"], "10.0.0.1");
}

#[tokio::test]
async fn what_holds_for_one_connection_stops_here_on_the_way_in() {
  let front = Front::before(mirror()).await;
  let request = request("POST", "/")
    .header("connection", "keep-alive, X-Mine")
    .header("connection", "host, x-forwarded-prefix, Content-Length")
    .header("x-mine", "1")
    .header("keep-alive", "timeout=5")
    .header("proxy-connection", "keep-alive")
    .header("proxy-authorization", "Basic eA==")
    .header("te", "gzip")
    .header("upgrade", "websocket")
    .header("x-end-to-end", "1");
  let seen = seen(&front, request.body("body".into()).expect("a request")).await;
  let names: Vec<_> = seen.keys().map(String::as_str).collect();
  let expected = [
    "asked",
    "content-length",
    "host",
    "x-end-to-end",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-proto",
  ];
  assert_eq!(names, expected);
  assert_eq!(seen["content-length"], "4");
}

#[tokio::test]
async fn what_holds_for_one_connection_stops_here_on_the_way_out() {
  let (listener, front) = Listener::with_front().await;
  let app = async {
    let mut app = listener.accept().await;
    app.read_head().await;
    let head = "HTTP/1.1 200 Fine\r\nconnection: x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
      proxy-authenticate: Basic\r\nupgrade: h2c\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n";
    app
      .write(format!("{head}content-length: 2\r\n\r\nhi"))
      .await;
    app
  };
  let (answer, _app) = tokio::join!(front.get("/"), app);
  let mut names: Vec<_> = answer
    .head
    .headers
    .keys()
    .map(axum::http::HeaderName::as_str)
    .collect();
  names.sort_unstable();
  assert_eq!(names, ["content-length", "date", "set-cookie"]);
  let cookies = answer.head.headers.get_all("set-cookie").iter();
  assert_eq!(cookies.collect::<Vec<_>>(), ["a=1", "b=2"]);
  assert_eq!(answer.text, "hi");
}

#[tokio::test]
async fn a_clients_token_reaches_the_app_unless_it_was_the_engines() {
  let front = Front::before(mirror()).await;
  let token = || request("GET", "/").header("authorization", "Bearer x");
  let seen_by_app = seen(&front, token().body(Body::empty()).expect("a request")).await;
  assert_eq!(seen_by_app["authorization"], "Bearer x");
  let engines = token().header("x-engine-token", "1").body(Body::empty());
  let seen_by_app = seen(&front, engines.expect("a request")).await;
  assert!(!seen_by_app.contains_key("authorization"));
}

#[tokio::test]
async fn the_host_in_a_request_line_counts_more_than_the_header() {
  let seen = seen_of_bytes(
    "GET http://user@real.example:81/apps/hello/a HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n",
  )
  .await;
  assert_eq!(seen["asked"], "GET /a HTTP/1.1");
  assert_eq!(seen["host"], "real.example:81");
  assert_eq!(seen["x-forwarded-host"], "real.example:81");
}

#[tokio::test]
async fn an_old_client_that_names_no_host_is_served() {
  let bytes = "GET /apps/hello/a HTTP/1.0\r\nx-forwarded-host: forged\r\nexpect: 100-continue\r\n";
  let seen = seen_of_bytes(&format!("{bytes}\r\n")).await;
  assert_eq!(seen["asked"], "GET /a HTTP/1.1");
  assert_eq!(seen["host"], "localhost");
  assert!(!seen.contains_key("x-forwarded-host"));
  assert!(!seen.contains_key("expect"));
}

#[tokio::test]
async fn what_cannot_be_asked_of_an_app_is_refused_before_it_is_sent() {
  let (_socket, nowhere) = deaf();
  let nowhere = route_to(nowhere);
  let proxy = Proxy::new();
  for path in ["", "a", "?a", "*", "http://example.org/", "/a b", "/\n"] {
    let error = proxy
      .forward(nowhere.lease(), &site(), path, get("/"))
      .await;
    let error = error.expect_err("it is refused");
    assert!(
      matches!(&error, ProxyError::BadPath { .. }),
      "{path:?}: {error}"
    );
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
  }
  let connect = request("CONNECT", "/").body(Body::empty());
  let error = proxy
    .forward(nowhere.lease(), &site(), "/", connect.expect("a request"))
    .await
    .expect_err("it is refused");
  assert!(matches!(&error, ProxyError::Connect { .. }), "{error}");
  assert_eq!(error.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_path_that_looks_like_a_host_stays_a_path() {
  let front = Front::before(mirror()).await;
  let seen = seen(&front, get("//other.example/a")).await;
  assert_eq!(seen["asked"], "GET //other.example/a HTTP/1.1");
  assert_eq!(seen["host"], "example.org");
}
