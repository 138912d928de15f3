//! Adding, replacing, reading and removing.

use serde_json::json;

use super::Index;
use super::compass;
use super::ids;

#[tokio::test]
async fn an_index_is_described_as_the_original_described_it() {
  let client = super::server().client();
  let id = crate::support::unique("index");
  let body = json!({"id": id, "namespace": "lab"});
  let created = client.post("/api/vectordb/indices", &body).await.ok();
  assert_eq!(created["id"], format!("lab:{id}"));
  assert_eq!(created["namespace"], "lab");
  assert_eq!(created["documentCount"], 0);
  assert_eq!(created["embeddingProvider"], "Built-in");
  assert_eq!(
    created["activityMonitoring"],
    json!({"enabled": true, "timeout": 1_800_000})
  );
  let index = Index {
    client: client.clone(),
    id: format!("lab:{id}"),
  };
  let added = index.add(&compass()).await.ok();
  assert_eq!(added["success"], true);
  assert_eq!(added["message"], "Added 3 documents");
  assert_eq!(added["documentCount"], 3);
  let info = index.get("/info").await.ok();
  assert_eq!(info["embeddingDimension"], 2);
  assert_eq!(info["isFromOffload"], false);
  let path = "/api/vectordb/instances?namespace=lab";
  let list = client.get(path).await.ok();
  assert!(ids(&list).contains(&index.id), "{list}");
}

#[tokio::test]
async fn a_document_of_the_same_id_is_replaced_in_every_way() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let again = json!([{"id": "east", "vector": [0, -1], "text": "elsewhere now"}]);
  let added = index.add(&again).await.ok();
  assert_eq!(
    (&added["added"], &added["replaced"]),
    (&json!(0), &json!(1))
  );
  assert_eq!(added["documentCount"], 3);
  let query = json!({"query": [0, -1], "k": 1});
  assert_eq!(index.finds(&query).await, ["east"]);
  let rising = json!({"query": "rises", "mode": "fullText"});
  assert!(index.finds(&rising).await.is_empty());
  let east = index.get("/documents/east").await.ok();
  assert_eq!(east, json!({"id": "east", "text": "elsewhere now"}));
}

#[tokio::test]
async fn documents_are_read_by_id_and_page_by_page() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let east = index.get("/documents/east?includeVectors=true").await.ok();
  assert_eq!(east["vector"], json!([1.0, 0.0]));
  let missing = index.get("/documents/south").await;
  missing.refused(404, &["Document south not found"]);
  let page = index.get("/documents?offset=1&limit=1").await.ok();
  assert_eq!(page["count"], 1);
  assert_eq!(ids(&page["documents"]), ["north"]);
  let filter = "/documents?filter=%7B%22kind%22%3A%22end%22%7D";
  let page = index.get(filter).await.ok();
  assert_eq!(ids(&page["documents"]), ["west"]);
}

#[tokio::test]
async fn documents_are_removed_by_id_and_by_filter_and_counted_exactly() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let body = json!({"documentIds": ["east", "no such"]});
  let removed = index.remove(&body).await.ok();
  assert_eq!(removed["removed"], 1);
  assert_eq!(removed["documentCount"], 2);
  let body = json!({"filter": {"n": {"$gte": 3}}});
  let removed = index.remove(&body).await.ok();
  assert_eq!(removed["documentCount"], 1);
  let query = json!({"query": [1, 0]});
  assert_eq!(index.finds(&query).await, ["north"]);
  let both = json!({"documentIds": ["north"], "filter": {}});
  index.remove(&both).await.refused(400, &["one of the two"]);
}

#[tokio::test]
async fn made_up_documents_can_be_added_and_found() {
  let index = Index::new().await;
  let path = "/api/vectordb/generate-documents";
  let made = index.client.post(path, &json!({"count": 500})).await.ok();
  assert_eq!(made["count"], 100);
  index.add(&made["documents"]).await.ok();
  let text = made["documents"][7]["text"].clone();
  let found = index.post("/query", &json!({"query": text})).await.ok();
  assert_eq!(found["count"], 10);
  assert_eq!(found["results"][0]["id"], made["documents"][7]["id"]);
}
