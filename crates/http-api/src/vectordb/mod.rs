//! `/api/vectordb`: indices of documents, and the providers that embed their texts.

pub(crate) mod documents;
pub(crate) mod indices;
pub(crate) mod providers;

use axum::Json;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

/// Confirms a change.
#[derive(Serialize, ToSchema)]
pub(crate) struct VectorDone {
  success: bool,
  message: String,
}

/// Confirms a change, with its time.
#[derive(Serialize, ToSchema)]
pub(crate) struct VectorDoneAt {
  success: bool,
  message: String,
  timestamp: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct IndicesQuery {
  /// Lists the indices of this namespace only.
  namespace: Option<String>,
}

fn done(message: impl Into<String>) -> Json<VectorDone> {
  Json(VectorDone {
    success: true,
    message: message.into(),
  })
}

fn done_now(message: impl Into<String>) -> Json<VectorDoneAt> {
  Json(VectorDoneAt {
    success: true,
    message: message.into(),
    timestamp: ::access::timestamp(chrono::Utc::now()),
  })
}
