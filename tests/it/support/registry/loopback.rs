//! An HTTP server of a test's own making.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::body::to_bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::LOCATION;
use axum::response::Response;
use futures::StreamExt;
use tokio::sync::oneshot;

const MAX_BODY_BYTES: usize = 16 << 20;

pub(crate) struct Request {
  /// Without the query; `%2f` is a slash.
  pub path: String,
  pub body: Vec<u8>,
  pub authorization: Option<String>,
  /// The server's own address, as the one who asks knows it.
  pub origin: String,
}

pub(crate) enum Reply {
  Content {
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
  },
  /// The parts of a body, sent one after the other.
  Parts {
    content_type: &'static str,
    parts: Vec<String>,
  },
  /// A status without a body.
  Status(u16),
  Redirect(String),
  /// Says nothing, ever.
  Hang,
  Later(Duration, Box<Self>),
}

impl Reply {
  pub(crate) fn content(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
    Self::Content {
      content_type,
      headers: Vec::new(),
      body: body.into(),
    }
  }

  pub(crate) fn json(value: &serde_json::Value) -> Self {
    Self::content("application/json", value.to_string())
  }
}

type Respond = dyn Fn(&Request) -> Reply + Send + Sync;
type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

/// Listens until this value goes; it has a thread of its own and so belongs to no test's runtime.
pub(crate) struct Loopback {
  port: u16,
  counts: Counts,
  stop: Option<oneshot::Sender<Infallible>>,
  thread: Option<JoinHandle<()>>,
}

impl Loopback {
  pub(crate) fn start(respond: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    Self::on(listener, Arc::new(respond))
  }

  fn on(listener: TcpListener, respond: Arc<Respond>) -> Self {
    let port = listener.local_addr().expect("is bound").port();
    let counts = Counts::default();
    let (stop, stopped) = oneshot::channel();
    let router = router(respond, counts.clone());
    let thread = std::thread::spawn(move || {
      let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
      runtime.block_on(async {
        listener
          .set_nonblocking(true)
          .expect("the socket takes the option");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime is there");
        tokio::select! {
          _ = axum::serve(listener, router) => {}
          _ = stopped => {}
        }
      });
      // Connections go with the runtime, also those that hang.
    });
    Self {
      port,
      counts,
      stop: Some(stop),
      thread: Some(thread),
    }
  }

  /// The address of a path that begins with a slash.
  pub(crate) fn url(&self, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", self.port)
  }

  /// How often a path was asked for.
  pub(crate) fn requests(&self, path: &str) -> usize {
    let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.get(path).copied().unwrap_or_default()
  }
}

impl Drop for Loopback {
  /// From here on, nobody listens at the port.
  fn drop(&mut self) {
    drop(self.stop.take());
    if let Some(thread) = self.thread.take() {
      let _ = thread.join();
    }
  }
}

fn router(respond: Arc<Respond>, counts: Counts) -> Router {
  Router::new().fallback(move |request: axum::extract::Request| {
    let (respond, counts) = (respond.clone(), counts.clone());
    async move {
      let request = read(request).await;
      *counts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(request.path.clone())
        .or_default() += 1;
      answer(respond(&request)).await
    }
  })
}

async fn read(request: axum::extract::Request) -> Request {
  let path = request.uri().path();
  let path = path.replace("%2f", "/").replace("%2F", "/");
  let host = request.headers().get("host");
  let host = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
  let origin = format!("http://{host}");
  let authorization = request.headers().get("authorization");
  let authorization = authorization.and_then(|value| value.to_str().ok());
  let authorization = authorization.map(str::to_owned);
  let body = to_bytes(request.into_body(), MAX_BODY_BYTES).await;
  Request {
    path,
    body: body.map(Vec::from).unwrap_or_default(),
    authorization,
    origin,
  }
}

async fn answer(mut reply: Reply) -> Response {
  while let Reply::Later(delay, then) = reply {
    tokio::time::sleep(delay).await;
    reply = *then;
  }
  let response = Response::builder();
  let response = match reply {
    Reply::Content {
      content_type,
      headers,
      body,
    } => headers
      .into_iter()
      .fold(response, |response, (name, value)| {
        response.header(name, value)
      })
      .header(CONTENT_TYPE, content_type)
      .body(Body::from(body)),
    Reply::Parts {
      content_type,
      parts,
    } => {
      let parts = futures::stream::iter(parts).then(|part| async {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(part)
      });
      response
        .header(CONTENT_TYPE, content_type)
        .body(Body::from_stream(parts))
    }
    Reply::Status(status) => response.status(status).body(Body::empty()),
    Reply::Redirect(to) => response
      .status(StatusCode::FOUND)
      .header(LOCATION, to)
      .body(Body::empty()),
    Reply::Hang | Reply::Later(..) => std::future::pending().await,
  };
  response.expect("a test's own answer is valid")
}

/// A port whose every answer is no HTTP. It listens as long as the tests run.
pub(super) fn speaking_garbage() -> u16 {
  let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
  let port = listener.local_addr().expect("is bound").port();
  std::thread::spawn(move || {
    for mut connection in listener.incoming().flatten() {
      // Closing with the request unread would reset the connection, and the answer with it.
      let _ = connection.read(&mut [0; 4096]);
      let _ = connection.write_all(b"\x00\x01garbage, not HTTP\r\n\r\n");
    }
  });
  port
}
