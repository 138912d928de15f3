//! Embedding providers, which all workspaces share and the service's own changes.

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::Fixture;
use crate::support::HOME;
use crate::support::TIME;

/// Where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

fn ollama(name: &str, host: &str, dimension: usize) -> Value {
  let config = json!({ "host": host, "model": "small", "dimension": dimension });
  json!({ "name": name, "providerId": name, "type": "ollama", "config": config, "sessionId": 1 })
}

fn of(provider: &str) -> Value {
  json!({ "providerId": provider })
}

/// A service with the provider `small`, of dimension 2.
async fn with_small(host: &str) -> Fixture {
  let fixture = Fixture::new();
  fixture
    .ok(HOME, "addEmbeddingProvider", ollama("small", host, 2))
    .await;
  fixture
}

/// Address of a model that makes the same of every text.
async fn model() -> String {
  let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
  let address = format!("http://{}", listener.local_addr().expect("bound"));
  tokio::spawn(async move {
    while let Ok((mut stream, _)) = listener.accept().await {
      let mut request = String::new();
      // The body is JSON without line ends, and ends with its object.
      while !request.ends_with('}') {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap_or_default();
        if read == 0 {
          break;
        }
        request += &String::from_utf8_lossy(&buffer[..read]);
      }
      let body = json!({ "embeddings": [[1.0, 0.0]] }).to_string();
      let length = body.len();
      let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
      let _ = stream.write_all(answer.as_bytes()).await;
    }
  });
  address
}

#[tokio::test]
async fn a_provider_is_added_listed_described_changed_and_removed() {
  let fixture = Fixture::new();
  assert_eq!(
    fixture
      .ok(HOME, "addEmbeddingProvider", ollama("small", NOWHERE, 2))
      .await,
    json!({
      "success": true,
      "message": "Provider small added successfully",
      "provider":
        { "name": "small", "type": "ollama", "dimension": 2, "model": "small", "host": NOWHERE },
      "timestamp": TIME,
    })
  );
  assert_eq!(
    fixture.ok("lab", "listEmbeddingProviders", json!({})).await,
    json!({
      "providers":
        [{ "id": "small", "name": "small", "type": "ollama", "dimension": 2, "created": TIME }],
      "stats": { "totalProviders": 1, "providersByType": { "ollama": 1 }, "providersInUse": 0 },
    })
  );
  let told = json!({
    "id": "small",
    "name": "small",
    "type": "ollama",
    "dimension": 2,
    "created": TIME,
    "instancesUsing": 0,
    "instanceIds": [],
  });
  for workspace in [HOME, "lab"] {
    assert_eq!(
      fixture
        .ok(workspace, "getEmbeddingProvider", of("small"))
        .await,
      told
    );
  }
  let updated = fixture
    .ok(HOME, "updateEmbeddingProvider", ollama("small", NOWHERE, 3))
    .await;
  assert_eq!(updated["message"], "Provider small updated successfully");
  assert_eq!(updated["provider"]["dimension"], 3);
  assert_eq!(
    fixture
      .ok(HOME, "removeEmbeddingProvider", of("small"))
      .await,
    json!({ "success": true, "message": "Provider small removed successfully", "timestamp": TIME })
  );
  assert_eq!(
    fixture
      .fails("lab", "getEmbeddingProvider", of("small"))
      .await,
    "Provider not found"
  );
}

