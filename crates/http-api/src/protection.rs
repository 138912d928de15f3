//! Headers that keep browsers from showing the engine's answers among the pages of others.

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;

/// Has browsers show an answer to nobody but the engine's own pages.
pub(crate) fn protect(headers: &mut HeaderMap) {
  let own = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
      HeaderName::from_static("cross-origin-resource-policy"),
      "same-origin",
    ),
  ];
  for (name, value) in own {
    headers.insert(name, HeaderValue::from_static(value));
  }
}
