//! The vector database over HTTP.

mod bad_input;
mod documents;
mod exchange;
mod lifecycle;
mod providers;
mod queries;
mod tokens;

use std::sync::LazyLock;

use serde_json::Value;
use serde_json::json;

use crate::support::Answer;
use crate::support::Client;
use crate::support::Server;
use crate::support::unique;

/// A server for every test that makes its own indices and needs no settings.
fn server() -> &'static Server {
  static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::builder()
      .env("MAX_VECTOR_DB_INSTANCES", "1000")
      .start()
  });
  &SERVER
}

/// An index of that server, removed with it.
struct Index {
  client: Client,
  id: String,
}

impl Index {
  async fn new() -> Self {
    Self::of(&server().client(), json!({})).await
  }

  async fn of(client: &Client, mut body: Value) -> Self {
    if body.get("id").is_none() {
      body["id"] = json!(unique("index"));
    }
    let created = client.post("/api/vectordb/indices", &body).await.ok();
    Self {
      client: client.clone(),
      id: created["id"].as_str().expect("an id").to_owned(),
    }
  }

  fn path(&self, rest: &str) -> String {
    format!("/api/vectordb/indices/{}{rest}", self.id)
  }

  async fn post(&self, rest: &str, body: &Value) -> Answer {
    self.client.post(&self.path(rest), body).await
  }

  async fn get(&self, rest: &str) -> Answer {
    self.client.get(&self.path(rest)).await
  }

  async fn add(&self, documents: &Value) -> Answer {
    self
      .post("/documents", &json!({ "documents": documents }))
      .await
  }

  async fn remove(&self, body: &Value) -> Answer {
    let path = self.path("/documents");
    let request = self.client.request(reqwest::Method::DELETE, &path);
    self.client.read(request.body(body.to_string())).await
  }

  /// The ids that a query finds, best first.
  async fn finds(&self, query: &Value) -> Vec<String> {
    let found = self.post("/query", query).await.ok();
    ids(&found["results"])
  }
}

fn ids(list: &Value) -> Vec<String> {
  let items = list.as_array().expect("a list").iter();
  items
    .map(|item| item["id"].as_str().expect("an id").to_owned())
    .collect()
}

/// Three documents with vectors of two numbers.
fn compass() -> Value {
  json!([
    {"id": "east", "vector": [1, 0], "text": "where the sun rises", "metadata": {"n": 1, "kind": "side"}},
    {"id": "north", "vector": [0, 1], "text": "where it is cold", "metadata": {"n": 2, "kind": "side"}},
    {"id": "west", "vector": [-1, 0], "text": "where the sun sets", "metadata": {"n": 3, "kind": "end", "far": true}},
  ])
}
