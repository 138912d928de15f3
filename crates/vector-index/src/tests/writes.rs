//! Adding, replacing, deleting, and what the file weighs.

use super::*;

#[test]
fn an_upsert_replaces_all_of_a_document() {
  let fixture = Fixture::new(&IndexOptions::default());
  let index = &fixture.index;
  let old = Document {
    text: Some("old words".into()),
    ..with_metadata("x", &[1.0, 0.0], &json!({"a": 1, "b": 2}))
  };
  let done = index
    .upsert(vec![old, document("y", &[0.6, 0.8])])
    .expect("inserts");
  assert_eq!((done.added, done.replaced), (2, 0));
  let new = with_metadata("x", &[0.0, 1.0], &json!({"a": 3}));
  let done = index
    .upsert(vec![new, document("z", &[0.0, -1.0])])
    .expect("replaces");
  assert_eq!((done.added, done.replaced), (1, 1));
  assert_eq!(index.count(), 3);
  let stored = index.get(&["x".into()], true).expect("gets").remove(0);
  assert_eq!(stored.text, None);
  assert_eq!(stored.metadata, json!({"a": 3}).as_object().cloned());
  assert_eq!(stored.vector, Some(vec![0.0, 1.0]));
  let hits = index.query(&near(&[1.0, 0.0], 5)).expect("queries");
  assert_eq!(hits[0].id, "y", "the old vector is still found");
  assert_eq!(hits.len(), 3);
  let words = Query {
    text: Some("old".into()),
    k: 5,
    ..Query::default()
  };
  assert_eq!(index.query(&words).expect("searches"), []);
}

#[test]
fn ids_may_be_any_string() {
  let fixture = Fixture::new(&IndexOptions::default());
  let odd = [
    "",
    " ",
    "a:b",
    "é\u{0}x",
    "'; DROP TABLE document; --",
    "%",
    "🦀",
    &"x".repeat(5000),
  ];
  let documents = odd.iter().enumerate();
  let documents = documents
    .map(|(i, id)| document(id, &[1.0, i as f32]))
    .collect();
  fixture.index.upsert(documents).expect("inserts");
  let wanted: Vec<String> = odd.iter().map(std::string::ToString::to_string).collect();
  let stored = fixture.index.get(&wanted, false).expect("gets");
  assert_eq!(
    stored.iter().map(|d| d.id.clone()).collect::<Vec<_>>(),
    wanted
  );
  assert_eq!(fixture.index.delete(&wanted).expect("deletes"), odd.len());
  assert_eq!(fixture.index.count(), 0);
}

#[test]
fn deleting_counts_only_what_was_there() {
  let fixture = Fixture::new(&IndexOptions::default());
  assert_eq!(fixture.index.delete(&["a".into()]).expect("deletes"), 0);
  let documents = ["a", "b", "c"].map(|id| document(id, &[1.0]));
  fixture.index.upsert(documents.into()).expect("inserts");
  let ids = ["a", "a", "nobody", "c"].map(String::from);
  assert_eq!(fixture.index.delete(&ids).expect("deletes"), 2);
  assert_eq!(fixture.index.count(), 1);
  let hits = fixture.index.query(&near(&[1.0], 10)).expect("queries");
  assert_eq!(super::ids(&hits), ["b"]);
}

#[test]
fn listing_goes_page_by_page_in_the_order_of_adding() {
  let fixture = Fixture::new(&IndexOptions::default());
  let documents =
    (0..10).map(|i| with_metadata(&i.to_string(), &[1.0, i as f32], &json!({"i": i})));
  fixture.index.upsert(documents.collect()).expect("inserts");
  let page = |filter: Option<&Filter>, offset, limit| {
    let page = fixture.index.list(filter, offset, limit).expect("lists");
    page
      .into_iter()
      .map(|document| document.id)
      .collect::<Vec<_>>()
  };
  assert_eq!(page(None, 0, 3), ["0", "1", "2"]);
  assert_eq!(page(None, 9, 3), ["9"]);
  assert_eq!(page(None, 10, 3), [""; 0]);
  let late = filter(&json!({"i": {"$gt": 6}}));
  assert_eq!(page(Some(&late), 1, u64::MAX), ["8", "9"]);
  assert_eq!(fixture.index.count_where(&late).expect("counts"), 3);
  let listed = fixture.index.list(None, 4, 1).expect("lists").remove(0);
  assert_eq!(listed.vector, Some(vec![1.0, 4.0]));
}

