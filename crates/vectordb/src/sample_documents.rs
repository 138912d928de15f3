//! Generated documents to try an index with.

use chrono::Utc;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use crate::requests::NewDocument;

const DEFAULT_COUNT: usize = 10;
const MAX_COUNT: usize = 100;

/// The first word is the topic.
const TOPICS: [&str; 15] = [
  "artificial intelligence and machine learning",
  "web development and modern frameworks",
  "data science and analytics",
  "cloud computing and distributed systems",
  "mobile applications and user experience",
  "cybersecurity and privacy protection",
  "blockchain technology and cryptocurrencies",
  "internet of things and connected devices",
  "virtual reality and immersive experiences",
  "robotics and automation",
  "quantum computing and advanced physics",
  "renewable energy and sustainability",
  "biotechnology and medical research",
  "space exploration and astronomy",
  "environmental science and climate",
];

const CATEGORIES: [&str; 3] = ["research", "tutorial", "analysis"];

/// Random documents: 10, or as many as asked for, but at most 100.
pub fn generate_documents(count: Option<usize>) -> Vec<NewDocument> {
  let count = count.filter(|n| *n > 0).unwrap_or(DEFAULT_COUNT);
  (0..count.min(MAX_COUNT)).map(document).collect()
}

fn document(i: usize) -> NewDocument {
  let now = Utc::now();
  let random = Uuid::new_v4().as_u128();
  let suffix = base36(random >> 64);
  let phrase = TOPICS[i % TOPICS.len()];
  let category = CATEGORIES[i % CATEGORIES.len()];
  let number = random % 1000;
  let metadata = json!({
    "topic": phrase.split(' ').next(),
    "category": category,
    "priority": random / 1000 % 5 + 1,
    "created": access::timestamp(now),
    "randomId": suffix,
  });
  let metadata: Option<Map<String, Value>> = metadata.as_object().cloned();
  NewDocument {
    id: format!("doc-{}-{i}-{suffix}", now.timestamp_millis()),
    text: Some(format!(
      "{phrase} - this {category} document, number {number}, describes methods and results \
       ({suffix})."
    )),
    vector: None,
    metadata,
  }
}

fn base36(number: u128) -> String {
  let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
  let mut rest = number;
  let mut text = String::new();
  for _ in 0..9 {
    text.push(char::from(digits[(rest % 36) as usize]));
    rest /= 36;
  }
  text
}

#[cfg(test)]
mod tests {
  use std::collections::HashSet;

  use super::*;

  #[test]
  fn counts_are_bounded_and_ids_differ() {
    assert_eq!(generate_documents(None).len(), 10);
    assert_eq!(generate_documents(Some(0)).len(), 10);
    assert_eq!(generate_documents(Some(3)).len(), 3);
    let many = generate_documents(Some(1_000_000));
    let ids: HashSet<_> = many.iter().map(|document| &document.id).collect();
    assert_eq!(ids.len(), 100);
  }

  #[test]
  fn a_document_has_the_members_of_the_original() {
    let topics: Vec<String> = generate_documents(Some(16))
      .into_iter()
      .map(|document| {
        let metadata = document.metadata.expect("has metadata");
        let topic = metadata["topic"].as_str().expect("a text").to_owned();
        let text = document.text.expect("has a text");
        assert!(
          text.starts_with(&topic) && text.contains(metadata["randomId"].as_str().expect("a text"))
        );
        assert!((1..=5).contains(&metadata["priority"].as_u64().expect("a number")));
        assert!(document.id.starts_with("doc-"));
        topic
      })
      .collect();
    assert_eq!(topics[..3], ["artificial", "web", "data"]);
    assert_eq!(topics[14], "environmental");
    assert_eq!(topics[15], "artificial");
  }
}
