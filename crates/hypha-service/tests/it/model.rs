//! A chat model that says what a test has written, in the wire format of Chat Completions.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::post;
use futures::StreamExt;
use futures::stream;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Notify;

/// What the model does when it is asked.
pub(crate) enum Turn {
  Says(&'static str),
  Refuses,
  /// Begins to answer, and never goes on.
  Hangs,
}

/// A server on loopback; it ends with the test's runtime.
pub(crate) struct Model {
  pub url: String,
  shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
  turns: Mutex<VecDeque<Turn>>,
  asked: Mutex<Vec<Value>>,
  hangs: Notify,
  given_up: Notify,
}

/// Tells that the other side has closed the connection in the middle of an answer.
struct Hanging(Arc<Shared>);

impl Drop for Hanging {
  fn drop(&mut self) {
    self.0.given_up.notify_one();
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
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Self {
      url: format!("http://{address}/v1"),
      shared,
    }
  }

  /// What users and agents have said in the newest request.
  pub(crate) fn told(&self) -> Vec<Value> {
    let asked = self.shared.asked.lock().expect("a lock");
    let messages = asked.last().and_then(|it| it["messages"].as_array());
    let messages = messages.into_iter().flatten();
    let said = messages.filter(|it| it["role"] != "system");
    said.map(|it| it["content"].clone()).collect()
  }

  /// Waits until an answer hangs.
  pub(crate) async fn hangs(&self) {
    in_time(&self.shared.hangs).await;
  }

  /// Waits until an answer that hangs is not waited for any more.
  pub(crate) async fn given_up(&self) {
    in_time(&self.shared.given_up).await;
  }
}

async fn in_time(notice: &Notify) {
  let noticed = tokio::time::timeout(Duration::from_secs(20), notice.notified());
  noticed.await.expect("in time");
}

async fn answer(State(shared): State<Arc<Shared>>, Json(request): Json<Value>) -> Response<Body> {
  shared.asked.lock().expect("a lock").push(request);
  let turn = shared.turns.lock().expect("a lock").pop_front();
  match turn.expect("the script has a turn for this request") {
    Turn::Says(text) => {
      let whole = [
        chunk(text, None),
        chunk("", Some("stop")),
        "data: [DONE]\n\n".into(),
      ];
      sse(Body::from(whole.concat()))
    }
    Turn::Refuses => Response::builder()
      .status(401)
      .body(Body::from(r#"{"error":{"message":"no such key"}}"#))
      .expect("a response"),
    Turn::Hangs => {
      shared.hangs.notify_one();
      let hanging = Hanging(shared);
      let begun = stream::iter([Ok::<_, Infallible>(chunk("<thoughts>", None))]);
      sse(Body::from_stream(begun.chain(stream::once(async move {
        let _hanging = hanging;
        std::future::pending().await
      }))))
    }
  }
}

fn chunk(text: &str, finish: Option<&str>) -> String {
  let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish});
  format!("data: {}\n\n", json!({ "choices": [choice] }))
}

fn sse(body: Body) -> Response<Body> {
  let response = Response::builder().header("content-type", "text/event-stream");
  response.body(body).expect("a response")
}
