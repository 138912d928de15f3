//! Values from and to JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value as Json;

use super::Map;
use super::Timestamp;
use super::Value;

impl Value {
  /// The value as JSON.
  ///
  /// What JSON has no form for becomes an object with `_rtype`, as on the wire, in which bytes are
  /// `{"_rtype": "bytes", "_rvalue": "<base64>"}` and dates
  /// `{"_rtype": "date", "_rvalue": {"seconds": 0, "nanoseconds": 0}}`. `Value::from` turns both back.
  /// Floats that are no numbers, or infinite, become `null`, and so do callbacks.
  pub fn to_json(&self) -> Json {
    match self {
      Self::Nil | Self::Callback(_) => Json::Null,
      Self::Bool(value) => Json::Bool(*value),
      Self::Int(value) => Json::from(*value),
      Self::UInt(value) => Json::from(*value),
      Self::Float(value) => Json::from(*value),
      Self::Text(value) => Json::String(value.clone()),
      Self::Bytes(value) => bytes(value),
      Self::List(items) => items.iter().map(Self::to_json).collect(),
      Self::Map(map) => object(map),
      Self::Date(date) => serde_json::json!({
        "_rtype": "date",
        "_rvalue": {"seconds": date.seconds, "nanoseconds": date.nanoseconds},
      }),
      Self::Extension(number, value) => serde_json::json!({
        "_rtype": "extension",
        "_rnumber": number,
        "_rvalue": bytes(value),
      }),
      encoded => encoded.encoded().map_or(Json::Null, |map| object(&map)),
    }
  }
}

fn object(map: &Map) -> Json {
  let members = map.iter().map(|(n, v)| (n.to_owned(), v.to_json()));
  Json::Object(members.collect())
}

fn bytes(value: &[u8]) -> Json {
  serde_json::json!({"_rtype": "bytes", "_rvalue": BASE64_STANDARD.encode(value)})
}

impl From<Json> for Value {
  /// The value of a JSON text. Objects with `_rtype` become what they stand for: see [`Value::to_json`].
  fn from(json: Json) -> Self {
    match json {
      Json::Null => Self::Nil,
      Json::Bool(value) => Self::Bool(value),
      Json::Number(number) => match (number.as_i64(), number.as_u64()) {
        (Some(value), _) => Self::Int(value),
        (None, Some(value)) => Self::UInt(value),
        (None, None) => number.as_f64().map_or(Self::Nil, Self::Float),
      },
      Json::String(text) => Self::Text(text),
      Json::Array(items) => items.into_iter().map(Self::from).collect::<Vec<_>>().into(),
      Json::Object(members) => {
        let map: Map = members.into_iter().collect();
        only_in_json(&map).unwrap_or_else(|| Self::decoded(map))
      }
    }
  }
}

/// The value of an object that stands for what is binary on the wire.
fn only_in_json(map: &Map) -> Option<Value> {
  let value = map.get("_rvalue")?;
  match map.text("_rtype")? {
    "bytes" => Some(BASE64_STANDARD.decode(value.as_str()?).ok()?.into()),
    "date" => Some(Value::Date(Timestamp {
      seconds: value.get("seconds")?.as_i64()?,
      nanoseconds: u32::try_from(value.get("nanoseconds")?.as_i64()?).ok()?,
    })),
    "extension" => {
      let number = i8::try_from(map.get("_rnumber")?.as_i64()?).ok()?;
      Some(Value::Extension(number, value.as_bytes()?.clone()))
    }
    _ => None,
  }
}
