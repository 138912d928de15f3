//! The apps of `examples/apps` run and answer as they say.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use testing::deno_dir;

use super::Folder;
use super::copy;
use super::in_project;
use crate::support::Frame;
use crate::support::Server;
use crate::support::ServerBuilder;
use crate::support::Sources;
use crate::support::WebSocket;
use crate::support::eventually;
use crate::support::in_time;

const STD: &str = "https://deno.land/std@0.208.0/";

/// One example alone, in a folder that a test may change.
fn example(name: &str) -> Folder {
  let folder = Folder::new();
  copy(
    &in_project("examples/apps").join(name),
    &folder.path().join(name),
  );
  folder
}

/// Changes the environment of an example.
fn set_env(folder: &Folder, name: &str, variable: &str, value: &str) {
  let file = format!("{name}/app.json");
  let text = std::fs::read_to_string(folder.path().join(&file)).expect("can be read");
  let mut manifest: Value = serde_json::from_str(&text).expect("is JSON");
  assert!(manifest["env"][variable].is_string(), "{manifest}");
  manifest["env"][variable] = json!(value);
  folder.write(&file, manifest.to_string());
}

#[tokio::test]
async fn every_example_is_an_app_with_a_name_and_a_description() {
  // The apps are listed whether they come up here or not.
  let server = Server::builder()
    .env("APPS_DIR", in_project("examples/apps"))
    .env("DENO_CACHED_ONLY", "true")
    .start();
  let client = server.client();
  eventually("all are listed", || async {
    client.apps().await.len() == 5
  })
  .await;
  let list = client.apps().await;
  let ids: Vec<_> = list.iter().filter_map(|app| app["id"].as_str()).collect();
  assert_eq!(
    ids,
    [
      "chat",
      "hono-api",
      "python-report",
      "readme-server",
      "scheduled-job"
    ]
  );
  for app in &list {
    assert_eq!(app["source"], "folder", "{app}");
    assert!(
      app["name"].is_string() && app["description"].is_string(),
      "{app}"
    );
    assert_eq!(app["version"], "1.0.0");
  }
}

#[tokio::test]
async fn the_chat_tells_everybody_in_a_room() {
  let folder = example("chat");
  let server = folder.server().start();
  let app = server.client().app("chat");
  let page = app.get("/").await;
  assert_eq!(page.status, 200);
  assert!(page.text.contains("<title>Chat</title>"));
  assert_eq!(
    page.header("content-type"),
    Some("text/html; charset=utf-8")
  );
  assert_eq!(app.get("/ws").await.status, 426);
  let open = |room: &'static str, name: &'static str| {
    let path = app.path(&format!("/ws?room={room}&name={name}"));
    let port = server.port();
    async move { WebSocket::open(port, &path, "").await.expect("is opened") }
  };
  let mut ada = open("lobby", "Ada").await;
  assert_eq!(
    ada.json().await,
    json!({"type": "joined", "name": "Ada", "people": ["Ada"]})
  );
  let mut bob = open("lobby", "Bob").await;
  let joined = json!({"type": "joined", "name": "Bob", "people": ["Ada", "Bob"]});
  assert_eq!(
    (ada.json().await, bob.json().await),
    (joined.clone(), joined)
  );
  let mut eve = open("elsewhere", "Eve").await;
  assert_eq!(eve.json().await["people"], json!(["Eve"]));
  bob.say("hello, grüße").await;
  let message = json!({"type": "message", "name": "Bob", "text": "hello, grüße"});
  assert_eq!(
    (ada.json().await, bob.json().await),
    (message.clone(), message)
  );
  bob.say(&"x".repeat(2_001)).await;
  assert!(matches!(bob.frame().await, Frame::Close { code: 1009, .. }));
  drop(bob);
  assert_eq!(
    ada.json().await,
    json!({"type": "left", "name": "Bob", "people": ["Ada"]})
  );
  eve.say("alone").await;
  assert_eq!(eve.json().await["text"], "alone");
  let refused = WebSocket::open(server.port(), &app.path("/ws"), "").await;
  assert!(
    refused
      .err()
      .is_some_and(|head| head.starts_with("HTTP/1.1 400"))
  );
}

