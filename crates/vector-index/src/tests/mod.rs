//! What an index promises.

mod bad_input;
mod durability;
mod filter_properties;
mod filters;
mod queries;
mod ranking;
mod text;
mod writes;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::*;

pub(crate) struct Fixture {
  pub folder: TempDir,
  pub index: Index,
}

impl Fixture {
  pub(crate) fn new(options: &IndexOptions) -> Self {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let index =
      Index::create(&path, options, &json!({"namespace": "a"}), &memory()).expect("creates");
    Self { folder, index }
  }

  pub(crate) fn path(&self) -> PathBuf {
    self.folder.path().join("index.db")
  }

  /// Closes the index and opens it again.
  pub(crate) fn reopened(self) -> Self {
    let path = self.path();
    drop(self.index);
    Self {
      folder: self.folder,
      index: Index::open(&path, &memory()).expect("opens"),
    }
  }
}

pub(crate) fn memory() -> Arc<Memory> {
  Memory::new(1 << 30)
}

pub(crate) fn document(id: &str, vector: &[f32]) -> Document {
  Document {
    id: id.into(),
    text: None,
    vector: vector.into(),
    metadata: None,
  }
}

pub(crate) fn with_metadata(id: &str, vector: &[f32], metadata: &Value) -> Document {
  Document {
    metadata: metadata.as_object().cloned(),
    ..document(id, vector)
  }
}

pub(crate) fn with_text(id: &str, vector: &[f32], text: &str) -> Document {
  Document {
    text: Some(text.into()),
    ..document(id, vector)
  }
}

pub(crate) fn near(vector: &[f32], k: usize) -> Query {
  Query {
    vector: Some(vector.into()),
    k,
    include_metadata: true,
    ..Query::default()
  }
}

pub(crate) fn filter(json: &Value) -> Filter {
  Filter::parse(json).expect("parses")
}

pub(crate) fn ids(hits: &[Hit]) -> Vec<&str> {
  hits.iter().map(|hit| hit.id.as_str()).collect()
}

pub(crate) fn random_vectors(count: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
  let mut random = StdRng::seed_from_u64(seed);
  let mut vector = || {
    (0..dimension)
      .map(|_| random.random_range(-1.0..1.0))
      .collect()
  };
  (0..count).map(|_| vector()).collect()
}

/// Distances as they are defined, in double precision.
pub(crate) fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
  let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
  let dot: f64 = pairs().map(|(a, b)| a * b).sum();
  match metric {
    Metric::Dot => -dot,
    Metric::L2 => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
    Metric::Cosine => {
      let squares = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
      1.0 - dot / (squares(a) * squares(b)).sqrt()
    }
  }
}
