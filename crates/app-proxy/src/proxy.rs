//! The proxy itself: forwards one request to one instance, over connections that it keeps.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use futures::FutureExt;
use futures::StreamExt;
use futures::future;
use futures::stream;
use http_body_util::BodyExt;
use http_body_util::BodyStream;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;

use crate::connection::Answered;
use crate::connection::Connector;
use crate::error::ProxyError;
use crate::error::cause;
use crate::headers;
use crate::route::Lease;
use crate::site::Site;
use crate::upstream::Upstream;

/// How long a connection is kept without a request. The usual servers close theirs after 2 s or
/// more; closing first keeps requests from meeting a connection that is about to end.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How many connections to one upstream are kept without a request.
const MAX_IDLE: usize = 64;
/// How many upstreams connections are kept for. The entry of an ended instance may stay.
pub(crate) const MAX_UPSTREAMS: usize = 512;
/// How long an app may take to ask for a body that its client holds back. Some servers never ask.
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Forwards requests to apps, over connections that it keeps for later ones.
#[derive(Debug, Default)]
pub struct Proxy {
  /// One client each, as a client's pool can only be dropped as a whole.
  clients: Mutex<HashMap<Upstream, Client<Connector, Body>>>,
}

impl Proxy {
  pub fn new() -> Self {
    Self::default()
  }

  /// Forwards a request and returns the answer as soon as its head is there. `path_and_query` is what the
  /// app sees: the part below the prefix of its site.
  ///
  /// After a 101 a task joins the two connections until both have ended. The lease is kept until then, or
  /// until all of the answer has been sent.
  ///
  /// # Errors
  /// When the app gives no answer, or the request cannot be sent.
  pub async fn forward(
    &self,
    upstream: Lease,
    site: &Site,
    path_and_query: &str,
    mut request: Request,
  ) -> Result<Response, ProxyError> {
    let app = || site.app.clone();
    if request.method() == Method::CONNECT {
      return Err(ProxyError::Connect { app: app() });
    }
    let client_side = request.extensions_mut().remove::<OnUpgrade>();
    let Some(upgrade) = headers::rewrite_request(&mut request, site, path_and_query) else {
      let (app, path) = (app(), path_and_query.to_owned());
      return Err(ProxyError::BadPath { app, path });
    };
    let gate = hold_back(&mut request);

    let sent = self.send(&upstream, request).await;
    let mut response = sent.map_err(|error| ProxyError::new(app(), error))?;
    if let Some(gate) = &gate {
      move_on(gate, Hold::Answered);
    }
    let app_side = hyper::upgrade::on(&mut response);
    headers::rewrite_response(&mut response);
    site.confine(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
      match client_side.filter(|_| upgrade) {
        Some(client_side) => tokio::spawn(async move {
          tunnel(client_side, app_side).await;
          drop(upstream);
        }),
        None => return Err(ProxyError::UnaskedUpgrade { app: app() }),
      };
      return Ok(response.map(Body::new));
    }
    // Dropping the gate gives up a body that the app never asked for.
    let kept = (upstream, gate);
    Ok(response.map(|body| {
      Body::new(body.map_frame(move |frame| {
        let _ = &kept;
        frame
      }))
    }))
  }

  /// Closes the idle connections to an instance that is gone or stopping. Those in use end after their
  /// exchange.
  pub fn forget(&self, upstream: &Upstream) {
    self.clients().remove(upstream);
  }

  /// Sends a request. If a kept connection turns out to be closed, the client itself retries a request
  /// that it had not begun to send; one that it had is sent again here, if that does no harm.
  async fn send(
    &self,
    upstream: &Upstream,
    request: Request,
  ) -> Result<hyper::Response<Incoming>, legacy::Error> {
    let harmless = request.method().is_idempotent() && request.body().is_end_stream();
    let copy = harmless.then(|| {
      let mut copy = Request::new(Body::empty());
      *copy.method_mut() = request.method().clone();
      *copy.uri_mut() = request.uri().clone();
      *copy.headers_mut() = request.headers().clone();
      copy
    });
    let result = match (self.client(upstream).request(request).await, copy) {
      // A new client has no kept connections.
      (Err(error), Some(copy)) if was_stale(&error) => new_client(upstream).request(copy).await,
      (result, _) => result,
    };
    match &result {
      Ok(response) => {
        if let Some(answered) = response.extensions().get::<Answered>() {
          answered.set();
        }
      }
      // The instance was gone before this request came, so nothing else may ever remove its entry.
      Err(error) if error.is_connect() && nobody_listens(error) => self.forget(upstream),
      Err(_) => {}
    }
    result
  }

