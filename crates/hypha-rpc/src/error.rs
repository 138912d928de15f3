//! What goes wrong.

use std::time::Duration;

/// Why there is no connection. No message holds a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
  /// A setting that cannot work; nothing was sent.
  #[error("{0}")]
  Invalid(String),
  /// Nothing answers at the address, or what answers says that it cannot now. Trying again may help.
  #[error("{address}: no connection: {reason}")]
  Unreachable { address: String, reason: String },
  /// The Hypha server does not let this client in.
  #[error("{address}: the Hypha server refuses the connection: {message}")]
  Refused {
    address: String,
    kind: Refusal,
    /// The server's own words.
    message: String,
  },
  /// What answers at the address does not speak Hypha's protocol.
  #[error("{address}: not a Hypha server: {reason}")]
  NotHypha { address: String, reason: String },
}

/// Why a server refuses a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
  /// The token is not valid on this server, or has expired.
  Token,
  /// The token is not for this workspace, or the workspace is closed to this user, or there is none.
  Workspace,
  /// A client with the same id is connected and answers.
  ClientExists,
  /// Another reason: the message says which.
  Other,
}

impl Refusal {
  /// Recognises the reason in the server's words: it sends no code.
  pub(crate) fn of(message: &str) -> Self {
    let has = |part: &str| message.contains(part);
    if has("Client already exists") {
      Self::ClientExists
    } else if has("workspace mismatch")
      || has("does not match")
      || has("does not exist")
      || has("Permission denied for workspace")
    {
      Self::Workspace
    } else if has("Authentication error") || has("Failed to authenticate") {
      Self::Token
    } else if has("ermission denied") {
      Self::Workspace
    } else {
      Self::Other
    }
  }
}

impl ConnectError {
  /// Whether the same attempt may succeed later.
  pub fn may_pass(&self) -> bool {
    match self {
      Self::Unreachable { .. } | Self::NotHypha { .. } => true,
      Self::Refused { kind, .. } => matches!(kind, Refusal::ClientExists | Refusal::Other),
      Self::Invalid(_) => false,
    }
  }
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
  /// The peer's method failed.
  #[error("{0}")]
  Remote(RemoteError),
  /// Neither a result nor a sign of life came from the peer.
  #[error("`{method}` of {target}: nothing came within {limit:?}")]
  TimedOut {
    target: String,
    method: String,
    limit: Duration,
  },
  /// The peer has left.
  #[error("{0} is not connected")]
  PeerGone(String),
  /// The connection to the server was lost, or is not there. It may come back.
  #[error("there is no connection to the Hypha server")]
  Disconnected,
  /// The client was disconnected by this program, or refused for good.
  #[error("the client is disconnected")]
  Closed,
  /// The message cannot be sent, or the answer is not what it should be.
  #[error("{0}")]
  Invalid(String),
}

impl From<RemoteError> for CallError {
  fn from(error: RemoteError) -> Self {
    Self::Remote(error)
  }
}

/// The error of a method, as it travels to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
  pub message: String,
  /// Where in the peer's program it happened; `None` if the peer does not say.
  pub trace: Option<String>,
}

impl RemoteError {
  pub fn new(message: impl Into<String>) -> Self {
    Self {
      message: message.into(),
      trace: None,
    }
  }
}

impl From<CallError> for RemoteError {
  /// For handlers that call others.
  fn from(error: CallError) -> Self {
    match error {
      CallError::Remote(error) => error,
      other => Self::new(other.to_string()),
    }
  }
}

impl From<String> for RemoteError {
  fn from(message: String) -> Self {
    Self::new(message)
  }
}

impl From<&str> for RemoteError {
  fn from(message: &str) -> Self {
    Self::new(message)
  }
}
