use super::*;
use crate::embedding::ProviderConfig;
use crate::embedding::preconfigured;
use crate::embedding::tests::server::Act;
use crate::embedding::tests::server::Server;
use crate::embedding::tests::server::ollama;

fn config(url: &str, dimension: usize) -> Value {
  json!({"host": url, "model": "m", "dimension": dimension})
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
    .add_provider(&operator(), "p", "ollama", &config(&server.url, 3))
    .await
    .expect("adds");
  let info = setup
    .db
    .create(&operator(), using("a", "p"))
    .await
    .expect("is made");
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
    .query(&operator(), info.id.as_str(), QueryRequest::text("alpha"))
    .await;
  assert_eq!(ids(&hits.expect("finds")), ["d", "e"]);
}

#[tokio::test]
async fn a_provider_that_fails_adds_nothing_and_is_named_with_the_document() {
  let server = Server::start(|_, _| Act::Answer("400 Bad Request", "{}".into())).await;
  let setup = Setup::new();
  setup
    .db
    .add_provider(&operator(), "p", "ollama", &config(&server.url, 3))
    .await
    .expect("adds");
  let id = setup
    .db
    .create(&operator(), using("a", "p"))
    .await
    .expect("is made")
    .id;
  let given = document(json!({"id": "v", "vector": [1, 2, 3]}));
  let outcome = setup
    .db
    .add(
      &operator(),
      id.as_str(),
      vec![given.clone(), text("t", "alpha")],
    )
    .await;
  let message = outcome.expect_err("it fails").to_string();
  assert!(
    message.contains("provider p") && message.contains("document t"),
    "{message}"
  );
  assert_eq!(setup.count(&id).await, 0);
  let wrong = document(json!({"id": "w", "vector": [1, 2]}));
  let outcome = setup.db.add(&operator(), id.as_str(), vec![wrong]).await;
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
  let mut events = setup.db.watch(&operator()).expect("watches");
  setup
    .db
    .add_provider(&operator(), "p", "ollama", &config("http://a", 3))
    .await
    .expect("adds");
  let id = setup
    .db
    .create(&operator(), using("a", "p"))
    .await
    .expect("is made")
    .id;
  let info = setup.db.provider_info(&operator(), "p").expect("is there");
  assert_eq!(
    (info.instances_using, info.instance_ids),
    (1, vec![id.clone()])
  );
  let refused = setup
    .db
    .remove_provider(&operator(), "p")
    .await
    .expect_err("in use")
    .to_string();
  assert_eq!(
    refused,
    "Cannot remove provider p: it is being used by 1 instance(s)"
  );
  let refused = setup
    .db
    .update_provider(&operator(), "p", "ollama", &config("http://a", 4))
    .await;
  assert!(
    refused
      .expect_err("in use")
      .to_string()
      .contains("dimension change would affect")
  );
  let updated = setup
    .db
    .update_provider(&operator(), "p", "ollama", &config("http://b", 3))
    .await
    .expect("updates");
  assert_eq!(updated.host.as_deref(), Some("http://b"));
  setup
    .db
    .delete(&operator(), id.as_str())
    .await
    .expect("deletes");
  setup
    .db
    .update_provider(&operator(), "p", "ollama", &config("http://a", 4))
    .await
    .expect("is free");
  setup
    .db
    .remove_provider(&operator(), "p")
    .await
    .expect("is free");
  let unknown = setup
    .db
    .remove_provider(&operator(), "p")
    .await
    .expect_err("is gone");
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
    .add_provider(&operator(), "three", "ollama", &config("http://a", 3))
    .await
    .expect("adds");
  setup
    .db
    .add_provider(&operator(), "four", "ollama", &config("http://a", 4))
    .await
    .expect("adds");
  let id = setup
    .db
    .create(&operator(), using("a", "three"))
    .await
    .expect("is made")
    .id;
  setup
    .db
    .change_provider(&operator(), id.as_str(), "four")
    .await
    .expect("nothing is in it");
  setup
    .db
    .change_provider(&operator(), id.as_str(), "three")
    .await
    .expect("nothing is in it");
  setup
    .add(&id, vec![document(json!({"id": "v", "vector": [1, 2, 3]}))])
    .await;
  let refused = setup
    .db
    .change_provider(&operator(), id.as_str(), "four")
    .await
    .expect_err("4 and not 3")
    .to_string();
  assert!(
    refused.starts_with("Cannot change provider: dimension mismatch. "),
    "{refused}"
  );
  let refused = setup
    .db
    .change_provider(&operator(), id.as_str(), "no")
    .await
    .expect_err("unknown")
    .to_string();
  assert_eq!(refused, "Embedding provider no not found in registry");
  setup
    .db
    .offload(&operator(), id.as_str())
    .await
    .expect("closes");
  let resume = CreateIndex {
    resume: true,
    ..using("a", "four")
  };
  let refused = setup
    .db
    .create(&operator(), resume)
    .await
    .expect_err("4 and not 3")
    .to_string();
  assert!(refused.contains("dimension mismatch"), "{refused}");
  setup.search_vector(&id).await;
  assert_eq!(
    setup
      .db
      .info(&operator(), id.as_str())
      .await
      .expect("is open")
      .embedding_provider,
    "three"
  );
}

