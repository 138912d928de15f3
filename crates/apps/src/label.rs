//! The name of an app as one label of a host name, such as `hello` in `hello.localhost`.

use sha2::Digest;
use sha2::Sha256;

use crate::id::AppId;

/// Longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// Hexadecimal digits of the digest in a label: too many to find a second id with the same ones.
const DIGEST: usize = 24;

impl AppId {
  /// Label of the app in host names. No two apps share one.
  pub fn label(&self) -> String {
    of(self)
  }
}

/// The label of an app, which no other app has. An id that is a label already is its own; the labels of
/// others, such as those with dots or capitals, end in a digest of the id.
fn of(id: &AppId) -> String {
  if is_label(id.as_str()) && !has_digest(id.as_str()) {
    return id.as_str().to_owned();
  }
  let usual = |c: char| match c.to_ascii_lowercase() {
    c if c.is_ascii_alphanumeric() => c,
    _ => '-',
  };
  // The part before the digest is for people.
  let mut name: String = id.as_str().chars().map(usual).collect();
  name.truncate(MAX_LABEL - DIGEST - 1);
  let name = match name.trim_matches('-') {
    "" => "app",
    name if name.starts_with("xn--") => "app",
    name => name,
  };
  format!("{name}-{}", short_digest(id))
}

/// The id that has `label` as its own label; `None` if the label is that of another id or of none.
pub(crate) fn plain(label: &str) -> Option<AppId> {
  let id = AppId::new(label).ok()?;
  (of(&id) == label).then_some(id)
}

fn short_digest(id: &AppId) -> String {
  let mut text = hex::encode(Sha256::digest(id.as_str()));
  text.truncate(DIGEST);
  text
}

fn is_label(text: &str) -> bool {
  let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
  !text.is_empty()
    && text.len() <= MAX_LABEL
    && text.bytes().all(usual)
    && !text.starts_with('-')
    && !text.ends_with('-')
    // To browsers this is Punycode.
    && !text.starts_with("xn--")
}

/// Whether an id looks like a label with a digest, and could be that of another id.
fn has_digest(text: &str) -> bool {
  let end = text.rsplit('-').next().unwrap_or_default();
  let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
  end.len() == DIGEST && end.bytes().all(hexadecimal)
}

#[cfg(test)]
mod tests {
  use std::collections::BTreeSet;

  use super::*;

  fn label(id: &str) -> String {
    of(&AppId::new(id).expect("an id"))
  }

  #[test]
  fn usual_ids_are_their_own_labels() {
    for id in ["hello", "a", "my-app-2", "0"] {
      assert_eq!(label(id), id);
      assert_eq!(plain(id).expect("its own").as_str(), id);
    }
  }

  #[test]
  fn every_id_has_a_label_of_its_own() {
    let long = "x".repeat(128);
    let shadow = label("Hello");
    let ids = [
      "hello", "Hello", "HELLO", "a.b", "a_b", "a-b", "-a", "a-", "---", "xn--a", &long, &shadow,
    ];
    let labels: BTreeSet<String> = ids.iter().map(|id| label(id)).collect();
    assert_eq!(labels.len(), ids.len(), "{labels:?}");
    for text in &labels {
      assert!(is_label(text), "{text}");
    }
    assert!(shadow.starts_with("hello-") && plain(&shadow).is_none());
    assert!(label("a.b").starts_with("a-b-"));
  }
}
