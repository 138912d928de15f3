//! JSON that is passed on as it is.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use serde_json::value::RawValue;

/// One JSON value as text on a single line: checked, but never taken apart, so that it costs no more
/// than its bytes. In JSON it is the value itself, in other formats a string.
#[derive(Clone)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
  /// # Errors
  /// When it is not one JSON value.
  pub fn new(text: String) -> Result<Self, serde_json::Error> {
    // Between tokens a line break means nothing to JSON, but ends a message for readers of lines.
    let text = if text.contains(['\n', '\r']) {
      // Inside of strings JSON has none.
      text.replace(['\n', '\r'], " ")
    } else {
      text
    };
    RawValue::from_string(text).map(Self)
  }

  /// The JSON of a value.
  ///
  /// # Errors
  /// When it has none.
  pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
    Self::new(serde_json::to_string(value)?)
  }

  pub fn as_str(&self) -> &str {
    self.0.get()
  }
}

impl PartialEq for JsonText {
  fn eq(&self, other: &Self) -> bool {
    self.as_str() == other.as_str()
  }
}

impl Eq for JsonText {}

impl fmt::Debug for JsonText {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(self.as_str())
  }
}

impl Serialize for JsonText {
  fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
      self.0.serialize(serializer)
    } else {
      serializer.serialize_str(self.as_str())
    }
  }
}

impl<'de> Deserialize<'de> for JsonText {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    let text = if deserializer.is_human_readable() {
      Box::<RawValue>::deserialize(deserializer)?.get().to_owned()
    } else {
      String::deserialize(deserializer)?
    };
    Self::new(text).map_err(D::Error::custom)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn it_is_one_value_on_one_line() {
    let json = JsonText::new("{\n  \"a\": [1,\r\n2] }".into()).expect("is JSON");
    assert_eq!(json.as_str(), "{   \"a\": [1,  2] }");
    for text in [
      "",
      "{",
      "{} {}",
      "nonsense",
      "\"a\u{1}\"",
      "{\"a\":1}\n{\"a\":2}",
    ] {
      assert!(JsonText::new(text.into()).is_err(), "{text}");
    }
  }

  #[test]
  fn depth_costs_nothing() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(JsonText::new(deep).is_ok());
  }
}
