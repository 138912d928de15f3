use super::*;

async fn shared(setup: &Setup, permission: &str) -> IndexId {
  let mut request = named(permission);
  request.permission = Some(serde_json::from_value(json!(permission)).expect("a permission"));
  let id = setup
    .db
    .create(&operator(), request)
    .await
    .expect("is made")
    .id;
  setup.add(&id, vec![text("a", "alpha")]).await;
  id
}

#[tokio::test]
async fn other_namespaces_may_do_what_the_permission_says() {
  let setup = Setup::new();
  let other = namespaced("v");
  let cases = [
    ("private", [false, false, false]),
    ("public_read", [true, false, false]),
    ("public_read_add", [true, true, false]),
    ("public_read_write", [true, true, true]),
  ];
  for (permission, expected) in cases {
    let id = shared(&setup, permission).await;
    let read = setup
      .db
      .query(&other, id.as_str(), QueryRequest::text("alpha"))
      .await
      .is_ok();
    let add = setup
      .db
      .add(&other, id.as_str(), vec![text("b", "beta")])
      .await
      .is_ok();
    let remove = setup
      .db
      .remove_documents(&other, id.as_str(), by_ids(vec!["a".into()]))
      .await
      .is_ok();
    assert_eq!([read, add, remove], expected, "{permission}");
    let listed = setup
      .db
      .list_documents(&other, id.as_str(), ListDocuments::default())
      .await;
    let got = setup
      .db
      .get_documents(&other, id.as_str(), vec!["a".into()], false)
      .await;
    let exported = setup.db.export(&other, id.as_str()).await;
    assert_eq!(
      [listed.is_ok(), got.is_ok(), exported.is_ok()],
      [expected[0]; 3],
      "{permission}"
    );
    let cleared = setup
      .db
      .remove_documents(&other, id.as_str(), by_filter(json!({"x": 1})))
      .await;
    assert_eq!(cleared.is_ok(), expected[2]);
    let owner = namespaced("w");
    setup
      .db
      .remove_documents(&owner, id.as_str(), by_ids(vec!["a".into()]))
      .await
      .expect("its own");
  }
}

#[tokio::test]
async fn who_may_only_add_replaces_nothing() {
  let setup = Setup::new();
  let id = shared(&setup, "public_read_add").await;
  let other = namespaced("v");
  let batch = vec![text("b", "beta"), text("a", "forged")];
  let refused = setup
    .db
    .add(&other, id.as_str(), batch)
    .await
    .expect_err("it would replace");
  let message = refused.to_string();
  assert!(matches!(refused, VectorError::Forbidden(_)));
  assert!(
    message.contains("Access denied") && message.contains("document a"),
    "{message}"
  );
  assert_eq!(setup.count(&id).await, 1);
  setup
    .add(&id, vec![text("a", "changed by its owner")])
    .await;
}

#[tokio::test]
async fn a_denied_request_does_not_open_the_index() {
  let setup = Setup::new();
  let id = shared(&setup, "private").await;
  setup
    .db
    .offload(&operator(), id.as_str())
    .await
    .expect("is closed");
  let other = namespaced("v");
  let denied = setup
    .db
    .query(&other, id.as_str(), QueryRequest::text("alpha"))
    .await;
  assert_eq!(denied, Err(VectorError::no_index(&id)));
  setup
    .db
    .info(&operator(), id.as_str())
    .await
    .expect_err("it is still closed");
}

