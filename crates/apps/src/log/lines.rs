//! Cuts text that arrives in pieces into lines.

/// Longest line, in bytes. Longer ones are cut.
const MAX_LINE: usize = 64 << 10;

#[derive(Default)]
pub(super) struct LineSplitter {
  rest: String,
}

impl LineSplitter {
  /// Takes a piece and returns the lines that it finishes, without their ends.
  pub(super) fn push(&mut self, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for piece in text.split_inclusive('\n') {
      self.append(piece.strip_suffix('\n').unwrap_or(piece), &mut lines);
      if piece.ends_with('\n') {
        let mut line = std::mem::take(&mut self.rest);
        if line.ends_with('\r') {
          line.pop();
        }
        lines.push(line);
      }
    }
    lines
  }

  /// The last line, if it has begun and not ended.
  pub(super) fn finish(self) -> Option<String> {
    (!self.rest.is_empty()).then_some(self.rest)
  }

  fn append(&mut self, mut piece: &str, lines: &mut Vec<String>) {
    while self.rest.len() + piece.len() > MAX_LINE {
      let cut = piece.floor_char_boundary(MAX_LINE.saturating_sub(self.rest.len()));
      self.rest.push_str(&piece[..cut]);
      lines.push(std::mem::take(&mut self.rest));
      piece = &piece[cut..];
    }
    self.rest.push_str(piece);
  }
}

#[cfg(test)]
mod tests {
  use proptest::prelude::*;

  use super::*;

  proptest! {
    #[test]
    fn lines_do_not_depend_on_the_pieces_they_come_in(text in "[a-cé\r\n]{0,40}", cuts in any::<u64>()) {
      let mut pieces = LineSplitter::default();
      let mut read = Vec::new();
      let mut rest = text.as_str();
      for bit in 0..u64::BITS {
        let Some(first) = rest.chars().next().filter(|_| cuts >> bit & 1 == 1) else {
          continue;
        };
        let (piece, left) = rest.split_at(first.len_utf8());
        read.extend(pieces.push(piece));
        rest = left;
      }
      read.extend(pieces.push(rest));
      read.extend(pieces.finish());
      let expected: Vec<&str> = text.lines().collect();
      prop_assert_eq!(read, expected);
    }
  }

  #[test]
  fn a_line_may_come_in_any_pieces() {
    let mut lines = LineSplitter::default();
    assert_eq!(lines.push("a"), [""; 0]);
    assert_eq!(lines.push("b\r"), [""; 0]);
    assert_eq!(lines.push("\nc\n\nd"), ["ab", "c", ""]);
    assert_eq!(lines.finish(), Some("d".into()));
  }

  #[test]
  fn a_line_that_is_too_long_is_cut_between_characters() {
    let mut lines = LineSplitter::default();
    let text = "é".repeat(MAX_LINE);
    let mut cut = lines.push("x");
    cut.extend(lines.push(&text));
    cut.extend(lines.push("\n"));
    assert!(cut.iter().all(|line| line.len() <= MAX_LINE));
    assert_eq!(cut.concat(), format!("x{text}"));
    assert_eq!(cut.len(), 3);
    assert!(lines.finish().is_none());
  }
}