#[tokio::test]
async fn the_notes_are_kept_and_their_changes_told() {
  let sources = Sources::start();
  let folder = example("hono-api");
  let server = folder
    .server()
    .env("NPM_CONFIG_REGISTRY", sources.npm.url())
    .start();
  let app = server.client().app("hono-api");
  assert_eq!(app.get("/notes").await.ok(), json!([]));
  let mut events = app
    .client
    .send(app.client.request(Method::GET, &app.path("/events")))
    .await;
  let mut seen = String::new();
  let mut until = async |words: &str| {
    while !seen.contains(words) {
      let part = in_time("an event", events.chunk()).await;
      let part = part.expect("goes on").expect("does not end");
      seen.push_str(&String::from_utf8_lossy(&part));
    }
  };
  until("event: ping").await;
  let milk = json!({"title": " Milk ", "text": "2 l"});
  let answer = app.client.post(&app.path("/notes"), &milk).await;
  assert_eq!(answer.status, 201, "{}", answer.text);
  let note = answer.json();
  assert_eq!(
    (&note["id"], &note["title"], &note["text"]),
    (&json!(1), &json!("Milk"), &json!("2 l"))
  );
  until("event: created").await;
  assert_eq!(
    app.client.get(&app.path("/notes")).await.ok(),
    json!([note])
  );
  assert_eq!(app.client.get(&app.path("/notes/1")).await.ok(), note);
  for (body, words) in [
    (json!({"title": ""}), "empty"),
    (json!({"title": 1}), "string"),
    (json!([]), "title"),
    (json!("text"), "object"),
  ] {
    app
      .client
      .post(&app.path("/notes"), &body)
      .await
      .refused(400, &[words]);
  }
  assert_eq!(app.client.delete(&app.path("/notes/1")).await.status, 204);
  until("event: deleted").await;
  app
    .client
    .get(&app.path("/notes/1"))
    .await
    .refused(404, &["no such note"]);
  app
    .client
    .get(&app.path("/nowhere"))
    .await
    .refused(404, &["GET /nowhere"]);
}

#[tokio::test]
async fn the_report_answers_to_code_that_is_executed_in_it() {
  let folder = example("python-report");
  set_env(&folder, "python-report", "REPORT_INTERVAL_S", "0.05");
  let server = folder.server().start();
  let app = server.client().app("python-report");
  app.says("batch 2: pi is about 3.1").await;
  app
    .gives(
      "r = report(); r['running'], 3.1 < r['pi'] < 3.2, r['batches'] >= 2",
      "(True, True, True)",
    )
    .await;
  app
    .gives(
      "stop(); await asyncio.sleep(0); report()['running']",
      "False",
    )
    .await;
  assert_eq!(app.info().await["restarts"], 0);
}

fn readme_server(folder: &Folder, data: &TempDir) -> ServerBuilder {
  let server = std::fs::read_to_string(in_project("tests/std-0.208.0/http/server.ts"));
  let server = server.expect("can be read");
  deno_dir::fill_typescript(
    &data.path().join("deno"),
    &format!("{STD}http/server.ts"),
    &server,
  );
  for (name, text) in std_modules() {
    deno_dir::fill_typescript(&data.path().join("deno"), &format!("{STD}{name}"), &text);
  }
  folder
    .server()
    .data_dir(data.path())
    .env("DENO_CACHED_ONLY", "true")
}

/// The other modules of the standard library that are kept for tests.
fn std_modules() -> Vec<(String, String)> {
  let root = in_project("tests/std-0.208.0");
  let mut folders = vec![root.clone()];
  let mut modules = Vec::new();
  while let Some(folder) = folders.pop() {
    for entry in std::fs::read_dir(folder).expect("can be listed") {
      let path = entry.expect("can be listed").path();
      if path.is_dir() {
        folders.push(path);
      } else if path.extension().is_some_and(|extension| extension == "ts") {
        let name = path
          .strip_prefix(&root)
          .expect("lies in it")
          .to_string_lossy();
        let text = std::fs::read_to_string(&path).expect("can be read");
        modules.push((name.into_owned(), text));
      }
    }
  }
  modules
}

#[tokio::test]
async fn the_server_of_the_readme_answers() {
  let folder = example("readme-server");
  let data = TempDir::new().expect("a temporary directory");
  let server = readme_server(&folder, &data).start();
  let app = server.client().app("readme-server");
  app.answers("Hello from a Deno app!").await;
  let status = app.get("/api/status").await.ok();
  assert_eq!(status["status"], "running");
  assert!(status["uptime_s"].is_number(), "{status}");
  assert_eq!(app.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn the_scheduled_job_runs_at_its_interval_and_stops_cleanly() {
  let folder = example("scheduled-job");
  set_env(&folder, "scheduled-job", "JOB_INTERVAL_MS", "50");
  let server = folder.server().start();
  let app = server.client().app("scheduled-job");
  let answer = app.get("/").await.ok();
  assert_eq!(answer["intervalMs"], 50);
  let mut log = app.follow(None).await;
  for _ in 0..3 {
    log.until("MB in use").await;
  }
  let answer = app.get("/").await.ok();
  let results = answer["results"].as_array().expect("an array");
  assert!(results.len() >= 2, "{answer}");
  assert!(results[0]["heapMb"].as_u64() > Some(0), "{answer}");
  app.stop().await;
  assert!(
    app
      .lines("stdout")
      .await
      .ends_with(&["stopping".to_owned(), "stopped".to_owned()])
  );
  set_env(&folder, "scheduled-job", "JOB_LIMIT_MB", "1");
  tokio::time::timeout(Duration::from_secs(60), app.reload())
    .await
    .expect("is quick")
    .ok();
  app.says("failed: ").await;
  assert_eq!(app.get("/").await.status, 200);
}
