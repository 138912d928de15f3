//! What can go wrong with kernels.

use access::Classified;
use access::Denied;
use access::ErrorKind;

use crate::KernelId;

/// What can go wrong with a request about kernels. Nothing has changed when one is returned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KernelError {
  #[error("{0}")]
  Invalid(String),
  #[error("{0}")]
  Forbidden(String),
  #[error("Kernel not found")]
  NotFound,
  #[error("Kernel with ID {0} not found")]
  UnknownId(KernelId),
  #[error("Session not found")]
  SessionNotFound,
  #[error("Kernel with ID {0} already exists")]
  Exists(KernelId),
  #[error("{0}")]
  Conflict(String),
  #[error("{0}")]
  LimitReached(String),
  #[error("{0}")]
  Unsupported(String),
  #[error("{0}")]
  TookTooLong(String),
  #[error("{0}")]
  Host(String),
}

impl Classified for KernelError {
  fn kind(&self) -> ErrorKind {
    match self {
      Self::Invalid(_) => ErrorKind::Invalid,
      Self::Forbidden(_) => ErrorKind::Forbidden,
      Self::NotFound | Self::UnknownId(_) | Self::SessionNotFound => ErrorKind::NotFound,
      Self::Exists(_) | Self::Conflict(_) => ErrorKind::Conflict,
      Self::LimitReached(_) => ErrorKind::LimitReached,
      Self::Unsupported(_) => ErrorKind::Unsupported,
      Self::TookTooLong(_) => ErrorKind::TimedOut,
      Self::Host(_) => ErrorKind::Internal,
    }
  }
}

impl From<Denied> for KernelError {
  fn from(denied: Denied) -> Self {
    Self::Forbidden(denied.to_string())
  }
}
