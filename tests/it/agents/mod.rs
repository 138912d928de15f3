//! Agents over HTTP, with a model that says what the test has written.

mod bad_input;
mod chats;
mod lasting;
mod lives;
pub(crate) mod model;
mod real_model;
mod tools;

use std::sync::LazyLock;

use serde_json::Value;
use serde_json::json;

use self::model::Model;
use self::model::Turn;
use crate::support::Client;
use crate::support::Server;
use crate::support::Sse;

/// A server for the tests that need no settings of their own.
fn server() -> &'static Server {
  static SERVER: LazyLock<Server> = LazyLock::new(|| Server::builder().start());
  &SERVER
}

fn says(text: &str) -> Turn {
  Turn::Says(text.to_owned())
}

pub(crate) fn script(tag: &str, code: &str) -> Turn {
  says(&format!(
    "<thoughts>try</thoughts>\n<{tag} id=\"a\">{code}</{tag}>"
  ))
}

pub(crate) fn answers(text: &str) -> Turn {
  says(&format!("<returnToUser commit=\"a\">{text}</returnToUser>"))
}

/// An agent that asks `model`.
struct Agent {
  client: Client,
  id: String,
  /// What the server answered when it was made.
  created: Value,
}

impl Agent {
  async fn new(client: Client, model: &Model, mut body: Value) -> Self {
    body["ModelSettings"] = model.settings();
    let created = client.post("/api/agents", &body).await.ok();
    let id = created["id"].as_str().expect("an id").to_owned();
    Self {
      client,
      id,
      created,
    }
  }

  /// With a TypeScript kernel.
  async fn typescript(model: &Model) -> Self {
    let body = json!({"kernelType": "TYPESCRIPT", "autoAttachKernel": true});
    Self::new(server().client(), model, body).await
  }

  fn path(&self, rest: &str) -> String {
    format!("/api/agents/{}{rest}", self.id.replace(':', "%3A"))
  }

  async fn info(&self) -> Value {
    self.client.get(&self.path("")).await.ok()
  }

  /// Begins a chat; the id of its run, and its events.
  async fn begin(&self, body: &Value) -> (String, Sse) {
    self.stream("/chat", body).await
  }

  async fn stream(&self, rest: &str, body: &Value) -> (String, Sse) {
    let request = self
      .client
      .request(reqwest::Method::POST, &self.path(rest))
      .json(body);
    let response = self.client.send(request).await;
    assert_eq!(response.status(), 200, "{:?}", response.text().await);
    let run = response.headers()["x-run-id"]
      .to_str()
      .expect("text")
      .to_owned();
    (run, Sse::new(response))
  }

  /// A chat from its beginning to its end.
  async fn chat(&self, message: &str) -> Vec<Value> {
    let (_, events) = self.begin(&json!({ "message": message })).await;
    events.rest().await
  }

  async fn conversation(&self) -> Vec<(String, String)> {
    let answer = self.client.get(&self.path("/conversation")).await.ok();
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let messages = answer["messages"].as_array().expect("messages");
    messages
      .iter()
      .map(|it| (text(it, "role"), text(it, "content")))
      .collect()
  }

  async fn run(&self, run: &str) -> Value {
    self
      .client
      .get(&self.path(&format!("/runs/{run}")))
      .await
      .ok()
  }

  async fn kernels(&self) -> usize {
    self.client.list("").await.len()
  }
}

/// The types of events, without pieces of text.
fn types(events: &[Value]) -> Vec<&str> {
  let types = events.iter().filter_map(|event| event["type"].as_str());
  types.filter(|kind| *kind != "text_chunk").collect()
}

/// The one event of a type.
fn only<'a>(events: &'a [Value], kind: &str) -> &'a Value {
  let found: Vec<&Value> = events
    .iter()
    .filter(|event| event["type"] == kind)
    .collect();
  assert_eq!(found.len(), 1, "{kind}: {events:?}");
  found[0]
}
