//! A chat model that says what a test has written, in the true wire format.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Notify;

/// What the model does when it is asked.
#[derive(Clone)]
pub(crate) enum Turn {
  Says(String),
  /// Calls of tools: name, and arguments as JSON.
  Calls(Vec<(&'static str, Value)>),
  /// An answer without a stream.
  Refuses(u16, Value),
  /// Begins to answer, and never goes on.
  Hangs,
}

/// A server on loopback; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Model {
  pub url: String,
  shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
  turns: Mutex<VecDeque<Turn>>,
  /// What is said when there are no more turns.
  rest: Mutex<Option<Turn>>,
  asked: Mutex<Vec<Value>>,
  keys: Mutex<Vec<String>>,
  /// Requests whose answer hangs, and those whose connection was closed meanwhile.
  hanging: Mutex<(usize, usize)>,
  changed: Notify,
}

/// Counts a connection that is closed in the middle of an answer.
struct Hanging(Arc<Shared>);

impl Drop for Hanging {
  fn drop(&mut self) {
    self.0.hanging.lock().expect("a lock").1 += 1;
    self.0.changed.notify_waiters();
  }
}

impl Model {
  pub(crate) async fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
    let shared = Arc::new(Shared {
      turns: Mutex::new(turns.into_iter().collect()),
      ..Shared::default()
    });
    let router = Router::new()
      .route("/v1/chat/completions", post(answer))
      .with_state(shared.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
      .await
      .expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Self { url, shared }
  }

  /// Says this whenever nothing else is left to say.
  pub(crate) fn then_always(self, turn: Turn) -> Self {
    *self.shared.rest.lock().expect("a lock") = Some(turn);
    self
  }

  pub(crate) fn add(&self, turns: impl IntoIterator<Item = Turn>) {
    self.shared.turns.lock().expect("a lock").extend(turns);
  }

  /// The requests so far.
  pub(crate) fn asked(&self) -> Vec<Value> {
    self.shared.asked.lock().expect("a lock").clone()
  }

  /// The messages of the newest request.
  pub(crate) fn told(&self) -> Vec<Value> {
    let asked = self.asked();
    let messages = asked
      .last()
      .and_then(|it| it["messages"].as_array().cloned());
    messages.unwrap_or_default()
  }

  /// The text of the newest message that it was sent.
  pub(crate) fn told_last(&self) -> String {
    let last = self.told().pop().unwrap_or_default();
    last["content"].as_str().unwrap_or_default().to_owned()
  }

  pub(crate) fn keys(&self) -> Vec<String> {
    self.shared.keys.lock().expect("a lock").clone()
  }

  /// Waits until so many answers hang.
  pub(crate) async fn hangs(&self, count: usize) {
    self.until(|(began, _)| began >= count).await;
  }

  /// Waits until so many of them were given up by the other side.
  pub(crate) async fn given_up(&self, count: usize) {
    self.until(|(_, ended)| ended >= count).await;
  }

  async fn until(&self, reached: impl Fn((usize, usize)) -> bool) {
    let wait = async {
      loop {
        let changed = self.shared.changed.notified();
        if reached(*self.shared.hanging.lock().expect("a lock")) {
          return;
        }
        changed.await;
      }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
      .await
      .expect("in time");
  }

  pub(crate) fn settings(&self) -> Value {
    json!({"baseURL": self.url, "apiKey": "sk-test-secret", "model": "scripted", "temperature": 0.1})
  }
}

async fn answer(
  State(shared): State<Arc<Shared>>,
  headers: axum::http::HeaderMap,
  body: Bytes,
) -> Response<Body> {
  let request: Value = serde_json::from_slice(&body).expect("requests are JSON");
  let key = headers.get("authorization").and_then(|it| it.to_str().ok());
  shared
    .keys
    .lock()
    .expect("a lock")
    .push(key.unwrap_or_default().to_owned());
  shared.asked.lock().expect("a lock").push(request);
  let next = shared.turns.lock().expect("a lock").pop_front();
  let next = next.or_else(|| shared.rest.lock().expect("a lock").clone());
  let turn = next.expect("the script has a turn for this request");
  match turn {
    Turn::Refuses(status, body) => Response::builder()
      .status(StatusCode::from_u16(status).expect("a status"))
      .body(Body::from(body.to_string()))
      .expect("a response"),
    Turn::Says(text) => {
      // In pieces, as models write.
      let characters: Vec<char> = text.chars().collect();
      let pieces = characters
        .chunks(7)
        .map(|it| json!({"content": it.iter().collect::<String>()}));
      streamed(&pieces.collect::<Vec<_>>(), "stop")
    }
    Turn::Calls(calls) => {
      let deltas = calls
        .into_iter()
        .enumerate()
        .flat_map(|(index, (name, arguments))| {
          let text = arguments.to_string();
          let (head, tail) = text.split_at(text.len() / 2);
          let call = |function: Value, id: Option<String>| {
            let mut call = json!({"index": index, "type": "function", "function": function});
            if let Some(id) = id {
              call["id"] = id.into();
            }
            json!({ "tool_calls": [call] })
          };
          [
            call(
              json!({"name": name, "arguments": head}),
              Some(format!("call_{index}")),
            ),
            call(json!({"arguments": tail}), None),
          ]
        });
      streamed(&deltas.collect::<Vec<_>>(), "tool_calls")
    }
    Turn::Hangs => {
      shared.hanging.lock().expect("a lock").0 += 1;
      shared.changed.notify_waiters();
      let hanging = Hanging(shared);
      let first = chunk(&json!({"content": "<thoughts>"}), None);
      let parts = stream::iter([Ok::<_, std::io::Error>(first)]).chain(stream::once(async move {
        let _hanging = hanging;
        std::future::pending().await
      }));
      sse(Body::from_stream(parts))
    }
  }
}

fn streamed(deltas: &[Value], finish: &str) -> Response<Body> {
  let mut parts: Vec<Bytes> = deltas.iter().map(|delta| chunk(delta, None)).collect();
  parts.push(chunk(&json!({}), Some(finish)));
  let usage = json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5}});
  parts.push(format!("data: {usage}\n\n").into());
  parts.push(Bytes::from_static(b"data: [DONE]\n\n"));
  sse(Body::from_stream(stream::iter(
    parts.into_iter().map(Ok::<_, std::io::Error>),
  )))
}

fn chunk(delta: &Value, finish: Option<&str>) -> Bytes {
  let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
  format!("data: {}\n\n", json!({ "choices": [choice] })).into()
}

fn sse(body: Body) -> Response<Body> {
  let response = Response::builder().header("content-type", "text/event-stream");
  response.body(body).expect("a response")
}
