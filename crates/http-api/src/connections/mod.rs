//! Connections: how many there may be, and how long a client may take for what. One that says nothing,
//! takes nothing or has nothing in progress goes when its time is up or its place is needed.

mod answer;
mod places;
mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use bytes::BytesMut;
use futures::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use self::answer::Answer;
use self::places::Guest;
use self::places::Places;
use self::places::Seat;
use self::wire::Wire;

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of the head of a request.
const MAX_HEAD_BYTES: u32 = 64 << 10;
/// Bytes that a connection reads or holds back at one time.
const MAX_BUFFER: usize = 128 << 10;
/// Bytes of a request's body that a client of HTTP/2 may send before they are taken.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Requests of one HTTP/2 connection at one time.
const MAX_STREAMS: u32 = 64;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
  /// For its first byte.
  pub first_byte: Duration,
  /// For the head of its first request, from its first byte on.
  pub head: Duration,
  /// Without a request; the head of a further one counts to that.
  pub idle: Duration,
  /// Without taking anything of an answer.
  pub write: Duration,
  /// Until a client of HTTP/2 is asked whether it is there, and for it to say so.
  pub ping: Duration,
  /// To end what is left of a connection that is closed.
  pub closing: Duration,
}

impl Default for Times {
  fn default() -> Self {
    Self {
      first_byte: Duration::from_secs(10),
      head: Duration::from_secs(30),
      idle: Duration::from_secs(60),
      write: Duration::from_secs(300),
      ping: Duration::from_secs(20),
      closing: Duration::from_secs(5),
    }
  }
}

/// What every connection needs.
struct Server {
  app: Router,
  times: Times,
  http1: http1::Builder,
  http2: http2::Builder<TokioExecutor>,
  /// Told when no further request is taken.
  stop: CancellationToken,
}

impl Server {
  fn new(app: Router, times: Times, stop: CancellationToken) -> Self {
    let mut http1 = http1::Builder::new();
    http1
      .max_buf_size(MAX_BUFFER)
      .max_header_size(MAX_HEAD_BYTES as usize);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
      .timer(TokioTimer::new())
      .keep_alive_interval(times.ping)
      .keep_alive_timeout(times.ping)
      .max_concurrent_streams(MAX_STREAMS)
      .max_header_list_size(MAX_HEAD_BYTES)
      .initial_stream_window_size(STREAM_WINDOW)
      .initial_connection_window_size(CONNECTION_WINDOW)
      .max_send_buf_size(MAX_BUFFER);
    Self {
      app,
      times,
      http1,
      http2,
      stop,
    }
  }
}

/// Serves what each listener leads to, at most `most` connections at one time, until `stop` resolves;
/// then lets open requests finish for at most `drain`.
pub(crate) async fn serve(
  doors: Vec<(TcpListener, Router)>,
  most: usize,
  times: Times,
  stop: impl Future<Output = ()>,
  drain: Duration,
) {
  let places = Places::new(most);
  let connections = TaskTracker::new();
  let stopped = CancellationToken::new();
  let open = doors.into_iter().map(|(listener, app)| {
    let server = Arc::new(Server::new(app, times, stopped.clone()));
    accept(listener, server, places.clone(), connections.clone())
  });
  tokio::select! {
    _ = join_all(open) => {}
    () = stop => {}
  }
  stopped.cancel();
  connections.close();
  let _ = tokio::time::timeout(drain, connections.wait()).await;
}

