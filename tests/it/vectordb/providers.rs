//! What embeds texts.

use serde_json::Value;
use serde_json::json;

use super::Index;
use crate::support::Loopback;
use crate::support::Reply;
use crate::support::unique;

/// An embeddings endpoint of OpenAI's kind: a vector of three numbers, by the length of the text.
fn endpoint() -> Loopback {
  Loopback::start(|request| {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let texts = body["input"].as_array().expect("texts").iter();
    let data: Vec<Value> = texts
      .enumerate()
      .map(|(i, text)| {
        let length = text.as_str().expect("a text").len();
        json!({"index": i, "embedding": [length, 1, 0]})
      })
      .collect();
    Reply::json(&json!({"data": data, "model": "m"}))
  })
}

#[tokio::test]
async fn the_providers_of_the_original_are_there() {
  let list = super::server()
    .client()
    .get("/api/vectordb/providers")
    .await
    .ok();
  let names: Vec<_> = list["configProviders"]
    .as_array()
    .expect("a list")
    .iter()
    .map(|provider| provider["name"].as_str().expect("a name"))
    .collect();
  assert_eq!(names.len(), 6);
  assert!(names.contains(&"mock-model") && names.contains(&"local-model"));
  assert!(names.contains(&"ollama-nomic-embed-text"));
  let provider = &list["providers"][0];
  assert_eq!(provider["model"], provider["name"]);
  assert!(list["stats"]["totalProviders"].as_u64() >= Some(4));
}

#[tokio::test]
async fn an_endpoint_of_openais_kind_embeds_documents_and_queries_and_its_key_is_never_shown() {
  let endpoint = endpoint();
  let client = super::server().client();
  let name = unique("provider");
  let config =
    json!({"baseURL": endpoint.url("/v1"), "model": "m", "dimension": 3, "apiKey": "sk-hidden"});
  let body = json!({"name": name, "type": "openai", "config": config});
  let path = "/api/vectordb/providers";
  let added = client.post(path, &body).await.ok();
  assert_eq!(added["provider"]["dimension"], 3);
  client
    .post(path, &body)
    .await
    .refused(409, &["already exists"]);
  let index = Index::of(&client, json!({"embeddingProvider": name})).await;
  let documents = json!([{"id": "short", "text": "a"}, {"id": "long", "text": "a".repeat(50)}]);
  index.add(&documents).await.ok();
  let query = json!({"query": "b", "k": 1});
  assert_eq!(index.finds(&query).await, ["short"]);
  let tried = json!({"provider": name});
  let tried = client
    .post("/api/vectordb/providers/test", &tried)
    .await
    .ok();
  assert_eq!(tried["available"], true);
  assert_eq!(tried["testEmbeddingLength"], 3);
  let own = format!("{path}/{name}");
  let about = client.get(&own).await;
  assert_eq!(about.ok()["instanceIds"], json!([index.id]));
  let listed = client.get(path).await;
  assert!(!about.text.contains("sk-hidden") && !listed.text.contains("sk-hidden"));
  client
    .delete(&own)
    .await
    .refused(409, &["it is being used by 1 instance(s)"]);
  index.client.delete(&index.path("")).await.ok();
  client.delete(&own).await.ok();
  client.get(&own).await.refused(404, &["Provider not found"]);
}

#[tokio::test]
async fn a_provider_that_is_down_fails_by_name_and_nothing_is_added() {
  let client = super::server().client();
  let name = unique("provider");
  let config = json!({"host": "http://127.0.0.1:9", "model": "m", "dimension": 3});
  let body = json!({"name": name, "type": "ollama", "config": config});
  client.post("/api/vectordb/providers", &body).await.ok();
  let index = Index::of(&client, json!({"embeddingProvider": name})).await;
  let documents = json!([{"id": "a", "vector": [1, 0, 0]}, {"id": "b", "text": "x"}]);
  index.add(&documents).await.refused(502, &[&name]);
  assert_eq!(index.get("/info").await.ok()["documentCount"], 0);
}

#[tokio::test]
async fn requests_for_providers_are_checked_as_the_original_checked_them() {
  let client = super::server().client();
  let path = "/api/vectordb/providers";
  let nothing = client.post(path, &json!({"name": "x"})).await;
  nothing.refused(400, &["Name, type, and config are required"]);
  let bare = json!({"name": "x", "type": "ollama", "config": {}});
  let bare = client.post(path, &bare).await;
  bare.refused(
    400,
    &["Ollama provider requires host, model, and dimension"],
  );
  let odd = json!({"name": "x", "type": "psychic", "config": {}});
  let odd = client.post(path, &odd).await;
  odd.refused(400, &["Unsupported provider type: psychic"]);
  let test = client.post(&format!("{path}/test"), &json!({})).await;
  test.refused(400, &["Provider name is required"]);
}

#[tokio::test]
async fn a_provider_that_answers_nonsense_fails_by_name_and_nothing_is_added() {
  let client = super::server().client();
  for (reply, words) in [
    ("<html>", "web page"),
    (r#"{"data": []}"#, "0 embeddings for 1 texts"),
    (
      r#"{"data": [{"index": 0, "embedding": [1, 2]}]}"#,
      "dimension 2",
    ),
    (
      r#"{"data": [{"index": 0, "embedding": [1, "x"]}]}"#,
      "string",
    ),
  ] {
    let endpoint = Loopback::start(move |_| Reply::content("application/json", reply));
    let name = unique("provider");
    let config = json!({"baseURL": endpoint.url("/v1"), "model": "m", "dimension": 3});
    let body = json!({"name": name, "type": "openai", "config": config});
    client.post("/api/vectordb/providers", &body).await.ok();
    let index = Index::of(&client, json!({"embeddingProvider": name})).await;
    let documents = json!([{"id": "a", "vector": [1, 0, 0]}, {"id": "b", "text": "x"}]);
    index.add(&documents).await.refused(502, &[&name, words]);
    assert_eq!(index.get("/info").await.ok()["documentCount"], 0);
  }
}

#[tokio::test]
async fn an_index_changes_to_another_provider_of_the_same_dimension() {
  let endpoint = endpoint();
  let client = super::server().client();
  let index = Index::of(&client, json!({"dimension": 3})).await;
  let documents =
    json!([{"id": "short", "vector": [1, 1, 0]}, {"id": "long", "vector": [50, 1, 0]}]);
  index.add(&documents).await.ok();
  let change = async |dimension: usize| {
    let name = unique("provider");
    let config = json!({"baseURL": endpoint.url("/v1"), "model": "m", "dimension": dimension});
    let body = json!({"name": name, "type": "openai", "config": config});
    client.post("/api/vectordb/providers", &body).await.ok();
    let path = index.path("/provider");
    client.put(&path, &json!({ "provider": name })).await
  };
  change(4).await.refused(409, &["dimension"]);
  change(3).await.ok();
  let query = json!({"query": "b", "k": 1});
  assert_eq!(index.finds(&query).await, ["short"]);
  let path = index.path("/provider");
  let unknown = client.put(&path, &json!({"provider": "no such"})).await;
  unknown.refused(404, &["no such"]);
}
