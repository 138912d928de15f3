//! Closing, opening, deleting, and what outlasts the server.

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

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
