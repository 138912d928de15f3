//! What is refused, and that nothing is left of it.

use std::fs;

use super::*;

#[test]
fn every_mistake_names_the_document_and_leaves_nothing_behind() {
  let fixture = Fixture::new(&IndexOptions::default());
  fixture
    .index
    .upsert(vec![document("old", &[1.0, 0.0])])
    .expect("inserts");
  let ok = || document("fine", &[0.0, 1.0]);
  for (bad, named) in [
    (document("x", &[]), "Document x: vector is empty"),
    (
      document("x", &[1.0, f32::NAN]),
      "Document x: vector[1] is NaN",
    ),
    (
      document("x", &[f32::INFINITY, 1.0]),
      "Document x: vector[0] is inf",
    ),
    (
      document("x", &[1.0]),
      "Document x: vector has 1 numbers and the index has dimension 2",
    ),
    (document("x", &[1.0; 3]), "Document x: vector has 3 numbers"),
    (document("x", &[0.0, 0.0]), "Document x: vector is zero"),
    (
      document("x", &[f32::MAX, f32::MAX]),
      "Document x: vector is too long",
    ),
    (
      document("x", &[1.0; 8193]),
      "Document x: vector has 8193 numbers; the most is 8192",
    ),
    (
      document("fine", &[1.0, 1.0]),
      "Document fine is in the batch twice",
    ),
  ] {
    let refused = fixture
      .index
      .upsert(vec![ok(), bad, document("old", &[0.5, 0.5])]);
    let refused = refused.expect_err(named);
    assert!(matches!(refused, IndexError::Invalid(_)), "{refused:?}");
    assert!(
      refused.to_string().starts_with(named),
      "{refused}\nlacks\n{named}"
    );
    let stored = fixture.index.list(None, 0, 10).expect("lists");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].vector, Some(vec![1.0, 0.0]));
  }
  assert_eq!(fixture.index.count(), 1);
  let done = fixture
    .index
    .upsert(Vec::new())
    .expect("an empty batch is done at once");
  assert_eq!(done, Upserted::default());
}

#[test]
fn queries_that_cannot_be_meant_are_refused() {
  let fixture = Fixture::new(&IndexOptions::default());
  fixture
    .index
    .upsert(vec![document("a", &[1.0, 0.0])])
    .expect("inserts");
  for (query, named) in [
    (
      Query {
        k: 1,
        ..Query::default()
      },
      "query: has neither vector nor text",
    ),
    (near(&[], 1), "query: vector is empty"),
    (near(&[1.0], 1), "query: vector has 1 numbers"),
    (near(&[f32::NAN, 1.0], 1), "query: vector[0] is NaN"),
    (near(&[0.0, 0.0], 1), "query: vector is zero"),
    (
      Query {
        threshold: f32::NAN,
        ..near(&[1.0, 0.0], 1)
      },
      "threshold: must be",
    ),
  ] {
    let refused = fixture.index.query(&query).expect_err(named).to_string();
    assert!(refused.starts_with(named), "{refused}\nlacks\n{named}");
  }
  assert_eq!(
    fixture
      .index
      .query(&near(&[1.0, 0.0], 0))
      .expect("asks for nothing"),
    []
  );
}

#[test]
fn a_failed_first_batch_leaves_the_dimension_open() {
  let fixture = Fixture::new(&IndexOptions::default());
  let refused = fixture
    .index
    .upsert(vec![document("a", &[1.0]), document("b", &[1.0, 2.0])]);
  refused.expect_err("two dimensions");
  assert_eq!(fixture.index.dimension(), None);
  fixture
    .index
    .upsert(vec![document("c", &[1.0, 2.0, 3.0])])
    .expect("inserts");
  assert_eq!(fixture.reopened().index.dimension(), Some(3));
}

#[test]
fn files_that_are_no_index_are_told_apart() {
  let folder = tempfile::tempdir().expect("a folder");
  let path = folder.path().join("a.db");
  let opened = || Index::open(&path, &memory()).expect_err("cannot be opened");
  assert!(matches!(opened(), IndexError::NotFound(_)));
  assert!(!path.exists());
  fs::write(
    &path,
    "not a database, though long enough to look like one".repeat(100),
  )
  .expect("writes");
  assert!(matches!(opened(), IndexError::Corrupt(_)), "{:?}", opened());
  fs::write(&path, "").expect("writes");
  assert!(matches!(opened(), IndexError::Corrupt(_)), "{:?}", opened());
  fs::remove_file(&path).expect("removes");
  Connection::open(&path)
    .and_then(|other| other.execute_batch("CREATE TABLE t(x)"))
    .expect("makes another database");
  let message = opened().to_string();
  assert!(message.contains("a.db: is not an index"), "{message}");
  let made =
    Index::create(&path, &IndexOptions::default(), &json!({}), &memory()).expect_err("exists");
  assert!(matches!(made, IndexError::Exists(_)));
}

#[test]
fn a_damaged_file_is_an_error_and_no_crash() {
  let fixture = Fixture::new(&IndexOptions::default());
  let vectors = random_vectors(2000, 64, 1);
  let documents = vectors.iter().enumerate();
  let documents = documents
    .map(|(i, v)| with_text(&i.to_string(), v, "some words"))
    .collect();
  fixture.index.upsert(documents).expect("inserts");
  let path = fixture.path();
  drop(fixture.index);
  let whole = fs::read(&path).expect("reads");
  let mut found = 0;
  for start in (1..whole.len() / 8192).step_by(3) {
    let mut damaged = whole.clone();
    for page in (start..whole.len() / 8192).step_by(7) {
      damaged[page * 8192..page * 8192 + 4096].fill(0xa5);
    }
    fs::write(&path, &damaged).expect("writes");
    let used = Index::open(&path, &memory()).and_then(|index| {
      index.query(&near(&vectors[0], 5))?;
      index.list(None, 0, 3000)?;
      index.query(&Query {
        text: Some("words".into()),
        k: 5,
        ..Query::default()
      })?;
      index.upsert(vec![
        document("1", &vectors[1]),
        document("new", &vectors[2]),
      ])?;
      index.verify()
    });
    match used {
      Err(IndexError::Corrupt(message)) => {
        found += 1;
        assert!(
          message.starts_with("index file ") && message.contains("/index.db: "),
          "{message}"
        );
      }
      other => assert!(other.is_ok(), "{other:?}"),
    }
  }
  assert!(found > 5, "{found}");
  fs::write(&path, &whole[..whole.len() / 2]).expect("cuts");
  let cut = Index::open(&path, &memory()).and_then(|index| index.verify());
  assert!(matches!(cut, Err(IndexError::Corrupt(_))), "{cut:?}");
}
