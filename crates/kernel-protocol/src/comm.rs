//! Comm messages: what widgets on a page and the code behind them say to each other. They are Jupyter's
//! of the same names: <https://jupyter-client.readthedocs.io/en/stable/messaging.html#custom-messages>.

use serde::Deserialize;
use serde::Serialize;
use serde::de::Error;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use crate::json::JsonText;

/// What a comm message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommKind {
  /// Opens a comm to a target that the other side has registered.
  #[serde(rename = "comm_open")]
  Open,
  #[serde(rename = "comm_msg")]
  Message,
  #[serde(rename = "comm_close")]
  Close,
}

impl CommKind {
  pub fn as_str(self) -> &'static str {
    match self {
      Self::Open => "comm_open",
      Self::Message => "comm_msg",
      Self::Close => "comm_close",
    }
  }
}

/// A comm message to a kernel. Those of a kernel are events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommMessage {
  pub kind: CommKind,
  /// See [`CommBody`].
  pub body: JsonText,
}

impl CommMessage {
  /// # Errors
  /// A sentence about what `content` lacks.
  pub fn new(
    kind: CommKind,
    content: &Map<String, Value>,
    metadata: &Map<String, Value>,
    buffers: &[String],
  ) -> Result<Self, String> {
    let given = |name: &str| matches!(content.get(name), Some(Value::String(it)) if !it.is_empty());
    if !given("comm_id") {
      return Err("content.comm_id: must be the id of a comm, a string".into());
    }
    if kind == CommKind::Open && !given("target_name") {
      return Err("content.target_name: must be the name of a target, a string".into());
    }
    let body = json!({ "content": content, "metadata": metadata, "buffers": buffers });
    let body = JsonText::of(&body).map_err(|e| e.to_string())?;
    Ok(Self { kind, body })
  }
}

/// The three members of every comm message.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommBody<'a> {
  /// `{"comm_id", "data"}`, and `target_name` of a comm that opens.
  #[serde(borrow)]
  pub content: &'a RawValue,
  #[serde(borrow, default)]
  pub metadata: Option<&'a RawValue>,
  /// A list of strings: bytes in base64.
  #[serde(borrow, default)]
  pub buffers: Option<&'a RawValue>,
}

impl CommBody<'_> {
  /// Checks the shape of a body; members that are missing become empty.
  ///
  /// # Errors
  /// When it is not JSON of this shape.
  pub fn check(text: &str) -> Result<JsonText, serde_json::Error> {
    let (empty, none) = (serde_json::from_str("{}")?, serde_json::from_str("[]")?);
    let body: CommBody<'_> = serde_json::from_str(text)?;
    if !body.content.get().starts_with('{') {
      return Err(serde_json::Error::custom("`content` must be an object"));
    }
    JsonText::of(&CommBody {
      content: body.content,
      metadata: body
        .metadata
        .filter(|it| it.get().starts_with('{'))
        .or(Some(empty)),
      buffers: body
        .buffers
        .filter(|it| it.get().starts_with('['))
        .or(Some(none)),
    })
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn what_a_body_lacks_is_empty() {
    let checked = |text| CommBody::check(text).map(|body| body.as_str().to_owned());
    assert_eq!(
      checked(r#"{"content":{"comm_id":"a"},"metadata":null}"#).expect("a body"),
      r#"{"content":{"comm_id":"a"},"metadata":{},"buffers":[]}"#
    );
    for wrong in ["{}", r#"{"content":1}"#, "[]", ""] {
      assert!(checked(wrong).is_err(), "{wrong}");
    }
  }
}
