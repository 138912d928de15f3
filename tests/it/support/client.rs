//! A client of the HTTP API.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::json;

use super::App;
use super::Events;
use super::Lines;
use super::PATIENCE;
use super::Sse;
use super::unique;

#[derive(Clone)]
pub(crate) struct Client {
  http: reqwest::Client,
  port: u16,
  token: Option<String>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
  pub status: u16,
  pub headers: HeaderMap,
  pub text: String,
}

impl Answer {
  /// # Panics
  /// When the body is not JSON.
  pub(crate) fn json(&self) -> Value {
    serde_json::from_str(&self.text)
      .unwrap_or_else(|e| panic!("{} is not JSON ({e}): {}", self.status, self.text))
  }

  /// The message of an error answer.
  ///
  /// # Panics
  /// When the body is not exactly `{"error": text}`.
  pub(crate) fn error(&self) -> String {
    let body = self.json();
    assert_eq!(super::keys(&body), ["error"], "{body}");
    body["error"]
      .as_str()
      .expect("the error is a text")
      .to_owned()
  }

  pub(crate) fn header(&self, name: &str) -> Option<&str> {
    self.headers.get(name).and_then(|v| v.to_str().ok())
  }

  /// The JSON of a successful answer.
  ///
  /// # Panics
  /// When it was none.
  pub(crate) fn ok(&self) -> Value {
    assert_eq!(self.status, 200, "{}", self.text);
    self.json()
  }

  /// Checks that the request was refused with this status and a message that has these words.
  ///
  /// # Panics
  /// When it was not.
  #[track_caller]
  pub(crate) fn refused(&self, status: u16, words: &[&str]) {
    assert_eq!(self.status, status, "{}", self.text);
    let message = self.error();
    for word in words {
      assert!(message.contains(word), "`{word}` is missing in `{message}`");
    }
  }
}

impl Client {
  pub(crate) fn new(port: u16) -> Self {
    let http = reqwest::Client::builder()
      .timeout(PATIENCE * 2)
      .no_proxy()
      .build();
    Self {
      http: http.expect("a client can be made"),
      port,
      token: None,
    }
  }

  #[must_use]
  pub(crate) fn with_token(mut self, token: &str) -> Self {
    self.token = Some(token.to_owned());
    self
  }

  pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
    let request = self
      .http
      .request(method, format!("http://127.0.0.1:{}{path}", self.port));
    match &self.token {
      Some(token) => request.bearer_auth(token),
      None => request,
    }
  }

  /// Sends a request and waits for the head of the answer.
  ///
  /// # Panics
  /// When the server does not answer.
  pub(crate) async fn send(&self, request: RequestBuilder) -> reqwest::Response {
    request.send().await.expect("the server answers")
  }

  /// Sends a request and reads the answer.
  pub(crate) async fn read(&self, request: RequestBuilder) -> Answer {
    let response = self.send(request).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer {
      status,
      headers,
      text: response.text().await.expect("the answer is complete"),
    }
  }

  pub(crate) async fn get(&self, path: &str) -> Answer {
    self.read(self.request(Method::GET, path)).await
  }

  pub(crate) async fn delete(&self, path: &str) -> Answer {
    self.read(self.request(Method::DELETE, path)).await
  }

  pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
    self.read(self.request(Method::POST, path).json(body)).await
  }

  pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
    self.read(self.request(Method::PUT, path).json(body)).await
  }

  /// Posts a body as it is.
  pub(crate) async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    self.read(self.request(Method::POST, path).body(body)).await
  }

  /// Posts nothing.
  pub(crate) async fn post_empty(&self, path: &str) -> Answer {
    self.read(self.request(Method::POST, path)).await
  }

  /// Deletes what may exist, waiting for the answer without a runtime; for what is dropped.
  pub(crate) fn delete_now(&self, path: &str) {
    let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) else {
      return;
    };
    let _ = connection.set_read_timeout(Some(PATIENCE));
    let authorization = self
      .token
      .as_ref()
      .map(|t| format!("Authorization: Bearer {t}\r\n"));
    let head = format!(
      "DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n",
      authorization.unwrap_or_default()
    );
    let _ = connection.write_all(head.as_bytes());
    let _ = connection.read_to_end(&mut Vec::new());
  }

  pub(crate) async fn list(&self, query: &str) -> Vec<Value> {
    let list = self.get(&format!("/api/kernels{query}")).await.ok();
    list.as_array().expect("a list").clone()
  }

  /// Asks for a kernel, which may be refused.
  pub(crate) async fn try_create(&self, body: &Value) -> Answer {
    self.post("/api/kernels", body).await
  }

  /// Makes a kernel; a TypeScript one with an id of its own unless the body says otherwise.
  ///
  /// # Panics
  /// When it is refused.
  pub(crate) async fn create(&self, mut body: Value) -> Kernel {
    let fields = body.as_object_mut().expect("an object");
    fields.entry("id").or_insert_with(|| json!(unique("k")));
    fields.entry("lang").or_insert_with(|| json!("typescript"));
    let created = self.try_create(&body).await.ok();
    let id = created["id"]
      .as_str()
      .expect("kernels have an id")
      .to_owned();
    Kernel {
      client: self.clone(),
      id,
      created,
    }
  }

  /// Asks for an app, which may be refused.
  pub(crate) async fn try_post_app(&self, manifest: &Value) -> Answer {
    self.post("/api/apps", manifest).await
  }

  /// Posts an app; a TypeScript one with an id of its own unless the manifest says otherwise.
  ///
  /// # Panics
  /// When it is refused.
  pub(crate) async fn post_app(&self, mut manifest: Value) -> App {
    let fields = manifest.as_object_mut().expect("an object");
    fields.entry("id").or_insert_with(|| json!(unique("app")));
    fields.entry("lang").or_insert_with(|| json!("typescript"));
    let answer = self.try_post_app(&manifest).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let created = answer.json();
    let id = created["id"].as_str().expect("apps have an id");
    App::posted(self.clone(), id, created.clone())
  }

  /// The app of that id, which is somebody else's.
  pub(crate) fn app(&self, id: &str) -> App {
    App::known(self.clone(), id)
  }

  /// What the server says of every app.
  pub(crate) async fn apps(&self) -> Vec<Value> {
    let list = self.get("/api/apps").await.ok();
    list.as_array().expect("a list").clone()
  }

  pub(crate) async fn typescript(&self) -> Kernel {
    self.create(json!({})).await
  }

  /// Follows what happens to kernels.
  pub(crate) async fn events(&self) -> Sse {
    let response = self.send(self.request(Method::GET, "/api/events")).await;
    assert_eq!(response.status(), 200);
    let mut events = Sse::new(response);
    // The first comment says that nothing is missed from here on.
    events.block().await.expect("the stream is open");
    events
  }
}