impl Setup {
  async fn search_vector(&self, id: &IndexId) {
    let request = QueryRequest::vector(vec![1.0, 2.0, 3.0]);
    let hits = self.db.query(&operator(), id.as_str(), request).await;
    assert_eq!(hits.expect("finds").len(), 1);
  }
}

#[tokio::test]
async fn defaults_embed_where_an_index_names_no_provider() {
  let server = Server::start(|_, body| ollama(body)).await;
  let url = server.url.clone();
  let setup = Setup::with(|options| {
    let config = ProviderConfig::parse("ollama", &config(&url, 3)).expect("good");
    options.providers = vec![("p".into(), config)];
    options.default_provider = Some("p".into());
  });
  let id = setup.create("a").await;
  setup.add(&id, vec![text("d", "alpha")]).await;
  assert_eq!(
    setup
      .db
      .info(&operator(), id.as_str())
      .await
      .expect("is open")
      .embedding_dimension,
    Some(3)
  );
  let none = Setup::with(|options| options.default_model = "gpt".into());
  let id = none.create("a").await;
  let outcome = none
    .db
    .add(&operator(), id.as_str(), vec![text("d", "alpha")])
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
    .add(&operator(), id.as_str(), vec![text("d", "alpha")])
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
    .add_provider(&operator(), "p", "ollama", &config(&server.url, 3))
    .await
    .expect("adds");
  let trial = setup
    .db
    .test_provider(&operator(), "p")
    .await
    .expect("is tried");
  assert_eq!(
    (trial.available, trial.test_embedding_length),
    (true, Some(3))
  );
  assert_eq!(trial.message, "Provider is working correctly");
  let trial = setup
    .db
    .test_provider(&operator(), "p")
    .await
    .expect("is tried");
  assert!(
    !trial.available && trial.message.contains("model not found"),
    "{trial:?}"
  );
  let trial = setup
    .db
    .test_provider(&operator(), "mock-model")
    .await
    .expect("is tried");
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
  let added = setup
    .db
    .add_provider(&operator(), "mine", "openai", &openai)
    .await
    .expect("adds");
  setup
    .db
    .create(&operator(), using("a", "mine"))
    .await
    .expect("is made");
  setup
    .db
    .remove_provider(&operator(), "ollama-all-minilm")
    .await
    .expect("removes");
  let list = setup.db.providers(&operator()).expect("lists");
  let shown = format!(
    "{list:?} {added:?} {}",
    serde_json::to_string(&list).expect("JSON")
  );
  assert!(!shown.contains("hunter"), "{shown}");
  assert!(!format!("{:?}", setup.db.options).contains("hunter"));
  let json = serde_json::to_value(&list).expect("JSON");
  assert_eq!(json["configProviders"].as_array().map(Vec::len), Some(6));
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

#[tokio::test]
async fn providers_are_the_operators_and_their_addresses_too() {
  let setup = Setup::new();
  let lab = namespaced("lab");
  let config = config("http://internal:11434", 3);
  let db = &setup.db;
  let operators =
    "This is the operator's to do: the token is for the namespace `lab` only".to_owned();
  for refused in [
    message(db.add_provider(&lab, "p", "ollama", &config).await),
    // Whatever else is wrong with the request.
    message(db.add_provider(&lab, "", "", &Value::Null).await),
    message(db.update_provider(&lab, "p", "ollama", &config).await),
    message(db.remove_provider(&lab, "p").await),
    message(db.test_provider(&lab, "p").await),
  ] {
    assert_eq!(refused, operators);
  }
  let added = db.add_provider(&operator(), "p", "ollama", &config).await;
  let added = added.expect("adds");
  assert_eq!(added.host.as_deref(), Some("http://internal:11434"));
  assert_eq!(db.provider_info(&lab, "p").expect("is there").host, None);
  let told = db.provider_info(&operator(), "p").expect("is there");
  assert_eq!(told.host, added.host);
  let listed = serde_json::to_string(&db.providers(&lab).expect("lists")).expect("JSON");
  assert!(
    listed.contains(r#""name":"p""#) && !listed.contains("internal"),
    "{listed}"
  );
}

#[tokio::test]
async fn a_caller_learns_only_of_its_own_indices_that_use_a_provider() {
  let setup = Setup::new();
  let (lab, db) = (namespaced("lab"), &setup.db);
  db.add_provider(&operator(), "p", "ollama", &config("http://a", 3))
    .await
    .expect("adds");
  let foreign = db.create(&operator(), using("a", "p")).await;
  let foreign = foreign.expect("is made").id;
  let used = |caller: &Caller| {
    let info = db.provider_info(caller, "p").expect("is there");
    let stats = db.providers(caller).expect("lists").stats;
    assert_eq!(info.instances_using, info.instance_ids.len());
    assert_eq!(
      stats.provider_usage[0].instances_using,
      info.instances_using
    );
    (info.instance_ids, stats.providers_in_use)
  };
  assert_eq!(used(&lab), (Vec::new(), 0));
  assert_eq!(used(&operator()), (vec![foreign.clone()], 1));
  let own = CreateIndex {
    namespace: None,
    ..using("a", "p")
  };
  let own = db.create(&lab, own).await.expect("is made").id;
  assert_eq!(used(&lab), (vec![own.clone()], 1));
  assert_eq!(used(&operator()), (vec![own, foreign], 1));
  let refused = message(db.remove_provider(&operator(), "p").await);
  assert!(refused.contains("used by 2 instance(s)"), "{refused}");
}

#[tokio::test]
async fn the_name_default_stands_for_no_provider_in_particular() {
  let setup = Setup::new();
  for name in ["default", ""] {
    let request = CreateIndex {
      id: None,
      ..using("", name)
    };
    let made = setup.db.create(&operator(), request).await;
    assert_eq!(made.expect("is made").embedding_provider, "Built-in");
  }
}

#[tokio::test]
async fn what_is_missing_is_said_before_a_provider_is_looked_for() {
  let setup = Setup::new();
  let (db, config) = (&setup.db, config("http://a", 3));
  let add = async |name, kind, config| {
    message(
      db.add_provider(&operator(), name, kind, config)
        .await
        .map(drop),
    )
  };
  for (name, kind, config) in [
    ("", "ollama", &config),
    ("p", "", &config),
    ("p", "ollama", &Value::Null),
  ] {
    assert_eq!(
      add(name, kind, config).await,
      "Name, type, and config are required"
    );
  }
  let update = db
    .update_provider(&operator(), "p", "", &config)
    .await
    .map(drop);
  assert_eq!(message(update), "Type and config are required");
  let update = db
    .update_provider(&operator(), "p", "psychic", &config)
    .await;
  assert!(message(update).starts_with("Unsupported provider type: psychic"));
  let update = db
    .update_provider(&operator(), "p", "ollama", &config)
    .await;
  assert_eq!(message(update), "Provider not found");
  let test = db.test_provider(&operator(), "").await;
  assert_eq!(message(test), "Provider name is required");
}
