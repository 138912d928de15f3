//! Errors of requests that got no answer.

use std::error::Error;

use axum::http::StatusCode;
use hyper_util::client::legacy;

/// Why a request got no answer from its app. Messages name the app by its [`crate::site::Site`].
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
  /// Nothing of the request was sent.
  #[error("the app at {app} cannot be reached: {}; see its log, and start it again", root(.source))]
  Unreachable { app: String, source: legacy::Error },
  /// The app may have acted on the request.
  #[error("the app at {app} closed the connection before it answered; see its log")]
  Closed { app: String, source: legacy::Error },
  #[error("the app at {app} did not answer in HTTP/1.1: {}; see its code", root(.source))]
  NotHttp { app: String, source: legacy::Error },
  #[error("the app at {app} switched to a protocol that nobody asked for; see its code")]
  UnaskedUpgrade { app: String },
  #[error("the body of the request to the app at {app} broke off; send all of it")]
  BrokenRequest { app: String, source: legacy::Error },
  #[error("{path:?} cannot be asked of the app at {app}: ask for a path that begins with a slash")]
  BadPath { app: String, path: String },
  #[error("CONNECT cannot be asked of the app at {app}: a WebSocket is opened with GET")]
  Connect { app: String },
}

impl ProxyError {
  /// 502 for the app's faults, 400 or 405 for the client's.
  pub fn status(&self) -> StatusCode {
    match self {
      Self::Unreachable { .. }
      | Self::Closed { .. }
      | Self::NotHttp { .. }
      | Self::UnaskedUpgrade { .. } => StatusCode::BAD_GATEWAY,
      Self::BrokenRequest { .. } | Self::BadPath { .. } => StatusCode::BAD_REQUEST,
      Self::Connect { .. } => StatusCode::METHOD_NOT_ALLOWED,
    }
  }

  pub(crate) fn new(app: String, source: legacy::Error) -> Self {
    if source.is_connect() {
      return Self::Unreachable { app, source };
    }
    match cause::<hyper::Error>(&source) {
      Some(cause) if cause.is_user() => Self::BrokenRequest { app, source },
      Some(cause) if cause.is_parse() => Self::NotHttp { app, source },
      _ => Self::Closed { app, source },
    }
  }
}

/// The first error of a kind among an error's causes.
pub(crate) fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
  std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// The last of an error's causes.
fn root(error: &legacy::Error) -> String {
  let first: &dyn Error = error;
  let causes = std::iter::successors(Some(first), |&error| error.source());
  causes.last().map(ToString::to_string).unwrap_or_default()
}
