//! What a model is asked.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Value;
use serde_json::json;

use crate::message::ChatMessage;
use crate::message::ToolKind;

/// A request for the next message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
  pub model: String,
  pub messages: Vec<ChatMessage>,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub temperature: Option<f64>,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub max_tokens: Option<u32>,
  #[serde(default, skip_serializing_if = "Vec::is_empty")]
  pub tools: Vec<Tool>,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub tool_choice: Option<ToolChoice>,
  /// Which form the answer has, for instance a JSON schema.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub response_format: Option<Value>,
  /// Asks for the usage at the end of the stream. Off, since some servers refuse what they do not know.
  #[serde(skip)]
  pub include_usage: bool,
}

impl ChatRequest {
  pub fn new(model: impl Into<String>, messages: Vec<ChatMessage>) -> Self {
    Self {
      model: model.into(),
      messages,
      ..Self::default()
    }
  }

  /// The body that is sent.
  pub(crate) fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Streamed<'a> {
      #[serde(flatten)]
      request: &'a ChatRequest,
      stream: bool,
      #[serde(skip_serializing_if = "Option::is_none")]
      stream_options: Option<Value>,
    }
    serde_json::to_vec(&Streamed {
      request: self,
      stream: true,
      stream_options: self.include_usage.then(|| json!({"include_usage": true})),
    })
  }
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
  #[serde(rename = "type", default)]
  pub kind: ToolKind,
  pub function: Function,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Function {
  pub name: String,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub description: Option<String>,
  /// A JSON schema.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub parameters: Option<Value>,
  /// Whether the arguments must follow the schema to the letter.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub strict: Option<bool>,
}

impl Tool {
  pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Self {
    Self {
      kind: ToolKind::Function,
      function: Function {
        name: name.into(),
        description: Some(description.into()),
        parameters: Some(parameters),
        strict: None,
      },
    }
  }
}

/// Whether the model calls tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
  Auto,
  None,
  /// It must call one.
  Required,
  /// It must call this one.
  Function(String),
}

impl Serialize for ToolChoice {
  fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
    match self {
      Self::Auto => serializer.serialize_str("auto"),
      Self::None => serializer.serialize_str("none"),
      Self::Required => serializer.serialize_str("required"),
      Self::Function(name) => {
        json!({"type": "function", "function": {"name": name}}).serialize(serializer)
      }
    }
  }
}

impl<'de> Deserialize<'de> for ToolChoice {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    #[derive(Deserialize)]
    struct Chosen {
      function: Named,
    }
    #[derive(Deserialize)]
    struct Named {
      name: String,
    }
    struct Either;
    impl<'de> Visitor<'de> for Either {
      type Value = ToolChoice;

      fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auto, none, required or a function")
      }

      fn visit_str<E: de::Error>(self, text: &str) -> Result<ToolChoice, E> {
        match text {
          "auto" => Ok(ToolChoice::Auto),
          "none" => Ok(ToolChoice::None),
          "required" => Ok(ToolChoice::Required),
          other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
      }

      fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
        let chosen = Chosen::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(ToolChoice::Function(chosen.function.name))
      }
    }
    deserializer.deserialize_any(Either)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn a_plain_request_has_nothing_that_was_not_asked_for() {
    let mut request = ChatRequest::new("m", vec![ChatMessage::user("Hallo")]);
    request.temperature = Some(0.7);
    let body: Value = serde_json::from_slice(&request.body().expect("a body")).expect("JSON");
    assert_eq!(
      body,
      json!({"model": "m", "messages": [{"role": "user", "content": "Hallo"}], "temperature": 0.7, "stream": true})
    );
  }

  #[test]
  fn requests_keep_their_wire_format_there_and_back() {
    for choice in [
      json!("auto"),
      json!("none"),
      json!("required"),
      json!({"type": "function", "function": {"name": "run"}}),
    ] {
      let request = json!({
        "model": "m",
        "messages": [],
        "temperature": 0.2,
        "max_tokens": 100,
        "tools": [{"type": "function", "function": {
          "name": "run", "description": "Runs code", "parameters": {"type": "object"}, "strict": true,
        }}],
        "tool_choice": choice,
        "response_format": {"type": "json_object"},
      });
      let read: ChatRequest = serde_json::from_value(request.clone()).expect("a request");
      assert_eq!(serde_json::to_value(read).expect("writes"), request);
    }
    let wrong = serde_json::from_value::<ToolChoice>(json!("perhaps")).expect_err("no choice");
    assert!(wrong.to_string().contains("perhaps"), "{wrong}");
  }

  #[test]
  fn usage_is_asked_for_where_it_is_wanted() {
    let request = ChatRequest {
      include_usage: true,
      ..ChatRequest::new("m", Vec::new())
    };
    let body: Value = serde_json::from_slice(&request.body().expect("a body")).expect("JSON");
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
  }
}
