use std::fs;
use std::path::Path;

use super::*;

async fn import(setup: &Setup, folder: &Path) -> FolderImport {
  let files = super::super::legacy::find(folder).expect("reads");
  setup.db.import_files(files).await
}

/// As the original wrote them.
fn vectors(count: u32, dimension: u32, vectors: &[(&str, Vec<f32>)]) -> Vec<u8> {
  let mut bytes = Vec::new();
  bytes.extend(count.to_le_bytes());
  bytes.extend(dimension.to_le_bytes());
  for (id, vector) in vectors {
    bytes.extend((id.len() as u32).to_le_bytes());
    bytes.extend(id.as_bytes());
    bytes.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
  }
  bytes
}

fn write(folder: &Path, base: &str, metadata: &Value, documents: &Value, vectors: Option<Vec<u8>>) {
  fs::write(
    folder.join(format!("{base}.metadata.json")),
    metadata.to_string(),
  )
  .expect("writes");
  fs::write(
    folder.join(format!("{base}.documents.json")),
    documents.to_string(),
  )
  .expect("writes");
  if let Some(bytes) = vectors {
    fs::write(folder.join(format!("{base}.vectors.bin")), bytes).expect("writes");
  }
}

fn metadata(id: &str) -> Value {
  json!({
    "id": id, "created": "2025-01-02T03:04:05.678Z", "offloadedAt": "2025-01-03T03:04:05.678Z",
    "options": {"namespace": "w", "permission": "public_read", "inactivityTimeout": 0,
      "embeddingProvider": {"type": "generic", "name": "x", "dimension": 2}},
    "documentCount": 3, "embeddingDimension": 2, "format": "binary_v1",
    "documentsFile": "./elsewhere/w_docs.documents.json",
    "vectorsFile": "./elsewhere/w_docs.vectors.bin", "indexFile": "./elsewhere/w_docs.documents.json"
  })
}

#[tokio::test]
async fn indices_of_the_original_are_taken_over() {
  let old = tempfile::tempdir().expect("a folder");
  let documents = json!([
    {"id": "a", "text": "alpha", "metadata": {"x": 1}, "hasVector": true},
    {"id": "ü:b", "hasVector": true},
    {"id": "lost", "text": "its vector was left out", "hasVector": true},
    {"id": "gone", "hasVector": true},
    {"id": "zero", "hasVector": true},
  ]);
  let bin = vectors(
    5,
    2,
    &[
      ("a", vec![1.0, 0.0]),
      ("ü:b", vec![0.0, 1.0]),
      ("zero", vec![0.0, 0.0]),
    ],
  );
  write(
    old.path(),
    "w_docs",
    &metadata("w:docs"),
    &documents,
    Some(bin),
  );
  let setup = Setup::new();
  let report = import(&setup, old.path()).await;
  assert_eq!(report.failed, []);
  let imported = &report.imported[0];
  assert_eq!(
    (imported.id.as_str(), imported.document_count),
    ("w:docs", 3)
  );
  let skipped: Vec<_> = imported.skipped.iter().map(|one| one.id.as_str()).collect();
  assert_eq!(skipped, ["gone", "zero"]);
  let closed = setup
    .db
    .offloaded(&operator(), Some("w"))
    .await
    .expect("lists");
  assert_eq!(
    closed[0].created.to_rfc3339(),
    "2025-01-02T03:04:05.678+00:00"
  );
  let request = QueryRequest::vector(vec![0.0, 1.0]);
  let hits = setup
    .db
    .query(&operator(), imported.id.as_str(), request)
    .await
    .expect("finds");
  assert_eq!(hits[0].id, "ü:b");
  let info = setup
    .db
    .info(&operator(), imported.id.as_str())
    .await
    .expect("is open");
  assert_eq!(
    (info.permission, info.embedding_dimension),
    (Permission::PublicRead, Some(2))
  );
  // 0 was the default there.
  assert_eq!(
    info.activity_monitoring.inactivity_timeout.as_millis(),
    1_800_000
  );
  setup.search(&imported.id, "text still works").await;
  let again = import(&setup, old.path()).await;
  assert!(again.imported.is_empty() && again.failed[0].reason.contains("already exists"));
}

#[tokio::test]
async fn older_versions_had_vectors_in_the_documents() {
  let old = tempfile::tempdir().expect("a folder");
  let metadata = json!({"id": "plain", "documentsFile": "x/other.json"});
  let documents =
    json!([{"id": "a", "text": "alpha", "vector": [1, 2, 3]}, {"id": "b", "text": "beta"}]);
  write(old.path(), "plain", &metadata, &json!([]), None);
  fs::remove_file(old.path().join("plain.documents.json")).expect("removes");
  fs::write(old.path().join("other.json"), documents.to_string()).expect("writes");
  let setup = Setup::new();
  let report = import(&setup, old.path()).await;
  assert_eq!(report.imported[0].document_count, 2, "{report:?}");
  let id = IndexId::full("plain");
  setup.search(&id, "alpha").await;
  let info = setup
    .db
    .info(&operator(), id.as_str())
    .await
    .expect("is open");
  assert_eq!((info.namespace, info.embedding_dimension), (None, Some(3)));
}

#[tokio::test]
async fn broken_indices_are_named_leave_nothing_and_stop_no_other() {
  let old = tempfile::tempdir().expect("a folder");
  let documents = json!([{"id": "a", "text": "alpha", "hasVector": true}]);
  let good = vectors(1, 2, &[("a", vec![1.0, 0.0])]);
  let mut files = vec![
    (
      "cut",
      good[..good.len() - 1].to_vec(),
      "cut short in a vector",
    ),
    ("head", vec![1, 0], "cut short in the header"),
    ("huge", vectors(1, u32::MAX, &[]), "dimension 4294967295"),
  ];
  let mut long = vectors(1, 2, &[]);
  long.extend(u32::MAX.to_le_bytes());
  files.push(("long", long, "cut short in an id"));
  let mut binary = vectors(1, 2, &[("a", vec![1.0, 0.0])]);
  binary[12] = 0xff;
  files.push(("utf8", binary, "not UTF-8"));
  for (base, bin, _) in &files {
    write(
      old.path(),
      base,
      &metadata(base),
      &documents,
      Some(bin.clone()),
    );
  }
  fs::write(old.path().join("json.metadata.json"), "{").expect("writes");
  let mut unknown = metadata("unknown");
  unknown["format"] = json!("binary_v9");
  write(old.path(), "unknown", &unknown, &documents, None);
  write(old.path(), "zz", &metadata("w:zz"), &documents, Some(good));
  fs::write(
    old.path().join("lone.metadata.json"),
    metadata("lone").to_string(),
  )
  .expect("writes");
  let setup = Setup::new();
  let report = import(&setup, old.path()).await;
  assert_eq!(report.imported.len(), 1, "{report:?}");
  for (base, _, expected) in &files {
    let failed = report
      .failed
      .iter()
      .find(|one| one.file.ends_with(format!("{base}.metadata.json")));
    let reason = &failed.expect("is named").reason;
    assert!(reason.contains(expected), "{base}: {reason}");
  }
  assert_eq!(report.failed.len(), files.len() + 3);
  assert_eq!(setup.folders(), 1);
}
