//! Request bodies: JSON whatever the content type says, as the original took them, but checked: wrong
//! types and unknown fields are named.

use axum::body::Body;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header;
use serde::de::DeserializeOwned;

use super::AppState;
use super::error::ApiError;

pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
  type Rejection = ApiError;

  async fn from_request(request: Request<Body>, engine: &AppState) -> Result<Self, ApiError> {
    let limit = engine.settings.max_body_bytes;
    let too_large = || {
      ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
          "The request body is larger than the {limit} bytes this server takes (MAX_BODY_BYTES)"
        ),
      )
    };
    let announced = request
      .headers()
      .get(header::CONTENT_LENGTH)
      .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
      return Err(too_large());
    }
    let bytes = axum::body::to_bytes(request.into_body(), limit)
      .await
      .map_err(|e| {
        let source = std::error::Error::source(&e);
        if source.is_some_and(|s| s.is::<http_body_util::LengthLimitError>()) {
          too_large()
        } else {
          ApiError::bad_request(format!("The request body could not be read: {e}"))
        }
      })?;
    parse(&bytes).map(Self)
  }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
  if bytes.iter().all(u8::is_ascii_whitespace) {
    return Err(ApiError::bad_request(
      "The request body must be JSON, but it is empty",
    ));
  }
  let mut json = serde_json::Deserializer::from_slice(bytes);
  let value: Result<T, _> = serde_path_to_error::deserialize(&mut json);
  match value {
    Ok(value) => {
      json
        .end()
        .map_err(|e| ApiError::bad_request(format!("Invalid JSON: {e}")))?;
      Ok(value)
    }
    Err(error) => {
      let path = error.path().to_string();
      let inner = error.into_inner();
      Err(ApiError::bad_request(if inner.is_data() && path != "." {
        format!("{path}: {inner}")
      } else if inner.is_data() {
        inner.to_string()
      } else {
        format!("Invalid JSON: {inner}")
      }))
    }
  }
}

#[cfg(test)]
mod tests {
  use serde::Deserialize;

  use super::*;

  #[derive(Debug, Deserialize)]
  #[serde(deny_unknown_fields)]
  struct Thing {
    #[expect(dead_code, reason = "only parsed")]
    size: Option<u32>,
  }

  fn message(text: &str) -> String {
    format!(
      "{:?}",
      parse::<Thing>(text.as_bytes()).expect_err("is wrong")
    )
  }

  #[test]
  fn what_is_wrong_is_named() {
    assert!(message("").contains("empty"));
    assert!(message("{").contains("Invalid JSON"));
    assert!(message("{} x").contains("Invalid JSON"));
    assert!(message(r#"{"size": "big"}"#).contains("size: invalid type"));
    assert!(message(r#"{"colour": 1}"#).contains("unknown field `colour`"));
    assert!(message("[]").contains("invalid"));
  }
}
