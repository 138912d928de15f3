//! Ids of indices.

use std::fmt;

use access::Caller;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use utoipa::ToSchema;

use crate::error::VectorError;

/// In bytes; more would only cost.
const MAX_LENGTH: usize = 4096;
/// Characters of the id that the name of its folder begins with.
const READABLE: usize = 40;

/// The full id of an index: `namespace:id`, or an id alone. Any string is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct IndexId(String);

impl IndexId {
  /// Takes a full id as it is.
  pub fn full(id: impl Into<String>) -> Self {
    Self(id.into())
  }

  /// # Errors
  /// When the namespace has a colon, or it all is too long or has control characters.
  pub fn new(namespace: Option<&str>, id: &str) -> Result<Self, VectorError> {
    let full = match namespace {
      Some(namespace) if namespace.contains(':') => {
        return Err(VectorError::Invalid(format!(
          "namespace: `{namespace}` has a colon, which ends a namespace"
        )));
      }
      Some(namespace) => format!("{namespace}:{id}"),
      None => id.to_owned(),
    };
    if full.chars().any(char::is_control) {
      return Err(VectorError::Invalid(
        "id: it has a control character, such as the end of a line".into(),
      ));
    }
    if full.is_empty() || full.len() > MAX_LENGTH {
      return Err(VectorError::Invalid(format!(
        "id: with its namespace it must have 1 to {MAX_LENGTH} bytes"
      )));
    }
    Ok(Self(full))
  }

  /// The index that `caller` calls `id`: one bound to a namespace may leave its own out.
  pub(crate) fn of(caller: &Caller, id: &str) -> Self {
    Self(caller.full_id(id))
  }

  pub fn as_str(&self) -> &str {
    &self.0
  }

  /// The part before the first colon.
  pub fn namespace(&self) -> Option<&str> {
    self.0.split_once(':').map(|(namespace, _)| namespace)
  }

  /// The name of its folder: of this id only, on every file system, even where case does
  /// not count.
  pub(crate) fn folder(&self) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut name: String = self.0.chars().take(READABLE).map(plain).collect();
    name.push('-');
    name.push_str(&hex::encode(Sha256::digest(&self.0)));
    name
  }
}

impl fmt::Display for IndexId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn the_folders_of_different_ids_differ() {
    let ids = [
      "a:b",
      "a_b",
      "A:b",
      "a/b",
      "..",
      ".",
      "",
      "CON",
      "a:b ",
      "a\u{0}b",
      "é",
      "e\u{301}",
      "../../etc/passwd",
      &"x".repeat(5000),
      &"x".repeat(5001),
    ];
    let mut seen = std::collections::HashSet::new();
    for id in ids {
      let folder = IndexId::full(id).folder();
      assert!(folder.len() < 120 && folder.is_ascii(), "{folder}");
      assert!(!folder.contains(['/', '\\', ':', '.', '\0']), "{folder}");
      assert!(seen.insert(folder.to_lowercase()), "{id}");
    }
  }

  #[test]
  fn namespaces_come_first_and_have_no_colon() {
    assert_eq!(
      IndexId::new(Some("w"), "a:b").expect("an id").as_str(),
      "w:a:b"
    );
    assert_eq!(IndexId::new(None, "a:b").expect("an id").as_str(), "a:b");
    IndexId::new(Some("w:a"), "b").expect_err("a colon");
    IndexId::new(None, "").expect_err("empty");
    for odd in ["a\nb", "a\u{0}", "\u{1b}[2J", "a\u{85}"] {
      IndexId::new(None, odd).expect_err("a control character");
      IndexId::new(Some(odd), "b").expect_err("a control character");
    }
    IndexId::new(None, &"x".repeat(5000)).expect_err("too long");
  }
}
