//! The built-in model of the original: deterministic, needs nothing, knows no meaning. Only equal
//! texts are near each other. Vectors that the original stored stay comparable.

use async_trait::async_trait;

use crate::embedding::Embedder;
use crate::embedding::ProviderKind;
use crate::error::VectorError;

/// Its name where models and providers are named.
pub const MOCK_MODEL: &str = "mock-model";

const DIMENSION: usize = 384;

/// The model `mock-model`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MockModel;

#[async_trait]
impl Embedder for MockModel {
  fn dimension(&self) -> usize {
    DIMENSION
  }

  fn kind(&self) -> ProviderKind {
    ProviderKind::Builtin
  }

  async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, VectorError> {
    Ok(texts.iter().map(|text| vector_of(text)).collect())
  }
}

/// Strings are sequences of UTF-16 code units here, as they are in JavaScript.
fn vector_of(text: &str) -> Vec<f32> {
  let hash = text.encode_utf16().fold(0_i32, |hash, unit| {
    hash.wrapping_mul(31).wrapping_add(i32::from(unit))
  });
  let seed = hash.unsigned_abs() as usize % 1_000_000;
  let step = 0.1 + (seed % 100) as f64 / 1000.0;
  let mut vector = [0_f64; DIMENSION];
  let lower = text.to_lowercase();
  for (i, word) in words(&lower).enumerate() {
    for (j, unit) in word.encode_utf16().enumerate() {
      vector[(usize::from(unit) + 37 * i + 13 * j + seed) % DIMENSION] += step;
    }
  }
  for i in (0..DIMENSION).step_by(10) {
    vector[(seed + i) % DIMENSION] += 0.05 * ((seed + i) as f64).sin();
  }
  let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
  let unit = |x: f64| if norm > 0.0 { x / norm } else { x };
  vector.iter().map(|x| unit(*x) as f32).collect()
}

/// As `text.split(/\s+/)`: blanks at an end make an empty word there.
fn words(text: &str) -> impl Iterator<Item = &str> {
  let mut rest = Some(text);
  std::iter::from_fn(move || {
    let text = rest?;
    match text.find(is_blank) {
      Some(end) => rest = Some(text[end..].trim_start_matches(is_blank)),
      None => rest = None,
    }
    Some(text.split(is_blank).next().unwrap_or_default())
  })
}

/// Whether `\s` matches it.
fn is_blank(c: char) -> bool {
  c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn words_are_split_as_javascript_splits() {
    let split = |text| words(text).collect::<Vec<_>>();
    assert_eq!(split("a b"), ["a", "b"]);
    assert_eq!(split("  a\t\nb "), ["", "a", "b", ""]);
    assert_eq!(split("a\u{feff}b\u{85}c"), ["a", "b\u{85}c"]);
    assert_eq!(split(""), [""]);
  }

  #[test]
  fn vectors_have_the_norm_1_and_only_equal_texts_are_equal() {
    for text in ["", " ", "alpha", "the quick brown fox", "日本語 😀 text"] {
      let vector = vector_of(text);
      assert_eq!(vector.len(), DIMENSION);
      let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
      assert!((norm - 1.0).abs() < 1e-5, "{text}: {norm}");
      assert_eq!(vector, vector_of(text));
    }
    assert_ne!(vector_of("alpha"), vector_of("Alpha"));
    assert_ne!(vector_of("alpha beta"), vector_of("beta alpha"));
  }

  /// Worked out by hand from the description: `a` is unit 97, so the hash and the seed are 97.
  #[test]
  fn a_short_text_gives_the_vector_of_the_description() {
    let mut expected = vec![0_f64; DIMENSION];
    expected[(97 + 97) % DIMENSION] += 0.1 + 97.0 / 1000.0;
    for i in (0..DIMENSION).step_by(10) {
      expected[(97 + i) % DIMENSION] += 0.05 * ((97 + i) as f64).sin();
    }
    let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
    let vector = vector_of("a");
    for (slot, (is, should)) in vector.iter().zip(&expected).enumerate() {
      assert!((f64::from(*is) - should / norm).abs() < 1e-6, "slot {slot}");
    }
  }

  #[test]
  fn the_hash_is_of_code_units_and_wraps_at_32_bits() {
    let long = "polygenelubricants";
    let hash = long
      .encode_utf16()
      .fold(0_i32, |h, u| h.wrapping_mul(31).wrapping_add(i32::from(u)));
    // Known to be the smallest 32-bit number, whose amount has no 32-bit signed form.
    assert_eq!(hash, i32::MIN);
    assert_eq!(vector_of(long).len(), DIMENSION);
    // Two code units; a hash of characters would leave another seed.
    let units: Vec<u16> = "😀".encode_utf16().collect();
    let hash = i32::from(units[0]) * 31 + i32::from(units[1]);
    let seed = hash.unsigned_abs() as usize % 1_000_000;
    let vector = vector_of("😀");
    let first = (usize::from(units[0]) + seed) % DIMENSION;
    assert!(vector[first] > 0.1, "{}", vector[first]);
  }
}
