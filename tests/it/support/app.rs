//! One app, as its users and its operator see it.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::Client;
use super::Events;
use super::LogLines;
use super::PATIENCE;
use super::client::Answer;
use super::streams::Lines;

/// An app; one that was posted lives as long as this value.
pub(crate) struct App {
  pub client: Client,
  pub id: String,
  /// What posting it answered; else nothing.
  pub created: Value,
  delete: bool,
}

impl App {
  pub(super) fn posted(client: Client, id: &str, created: Value) -> Self {
    Self {
      client,
      id: id.to_owned(),
      created,
      delete: true,
    }
  }

  pub(super) fn known(client: Client, id: &str) -> Self {
    Self {
      client,
      id: id.to_owned(),
      created: Value::Null,
      delete: false,
    }
  }

  /// Lets it outlive this value.
  #[must_use]
  pub(crate) fn kept(mut self) -> Self {
    self.delete = false;
    self
  }

  // ------------------------------------------------------------ as its users see it

  /// The address of a path in the app, which begins with a slash.
  pub(crate) fn path(&self, rest: &str) -> String {
    format!("/apps/{}{rest}", self.id)
  }

  /// What `GET` of a path answers, once the app is ready.
  pub(crate) async fn get(&self, rest: &str) -> Answer {
    self.ready().await;
    self.client.get(&self.path(rest)).await
  }

  /// Checks what `GET /` answers, once the app is ready.
  ///
  /// # Panics
  /// When it is something else.
  #[track_caller]
  pub(crate) fn answers(&self, text: &str) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
      let answer = self.get("/").await;
      assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, text),
        "{caller}"
      );
    }
  }

  // ------------------------------------------------------------ as its operator sees it

  /// The address of the app in the API.
  pub(crate) fn api(&self, rest: &str) -> String {
    format!("/api/apps/{}{rest}", self.id)
  }

  pub(crate) async fn info(&self) -> Value {
    self.client.get(&self.api("")).await.ok()
  }

  pub(crate) async fn pid(&self) -> u32 {
    let pid = self.info().await["pid"].as_u64();
    u32::try_from(pid.expect("has a process")).expect("a process id")
  }

  /// Waits until what the API tells of it is as wanted, and returns that. An app of a folder may be
  /// unknown at first: the server listens before it has read the folder.
  ///
  /// # Panics
  /// When it does not become so.
  pub(crate) async fn shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut info = Value::Null;
    let waited = async {
      loop {
        let answer = self.client.get(&self.api("")).await;
        if answer.status == 200 {
          info = answer.json();
        }
        if !info.is_null() && wanted(&info) {
          break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
      }
    };
    if tokio::time::timeout(PATIENCE, waited).await.is_err() {
      let log = self.client.get(&self.api("/logs?lines=20")).await.text;
      panic!("app {} never {what}: {info}\n{log}", self.id);
    }
    info
  }

  /// Waits until it has this status.
  pub(crate) async fn becomes(&self, status: &str) -> Value {
    self
      .shows(&format!("became {status}"), |info| info["status"] == status)
      .await
  }

  /// Waits until it listens.
  pub(crate) async fn ready(&self) -> Value {
    self
      .shows("became ready", |info| info["ready"] == true)
      .await
  }

  /// Posts nothing to one of its addresses in the API.
  pub(crate) async fn order(&self, rest: &str) -> Answer {
    self.client.post_empty(&self.api(rest)).await
  }

  pub(crate) async fn stop(&self) -> Value {
    self.order("/stop").await.ok()
  }

  pub(crate) async fn start(&self) -> Value {
    self.order("/start").await.ok()
  }

  pub(crate) async fn reload(&self) -> Answer {
    self.order("/reload").await
  }

  pub(crate) async fn put(&self, manifest: &Value) -> Answer {
    self.client.put(&self.api(""), manifest).await
  }

  pub(crate) async fn delete(&self) -> Answer {
    self.client.delete(&self.api("")).await
  }

  // ------------------------------------------------------------ its log

  /// Entries of the log, as a query asks for them.
  pub(crate) async fn logs(&self, query: &str) -> Vec<Value> {
    let log = self.client.get(&self.api(&format!("/logs{query}"))).await;
    log.ok().as_array().expect("an array").clone()
  }

  /// All that is kept of the lines of a stream.
  pub(crate) async fn lines(&self, stream: &str) -> Vec<String> {
    let log = self.logs("?lines=10000").await.into_iter();
    log
      .filter(|entry| entry["stream"] == stream)
      .filter_map(|entry| entry["text"].as_str().map(str::to_owned))
      .collect()
  }

  /// Follows the log from the entry after a number, else from its first.
  pub(crate) async fn follow(&self, last: Option<u64>) -> LogLines {
    self.shows("was known", |_| true).await;
    let mut request = self.client.request(Method::GET, &self.api("/logs/stream"));
    if let Some(last) = last {
      request = request.header("Last-Event-ID", last);
    }
    let response = self.client.send(request).await;
    assert_eq!(response.status(), 200);
    LogLines::new(response)
  }

  /// Waits until its log has a line with these words.
  pub(crate) async fn says(&self, words: &str) -> Value {
    self.follow(None).await.until(words).await
  }

  // ------------------------------------------------------------ code in it

  /// Executes code in its process.
  pub(crate) async fn execute(&self, code: &str) -> Events {
    let request = self
      .client
      .request(Method::POST, &self.api("/execute"))
      .json(&json!({ "code": code }));
    let response = self.client.send(request).await;
    assert_eq!(response.status(), 200);
    let mut lines = Lines::new(response).rest().await;
    let end = lines.pop().expect("a last line");
    assert_eq!(end["type"], "stream_complete");
    let start = lines.remove(0);
    assert_eq!(start["type"], "stream_start");
    Events(lines)
  }

  /// Executes code that must have this result.
  ///
  /// # Panics
  /// When it has another, or none.
  pub(crate) async fn gives(&self, code: &str, expected: &str) {
    let events = self.execute(code).await;
    assert_eq!(events.result(), Some(expected), "{code}: {events:?}");
  }
}

impl Drop for App {
  fn drop(&mut self) {
    if self.delete {
      self.client.delete_now(&self.api(""));
    }
  }
}
