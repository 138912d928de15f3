use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;
use axum::routing::get;
use bytes::Bytes;
use futures::SinkExt;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::stream;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::proxy::CONTINUE_TIMEOUT;
use crate::tests::support;
use crate::tests::support::Answer;
use crate::tests::support::Front;
use crate::tests::support::Listener;
use crate::tests::support::request;
use crate::tests::support::soon;
use crate::tests::support::until_nothing_moves;

/// More than all the buffers of the kernel and the servers on the way hold together.
const BUFFERS: usize = 32 << 20;
const CHUNK: usize = 64 << 10;
const HELD_BACK: &str = "POST /apps/hello/ HTTP/1.1\r\nhost: a\r\n\
  expect: 100-continue\r\ncontent-length: 4\r\n\r\n";

fn echo() -> Router {
  async fn echo(request: Request) -> Response {
    let declared = request.headers().get("trailer").cloned();
    let mut response = Response::new(request.into_body());
    if let Some(declared) = declared {
      response.headers_mut().insert("trailer", declared);
    }
    response
  }
  Router::new().fallback(echo)
}

/// A body that is made while it is sent.
fn channel() -> (mpsc::Sender<Bytes>, Body) {
  let (sender, receiver) = mpsc::channel::<Bytes>(0);
  let body = Body::from_stream(receiver.map(Ok::<_, Infallible>));
  (sender, body)
}

async fn next(
  body: &mut (impl hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin),
) -> Bytes {
  let frame = soon(body.frame()).await.expect("a frame");
  frame.expect("no error").into_data().expect("data")
}

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
  let front = Front::before(echo()).await;
  let (mut sender, body) = channel();
  let request = request("POST", "/").body(body).expect("a request");
  let mut client = front.client().await;
  let answer = client.send_request(request);
  let first = async { sender.send("one".into()).await.expect("it is read") };
  let (answer, ()) = soon(async { tokio::join!(answer, first) }).await;
  let mut body = answer.expect("an answer").into_body();
  assert_eq!(next(&mut body).await, "one");
  for word in ["two", "three"] {
    sender.send(word.into()).await.expect("it is read");
    assert_eq!(next(&mut body).await, word);
  }
  drop(sender);
  assert!(soon(body.frame()).await.is_none());
}

#[tokio::test]
async fn an_app_that_sends_faster_than_its_client_reads_is_slowed_down() {
  let made = Arc::new(AtomicUsize::new(0));
  let count = made.clone();
  let total = 2 * BUFFERS;
  let app = Router::new().fallback(async move || {
    let count = count.clone();
    Body::from_stream(stream::iter(0..total / CHUNK).map(move |_| {
      count.fetch_add(CHUNK, Ordering::Relaxed);
      Ok::<_, Infallible>(Bytes::from(vec![7; CHUNK]))
    }))
  });
  let front = Front::before(app).await;
  let mut body = front.send(support::get("/")).await.into_body();
  let ahead = until_nothing_moves(|| made.load(Ordering::Relaxed)).await;
  assert!(
    ahead > 0 && ahead < BUFFERS,
    "{ahead} bytes were made for nobody"
  );
  let mut read = 0;
  while let Some(frame) = soon(body.frame()).await {
    read += frame.expect("no error").into_data().expect("data").len();
  }
  assert_eq!(read, total);
}

