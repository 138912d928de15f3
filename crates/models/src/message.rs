//! Messages of a conversation, in OpenAI's wire format.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde::ser::SerializeMap;

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
  System,
  User,
  Assistant,
  Tool,
}

impl Role {
  pub fn name(self) -> &'static str {
    match self {
      Self::System => "system",
      Self::User => "user",
      Self::Assistant => "assistant",
      Self::Tool => "tool",
    }
  }
}

impl Serialize for Role {
  fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(self.name())
  }
}

impl<'de> Deserialize<'de> for Role {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    let name = String::deserialize(deserializer)?;
    let roles = [Self::System, Self::User, Self::Assistant, Self::Tool];
    roles
      .into_iter()
      .find(|role| role.name() == name)
      .ok_or_else(|| {
        de::Error::custom(format!(
          "role `{}` is unknown: use system, user, assistant or tool",
          outbound::printable(&name)
        ))
      })
  }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ChatMessage {
  pub role: Role,
  /// `None` where an assistant only calls tools.
  #[serde(default)]
  pub content: Option<Content>,
  /// Which of several speakers of that role it is.
  #[serde(default)]
  pub name: Option<String>,
  /// The calls of an assistant.
  #[serde(default, deserialize_with = "null_is_none_of_them")]
  pub tool_calls: Vec<ToolCall>,
  /// The call that a tool answers.
  #[serde(default)]
  pub tool_call_id: Option<String>,
}

fn null_is_none_of_them<'de, D: Deserializer<'de>>(
  deserializer: D,
) -> Result<Vec<ToolCall>, D::Error> {
  Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl ChatMessage {
  fn new(role: Role, content: Option<Content>) -> Self {
    Self {
      role,
      content,
      name: None,
      tool_calls: Vec::new(),
      tool_call_id: None,
    }
  }

  pub fn system(content: impl Into<Content>) -> Self {
    Self::new(Role::System, Some(content.into()))
  }

  pub fn user(content: impl Into<Content>) -> Self {
    Self::new(Role::User, Some(content.into()))
  }

  pub fn assistant(content: impl Into<Content>) -> Self {
    Self::new(Role::Assistant, Some(content.into()))
  }

  /// What an assistant says when it calls tools; `content` may be `None`.
  pub fn calling(content: Option<Content>, tool_calls: Vec<ToolCall>) -> Self {
    Self {
      tool_calls,
      ..Self::new(Role::Assistant, content)
    }
  }

  /// The result of the call with this id.
  pub fn tool(call: impl Into<String>, content: impl Into<Content>) -> Self {
    Self {
      tool_call_id: Some(call.into()),
      ..Self::new(Role::Tool, Some(content.into()))
    }
  }
}

impl Serialize for ChatMessage {
  fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("role", &self.role)?;
    match &self.content {
      Some(content) => map.serialize_entry("content", content)?,
      // Servers tell this message by its null; some refuse one without the member.
      None if self.role == Role::Assistant => map.serialize_entry("content", &())?,
      None => {}
    }
    if let Some(name) = &self.name {
      map.serialize_entry("name", name)?;
    }
    // An empty list is refused by OpenAI.
    if !self.tool_calls.is_empty() {
      map.serialize_entry("tool_calls", &self.tool_calls)?;
    }
    if let Some(id) = &self.tool_call_id {
      map.serialize_entry("tool_call_id", id)?;
    }
    map.end()
  }
}

/// What a message says: a text, or parts of several kinds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
  Text(String),
  Parts(Vec<ContentPart>),
}

impl Content {
  /// All text, without images.
  pub fn text(&self) -> String {
    match self {
      Self::Text(text) => text.clone(),
      Self::Parts(parts) => parts.iter().filter_map(ContentPart::text).collect(),
    }
  }
}

impl From<&str> for Content {
  fn from(text: &str) -> Self {
    Self::Text(text.to_owned())
  }
}

impl From<String> for Content {
  fn from(text: String) -> Self {
    Self::Text(text)
  }
}

