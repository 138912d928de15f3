//! Documents of vector indices.

use serde_json::Value;
use serde_json::json;

use crate::support::Fixture;
use crate::support::TIME;

/// The methods that also reach indices of other workspaces, each with all that it needs but the index.
fn of_any_index(index: &str) -> [(&'static str, Value); 3] {
  let documents = json!([{ "id": "c", "vector": [0.0, 1.0] }]);
  [
    (
      "addDocuments",
      json!({ "indexId": index, "documents": documents }),
    ),
    (
      "queryVectorIndex",
      json!({ "indexId": index, "query": [0.0, 1.0] }),
    ),
    (
      "removeDocuments",
      json!({ "indexId": index, "documentIds": ["c"] }),
    ),
  ]
}

/// An index `docs` of the workspace `lab` with two documents, and what others may do with it.
async fn lab(permission: &str) -> Fixture {
  let fixture = Fixture::new();
  let given = json!({ "id": "docs", "permission": permission });
  fixture.ok("lab", "createVectorIndex", given).await;
  let documents = json!([
    { "id": "a", "text": "alpha", "vector": [1.0, 0.0], "metadata": { "n": 1 }, "more": "ignored" },
    { "id": "b", "text": null, "vector": [0.0, 1.0], "metadata": null },
  ]);
  let given = json!({ "indexId": "docs", "documents": documents });
  let added = fixture.ok("lab", "addDocuments", given).await;
  assert_eq!(
    added,
    json!({ "success": true, "addedCount": 2, "timestamp": TIME })
  );
  fixture
}

#[tokio::test]
async fn documents_are_found_best_first() {
  let fixture = lab("private").await;
  let query = async |options: Value| {
    let given = json!({ "indexId": "docs", "query": [1.0, 0.0], "options": options });
    let mut found = fixture.ok("lab", "queryVectorIndex", given).await;
    let id = found
      .as_object_mut()
      .and_then(|found| found.remove("queryId"));
    assert_eq!(id.as_ref().and_then(Value::as_str).map(str::len), Some(36));
    found
  };
  assert_eq!(
    query(json!({ "k": 1, "unknown": true })).await,
    json!({
      "results": [
        { "id": "a", "score": 1.0, "distance": 0.0, "text": "alpha", "metadata": { "n": 1 } },
      ],
      "resultCount": 1,
      "timestamp": TIME,
    })
  );
  let all = query(json!(null)).await;
  assert_eq!(all["resultCount"], 2);
  assert_eq!(all["results"][1]["id"], "b");
  let near = query(json!({ "threshold": 0.9, "includeMetadata": false, "k": null })).await;
  assert_eq!(
    near["results"],
    json!([{ "id": "a", "score": 1.0, "distance": 0.0, "text": "alpha" }])
  );
}

#[tokio::test]
async fn texts_are_embedded() {
  let fixture = Fixture::new();
  fixture
    .ok("lab", "createVectorIndex", json!({ "id": "texts" }))
    .await;
  let documents = json!([{ "id": "a", "text": "alpha" }, { "id": "b", "text": "beta" }]);
  let given = json!({ "indexId": "lab:texts", "documents": documents });
  fixture.ok("lab", "addDocuments", given).await;
  let given = json!({ "indexId": "lab:texts", "query": "beta" });
  let found = fixture.ok("lab", "queryVectorIndex", given).await;
  assert_eq!(found["results"][0]["id"], "b");
}

#[tokio::test]
async fn a_document_replaces_that_of_its_id_and_only_what_is_there_is_removed() {
  let fixture = lab("private").await;
  let documents = json!([{ "id": "a", "vector": [1.0, 1.0] }, { "id": "c", "vector": [1.0, 2.0] }]);
  let given = json!({ "indexId": "docs", "documents": documents });
  let added = fixture.ok("lab", "addDocuments", given).await;
  assert_eq!(added["addedCount"], 2);
  let given = json!({ "indexId": "docs", "documentIds": ["a", "c", "unknown"] });
  let removed = fixture.ok("lab", "removeDocuments", given).await;
  assert_eq!(
    removed,
    json!({ "success": true, "removedCount": 2, "timestamp": TIME })
  );
  let listed = fixture.ok("lab", "listVectorIndices", json!({})).await;
  assert_eq!(listed[0]["documentCount"], 1);
}

#[tokio::test]
async fn a_closed_index_is_opened_by_its_use() {
  let fixture = lab("public_read").await;
  let offload = async || {
    let given = json!({ "indexId": "docs" });
    fixture.ok("lab", "manualOffloadVectorIndex", given).await;
  };
  for workspace in ["lab", "other"] {
    offload().await;
    let given = json!({ "indexId": "lab:docs", "query": [0.0, 1.0] });
    let found = fixture.ok(workspace, "queryVectorIndex", given).await;
    assert_eq!(found["results"][0]["id"], "b");
  }
}

#[tokio::test]
async fn an_index_lets_other_workspaces_do_what_it_permits() {
  let levels = [
    ("private", [false, false, false]),
    ("public_read", [false, true, false]),
    ("public_read_add", [true, true, false]),
    ("public_read_write", [true, true, true]),
  ];
  for (permission, expected) in levels {
    let fixture = lab(permission).await;
    for ((method, given), may) in of_any_index("lab:docs").into_iter().zip(expected) {
      match fixture.call("other", method, given).await {
        Ok(_) => assert!(may, "{permission}: {method}"),
        Err(why) if permission == "private" => assert_eq!(why, "Vector index not found"),
        Err(why) => {
          assert!(
            !may && why.starts_with("Access denied: Cannot "),
            "{permission}: {why}"
          );
          for part in ["workspace lab", "workspace other", permission] {
            assert!(why.contains(part), "{why}");
          }
        }
      }
    }
  }
}

#[tokio::test]
async fn what_is_missing_is_named() {
  let fixture = lab("private").await;
  for index in ["none", "lab:none", "other:none"] {
    for (method, given) in of_any_index(index) {
      assert_eq!(
        fixture.fails("lab", method, given).await,
        "Vector index not found"
      );
    }
  }
  for (method, mut given) in of_any_index("") {
    assert_eq!(
      fixture.fails("lab", method, given.clone()).await,
      "Invalid kernel ID: undefined"
    );
    given["indexId"] = json!(["docs"]);
    let failure = fixture.fails("lab", method, given).await;
    assert!(failure.starts_with("Invalid parameters: "), "{failure}");
  }
  let documents = |documents: Value| json!({ "indexId": "docs", "documents": documents });
  let query = |query: Value| json!({ "indexId": "docs", "query": query });
  let ids = |ids: Value| json!({ "indexId": "docs", "documentIds": ids });
  for (method, given, why) in [
    (
      "addDocuments",
      documents(json!(null)),
      "No documents provided",
    ),
    (
      "addDocuments",
      documents(json!([])),
      "No documents provided",
    ),
    (
      "addDocuments",
      documents(json!([{ "text": "x" }])),
      "Document must have an id",
    ),
    (
      "addDocuments",
      documents(json!([{ "id": "d", "text": "" }])),
      "Document must have either text or vector",
    ),
    ("queryVectorIndex", query(json!(null)), "No query provided"),
    ("queryVectorIndex", query(json!("")), "No query provided"),
    (
      "removeDocuments",
      ids(json!(null)),
      "No document IDs provided",
    ),
    (
      "removeDocuments",
      ids(json!([])),
      "No document IDs provided",
    ),
  ] {
    assert_eq!(fixture.fails("lab", method, given).await, why, "{method}");
  }
  for (method, given) in [
    ("addDocuments", documents(json!("x"))),
    (
      "addDocuments",
      documents(json!([{ "id": "d", "vector": "x" }])),
    ),
    ("queryVectorIndex", query(json!(7))),
    ("removeDocuments", ids(json!("a"))),
    ("generateRandomDocuments", json!({ "count": "many" })),
  ] {
    let failure = fixture.fails("lab", method, given).await;
    assert!(
      failure.starts_with("Invalid parameters: "),
      "{method}: {failure}"
    );
  }
}

#[tokio::test]
async fn documents_to_try_with_are_generated() {
  let fixture = Fixture::new();
  let made = fixture
    .ok("lab", "generateRandomDocuments", json!({ "count": 2 }))
    .await;
  let members: Vec<&String> = made.as_object().expect("an object").keys().collect();
  assert_eq!(members, ["documents", "count", "message"]);
  assert_eq!(
    (&made["count"], &made["message"]),
    (&json!(2), &json!("Generated 2 random documents"))
  );
  let document = made["documents"][1].as_object().expect("a document");
  let members: Vec<&String> = document.keys().collect();
  assert_eq!(members, ["id", "text", "metadata"]);
  assert_eq!(document["metadata"]["topic"], "web");
  for (given, count) in [
    (json!({}), 10),
    (json!({ "count": 0 }), 10),
    (json!({ "count": 500 }), 100),
  ] {
    let made = fixture.ok("lab", "generateRandomDocuments", given).await;
    assert_eq!(made["count"], count);
  }
}
