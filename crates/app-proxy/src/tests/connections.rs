use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::error::ProxyError;
use crate::proxy::MAX_UPSTREAMS;
use crate::proxy::Proxy;
use crate::tests::support::ANY_PORT;
use crate::tests::support::Answer;
use crate::tests::support::Front;
use crate::tests::support::Listener;
use crate::tests::support::Wire;
use crate::tests::support::deaf;
use crate::tests::support::get;
use crate::tests::support::request;
use crate::tests::support::route_to;
use crate::tests::support::site;
use crate::tests::support::soon;
use crate::upstream::Upstream;

async fn respond(app: &mut Wire, text: &str) {
  let length = text.len();
  app
    .write(format!(
      "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
    ))
    .await;
}

/// A connection to the app that has served one request.
async fn used(listener: &Listener, front: &Front) -> Wire {
  let app = async {
    let mut app = listener.accept().await;
    app.read_head().await;
    respond(&mut app, "first").await;
    app
  };
  let (answer, app) = tokio::join!(front.get("/"), app);
  assert_eq!(answer.text, "first");
  app
}

fn post() -> axum::extract::Request {
  request("POST", "/")
    .body(Body::from("body"))
    .expect("a request")
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
  let (listener, front) = Listener::with_front().await;
  let mut app = used(&listener, &front).await;
  for round in 0..10 {
    let serve = async {
      app.read_head().await;
      respond(&mut app, &round.to_string()).await;
    };
    let (answer, ()) = tokio::join!(front.get("/"), serve);
    assert_eq!(answer.text, round.to_string());
  }
}

#[tokio::test]
async fn a_request_that_can_be_repeated_is_sent_again_when_its_connection_was_old() {
  let (listener, front) = Listener::with_front().await;
  for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
    let mut old = used(&listener, &front).await;
    let serve = async {
      assert!(old.read_head().await.starts_with(&method.to_lowercase()));
      drop(old);
      let mut new = listener.accept().await;
      let head = new.read_head().await;
      assert!(
        head.starts_with(&format!("{} / http/1.1\r\n", method.to_lowercase())),
        "{head}"
      );
      assert!(
        head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
        "{head}"
      );
      new.write("HTTP/1.1 204 Fine\r\n\r\n").await;
    };
    let request = request(method, "/").body(Body::empty()).expect("a request");
    let (answer, ()) = tokio::join!(front.send(request), serve);
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{method}");
  }
}

