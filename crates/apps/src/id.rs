//! Ids of apps.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::AppError;

/// An app's id, which is also the name of a folder and a segment of URLs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct AppId(String);

impl AppId {
  const MAX_LENGTH: usize = 128;

  /// Checks an id.
  ///
  /// # Errors
  /// When it is empty, too long, starts with a dot or holds a character that ids may not have.
  pub fn new(id: &str) -> Result<Self, AppError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if id.is_empty()
      || id.len() > Self::MAX_LENGTH
      || id.starts_with('.')
      || !id.chars().all(allowed)
    {
      let shown: String = id.chars().take(Self::MAX_LENGTH).collect();
      return Err(AppError::Invalid(format!(
        "id: `{shown}` cannot be the id of an app: use 1 to {} characters of A-Z a-z 0-9 _ - . and \
         no dot at the start",
        Self::MAX_LENGTH
      )));
    }
    Ok(Self(id.to_owned()))
  }

  pub fn as_str(&self) -> &str {
    &self.0
  }
}

impl fmt::Display for AppId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}

impl FromStr for AppId {
  type Err = AppError;

  fn from_str(id: &str) -> Result<Self, AppError> {
    Self::new(id)
  }
}

impl TryFrom<String> for AppId {
  type Error = AppError;

  fn try_from(id: String) -> Result<Self, AppError> {
    Self::new(&id)
  }
}

impl From<AppId> for String {
  fn from(id: AppId) -> Self {
    id.0
  }
}
