//! Strings that must never be logged or shown.

use std::fmt;

use serde::Deserialize;
use serde::Serializer;

/// A text that no log, no message and no listing shows: it can be read and compared, not printed, and
/// serialised only by [`exposed`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
  pub fn new(text: impl Into<String>) -> Self {
    Self(text.into())
  }

  /// The text itself.
  pub fn expose(&self) -> &str {
    &self.0
  }
}

impl From<String> for Secret {
  fn from(text: String) -> Self {
    Self::new(text)
  }
}

impl fmt::Debug for Secret {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("[secret]")
  }
}

impl fmt::Display for Secret {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    fmt::Debug::fmt(self, f)
  }
}

/// Serialises the text itself, for a file that only the server reads (`#[serde(serialize_with)]`).
///
/// # Errors
/// Those of the serializer.
pub fn exposed<'a, S: Serializer>(
  secret: impl Into<Option<&'a Secret>>,
  serializer: S,
) -> Result<S::Ok, S::Error> {
  match secret.into() {
    Some(secret) => serializer.serialize_str(secret.expose()),
    None => serializer.serialize_none(),
  }
}
