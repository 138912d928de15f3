use super::*;

#[tokio::test]
async fn an_id_is_taken_open_or_closed_until_it_is_deleted() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  assert_eq!(id.as_str(), "w:a");
  assert!(message(setup.db.create(&operator(), named("a")).await).contains("already exists"));
  setup
    .db
    .offload(&operator(), id.as_str())
    .await
    .expect("closes");
  let refused = message(setup.db.create(&operator(), named("a")).await);
  assert!(
    refused.contains("already exists on disk") && refused.contains("resume=true"),
    "{refused}"
  );
  setup
    .db
    .delete(&operator(), id.as_str())
    .await
    .expect("deletes what is closed");
  assert_eq!(setup.folders(), 0);
  let resume = CreateIndex {
    resume: true,
    ..named("a")
  };
  assert!(message(setup.db.create(&operator(), resume).await).starts_with("Cannot resume"));
  setup.create("a").await;
  setup
    .db
    .delete(&operator(), id.as_str())
    .await
    .expect("deletes what is open");
  assert_eq!(setup.folders(), 0);
  assert_eq!(
    message(setup.db.delete(&operator(), id.as_str()).await),
    "Vector database instance w:a not found"
  );
}

#[tokio::test]
async fn an_index_without_an_id_gets_one_and_without_a_namespace_the_default() {
  let setup = Setup::new();
  let one = setup
    .db
    .create(&operator(), CreateIndex::default())
    .await
    .expect("is made");
  let two = setup
    .db
    .create(
      &operator(),
      CreateIndex {
        id: Some(String::new()),
        ..CreateIndex::default()
      },
    )
    .await;
  assert_ne!(one.id, two.expect("is made").id);
  assert_eq!(one.namespace.as_deref(), Some("default"));
}

#[tokio::test]
async fn resuming_keeps_documents_and_takes_new_options() {
  let setup = Setup::new();
  let mut events = setup.db.watch(&operator()).expect("watches");
  let id = setup.create("a").await;
  setup.add(&id, vec![text("d", "alpha")]).await;
  let created = setup
    .db
    .info(&operator(), id.as_str())
    .await
    .expect("is open")
    .created;
  setup
    .db
    .offload(&operator(), id.as_str())
    .await
    .expect("closes");
  let resume = CreateIndex {
    resume: true,
    permission: Some(Permission::PublicRead),
    inactivity_timeout: Some(InactivityTimeout::from_millis(5000)),
    ..named("a")
  };
  let info = setup.db.create(&operator(), resume).await.expect("opens");
  assert_eq!(
    (info.document_count, info.created, info.is_from_offload),
    (1, created, true)
  );
  assert_eq!(info.permission, Permission::PublicRead);
  assert_eq!(
    info.activity_monitoring.inactivity_timeout.as_millis(),
    5000
  );
  let expected = [
    "index_created",
    "document_added",
    "index_offloaded",
    "index_resumed",
  ];
  assert_eq!(heard(&mut events), expected);
  let closed = setup
    .again()
    .offloaded(&operator(), None)
    .await
    .expect("lists");
  assert_eq!(closed.len(), 1);
}