/// A kernel that lives as long as this value.
pub(crate) struct Kernel {
  pub client: Client,
  pub id: String,
  /// What creation answered.
  pub created: Value,
}

impl Kernel {
  pub(crate) fn path(&self, rest: &str) -> String {
    format!("/api/kernels/{}{rest}", self.id)
  }

  /// The same kernel for another client, which does not delete it.
  pub(crate) async fn post(&self, rest: &str, body: &Value) -> Answer {
    self.client.post(&self.path(rest), body).await
  }

  /// Runs a cell and returns its events, once the framing around them is checked.
  ///
  /// # Panics
  /// When the framing is wrong.
  pub(crate) async fn execute(&self, code: &str) -> Events {
    let mut lines = self.stream(code).await.rest().await;
    let end = lines.pop().expect("a last line");
    assert_eq!(
      end,
      json!({"type": "stream_complete", "data": {"message": "Execution completed", "outputCount": lines.len() - 1}})
    );
    let start = lines.remove(0);
    assert_eq!(
      start,
      json!({"type": "stream_start", "data": {"message": "Execution started"}})
    );
    Events(lines)
  }

  /// Runs a cell and returns its lines as they come.
  pub(crate) async fn stream(&self, code: &str) -> Lines {
    let request = self.client.request(Method::POST, &self.path("/execute"));
    let response = self
      .client
      .send(request.json(&json!({ "code": code })))
      .await;
    let status = response.status();
    assert!(
      status == 200,
      "{status}: {}",
      response.text().await.unwrap_or_default()
    );
    Lines::new(response)
  }

  /// Runs a cell and returns its server-sent events as they come.
  pub(crate) async fn sse(&self, code: &str) -> Sse {
    let request = self
      .client
      .request(Method::POST, &self.path("/execute/stream"));
    let response = self
      .client
      .send(request.json(&json!({ "code": code })))
      .await;
    assert_eq!(response.status(), 200);
    Sse::new(response)
  }

  /// Follows a session's server-sent events.
  pub(crate) async fn follow(&self, session: &str, last_event_id: Option<u64>) -> Sse {
    let path = self.path(&format!("/execute/stream/{session}"));
    let mut request = self.client.request(Method::GET, &path);
    if let Some(last) = last_event_id {
      request = request.header("Last-Event-ID", last);
    }
    let response = self.client.send(request).await;
    assert_eq!(response.status(), 200);
    Sse::new(response)
  }

  /// Queues a cell and returns its session.
  pub(crate) async fn submit(&self, code: &str) -> String {
    let body = self
      .post("/execute/submit", &json!({ "code": code }))
      .await
      .ok();
    assert_eq!(super::keys(&body), ["session_id"]);
    body["session_id"].as_str().expect("a session").to_owned()
  }

  /// Queues a cell and waits until it prints that it runs: it must write `running\n` first.
  pub(crate) async fn submit_running(&self, code: &str) -> String {
    let session = self.submit(code).await;
    let mut events = self.follow(&session, None).await;
    let first = events.event().await.expect("the cell says that it runs");
    assert_eq!(first["data"]["text"], "running\n", "{first}");
    session
  }

  /// Waits for a session's end and returns its events.
  pub(crate) async fn result(&self, session: &str) -> Events {
    let body = self
      .client
      .get(&self.path(&format!("/execute/result/{session}")))
      .await
      .ok();
    Events(body.as_array().expect("an array").clone())
  }

  /// Interrupts what runs; says whether state was lost.
  pub(crate) async fn interrupt(&self) -> Answer {
    self.client.post_empty(&self.path("/interrupt")).await
  }

  pub(crate) async fn restart(&self) -> Answer {
    self.client.post_empty(&self.path("/restart")).await
  }

  pub(crate) async fn info(&self) -> Value {
    self.client.get(&self.path("/info")).await.ok()
  }

  pub(crate) async fn status(&self) -> String {
    self.info().await["status"]
      .as_str()
      .expect("a status")
      .to_owned()
  }

  pub(crate) async fn delete(&self) -> Answer {
    self.client.delete(&self.path("")).await
  }

  /// Runs a cell that must have this result.
  ///
  /// # Panics
  /// When it has another, or none.
  pub(crate) async fn gives(&self, code: &str, expected: &str) {
    let events = self.execute(code).await;
    assert_eq!(events.result(), Some(expected), "{code}: {events:?}");
  }

  /// The process it runs in.
  pub(crate) async fn pid(&self) -> u32 {
    self
      .execute("Deno.pid")
      .await
      .result()
      .and_then(|p| p.parse().ok())
      .expect("a process id")
  }
}

impl Drop for Kernel {
  fn drop(&mut self) {
    self.client.delete_now(&self.path(""));
  }
}
