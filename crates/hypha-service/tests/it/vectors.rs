//! The lives of vector indices.

use serde_json::Value;
use serde_json::json;

use crate::support::Fixture;
use crate::support::HOME;
use crate::support::TIME;

/// Milliseconds after which an index is closed unless a test says otherwise.
const TIMEOUT: u64 = 1_800_000;
const NOT_THEIRS: &str = "Vector index not found or access denied";
const NO_ID: &str = "Invalid kernel ID: undefined";

/// The methods that are only about an open index of the caller's own.
const OF_AN_OWN_INDEX: [&str; 6] = [
  "destroyVectorIndex",
  "getVectorIndexInfo",
  "pingVectorIndex",
  "setVectorIndexTimeout",
  "manualOffloadVectorIndex",
  "saveVectorIndex",
];

/// All that these methods take.
fn of(index: &str) -> Value {
  json!({ "indexId": index, "timeout": 5000 })
}

/// Takes the time until an index is closed from what is told of it, for it is another each time.
fn until_offload(told: &mut Value) -> u64 {
  let monitoring = told["activityMonitoring"].as_object_mut();
  let time = monitoring.and_then(|it| it.remove("timeUntilOffload"));
  time.as_ref().and_then(Value::as_u64).expect("a time")
}

/// An index `docs-of-lab` of the workspace `lab`, with two documents.
async fn lab() -> Fixture {
  let fixture = Fixture::new();
  fixture
    .ok("lab", "createVectorIndex", json!({ "id": "docs-of-lab" }))
    .await;
  let documents = json!([{ "id": "a", "text": "alpha" }, { "id": "b", "text": "beta" }]);
  let given = json!({ "indexId": "docs-of-lab", "documents": documents });
  fixture.ok("lab", "addDocuments", given).await;
  fixture
}

#[tokio::test]
async fn an_index_is_made_and_described() {
  let fixture = Fixture::new();
  let made = fixture
    .ok(
      "lab",
      "createVectorIndex",
      json!({ "id": "docs-of-lab", "sessionId": "ignored" }),
    )
    .await;
  assert_eq!(
    made,
    json!({
      "id": "lab:docs-of-lab",
      "created": TIME,
      "name": "VectorDB-docs-of-",
      "activityMonitoring": { "enabled": true, "timeout": TIMEOUT },
    })
  );
  let mut info = fixture
    .ok("lab", "getVectorIndexInfo", of("docs-of-lab"))
    .await;
  assert!((TIMEOUT - 60_000..=TIMEOUT).contains(&until_offload(&mut info)));
  assert_eq!(
    info,
    json!({
      "id": "lab:docs-of-lab",
      "name": "VectorDB-docs-of-",
      "created": TIME,
      "documentCount": 0,
      "embeddingDimension": 0,
      "isFromOffload": false,
      "history": [],
      "activityMonitoring": { "lastActivity": TIME, "inactivityTimeout": TIMEOUT, "enabled": true },
    })
  );
  let mut listed = fixture.ok("lab", "listVectorIndices", json!({})).await;
  until_offload(&mut listed[0]);
  assert_eq!(
    listed,
    json!([{
      "id": "lab:docs-of-lab",
      "name": "VectorDB-docs-of-",
      "created": TIME,
      "documentCount": 0,
      "isFromOffload": false,
      "activityMonitoring": { "lastActivity": TIME, "inactivityTimeout": TIMEOUT },
    }])
  );
}

