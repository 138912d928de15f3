//! Closing, opening, deleting, and what outlasts the server.

use std::path::Path;
use std::path::PathBuf;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use super::Index;
use super::compass;
use super::ids;
use crate::support::Server;
use crate::support::eventually;

#[tokio::test]
async fn an_off_loaded_index_is_listed_and_opened_when_it_is_used() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let done = index.post("/offload", &json!({})).await.ok();
  assert_eq!(done["message"], "Vector index offloaded successfully");
  index.get("/info").await.refused(404, &["not found"]);
  let list = index.client.get("/api/vectordb/offloaded").await.ok();
  let listed = list["indices"]
    .as_array()
    .and_then(|list| list.iter().find(|item| item["id"] == index.id.as_str()));
  assert_eq!(listed.expect("is listed")["documentCount"], 3);
  let query = json!({"query": [1, 0], "k": 1});
  assert_eq!(index.finds(&query).await, ["east"]);
  assert_eq!(index.get("/info").await.ok()["isFromOffload"], true);
}

#[tokio::test]
async fn an_index_on_disk_is_not_made_again_but_resumed() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let name = index.id.split_once(':').expect("a namespace").1.to_owned();
  let path = "/api/vectordb/indices";
  let again = index.client.post(path, &json!({"id": name})).await;
  again.refused(409, &["already exists"]);
  index.post("/offload", &json!({})).await.ok();
  let again = index.client.post(path, &json!({"id": name})).await;
  again.refused(409, &["resume=true"]);
  let resumed = json!({"id": name, "resume": true});
  let resumed = index.client.post(path, &resumed).await.ok();
  assert_eq!(resumed["documentCount"], 3);
  let none = json!({"id": "no such index", "resume": true});
  let none = index.client.post(path, &none).await;
  none.refused(404, &["Cannot resume", "does not exist"]);
}

#[tokio::test]
async fn a_deleted_index_is_gone_from_memory_and_disk() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  index.client.delete(&index.path("")).await.ok();
  let query = index.post("/query", &json!({"query": [1, 0]})).await;
  query.refused(404, &["not found"]);
  let again = index.client.delete(&index.path("")).await;
  again.refused(404, &["Vector database instance", "not found"]);
  let closed = Index::new().await;
  closed.post("/offload", &json!({})).await.ok();
  let path = format!("/api/vectordb/offloaded/{}", closed.id);
  closed.client.delete(&path).await.ok();
  closed
    .client
    .delete(&path)
    .await
    .refused(404, &["not found"]);
}

#[tokio::test]
async fn an_index_nobody_uses_is_closed() {
  let index = Index::of(&super::server().client(), json!({"inactivityTimeout": 100})).await;
  eventually("it is closed", || async {
    index.get("/info").await.status == 404
  })
  .await;
}

#[tokio::test]
async fn timeouts_are_set_and_pings_answered() {
  let index = Index::new().await;
  index.post("/ping", &json!({})).await.ok();
  let set = index.post("/timeout", &json!({"timeout": 5000})).await.ok();
  assert_eq!(set["message"], "Inactivity timeout set to 5000ms");
  for wrong in [
    json!({"timeout": -1}),
    json!({"timeout": "soon"}),
    json!({}),
  ] {
    let answer = index.post("/timeout", &wrong).await;
    answer.refused(400, &["Invalid timeout value"]);
  }
  let info = index.get("/info").await.ok();
  assert_eq!(info["activityMonitoring"]["inactivityTimeout"], 5000);
}

#[tokio::test]
async fn what_was_acknowledged_outlasts_a_server_that_is_killed() {
  let folder = TempDir::new().expect("a folder");
  let mut server = Server::builder().data_dir(folder.path()).start();
  let index = Index::of(&server.client(), json!({"id": "kept"})).await;
  index.add(&compass()).await.ok();
  server.signal(Signal::KILL);
  server.ended().await;
  let server = Server::builder().data_dir(folder.path()).start();
  let index = Index {
    client: server.client(),
    id: index.id,
  };
  let list = index.client.get("/api/vectordb/offloaded").await.ok();
  assert_eq!(ids(&list["indices"]), ["default:kept"]);
  let query = json!({"query": [0, 1], "k": 1});
  assert_eq!(index.finds(&query).await, ["north"]);
}

/// The file of the only index that a server keeps in `data`.
fn only_file(data: &Path) -> PathBuf {
  let folders = std::fs::read_dir(data.join("vectordb")).expect("there are indices");
  let files = folders.map(|folder| folder.expect("a folder").path().join("index.db"));
  let mut files = files.filter(|file| file.is_file());
  let file = files.next().expect("an index");
  assert!(files.next().is_none());
  file
}

#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_hundred_batches_loses_nothing_acknowledged() {
  const BATCH: u64 = 20;
  let folder = TempDir::new().expect("a folder");
  for round in 0..10 {
    let mut server = Server::builder().data_dir(folder.path()).start();
    let index = Index::of(&server.client(), json!({"id": "killed"})).await;
    let (acknowledged, mut seen) = watch::channel(0);
    let (client, path) = (index.client.clone(), index.path("/documents"));
    let writer = tokio::spawn(async move {
      for batch in 0..100 {
        let documents: Vec<Value> = (batch * BATCH..(batch + 1) * BATCH)
          .map(|i| json!({"id": i.to_string(), "vector": [i, 1, 2, 3], "text": "some words"}))
          .collect();
        let request = client.request(Method::POST, &path);
        let sent = request.json(&json!({ "documents": documents })).send();
        match sent.await {
          Ok(answer) if answer.status() == 200 => acknowledged.send_replace(batch + 1),
          _ => break,
        };
      }
    });
    seen
      .wait_for(|batches| *batches > 3 + round * 9)
      .await
      .expect("batches are added");
    server.signal(Signal::KILL);
    server.ended().await;
    writer.await.expect("ends with the server");
    let batches = *seen.borrow();

    let server = Server::builder().data_dir(folder.path()).start();
    let index = Index {
      client: server.client(),
      id: index.id,
    };
    index.finds(&json!({"query": [1, 1, 2, 3], "k": 1})).await;
    let count = index.get("/info").await.ok()["documentCount"].as_u64();
    let count = count.expect("a number");
    // One batch may have been written whose answer did not come any more.
    assert!(
      count == batches * BATCH || count == (batches + 1) * BATCH,
      "{batches} batches acknowledged, {count} documents there"
    );
    index.post("/verify", &json!({})).await.ok();
    index.client.delete(&index.path("")).await.ok();
  }
}

