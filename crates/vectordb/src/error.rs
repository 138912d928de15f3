//! Errors of the vector database.

use std::fmt;

use access::Classified;
use access::Denied;
use access::ErrorKind;
use vector_index::IndexError;

/// An error of the vector database. It names the document, the field, the index or the provider that it
/// is about. Nothing has changed when it is returned, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
  /// The request is invalid.
  #[error("{0}")]
  Invalid(String),
  /// There is no such index, document or provider.
  #[error("{0}")]
  NotFound(String),
  /// The id or name is taken.
  #[error("{0}")]
  Exists(String),
  /// The permission of the index, or the operator, does not let the caller do this.
  #[error("{0}")]
  Forbidden(String),
  /// The present state does not allow it.
  #[error("{0}")]
  Conflict(String),
  #[error("{0}")]
  LimitReached(String),
  #[error("{0}")]
  TooLarge(String),
  /// A file is damaged.
  #[error("{0}")]
  Corrupt(String),
  /// An embedding provider is down, slow, or answers without embeddings.
  #[error("{0}")]
  Provider(ProviderFailure),
  /// The disk fails.
  #[error("{0}")]
  Storage(String),
}

impl From<IndexError> for VectorError {
  fn from(error: IndexError) -> Self {
    match error {
      IndexError::Invalid(message) => Self::Invalid(message),
      IndexError::NotFound(message) => Self::NotFound(message),
      IndexError::Exists(message) => Self::Exists(message),
      IndexError::Conflict(message) => Self::Conflict(message),
      IndexError::TooLarge(message) => Self::TooLarge(message),
      IndexError::Corrupt(message) => Self::Corrupt(message),
      IndexError::Storage(message) => Self::Storage(message),
    }
  }
}

impl From<Denied> for VectorError {
  fn from(denied: Denied) -> Self {
    Self::Forbidden(denied.to_string())
  }
}

/// Message for callers of a namespace when files cannot be used.
pub(crate) const FILES_UNUSABLE: &str = "The files of the vector database cannot be used as they should: the server's log tells its operator why";

impl Classified for VectorError {
  fn kind(&self) -> ErrorKind {
    match self {
      Self::Invalid(_) => ErrorKind::Invalid,
      Self::NotFound(_) => ErrorKind::NotFound,
      Self::Forbidden(_) => ErrorKind::Forbidden,
      Self::Exists(_) | Self::Conflict(_) => ErrorKind::Conflict,
      Self::LimitReached(_) => ErrorKind::LimitReached,
      Self::TooLarge(_) => ErrorKind::TooLarge,
      Self::Provider(_) => ErrorKind::Upstream,
      Self::Corrupt(_) | Self::Storage(_) => ErrorKind::Internal,
    }
  }

  fn public(&self) -> Option<String> {
    match self {
      Self::Provider(failure) => failure.public().map(str::to_owned),
      Self::Corrupt(_) | Self::Storage(_) => Some(FILES_UNUSABLE.into()),
      _ => None,
    }
  }
}

/// Why texts were not embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFailure {
  message: String,
  public: Option<String>,
}

impl ProviderFailure {
  /// A failure whose message has addresses and answers of the operator's network. Other callers get
  /// `public`.
  pub fn internal(message: String, public: String) -> Self {
    Self {
      message,
      public: Some(public),
    }
  }

  /// Message for callers of a namespace, if it differs.
  pub fn public(&self) -> Option<&str> {
    self.public.as_deref()
  }
}

impl From<String> for ProviderFailure {
  fn from(message: String) -> Self {
    Self {
      message,
      public: None,
    }
  }
}

impl fmt::Display for ProviderFailure {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.message)
  }
}
