//! Finding.

use serde_json::Value;
use serde_json::json;

use super::Index;
use super::compass;

#[tokio::test]
async fn scores_are_similarities_best_first() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let found = index.post("/query", &json!({"query": [1, 0]})).await.ok();
  assert_eq!(found["query"], "[vector]");
  assert_eq!(found["count"], 3);
  let scores: Vec<f64> = found["results"]
    .as_array()
    .expect("a list")
    .iter()
    .map(|hit| hit["score"].as_f64().expect("a number"))
    .collect();
  let expected = [1.0, 0.5, 0.0];
  for (score, expected) in scores.iter().zip(expected) {
    assert!((score - expected).abs() < 1e-5, "{scores:?}");
  }
  let near = json!({"query": [1, 0], "threshold": 0.4});
  assert_eq!(index.finds(&near).await, ["east", "north"]);
  let page = json!({"query": [1, 0], "k": 1, "offset": 1});
  assert_eq!(index.finds(&page).await, ["north"]);
}

#[tokio::test]
async fn metadata_and_vectors_come_when_they_are_wanted() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let query = json!({"query": [1, 0], "k": 1, "includeMetadata": false, "includeVectors": true});
  let found = index.post("/query", &query).await.ok();
  let hit = &found["results"][0];
  assert!(hit.get("metadata").is_none(), "{hit}");
  assert_eq!(hit["vector"], json!([1.0, 0.0]));
  let found = index.post("/query", &json!({"query": [1, 0]})).await.ok();
  let hit = &found["results"][0];
  assert_eq!(hit["metadata"]["n"], 1);
  assert!(hit.get("vector").is_none(), "{hit}");
}

#[tokio::test]
async fn filters_choose_by_metadata() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  for (filter, expected) in [
    (json!({"kind": "side"}), vec!["east", "north"]),
    (json!({"n": {"$gt": 1, "$lt": 3}}), vec!["north"]),
    (json!({"n": {"$in": [1, 3]}}), vec!["east", "west"]),
    (json!({"far": {"$exists": true}}), vec!["west"]),
    (
      json!({"$or": [{"n": 1}, {"far": true}]}),
      vec!["east", "west"],
    ),
    (
      json!({"$and": [{"kind": "side"}, {"n": {"$ne": 1}}]}),
      vec!["north"],
    ),
    (json!({"kind": "side' OR '1'='1"}), vec![]),
  ] {
    let query = json!({"query": [1, 0.01], "filter": filter});
    assert_eq!(index.finds(&query).await, expected, "{filter}");
  }
}

#[tokio::test]
async fn words_are_found_and_both_ways_are_fused() {
  let index = Index::new().await;
  index.add(&compass()).await.ok();
  let mut found = index
    .finds(&json!({"query": "sun", "mode": "fullText"}))
    .await;
  found.sort();
  assert_eq!(found, ["east", "west"]);
  let hybrid = json!({"query": [-1, 0], "text": "sun", "mode": "hybrid", "k": 1});
  assert_eq!(index.finds(&hybrid).await, ["west"]);
}

#[tokio::test]
async fn sixty_four_queries_at_once_get_their_own_answers() {
  let index = Index::new().await;
  let documents: Vec<Value> = (0..64)
    .map(|i| {
      let mut vector = vec![0.0; 64];
      vector[i] = 1.0;
      json!({"id": i.to_string(), "vector": vector})
    })
    .collect();
  index.add(&json!(documents)).await.ok();
  let queries = documents.iter().map(|document| {
    let query = json!({"query": document["vector"], "k": 1});
    let index = &index;
    async move { index.finds(&query).await }
  });
  let found = futures::future::join_all(queries).await;
  for (i, found) in found.iter().enumerate() {
    assert_eq!(*found, [i.to_string()]);
  }
}

#[tokio::test]
async fn other_metrics_can_be_chosen() {
  let client = super::server().client();
  let far = json!([{"id": "small", "vector": [1, 0]}, {"id": "large", "vector": [9, 9]}]);
  for (metric, expected) in [("cosine", "small"), ("l2", "small"), ("dot", "large")] {
    let index = Index::of(&client, json!({"metric": metric})).await;
    index.add(&far).await.ok();
    let found = index.finds(&json!({"query": [1, 0], "k": 1})).await;
    assert_eq!(found, [expected], "{metric}");
  }
}

#[tokio::test]
async fn a_text_finds_documents_whose_vectors_have_another_dimension_than_the_built_in_model() {
  let index = Index::new().await;
  let documents: Vec<_> = (0..20)
    .map(|i| json!({"id": i.to_string(), "vector": vec![i + 1; 128], "metadata": {"n": i}}))
    .collect();
  index.add(&json!(documents)).await.ok();
  let query = json!({"query": "anything", "k": 3});
  let found = index.post("/query", &query).await.ok();
  assert_eq!(found["count"], 3);
  assert!(found["results"][0]["metadata"]["n"].is_number(), "{found}");
}

#[tokio::test]
async fn a_flexible_index_pads_and_cuts_vectors() {
  let flexible = json!({"dimension": "flexible"});
  let index = Index::of(&super::server().client(), flexible).await;
  index.add(&compass()).await.ok();
  let more = json!([{"id": "short", "vector": [1]}, {"id": "long", "vector": [0, -1, 5, 5]}]);
  index.add(&more).await.ok();
  let query = json!({"query": [0, -1, 7], "k": 1});
  assert_eq!(index.finds(&query).await, ["long"]);
}