#[tokio::test]
async fn there_are_no_more_open_indices_than_allowed() {
  let setup = Setup::with(|options| options.max_instances = 1);
  let first = setup.create("a").await;
  let full = "Maximum number of vector database instances (1) reached";
  assert_eq!(
    message(setup.db.create(&operator(), named("b")).await),
    full
  );
  setup
    .db
    .offload(&operator(), first.as_str())
    .await
    .expect("closes");
  setup.create("b").await;
  let query = setup
    .db
    .query(&operator(), first.as_str(), QueryRequest::text("x"))
    .await;
  let refused = message(query);
  assert!(
    refused.starts_with(&format!("Cannot auto-load index w:a: {full}")),
    "{refused}"
  );
  assert_eq!(
    setup.db.list(&operator(), None).await.expect("lists").len(),
    1
  );
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing() {
  let setup = Setup::new();
  let request = CreateIndex {
    embedding_provider_name: Some("no".into()),
    ..named("a")
  };
  let refused = message(setup.db.create(&operator(), request).await);
  assert_eq!(refused, "Embedding provider no not found in registry");
  assert_eq!(setup.folders(), 0);
  setup.create("a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_index_is_opened_once_however_many_use_it() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  setup.add(&id, vec![text("d", "alpha")]).await;
  for _ in 0..20 {
    setup
      .db
      .offload(&operator(), id.as_str())
      .await
      .expect("closes");
    let mut events = setup.db.watch(&operator()).expect("watches");
    let users = (0..32).map(|_| {
      let (db, id) = (setup.db.clone(), id.clone());
      tokio::spawn(async move {
        db.query(&operator(), id.as_str(), QueryRequest::text("alpha"))
          .await
      })
    });
    for user in users.collect::<Vec<_>>() {
      assert_eq!(user.await.expect("ends").expect("finds").len(), 1);
    }
    let heard = heard(&mut events);
    assert_eq!(
      heard
        .iter()
        .filter(|name| **name == "index_resumed")
        .count(),
      1
    );
  }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_closing_and_deleting_at_once_loses_and_leaves_nothing() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  let closer = {
    let (db, id) = (setup.db.clone(), id.clone());
    tokio::spawn(async move {
      for _ in 0..50 {
        let _ = db.offload(&operator(), id.as_str()).await;
      }
    })
  };
  for i in 0..50 {
    setup.add(&id, vec![text(&format!("d{i}"), "alpha")]).await;
  }
  closer.await.expect("ends");
  setup.search(&id, "alpha").await;
  assert_eq!(setup.count(&id).await, 50);
  let caller = operator();
  let (one, two) = tokio::join!(
    setup.db.delete(&caller, id.as_str()),
    setup.db.delete(&caller, id.as_str())
  );
  assert_eq!(
    [one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(),
    1
  );
  assert_eq!(setup.folders(), 0);
}

#[tokio::test]
async fn closed_indices_are_listed_and_deleted() {
  let setup = Setup::new();
  let (a, b) = (setup.create("a").await, setup.create("b").await);
  setup.add(&a, vec![text("d", "alpha")]).await;
  setup
    .db
    .offload(&operator(), a.as_str())
    .await
    .expect("closes");
  setup
    .db
    .offload(&operator(), b.as_str())
    .await
    .expect("closes");
  let list = setup
    .db
    .offloaded(&operator(), Some("w"))
    .await
    .expect("lists");
  assert_eq!(
    list.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
    ["w:b", "w:a"]
  );
  assert_eq!(
    (list[1].document_count, list[1].embedding_dimension),
    (1, Some(384))
  );
  assert!(
    setup
      .db
      .offloaded(&operator(), Some("v"))
      .await
      .expect("lists")
      .is_empty()
  );
  setup
    .db
    .delete_offloaded(&operator(), b.as_str())
    .await
    .expect("deletes");
  assert_eq!(
    message(setup.db.delete_offloaded(&operator(), b.as_str()).await),
    "Offloaded index w:b not found"
  );
  setup.search(&a, "alpha").await;
  assert!(
    setup
      .db
      .offloaded(&operator(), None)
      .await
      .expect("lists")
      .is_empty()
  );
  setup
    .db
    .delete_offloaded(&operator(), a.as_str())
    .await
    .expect_err("it is open");
  setup.db.save(&operator(), a.as_str()).await.expect("saves");
  assert_eq!(
    setup
      .db
      .offloaded(&operator(), None)
      .await
      .expect("lists")
      .len(),
    1
  );
  setup
    .db
    .delete_offloaded(&operator(), a.as_str())
    .await
    .expect("only the mark goes");
  assert!(
    setup
      .db
      .offloaded(&operator(), None)
      .await
      .expect("lists")
      .is_empty()
  );
  assert_eq!(setup.count(&a).await, 1);
}

#[tokio::test]
async fn what_was_open_when_a_server_ended_is_there_for_the_next_one() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  setup.add(&id, vec![text("d", "alpha")]).await;
  // As after a crash: nothing was closed.
  std::fs::create_dir(setup.folder.path().join(".unfinished-x")).expect("makes");
  let again = setup.again();
  assert_eq!(setup.folders(), 1);
  for _ in 0..2 {
    let list = again.offloaded(&operator(), None).await.expect("lists");
    assert_eq!((list.len(), list[0].document_count), (1, 1));
  }
  again
    .query(&operator(), id.as_str(), QueryRequest::text("alpha"))
    .await
    .expect("opens");
  again.shut_down().await;
  assert!(
    again
      .list(&operator(), None)
      .await
      .expect("lists")
      .is_empty()
  );
  let refused = again
    .query(&operator(), id.as_str(), QueryRequest::text("alpha"))
    .await;
  assert!(message(refused).contains("shutting down"));
}

#[tokio::test]
async fn a_damaged_index_is_named_and_disturbs_no_other() {
  let setup = Setup::new();
  let (a, b) = (setup.create("a").await, setup.create("b").await);
  setup
    .db
    .offload(&operator(), a.as_str())
    .await
    .expect("closes");
  let file = setup.db.folder().join(a.folder()).join("index.db");
  std::fs::write(&file, "nothing of an index").expect("writes");
  let refused = setup
    .db
    .query(&operator(), a.as_str(), QueryRequest::text("x"))
    .await;
  assert!(
    matches!(refused, Err(VectorError::Corrupt(_))),
    "{refused:?}"
  );
  std::fs::copy(setup.db.folder().join(b.folder()).join("index.db"), &file).expect("copies");
  let refused = message(
    setup
      .db
      .query(&operator(), a.as_str(), QueryRequest::text("x"))
      .await,
  );
  assert!(refused.contains("its file is that of w:b"), "{refused}");
  setup.search(&b, "alpha").await;
  setup
    .db
    .delete(&operator(), a.as_str())
    .await
    .expect("can be deleted");
}
