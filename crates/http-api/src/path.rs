//! Path parameters, with errors in the API's own shape.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Face;
use crate::error::ApiError;

/// As `axum::extract::Path`.
pub(crate) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Face> for Path<T> {
  type Rejection = ApiError;

  async fn from_request_parts(parts: &mut Parts, state: &Face) -> Result<Self, ApiError> {
    match axum::extract::Path::<T>::from_request_parts(parts, state).await {
      Ok(axum::extract::Path(value)) => Ok(Self(value)),
      Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
    }
  }
}
