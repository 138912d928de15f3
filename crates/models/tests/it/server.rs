//! An endpoint that plays exact bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What the server does next on a connection. After the last step it closes it.
pub(crate) enum Step {
  Send(Vec<u8>),
  Wait(Duration),
  /// Waits until the client closes the connection.
  Hang,
  /// Sends the same bytes over and over, until the client closes the connection or that often.
  Repeat(Vec<u8>, usize),
}

#[derive(Clone)]
pub(crate) struct Request {
  pub(crate) head: String,
  pub(crate) body: Value,
  pub(crate) arrived: Instant,
}

#[derive(Default)]
struct Seen {
  requests: Vec<Request>,
  /// When clients closed connections while the server was not through.
  closed: Vec<Instant>,
}

pub(crate) struct Server {
  pub(crate) address: SocketAddr,
  seen: Arc<Mutex<Seen>>,
  task: JoinHandle<()>,
}

impl Server {
  /// `script` says what is answered to each request, by its number.
  pub(crate) async fn start(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::<Mutex<Seen>>::default();
    let script: Script = Arc::new(script);
    let task = tokio::spawn({
      let seen = seen.clone();
      async move {
        while let Ok((socket, _)) = listener.accept().await {
          tokio::spawn(serve(socket, seen.clone(), script.clone()));
        }
      }
    });
    Self {
      address,
      seen,
      task,
    }
  }

  /// A server that answers the same to every request.
  pub(crate) async fn always(script: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Self {
    Self::start(move |_| script()).await
  }

  pub(crate) fn url(&self) -> String {
    format!("http://{}/v1", self.address)
  }

  pub(crate) fn requests(&self) -> Vec<Request> {
    self.seen.lock().expect("no panic").requests.clone()
  }

  /// Waits for a client to close a connection, and says when that was.
  pub(crate) async fn closed(&self) -> Instant {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
      if let Some(closed) = self.seen.lock().expect("no panic").closed.first() {
        return *closed;
      }
      assert!(Instant::now() < until, "the connection was not closed");
      tokio::time::sleep(Duration::from_millis(1)).await;
    }
  }
}

impl Drop for Server {
  fn drop(&mut self) {
    self.task.abort();
  }
}

type Script = Arc<dyn Fn(usize) -> Vec<Step> + Send + Sync>;

fn serve(
  socket: TcpStream,
  seen: Arc<Mutex<Seen>>,
  script: Script,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
  Box::pin(async move {
    // A client that goes away is what some tests are about.
    let _ = talk(socket, &seen, &script).await;
  })
}

async fn talk(mut socket: TcpStream, seen: &Mutex<Seen>, script: &Script) -> std::io::Result<()> {
  socket.set_nodelay(true)?;
  let Some(request) = read_request(&mut socket).await? else {
    return Ok(());
  };
  let number = {
    let mut seen = seen.lock().expect("no panic");
    seen.requests.push(request);
    seen.requests.len() - 1
  };
  for step in script(number) {
    let done = match step {
      Step::Send(bytes) => socket.write_all(&bytes).await,
      Step::Wait(time) => {
        tokio::time::sleep(time).await;
        Ok(())
      }
      Step::Hang => {
        let mut buffer = [0; 64];
        while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        Err(std::io::ErrorKind::BrokenPipe.into())
      }
      Step::Repeat(bytes, times) => {
        let mut done = Ok(());
        for _ in 0..times {
          done = socket.write_all(&bytes).await;
          if done.is_err() {
            break;
          }
        }
        done
      }
    };
    if done.is_err() {
      seen.lock().expect("no panic").closed.push(Instant::now());
      return done;
    }
  }
  socket.shutdown().await?;
  // Closing with unread bytes would reset the connection, and what was sent with it.
  let mut buffer = [0; 1024];
  while socket.read(&mut buffer).await? > 0 {}
  Ok(())
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<Option<Request>> {
  let mut bytes = Vec::new();
  let mut buffer = vec![0; 64 << 10];
  loop {
    if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
      let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
      let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse::<usize>().expect("a length"));
      if bytes.len() >= end + 4 + length {
        let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default();
        return Ok(Some(Request {
          head,
          body,
          arrived: Instant::now(),
        }));
      }
    }
    let count = socket.read(&mut buffer).await?;
    if count == 0 {
      return Ok(None);
    }
    bytes.extend_from_slice(&buffer[..count]);
  }
}

const EVENT_STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

/// The head of a stream in chunks.
pub(crate) fn head() -> Step {
  Step::Send(format!("{EVENT_STREAM}transfer-encoding: chunked\r\n\r\n").into_bytes())
}

/// One chunk of a stream. The client reads each by itself, however the network cuts it.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Step {
  let bytes = bytes.as_ref();
  let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
  chunk.extend_from_slice(bytes);
  chunk.extend_from_slice(b"\r\n");
  Step::Send(chunk)
}

/// The end of a stream in chunks.
pub(crate) fn end() -> Step {
  Step::Send(b"0\r\n\r\n".to_vec())
}

/// A whole stream, in these chunks.
pub(crate) fn chunks<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Vec<Step> {
  let pieces = pieces.into_iter();
  // An empty chunk would be the end.
  let pieces = pieces.filter(|piece| !piece.as_ref().is_empty()).map(chunk);
  [head()].into_iter().chain(pieces).chain([end()]).collect()
}

/// A whole stream.
pub(crate) fn stream(body: impl AsRef<[u8]>) -> Vec<Step> {
  chunks([body])
}

/// A stream whose end is marked by nothing but the end of the connection.
pub(crate) fn unframed(body: &str) -> Vec<Step> {
  vec![Step::Send(format!("{EVENT_STREAM}\r\n{body}").into_bytes())]
}

/// An answer that is no stream.
pub(crate) fn status(status: &str, headers: &str, body: &str) -> Vec<Step> {
  vec![Step::Send(
    format!(
      "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
      body.len()
    )
    .into_bytes(),
  )]
}

/// Events with these data.
pub(crate) fn events<T: AsRef<str>>(data: impl IntoIterator<Item = T>) -> String {
  data
    .into_iter()
    .map(|data| format!("data: {}\n\n", data.as_ref()))
    .collect()
}

/// The data of an event with a piece of text.
pub(crate) fn text(content: &str) -> String {
  serde_json::json!({"choices": [{"index": 0, "delta": {"content": content}}]}).to_string()
}

pub(crate) const STOP: &str =
  r#"{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}"#;

/// A small stream that is as it should be.
pub(crate) fn hello() -> Vec<Step> {
  stream(events([&text("Hel"), &text("lo"), STOP, "[DONE]"]))
}