#[tokio::test]
async fn a_caller_of_a_namespace_works_in_it_and_may_leave_it_out_of_ids() {
  let setup = Setup::new();
  let lab = namespaced("lab");
  let create = |namespace: Option<&str>| CreateIndex {
    id: Some("docs".into()),
    namespace: namespace.map(str::to_owned),
    ..CreateIndex::default()
  };
  let made = setup.db.create(&lab, create(None)).await.expect("is made");
  assert_eq!(made.id.as_str(), "lab:docs");
  let refused = setup.db.create(&lab, create(Some("office"))).await;
  assert_eq!(
    message(refused),
    "This token is for the namespace `lab`, not `office`"
  );
  for id in ["docs", "lab:docs"] {
    let batch = vec![text("a", "alpha")];
    setup.db.add(&lab, id, batch).await.expect("is added");
    let info = setup.db.info(&lab, id).await.expect("is its own");
    assert_eq!((info.id, info.document_count), (made.id.clone(), 1));
    let get = setup.db.get_document(&lab, id, "a", false).await;
    assert_eq!(get.expect("is there").text.as_deref(), Some("alpha"));
  }
  let missing = setup.db.get_document(&lab, "docs", "b", false).await;
  assert_eq!(message(missing), "Document b not found");
  // The operator has no namespace of its own.
  message(setup.db.info(&operator(), "docs").await);
}

#[tokio::test]
async fn indices_of_others_are_missing_to_all_that_only_their_owner_does() {
  let setup = Setup::new();
  let id = shared(&setup, "public_read_write").await;
  let (id, v, db) = (id.as_str(), namespaced("v"), &setup.db);
  let soon = InactivityTimeout::from_millis(1);
  let asked = async |id: &str| {
    [
      message(db.info(&v, id).await),
      message(db.index_stats(&v, id).await),
      message(db.ping(&v, id)),
      message(db.set_timeout(&v, id, soon).await),
      message(db.verify(&v, id).await),
      message(db.save(&v, id).await),
      message(db.change_provider(&v, id, "mock-model").await),
      message(db.offload(&v, id).await),
      message(db.delete_offloaded(&v, id).await),
      message(db.delete(&v, id).await),
    ]
  };
  let missing = asked("w:nothing")
    .await
    .map(|message| message.replace("w:nothing", id));
  assert_eq!(asked(id).await, missing);
  let timeout = db.info(&operator(), id).await.expect("is untouched");
  assert_eq!(
    timeout.activity_monitoring.inactivity_timeout.as_millis(),
    1_800_000
  );
}

#[tokio::test]
async fn listings_and_counts_are_of_what_the_caller_has() {
  let setup = Setup::new();
  let lab = namespaced("lab");
  let (a, b) = (setup.create("a").await, setup.create("b").await);
  let own = setup.db.create(&lab, CreateIndex::default()).await;
  let own = own.expect("is made").id;
  setup.add(&a, vec![text("a", "alpha")]).await;
  setup
    .db
    .offload(&operator(), b.as_str())
    .await
    .expect("closes");
  let open = async |caller: &Caller, asked| {
    let list = setup.db.list(caller, asked).await.expect("lists");
    list.into_iter().map(|one| one.id).collect::<Vec<_>>()
  };
  assert_eq!(open(&operator(), None).await, [a.clone(), own.clone()]);
  assert_eq!(open(&operator(), Some("w")).await, [a]);
  for asked in [None, Some("lab")] {
    assert_eq!(open(&lab, asked).await, std::slice::from_ref(&own));
  }
  for refused in [
    message(setup.db.list(&lab, Some("w")).await),
    message(setup.db.offloaded(&lab, Some("w")).await),
  ] {
    assert_eq!(refused, "This token is for the namespace `lab`, not `w`");
  }
  let closed = setup.db.offloaded(&lab, None).await.expect("lists");
  assert!(closed.is_empty());
  let stats = setup.db.stats(&lab).await.expect("counts");
  assert_eq!((stats.total_instances, stats.total_documents), (1, 0));
  assert_eq!(stats.activity_monitoring.offload_directory, None);
  let stats = setup.db.stats(&operator()).await.expect("counts");
  assert_eq!((stats.total_instances, stats.total_documents), (2, 1));
  assert!(stats.activity_monitoring.offload_directory.is_some());
}

