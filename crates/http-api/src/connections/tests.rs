//! Over real sockets, with times that are short.

use std::net::SocketAddr;

use axum::body::Body;
use axum::body::Bytes;
use axum::http::Request;
use axum::routing::get;
use axum::routing::post;
use futures::StreamExt;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Nothing is that slow: it is for machines with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(3600);

/// Times that never come.
const PATIENT: Times = Times {
  first_byte: LONG,
  head: LONG,
  idle: LONG,
  write: LONG,
  ping: LONG,
  closing: LONG,
};

struct Running {
  address: SocketAddr,
  stop: oneshot::Sender<()>,
  server: JoinHandle<()>,
}

/// A server with an answer of each kind.
async fn start(most: usize, times: Times) -> Running {
  let endless = || async {
    let part = Bytes::from(vec![0; 64 << 10]);
    Body::from_stream(futures::stream::repeat(Ok::<_, Infallible>(part)))
  };
  let silent = || async {
    let start = futures::stream::iter([Ok::<_, Infallible>("start")]);
    Body::from_stream(start.chain(futures::stream::pending()))
  };
  let app = Router::new()
    .route(
      "/",
      get(|peer: ConnectInfo<SocketAddr>| async move { peer.0.ip().to_string() }),
    )
    .route("/large", get(|| async { vec![7_u8; 3 << 20] }))
    .route("/endless", get(endless))
    .route("/silent", get(silent))
    .route("/echo", post(|body: Bytes| async { body }));
  let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
  let address = listener.local_addr().expect("an address");
  let (stop, stopped) = oneshot::channel();
  let stopped = async {
    let _ = stopped.await;
  };
  let server = tokio::spawn(serve(vec![(listener, app)], most, times, stopped, PATIENCE));
  Running {
    address,
    stop,
    server,
  }
}

impl Running {
  async fn connect(&self) -> TcpStream {
    TcpStream::connect(self.address).await.expect("is accepted")
  }

  /// A connection with one answered request.
  async fn answered(&self) -> TcpStream {
    let mut stream = self.connect().await;
    ask(&mut stream, "/").await;
    stream
  }
}

async fn in_time<F: Future>(future: F) -> F::Output {
  let outcome = tokio::time::timeout(PATIENCE, future).await;
  outcome.expect("is not that slow")
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
  stream.write_all(bytes).await.expect("is sent");
}

/// Asks for a short text, and reads the answer.
async fn ask(stream: &mut TcpStream, path: &str) {
  send(
    stream,
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
  )
  .await;
  let mut answer = Vec::new();
  while !answer.ends_with(b"127.0.0.1") {
    let read = in_time(stream.read_buf(&mut answer))
      .await
      .expect("answers");
    assert!(read > 0, "{:?}", String::from_utf8_lossy(&answer));
  }
  assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

/// Waits until the server has closed a connection, and returns what came before.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
  let mut rest = Vec::new();
  // A reset is an end as well.
  let _ = in_time(stream.read_to_end(&mut rest)).await;
  rest
}

