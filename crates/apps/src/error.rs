//! Errors of requests about apps.

use access::Classified;
use access::Denied;
use access::ErrorKind;
use kernels::KernelError;

/// Error of a request about apps. Nothing has changed when one is returned, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
  #[error("App with ID {0} not found")]
  NotFound(String),
  #[error("App with ID {0} already exists")]
  Exists(String),
  #[error("{0}")]
  Invalid(String),
  #[error("{0}")]
  Forbidden(String),
  #[error("{0}")]
  Conflict(String),
  #[error("{0}")]
  LimitReached(String),
  /// The app does not answer now, but may soon.
  #[error("{0}")]
  Unavailable(String),
  /// Another server, which this one depends on, failed.
  #[error("{0}")]
  Upstream(String),
  #[error("{0}")]
  Host(String),
}

impl Classified for AppError {
  fn kind(&self) -> ErrorKind {
    match self {
      Self::Invalid(_) => ErrorKind::Invalid,
      Self::Forbidden(_) => ErrorKind::Forbidden,
      Self::NotFound(_) => ErrorKind::NotFound,
      Self::Exists(_) | Self::Conflict(_) => ErrorKind::Conflict,
      Self::LimitReached(_) => ErrorKind::LimitReached,
      Self::Unavailable(_) => ErrorKind::Unavailable,
      Self::Upstream(_) => ErrorKind::Upstream,
      Self::Host(_) => ErrorKind::Internal,
    }
  }
}

impl From<Denied> for AppError {
  fn from(denied: Denied) -> Self {
    Self::Forbidden(denied.to_string())
  }
}

impl From<KernelError> for AppError {
  fn from(error: KernelError) -> Self {
    let message = error.to_string();
    match error {
      KernelError::Invalid(_) => Self::Invalid(message),
      KernelError::Forbidden(_) | KernelError::Unsupported(_) => Self::Forbidden(message),
      KernelError::LimitReached(_) => Self::LimitReached(message),
      KernelError::Conflict(_) | KernelError::Exists(_) => Self::Conflict(message),
      KernelError::NotFound
      | KernelError::UnknownId(_)
      | KernelError::SessionNotFound
      | KernelError::TookTooLong(_)
      | KernelError::Host(_) => Self::Host(message),
    }
  }
}
