//! Writing indices out and reading them in.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::Index;
use super::compass;
use super::ids;
use crate::support::Server;

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

/// Writes an index of two documents as the original off-loaded it.
fn write_binary_v1(folder: &Path) {
  let write = |name: &str, bytes: Vec<u8>| {
    std::fs::write(folder.join(format!("lab_old.{name}")), bytes).expect("writes");
  };
  let metadata = json!({
    "id": "lab:old", "created": "2025-01-02T03:04:05.678Z",
    "offloadedAt": "2025-01-03T03:04:05.678Z",
    "options": {"namespace": "lab", "embeddingProvider": {"type": "generic", "name": "x"}},
    "documentCount": 2, "embeddingDimension": 2, "format": "binary_v1",
    "documentsFile": "./offload/lab_old.documents.json",
    "vectorsFile": "./offload/lab_old.vectors.bin"
  });
  write("metadata.json", metadata.to_string().into());
  let documents = json!([
    {"id": "east", "text": "where the sun rises", "metadata": {"n": 1}, "hasVector": true},
    {"id": "north", "hasVector": true},
  ]);
  write("documents.json", documents.to_string().into());
  let mut bytes: Vec<u8> = [2_u32, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
  for (id, vector) in [("east", [1.0_f32, 0.0]), ("north", [0.0, 1.0])] {
    let length = u32::try_from(id.len()).expect("short");
    bytes.extend(length.to_le_bytes());
    bytes.extend(id.as_bytes());
    bytes.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
  }
  write("vectors.bin", bytes);
}

#[tokio::test]
async fn what_the_original_off_loaded_is_taken_over_once() {
  let (offload, data) = (
    TempDir::new().expect("a folder"),
    TempDir::new().expect("a folder"),
  );
  write_binary_v1(offload.path());
  std::fs::write(offload.path().join("lab_bad.metadata.json"), "{").expect("writes");
  let start = || {
    Server::builder()
      .data_dir(data.path())
      .env("VECTORDB_OFFLOAD_DIRECTORY", offload.path())
      .start()
  };
  let server = start();
  let client = server.client();
  let list = client.get("/api/vectordb/offloaded").await.ok();
  assert_eq!(ids(&list["indices"]), ["lab:old"]);
  assert_eq!(list["indices"][0]["documentCount"], 2);
  assert!(server.log().contains("lab_bad"), "{}", server.log());
  let index = Index {
    client: client.clone(),
    id: "lab:old".into(),
  };
  let query = json!({"query": [0, 1], "k": 1});
  assert_eq!(index.finds(&query).await, ["north"]);
  let sun = json!({"query": "sun", "mode": "fullText"});
  assert_eq!(index.finds(&sun).await, ["east"]);
  client.delete(&index.path("")).await.ok();
  drop(server);
  // What was deleted does not come back.
  let list = start().client().get("/api/vectordb/offloaded").await.ok();
  assert_eq!(list["count"], 0, "{list}");
  assert!(offload.path().join("lab_old.vectors.bin").is_file());
}
