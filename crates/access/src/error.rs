//! What kinds of errors there are. Managers keep their own rich enums, which callers match on; a face
//! maps the kind of any of them, once.

/// The kind of an error, for a face that turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
  /// The request makes no sense.
  Invalid,
  /// The caller, or the operator's settings, do not allow it.
  Forbidden,
  /// There is no such thing, or none that the caller may see.
  NotFound,
  /// It exists already, or its state does not allow this now.
  Conflict,
  /// More data than is taken.
  TooLarge,
  /// A limit is reached; it may be possible later.
  LimitReached,
  /// This server cannot do it.
  Unsupported,
  /// Another server, which this one depends on, failed.
  Upstream,
  /// It may be possible in a moment.
  Unavailable,
  /// It took too long.
  TimedOut,
  /// The server itself failed.
  Internal,
}

/// An error that a face can show. Its `Display` is the message for the operator.
pub trait Classified: std::error::Error {
  fn kind(&self) -> ErrorKind;

  /// The message for callers of a namespace, if theirs leaves out what only the operator may learn:
  /// paths, addresses.
  fn public(&self) -> Option<String> {
    None
  }
}
