//! Errors as HTTP shows them: the fitting status and `{"error": …}`.

use std::any::Any;

use axum::Json;
use axum::body::Body;
use axum::http::Response;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use engine::apps::AppError;
use engine::kernels::KernelError;
use engine::vectordb::VectorError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::origin;

/// What every failed request answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
  /// What was wrong, and what to do about it.
  pub error: String,
}

#[derive(Debug)]
pub struct ApiError {
  status: StatusCode,
  message: String,
  /// What those are told who do not run the server, when that is something else.
  public: Option<String>,
}

/// The message of an answer for those who do not run the server.
#[derive(Clone)]
struct ForOutsiders(String);

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
  /// What outsiders are told when files of the vector database cannot be used.
  pub const OUTSIDERS_STORAGE: &str = "The files of the vector database cannot be used as they should: the server's log tells its operator why";

  pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
    Self {
      status,
      message: message.into(),
      public: None,
    }
  }

  /// Tells callers of a namespace something else, without what is the operator's.
  fn with_public(mut self, public: Option<impl Into<String>>) -> Self {
    self.public = public.map(Into::into);
    self
  }

  pub fn bad_request(message: impl Into<String>) -> Self {
    Self::new(StatusCode::BAD_REQUEST, message)
  }

  pub fn not_found(message: impl Into<String>) -> Self {
    Self::new(StatusCode::NOT_FOUND, message)
  }

  pub fn method_not_allowed() -> Self {
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
    origin::protect(response.headers_mut());
    response
  }
}

/// An answer as callers see it who do not run the server.
pub fn for_outsiders(mut response: Response<Body>) -> Response<Body> {
  match response.extensions_mut().remove() {
    Some(ForOutsiders(message)) => ApiError::new(response.status(), message).into_response(),
    None => response,
  }
}

impl From<KernelError> for ApiError {
  fn from(error: KernelError) -> Self {
    let status = match &error {
      KernelError::Invalid(_) => StatusCode::BAD_REQUEST,
      KernelError::Forbidden(_) => StatusCode::FORBIDDEN,
      KernelError::NotFound | KernelError::UnknownId(_) | KernelError::SessionNotFound => {
        StatusCode::NOT_FOUND
      }
      KernelError::Exists(_) | KernelError::Conflict(_) => StatusCode::CONFLICT,
      KernelError::LimitReached(_) => StatusCode::TOO_MANY_REQUESTS,
      KernelError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
      KernelError::TookTooLong(_) => StatusCode::GATEWAY_TIMEOUT,
      KernelError::Host(message) => {
        tracing::error!("{message}");
        StatusCode::INTERNAL_SERVER_ERROR
      }
    };
    Self::new(status, error.to_string())
  }
}

impl From<AppError> for ApiError {
  fn from(error: AppError) -> Self {
    let status = match &error {
      AppError::Invalid(_) => StatusCode::BAD_REQUEST,
      AppError::Forbidden(_) => StatusCode::FORBIDDEN,
      AppError::NotFound(_) => StatusCode::NOT_FOUND,
      AppError::Exists(_) | AppError::Conflict(_) => StatusCode::CONFLICT,
      AppError::LimitReached(_) => StatusCode::TOO_MANY_REQUESTS,
      AppError::Upstream(_) => StatusCode::BAD_GATEWAY,
      AppError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
      AppError::Host(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Self::new(status, error.to_string())
  }
}

impl From<VectorError> for ApiError {
  fn from(error: VectorError) -> Self {
    let status = match &error {
      VectorError::Invalid(_) => StatusCode::BAD_REQUEST,
      VectorError::Forbidden(_) => StatusCode::FORBIDDEN,
      VectorError::NotFound(_) => StatusCode::NOT_FOUND,
      VectorError::Exists(_) | VectorError::Conflict(_) => StatusCode::CONFLICT,
      VectorError::LimitReached(_) => StatusCode::TOO_MANY_REQUESTS,
      VectorError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
      VectorError::Provider(failure) => {
        tracing::warn!("{failure}");
        StatusCode::BAD_GATEWAY
      }
      VectorError::Corrupt(message) | VectorError::Storage(message) => {
        tracing::error!("{message}");
        StatusCode::INTERNAL_SERVER_ERROR
      }
    };
    let public = match &error {
      VectorError::Provider(failure) => failure.public(),
      VectorError::Corrupt(_) | VectorError::Storage(_) => Some(Self::OUTSIDERS_STORAGE),
      _ => None,
    };
    Self::new(status, error.to_string()).with_public(public)
  }
}

/// A handler that panicked is our mistake; the connection and the server go on.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
  let message = panic
    .downcast_ref::<&str>()
    .copied()
    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    .unwrap_or("no message");
  tracing::error!("a handler panicked: {message}");
  ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
}
