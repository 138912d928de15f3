//! Full-text search and hybrid search.

use super::*;

fn words(text: &str) -> Query {
  Query {
    text: Some(text.into()),
    k: 10,
    ..Query::default()
  }
}

fn library() -> Fixture {
  let fixture = Fixture::new(&IndexOptions::default());
  let documents = [
    with_text(
      "crab",
      &[1.0, 0.0],
      "The crab walks sideways over the beach",
    ),
    with_text("café", &[0.9, 0.1], "Un café au lait, s'il vous plaît"),
    with_text(
      "sql",
      &[0.0, 1.0],
      "SELECT \"name\" FROM crab WHERE legs = 10; crab crab",
    ),
    document("silent", &[0.7, 0.7]),
  ];
  fixture.index.upsert(documents.into()).expect("inserts");
  fixture
}

#[test]
fn words_are_found_whatever_their_case_and_accents() {
  let fixture = library();
  let found = |text: &str| {
    let hits = fixture.index.query(&words(text)).expect("searches");
    assert!(
      hits
        .iter()
        .all(|hit| (0.0..=1.0).contains(&hit.score) && hit.distance.is_none())
    );
    assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
    hits.into_iter().map(|hit| hit.id).collect::<Vec<_>>()
  };
  assert_eq!(found("CAFE"), ["café"]);
  assert_eq!(found("crab"), ["sql", "crab"]);
  assert_eq!(found("beach crab"), ["crab", "sql"]);
  assert_eq!(found("nothing of that"), [""; 0]);
}

#[test]
fn nothing_in_a_text_is_an_operator() {
  let fixture = library();
  for text in [
    "\"",
    "\"\"\"",
    "crab\"",
    "NEAR(",
    "crab AND",
    "NOT",
    "*",
    "a*",
    "text:crab",
    "^crab",
    "{a}:b",
    "(",
    "crab OR",
    "-crab",
    "'",
    ";",
    "--",
    "\0",
    "a\0b",
    "+",
    "🦀",
    "\u{301}",
  ] {
    fixture.index.query(&words(text)).expect(text);
  }
  let long: Vec<String> = (0..5000).map(|i| format!("w{i}")).collect();
  let long = format!("crab {}", long.join(" "));
  assert_eq!(
    fixture.index.query(&words(&long)).expect("searches").len(),
    2
  );
}

#[test]
fn the_words_of_replaced_and_deleted_documents_are_not_found() {
  let fixture = library();
  fixture
    .index
    .upsert(vec![with_text("crab", &[1.0, 0.0], "A lobster")])
    .expect("replaces");
  let hits = fixture
    .index
    .query(&words("crab lobster"))
    .expect("searches");
  assert_eq!(ids(&hits).len(), 2);
  assert_eq!(fixture.index.query(&words("beach")).expect("searches"), []);
  fixture
    .index
    .delete(&["crab".into(), "silent".into()])
    .expect("deletes");
  assert_eq!(
    fixture.index.query(&words("lobster")).expect("searches"),
    []
  );
  let fixture = fixture.reopened();
  assert_eq!(
    ids(
      &fixture
        .index
        .query(&words("crab lobster"))
        .expect("searches")
    ),
    ["sql"]
  );
  fixture.index.verify().expect("is whole");
}

#[test]
fn hybrid_search_puts_first_what_both_lists_have() {
  let fixture = library();
  let query = Query {
    vector: Some(vec![1.0, 0.0]),
    ..words("beach crab")
  };
  let hits = fixture.index.query(&query).expect("searches");
  assert_eq!(hits[0].id, "crab");
  assert!((hits[0].score - 1.0).abs() < 1e-6, "{}", hits[0].score);
  assert_eq!(hits.len(), 4);
  assert_eq!(
    hits[1].id, "sql",
    "last of the vectors but second of the texts"
  );
  assert!(hits.iter().all(|hit| hit.distance.is_some()));
  let paged: Vec<Hit> = (0..4)
    .flat_map(|offset| {
      let page = Query {
        offset,
        k: 1,
        ..query.clone()
      };
      fixture.index.query(&page).expect("searches")
    })
    .collect();
  assert_eq!(paged, hits);
}

#[test]
fn text_and_hybrid_searches_obey_filters() {
  let fixture = Fixture::new(&IndexOptions::default());
  let documents = (0..20).map(|i| Document {
    text: Some("same words".into()),
    ..with_metadata(&i.to_string(), &[1.0, i as f32], &json!({"i": i}))
  });
  fixture.index.upsert(documents.collect()).expect("inserts");
  let late = Some(filter(&json!({"i": {"$gte": 15}})));
  let by_text = Query {
    filter: late,
    ..words("words")
  };
  let hybrid = Query {
    vector: Some(vec![1.0, 16.0]),
    ..by_text.clone()
  };
  assert_eq!(
    ids(&fixture.index.query(&by_text).expect("searches")),
    ["15", "16", "17", "18", "19"]
  );
  let mut hits = fixture.index.query(&hybrid).expect("searches");
  hits.sort_by(|a, b| a.id.cmp(&b.id));
  assert_eq!(ids(&hits), ["15", "16", "17", "18", "19"]);
}
