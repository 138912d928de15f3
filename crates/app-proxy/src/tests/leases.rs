use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::FutureExt;
use futures::StreamExt;
use futures::stream;
use http_body_util::BodyExt;

use crate::error::ProxyError;
use crate::proxy::Proxy;
use crate::route::Route;
use crate::tests::support::Answer;
use crate::tests::support::Front;
use crate::tests::support::Listener;
use crate::tests::support::Wire;
use crate::tests::support::deaf;
use crate::tests::support::get;
use crate::tests::support::request;
use crate::tests::support::route_to;
use crate::tests::support::serve;
use crate::tests::support::site;
use crate::tests::support::soon;
use crate::tests::support::until_nothing_moves;

const GET: &str = "GET /apps/hello/ HTTP/1.1\r\nhost: a\r\n\r\n";
const HANDSHAKE: &str = "GET /apps/hello/ HTTP/1.1\r\nhost: a\r\n\
  connection: upgrade\r\nupgrade: websocket\r\n\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
  transfer-encoding: chunked\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Whether any lease is held.
fn is_busy(route: &Route) -> bool {
  route.in_flight.idle().now_or_never().is_none()
}

/// Waits until no lease is held.
async fn given_back(route: &Route) {
  soon(route.in_flight.idle()).await;
}

/// A client and its app, of whose answer this is the head.
async fn answering(listener: &Listener, front: &Front, head: &str) -> (Wire, Wire) {
  let mut client = front.connect().await;
  client.write(GET).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  app.write(head).await;
  client.read_head().await;
  (client, app)
}

/// A client and its app that have switched protocols.
async fn switched(listener: &Listener, front: &Front) -> (Wire, Wire) {
  let mut client = front.connect().await;
  client.write(HANDSHAKE).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  app.write(SWITCHED).await;
  client.read_head().await;
  (client, app)
}

#[tokio::test]
async fn a_lease_is_held_from_the_request_until_a_streamed_answer_has_ended() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  assert!(!is_busy(&route));
  let mut client = front.connect().await;
  client.write(GET).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  assert!(is_busy(&route));
  app.write(EVENTS).await;
  client.read_head().await;
  assert!(is_busy(&route));
  for event in ["one", "two"] {
    app.write(format!("3\r\n{event}\r\n")).await;
    client.read_to(event).await;
    assert!(is_busy(&route), "after {event}");
  }
  app.write("0\r\n\r\n").await;
  client.read_to("\r\n0\r\n\r\n").await;
  // The client's connection is still there.
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_held_while_a_slow_client_reads() {
  const CHUNK: usize = 64 << 10;
  /// More than all the buffers on the way hold together.
  const CHUNKS: usize = 1 << 10;
  let made = Arc::new(AtomicUsize::new(0));
  let count = made.clone();
  let app = Router::new().fallback(async move || {
    let count = count.clone();
    Body::from_stream(stream::iter(0..CHUNKS).map(move |_| {
      count.fetch_add(1, Ordering::Relaxed);
      Ok::<_, Infallible>(Bytes::from(vec![7; CHUNK]))
    }))
  });
  let front = Front::before(app).await;
  let route = front.route();
  let mut body = front.send(get("/")).await.into_body();
  until_nothing_moves(|| made.load(Ordering::Relaxed)).await;
  let mut read = 0;
  while read < CHUNKS * CHUNK / 2 {
    assert!(is_busy(&route), "after {read} bytes");
    let frame = soon(body.frame()).await.expect("a frame");
    read += frame.expect("no error").into_data().expect("data").len();
  }
  soon(body.collect()).await.expect("the rest");
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_given_back_when_an_answer_has_no_body() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  let mut client = front.client().await;
  for (method, head) in [
    ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"),
    ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"),
    ("GET", "HTTP/1.1 204 No\r\n"),
    ("GET", "HTTP/1.1 304 Same\r\n"),
  ] {
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      assert!(is_busy(&route));
      app.write(format!("{head}connection: close\r\n\r\n")).await;
    };
    soon(client.ready()).await.expect("it is still open");
    let request = request(method, "/").body(Body::empty()).expect("a request");
    let answer = client.send_request(request);
    let (answer, ()) = soon(async { tokio::join!(answer, serve) }).await;
    assert_eq!(Answer::of(answer.expect("an answer")).await.text, "");
    given_back(&route).await;
  }
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_the_answer_that_it_was_for() {
  let route = route_to(serve(Router::new().fallback(async || "hello")).await);
  let proxy = Proxy::new();
  for read in [true, false] {
    let answer = proxy.forward(route.lease(), &site(), "/", get("/")).await;
    let mut answer = answer.expect("an answer");
    assert!(is_busy(&route));
    if read {
      let frame = soon(answer.body_mut().frame()).await.expect("a frame");
      assert_eq!(frame.expect("no error").into_data().expect("data"), "hello");
      assert!(is_busy(&route));
    }
    drop(answer);
    assert!(!is_busy(&route));
  }
}