#[tokio::test]
async fn an_index_is_saved_and_verified() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let saved = index.post("/save", &json!({})).await.ok();
  assert_eq!(saved["success"], true);
  let whole = index.post("/verify", &json!({})).await.ok();
  assert_eq!(whole["message"], "Vector index is whole");
}

#[tokio::test]
async fn a_damaged_file_is_named_and_disturbs_no_other_index() {
  let folder = TempDir::new().expect("a folder");
  let server = Server::builder().data_dir(folder.path()).start();
  let client = server.client();
  let damaged = Index::of(&client, json!({"id": "damaged"})).await;
  damaged.add(&compass()).await.ok();
  damaged.post("/offload", &json!({})).await.ok();
  let file = only_file(folder.path());
  let mut bytes = std::fs::read(&file).expect("a file");
  // All but the head that says what it is.
  bytes[4096..].fill(0x5a);
  std::fs::write(&file, bytes).expect("writes");
  let query = json!({"query": [1, 0], "k": 1});
  let answer = damaged.post("/query", &query).await;
  answer.refused(500, &["index file default_damaged-"]);
  let answer = damaged.add(&compass()).await;
  answer.refused(500, &["index file default_damaged-"]);
  let other = Index::of(&client, json!({})).await;
  other.add(&compass()).await.ok();
  assert_eq!(other.finds(&query).await, ["east"]);
  let path = format!("/api/vectordb/offloaded/{}", damaged.id);
  client.delete(&path).await.ok();
}

#[tokio::test]
async fn an_index_that_cannot_be_written_says_so_and_keeps_what_it_has() {
  let folder = TempDir::new().expect("a folder");
  let server = Server::builder().data_dir(folder.path()).start();
  let index = Index::of(&server.client(), json!({"id": "blocked"})).await;
  index.add(&compass()).await.ok();
  index.post("/offload", &json!({})).await.ok();
  // Not even a privileged user can write a log where a folder is.
  let log = only_file(folder.path()).with_extension("db-wal");
  std::fs::create_dir(&log).expect("there is none while it is closed");
  let more = json!([{"id": "south", "vector": [0, -1]}]);
  index
    .add(&more)
    .await
    .refused(500, &["index file default_blocked-"]);
  std::fs::remove_dir(&log).expect("is a folder");
  let query = json!({"query": [0, 1], "k": 4});
  assert_eq!(index.finds(&query).await.len(), 3);
  index.add(&more).await.ok();
  assert_eq!(index.finds(&query).await.len(), 4);
}

#[tokio::test]
async fn servers_that_share_a_folder_see_each_others_writes_and_leave_each_others_work_alone() {
  let folder = TempDir::new().expect("a folder");
  let start = || Server::builder().data_dir(folder.path()).start();
  let mut first = start();
  let unfinished = folder.path().join("vectordb").join(".unfinished-import");
  std::fs::create_dir(&unfinished).expect("a folder");
  let mut second = start();
  assert!(unfinished.is_dir());
  let index = Index::of(&first.client(), json!({"id": "shared"})).await;
  index.add(&compass()).await.ok();
  let other = Index {
    client: second.client(),
    id: index.id.clone(),
  };
  let query = json!({"query": [0, -1], "k": 1});
  let before = other.finds(&query).await;
  let more = json!([{"id": "south", "vector": [0, -1]}]);
  index.add(&more).await.ok();
  assert_ne!(before, ["south"]);
  assert_eq!(other.finds(&query).await, ["south"]);
  for server in [&mut first, &mut second] {
    server.signal(Signal::KILL);
    server.ended().await;
  }
  let _third = start();
  assert!(!unfinished.exists());
}

#[tokio::test]
async fn no_more_indices_are_open_than_the_operator_allows() {
  let server = Server::builder()
    .env("MAX_VECTOR_DB_INSTANCES", "1")
    .start();
  let client = server.client();
  let first = Index::of(&client, json!({})).await;
  let path = "/api/vectordb/indices";
  let second = client.post(path, &json!({})).await;
  second.refused(
    429,
    &["Maximum number of vector database instances (1) reached"],
  );
  first.post("/offload", &json!({})).await.ok();
  client.post(path, &json!({})).await.ok();
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
  let client = super::server().client();
  let request = client.request(reqwest::Method::GET, "/api/vectordb/events");
  let mut events = crate::support::Sse::new(client.send(request).await);
  events.block().await.expect("is open");
  let index = Index::of(&client, json!({})).await;
  index.add(&compass()).await.ok();
  loop {
    let event = events.event().await.expect("an event");
    if event["instanceId"] == index.id.as_str() && event["type"] == "document_added" {
      assert_eq!(event["data"], json!({"added": 3, "replaced": 0}));
      break;
    }
  }
}