#[tokio::test]
async fn a_client_that_sends_faster_than_the_app_reads_is_slowed_down() {
  let (start, started) = tokio::sync::watch::channel(false);
  let app = Router::new().fallback(async move |request: Request| {
    let mut started = started.clone();
    started
      .wait_for(|started| *started)
      .await
      .expect("it starts");
    let body = request.into_body().collect().await.expect("a body");
    body.to_bytes().len().to_string()
  });
  let total = 2 * BUFFERS;
  let front = Front::before(app).await;
  let made = Arc::new(AtomicUsize::new(0));
  let count = made.clone();
  let body = Body::from_stream(stream::iter(0..total / CHUNK).map(move |_| {
    count.fetch_add(CHUNK, Ordering::Relaxed);
    Ok::<_, Infallible>(Bytes::from(vec![7; CHUNK]))
  }));
  let request = request("PUT", "/").body(body).expect("a request");
  let mut client = front.client().await;
  let answer = tokio::spawn(client.send_request(request));
  let ahead = until_nothing_moves(|| made.load(Ordering::Relaxed)).await;
  assert!(
    ahead > 0 && ahead < BUFFERS,
    "{ahead} bytes were sent to nobody"
  );
  start.send_replace(true);
  let answer = soon(answer).await.expect("no panic").expect("an answer");
  assert_eq!(Answer::of(answer).await.text, total.to_string());
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
  let front = Front::before(echo()).await;
  let mut trailers = HeaderMap::new();
  trailers.insert("checksum", HeaderValue::from_static("42"));
  let frames = [
    Frame::data(Bytes::from("data")),
    Frame::trailers(trailers.clone()),
  ];
  let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
  let request = request("POST", "/")
    .header("te", "trailers")
    .header("trailer", "checksum");
  let request = request.body(Body::new(body)).expect("a request");
  let answer = Answer::of(front.send(request).await).await;
  assert_eq!(answer.text, "data");
  assert_eq!(answer.header("trailer"), Some("checksum"));
  assert_eq!(answer.trailers, Some(trailers));
}

#[tokio::test]
async fn answers_without_a_body_end_at_once_and_leave_the_connection_usable() {
  let app = Router::new()
    .route("/page", get(async || "twelve bytes"))
    .route("/204", any(async || StatusCode::NO_CONTENT))
    .route(
      "/304",
      any(async || (StatusCode::NOT_MODIFIED, [("etag", "\"a\"")]).into_response()),
    );
  let front = Front::before(app).await;
  let mut client = front.client().await;
  for (method, path, status, length) in [
    ("HEAD", "/page", 200, Some("12")),
    ("GET", "/204", 204, None),
    ("GET", "/304", 304, None),
    ("GET", "/page", 200, Some("12")),
  ] {
    let request = request(method, path)
      .body(Body::empty())
      .expect("a request");
    soon(client.ready()).await.expect("it is still open");
    let answer = soon(client.send_request(request)).await.expect("an answer");
    let answer = Answer::of(answer).await;
    assert_eq!(answer.head.status.as_u16(), status, "{method} {path}");
    assert_eq!(answer.header("content-length"), length, "{method} {path}");
    assert_eq!(answer.header("transfer-encoding"), None, "{method} {path}");
    let body = if (method, path) == ("GET", "/page") {
      "twelve bytes"
    } else {
      ""
    };
    assert_eq!(answer.text, body, "{method} {path}");
  }
}

#[tokio::test]
async fn an_answer_to_head_claims_no_length_that_the_app_did_not_name() {
  let (listener, front) = Listener::with_front().await;
  for length in ["", "transfer-encoding: chunked\r\n"] {
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
      app.write(format!("{head}{length}\r\n")).await;
    };
    let request = request("HEAD", "/").body(Body::empty()).expect("a request");
    let (answer, ()) = tokio::join!(front.send(request), serve);
    let answer = Answer::of(answer).await;
    assert_eq!(answer.header("content-length"), None, "{length:?}");
    assert_eq!(answer.text, "");
  }
}