#[test]
fn the_dimension_is_that_of_the_first_vector_or_of_the_options() {
  let fixture = Fixture::new(&IndexOptions::default());
  assert_eq!(fixture.index.dimension(), None);
  assert_eq!(fixture.index.query(&near(&[1.0], 3)).expect("is empty"), []);
  fixture
    .index
    .upsert(vec![document("a", &[1.0, 2.0, 3.0])])
    .expect("inserts");
  let fixture = fixture.reopened();
  assert_eq!(fixture.index.dimension(), Some(3));
  assert_eq!(fixture.index.record(), json!({"namespace": "a"}));
  fixture
    .index
    .set_record(&json!({"b": [1]}))
    .expect("writes");
  assert_eq!(fixture.reopened().index.record(), json!({"b": [1]}));
  let fixed = IndexOptions {
    dimension: Some(2),
    ..IndexOptions::default()
  };
  let fixture = Fixture::new(&fixed);
  let refused = fixture
    .index
    .upsert(vec![document("a", &[1.0])])
    .expect_err("too short");
  assert!(
    refused
      .to_string()
      .starts_with("Document a: vector has 1 numbers"),
    "{refused}"
  );
}

#[test]
fn a_flexible_index_pads_and_cuts() {
  let flexible = IndexOptions {
    dimensions: Dimensions::Flexible,
    ..IndexOptions::default()
  };
  let fixture = Fixture::new(&flexible);
  let documents = [
    ("a", vec![1.0, 2.0]),
    ("b", vec![3.0]),
    ("c", vec![1.0, 1.0, 9.0]),
  ];
  let documents = documents.iter().map(|(id, vector)| document(id, vector));
  fixture.index.upsert(documents.collect()).expect("inserts");
  let ids = ["a", "b", "c"].map(String::from);
  let stored = fixture.index.get(&ids, true).expect("gets");
  let vectors: Vec<_> = stored.into_iter().filter_map(|d| d.vector).collect();
  assert_eq!(vectors, [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]]);
  let hits = fixture
    .index
    .query(&near(&[1.0, 2.0, 7.0, 7.0], 1))
    .expect("queries");
  assert_eq!(hits[0].id, "a");
}

#[test]
fn the_file_is_hardly_larger_than_the_vectors_and_shrinks() {
  let fixture = Fixture::new(&IndexOptions::default());
  let vectors = random_vectors(3000, 384, 4);
  let documents = vectors
    .iter()
    .enumerate()
    .map(|(i, v)| document(&i.to_string(), v));
  fixture.index.upsert(documents.collect()).expect("inserts");
  fixture.index.checkpoint().expect("checkpoints");
  let full = fixture.index.stats();
  assert!(full.bytes < 3000 * 384 * 4 * 12 / 10, "{full:?}");
  let gone: Vec<String> = (0..3000)
    .filter(|i| i % 4 != 0)
    .map(|i| i.to_string())
    .collect();
  for batch in gone.chunks(250) {
    assert_eq!(fixture.index.delete(batch).expect("deletes"), 250);
  }
  fixture.index.checkpoint().expect("checkpoints");
  let left = fixture.index.stats();
  assert!(left.bytes < full.bytes / 2, "{left:?}");
  fixture.index.verify().expect("is whole");
  let hits = fixture.index.query(&near(&vectors[8], 1)).expect("queries");
  assert_eq!(hits[0].id, "8");
}
