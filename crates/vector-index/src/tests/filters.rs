//! Filters on metadata.

use super::*;

fn library() -> Fixture {
  let fixture = Fixture::new(&IndexOptions::default());
  let metadata = [
    json!({"year": 1999, "lang": "en", "tags": ["a", "b"], "author": {"name": "Ann", "age": 40}}),
    json!({"year": 2010, "lang": "de", "tags": [], "draft": true}),
    json!({"year": 2020.5, "lang": "en", "draft": false, "note": null}),
    json!({"year": "2020", "odd\"key": 1, "a'b": "x'; --", "n": 9_007_199_254_740_993_i64}),
  ];
  let mut documents: Vec<Document> = metadata
    .iter()
    .enumerate()
    .map(|(i, metadata)| with_metadata(&i.to_string(), &[1.0, i as f32], metadata))
    .collect();
  documents.push(document("none", &[1.0, 9.0]));
  fixture.index.upsert(documents).expect("inserts");
  fixture
}

#[test]
fn every_operator_takes_what_it_says() {
  let fixture = library();
  for (json, taken) in [
    (json!({}), &["0", "1", "2", "3", "none"][..]),
    (json!({"lang": "en"}), &["0", "2"]),
    (json!({"year": 1999}), &["0"]),
    (json!({"year": "2020"}), &["3"]),
    (json!({"year": {"$eq": 2010.0}}), &["1"]),
    (json!({"lang": {"$ne": "en"}}), &["1", "3", "none"]),
    (json!({"year": {"$gt": 1999}}), &["1", "2"]),
    (json!({"year": {"$gte": 1999, "$lt": 2020.5}}), &["0", "1"]),
    (json!({"year": {"$lte": 2010}}), &["0", "1"]),
    (json!({"year": {"$gte": "2"}}), &["3"]),
    (json!({"lang": {"$in": ["de", "fr", 1]}}), &["1"]),
    (json!({"year": {"$in": [1999, "2020"]}}), &["0", "3"]),
    (
      json!({"draft": {"$in": [true, null]}}),
      &["0", "1", "3", "none"],
    ),
    (json!({"year": {"$in": []}}), &[]),
    (json!({"lang": {"$nin": ["en", "de"]}}), &["3", "none"]),
    (json!({"draft": {"$exists": true}}), &["1", "2"]),
    (json!({"note": {"$exists": true}}), &["2"]),
    (json!({"draft": {"$exists": false}}), &["0", "3", "none"]),
    (json!({"draft": true}), &["1"]),
    (json!({"draft": false}), &["2"]),
    (json!({"draft": 1}), &[]),
    (json!({"note": null}), &["0", "1", "2", "3", "none"]),
    (json!({"lang": null}), &["3", "none"]),
    (json!({"tags": "b"}), &["0"]),
    (json!({"tags": {"$in": ["z", "a"]}}), &["0"]),
    (json!({"author.name": "Ann"}), &["0"]),
    (
      json!({"author.age": {"$not": {"$lt": 30}}}),
      &["0", "1", "2", "3", "none"],
    ),
    (json!({"author": "{\"name\":\"Ann\",\"age\":40}"}), &[]),
    (json!({"author.name.first": "Ann"}), &[]),
    (
      json!({"$or": [{"year": 1999}, {"draft": true}]}),
      &["0", "1"],
    ),
    (
      json!({"$and": [{"lang": "en"}, {"year": {"$gt": 2000}}]}),
      &["2"],
    ),
    (
      json!({"$nor": [{"lang": "en"}, {"lang": "de"}]}),
      &["3", "none"],
    ),
    (
      json!({"$not": {"lang": "en", "year": 1999}}),
      &["1", "2", "3", "none"],
    ),
    (json!({"odd\"key": 1}), &["3"]),
    (json!({"a'b": "x'; --"}), &["3"]),
    (json!({"n": 9_007_199_254_740_993_i64}), &["3"]),
    (json!({"n": 9_007_199_254_740_992_i64}), &[]),
    (json!({"year": {"$gt": 1e300}}), &[]),
    (json!({"x' OR 1=1 --": "1"}), &[]),
    (json!({"lang": "en' OR '1'='1"}), &[]),
  ] {
    let filter = filter(&json);
    let listed = fixture.index.list(Some(&filter), 0, 100).expect("lists");
    let listed: Vec<&str> = listed.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(listed, taken, "{json}");
    let query = Query {
      filter: Some(filter),
      ..near(&[1.0, 0.0], 100)
    };
    let hits = fixture.index.query(&query).expect("queries");
    assert_eq!(ids(&hits), taken, "{json}");
  }
}

