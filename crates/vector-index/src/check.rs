//! Checks documents and queries before anything is done with them.

use std::collections::HashSet;

use crate::error::IndexError;
use crate::types::Dimensions;
use crate::types::Document;
use crate::types::IndexOptions;
use crate::types::Metric;

/// Most numbers of a vector.
pub(crate) const MAX_DIMENSION: usize = 8192;

/// Lengths between which products of single-precision numbers neither vanish nor overflow.
const LENGTHS: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

/// Checks a batch as a whole and brings its vectors to the index's dimension, which it returns.
pub(crate) fn batch(
  documents: &mut [Document],
  options: &IndexOptions,
) -> Result<Option<usize>, IndexError> {
  let mut dimension = options.dimension;
  let mut seen = HashSet::with_capacity(documents.len());
  for document in documents.iter_mut() {
    let what = || format!("Document {}", document.id);
    let expected = *dimension.get_or_insert(document.vector.len());
    let mut taken = std::mem::take(&mut document.vector);
    vector(&mut taken, expected, options, what)?;
    document.vector = taken;
  }
  for document in documents.iter() {
    if !seen.insert(document.id.as_str()) {
      return Err(IndexError::Invalid(format!(
        "Document {} is in the batch twice; give each its own id",
        document.id
      )));
    }
  }
  Ok(dimension)
}

/// Checks one vector and brings it to `dimension`.
pub(crate) fn vector(
  vector: &mut Vec<f32>,
  dimension: usize,
  options: &IndexOptions,
  what: impl Fn() -> String,
) -> Result<(), IndexError> {
  let invalid = |reason: String| Err(IndexError::Invalid(format!("{}: {reason}", what())));
  if vector.is_empty() {
    return invalid("vector is empty; it needs at least one number".into());
  }
  if vector.len() > MAX_DIMENSION {
    return invalid(format!(
      "vector has {} numbers; the most is {MAX_DIMENSION}",
      vector.len()
    ));
  }
  if let Some(place) = vector.iter().position(|number| !number.is_finite()) {
    return invalid(format!(
      "vector[{place}] is {}; every number must be finite",
      vector[place]
    ));
  }
  if vector.len() != dimension {
    if options.dimensions == Dimensions::Strict {
      return invalid(format!(
        "vector has {} numbers and the index has dimension {dimension}; use the model that made \
         the stored vectors, or an index with flexible dimensions",
        vector.len()
      ));
    }
    vector.resize(dimension, 0.0);
  }
  let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
  let length = squares.sqrt();
  if length > *LENGTHS.end() {
    return invalid(format!(
      "vector is too long: {length:e}; scale it to at most {:e}",
      LENGTHS.end()
    ));
  }
  if options.metric == Metric::Cosine && length < *LENGTHS.start() {
    return invalid("vector is zero, so it has no direction to compare by cosine".into());
  }
  Ok(())
}
