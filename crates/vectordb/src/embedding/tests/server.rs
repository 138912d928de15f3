//! A server on loopback that does with each request what a test says.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What a server does with a request.
pub(crate) enum Act {
  /// Answers with this status line and body.
  Answer(&'static str, String),
  /// Answers 429 or 503 and asks to wait so many seconds.
  Wait(&'static str, u32),
  /// Closes the connection without a word.
  HangUp,
  /// Says nothing and keeps the connection.
  Silence,
  /// Announces more than it sends.
  CutShort,
}

/// Ends with this value.
pub(crate) struct Server {
  pub url: String,
  requests: Arc<Mutex<Vec<Request>>>,
  task: JoinHandle<()>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
  pub head: String,
  pub body: Value,
}

impl Server {
  /// `act` is given the number of the request, from 0, and its body.
  pub(crate) async fn start(act: impl Fn(usize, &Value) -> Act + Send + Sync + 'static) -> Self {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let requests = Arc::<Mutex<Vec<Request>>>::default();
    let (seen, act) = (requests.clone(), Arc::new(act));
    let task = tokio::spawn(async move {
      while let Ok((stream, _)) = listener.accept().await {
        let (act, seen) = (act.clone(), seen.clone());
        tokio::spawn(async move { serve(stream, &*act, &seen).await });
      }
    });
    Self {
      url,
      requests,
      task,
    }
  }

  pub(crate) fn requests(&self) -> Vec<Request> {
    let requests = self.requests.lock();
    requests.unwrap_or_else(PoisonError::into_inner).clone()
  }
}

impl Drop for Server {
  fn drop(&mut self) {
    self.task.abort();
  }
}

/// The texts of a request.
pub(crate) fn inputs(body: &Value) -> Vec<String> {
  let texts = body["input"].as_array().expect("a list of texts").iter();
  texts
    .map(|text| text.as_str().expect("a text").to_owned())
    .collect()
}

/// What a good model of dimension 3 makes of a text.
pub(crate) fn vector_of(text: &str) -> [f32; 3] {
  let first = text.bytes().next().unwrap_or_default();
  [1.0, f32::from(first), text.len() as f32]
}

/// As Ollama answers.
pub(crate) fn ollama(body: &Value) -> Act {
  let vectors: Vec<_> = inputs(body).iter().map(|text| vector_of(text)).collect();
  Act::Answer("200 OK", json!({"embeddings": vectors}).to_string())
}

/// As OpenAI answers; last text first.
pub(crate) fn openai(body: &Value) -> Act {
  let texts = inputs(body).into_iter().enumerate();
  let items = texts.map(|(i, text)| json!({"index": i, "embedding": vector_of(&text)}));
  let items: Vec<_> = items.rev().collect();
  Act::Answer("200 OK", json!({"data": items}).to_string())
}

async fn serve(
  mut stream: TcpStream,
  act: &(dyn Fn(usize, &Value) -> Act + Send + Sync),
  seen: &Mutex<Vec<Request>>,
) {
  let mut buffer = Vec::new();
  let Some(request) = read(&mut stream, &mut buffer).await else {
    return;
  };
  let body = request.body.clone();
  let number = {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push(request);
    seen.len() - 1
  };
  let answer = match act(number, &body) {
    Act::Answer(status, body) => head(status, "", body.len()) + body.as_str(),
    Act::Wait(status, seconds) => head(status, &format!("retry-after: {seconds}\r\n"), 0),
    Act::HangUp => return,
    Act::CutShort => head("200 OK", "", 1000) + "{\"embeddings\": [[1",
    Act::Silence => {
      // Until the client leaves.
      let _ = stream.read(&mut [0; 1]).await;
      return;
    }
  };
  let _ = stream.write_all(answer.as_bytes()).await;
  let _ = stream.shutdown().await;
}

fn head(status: &str, more: &str, length: usize) -> String {
  format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n")
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
  loop {
    if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
      let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
      let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
      let length: usize = length.and_then(|n| n.parse().ok()).unwrap_or(0);
      if buffer.len() >= end + 4 + length {
        let body = serde_json::from_slice(&buffer[end + 4..]).unwrap_or_default();
        return Some(Request { head, body });
      }
    }
    if stream.read_buf(buffer).await.ok()? == 0 {
      return None;
    }
  }
}
