//! Query parameters, with errors in the API's own shape.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use crate::error::ApiError;
use crate::error::ApiResult;

pub(crate) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> ApiResult<T> {
  let Query(parameters) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
  Ok(parameters)
}
