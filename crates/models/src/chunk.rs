//! One event of an answer, or a whole answer, as JSON: the members that matter, in all the forms that
//! servers give them.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;

use crate::lenient::Number;
use crate::lenient::Several;
use crate::lenient::Words;

/// Most choices, and most pieces of tool calls, in one event.
const MOST_CHOICES: usize = 128;
const MOST_FRAGMENTS: usize = 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Chunk<'a> {
  #[serde(borrow)]
  pub(crate) choices: Several<Choice<'a>, MOST_CHOICES>,
  pub(crate) usage: Option<Counted>,
  pub(crate) error: Trouble,
  /// `error` where the whole of it is one, as vLLM has it; the reason is `message`.
  pub(crate) object: Words,
  pub(crate) message: Words,
  /// Why not, as FastAPI has it.
  pub(crate) detail: Words,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice<'a> {
  pub(crate) index: Number,
  #[serde(borrow)]
  pub(crate) delta: Option<Delta<'a>>,
  /// The whole message, of a server that does not stream.
  #[serde(borrow)]
  pub(crate) message: Option<Delta<'a>>,
  /// The text of older completions.
  pub(crate) text: Words,
  pub(crate) finish_reason: Words,
  pub(crate) error: Trouble,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Delta<'a> {
  pub(crate) content: Words,
  /// Why the model does not answer; it is text to whoever asked.
  pub(crate) refusal: Words,
  reasoning: Words,
  reasoning_content: Words,
  thinking: Words,
  #[serde(borrow)]
  pub(crate) tool_calls: Several<Fragment<'a>, MOST_FRAGMENTS>,
  /// A tool call, before there could be several.
  #[serde(borrow)]
  pub(crate) function_call: Option<Called<'a>>,
}

impl Delta<'_> {
  pub(crate) fn is_empty(&self) -> bool {
    let words = [
      &self.content,
      &self.refusal,
      &self.reasoning,
      &self.reasoning_content,
      &self.thinking,
    ];
    words.into_iter().all(Words::is_empty)
      && self.tool_calls.0.is_empty()
      && self.function_call.is_none()
  }

  /// Takes the reasoning; some servers send it twice, under two names.
  pub(crate) fn take_reasoning(&mut self) -> String {
    let named = [
      &mut self.reasoning,
      &mut self.reasoning_content,
      &mut self.thinking,
    ];
    let found = named.into_iter().find(|words| !words.is_empty());
    found.map(std::mem::take).unwrap_or_default().joined()
  }
}

/// A piece of a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fragment<'a> {
  pub(crate) index: Number,
  pub(crate) id: Words,
  #[serde(borrow)]
  pub(crate) function: Option<Called<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Called<'a> {
  pub(crate) name: Words,
  #[serde(borrow)]
  arguments: Option<&'a RawValue>,
}

impl Called<'_> {
  /// The arguments: a string with JSON in it, or, from some servers, the JSON itself.
  pub(crate) fn arguments(&self) -> String {
    let Some(raw) = self.arguments else {
      return String::new();
    };
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
  }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Counted {
  pub(crate) prompt_tokens: Number,
  pub(crate) completion_tokens: Number,
}

/// An error that an answer reports: a text, or an object with a `message`.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
  is_there: bool,
  pub(crate) status: Option<u16>,
  pub(crate) detail: String,
}

impl Trouble {
  /// One without a status.
  pub(crate) fn saying(detail: String) -> Self {
    Self {
      is_there: true,
      status: None,
      detail,
    }
  }

  pub(crate) fn reported(self) -> Option<Self> {
    self.is_there.then_some(self)
  }
}

impl<'de> Deserialize<'de> for Trouble {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    struct Any;
    impl<'de> Visitor<'de> for Any {
      type Value = Trouble;

      fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error")
      }

      fn visit_str<E: de::Error>(self, text: &str) -> Result<Trouble, E> {
        Ok(Trouble {
          is_there: !text.is_empty(),
          status: None,
          detail: text.to_owned(),
        })
      }

      fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Trouble, A::Error> {
        let mut found = Trouble {
          is_there: true,
          ..Trouble::default()
        };
        let mut kind = Words::default();
        while let Some(key) = map.next_key::<String>()? {
          match key.as_str() {
            "message" | "detail" | "error" => {
              let text = map.next_value::<Words>()?.joined();
              if found.detail.is_empty() {
                found.detail = text;
              }
            }
            // A number or a word, depending on the server.
            "code" | "status" | "status_code" => {
              let Number(number) = map.next_value()?;
              let status = number.and_then(|number| u16::try_from(number).ok());
              found.status = found
                .status
                .or(status.filter(|status| (400..600).contains(status)));
            }
            "type" => kind = map.next_value()?,
            _ => {
              map.next_value::<IgnoredAny>()?;
            }
          }
        }
        if found.detail.is_empty() {
          found.detail = kind.joined();
        }
        Ok(found)
      }

      fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Trouble, A::Error> {
        let first = seq.next_element()?.unwrap_or_default();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
      }

      fn visit_unit<E: de::Error>(self) -> Result<Trouble, E> {
        Ok(Trouble::default())
      }

      fn visit_bool<E: de::Error>(self, there: bool) -> Result<Trouble, E> {
        Ok(Trouble {
          is_there: there,
          ..Trouble::default()
        })
      }

      fn visit_i64<E: de::Error>(self, number: i64) -> Result<Trouble, E> {
        self.visit_bool(number != 0)
      }

      fn visit_u64<E: de::Error>(self, number: u64) -> Result<Trouble, E> {
        self.visit_bool(number != 0)
      }

      fn visit_f64<E: de::Error>(self, number: f64) -> Result<Trouble, E> {
        self.visit_bool(number != 0.0)
      }
    }
    deserializer.deserialize_any(Any)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn errors_come_in_many_forms() {
    for (json, status, detail) in [
      (r#""busy""#, None, "busy"),
      (
        r#"{"message": "busy", "code": 429, "type": "limit"}"#,
        Some(429),
        "busy",
      ),
      (r#"{"message": "busy", "code": "503"}"#, Some(503), "busy"),
      (
        r#"{"message": "busy", "code": "rate_limit", "param": [1]}"#,
        None,
        "busy",
      ),
      (r#"{"type": "overloaded_error"}"#, None, "overloaded_error"),
      (r#"[{"message": "busy"}, 2]"#, None, "busy"),
      ("{}", None, ""),
      ("true", None, ""),
    ] {
      let trouble: Trouble = serde_json::from_str(json).expect(json);
      let trouble = trouble.reported().expect(json);
      assert_eq!((trouble.status, trouble.detail.as_str()), (status, detail));
    }
    for json in ["null", "false", "\"\"", "0", "[]"] {
      let trouble: Trouble = serde_json::from_str(json).expect(json);
      assert!(trouble.reported().is_none(), "{json}");
    }
  }

  #[test]
  fn arguments_are_text_or_json_itself() {
    for (json, arguments) in [
      (r#"{"arguments": "{\"a\":1}"}"#, "{\"a\":1}"),
      (r#"{"arguments": {"a": 1}}"#, "{\"a\": 1}"),
      (r#"{"arguments": null}"#, ""),
      ("{}", ""),
      (r#"{"arguments": "not JSON"}"#, "not JSON"),
    ] {
      let called: Called<'_> = serde_json::from_str(json).expect(json);
      assert_eq!(called.arguments(), arguments, "{json}");
    }
  }

  #[test]
  fn nothing_is_needed_and_null_is_nothing() {
    for json in [
      "{}",
      r#"{"choices": null, "usage": null, "error": null, "object": null}"#,
      r#"{"choices": [{"index": null, "delta": null, "message": null, "finish_reason": null}]}"#,
      r#"{"choices": [{"delta": {"content": null, "tool_calls": null, "function_call": null, "role": null}}]}"#,
      r#"{"choices": [{"delta": {"tool_calls": [{"function": null, "id": null}]}}]}"#,
    ] {
      let _: Chunk<'_> = serde_json::from_str(json).expect(json);
    }
  }
}