impl From<Vec<ContentPart>> for Content {
  fn from(parts: Vec<ContentPart>) -> Self {
    Self::Parts(parts)
  }
}

/// By hand, since the errors of an untagged enum say only that nothing fits.
impl<'de> Deserialize<'de> for Content {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
      type Value = Content;

      fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of content parts")
      }

      fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(text.into())
      }

      fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
        Ok(text.into())
      }

      fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element()? {
          parts.push(part);
        }
        Ok(Content::Parts(parts))
      }
    }
    deserializer.deserialize_any(Either)
  }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
  Text { text: String },
  ImageUrl { image_url: ImageUrl },
}

impl ContentPart {
  fn text(&self) -> Option<&str> {
    match self {
      Self::Text { text } => Some(text),
      Self::ImageUrl { .. } => None,
    }
  }
}

/// An image: an address that the model's server reads, or a `data:` URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageUrl {
  pub url: String,
  /// How closely the model looks: `low`, `high` or `auto`.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub detail: Option<String>,
}

/// A call of a tool by an assistant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
  pub id: String,
  #[serde(rename = "type", default)]
  pub kind: ToolKind,
  pub function: FunctionCall,
}

/// The one kind of tools that there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
  #[default]
  Function,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
  pub name: String,
  /// JSON as the model wrote it, valid or not.
  pub arguments: String,
}

#[cfg(test)]
mod tests {
  use serde_json::Value;
  use serde_json::json;

  use super::*;

  fn read(message: Value) -> Result<ChatMessage, serde_json::Error> {
    serde_json::from_value(message)
  }

  #[test]
  fn messages_keep_their_wire_format_there_and_back() {
    for message in [
      json!({"role": "system", "content": "Be brief."}),
      json!({"role": "user", "content": "Hallo", "name": "ada"}),
      json!({"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
      ]}),
      json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "run", "arguments": "{\"a\": 1}"}},
      ]}),
      json!({"role": "assistant", "content": ""}),
      json!({"role": "tool", "content": "2", "tool_call_id": "call_1"}),
    ] {
      let back = read(message.clone()).expect("a message");
      assert_eq!(serde_json::to_value(back).expect("writes"), message);
    }
  }

  #[test]
  fn an_unknown_role_is_named() {
    let error = read(json!({"role": "wizard", "content": "a"})).expect_err("no role");
    assert!(
      error
        .to_string()
        .starts_with("role `wizard` is unknown: use system, user, assistant or tool"),
      "{error}"
    );
    let error = read(json!({"content": "a"})).expect_err("no role");
    assert!(error.to_string().contains("role"), "{error}");
  }

  #[test]
  fn content_of_another_kind_is_named() {
    let refused = |content: Value| {
      let error = read(json!({"role": "user", "content": content})).expect_err("no content");
      error.to_string()
    };
    assert!(refused(json!(7)).contains("expected a text or a list of content parts"));
    let video = refused(json!([{"type": "video", "video": "a"}]));
    assert!(
      video.contains("`video`") && video.contains("`image_url`"),
      "{video}"
    );
    assert!(refused(json!([{"type": "text"}])).contains("missing field `text`"));
  }

  #[test]
  fn members_that_are_null_are_left_out() {
    let message = json!({"role": "assistant", "content": "a", "tool_calls": null, "name": null, "tool_call_id": null});
    let written = serde_json::to_value(read(message).expect("a message")).expect("writes");
    assert_eq!(written, json!({"role": "assistant", "content": "a"}));
  }

  #[test]
  fn the_text_of_parts_leaves_out_images() {
    let part = |text: &str| ContentPart::Text {
      text: text.to_owned(),
    };
    let image = ContentPart::ImageUrl {
      image_url: ImageUrl {
        url: "data:,".to_owned(),
        detail: None,
      },
    };
    assert_eq!(
      Content::from(vec![part("a"), image, part("b")]).text(),
      "ab"
    );
  }
}
