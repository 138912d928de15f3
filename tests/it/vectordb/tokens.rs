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
  denied.refused(403, &["Access denied"]);
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
