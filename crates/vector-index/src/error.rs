//! Errors of one index.

use access::Classified;
use access::ErrorKind;

/// An error of one index. It names the document, the field or the file that it is about. Nothing has
/// changed when it is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
  /// The request is invalid.
  #[error("{0}")]
  Invalid(String),
  /// There is no such file.
  #[error("{0}")]
  NotFound(String),
  /// The file is there already.
  #[error("{0}")]
  Exists(String),
  /// The state of the index does not allow it.
  #[error("{0}")]
  Conflict(String),
  #[error("{0}")]
  TooLarge(String),
  /// The file is damaged.
  #[error("{0}")]
  Corrupt(String),
  /// The disk fails.
  #[error("{0}")]
  Storage(String),
}

impl Classified for IndexError {
  fn kind(&self) -> ErrorKind {
    match self {
      Self::Invalid(_) => ErrorKind::Invalid,
      Self::NotFound(_) => ErrorKind::NotFound,
      Self::Exists(_) | Self::Conflict(_) => ErrorKind::Conflict,
      Self::TooLarge(_) => ErrorKind::TooLarge,
      Self::Corrupt(_) | Self::Storage(_) => ErrorKind::Internal,
    }
  }
}