#[tokio::test]
async fn what_an_index_is_made_with_counts_and_null_is_as_good_as_nothing() {
  let fixture = Fixture::new();
  let given = json!({
    "id": null,
    "embeddingModel": "any",
    "embeddingProviderName": "mock-model",
    "maxDocuments": 1,
    "inactivityTimeout": 0,
    "enableActivityMonitoring": false,
    "resume": false,
    "permission": "public_read",
    "namespace": "other",
  });
  let made = fixture.ok("lab", "createVectorIndex", given).await;
  let id = made["id"].as_str().expect("an id");
  assert_eq!(id.len(), "lab:".len() + 36);
  assert_eq!(made["name"], format!("VectorDB-{}", &id[4..12]));
  assert_eq!(
    made["activityMonitoring"],
    json!({ "enabled": false, "timeout": 0 })
  );
  let info = fixture.ok("lab", "getVectorIndexInfo", of(id)).await;
  assert_eq!(
    info["activityMonitoring"],
    json!({ "lastActivity": TIME, "timeUntilOffload": null, "inactivityTimeout": 0, "enabled": false })
  );
  let listed = fixture.ok("lab", "listVectorIndices", json!({})).await;
  assert_eq!(
    listed[0]["activityMonitoring"],
    json!({ "lastActivity": TIME, "inactivityTimeout": 0 })
  );
  let two = json!([{ "id": "a", "text": "x" }, { "id": "b", "text": "y" }]);
  let given = json!({ "indexId": id, "documents": two });
  let full = fixture.fails("lab", "addDocuments", given).await;
  assert!(full.contains("maxDocuments"), "{full}");
}

#[tokio::test]
async fn an_index_that_cannot_be_made_says_why() {
  let fixture = lab().await;
  for (given, why) in [
    (json!({ "id": "docs-of-lab" }), "already exists"),
    (json!({ "id": "new", "resume": true }), "Cannot resume"),
    (
      json!({ "embeddingProviderName": "none" }),
      "Embedding provider none not found in registry",
    ),
    (json!({ "permission": "everything" }), "Invalid parameters"),
    (json!({ "id": 1 }), "Invalid parameters"),
    (json!({ "inactivityTimeout": -1 }), "Invalid timeout value"),
  ] {
    let failure = fixture.fails("lab", "createVectorIndex", given).await;
    assert!(failure.contains(why), "{failure}");
  }
}

#[tokio::test]
async fn statistics_count_what_is_the_callers() {
  let fixture = lab().await;
  let mut stats = fixture.ok("lab", "getVectorDBStats", json!({})).await;
  until_offload(&mut stats["indices"][0]);
  assert_eq!(
    stats,
    json!({
      "overall": {
        "totalInstances": 1,
        "totalDocuments": 2,
        "embeddingModel": "mock-model",
        "maxInstances": 50,
        "instancesByNamespace": { "lab": 1 },
        "activityMonitoring": { "enabled": true, "defaultTimeout": TIMEOUT, "activeTimers": 1 },
      },
      "namespace": { "totalIndices": 1, "totalDocuments": 2 },
      "indices": [{
        "id": "lab:docs-of-lab",
        "name": "VectorDB-docs-of-",
        "created": TIME,
        "documentCount": 2,
        "embeddingDimension": 384,
        "activityMonitoring": { "lastActivity": TIME },
      }],
    })
  );
}

