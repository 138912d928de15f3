//! What cannot be meant is refused by name, and nothing is half-written.

use serde_json::json;

use super::Index;
use super::compass;

#[tokio::test]
async fn a_batch_with_one_wrong_document_changes_nothing() {
  let client = super::server().client();
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let good = json!({"id": "good", "vector": [1, 1]});
  for (wrong, words) in [
    (
      json!({"id": "bare"}),
      "Document bare must have either text or vector",
    ),
    (
      json!({"id": "bare", "text": ""}),
      "Document bare must have either text or vector",
    ),
    (json!({"id": "none", "vector": []}), "Document none"),
    (json!({"id": "wide", "vector": [1, 2, 3]}), "Document wide"),
    (
      json!({"id": "huge", "vector": [1e300, 1]}),
      "documents[1].vector[0]",
    ),
    (
      json!({"id": "good", "vector": [1, 2]}),
      "Document good is in the batch twice",
    ),
    (json!({"vector": [1, 2]}), "Document must have an id"),
    (
      json!({"id": "x", "vector": ["a"]}),
      "documents[1].vector[0]",
    ),
    (json!({"id": "x", "vector": [1, 2], "colour": 1}), "colour"),
    (
      json!({"id": "x", "vector": [1, 2], "metadata": 7}),
      "documents[1].metadata",
    ),
  ] {
    let answer = index.add(&json!([good, wrong])).await;
    answer.refused(400, &[words]);
  }
  let nan = r#"{"documents": [{"id": "n", "vector": [NaN, 1]}]}"#;
  let answer = client.post_text(&index.path("/documents"), nan).await;
  answer.refused(400, &["Invalid JSON"]);
  assert_eq!(index.get("/info").await.ok()["documentCount"], 3);
}

#[tokio::test]
async fn a_query_that_cannot_be_meant_is_refused() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  for (query, words) in [
    (json!({}), "query"),
    (json!({"query": ""}), "query"),
    (json!({"query": []}), "empty"),
    (
      json!({"query": {"a": 1}}),
      "a query is a text or an array of numbers",
    ),
    (json!({"query": [1, 2, 3]}), "dimension"),
    (json!({"query": [1, 0], "k": 1_000_000}), "k"),
    (json!({"query": [1, 0], "threshold": 7}), "threshold"),
    (
      json!({"query": [1, 0], "filter": {"n": {"$where": "1=1"}}}),
      "$where",
    ),
    (
      json!({"query": [1, 0], "filter": "1=1; DROP TABLE documents"}),
      "filter",
    ),
    (json!({"query": [1, 0], "mode": "psychic"}), "mode"),
    (json!({"query": [1, 0], "limit": 3}), "limit"),
  ] {
    let answer = index.post("/query", &query).await;
    answer.refused(400, &[words]);
  }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_before_it_is_kept() {
  let index = Index::new().await;
  let text = "x".repeat(100 << 20);
  let body = format!(r#"{{"documents": [{{"id": "a", "text": "{text}"}}]}}"#);
  let path = index.path("/documents");
  let answer = index.client.post_text(&path, body).await;
  answer.refused(413, &["MAX_BODY_BYTES"]);
}

#[tokio::test]
async fn an_id_has_no_control_characters() {
  let client = super::server().client();
  let path = "/api/vectordb/indices";
  for body in [
    json!({"id": "a\nforged line"}),
    json!({"id": "a\u{1b}[2J"}),
    json!({"id": "a", "namespace": "b\r"}),
  ] {
    client
      .post(path, &body)
      .await
      .refused(400, &["control character"]);
  }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
  let client = super::server().client();
  let id = "/api/vectordb/indices/default:nothing";
  let query = json!({"query": "x"});
  for answer in [
    client.post(&format!("{id}/query"), &query).await,
    client.post(&format!("{id}/documents"), &json!({})).await,
    client.get(&format!("{id}/info")).await,
    client.post_empty(&format!("{id}/ping")).await,
    client.post_empty(&format!("{id}/offload")).await,
    client.delete(id).await,
  ] {
    answer.refused(404, &["ound"]);
  }
  let path = "/api/vectordb/indices";
  let unknown = json!({"embeddingProvider": "no such"});
  let answer = client.post(path, &unknown).await;
  answer.refused(404, &["Embedding provider no such not found in registry"]);
  let unknown = json!({"dimensions": 3});
  client
    .post(path, &unknown)
    .await
    .refused(400, &["dimensions"]);
}
