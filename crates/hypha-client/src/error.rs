//! Errors between the engine and a Hypha server.

use std::time::Duration;

use reqwest::StatusCode;

/// Error between the engine and a Hypha server. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactsError {
  #[error("{0}")]
  Setting(String),
  #[error("`{0}` is not the id of an artifact: write workspace/alias")]
  Id(String),
  /// No try succeeded.
  #[error("{url}: no connection: {reason}")]
  Connection { url: String, reason: String },
  #[error("{url}: no complete answer within {limit:?}")]
  TimedOut { url: String, limit: Duration },
  /// After several tries, if it is an error of the server (5xx).
  #[error("{url}: {status}: {detail}{}", remedy(*.status))]
  Status {
    url: String,
    status: StatusCode,
    detail: String,
  },
  #[error("{url}: refused to read on: the answer has more than {limit} bytes")]
  TooLarge { url: String, limit: usize },
  #[error("{url}: {reason}: is HYPHA_SERVER_URL the address of a Hypha server?")]
  Malformed { url: String, reason: String },
  #[error("{url}: more than {limit} apps: move some to a collection of their own")]
  TooMany { url: String, limit: usize },
  #[error("{url}: changed whenever it was listed: {listed} artifacts of {total}")]
  Unsteady {
    url: String,
    listed: usize,
    total: usize,
  },
  #[error("`{id}` is not a published app of the collection {collection}")]
  NotPublished { id: String, collection: String },
  #[error("apps get no token: HYPHA_TOKEN is not set")]
  NoToken,
  #[error(
    "apps get no token: HYPHA_WORKSPACE is not set. Name a workspace for them that holds nothing else, \
     for a token may change everything in its workspace"
  )]
  NoWorkspace,
  #[error(
    "apps get no token: what is made from HYPHA_TOKEN administers the whole Hypha server; set it to \
     the token of a user who does not"
  )]
  TooPowerful,
}

fn remedy(status: StatusCode) -> &'static str {
  match status {
    StatusCode::UNAUTHORIZED => {
      "; HYPHA_TOKEN is not valid on this server or has expired: set it to a new one"
    }
    StatusCode::FORBIDDEN => "; HYPHA_TOKEN must be the token of a user who may do this",
    StatusCode::NOT_FOUND => "; check HYPHA_SERVER_URL and the collection's name",
    status if status.is_redirection() => "; set HYPHA_SERVER_URL to where it leads",
    _ => "",
  }
}

impl ArtifactsError {
  /// Whether asking again may help.
  pub(crate) fn may_pass(&self) -> bool {
    match self {
      Self::Connection { .. } => true,
      Self::Status { status, .. } => status.is_server_error(),
      _ => false,
    }
  }
}
