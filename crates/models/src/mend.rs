//! JSON of servers that cut a text inside a character.

/// The same JSON, with every half of a surrogate pair that stands alone replaced; `None` if there is
/// none. Servers that cut texts by UTF-16 units send such halves, which JSON allows and UTF-8 cannot hold.
pub(crate) fn mended(json: &str) -> Option<String> {
  let mut mended = String::with_capacity(json.len());
  let mut rest = json;
  let mut changed = false;
  while let Some(start) = rest.find('\\') {
    mended.push_str(&rest[..start]);
    rest = &rest[start..];
    let length = match (unit(rest), rest.get(6..).and_then(unit)) {
      (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
      (Some(0xD800..=0xDFFF), _) => {
        mended.push_str("\\ufffd");
        changed = true;
        rest = &rest[6..];
        continue;
      }
      (Some(_), _) => 6,
      // Two of a kind must not be taken for a new escape.
      (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
    };
    mended.push_str(&rest[..length]);
    rest = &rest[length..];
  }
  mended.push_str(rest);
  changed.then_some(mended)
}

/// The UTF-16 unit of the escape that a text begins with.
fn unit(text: &str) -> Option<u16> {
  let digits = text.strip_prefix("\\u")?.get(..4)?;
  u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn halves_of_characters_are_replaced_and_whole_ones_kept() {
    let read = |json: &str| {
      let mended = mended(json).expect("it had halves");
      serde_json::from_str::<String>(&mended).expect("JSON")
    };
    assert_eq!(read(r#""a\ud83d""#), "a\u{fffd}");
    assert_eq!(read(r#""\ude00b""#), "\u{fffd}b");
    assert_eq!(read(r#""\ud83d\ud83d\ude00\\\n""#), "\u{fffd}😀\\\n");
    for whole in [
      r#""ä\u00e4\ud83d\ude00""#,
      r#""\\ud83d""#,
      r#""\"#,
      "",
      r#""\ü""#,
    ] {
      assert_eq!(mended(whole), None, "{whole}");
    }
  }

  mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
      #[test]
      fn no_text_is_too_odd_and_none_needs_mending_twice(
        text in r#"(\\|u|d83d|de00|D8|[0-9a-f"é😀]){0,24}"#,
      ) {
        if let Some(once) = mended(&text) {
          prop_assert_eq!(mended(&once), None);
        }
      }
    }
  }
}
