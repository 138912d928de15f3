use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::error::ProxyError;
use crate::proxy::Proxy;
use crate::retry::Destination;
use crate::route::Lease;
use crate::tests::support::ANY_PORT;
use crate::tests::support::deaf;
use crate::tests::support::get;
use crate::tests::support::request;
use crate::tests::support::route_to;
use crate::tests::support::serve;
use crate::tests::support::site;
use crate::tests::support::soon;
use crate::upstream::Upstream;

/// An app whose instances serve one after the other, the last one for good.
struct Instances {
  next: Mutex<Vec<Upstream>>,
  leases: Mutex<usize>,
}

impl Instances {
  fn of(upstreams: &[Upstream]) -> Self {
    Self {
      next: Mutex::new(upstreams.iter().rev().cloned().collect()),
      leases: Mutex::default(),
    }
  }

  fn leases(&self) -> usize {
    *self.leases.lock().expect("not poisoned")
  }

  async fn answer(&self, request: Request) -> Result<Response, ProxyError> {
    let proxy = Proxy::new();
    soon(proxy.forward_to(self, &site(), "/", request)).await
  }
}

impl Destination for Instances {
  type Error = ProxyError;

  async fn lease(&self, _: Duration) -> Result<Lease, ProxyError> {
    *self.leases.lock().expect("not poisoned") += 1;
    let mut next = self.next.lock().expect("not poisoned");
    let upstream = match next.len() {
      1 => next[0].clone(),
      _ => next.pop().expect("there is a last one"),
    };
    Ok(route_to(upstream).lease())
  }
}

async fn echo() -> Upstream {
  let app = axum::Router::new().fallback(|request: Request| async move {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    format!(
      "{} {} {:?} {}",
      head.method,
      head.uri,
      head.headers.get("x-kept"),
      body.len()
    )
  });
  serve(app).await
}

async fn text(response: Response) -> String {
  let bytes = response.into_body().collect().await.expect("a body");
  String::from_utf8(bytes.to_bytes().to_vec()).expect("a text")
}

#[tokio::test]
async fn a_request_that_meets_an_instance_which_has_gone_gets_its_answer_from_the_next() {
  let ((_first, first), (_second, second)) = (deaf(), deaf());
  let app = Instances::of(&[first, second, echo().await]);
  let mut request = get("/");
  let kept = "of the client".parse().expect("a value");
  request.headers_mut().insert("x-kept", kept);
  let answer = app.answer(request).await.expect("an answer");
  assert_eq!(text(answer).await, r#"GET / Some("of the client") 0"#);
  assert_eq!(app.leases(), 3);
}

#[tokio::test]
async fn what_cannot_be_sent_twice_is_sent_once() {
  let with_body = request("POST", "/").body(Body::from("once"));
  let upgrade = request("GET", "/")
    .header("connection", "upgrade")
    .header("upgrade", "websocket")
    .body(Body::empty());
  for request in [with_body, upgrade] {
    let (_gone, gone) = deaf();
    let app = Instances::of(&[gone, echo().await]);
    let request = request.expect("a request");
    let had_body = !request.body().is_end_stream();
    let error = app.answer(request).await.expect_err("nothing listens");
    assert!(matches!(error, ProxyError::Unreachable { .. }), "{error}");
    assert_eq!(app.leases(), 1, "with a body: {had_body}");
  }
}

#[tokio::test]
async fn an_app_that_may_have_acted_on_a_request_does_not_get_it_again() {
  let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
  let upstream = Upstream::open(listener.local_addr().expect("an address"));
  let app = Instances::of(&[upstream, echo().await]);
  let closes = async {
    let (mut stream, _) = listener.accept().await.expect("accepts");
    let mut byte = [0];
    tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await
  };
  let (error, _) = tokio::join!(app.answer(get("/")), closes);
  let error = error.expect_err("it closed the connection");
  assert!(matches!(error, ProxyError::Closed { .. }), "{error}");
  assert_eq!(app.leases(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_never_listens_is_given_up_after_a_while() {
  let (_gone, gone) = deaf();
  let app = Instances::of(&[gone]);
  let asked = Instant::now();
  let error = app.answer(get("/")).await.expect_err("nothing listens");
  assert!(matches!(error, ProxyError::Unreachable { .. }), "{error}");
  let waited = asked.elapsed();
  assert!(
    waited.abs_diff(Duration::from_secs(5)) < Duration::from_secs(1),
    "{waited:?}"
  );
  assert!(app.leases() > 10, "{}", app.leases());
}
