//! What can go wrong with vectors.

/// Nothing has changed when one is returned, unless it says so. Each names the document, the field,
/// the index or the provider that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
  /// The request cannot be meant.
  #[error("{0}")]
  Invalid(String),
  /// There is no such index, document or provider.
  #[error("{0}")]
  NotFound(String),
  /// The id or name is taken.
  #[error("{0}")]
  Exists(String),
  /// The permission of the index, or the operator, does not let the requester do this.
  #[error("{0}")]
  Forbidden(String),
  /// It cannot be done in the present state.
  #[error("{0}")]
  Conflict(String),
  #[error("{0}")]
  LimitReached(String),
  #[error("{0}")]
  TooLarge(String),
  /// A file is not what it should be.
  #[error("{0}")]
  Corrupt(String),
  /// An embedding provider is down, slow, or answered what is no embedding.
  #[error("{0}")]
  Provider(String),
  /// The disk does not do what it should.
  #[error("{0}")]
  Storage(String),
}