#[tokio::test]
async fn a_request_that_may_have_had_an_effect_is_not_sent_again() {
  let (listener, front) = Listener::with_front().await;
  let with_body = request("PUT", "/")
    .body(Body::from("body"))
    .expect("a request");
  let without = request("POST", "/").body(Body::empty()).expect("a request");
  for request in [post(), with_body, without] {
    let mut old = used(&listener, &front).await;
    let serve = async {
      old.read_head().await;
      drop(old);
    };
    let (answer, ()) = tokio::join!(front.send(request), serve);
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(
      Answer::of(answer).await.text,
      "the app at /apps/hello closed the connection before it answered; see its log"
    );
  }
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_not_tried_again() {
  let (listener, front) = Listener::with_front().await;
  let serve = async {
    listener.accept().await.read_head().await;
  };
  let (answer, ()) = tokio::join!(front.get("/"), serve);
  assert_eq!(answer.head.status, StatusCode::BAD_GATEWAY);
  // Were it tried again, this request would find another before it.
  let serve = async {
    let mut app = listener.accept().await;
    assert!(app.read_head().await.starts_with("get /next "));
    respond(&mut app, "fine").await;
  };
  let (answer, ()) = tokio::join!(front.get("/next"), serve);
  assert_eq!(answer.head.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_goes_to_a_new_connection_when_the_app_has_closed_the_idle_one() {
  let (listener, front) = Listener::with_front().await;
  for _ in 0..20 {
    drop(used(&listener, &front).await);
    let serve = async {
      let mut app = listener.accept().await;
      app.read_to("body").await;
      app
        .write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfine")
        .await;
    };
    let (answer, ()) = tokio::join!(front.send(post()), serve);
    assert_eq!(Answer::of(answer).await.text, "fine");
  }
}

#[tokio::test]
async fn the_idle_connections_of_a_forgotten_instance_are_closed() {
  let (listener, front) = Listener::with_front().await;
  let mut first = used(&listener, &front).await;
  front.proxy.forget(&front.route().upstream);
  assert_eq!(first.read_rest().await, "");
}

#[tokio::test]
async fn an_exchange_outlives_that_its_instance_is_forgotten() {
  let (listener, front) = Listener::with_front().await;
  let serve = async {
    let mut app = listener.accept().await;
    app.read_head().await;
    front.proxy.forget(&front.route().upstream);
    app
      .write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfi")
      .await;
    app
  };
  let (answer, mut app) = tokio::join!(front.send(get("/")), serve);
  app.write("ne").await;
  assert_eq!(Answer::of(answer).await.text, "fine");
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_the_app_would_close_it() {
  let (listener, front) = Listener::with_front().await;
  let mut app = used(&listener, &front).await;
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn an_instance_that_is_not_there_is_named_and_leaves_nothing_behind() {
  let (_socket, upstream) = deaf();
  let front = Front::of(upstream).await;
  let answer = front.get("/").await;
  assert_eq!(answer.head.status, StatusCode::BAD_GATEWAY);
  let named = answer
    .text
    .starts_with("the app at /apps/hello cannot be reached: Connection refused");
  assert!(named, "{}", answer.text);
  assert!(front.proxy.clients().is_empty());
}

#[tokio::test]
async fn an_instance_that_accepts_nobody_is_given_up_after_a_while() {
  let (socket, upstream) = deaf();
  let _listener = socket.listen(0).expect("it listens");
  // It has room for one.
  let first = TcpStream::connect(upstream.address);
  let _first = soon(first).await.expect("a connection");
  let (proxy, route) = (Proxy::new(), route_to(upstream));
  // Nothing else happens from here on, so the time passes at once.
  tokio::time::pause();
  let error = proxy.forward(route.lease(), &site(), "/", get("/")).await;
  let error = error.expect_err("nobody answers");
  assert!(
    matches!(&error, ProxyError::Unreachable { .. }),
    "{error:?}"
  );
  assert_eq!(
    error.to_string(),
    "the app at /apps/hello cannot be reached: it accepted no connection within 5s; see its log, \
     and start it again"
  );
}

#[tokio::test]
async fn clients_of_instances_that_nobody_forgot_do_not_pile_up() {
  let proxy = Proxy::new();
  for port in 1..=2 * MAX_UPSTREAMS {
    let port = u16::try_from(port).expect("a port");
    let _client = proxy.client(&Upstream::open(([127, 0, 0, 1], port).into()));
    assert!(proxy.clients().len() <= MAX_UPSTREAMS);
  }
}

#[tokio::test]
async fn an_exchange_outlives_that_its_client_makes_room_for_others() {
  let (listener, front) = Listener::with_front().await;
  let serve = async {
    let mut app = listener.accept().await;
    app.read_head().await;
    for port in 1..=MAX_UPSTREAMS {
      let port = u16::try_from(port).expect("a port");
      let _client = front
        .proxy
        .client(&Upstream::open(([127, 0, 0, 1], port).into()));
    }
    let upstream = front.route().upstream;
    assert!(!front.proxy.clients().contains_key(&upstream));
    respond(&mut app, "fine").await;
  };
  let (answer, ()) = tokio::join!(front.get("/"), serve);
  assert_eq!(answer.text, "fine");
}

/// An instance, and how to end it in good order.
struct Instance {
  upstream: Upstream,
  stop: tokio::sync::oneshot::Sender<()>,
  stopped: tokio::task::JoinHandle<io::Result<()>>,
}

impl Instance {
  async fn start(number: usize, served: &Arc<AtomicUsize>) -> Self {
    let served = served.clone();
    let app = Router::new().fallback(async move |body: String| {
      served.fetch_add(1, Ordering::Relaxed);
      format!("{body} from {number}")
    });
    let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
      let _ = stopping.await;
    });
    Self {
      upstream: Upstream::open(address),
      stop,
      stopped: tokio::spawn(server.into_future()),
    }
  }
}

#[tokio::test]
async fn no_request_fails_while_instances_replace_each_other() {
  const CLIENTS: usize = 50;
  const REQUESTS: usize = 100;
  const SWITCHES: usize = 20;
  let served = Arc::new(AtomicUsize::new(0));
  let first = Instance::start(0, &served).await;
  let front = Arc::new(Front::of(first.upstream.clone()).await);
  let mut current = first;
  let clients: Vec<_> = (0..CLIENTS)
    .map(|number| {
      let front = front.clone();
      tokio::spawn(async move {
        let mut client = front.client().await;
        for round in 0..REQUESTS {
          let method = ["GET", "POST"][round % 2];
          let sent = format!("{number}/{round}");
          let body = Body::from(sent.clone());
          soon(client.ready()).await.expect("it is still open");
          let request = request(method, "/").body(body).expect("a request");
          let answer = soon(client.send_request(request)).await.expect("an answer");
          let answer = Answer::of(answer).await;
          assert_eq!(answer.head.status, StatusCode::OK, "{}", answer.text);
          assert!(
            answer.text.starts_with(&format!("{sent} from ")),
            "{}",
            answer.text
          );
        }
      })
    })
    .collect();
  for number in 1..=SWITCHES {
    // Evenly over all the requests.
    let due = CLIENTS * REQUESTS * number / (SWITCHES + 1);
    while served.load(Ordering::Relaxed) < due {
      tokio::task::yield_now().await;
    }
    let next = Instance::start(number, &served).await;
    let old_route = front.switch_to(next.upstream.clone());
    let old = std::mem::replace(&mut current, next);
    soon(old_route.in_flight.idle()).await;
    front.proxy.forget(&old_route.upstream);
    old.stop.send(()).expect("it runs");
    soon(old.stopped)
      .await
      .expect("no panic")
      .expect("no error");
  }
  for client in clients {
    client.await.expect("no failure");
  }
  assert_eq!(served.load(Ordering::Relaxed), CLIENTS * REQUESTS);
}
