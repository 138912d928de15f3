//! The server that clients talk to, the apps behind it, and plain sockets on either side.

use std::future::Future;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::headers::EngineToken;
use crate::proxy::Proxy;
use crate::route::InFlight;
use crate::route::Route;
use crate::site::Site;
use crate::upstream::Upstream;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const PREFIX: &str = "/apps/hello";
pub(super) const ANY_PORT: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where the clients see the app.
pub(super) fn site() -> Site {
  Site::below(PREFIX)
}

/// Waits, but not for ever.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
  let waited = tokio::time::timeout(PATIENCE, future).await;
  waited.expect("it should have happened by now")
}

/// Where an instance listens that has no request in hand.
pub(super) fn route_to(upstream: Upstream) -> Route {
  Route {
    upstream,
    in_flight: InFlight::default(),
  }
}

/// Lets everybody else work until nothing of what `count` counts happens any more.
pub(super) async fn until_nothing_moves(count: impl Fn() -> usize) -> usize {
  let mut before = count();
  let mut still = 0;
  while still < 5_000 {
    tokio::task::yield_now().await;
    let now = count();
    still = if now == before { still + 1 } else { 0 };
    before = now;
  }
  before
}

/// A server whose every path under `PREFIX` is an app's.
pub(super) struct Front {
  pub proxy: Arc<Proxy>,
  address: SocketAddr,
  route: Arc<Mutex<Route>>,
}

#[derive(Clone)]
struct Routes {
  proxy: Arc<Proxy>,
  route: Arc<Mutex<Route>>,
}

impl Front {
  pub(super) async fn of(upstream: Upstream) -> Self {
    let proxy = Arc::new(Proxy::new());
    let route = Arc::new(Mutex::new(route_to(upstream)));
    let routes = Routes {
      proxy: proxy.clone(),
      route: route.clone(),
    };
    let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new().fallback(forward).with_state(routes);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Self {
      proxy,
      address,
      route,
    }
  }

  pub(super) async fn before(app: Router) -> Self {
    Self::of(serve(app).await).await
  }

  pub(super) fn route(&self) -> Route {
    self.route.lock().expect("not poisoned").clone()
  }

  /// Returns where requests went before.
  pub(super) fn switch_to(&self, upstream: Upstream) -> Route {
    let mut current = self.route.lock().expect("not poisoned");
    std::mem::replace(&mut current, route_to(upstream))
  }

  pub(super) async fn client(&self) -> SendRequest<Body> {
    let stream = TcpStream::connect(self.address).await.expect("it listens");
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (client, connection) = handshake.await.expect("a handshake");
    tokio::spawn(connection);
    client
  }

  /// Sends one request over a connection of its own.
  pub(super) async fn send(&self, request: Request) -> hyper::Response<Incoming> {
    let answer = self.client().await.send_request(request);
    soon(answer).await.expect("it answers")
  }

  pub(super) async fn get(&self, path: &str) -> Answer {
    Answer::of(self.send(get(path)).await).await
  }

  pub(super) async fn connect(&self) -> Wire {
    Wire::new(TcpStream::connect(self.address).await.expect("it listens"))
  }
}

async fn forward(State(routes): State<Routes>, mut request: Request) -> Response {
  let path = request
    .uri()
    .path_and_query()
    .map(axum::http::uri::PathAndQuery::as_str);
  let path = path.and_then(|path| path.strip_prefix(PREFIX));
  let path = path.unwrap_or_default().to_owned();
  if request.headers().contains_key("x-engine-token") {
    request.extensions_mut().insert(EngineToken);
  }
  let lease = routes.route.lock().expect("not poisoned").lease();
  match routes.proxy.forward(lease, &site(), &path, request).await {
    Ok(response) => response,
    Err(error) => (error.status(), error.to_string()).into_response(),
  }
}

pub(super) fn request(method: &str, path: &str) -> axum::http::request::Builder {
  Request::builder()
    .method(method)
    .uri(format!("{PREFIX}{path}"))
    .header("host", "example.org")
}

pub(super) fn get(path: &str) -> Request {
  request("GET", path).body(Body::empty()).expect("a request")
}

/// A response that has been read to its end.
#[derive(Debug)]
pub(super) struct Answer {
  pub head: axum::http::response::Parts,
  pub text: String,
  pub trailers: Option<axum::http::HeaderMap>,
}

impl Answer {
  pub(super) async fn of(response: hyper::Response<Incoming>) -> Self {
    let (head, body) = response.into_parts();
    let body = soon(body.collect()).await.expect("a whole body");
    let trailers = body.trailers().cloned();
    let text = String::from_utf8(body.to_bytes().to_vec()).expect("text");
    Self {
      head,
      text,
      trailers,
    }
  }

  pub(super) fn header(&self, name: &str) -> Option<&str> {
    let value = self.head.headers.get(name);
    value.map(|value| value.to_str().expect("text"))
  }
}

/// Starts an app.
pub(super) async fn serve(app: Router) -> Upstream {
  let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
  let address = listener.local_addr().expect("an address");
  tokio::spawn(async move { axum::serve(listener, app).await });
  Upstream::open(address)
}

/// A port that is taken, but that nobody listens on while the socket is there.
pub(super) fn deaf() -> (TcpSocket, Upstream) {
  let socket = TcpSocket::new_v4().expect("a socket");
  socket.bind(ANY_PORT.into()).expect("a port");
  let address = socket.local_addr().expect("an address");
  (socket, Upstream::open(address))
}

/// A socket that a test answers on by hand.
pub(super) struct Listener(TcpListener);

impl Listener {
  pub(super) async fn with_front() -> (Self, Front) {
    let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (Self(listener), Front::of(Upstream::open(address)).await)
  }

  pub(super) async fn accept(&self) -> Wire {
    Wire::new(soon(self.0.accept()).await.expect("a connection").0)
  }
}

/// A connection whose bytes a test reads and writes itself.
pub(super) struct Wire {
  stream: TcpStream,
  read: Vec<u8>,
}

impl Wire {
  fn new(stream: TcpStream) -> Self {
    Self {
      stream,
      read: Vec::new(),
    }
  }

  pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
    let written = self.stream.write_all(bytes.as_ref());
    soon(written).await.expect("it can be written to");
  }

  /// Whether it still can be written to.
  pub(super) async fn try_write(&mut self, bytes: &str) -> bool {
    soon(self.stream.write_all(bytes.as_bytes())).await.is_ok()
  }

  /// Ends this half.
  pub(super) async fn end(&mut self) {
    self.stream.shutdown().await.expect("the half ends");
  }

  /// Everything up to `end`, and that.
  pub(super) async fn read_to(&mut self, end: &str) -> String {
    loop {
      let found = self
        .read
        .windows(end.len())
        .position(|w| w == end.as_bytes());
      if let Some(at) = found {
        let rest = self.read.split_off(at + end.len());
        let read = std::mem::replace(&mut self.read, rest);
        return String::from_utf8(read).expect("text");
      }
      let read = soon(self.stream.read_buf(&mut self.read)).await;
      let read = read.expect("it can be read from");
      assert!(
        read > 0,
        "no {end:?} in {:?}",
        String::from_utf8_lossy(&self.read)
      );
    }
  }

  /// The head of a message.
  pub(super) async fn read_head(&mut self) -> String {
    self.read_to("\r\n\r\n").await.to_lowercase()
  }

  /// Whatever comes before the other side closes, in good order or not.
  pub(super) async fn read_rest(&mut self) -> String {
    let _reset = soon(self.stream.read_to_end(&mut self.read)).await;
    String::from_utf8(std::mem::take(&mut self.read)).expect("text")
  }
}