/// Takes connections for as long as it is polled.
async fn accept(
  listener: TcpListener,
  server: Arc<Server>,
  places: Arc<Places>,
  connections: TaskTracker,
) {
  loop {
    let (stream, peer) = match listener.accept().await {
      Ok(accepted) => accepted,
      Err(error) => {
        // Out of descriptors, most likely: others must close first.
        tracing::warn!("a connection could not be accepted: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        continue;
      }
    };
    let Some(seat) = places.take(peer.ip()) else {
      tracing::debug!("a connection of {peer} is closed: all places are taken");
      continue;
    };
    // Events are small, and each must leave at once.
    let _ = stream.set_nodelay(true);
    connections.spawn(welcome(server.clone(), stream, peer, seat));
  }
}

/// Waits for the first byte. Until it is there, a connection costs no buffers.
async fn welcome(server: Arc<Server>, stream: TcpStream, peer: SocketAddr, seat: Seat) {
  let mut first = [0; 1];
  let spoken = tokio::select! {
    spoken = tokio::time::timeout(server.times.first_byte, stream.peek(&mut first)) => spoken,
    () = server.stop.cancelled() => return,
    () = seat.guest().told_to_leave() => return,
  };
  if let Ok(Ok(1..)) = spoken {
    // In a box, so that those who say nothing do not cost its bytes.
    Box::pin(talk(server, stream, peer, seat, first[0])).await;
  }
}

/// Finds out which protocol is spoken, and speaks it.
async fn talk(server: Arc<Server>, mut stream: TcpStream, peer: SocketAddr, seat: Seat, first: u8) {
  let guest = seat.guest().clone();
  let head = Instant::now() + server.times.head;
  let mut start = BytesMut::new();
  if first == PREFACE[0] {
    let reading = async {
      while start.len() < PREFACE.len() && PREFACE.starts_with(&start) {
        // Not more than the preface: what comes after it is read where it is needed.
        let mut rest = (&mut stream).take((PREFACE.len() - start.len()) as u64);
        if rest.read_buf(&mut start).await.is_ok_and(|read| read > 0) {
          continue;
        }
        return false;
      }
      true
    };
    let read = tokio::select! {
      read = tokio::time::timeout_at(head, reading) => read,
      () = server.stop.cancelled() => return,
      () = guest.told_to_leave() => return,
    };
    if read != Ok(true) {
      return;
    }
  }
  let second_version = start.as_ref() == PREFACE;
  let wire = Wire::new(stream, start.freeze(), seat, server.times.write);
  let service = {
    let (app, guest) = (server.app.clone(), guest.clone());
    service_fn(move |request| answer(app.clone(), guest.clone(), peer, request))
  };
  let io = TokioIo::new(wire);
  if second_version {
    let connection = server.http2.serve_connection(io, service);
    attend(&server, &guest, head, connection, |it| {
      it.graceful_shutdown();
    })
    .await;
  } else {
    let connection = server.http1.serve_connection(io, service).with_upgrades();
    attend(&server, &guest, head, connection, |it| {
      it.graceful_shutdown();
    })
    .await;
  }
}

async fn answer(
  mut app: Router,
  guest: Arc<Guest>,
  peer: SocketAddr,
  mut request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Answer>, Infallible> {
  let busy = guest.begin();
  request.extensions_mut().insert(ConnectInfo(peer));
  let response = app.call(request).await?;
  if response.status() == hyper::StatusCode::SWITCHING_PROTOCOLS {
    guest.switches_protocols();
  }
  Ok(response.map(|body| Answer::new(body, busy)))
}

/// Drives a connection to its end, which is when the client or its time wants it to be. `finish` has it
/// take no further request.
async fn attend<C: Future<Output = hyper::Result<()>>>(
  server: &Server,
  guest: &Guest,
  head: Instant,
  connection: C,
  finish: impl Fn(Pin<&mut C>),
) {
  let mut connection = pin!(connection);
  let mut leaving = None;
  let finish = |connection: Pin<&mut C>, leaving: &mut Option<Instant>| {
    finish(connection);
    *leaving = Some(Instant::now());
  };
  loop {
    let wake = match guest.due(&server.times, head, leaving) {
      Due::At(time) => time,
      Due::Finish => {
        finish(connection.as_mut(), &mut leaving);
        continue;
      }
      Due::Drop => return,
    };
    tokio::select! {
      ended = connection.as_mut() => {
        if let Err(error) = ended {
          tracing::trace!("connection: {error}");
        }
        return;
      }
      () = server.stop.cancelled(), if leaving.is_none() => {
        finish(connection.as_mut(), &mut leaving);
      }
      () = guest.told_to_leave(), if leaving.is_none() => {
        finish(connection.as_mut(), &mut leaving);
      }
      () = tokio::time::sleep_until(wake) => {}
    }
  }
}

/// What is to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Due {
  /// Nothing before this time.
  At(Instant),
  /// It takes no further request.
  Finish,
  /// It ends at once.
  Drop,
}

impl Guest {
  fn due(&self, times: &Times, head: Instant, leaving: Option<Instant>) -> Due {
    let now = Instant::now();
    let seen = self.look();
    // Looked at now and then: nobody tells when a request begins or ends.
    let soon = now + times.idle.min(times.write) / 4;
    if seen.running > 0 {
      return match seen.unread && now >= seen.since + times.write {
        true => Due::Drop,
        false => Due::At(soon),
      };
    }
    // A client that does not take it is the business of the wire.
    if seen.blocked {
      return Due::At(soon);
    }
    let (end, then) = match leaving {
      Some(leaving) => (leaving.max(seen.since) + times.closing, Due::Drop),
      None if !seen.asked => (head, Due::Drop),
      None => (seen.since + times.idle, Due::Finish),
    };
    match now >= end {
      true => then,
      false => Due::At(end.min(soon)),
    }
  }
}

#[cfg(test)]
mod tests;
