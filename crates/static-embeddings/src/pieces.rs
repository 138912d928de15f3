//! Cuts texts where the tokeniser's result is the same, so that the memory for a long one stays small, and words
//! are found in the tokeniser's cache.

/// Stands for a blank in tokens.
pub(crate) const BLANK: &str = "▁";
const BLANK_CHAR: char = '▁';
/// Longest piece, in bytes. A longer run without a blank is cut, which may change a token or two.
const MAX_PIECE: usize = 16 << 10;

/// The pieces of a text in the tokeniser's form: a blank before it, and `▁` for every blank. A piece is a word with
/// the blanks before it. No token has a blank after another sign, so no token spans two pieces.
pub(crate) struct Pieces<'a> {
  rest: &'a str,
  piece: String,
  /// What the next piece begins with, besides its own.
  before: &'static str,
}

impl<'a> Pieces<'a> {
  pub(crate) fn new(text: &'a str) -> Self {
    Self {
      rest: text,
      piece: String::new(),
      before: BLANK,
    }
  }

  /// The next piece; `None` at the end.
  pub(crate) fn next(&mut self) -> Option<&str> {
    if self.rest.is_empty() {
      return None;
    }
    self.piece.clear();
    self.piece.push_str(std::mem::take(&mut self.before));
    let mut in_word = false;
    let mut end = self.rest.len();
    for (at, c) in self.rest.char_indices() {
      let blank = matches!(c, ' ' | BLANK_CHAR);
      if (blank && in_word) || self.piece.len() >= MAX_PIECE {
        end = at;
        break;
      }
      in_word |= !blank;
      self.piece.push(if blank { BLANK_CHAR } else { c });
    }
    self.rest = &self.rest[end..];
    Some(&self.piece)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Pieces::new(text);
    std::iter::from_fn(|| pieces.next().map(str::to_owned)).collect()
  }

  #[test]
  fn a_piece_is_a_word_with_the_blanks_before_it() {
    assert_eq!(pieces("a bc"), ["▁a", "▁bc"]);
    assert_eq!(pieces("  a   b "), ["▁▁▁a", "▁▁▁b", "▁"]);
    assert_eq!(pieces("a\tb▁c"), ["▁a\tb", "▁c"]);
    assert_eq!(pieces(" "), ["▁▁"]);
    assert_eq!(pieces(""), [""; 0]);
  }

  #[test]
  fn a_run_without_blanks_is_cut() {
    let lengths: Vec<usize> = pieces(&"é".repeat(20_000))
      .iter()
      .map(String::len)
      .collect();
    assert!(lengths.iter().all(|it| *it <= MAX_PIECE + 4), "{lengths:?}");
    assert_eq!(lengths.iter().sum::<usize>(), 40_000 + BLANK.len());
  }
}
