//! Request bodies: JSON whatever the content type says, as the original took them, but checked: wrong
//! types and unknown fields are named.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::Face;
use crate::access::By;
use crate::body_memory::BodyMemory;
use crate::body_memory::Place;
use crate::body_memory::SMALL;
use crate::error::ApiError;

/// A body that takes a while to parse, in bytes.
const LONG: usize = 256 << 10;
/// How much of a body that is too large is read before the answer, and for how long.
const DRAIN_BYTES: usize = 128 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

pub(crate) struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Face> for JsonBody<T> {
  type Rejection = ApiError;

  async fn from_request(request: Request<Body>, face: &Face) -> Result<Self, ApiError> {
    let (mut parts, mut body) = request.into_parts();
    let (bytes, place) = match read(&mut parts, &mut body, face).await {
      Ok(read) => read,
      Err(error) => {
        drain(body).await;
        return Err(error);
      }
    };
    if bytes.len() < LONG {
      return parse(&bytes).map(Self);
    }
    // Other requests do not wait for this one.
    match tokio::task::spawn_blocking(move || {
      let _held_meanwhile = place;
      parse(&bytes)
    })
    .await
    {
      Ok(parsed) => parsed.map(Self),
      Err(error) => match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(ApiError::new(
          StatusCode::SERVICE_UNAVAILABLE,
          "The server is shutting down",
        )),
      },
    }
  }
}

/// The bytes of a body, and the memory that they take.
async fn read(
  parts: &mut Parts,
  body: &mut Body,
  face: &Face,
) -> Result<(Vec<u8>, Option<Place>), ApiError> {
  let limit = face.options.max_body_bytes;
  let fits = |length: usize| match length <= limit {
    true => Ok(()),
    false => Err(ApiError::new(
      StatusCode::PAYLOAD_TOO_LARGE,
      format!(
        "The request body is larger than the {limit} bytes this server takes (MAX_BODY_BYTES)"
      ),
    )),
  };
  let By(caller) = By::from_request_parts(parts, face).await?;
  let namespace = caller.namespace().map(str::to_owned);
  let memory = Extension::<BodyMemory>::from_request_parts(parts, face).await;
  let Extension(memory) =
    memory.map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.body_text()))?;
  let announced = parts
    .headers
    .get(header::CONTENT_LENGTH)
    .and_then(|length| length.to_str().ok()?.parse().ok());
  let mut bytes = Vec::new();
  let mut place = None;
  if let Some(length) = announced {
    fits(length)?;
    if length > SMALL {
      place = Some(memory.place(namespace.clone(), length).await?);
    }
    bytes.reserve_exact(length);
  }
  while let Some(frame) = body.frame().await {
    let frame = frame
      .map_err(|e| ApiError::bad_request(format!("The request body could not be read: {e}")))?;
    let Ok(data) = frame.into_data() else {
      continue;
    };
    let length = bytes.len() + data.len();
    fits(length)?;
    // How long a body becomes that does not say it, nobody knows.
    if length > SMALL && place.is_none() {
      place = Some(memory.place(namespace.clone(), limit).await?);
    }
    bytes.extend_from_slice(&data);
  }
  Ok((bytes, place))
}

/// Reads on for a while without keeping anything: a client that is still sending would otherwise see
/// its connection reset instead of the answer.
async fn drain(mut body: Body) {
  let mut left = DRAIN_BYTES;
  let reading = async {
    while let Some(Ok(frame)) = body.frame().await {
      left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
      if left == 0 {
        break;
      }
    }
  };
  let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
  if bytes.iter().all(u8::is_ascii_whitespace) {
    return Err(ApiError::bad_request(
      "The request body must be JSON, but it is empty",
    ));
  }
  // Structs could be read from arrays too; here only objects are meant.
  if !bytes.trim_ascii_start().starts_with(b"{") {
    return Err(
      match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        Ok(_) => ApiError::bad_request("The request body must be a JSON object"),
        Err(e) => ApiError::bad_request(format!("Invalid JSON: {e}")),
      },
    );
  }
  // Vectors are many numbers: where one is, is found out only when it is wrong.
  if let Ok(value) = serde_json::from_slice(bytes) {
    return Ok(value);
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
      } else if path != "." && path != "?" {
        format!("Invalid JSON at {path}: {inner}")
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
    assert!(message("[]").contains("JSON object"));
    assert!(message("[1,").contains("Invalid JSON"));
  }
}
