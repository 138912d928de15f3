use super::*;

async fn refusal(setup: &Setup, id: &IndexId, documents: Vec<NewDocument>) -> VectorError {
  let outcome = setup.db.add(&operator(), id.as_str(), documents).await;
  outcome.expect_err("it cannot be added")
}

#[tokio::test]
async fn documents_are_found_replaced_counted_and_removed() {
  let setup = Setup::new();
  let id = setup.create("docs").await;
  let added = setup
    .add(&id, vec![text("d1", "alpha"), text("d2", "beta")])
    .await;
  assert_eq!(
    (added.added, added.replaced, added.document_count),
    (2, 0, 2)
  );
  let hits = setup.search(&id, "alpha").await;
  assert_eq!(ids(&hits), ["d1", "d2"]);
  assert!((hits[0].score - 1.0).abs() < 1e-5);
  let added = setup
    .add(&id, vec![text("d1", "gamma"), text("d3", "delta")])
    .await;
  assert_eq!(
    (added.added, added.replaced, added.document_count),
    (1, 1, 3)
  );
  let hits = setup.search(&id, "gamma").await;
  assert_eq!(
    (hits[0].id.as_str(), hits[0].text.as_deref()),
    ("d1", Some("gamma"))
  );
  let ids = vec!["d1".into(), "nobody".into()];
  let removed = setup
    .db
    .remove_documents(&operator(), id.as_str(), by_ids(ids))
    .await
    .expect("removes");
  assert_eq!((removed.removed, removed.document_count), (1, 2));
  assert!(
    setup
      .search(&id, "gamma")
      .await
      .iter()
      .all(|hit| hit.id != "d1")
  );
}

#[tokio::test]
async fn a_batch_with_a_bad_document_changes_nothing() {
  let setup = Setup::with(|options| {
    options.limits.batch_documents = 5;
    options.limits.batch_bytes = 2000;
  });
  let id = setup.create("docs").await;
  let good = || text("good", "alpha");
  let vector = |vector: Vec<f32>| NewDocument {
    id: "bad".into(),
    vector: Some(vector),
    ..NewDocument::default()
  };
  let neither = "Document bad must have either text or vector";
  let cases = [
    (document(json!({"id": "bad"})), neither),
    (document(json!({"id": "bad", "text": ""})), neither),
    (
      document(json!({"text": "no id"})),
      "Document must have an id: number 1",
    ),
    (text("good", "again"), "Document good is in the batch twice"),
    (vector(vec![]), "Document bad: the vector is empty"),
    (
      vector(vec![0.0, f32::NAN]),
      "Document bad: number 1 of the vector is not finite",
    ),
    (vector(vec![f32::INFINITY]), "Document bad: number 0"),
    (
      text("bad", &"x".repeat(3000)),
      "exceeds 2000 bytes at document bad",
    ),
    (
      document(json!({"id": "bad", "text": "a", "metadata": {"a": "x".repeat(3000)}})),
      "exceeds 2000",
    ),
  ];
  for (bad, expected) in cases {
    let message = refusal(&setup, &id, vec![good(), bad]).await.to_string();
    assert!(message.contains(expected), "{expected}: {message}");
  }
  let many = (0..6).map(|i| text(&i.to_string(), "alpha")).collect();
  assert!(matches!(
    refusal(&setup, &id, many).await,
    VectorError::TooLarge(_)
  ));
  assert_eq!(setup.count(&id).await, 0);
}

#[tokio::test]
async fn an_unfit_query_is_refused_with_the_field() {
  let setup = Setup::new();
  let id = setup.create("docs").await;
  setup.add(&id, vec![text("a", "alpha")]).await;
  let text = || QueryRequest::text("alpha");
  let cases = [
    (QueryRequest::default(), "No query provided"),
    (QueryRequest::text(""), "No query provided"),
    (QueryRequest::vector(vec![]), "query: the vector is empty"),
    (QueryRequest::vector(vec![f32::NAN]), "query: number 0"),
    (
      QueryRequest {
        mode: QueryMode::Hybrid,
        ..QueryRequest::vector(vec![1.0])
      },
      "need a text",
    ),
    (
      QueryRequest {
        threshold: f32::NAN,
        ..text()
      },
      "threshold: NaN",
    ),
    (
      QueryRequest {
        threshold: -0.5,
        ..text()
      },
      "threshold",
    ),
    (
      QueryRequest {
        k: usize::MAX,
        offset: 9,
        ..text()
      },
      "k: ",
    ),
    (
      QueryRequest {
        filter: Some(json!({"$bad": 1})),
        ..text()
      },
      "$bad",
    ),
  ];
  for (request, expected) in cases {
    let outcome = setup.db.query(&operator(), id.as_str(), request).await;
    let message = outcome.expect_err(expected).to_string();
    assert!(message.contains(expected), "{expected}: {message}");
  }
}

