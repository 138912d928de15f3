//! Search and insertion in an index of 10,000 vectors of 384 numbers: what embedding models give for a
//! few books.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use vector_index::Document;
use vector_index::Filter;
use vector_index::Index;
use vector_index::IndexOptions;
use vector_index::Memory;
use vector_index::Query;

const DOCUMENTS: usize = 10_000;
const DIMENSION: usize = 384;
const BATCH: usize = 100;
const WORDS: [&str; 8] = [
  "river", "north", "engine", "paper", "orchard", "copper", "winter", "signal",
];

fn vector(random: &mut StdRng) -> Vec<f32> {
  (0..DIMENSION)
    .map(|_| random.random_range(-1.0..1.0))
    .collect()
}

fn documents(from: usize, count: usize) -> Vec<Document> {
  let mut random = StdRng::seed_from_u64(from as u64);
  let document = |i: usize| Document {
    id: i.to_string(),
    text: Some(format!(
      "{} {} {i}",
      WORDS[i % WORDS.len()],
      WORDS[i / WORDS.len() % WORDS.len()]
    )),
    vector: vector(&mut random),
    metadata: json!({"n": i, "tenth": i % 10, "thousandth": i % 1000})
      .as_object()
      .cloned(),
  };
  (from..from + count).map(document).collect()
}

fn index(folder: &Path, memory: &Arc<Memory>) -> Index {
  let path = folder.join("index.db");
  Index::create(&path, &IndexOptions::default(), &json!({}), memory).expect("creates")
}

fn search(criterion: &mut Criterion) {
  let folder = tempfile::tempdir().expect("a folder");
  let index = index(folder.path(), &Memory::new(1 << 30));
  index.upsert(documents(0, DOCUMENTS)).expect("inserts");
  let mut random = StdRng::seed_from_u64(1);
  let by_vector = Query {
    vector: Some(vector(&mut random)),
    k: 10,
    include_metadata: true,
    ..Query::default()
  };
  let filtered = |json| Query {
    filter: Some(Filter::parse(&json).expect("parses")),
    ..by_vector.clone()
  };
  let by_words = Query {
    vector: None,
    text: Some("copper winter".into()),
    ..by_vector.clone()
  };
  let by_both = Query {
    text: by_words.text.clone(),
    ..by_vector.clone()
  };
  let mut group = criterion.benchmark_group("search 10,000 x 384");
  for (name, query) in [
    ("by vector", by_vector.clone()),
    ("one in ten by filter", filtered(json!({"tenth": 3}))),
    (
      "one in a thousand by filter",
      filtered(json!({"thousandth": 3})),
    ),
    ("by words", by_words),
    ("by both", by_both),
  ] {
    group.bench_function(name, |bencher| {
      bencher.iter(|| index.query(black_box(&query)).expect("searches"));
    });
  }
  group.finish();
}

fn insert(criterion: &mut Criterion) {
  let folder = tempfile::tempdir().expect("a folder");
  let index = index(folder.path(), &Memory::new(1 << 30));
  index.upsert(documents(0, DOCUMENTS)).expect("inserts");
  let mut group = criterion.benchmark_group("insert into 10,000 x 384");
  group.throughput(Throughput::Elements(BATCH as u64));
  group.sample_size(20);
  let new = documents(DOCUMENTS, BATCH);
  let ids: Vec<String> = new.iter().map(|document| document.id.clone()).collect();
  group.bench_function("a batch of 100", |bencher| {
    bencher.iter_batched(
      || {
        // Those of the iteration before: the index does not grow.
        index.delete(&ids).expect("deletes");
        new.clone()
      },
      |batch| index.upsert(batch).expect("inserts"),
      BatchSize::PerIteration,
    );
  });
  group.bench_function("the same 100 again", |bencher| {
    let batch = documents(0, BATCH);
    bencher.iter_batched(
      || batch.clone(),
      |batch| index.upsert(batch).expect("replaces"),
      BatchSize::PerIteration,
    );
  });
  group.finish();
}

criterion_group!(benches, search, insert);
criterion_main!(benches);