#[tokio::test]
async fn a_length_stays_a_length_and_chunks_stay_chunks() {
  let app = Router::new().fallback(async |headers: HeaderMap, body: Bytes| {
    let header = |name| {
      headers
        .get(name)
        .map(|it: &HeaderValue| it.to_str().expect("text").to_owned())
    };
    let (length, coding) = (header("content-length"), header("transfer-encoding"));
    format!("{length:?} {coding:?} {}", body.len())
  });
  let front = Front::before(app).await;
  for method in ["GET", "POST", "DELETE"] {
    let mut wire = front.connect().await;
    let start = format!("{method} /apps/hello/ HTTP/1.1\r\nhost: a\r\n");
    wire
      .write(format!("{start}content-length: 3\r\n\r\nabc"))
      .await;
    assert!(!wire.read_head().await.contains("chunked"));
    wire.read_to(r#"Some("3") None 3"#).await;
    wire
      .write(format!(
        "{start}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      ))
      .await;
    wire.read_to(r#"None Some("chunked") 3"#).await;
    wire
      .write(format!("{start}content-length: 0\r\n\r\n"))
      .await;
    wire.read_to(r#"Some("0") None 0"#).await;
  }
}

#[tokio::test]
async fn an_answer_with_two_lengths_has_the_one_that_its_chunks_have() {
  let (listener, front) = Listener::with_front().await;
  let app = async {
    let mut app = listener.accept().await;
    app.read_head().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";
    app.write(format!("{head}5\r\nhello\r\n0\r\n\r\n")).await;
    app
  };
  let (answer, _app) = tokio::join!(front.get("/"), app);
  assert_eq!(answer.text, "hello");
  assert_eq!(answer.header("content-length"), None);
}

#[tokio::test]
async fn an_old_app_may_end_its_answer_by_closing() {
  let (listener, front) = Listener::with_front().await;
  let mut client = front.client().await;
  for _ in 0..2 {
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      app.write("HTTP/1.0 200 OK\r\n\r\nhello").await;
    };
    soon(client.ready()).await.expect("it is still open");
    let answer = client.send_request(support::get("/"));
    let (answer, ()) = soon(async { tokio::join!(answer, serve) }).await;
    let answer = Answer::of(answer.expect("an answer")).await;
    assert_eq!(answer.text, "hello");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
  }
}

#[tokio::test]
async fn a_body_that_is_held_back_is_asked_for_when_the_app_reads_it() {
  let (start, started) = tokio::sync::watch::channel(false);
  let app = Router::new().fallback(async move |request: Request| {
    let mut started = started.clone();
    started
      .wait_for(|started| *started)
      .await
      .expect("it starts");
    echo_text(request).await
  });
  let front = Front::before(app).await;
  let mut wire = front.connect().await;
  wire.write(HELD_BACK).await;
  start.send_replace(true);
  assert_eq!(wire.read_head().await, "http/1.1 100 continue\r\n\r\n");
  wire.write("body").await;
  assert!(wire.read_head().await.starts_with("http/1.1 200 ok"));
  wire.read_to("body").await;
}

async fn echo_text(request: Request) -> Bytes {
  let body = request.into_body().collect().await;
  body.expect("a body").to_bytes()
}

#[tokio::test]
async fn a_body_that_the_app_refuses_is_never_asked_for() {
  let app = Router::new().fallback(async || (StatusCode::PAYLOAD_TOO_LARGE, "too large"));
  let front = Front::before(app).await;
  let mut wire = front.connect().await;
  wire.write(HELD_BACK).await;
  let answer = wire.read_rest().await;
  assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
  assert!(answer.ends_with("too large"), "{answer}");
}

#[tokio::test]
async fn a_refused_body_is_given_up_even_if_the_app_keeps_waiting_for_it() {
  let (listener, front) = Listener::with_front().await;
  let mut wire = front.connect().await;
  wire.write(HELD_BACK).await;
  let mut app = listener.accept().await;
  assert!(app.read_head().await.contains("expect: 100-continue"));
  app
    .write("HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno")
    .await;
  let answer = wire.read_rest().await;
  assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
  assert!(answer.ends_with("no"), "{answer}");
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn a_refused_body_stays_refused_however_long_the_answer_takes() {
  let (listener, front) = Listener::with_front().await;
  let mut wire = front.connect().await;
  wire.write(HELD_BACK).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  app
    .write("HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nn")
    .await;
  wire.read_head().await;
  // The time itself is what this is about.
  tokio::time::sleep(CONTINUE_TIMEOUT * 5 / 4).await;
  app.write("o").await;
  assert_eq!(wire.read_rest().await, "no");
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn a_body_that_is_held_back_goes_to_an_app_that_never_asks() {
  let (listener, front) = Listener::with_front().await;
  let mut wire = front.connect().await;
  wire.write(HELD_BACK).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  assert_eq!(wire.read_head().await, "http/1.1 100 continue\r\n\r\n");
  wire.write("body").await;
  app.read_to("body").await;
  app
    .write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    .await;
  assert!(wire.read_head().await.starts_with("http/1.1 200 ok"));
}