async fn still_open(stream: &mut TcpStream) {
  let mut byte = [0; 1];
  let read = tokio::time::timeout(SHORT * 2, stream.read(&mut byte)).await;
  assert!(read.is_err(), "it was closed: {read:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
  let server = start(
    10,
    Times {
      first_byte: SHORT,
      ..PATIENT
    },
  )
  .await;
  assert_eq!(closed(&mut server.connect().await).await, b"");
  server.answered().await;
}

#[tokio::test]
async fn half_a_head_is_closed_whatever_the_protocol() {
  let server = start(
    10,
    Times {
      head: SHORT,
      ..PATIENT
    },
  )
  .await;
  for half in ["G", "GET / HTTP/1.1\r\nHo", "P", "PRI * HTT", "POST / HT"] {
    let mut stream = server.connect().await;
    send(&mut stream, half.as_bytes()).await;
    closed(&mut stream).await;
  }
  // A preface, and then nothing that is asked.
  let mut stream = server.connect().await;
  send(&mut stream, PREFACE).await;
  send(&mut stream, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
  closed(&mut stream).await;
}

#[tokio::test]
async fn a_head_may_come_in_pieces() {
  let server = start(10, PATIENT).await;
  let mut stream = server.connect().await;
  stream.set_nodelay(true).expect("can be set");
  for piece in [
    "P",
    "OS",
    "T /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
    "Content-Length: 2\r\n\r\nh",
    "i",
  ] {
    send(&mut stream, piece.as_bytes()).await;
    tokio::task::yield_now().await;
  }
  let answer = closed(&mut stream).await;
  assert!(
    answer.ends_with(b"\r\n\r\nhi"),
    "{:?}",
    String::from_utf8_lossy(&answer)
  );
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_request_in_progress_is_not() {
  let server = start(
    10,
    Times {
      idle: SHORT,
      closing: SHORT,
      ..PATIENT
    },
  )
  .await;
  let mut streaming = server.connect().await;
  send(&mut streaming, b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n").await;
  let mut start = vec![0; 12];
  in_time(streaming.read_exact(&mut start))
    .await
    .expect("answers");
  let mut stream = server.answered().await;
  ask(&mut stream, "/").await;
  closed(&mut stream).await;
  let mut half = server.answered().await;
  send(&mut half, b"GET / HTTP/1.1\r\nHo").await;
  closed(&mut half).await;
  let mut rest = Vec::new();
  let more = tokio::time::timeout(SHORT * 4, streaming.read_to_end(&mut rest)).await;
  assert!(more.is_err(), "the stream was ended");
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_closed() {
  let server = start(
    10,
    Times {
      idle: SHORT,
      closing: SHORT,
      ..PATIENT
    },
  )
  .await;
  let io = TokioIo::new(server.connect().await);
  let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
  let (mut sender, connection) = connected.expect("speaks HTTP/2");
  let connection = tokio::spawn(connection);
  let request = Request::get("http://x/large").body(Body::empty());
  let response = sender.send_request(request.expect("a request")).await;
  let body = Body::new(response.expect("answers").into_body());
  let bytes = axum::body::to_bytes(body, usize::MAX)
    .await
    .expect("comes whole");
  assert_eq!(bytes.len(), 3 << 20);
  let ended = in_time(connection).await.expect("does not panic");
  ended.expect("in good order");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_and_a_slow_one_is_served() {
  let server = start(
    10,
    Times {
      write: SHORT,
      ..PATIENT
    },
  )
  .await;
  let mut stalled = server.connect().await;
  send(&mut stalled, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
  tokio::time::sleep(SHORT * 4).await;
  // What lies in the buffers of the system comes, and then the end.
  closed(&mut stalled).await;
  let mut slow = server.connect().await;
  send(
    &mut slow,
    b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
  )
  .await;
  let (mut read, mut part) = (0, vec![0; 512 << 10]);
  loop {
    let more = in_time(slow.read(&mut part)).await.expect("comes whole");
    if more == 0 {
      break;
    }
    read += more;
    tokio::time::sleep(SHORT / 20).await;
  }
  assert!(read > 3 << 20, "{read}");
}

#[tokio::test]
async fn a_stream_of_http2_that_nobody_reads_is_closed() {
  let server = start(
    10,
    Times {
      write: SHORT,
      ..PATIENT
    },
  )
  .await;
  let io = TokioIo::new(server.connect().await);
  let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
  let (mut sender, connection) = connected.expect("speaks HTTP/2");
  let connection = tokio::spawn(connection);
  let request = Request::get("http://x/endless").body(Body::empty());
  let _unread = sender.send_request(request.expect("a request")).await;
  let _ = in_time(connection).await.expect("does not panic");
}

#[tokio::test]
async fn where_all_places_are_taken_the_longest_idle_goes() {
  let server = start(
    2,
    Times {
      closing: SHORT,
      ..PATIENT
    },
  )
  .await;
  let mut first = server.connect().await;
  let mut second = server.answered().await;
  let mut third = server.answered().await;
  closed(&mut first).await;
  still_open(&mut second).await;
  let mut fourth = server.answered().await;
  closed(&mut second).await;
  for stream in [&mut third, &mut fourth] {
    send(stream, b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut start = vec![0; 12];
    in_time(stream.read_exact(&mut start))
      .await
      .expect("answers");
  }
  // Nobody is idle: who comes now is sent away.
  let mut fifth = server.connect().await;
  assert_eq!(closed(&mut fifth).await, b"");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_a_large_one_is_not() {
  let server = start(10, PATIENT).await;
  for (length, expected) in [(50 << 10, "200"), (100 << 10, "431")] {
    let mut stream = server.connect().await;
    let filler = "x".repeat(length);
    let head =
      format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nFiller: {filler}\r\n\r\n");
    // It may be closed before all is sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    in_time(stream.read_exact(&mut answer))
      .await
      .expect("answers");
    assert_eq!(
      String::from_utf8_lossy(&answer),
      format!("HTTP/1.1 {expected}")
    );
  }
}

#[tokio::test]
async fn a_server_that_stops_closes_who_waits_and_finishes_what_runs() {
  let server = start(10, PATIENT).await;
  let mut silent = server.connect().await;
  let mut half = server.connect().await;
  send(&mut half, b"PRI").await;
  let mut idle = server.answered().await;
  let mut running = server.connect().await;
  let head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nhal";
  send(&mut running, head).await;
  // Its head is there once it is answered in part: the next one on the same task sees it.
  tokio::time::sleep(SHORT).await;
  server.stop.send(()).expect("runs");
  for stream in [&mut silent, &mut half, &mut idle] {
    closed(stream).await;
  }
  send(&mut running, b"f").await;
  let answer = closed(&mut running).await;
  assert!(
    answer.ends_with(b"\r\n\r\nhalf"),
    "{:?}",
    String::from_utf8_lossy(&answer)
  );
  in_time(server.server).await.expect("ends");
}
