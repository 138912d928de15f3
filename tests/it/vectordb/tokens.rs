//! Namespaces never cross, except as an index permits.

use serde_json::json;

use super::Index;
use super::compass;
use crate::support::Server;

#[tokio::test]
async fn a_token_sees_its_namespace_and_what_others_permit() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "one=lab,two=office,all=*")
    .start();
  let lab = server.client().with_token("one");
  let office = server.client().with_token("two");
  let private = Index::of(&lab, json!({"id": "private"})).await;
  assert_eq!(private.id, "lab:private");
  private.add(&compass()).await.ok();
  let open = json!({"id": "open", "permission": "public_read"});
  let open = Index::of(&lab, open).await;
  open.add(&compass()).await.ok();

  let seen = |index: &Index| Index {
    client: office.clone(),
    id: index.id.clone(),
  };
  let query = json!({"query": [1, 0], "k": 1});
  let denied = seen(&private).post("/query", &query).await;
  denied.refused(404, &["Vector database instance lab:private not found"]);
  assert_eq!(seen(&open).finds(&query).await, ["east"]);
  let denied = seen(&open).add(&compass()).await;
  denied.refused(403, &["Access denied"]);
  for index in [&private, &open] {
    let index = seen(index);
    index.client.delete(&index.path("")).await.refused(404, &[]);
    index.post("/offload", &json!({})).await.refused(404, &[]);
    index.get("/info").await.refused(404, &[]);
  }
  let list = office.get("/api/vectordb/instances").await.ok();
  assert_eq!(list, json!([]));
  let other = office.get("/api/vectordb/instances?namespace=lab").await;
  other.refused(403, &["office"]);
  let stats = office.get("/api/vectordb/stats").await.ok();
  assert_eq!(stats["totalInstances"], 0);
  let add = json!({"name": "x", "type": "ollama", "config": {}});
  let add = office.post("/api/vectordb/providers", &add).await;
  add.refused(403, &["operator"]);
  // A namespace of one's own need not be written.
  let own = lab.get("/api/vectordb/indices/private/info").await.ok();
  assert_eq!(own["id"], "lab:private");
}

#[tokio::test]
async fn what_others_have_to_themselves_is_missing_on_every_route() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "one=lab,two=office")
    .start();
  let lab = server.client().with_token("one");
  let office = server.client().with_token("two");
  let there = Index::of(&lab, json!({"id": "there"})).await;
  there.add(&compass()).await.ok();
  let asks = async |id: &str| -> Vec<String> {
    let index = Index {
      client: office.clone(),
      id: id.to_owned(),
    };
    let (client, empty) = (&office, json!({}));
    let mut answers = vec![
      index.post("/query", &json!({"query": [1, 0]})).await,
      index.post("/query", &json!({"query": "a text"})).await,
      index.add(&compass()).await,
      index.remove(&json!({"documentIds": ["east"]})).await,
      index.remove(&json!({"filter": {"n": 1}})).await,
      index.get("/documents").await,
      index.get("/documents/east").await,
      index.get("/export").await,
      index.get("/info").await,
      index.post("/timeout", &json!({"timeout": 1})).await,
      client
        .put(&index.path("/provider"), &json!({"provider": "x"}))
        .await,
      client
        .delete(&format!("/api/vectordb/offloaded/{id}"))
        .await,
    ];
    for action in ["/ping", "/offload", "/save", "/verify"] {
      answers.push(index.post(action, &empty).await);
    }
    answers.push(client.delete(&index.path("")).await);
    let shown = answers.iter().map(|answer| {
      assert_eq!(answer.status, 404, "{}", answer.text);
      answer.text.replace(id, "ID")
    });
    shown.collect()
  };
  let missing = asks("lab:nothing").await;
  assert_eq!(asks("lab:there").await, missing);
  there.post("/offload", &json!({})).await.ok();
  assert_eq!(asks("lab:there").await, missing, "closed");
  assert_eq!(there.get("/documents").await.ok()["total"], 3);
}

#[tokio::test]
async fn an_index_that_a_killed_server_left_is_not_opened_for_others() {
  let dir = tempfile::tempdir().expect("a folder");
  let builder = || {
    Server::builder()
      .env("ENGINE_TOKENS", "one=lab,two=office,all=*")
      .data_dir(dir.path())
  };
  let mut first = builder().start();
  let lab = first.client().with_token("one");
  for (id, permission) in [("private", "private"), ("open", "public_read")] {
    let index = Index::of(&lab, json!({"id": id, "permission": permission})).await;
    index.add(&compass()).await.ok();
  }
  first.signal(rustix::process::Signal::KILL);
  first.ended().await;
  let second = builder().start();
  let client = second.client().with_token("two");
  let index = |id: &str| Index {
    client: client.clone(),
    id: format!("lab:{id}"),
  };
  let query = json!({"query": [1, 0], "k": 1});
  let denied = index("private").post("/query", &query).await;
  denied.refused(404, &["Vector database instance lab:private not found"]);
  let operator = second.client().with_token("all");
  let open = operator.get("/api/vectordb/instances").await.ok();
  assert_eq!(open, json!([]));
  assert_eq!(index("open").finds(&query).await, ["east"]);
}

#[tokio::test]
async fn what_is_the_operators_is_told_the_operator_only() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "one=lab,all=*")
    .start();
  let lab = server.client().with_token("one");
  let all = server.client().with_token("all");
  let config = json!({"host": "http://127.0.0.1:9", "model": "m", "dimension": 3});
  let body = json!({"name": "internal", "type": "ollama", "config": config});
  all.post("/api/vectordb/providers", &body).await.ok();
  let path = "/api/vectordb/providers/internal";
  assert_eq!(lab.get(path).await.ok()["host"], json!(null));
  assert!(all.get(path).await.text.contains("127.0.0.1"));
  let test = json!({"provider": "internal"});
  let path = "/api/vectordb/providers/test";
  lab.post(path, &test).await.refused(403, &["operator"]);
  all.post(path, &test).await.ok();
  let index = Index::of(&lab, json!({"id": "i", "embeddingProvider": "internal"})).await;
  let documents = json!([{"id": "a", "text": "x"}]);
  let failed = index.add(&documents).await;
  failed.refused(502, &["internal", "document a", "operator"]);
  assert!(!failed.text.contains("127.0.0.1"), "{}", failed.text);
  let index = Index {
    client: all.clone(),
    id: index.id.clone(),
  };
  index.add(&documents).await.refused(502, &["127.0.0.1"]);
  let folder = |stats: serde_json::Value| stats["activityMonitoring"]["offloadDirectory"].clone();
  assert_eq!(
    folder(lab.get("/api/vectordb/stats").await.ok()),
    json!(null)
  );
  assert!(folder(all.get("/api/vectordb/stats").await.ok()).is_string());
}
