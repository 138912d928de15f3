use super::*;
use crate::embedding::ProviderConfig;
use crate::embedding::preconfigured;
use crate::embedding::tests::server::Act;
use crate::embedding::tests::server::Server;
use crate::embedding::tests::server::ollama;

fn config(url: &str, dimension: usize) -> ProviderConfig {
  let config = json!({"host": url, "model": "m", "dimension": dimension});
  ProviderConfig::parse("ollama", &config).expect("good")
}

fn using(id: &str, provider: &str) -> CreateIndex {
  CreateIndex {
    embedding_provider_name: Some(provider.into()),
    ..named(id)
  }
}

#[tokio::test]
async fn an_index_embeds_with_its_provider_also_after_another_start() {
  let server = Server::start(|_, body| ollama(body)).await;
  let setup = Setup::new();
  setup
    .db
    .add_provider("p", config(&server.url, 3))
    .await
    .expect("adds");
  let info = setup.db.create(using("a", "p")).await.expect("is made");
  assert_eq!(info.embedding_provider, "p");
  setup
    .add(
      &info.id,
      vec![text("d", "alpha"), text("e", "a much longer text")],
    )
    .await;
  setup.db.shut_down().await;
  let again = setup.again();
  let hits = again
    .query(&info.id, QueryRequest::text("alpha"), &Requester::Trusted)
    .await;
  assert_eq!(ids(&hits.expect("finds")), ["d", "e"]);
}

#[tokio::test]
async fn a_provider_that_fails_adds_nothing_and_is_named_with_the_document() {
  let server = Server::start(|_, _| Act::Answer("400 Bad Request", "{}".into())).await;
  let setup = Setup::new();
  setup
    .db
    .add_provider("p", config(&server.url, 3))
    .await
    .expect("adds");
  let id = setup.db.create(using("a", "p")).await.expect("is made").id;
  let given = document(json!({"id": "v", "vector": [1, 2, 3]}));
  let outcome = setup
    .db
    .add(
      &id,
      vec![given.clone(), text("t", "alpha")],
      &Requester::Trusted,
    )
    .await;
  let message = outcome.expect_err("it fails").to_string();
  assert!(
    message.contains("provider p") && message.contains("document t"),
    "{message}"
  );
  assert_eq!(setup.count(&id).await, 0);
  let wrong = document(json!({"id": "w", "vector": [1, 2]}));
  let outcome = setup.db.add(&id, vec![wrong], &Requester::Trusted).await;
  assert!(
    outcome
      .expect_err("2 and not 3")
      .to_string()
      .contains("Document w")
  );
  setup.add(&id, vec![given]).await;
}

#[tokio::test]
async fn a_provider_in_use_is_neither_removed_nor_given_another_dimension() {
  let setup = Setup::new();
  let mut events = setup.db.watch();
  setup
    .db
    .add_provider("p", config("http://a", 3))
    .await
    .expect("adds");
  let id = setup.db.create(using("a", "p")).await.expect("is made").id;
  let info = setup.db.provider_info("p").expect("is there");
  assert_eq!(
    (info.instances_using, info.instance_ids),
    (1, vec![id.clone()])
  );
  let refused = setup
    .db
    .remove_provider("p")
    .await
    .expect_err("in use")
    .to_string();
  assert_eq!(
    refused,
    "Cannot remove provider p: it is being used by 1 instance(s)"
  );
  let refused = setup.db.update_provider("p", config("http://a", 4)).await;
  assert!(
    refused
      .expect_err("in use")
      .to_string()
      .contains("dimension change would affect")
  );
  let updated = setup
    .db
    .update_provider("p", config("http://b", 3))
    .await
    .expect("updates");
  assert_eq!(updated.host.as_deref(), Some("http://b"));
  setup.db.delete(&id).await.expect("deletes");
  setup
    .db
    .update_provider("p", config("http://a", 4))
    .await
    .expect("is free");
  setup.db.remove_provider("p").await.expect("is free");
  let unknown = setup.db.remove_provider("p").await.expect_err("is gone");
  assert_eq!(unknown.to_string(), "Provider not found");
  let expected = [
    "provider_added",
    "index_created",
    "provider_updated",
    "index_destroyed",
    "provider_updated",
    "provider_removed",
  ];
  assert_eq!(heard(&mut events), expected);
}

#[tokio::test]
async fn a_provider_is_changed_only_for_one_of_the_same_dimension() {
  let setup = Setup::new();
  setup
    .db
    .add_provider("three", config("http://a", 3))
    .await
    .expect("adds");
  setup
    .db
    .add_provider("four", config("http://a", 4))
    .await
    .expect("adds");
  let id = setup
    .db
    .create(using("a", "three"))
    .await
    .expect("is made")
    .id;
  setup
    .db
    .change_provider(&id, "four")
    .await
    .expect("nothing is in it");
  setup
    .db
    .change_provider(&id, "three")
    .await
    .expect("nothing is in it");
  setup
    .add(&id, vec![document(json!({"id": "v", "vector": [1, 2, 3]}))])
    .await;
  let refused = setup
    .db
    .change_provider(&id, "four")
    .await
    .expect_err("4 and not 3")
    .to_string();
  assert!(
    refused.starts_with("Cannot change provider: dimension mismatch. "),
    "{refused}"
  );
  let refused = setup
    .db
    .change_provider(&id, "no")
    .await
    .expect_err("unknown")
    .to_string();
  assert_eq!(refused, "Embedding provider no not found in registry");
  setup.db.offload(&id).await.expect("closes");
  let resume = CreateIndex {
    resume: true,
    ..using("a", "four")
  };
  let refused = setup
    .db
    .create(resume)
    .await
    .expect_err("4 and not 3")
    .to_string();
  assert!(refused.contains("dimension mismatch"), "{refused}");
  setup.search_vector(&id).await;
  assert_eq!(
    setup
      .db
      .info(&id)
      .await
      .expect("is open")
      .embedding_provider,
    "three"
  );
}

