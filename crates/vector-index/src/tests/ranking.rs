//! The nearest are the nearest: by every metric, in every way in which they are searched for.

use std::collections::BTreeMap;

use super::*;
use crate::nearest::NearestSearch;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::Dot];

fn expected(
  stored: &BTreeMap<String, Vec<f32>>,
  metric: Metric,
  query: &[f32],
  k: usize,
) -> Vec<f64> {
  let mut distances: Vec<f64> = stored
    .values()
    .map(|v| distance(metric, query, v))
    .collect();
  distances.sort_by(f64::total_cmp);
  distances.truncate(k);
  distances
}

/// Equal up to what single precision can tell apart.
fn check(found: &[f32], expected: &[f64], greatest: f64, what: &str) {
  assert_eq!(found.len(), expected.len(), "{what}");
  for (found, expected) in found.iter().zip(expected) {
    let close = 1e-5 * (1.0 + expected.abs()) + 1e-6 * greatest;
    assert!(
      (f64::from(*found) - expected).abs() < close,
      "{what}: {found} {expected}"
    );
  }
}

fn check_all(index: &Index, stored: &BTreeMap<String, Vec<f32>>, metric: Metric, seed: u64) {
  let dimension = index.dimension().expect("a dimension");
  let length = |vector: &[f32]| distance(Metric::L2, vector, &vec![0.0; vector.len()]);
  let longest = stored
    .values()
    .map(|vector| length(vector))
    .fold(0.0, f64::max);
  for query in random_vectors(5, dimension, seed) {
    // Great products of both signs cancel out in a dot product, their rounding does not.
    let greatest = if metric == Metric::Dot {
      longest * length(&query)
    } else {
      0.0
    };
    for k in [1, 10, 100, stored.len() + 5] {
      let hits = index.query(&near(&query, k)).expect("queries");
      let found: Vec<f32> = hits.iter().filter_map(|hit| hit.distance).collect();
      let expected = expected(stored, metric, &query, k);
      check(
        &found,
        &expected,
        greatest,
        &format!("{metric:?} in memory, k {k}"),
      );
      assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
      for hit in &hits {
        assert!((0.0..=1.0).contains(&hit.score), "{}", hit.score);
        let really = distance(metric, &query, &stored[&hit.id]) as f32;
        assert!(
          (metric.score(really) - hit.score).abs() < 1e-4,
          "{}",
          hit.id
        );
      }
      let search = NearestSearch {
        vector: &query,
        metric,
        k,
        filter: None,
      };
      let reader = index.shared.reader().expect("a reader");
      let near = nearest::without_memory(&reader, &search, None).expect("scans");
      let found: Vec<f32> = near.iter().map(|near| near.distance).collect();
      check(
        &found,
        &expected,
        greatest,
        &format!("{metric:?} in the file, k {k}"),
      );
    }
  }
}

#[test]
fn every_metric_finds_exactly_the_nearest_through_every_change() {
  for (metric, dimension) in METRICS.into_iter().zip([48, 19, 33]) {
    let fixture = Fixture::new(&IndexOptions {
      metric,
      ..IndexOptions::default()
    });
    let mut stored = BTreeMap::new();
    for (round, vectors) in random_vectors(2400, dimension, 1).chunks(400).enumerate() {
      let documents = vectors.iter().enumerate().map(|(i, vector)| {
        // Every round replaces some documents of the one before.
        let id = format!("{}", round * 300 + i);
        stored.insert(id.clone(), vector.clone());
        document(&id, vector)
      });
      fixture.index.upsert(documents.collect()).expect("inserts");
      let gone: Vec<String> = stored.keys().skip(round).step_by(9).cloned().collect();
      let removed = fixture.index.delete(&gone).expect("deletes");
      assert_eq!(removed, gone.len());
      for id in &gone {
        stored.remove(id);
      }
      assert_eq!(fixture.index.count(), stored.len() as u64);
      check_all(&fixture.index, &stored, metric, round as u64);
      assert!(fixture.index.stats().memory_bytes > 0);
    }
    let fixture = fixture.reopened();
    assert_eq!(fixture.index.count(), stored.len() as u64);
    check_all(&fixture.index, &stored, metric, 77);
    fixture.index.verify().expect("is whole");
  }
}

#[test]
fn vectors_that_bytes_cannot_tell_apart_are_ranked_exactly() {
  for metric in METRICS {
    let fixture = Fixture::new(&IndexOptions {
      metric,
      ..IndexOptions::default()
    });
    let mut stored = BTreeMap::new();
    // One great number, and differences far below a byte's step.
    for (i, mut vector) in random_vectors(1500, 24, 3).into_iter().enumerate() {
      for number in &mut vector {
        *number *= 1e-3;
      }
      vector[0] = 1.0;
      stored.insert(i.to_string(), vector);
    }
    let documents = stored.iter().map(|(id, vector)| document(id, vector));
    fixture.index.upsert(documents.collect()).expect("inserts");
    check_all(&fixture.index, &stored, metric, 5);
  }
}

#[test]
fn lengths_of_every_size_are_ranked_exactly() {
  for metric in METRICS {
    let fixture = Fixture::new(&IndexOptions {
      metric,
      ..IndexOptions::default()
    });
    let mut stored = BTreeMap::new();
    for (i, mut vector) in random_vectors(1000, 20, 9).into_iter().enumerate() {
      let scale = 10_f32.powi(i as i32 % 9 - 4);
      for number in &mut vector {
        *number *= scale;
      }
      stored.insert(i.to_string(), vector);
    }
    if metric != Metric::Cosine {
      stored.insert("zero".into(), vec![0.0; 20]);
    }
    let documents = stored.iter().map(|(id, vector)| document(id, vector));
    fixture.index.upsert(documents.collect()).expect("inserts");
    check_all(&fixture.index, &stored, metric, 5);
  }
}

#[test]
fn an_identical_vector_is_first_with_score_1() {
  let fixture = Fixture::new(&IndexOptions::default());
  let vectors = random_vectors(300, 384, 2);
  let documents = vectors
    .iter()
    .enumerate()
    .map(|(i, v)| document(&i.to_string(), v));
  fixture.index.upsert(documents.collect()).expect("inserts");
  for (i, vector) in vectors.iter().enumerate().step_by(37) {
    let hits = fixture.index.query(&near(vector, 3)).expect("queries");
    assert_eq!(hits[0].id, i.to_string());
    assert!((hits[0].score - 1.0).abs() < 1e-6);
    assert!(hits[1].score < 0.9);
  }
}

#[test]
fn opposite_vectors_have_score_0_and_right_angles_a_half() {
  let fixture = Fixture::new(&IndexOptions::default());
  let documents = [
    ("same", [2.0, 0.0]),
    ("right", [0.0, 3.0]),
    ("opposite", [-1.0, 0.0]),
  ];
  let documents = documents.iter().map(|(id, vector)| document(id, vector));
  fixture.index.upsert(documents.collect()).expect("inserts");
  let hits = fixture.index.query(&near(&[5.0, 0.0], 3)).expect("queries");
  assert_eq!(ids(&hits), ["same", "right", "opposite"]);
  let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
  assert_eq!(scores, [1.0, 0.5, 0.0]);
}