#[test]
fn every_mistake_is_named() {
  let deep = (0..40).fold(json!({"a": 1}), |inner, _| json!({"$not": inner}));
  let many: Vec<Value> = (0..300).map(|i| json!({"a": i})).collect();
  for (json, named) in [
    (json!([]), "filter: must be an object"),
    (
      json!({"$where": "1"}),
      "filter.$where: unknown operator `$where`; use $and",
    ),
    (
      json!({"a": {"$regex": "x"}}),
      "filter.a.$regex: unknown operator `$regex`; use $eq",
    ),
    (
      json!({"a": {"$gt": 1, "b": 2}}),
      "filter.a.b: objects cannot be compared",
    ),
    (json!({"a": {}}), "filter.a: is empty"),
    (json!({"a": [1]}), "filter.a: must be a string, a number"),
    (
      json!({"a": {"$gt": true}}),
      "filter.a.$gt: must be a number or a string",
    ),
    (json!({"a": {"$in": "x"}}), "filter.a.$in: must be a list"),
    (
      json!({"a": {"$in": [1, {}]}}),
      "filter.a.$in[1]: must be a string",
    ),
    (
      json!({"a": {"$exists": 1}}),
      "filter.a.$exists: must be true or false",
    ),
    (
      json!({"$or": []}),
      "filter.$or: must be a list of at least one",
    ),
    (
      json!({"$and": [{"a": 1}, 2]}),
      "filter.$and[1]: must be an object",
    ),
    (deep, "nested deeper than 32"),
    (
      json!({"$or": many}),
      "filter.$or[256].a: is one comparison too many",
    ),
  ] {
    let message = Filter::parse(&json)
      .expect_err(&json.to_string())
      .to_string();
    assert!(message.contains(named), "{message}\nlacks\n{named}");
  }
}

#[test]
fn the_longest_filter_that_is_allowed_runs() {
  let fixture = library();
  let conditions: Vec<Value> = (0..256).map(|i| json!({"year": 1999 - 1000 * i})).collect();
  let wide = filter(&json!({"$or": conditions}));
  assert_eq!(fixture.index.count_where(&wide).expect("counts"), 1);
  let deep = filter(&(0..31).fold(json!({"year": 1999}), |inner, _| json!({"$not": inner})));
  assert_eq!(fixture.index.count_where(&deep).expect("counts"), 4);
  let long: Vec<i64> = (0..50_000).collect();
  let long = filter(&json!({"year": {"$in": long}}));
  assert_eq!(fixture.index.count_where(&long).expect("counts"), 2);
}

#[test]
fn a_filter_finds_the_nearest_of_what_it_keeps_however_few() {
  let fixture = Fixture::new(&IndexOptions::default());
  let vectors = random_vectors(6000, 16, 6);
  let documents = vectors.iter().enumerate();
  let documents = documents.map(|(i, vector)| {
    with_metadata(
      &i.to_string(),
      vector,
      &json!({"thousandth": i % 1000, "half": i % 2, "positive": vector[0] > 0.0}),
    )
  });
  fixture.index.upsert(documents.collect()).expect("inserts");
  let mut queries = random_vectors(5, 16, 8);
  // Nothing that is positive is among its nearest.
  let mut negative = vec![0.0; 16];
  negative[0] = -1.0;
  queries.push(negative);
  type Kept = fn(usize, &[f32]) -> bool;
  let cases: [(Value, Kept); 4] = [
    (json!({"thousandth": 7}), |i, _| i % 1000 == 7),
    (json!({"half": 1}), |i, _| i % 2 == 1),
    (json!({"positive": true}), |_, vector| vector[0] > 0.0),
    (json!({"thousandth": {"$lt": 50}}), |i, _| i % 1000 < 50),
  ];
  for (json, is_kept) in cases {
    for query in queries.clone() {
      let found = Query {
        filter: Some(filter(&json)),
        ..near(&query, 5)
      };
      let hits = fixture.index.query(&found).expect("queries");
      let mut expected: Vec<(f64, usize)> = (0..6000)
        .filter(|i| is_kept(*i, &vectors[*i]))
        .map(|i| (distance(Metric::Cosine, &query, &vectors[i]), i))
        .collect();
      expected.sort_by(|a, b| a.0.total_cmp(&b.0));
      let expected: Vec<String> = expected
        .iter()
        .take(5)
        .map(|(_, i)| i.to_string())
        .collect();
      assert_eq!(ids(&hits), expected, "{json}");
    }
  }
}

#[test]
fn deleting_by_filter_deletes_what_it_takes() {
  let fixture = library();
  let english = filter(&json!({"lang": "en"}));
  assert_eq!(fixture.index.delete_where(&english).expect("deletes"), 2);
  assert_eq!(fixture.index.delete_where(&english).expect("deletes"), 0);
  let left = fixture.index.query(&near(&[1.0, 0.0], 9)).expect("queries");
  assert_eq!(ids(&left), ["1", "3", "none"]);
  assert_eq!(
    fixture
      .index
      .delete_where(&filter(&json!({})))
      .expect("deletes"),
    3
  );
  assert_eq!(fixture.index.count(), 0);
}