#[tokio::test]
async fn a_query_gives_what_it_is_asked_for() {
  let setup = Setup::new();
  let id = setup.create("docs").await;
  let documents = (0..20).map(|i| {
    document(
      json!({"id": format!("d{i}"), "text": format!("word{i}"), "metadata": {"even": i % 2 == 0}}),
    )
  });
  setup.add(&id, documents.collect()).await;
  let query = async |request| {
    setup
      .db
      .query(&operator(), id.as_str(), request)
      .await
      .expect("finds")
  };
  let zero = QueryRequest {
    k: 0,
    ..QueryRequest::text("word7")
  };
  let hits = query(zero).await;
  assert_eq!((hits.len(), hits[0].id.as_str()), (10, "d7"));
  assert!(hits[0].metadata.is_some() && hits[0].vector.is_none());
  let plain = QueryRequest {
    include_metadata: false,
    include_vectors: true,
    ..QueryRequest::text("a")
  };
  let hits = query(plain).await;
  assert!(hits[0].metadata.is_none() && hits[0].vector.is_some());
  let filtered = QueryRequest {
    k: 99,
    filter: Some(json!({"even": true})),
    ..QueryRequest::text("a")
  };
  assert_eq!(query(filtered).await.len(), 10);
  let words = QueryRequest {
    mode: QueryMode::FullText,
    ..QueryRequest::text("word7")
  };
  let hits = query(words).await;
  assert_eq!(ids(&hits), ["d7"]);
  assert_eq!(hits[0].distance, None);
  let both = QueryRequest {
    mode: QueryMode::Hybrid,
    ..QueryRequest::text("word7")
  };
  assert_eq!(query(both).await[0].id, "d7");
  let (db, id, all) = (&setup.db, id.as_str(), operator());
  let odd = json!({"even": false});
  let list = |request: ListDocuments| db.list_documents(&all, id, request);
  let page = ListDocuments {
    filter: Some(odd.clone()),
    offset: 8,
    limit: 5,
    include_vectors: false,
  };
  let page = list(page).await.expect("lists");
  assert_eq!((page.documents.len(), page.total), (2, 10));
  assert_eq!(page.documents[0].vector, None);
  let whole = ListDocuments {
    include_vectors: true,
    ..ListDocuments::default()
  };
  let whole = list(whole).await.expect("lists");
  assert_eq!((whole.documents.len(), whole.total), (20, 20));
  assert!(whole.documents[0].vector.is_some());
  let most = ListDocuments {
    limit: u64::MAX,
    ..ListDocuments::default()
  };
  list(most).await.expect_err("too many");
  let wanted = vec!["d3".into(), "no".into()];
  let got = db.get_documents(&all, id, wanted, true).await;
  assert_eq!(got.expect("gets").len(), 1);
  let both = RemoveDocuments {
    ids: vec!["d0".into()],
    ..by_filter(odd.clone())
  };
  assert_eq!(
    message(db.remove_documents(&all, id, both).await),
    "documentIds and filter: give one of the two"
  );
  let removed = db.remove_documents(&all, id, by_filter(odd)).await;
  let removed = removed.expect("removes");
  assert_eq!((removed.removed, removed.document_count), (10, 10));
}

#[tokio::test]
async fn texts_fit_an_index_of_the_built_in_model_whatever_its_dimension() {
  let setup = Setup::new();
  let id = setup.create("flexible").await;
  setup
    .add(
      &id,
      vec![document(
        json!({"id": "a", "vector": vec![0.5; 128], "metadata": {"x": 1}}),
      )],
    )
    .await;
  let hits = setup.search(&id, "a text of 384 numbers").await;
  assert!(hits[0].metadata.is_some());
  setup.add(&id, vec![text("b", "another")]).await;
  let info = setup
    .db
    .info(&operator(), id.as_str())
    .await
    .expect("is open");
  assert_eq!(info.embedding_dimension, Some(128));
  let wrong = document(json!({"id": "c", "vector": vec![0.5; 256]}));
  let wrong = refusal(&setup, &id, vec![wrong]).await.to_string();
  assert!(
    wrong.contains("256") && wrong.contains("dimension 128"),
    "{wrong}"
  );
  let request = QueryRequest::vector(vec![0.5; 256]);
  let wrong = setup.db.query(&operator(), id.as_str(), request).await;
  assert!(message(wrong).contains("dimension 128"));
  // So short that nothing but zeros is left of most texts.
  let id = setup.create("short").await;
  let vector = document(json!({"id": "v", "vector": [1, 2]}));
  let texts = (0..20).map(|i| text(&i.to_string(), &format!("text {i}")));
  setup
    .add(&id, texts.chain(std::iter::once(vector)).collect())
    .await;
  for i in 0..20 {
    assert_eq!(
      setup.search(&id, &format!("other text {i}")).await.len(),
      10
    );
  }
  for rule in [DimensionRule::Strict, DimensionRule::Fixed(2)] {
    let mut request = named(&format!("{rule:?}"));
    request.dimension = rule;
    let id = setup
      .db
      .create(&operator(), request)
      .await
      .expect("is made")
      .id;
    setup
      .add(&id, vec![document(json!({"id": "a", "vector": [1, 2]}))])
      .await;
    let wrong = refusal(
      &setup,
      &id,
      vec![document(json!({"id": "b", "vector": [1, 2, 3]}))],
    )
    .await;
    assert!(wrong.to_string().contains("Document b"), "{wrong}");
    assert_eq!(setup.count(&id).await, 1);
  }
}

#[tokio::test]
async fn an_index_takes_no_more_documents_than_it_may_have() {
  let setup = Setup::new();
  let mut request = named("small");
  request.max_documents = Some(2);
  let id = setup
    .db
    .create(&operator(), request)
    .await
    .expect("is made")
    .id;
  setup
    .add(&id, vec![text("a", "alpha"), text("b", "beta")])
    .await;
  let full = refusal(&setup, &id, vec![text("a", "new"), text("c", "gamma")]).await;
  assert!(
    matches!(&full, VectorError::LimitReached(why) if why.contains("maxDocuments")),
    "{full}"
  );
  setup
    .add(&id, vec![text("a", "replaced"), text("b", "too")])
    .await;
}
