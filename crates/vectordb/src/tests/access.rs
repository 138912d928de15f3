use super::*;

async fn shared(setup: &Setup, permission: &str) -> IndexId {
  let mut request = named(permission);
  request.permission = Some(serde_json::from_value(json!(permission)).expect("a permission"));
  let id = setup.db.create(request).await.expect("is made").id;
  setup.add(&id, vec![text("a", "alpha")]).await;
  id
}

#[tokio::test]
async fn other_namespaces_may_do_what_the_permission_says() {
  let setup = Setup::new();
  let other = Requester::Namespace("v".into());
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
      .query(&id, QueryRequest::text("alpha"), &other)
      .await
      .is_ok();
    let add = setup
      .db
      .add(&id, vec![text("b", "beta")], &other)
      .await
      .is_ok();
    let remove = setup
      .db
      .delete_documents(&id, vec!["a".into()], &other)
      .await
      .is_ok();
    assert_eq!([read, add, remove], expected, "{permission}");
    let listed = setup.db.list_documents(&id, None, 0, 10, &other).await;
    let got = setup
      .db
      .get_documents(&id, vec!["a".into()], false, &other)
      .await;
    let exported = setup.db.export(&id, &other).await;
    assert_eq!(
      [listed.is_ok(), got.is_ok(), exported.is_ok()],
      [expected[0]; 3],
      "{permission}"
    );
    let cleared = setup.db.delete_where(&id, &json!({"x": 1}), &other).await;
    assert_eq!(cleared.is_ok(), expected[2]);
    let owner = Requester::Namespace("w".into());
    setup
      .db
      .delete_documents(&id, vec!["a".into()], &owner)
      .await
      .expect("its own");
  }
}

#[tokio::test]
async fn who_may_only_add_replaces_nothing() {
  let setup = Setup::new();
  let id = shared(&setup, "public_read_add").await;
  let other = Requester::Namespace("v".into());
  let batch = vec![text("b", "beta"), text("a", "forged")];
  let refused = setup
    .db
    .add(&id, batch, &other)
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
  setup.db.offload(&id).await.expect("is closed");
  let other = Requester::Namespace("v".into());
  let denied = setup
    .db
    .query(&id, QueryRequest::text("alpha"), &other)
    .await;
  assert_eq!(denied, Err(VectorError::no_index(&id)));
  setup.db.info(&id).await.expect_err("it is still closed");
}