#[tokio::test]
async fn every_exchange_has_a_lease_of_its_own() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  let (mut first, mut first_app) = answering(&listener, &front, EVENTS).await;
  let (mut second, mut second_app) = answering(&listener, &front, EVENTS).await;
  first_app.write("0\r\n\r\n").await;
  first.read_to("0\r\n\r\n").await;
  second_app.write("3\r\none\r\n").await;
  second.read_to("one").await;
  assert!(is_busy(&route));
  second_app.write("0\r\n\r\n").await;
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_held_until_both_halves_of_a_tunnel_have_ended() {
  for client_ends_first in [true, false] {
    let (listener, front) = Listener::with_front().await;
    let route = front.route();
    let (client, app) = switched(&listener, &front).await;
    assert!(is_busy(&route));
    let (mut first, mut second) = if client_ends_first {
      (client, app)
    } else {
      (app, client)
    };
    first.write("ping").await;
    second.read_to("ping").await;
    second.write("pong").await;
    first.read_to("pong").await;
    assert!(is_busy(&route));
    first.end().await;
    assert_eq!(second.read_rest().await, "");
    second.write("late").await;
    first.read_to("late").await;
    assert!(is_busy(&route));
    second.end().await;
    assert_eq!(first.read_rest().await, "");
    given_back(&route).await;
  }
}

#[tokio::test]
async fn a_lease_is_given_back_when_the_client_leaves_a_tunnel() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  // An app that ends its half too.
  let (client, mut app) = switched(&listener, &front).await;
  drop(client);
  assert_eq!(app.read_rest().await, "");
  drop(app);
  given_back(&route).await;
  // One that goes on sending, to nobody.
  let (client, mut app) = switched(&listener, &front).await;
  drop(client);
  while app.try_write("more").await {}
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_given_back_when_the_app_leaves_a_tunnel() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  let (mut client, app) = switched(&listener, &front).await;
  drop(app);
  assert_eq!(client.read_rest().await, "");
  drop(client);
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_given_back_when_the_client_leaves_before_the_answer() {
  let start = "POST /apps/hello/ HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nbody";
  for sent in [start.to_owned(), format!("{start}body")] {
    let (listener, front) = Listener::with_front().await;
    let route = front.route();
    let mut client = front.connect().await;
    client.write(&sent).await;
    let mut app = listener.accept().await;
    app.read_to("body").await;
    assert!(is_busy(&route));
    drop(client);
    given_back(&route).await;
  }
}

#[tokio::test]
async fn a_lease_is_given_back_when_the_client_leaves_within_a_quiet_answer() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  let (client, _app) = answering(&listener, &front, EVENTS).await;
  assert!(is_busy(&route));
  drop(client);
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_given_back_when_the_client_leaves_within_a_flood_of_an_answer() {
  let app = Router::new().fallback(async || {
    let chunk = || Ok::<_, Infallible>(Bytes::from(vec![7; 65536]));
    Body::from_stream(stream::repeat_with(chunk))
  });
  let front = Front::before(app).await;
  let route = front.route();
  let mut client = front.connect().await;
  client.write(GET).await;
  client.read_head().await;
  assert!(is_busy(&route));
  drop(client);
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_given_back_when_the_app_dies_within_its_answer() {
  let (listener, front) = Listener::with_front().await;
  let route = front.route();
  let (mut client, mut app) = answering(&listener, &front, EVENTS).await;
  app.write("3\r\none\r\n").await;
  client.read_to("one").await;
  assert!(is_busy(&route));
  drop(app);
  given_back(&route).await;
}

#[tokio::test]
async fn a_lease_is_given_back_with_every_error() {
  let proxy = Proxy::new();
  let (_socket, nowhere) = deaf();
  let route = route_to(nowhere);
  let unreachable = proxy.forward(route.lease(), &site(), "/", get("/")).await;
  let unreachable = unreachable.expect_err("nobody listens");
  assert!(matches!(unreachable, ProxyError::Unreachable { .. }));
  assert!(!is_busy(&route));
  let refused = proxy.forward(route.lease(), &site(), "", get("/")).await;
  let refused = refused.expect_err("it is no path");
  assert!(matches!(refused, ProxyError::BadPath { .. }));
  assert!(!is_busy(&route));

  for answer in ["", "nonsense\r\n\r\n", SWITCHED] {
    let (listener, front) = Listener::with_front().await;
    let route = front.route();
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      assert!(is_busy(&route));
      app.write(answer).await;
    };
    let (answer, ()) = tokio::join!(front.get("/"), serve);
    assert_eq!(answer.head.status, StatusCode::BAD_GATEWAY);
    given_back(&route).await;
  }
}
