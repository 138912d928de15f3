//! Indices whose texts the local model embeds.

use std::io::Write;

use super::*;
use crate::embedding::LOCAL_MODEL;
use crate::embedding::LocalModelFiles;
use crate::embedding::MOCK_MODEL;

/// As the server has it by default.
fn by_default(options: &mut VectorDbOptions) {
  let folder = std::env::var_os("LOCAL_MODEL_DIR").expect("scripts/setup.sh sets LOCAL_MODEL_DIR");
  options.registry.local_model = LocalModelFiles::Folder(folder.into());
  options.default_model = LOCAL_MODEL.to_owned();
}

async fn create(setup: &Setup, change: impl FnOnce(&mut CreateIndex)) -> IndexId {
  let mut request = CreateIndex::default();
  change(&mut request);
  let made = setup.db.create(&operator(), request).await;
  made.expect("is made").id
}

async fn vector_of(setup: &Setup, index: &IndexId, id: &str) -> Vec<f32> {
  let found = setup
    .db
    .get_document(&operator(), index.as_str(), id, true)
    .await;
  found.expect("is there").vector.expect("has a vector")
}

fn length(vector: &[f32]) -> f32 {
  vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[tokio::test]
async fn a_new_index_without_a_provider_finds_by_meaning() {
  let setup = Setup::with(by_default);
  let id = setup.create("a").await;
  let documents = [
    text("doctor", "The physician heals the sick in the clinic."),
    text("ship", "Vessels lie at anchor in the harbour."),
    text("bread", "Flour, water and yeast make a good dough."),
  ];
  setup.add(&id, documents.into()).await;
  for (query, best) in [
    ("hospital doctor treating patients", "doctor"),
    ("boats in port", "ship"),
    ("baking bread at home", "bread"),
  ] {
    assert_eq!(setup.search(&id, query).await[0].id, best, "{query}");
  }
  let info = setup.db.info(&operator(), id.as_str()).await;
  let info = info.expect("is open");
  assert_eq!(
    (info.embedding_provider.as_str(), info.embedding_dimension),
    ("Built-in", Some(256))
  );
}

#[tokio::test]
async fn an_index_keeps_the_model_that_it_was_made_with() {
  let setup = Setup::new();
  let old = setup.create("old").await;
  setup.add(&old, vec![text("d", "alpha beta")]).await;
  setup.db.store.let_go();
  let db = open(&setup.folder, by_default);
  let setup = Setup {
    db,
    folder: setup.folder,
  };
  // Of the mock, whose vectors are equal for equal texts only.
  assert_eq!(vector_of(&setup, &old, "d").await.len(), 384);
  setup.add(&old, vec![text("e", "alpha beta")]).await;
  assert_eq!(
    vector_of(&setup, &old, "e").await,
    vector_of(&setup, &old, "d").await
  );
  let new = setup.create("new").await;
  setup.add(&new, vec![text("d", "alpha beta")]).await;
  let named = create(&setup, |it| {
    it.embedding_provider_name = Some(MOCK_MODEL.into());
  })
  .await;
  setup.add(&named, vec![text("d", "alpha beta")]).await;
  assert_eq!(vector_of(&setup, &named, "d").await.len(), 384);
  setup.db.store.let_go();
  // On a server with another default, too.
  let db = open(&setup.folder, |options| {
    by_default(options);
    options.default_model = MOCK_MODEL.to_owned();
  });
  let setup = Setup {
    db,
    folder: setup.folder,
  };
  setup.add(&new, vec![text("e", "alpha beta")]).await;
  assert_eq!(
    vector_of(&setup, &new, "e").await,
    vector_of(&setup, &new, "d").await
  );
}

#[tokio::test]
async fn any_text_has_a_vector_in_an_index_of_any_dimension() {
  let setup = Setup::with(by_default);
  let long = "word ".repeat(2_000_000);
  let texts = [
    " ",
    "\0",
    "\u{10ffff}\u{e000}",
    "<s></s>",
    "日本語 😀",
    &long,
  ];
  for dimension in [
    DimensionRule::Strict,
    DimensionRule::Fixed(64),
    DimensionRule::Fixed(100),
    DimensionRule::Fixed(300),
  ] {
    let id = create(&setup, |it| it.dimension = dimension).await;
    let documents = texts
      .iter()
      .enumerate()
      .map(|(at, it)| text(&at.to_string(), it));
    setup.add(&id, documents.collect()).await;
    for at in 0..texts.len() {
      let vector = vector_of(&setup, &id, &at.to_string()).await;
      assert!(
        (length(&vector) - 1.0).abs() < 1e-4,
        "{dimension:?} {at}: {vector:?}"
      );
    }
    assert_eq!(setup.search(&id, " ").await[0].id, "0");
  }
  // Vectors of a client's own have any dimension, as with the mock.
  let id = create(&setup, |_| {}).await;
  let own = document(json!({"id": "v", "vector": [1.0, 0.0]}));
  setup.add(&id, vec![own, text("t", "a text")]).await;
  assert_eq!(vector_of(&setup, &id, "t").await.len(), 2);
}

#[tokio::test]
async fn a_provider_of_the_type_local_makes_shorter_vectors() {
  let setup = Setup::with(by_default);
  let config = json!({"dimension": 64});
  let added = setup
    .db
    .add_provider(&operator(), "short", "local", &config)
    .await;
  let added = serde_json::to_value(added.expect("is added")).expect("JSON");
  assert_eq!(
    added,
    json!({"name": "short", "type": "local", "dimension": 64, "model": LOCAL_MODEL, "host": null})
  );
  let whole = create(&setup, |_| {}).await;
  setup.add(&whole, vec![text("d", "a text")]).await;
  setup.db.store.let_go();
  let db = open(&setup.folder, by_default);
  let setup = Setup {
    db,
    folder: setup.folder,
  };
  let short = create(&setup, |it| {
    it.embedding_provider_name = Some("short".into());
  })
  .await;
  setup.add(&short, vec![text("d", "a text")]).await;
  let (whole, short) = (
    vector_of(&setup, &whole, "d").await,
    vector_of(&setup, &short, "d").await,
  );
  assert_eq!(short.len(), 64);
  let beginning = length(&whole[..64]);
  for (short, whole) in short.iter().zip(&whole) {
    assert!((short - whole / beginning).abs() < 1e-5);
  }
  let trial = setup.db.test_provider(&operator(), "short").await;
  assert_eq!(trial.expect("is tried").test_embedding_length, Some(64));
  for name in [LOCAL_MODEL, MOCK_MODEL] {
    let caller = operator();
    let taken = setup.db.add_provider(&caller, name, "local", &config).await;
    assert!(message(taken).contains("is part of the server"));
  }
}

#[tokio::test]
async fn a_build_without_the_model_says_so_when_a_text_comes() {
  let setup = Setup::with(|options| options.default_model = LOCAL_MODEL.to_owned());
  let id = setup.create("a").await;
  let own = document(json!({"id": "v", "vector": [1.0, 0.0]}));
  setup.add(&id, vec![own]).await;
  let refused = setup
    .db
    .add(&operator(), id.as_str(), vec![text("d", "alpha")])
    .await;
  let why = message(refused);
  assert!(why.contains("built without local-model"), "{why}");
}

/// 160 questions, each with the one passage that answers it. Written before there was a model to rank them.
#[tokio::test]
async fn fused_ranks_find_more_answers_than_meaning_or_words_alone() {
  let setup = Setup::with(by_default);
  let pairs: Vec<Value> = include_str!("../../../../tests/retrieval/pairs.jsonl")
    .lines()
    .map(|line| serde_json::from_str(line).expect("JSON"))
    .collect();
  let mut recall = std::collections::BTreeMap::new();
  for provider in [LOCAL_MODEL, MOCK_MODEL] {
    let id = create(&setup, |it| {
      it.embedding_provider_name = Some(provider.into());
    })
    .await;
    let passages = pairs
      .iter()
      .map(|it| document(json!({"id": it["id"], "text": it["passage"]})));
    setup.add(&id, passages.collect()).await;
    for mode in [QueryMode::Semantic, QueryMode::FullText, QueryMode::Hybrid] {
      let mut found = 0;
      for pair in &pairs {
        let request = QueryRequest {
          mode,
          k: 5,
          ..QueryRequest::text(pair["question"].as_str().expect("text"))
        };
        let hits = setup.db.query(&operator(), id.as_str(), request).await;
        found += usize::from(
          ids(&hits.expect("is searched")).contains(&pair["id"].as_str().expect("an id")),
        );
      }
      recall.insert((provider, format!("{mode:?}")), found);
    }
  }
  let _ = writeln!(std::io::stdout(), "recall@5 of {}: {recall:?}", pairs.len());
  let of = |provider, mode: &str| recall[&(provider, mode.to_owned())];
  let (words, meaning) = (of(LOCAL_MODEL, "FullText"), of(LOCAL_MODEL, "Semantic"));
  let fused = of(LOCAL_MODEL, "Hybrid");
  assert!(fused > words && fused > meaning, "{recall:?}");
  assert!(meaning > of(MOCK_MODEL, "Semantic") * 3, "{recall:?}");
}