#[tokio::test]
async fn an_index_is_kept_open_closed_saved_opened_and_deleted() {
  let fixture = lab().await;
  let index = || of("docs-of-lab");
  let done = |message: &str| json!({ "success": true, "message": message, "timestamp": TIME });
  assert_eq!(
    fixture.ok("lab", "pingVectorIndex", index()).await,
    done("Vector index activity timer reset")
  );
  let mut set = done("Inactivity timeout set to 5000ms");
  set["timeout"] = json!(5000);
  assert_eq!(
    fixture.ok("lab", "setVectorIndexTimeout", index()).await,
    set
  );
  let info = fixture.ok("lab", "getVectorIndexInfo", index()).await;
  assert_eq!(info["activityMonitoring"]["inactivityTimeout"], 5000);
  assert_eq!(info["embeddingDimension"], 384);

  let offloaded = || fixture.ok("lab", "listOffloadedVectorIndices", json!({}));
  assert_eq!(offloaded().await, json!([]));
  assert_eq!(
    fixture.ok("lab", "saveVectorIndex", index()).await,
    done("Vector index saved successfully")
  );
  assert_eq!(
    offloaded().await,
    json!([{
      "id": "lab:docs-of-lab",
      "name": "VectorDB-docs-of-",
      "created": TIME,
      "offloadedAt": TIME,
      "documentCount": 2,
      "embeddingDimension": 384,
    }])
  );
  assert_eq!(
    fixture.ok("lab", "manualOffloadVectorIndex", index()).await,
    done("Vector index offloaded successfully")
  );
  assert_eq!(
    fixture.ok("lab", "listVectorIndices", json!({})).await,
    json!([])
  );
  let resume = json!({ "id": "lab:docs-of-lab", "resume": true });
  fixture.ok("lab", "createVectorIndex", resume).await;
  let info = fixture.ok("lab", "getVectorIndexInfo", index()).await;
  assert_eq!(
    (&info["isFromOffload"], &info["documentCount"]),
    (&json!(true), &json!(2))
  );

  fixture.ok("lab", "manualOffloadVectorIndex", index()).await;
  let deleted = fixture
    .ok("lab", "deleteOffloadedVectorIndex", index())
    .await;
  assert_eq!(
    deleted,
    done("Offloaded vector index docs-of-lab deleted successfully")
  );
  assert_eq!(offloaded().await, json!([]));
  assert_eq!(
    fixture
      .fails("lab", "deleteOffloadedVectorIndex", index())
      .await,
    "Offloaded index lab:docs-of-lab not found"
  );
  fixture
    .ok("lab", "createVectorIndex", json!({ "id": "docs-of-lab" }))
    .await;
  let destroyed = fixture.ok("lab", "destroyVectorIndex", index()).await;
  assert_eq!(destroyed, json!({ "success": true }));
  assert_eq!(
    fixture.ok("lab", "listVectorIndices", json!({})).await,
    json!([])
  );
}

#[tokio::test]
async fn a_workspace_sees_nothing_of_another() {
  let fixture = lab().await;
  for workspace in ["other", HOME] {
    let listed = fixture
      .ok(workspace, "listVectorIndices", json!({ "ws": "lab" }))
      .await;
    assert_eq!(listed, json!([]));
    let stats = fixture
      .ok(workspace, "getVectorDBStats", json!({ "ws": "lab" }))
      .await;
    assert_eq!(
      stats["namespace"],
      json!({ "totalIndices": 0, "totalDocuments": 0 })
    );
    assert_eq!(stats["overall"]["instancesByNamespace"], json!({}));
    assert_eq!(stats["indices"], json!([]));
    for method in OF_AN_OWN_INDEX {
      for index in ["docs-of-lab", "lab:docs-of-lab"] {
        assert_eq!(
          fixture.fails(workspace, method, of(index)).await,
          NOT_THEIRS,
          "{method}"
        );
      }
    }
  }
  fixture
    .ok("lab", "manualOffloadVectorIndex", of("lab:docs-of-lab"))
    .await;
  let listed = fixture
    .ok("other", "listOffloadedVectorIndices", json!({}))
    .await;
  assert_eq!(listed, json!([]));
  assert_eq!(
    fixture
      .fails("other", "deleteOffloadedVectorIndex", of("lab:docs-of-lab"))
      .await,
    "Offloaded index lab:docs-of-lab not found"
  );
  let kept = fixture
    .ok("lab", "listOffloadedVectorIndices", json!({}))
    .await;
  assert_eq!(kept[0]["documentCount"], 2);
}

#[tokio::test]
async fn missing_and_wrong_parameters_are_named() {
  let fixture = lab().await;
  for method in OF_AN_OWN_INDEX
    .iter()
    .chain(&["deleteOffloadedVectorIndex"])
  {
    for given in [
      json!({ "timeout": 1 }),
      json!({ "indexId": null }),
      json!({ "indexId": "" }),
    ] {
      assert_eq!(fixture.fails("lab", method, given).await, NO_ID, "{method}");
    }
    let failure = fixture.fails("lab", method, json!({ "indexId": 5 })).await;
    assert!(
      failure.starts_with("Invalid parameters: "),
      "{method}: {failure}"
    );
  }
  for timeout in [json!(null), json!(-1), json!("5000")] {
    let given = json!({ "indexId": "docs-of-lab", "timeout": timeout });
    let failure = fixture.fails("lab", "setVectorIndexTimeout", given).await;
    assert_eq!(failure, "Invalid timeout value");
  }
}