  pub(crate) fn client(&self, upstream: &Upstream) -> Client<Connector, Body> {
    let mut clients = self.clients();
    if let Some(client) = clients.get(upstream) {
      return client.clone();
    }
    if clients.len() >= MAX_UPSTREAMS {
      // Most are gone by now; the others get new connections.
      clients.clear();
    }
    let client = new_client(upstream);
    clients.insert(upstream.clone(), client.clone());
    client
  }

  pub(crate) fn clients(&self) -> MutexGuard<'_, HashMap<Upstream, Client<Connector, Body>>> {
    self.clients.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

fn new_client(upstream: &Upstream) -> Client<Connector, Body> {
  Client::builder(TokioExecutor::new())
    .pool_idle_timeout(IDLE_TIMEOUT)
    .pool_max_idle_per_host(MAX_IDLE)
    .pool_timer(TokioTimer::new())
    .build(Connector::new(upstream.clone()))
}

/// Joins the connections of a client and an app that have switched protocols. Either may end its half
/// first.
async fn tunnel(client: OnUpgrade, app: OnUpgrade) {
  let result = match future::try_join(client, app).await {
    Ok((client, app)) => {
      let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
      let copied = tokio::io::copy_bidirectional(&mut client, &mut app).await;
      copied.map(|_| ())
    }
    Err(error) => Err(io::Error::other(error)),
  };
  if let Err(error) = result {
    tracing::debug!("an upgraded connection broke: {error}");
  }
}

/// State of a body that its client holds back (`Expect: 100-continue`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
  Undecided,
  /// The app wants it.
  Asked,
  /// The app answered without it.
  Answered,
}

fn move_on(gate: &watch::Sender<Hold>, to: Hold) {
  gate.send_if_modified(|hold| {
    let undecided = *hold == Hold::Undecided;
    if undecided {
      *hold = to;
    }
    undecided
  });
}

/// Leaves a body that the client holds back unread until the app asks for it, because reading it asks the
/// client. Returns a gate. Dropping it fails a body that was not asked for, and with it both connections,
/// because neither side can tell whether the body still comes.
fn hold_back(request: &mut Request) -> Option<Arc<watch::Sender<Hold>>> {
  if !request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
    return None;
  }
  let (gate, mut hold) = watch::channel(Hold::Undecided);
  let gate = Arc::new(gate);
  let weak = Arc::downgrade(&gate);
  hyper::ext::on_informational(request, move |response| {
    if response.status() == StatusCode::CONTINUE
      && let Some(gate) = weak.upgrade()
    {
      move_on(&gate, Hold::Asked);
    }
  });
  let body = std::mem::take(request.body_mut());
  let held = async move {
    let decided = hold.wait_for(|hold| *hold != Hold::Undecided);
    let wanted = match tokio::time::timeout(CONTINUE_TIMEOUT, decided).await {
      Ok(Ok(hold)) => *hold == Hold::Asked,
      Ok(Err(_)) => false,
      Err(_) => true,
    };
    if wanted {
      return BodyStream::new(body).left_stream();
    }
    while hold.changed().await.is_ok() {}
    let unasked = axum::Error::new("the app answered without the body");
    stream::iter([Err(unasked)]).right_stream()
  };
  *request.body_mut() = Body::new(StreamBody::new(held.flatten_stream()));
  Some(gate)
}

/// Whether a request failed because the app had closed a connection that had served before.
fn was_stale(error: &legacy::Error) -> bool {
  let answered = error.connect_info().is_some_and(Answered::on);
  let closed = match cause::<hyper::Error>(error) {
    Some(error) => !error.is_parse() && !error.is_user(),
    None => false,
  };
  answered && closed
}

fn nobody_listens(error: &legacy::Error) -> bool {
  cause::<io::Error>(error).is_some_and(|error| {
    matches!(
      error.kind(),
      io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
  })
}