impl Setup {
  async fn search_vector(&self, id: &IndexId) {
    let request = QueryRequest::vector(vec![1.0, 2.0, 3.0]);
    let hits = self.db.query(id, request, &Requester::Trusted).await;
    assert_eq!(hits.expect("finds").len(), 1);
  }
}

#[tokio::test]
async fn defaults_embed_where_an_index_names_no_provider() {
  let server = Server::start(|_, body| ollama(body)).await;
  let url = server.url.clone();
  let setup = Setup::with(|options| {
    options.providers = vec![("p".into(), config(&url, 3))];
    options.default_provider = Some("p".into());
  });
  let id = setup.create("a").await;
  setup.add(&id, vec![text("d", "alpha")]).await;
  assert_eq!(
    setup
      .db
      .info(&id)
      .await
      .expect("is open")
      .embedding_dimension,
    Some(3)
  );
  let none = Setup::with(|options| options.default_model = "gpt".into());
  let id = none.create("a").await;
  let outcome = none
    .db
    .add(&id, vec![text("d", "alpha")], &Requester::Trusted)
    .await;
  assert!(
    outcome
      .expect_err("none")
      .to_string()
      .starts_with("No embedding provider available")
  );
  let missing = Setup::with(|options| options.default_provider = Some("gone".into()));
  let id = missing.create("a").await;
  let outcome = missing
    .db
    .add(&id, vec![text("d", "alpha")], &Requester::Trusted)
    .await;
  assert!(
    outcome
      .expect_err("none")
      .to_string()
      .contains("gone not found in registry")
  );
}

#[tokio::test]
async fn a_trial_says_whether_a_provider_works_now() {
  let server = Server::start(|number, body| match number {
    0 | 2 => ollama(body),
    _ => Act::Answer(
      "404 Not Found",
      json!({"error": "model not found"}).to_string(),
    ),
  })
  .await;
  let setup = Setup::new();
  setup
    .db
    .add_provider("p", config(&server.url, 3))
    .await
    .expect("adds");
  let trial = setup.db.test_provider("p").await;
  assert_eq!(
    (trial.available, trial.test_embedding_length),
    (true, Some(3))
  );
  assert_eq!(trial.message, "Provider is working correctly");
  let trial = setup.db.test_provider("p").await;
  assert!(
    !trial.available && trial.message.contains("model not found"),
    "{trial:?}"
  );
  let trial = setup.db.test_provider("mock-model").await;
  assert_eq!(
    (trial.available, trial.message.as_str()),
    (false, "Provider not found in registry")
  );
}

#[tokio::test]
async fn listings_show_use_and_no_secret() {
  let setup = Setup::with(|options| options.providers = preconfigured("http://me:hunter2@host"));
  let openai =
    json!({"baseURL": "https://x/v1?k=hunter3", "model": "m", "dimension": 3, "apiKey": "hunter4"});
  let openai = ProviderConfig::parse("openai", &openai).expect("good");
  let added = setup.db.add_provider("mine", openai).await.expect("adds");
  setup.db.create(using("a", "mine")).await.expect("is made");
  setup
    .db
    .remove_provider("ollama-all-minilm")
    .await
    .expect("removes");
  let list = setup.db.providers();
  let shown = format!(
    "{list:?} {added:?} {}",
    serde_json::to_string(&list).expect("JSON")
  );
  assert!(!shown.contains("hunter"), "{shown}");
  assert!(!format!("{:?}", setup.db.options).contains("hunter"));
  let json = serde_json::to_value(&list).expect("JSON");
  assert_eq!(json["configProviders"].as_array().map(Vec::len), Some(5));
  assert_eq!(json["configProviders"][0]["name"], "mock-model");
  assert_eq!(json["configProviders"][0]["type"], "builtin");
  let gone = list
    .config_providers
    .iter()
    .find(|p| p.name == "ollama-all-minilm")
    .expect("is named");
  assert!(!gone.available);
  assert_eq!(json["stats"]["totalProviders"], 4);
  assert_eq!(
    json["stats"]["providersByType"],
    json!({"ollama": 3, "openai": 1})
  );
  assert_eq!(json["stats"]["providersInUse"], 1);
  assert_eq!(json["stats"]["providerUsage"][0]["id"], "mine");
  assert_eq!(json["stats"]["providerUsage"][0]["instancesUsing"], 1);
}
