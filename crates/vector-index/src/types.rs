//! Documents, queries, hits and options.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

use crate::filter::Filter;

/// A document to be stored; its vector is that of its text, or the caller's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
  pub id: String,
  pub text: Option<String>,
  pub vector: Vec<f32>,
  pub metadata: Option<Map<String, Value>>,
}

/// Measure of how near two vectors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
  /// Distance 1 - cos, 0 to 2; score (1 + cos) / 2.
  #[default]
  Cosine,
  /// Euclidean distance; score 1 / (1 + distance).
  L2,
  /// Distance -dot, the greatest product being nearest; score (1 + dot / (1 + |dot|)) / 2.
  Dot,
}

impl Metric {
  /// A similarity from 0 to 1 that falls as the distance grows.
  pub fn score(self, distance: f32) -> f32 {
    let score = match self {
      Self::Cosine => 1.0 - distance / 2.0,
      Self::L2 => 1.0 / (1.0 + distance),
      Self::Dot => (1.0 - distance / (1.0 + distance.abs())) / 2.0,
    };
    score.clamp(0.0, 1.0)
  }
}

/// Treatment of vectors whose dimension is not that of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimensions {
  /// They are refused.
  #[default]
  Strict,
  /// They are padded with zeros or cut.
  Flexible,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexOptions {
  pub metric: Metric,
  pub dimensions: Dimensions,
  /// `None` until the first vector sets it.
  pub dimension: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upserted {
  pub added: usize,
  pub replaced: usize,
}

/// By vector the most similar, by text the best of a full-text search, by both the two lists fused
/// by their ranks.
#[derive(Debug, Clone, Default)]
pub struct Query {
  pub vector: Option<Vec<f32>>,
  pub text: Option<String>,
  pub k: usize,
  /// Hits to leave out at the start, for paging.
  pub offset: usize,
  /// Hits with a lower score are left out.
  pub threshold: f32,
  pub filter: Option<Filter>,
  pub include_metadata: bool,
  pub include_vectors: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Hit {
  pub id: String,
  /// 0 to 1, best first. A fused list has 1 for what both lists have first.
  pub score: f32,
  /// By the metric of the index; absent if no vector was compared.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub distance: Option<f32>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub text: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub metadata: Option<Map<String, Value>>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub vector: Option<Vec<f32>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Stored {
  pub id: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub text: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub metadata: Option<Map<String, Value>>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub vector: Option<Vec<f32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexStats {
  pub count: u64,
  pub dimension: Option<usize>,
  /// Bytes on disk, the write-ahead log included.
  pub bytes: u64,
  pub bytes_per_vector: u64,
  /// Bytes of the index in memory that speeds queries up.
  pub memory_bytes: u64,
}
