//! Errors as HTTP shows them: the fitting status and `{"error": …}`.

use crate::protection;
use std::any::Any;

use access::Classified;
use access::ErrorKind;
use axum::Json;
use axum::body::Body;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

/// What every failed request answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
  /// What was wrong, and what to do about it.
  pub error: String,
}

#[derive(Debug)]
pub(crate) struct ApiError {
  status: StatusCode,
  message: String,
  /// What those are told who do not run the server, when that is something else.
  public: Option<String>,
}

/// The message of an answer for those who do not run the server.
#[derive(Clone)]
struct ForOutsiders(String);

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
  pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
    Self {
      status,
      message: message.into(),
      public: None,
    }
  }

  /// Tells callers of a namespace something else, without what is the operator's.
  fn with_public(mut self, public: Option<String>) -> Self {
    self.public = public;
    self
  }

  pub(crate) fn bad_request(message: impl Into<String>) -> Self {
    Self::new(StatusCode::BAD_REQUEST, message)
  }

  pub(crate) fn not_found(message: impl Into<String>) -> Self {
    Self::new(StatusCode::NOT_FOUND, message)
  }

  pub(crate) fn method_not_allowed() -> Self {
    Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
  }
}

impl IntoResponse for ApiError {
  fn into_response(self) -> Response<Body> {
    let body = ErrorBody {
      error: self.message,
    };
    let mut response = (self.status, Json(body)).into_response();
    if let Some(public) = self.public {
      response.extensions_mut().insert(ForOutsiders(public));
    }
    protection::protect(response.headers_mut());
    response
  }
}

/// An answer as callers see it who do not run the server.
pub(crate) fn for_outsiders(mut response: Response<Body>) -> Response<Body> {
  match response.extensions_mut().remove() {
    Some(ForOutsiders(message)) => ApiError::new(response.status(), message).into_response(),
    None => response,
  }
}

impl<E: Classified> From<E> for ApiError {
  fn from(error: E) -> Self {
    let kind = error.kind();
    let message = error.to_string();
    match kind {
      ErrorKind::Internal => tracing::error!("{message}"),
      ErrorKind::Upstream => tracing::warn!("{message}"),
      _ => {}
    }
    Self::new(status(kind), message).with_public(error.public())
  }
}

/// The one place where kinds of errors become statuses.
fn status(kind: ErrorKind) -> StatusCode {
  match kind {
    ErrorKind::Invalid => StatusCode::BAD_REQUEST,
    ErrorKind::Forbidden => StatusCode::FORBIDDEN,
    ErrorKind::NotFound => StatusCode::NOT_FOUND,
    ErrorKind::Conflict => StatusCode::CONFLICT,
    ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    ErrorKind::LimitReached => StatusCode::TOO_MANY_REQUESTS,
    ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
    ErrorKind::Upstream => StatusCode::BAD_GATEWAY,
    ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
  }
}

/// A handler that panicked is our mistake; the connection and the server go on.
#[expect(clippy::needless_pass_by_value, reason = "tower-http gives it away")]
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
  let message = panic
    .downcast_ref::<&str>()
    .copied()
    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    .unwrap_or("no message");
  tracing::error!("a handler panicked: {message}");
  ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
}