#[tokio::test]
async fn a_watcher_sees_what_it_has_and_no_folder_of_the_operators() {
  let setup = Setup::new();
  let (lab, w) = (namespaced("lab"), namespaced("w"));
  let mut everything = setup.db.watch(&operator()).expect("watches");
  let mut foreign = setup.db.watch(&lab).expect("watches");
  let mut own = setup.db.watch(&w).expect("watches");
  let id = setup.create("a").await;
  setup.db.announce(VectorEventKind::Error {
    index: id,
    message: "/data/vectordb/w_a: no space".into(),
  });
  let config = json!({"host": "http://a", "model": "m", "dimension": 3});
  setup
    .db
    .add_provider(&operator(), "p", "ollama", &config)
    .await
    .expect("adds");
  let texts = |events: &mut EventWatch| -> Vec<String> {
    std::iter::from_fn(|| events.try_next())
      .filter_map(|event| match event.kind {
        VectorEventKind::Error { message, .. } => Some(message),
        _ => None,
      })
      .collect()
  };
  assert_eq!(texts(&mut everything), ["/data/vectordb/w_a: no space"]);
  let told = texts(&mut own);
  assert!(
    told.len() == 1 && told[0].contains("the server's log") && !told[0].contains("/data"),
    "{told:?}"
  );
  // Providers concern all.
  assert_eq!(heard(&mut foreign), ["provider_added"]);
}

#[tokio::test]
async fn an_import_lands_in_the_namespace_of_the_caller() {
  let setup = Setup::new();
  let id = shared(&setup, "public_read").await;
  let lab = namespaced("lab");
  let mut export = setup.db.export(&lab, id.as_str()).await.expect("exports");
  let mut lines = Vec::new();
  tokio::io::AsyncReadExt::read_to_end(&mut export.file, &mut lines)
    .await
    .expect("reads");
  let asked = |namespace: Option<&str>| ImportIndex {
    id: None,
    namespace: namespace.map(str::to_owned),
  };
  let refused = setup.db.import(&lab, &*lines, asked(Some("w"))).await;
  assert!(matches!(refused, Err(VectorError::Forbidden(_))));
  let made = setup.db.import(&lab, &*lines, asked(None)).await;
  assert_eq!(made.expect("imports").id.as_str(), "lab:public_read");
}

#[tokio::test]
async fn each_thing_takes_its_right_in_ones_own_namespace_too() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  setup.add(&id, vec![text("a", "alpha")]).await;
  let (id, db) = (id.as_str(), &setup.db);
  let reader = namespaced("w").limited_to(Right::Read);
  let user = namespaced("w").limited_to(Right::Use);
  let manager = namespaced("w");
  let denied = "This token may not do that";
  let query = QueryRequest::text("alpha");
  db.query(&reader, id, query).await.expect("reads");
  db.info(&reader, id).await.expect("reads");
  assert_eq!(
    message(db.add(&reader, id, vec![text("b", "beta")]).await),
    denied
  );
  let removed = db
    .remove_documents(&reader, id, by_ids(vec!["a".into()]))
    .await;
  assert_eq!(message(removed), denied);
  assert_eq!(message(db.ping(&reader, id)), denied);
  db.add(&user, id, vec![text("b", "beta")])
    .await
    .expect("writes");
  db.ping(&user, id).expect("uses");
  let soon = InactivityTimeout::from_millis(1);
  for refused in [
    message(db.create(&user, CreateIndex::default()).await),
    message(db.set_timeout(&user, id, soon).await),
    message(db.save(&user, id).await),
    message(db.change_provider(&user, id, "mock-model").await),
    message(db.offload(&user, id).await),
    message(db.delete(&user, id).await),
    message(db.delete_offloaded(&user, id).await),
    message(db.import(&user, &b""[..], ImportIndex::default()).await),
  ] {
    assert_eq!(refused, denied);
  }
  db.delete(&manager, id).await.expect("is its own");
  // Not even of what is not there.
  assert_eq!(message(db.delete(&user, "nothing").await), denied);
}
