//! Vectors of texts from static token embeddings: a text is cut into tokens, the vector of each token is looked up
//! in a table, and their mean, brought to length 1, is the vector of the text. There is no network to run, so a
//! text takes microseconds on any processor.
//!
//! Models are those of <https://github.com/dleemiller/WordLlama>: a table in the format of safetensors, and a
//! tokeniser of the kind of Llama 2's, byte pairs with `▁` for a blank. Results are those of the same steps in
//! Python, but where Python has none: a text without tokens gets the vector of a blank, and never a NaN.

mod pieces;
mod table;

use aho_corasick::AhoCorasick;
use aho_corasick::MatchKind;
use bytes::Bytes;
use thiserror::Error;
use tokenizers::Model as _;
use tokenizers::ModelWrapper;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;

use crate::pieces::Pieces;
use crate::table::Table;

/// A file that is no model, or of another kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct LoadError(String);

/// A model in memory. It is as large as its table, and as its tokeniser's vocabulary.
#[derive(Debug)]
pub struct StaticModel {
  vocabulary: BPE,
  /// Finds texts that are tokens wherever they stand, such as `<s>`, and the numbers of these tokens.
  special: (AhoCorasick, Vec<u32>),
  table: Table,
  /// The token of a blank, for texts that have no other.
  blank: u32,
}

impl StaticModel {
  /// Reads a model from the contents of its files: `weights` in the format of safetensors, `tokenizer` in that of
  /// `tokenizer.json`.
  ///
  /// # Errors
  /// When they are no such files, or of a model of another kind.
  pub fn load(weights: &Bytes, tokenizer: &[u8]) -> Result<Self, LoadError> {
    let table = Table::load(weights)?;
    let tokenizer = Tokenizer::from_bytes(tokenizer)
      .map_err(|e| LoadError(format!("the tokeniser cannot be read: {e}")))?;
    let added = tokenizer.get_added_tokens_decoder();
    let (ids, special): (Vec<u32>, Vec<String>) = added
      .into_iter()
      .map(|(id, token)| (id, token.content))
      .unzip();
    let special = AhoCorasick::builder()
      .match_kind(MatchKind::LeftmostLongest)
      .build(special)
      .map_err(|e| LoadError(format!("the tokeniser's special tokens: {e}")))?;
    let ModelWrapper::BPE(vocabulary) = tokenizer.get_model().clone() else {
      return Err(LoadError("the tokeniser is not one of byte pairs".into()));
    };
    let blank = vocabulary
      .token_to_id(pieces::BLANK)
      .ok_or_else(|| LoadError("the tokeniser has no token for a blank".into()))?;
    if vocabulary.get_vocab_size() > table.rows() {
      return Err(LoadError(format!(
        "the tokeniser has {} tokens, and the table {} vectors",
        vocabulary.get_vocab_size(),
        table.rows()
      )));
    }
    if !vocabulary.byte_fallback {
      return Err(LoadError(
        "the tokeniser has no tokens for single bytes".into(),
      ));
    }
    Ok(Self {
      vocabulary,
      special: (special, ids),
      table,
      blank,
    })
  }

  /// Numbers of a vector; shorter ones are made of its first numbers.
  pub fn dimension(&self) -> usize {
    self.table.width()
  }

  /// The vector of a text, of `dimension` numbers at most, and of length 1. Time and memory grow with the text: some
  /// seconds, and some megabytes beside it, for 10 MB.
  ///
  /// # Panics
  /// When `dimension` is 0.
  pub fn embed(&self, text: &str, dimension: usize) -> Vec<f32> {
    assert!(dimension > 0, "a vector has a dimension");
    let dimension = dimension.min(self.dimension());
    let mut sum = vec![0.0_f64; dimension];
    let (finder, ids) = &self.special;
    let mut start = 0;
    for found in finder.find_iter(text) {
      self.add_text(&text[start..found.start()], &mut sum);
      self.table.add(ids[found.pattern().as_usize()], &mut sum);
      start = found.end();
    }
    self.add_text(&text[start..], &mut sum);
    unit(&sum).unwrap_or_else(|| {
      let mut blank = vec![0.0; dimension];
      self.table.add(self.blank, &mut blank);
      unit(&blank).unwrap_or_else(|| vec![1.0; dimension])
    })
  }

  fn add_text(&self, text: &str, sum: &mut [f64]) {
    let mut pieces = Pieces::new(text);
    while let Some(piece) = pieces.next() {
      // It fails where a text has no tokens, and every byte is one.
      for token in self.vocabulary.tokenize(piece).unwrap_or_default() {
        self.table.add(token.id, sum);
      }
    }
  }
}

/// The vector in this direction whose length is 1; `None` if there is no direction.
fn unit(vector: &[f64]) -> Option<Vec<f32>> {
  let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
  if !length.is_normal() {
    return None;
  }
  Some(vector.iter().map(|x| (x / length) as f32).collect())
}