#[tokio::test]
async fn only_the_services_own_workspace_changes_providers() {
  let fixture = with_small(NOWHERE).await;
  for (method, what) in [
    ("addEmbeddingProvider", "add"),
    ("updateEmbeddingProvider", "update"),
    ("removeEmbeddingProvider", "remove"),
    ("testEmbeddingProvider", "test"),
  ] {
    for given in [
      ollama("small", NOWHERE, 5),
      json!({}),
      json!({ "ws": HOME, "context": { "ws": HOME } }),
    ] {
      assert_eq!(
        fixture.fails("lab", method, given).await,
        format!("Permission denied: Only home workspace can {what} embedding providers")
      );
    }
  }
  let told = fixture.ok("lab", "getEmbeddingProvider", of("small")).await;
  assert_eq!(told["dimension"], 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_provider_is_named() {
  let fixture = with_small(NOWHERE).await;
  let incomplete = json!({ "name": "x", "providerId": "small", "type": "ollama", "config": {} });
  let other = json!({ "name": "x", "providerId": "small", "type": "voyage", "config": {} });
  for (method, given, why) in [
    (
      "addEmbeddingProvider",
      json!({}),
      "Name, type, and config are required",
    ),
    (
      "addEmbeddingProvider",
      json!({ "name": "x", "type": "ollama", "config": null }),
      "Name, type, and config are required",
    ),
    (
      "addEmbeddingProvider",
      incomplete.clone(),
      "Failed to create Ollama provider: Ollama provider requires host, model, and dimension",
    ),
    (
      "addEmbeddingProvider",
      other.clone(),
      "Unsupported provider type: voyage; use local, ollama or openai",
    ),
    (
      "addEmbeddingProvider",
      ollama("small", NOWHERE, 2),
      "Provider with this name already exists",
    ),
    (
      "updateEmbeddingProvider",
      json!({}),
      "Provider name is required",
    ),
    (
      "updateEmbeddingProvider",
      of("small"),
      "Type and config are required",
    ),
    (
      "updateEmbeddingProvider",
      incomplete,
      "Failed to update Ollama provider: Ollama provider requires host, model, and dimension",
    ),
    (
      "updateEmbeddingProvider",
      other,
      "Unsupported provider type: voyage; use local, ollama or openai",
    ),
    (
      "updateEmbeddingProvider",
      ollama("none", NOWHERE, 2),
      "Provider not found",
    ),
    (
      "removeEmbeddingProvider",
      json!({}),
      "Provider name is required",
    ),
    ("removeEmbeddingProvider", of("none"), "Provider not found"),
    (
      "testEmbeddingProvider",
      json!({}),
      "Provider name is required",
    ),
    ("testEmbeddingProvider", of("none"), "Provider not found"),
    (
      "testEmbeddingProvider",
      of("mock-model"),
      "Provider not found",
    ),
    (
      "getEmbeddingProvider",
      json!({}),
      "Provider name is required",
    ),
  ] {
    assert_eq!(fixture.fails(HOME, method, given).await, why, "{method}");
  }
  for (method, given) in [
    (
      "addEmbeddingProvider",
      json!({ "name": "x", "type": "ollama", "config": "x" }),
    ),
    (
      "updateEmbeddingProvider",
      json!({ "providerId": "small", "type": 5, "config": {} }),
    ),
    ("getEmbeddingProvider", of_number()),
    ("changeIndexEmbeddingProvider", of_number()),
  ] {
    let failure = fixture.fails(HOME, method, given).await;
    assert!(
      failure.starts_with("Invalid parameters: "),
      "{method}: {failure}"
    );
  }
}

fn of_number() -> Value {
  json!({ "providerId": 5 })
}

#[tokio::test]
async fn a_provider_is_tried_out() {
  let host = model().await;
  let fixture = with_small(&host).await;
  assert_eq!(
    fixture.ok(HOME, "testEmbeddingProvider", of("small")).await,
    json!({
      "available": true,
      "message": "Provider is working correctly",
      "provider": "small",
      "dimension": 2,
      "testEmbeddingLength": 2,
    })
  );
  let listed = fixture.ok("lab", "listEmbeddingProviders", json!({})).await;
  assert_eq!(listed["providers"][0]["lastUsed"], TIME);
  let told = fixture.ok("lab", "getEmbeddingProvider", of("small")).await;
  assert_eq!(told["lastUsed"], TIME);
}

#[tokio::test]
async fn an_index_changes_its_provider_and_a_workspace_sees_only_its_own_use() {
  let host = model().await;
  let fixture = with_small(&host).await;
  for workspace in ["lab", "other"] {
    fixture
      .ok(workspace, "createVectorIndex", json!({ "id": "docs" }))
      .await;
  }
  let change = |index: &str, provider: &str| json!({ "indexId": index, "providerId": provider });
  assert_eq!(
    fixture
      .ok(
        "lab",
        "changeIndexEmbeddingProvider",
        change("docs", "small")
      )
      .await,
    json!({
      "success": true,
      "message": "Index lab:docs uses provider small now",
      "indexId": "lab:docs",
      "providerId": "small",
      "timestamp": TIME,
    })
  );
  let documents = json!([{ "id": "a", "text": "alpha" }]);
  let given = json!({ "indexId": "docs", "documents": documents });
  fixture.ok("lab", "addDocuments", given).await;
  let given = json!({ "indexId": "docs", "query": "alpha" });
  let found = fixture.ok("lab", "queryVectorIndex", given).await;
  assert_eq!(found["results"][0]["id"], "a");

  for (workspace, used, ids) in [
    ("lab", 1, json!(["lab:docs"])),
    ("other", 0, json!([])),
    (HOME, 0, json!([])),
  ] {
    let told = fixture
      .ok(workspace, "getEmbeddingProvider", of("small"))
      .await;
    assert_eq!(
      (&told["instancesUsing"], &told["instanceIds"]),
      (&json!(used), &ids)
    );
  }
  for (workspace, in_use, instances, own) in [("lab", 1, 1, 1), ("other", 0, 1, 0), (HOME, 1, 0, 0)]
  {
    let usage = json!({
      "id": "small",
      "name": "small",
      "type": "ollama",
      "dimension": 2,
      "instancesUsing": in_use,
      "lastUsed": TIME,
      "created": TIME,
    });
    let mut usage_here = usage.clone();
    usage_here["instancesInWorkspace"] = json!(own);
    assert_eq!(
      fixture
        .ok(workspace, "getEmbeddingProviderStats", json!({}))
        .await,
      json!({
        "global": {
          "totalProviders": 1,
          "providersByType": { "ollama": 1 },
          "providersInUse": in_use,
          "providerUsage": [usage],
        },
        "workspace": { "totalInstances": instances, "providerUsage": [usage_here] },
      }),
      "{workspace}"
    );
    let listed = fixture
      .ok(workspace, "listEmbeddingProviders", json!({}))
      .await;
    assert_eq!(listed["stats"]["providersInUse"], in_use, "{workspace}");
  }

  let method = "changeIndexEmbeddingProvider";
  for (given, why) in [
    (json!({}), "Invalid kernel ID: undefined"),
    (json!({ "indexId": "docs" }), "Provider name is required"),
    (
      change("none", "small"),
      "Vector index not found or access denied",
    ),
    (
      change("lab:docs", "small"),
      "Vector index not found or access denied",
    ),
    (
      change("docs", "none"),
      "Embedding provider none not found in registry",
    ),
  ] {
    assert_eq!(fixture.fails("other", method, given).await, why);
  }
  let mismatch = fixture
    .fails("lab", method, change("docs", "mock-model"))
    .await;
  assert!(
    mismatch.starts_with("Cannot change provider: dimension mismatch."),
    "{mismatch}"
  );
  assert_eq!(
    fixture
      .fails(HOME, "updateEmbeddingProvider", ollama("small", &host, 3))
      .await,
    "Failed to update Ollama provider: Cannot update provider small: dimension change would affect \
     1 instance(s)"
  );
  assert_eq!(
    fixture
      .fails(HOME, "removeEmbeddingProvider", of("small"))
      .await,
    "Cannot remove provider small: it is being used by 1 instance(s)"
  );
}

#[tokio::test]
async fn no_answer_to_others_has_addresses_or_keys() {
  let fixture = Fixture::new();
  let config = json!({
    "baseURL": "https://user:hunter2@models.example/v1",
    "apiKey": "sk-hunter2",
    "model": "small",
    "dimension": 2,
  });
  let given = json!({ "name": "small", "type": "openai", "config": config });
  let added = fixture.ok(HOME, "addEmbeddingProvider", given).await;
  assert!(!added.to_string().contains("hunter2"), "{added}");
  for method in [
    "listEmbeddingProviders",
    "getEmbeddingProvider",
    "getEmbeddingProviderStats",
  ] {
    let told = fixture.ok("lab", method, of("small")).await.to_string();
    assert!(
      !told.contains("models.example") && !told.contains("hunter2"),
      "{told}"
    );
  }
}
