//! Writing indices out and reading them in.

use serde_json::json;

use super::Index;
use super::compass;

#[tokio::test]
async fn an_exported_index_can_be_imported_under_another_name() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let export = index.get("/export").await;
  assert_eq!(export.status, 200);
  assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
  assert_eq!(export.text.lines().count(), 4);
  let copy = crate::support::unique("copy");
  let path = format!("/api/vectordb/import?id={copy}&namespace=other");
  let imported = index
    .client
    .post_text(&path, export.text.clone())
    .await
    .ok();
  assert_eq!(imported["id"], format!("other:{copy}"));
  assert_eq!(imported["documentCount"], 3);
  let again = index.client.post_text(&path, export.text.clone()).await;
  again.refused(409, &["already exists"]);
  let copy = Index {
    client: index.client.clone(),
    id: format!("other:{copy}"),
  };
  let query = json!({"query": [0, 1], "k": 1});
  assert_eq!(copy.finds(&query).await, ["north"]);
}

#[tokio::test]
async fn an_import_that_is_wrong_names_the_line_and_leaves_nothing() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let export = index.get("/export").await.text;
  let copy = crate::support::unique("copy");
  let path = format!("/api/vectordb/import?id={copy}");
  let broken = format!("{export}{{\"id\": 7}}\n");
  let answer = index.client.post_text(&path, broken).await;
  answer.refused(400, &["line 5"]);
  let answer = index.client.post_text(&path, "nonsense").await;
  answer.refused(400, &["line 1"]);
  index.client.post_text(&path, export).await.ok();
}
