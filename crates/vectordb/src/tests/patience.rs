use async_trait::async_trait;
use tokio::sync::Notify;

use super::*;
use crate::embedding::Embedder;
use crate::embedding::ProviderKind;

fn request() -> CreateIndex {
  CreateIndex {
    embedding_provider_name: Some("p".into()),
    ..named("a")
  }
}

/// Embeds when it is told to.
struct Patient {
  asked: Arc<Notify>,
  go: Arc<Notify>,
}

#[async_trait]
impl Embedder for Patient {
  fn dimension(&self) -> usize {
    2
  }

  fn kind(&self) -> ProviderKind {
    ProviderKind::Ollama
  }

  async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, VectorError> {
    self.asked.notify_one();
    self.go.notified().await;
    Ok(vec![vec![1.0, 2.0]; texts.len()])
  }
}

#[tokio::test]
async fn vectors_made_for_a_replaced_index_or_provider_are_not_added() {
  let setup = Setup::new();
  let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
  let patient = Patient {
    asked: asked.clone(),
    go: go.clone(),
  };
  setup.db.registry.insert("p", Arc::new(patient));
  let id = setup
    .db
    .create(&operator(), request())
    .await
    .expect("is made")
    .id;
  let add = |name: &'static str| {
    let (db, id) = (setup.db.clone(), id.clone());
    tokio::spawn(async move {
      db.add(&operator(), id.as_str(), vec![text(name, name)])
        .await
    })
  };
  let adding = add("one");
  asked.notified().await;
  // Nobody waits for the provider to close the index.
  setup
    .db
    .offload(&operator(), id.as_str())
    .await
    .expect("closes");
  go.notify_one();
  assert_eq!(
    adding
      .await
      .expect("ends")
      .expect("opens it again")
      .document_count,
    1
  );
  let adding = add("two");
  asked.notified().await;
  setup
    .db
    .delete(&operator(), id.as_str())
    .await
    .expect("deletes");
  setup
    .db
    .create(&operator(), request())
    .await
    .expect("is made");
  go.notify_one();
  let refused = adding.await.expect("ends").expect_err("another index");
  assert!(matches!(refused, VectorError::Conflict(_)), "{refused}");
  assert_eq!(setup.count(&id).await, 0);
}
