//! Members of JSON that come in more kinds than they should. None of these types fails on another
//! kind, and none keeps more than what it is for: a long answer cannot be blown up by being read.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;

/// Text: a string, null, a list of parts, or a part with `text` or `content` in it. What parts mark as
/// the thoughts of a model is kept apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Words {
  pub(crate) text: String,
  pub(crate) thoughts: String,
}

impl Words {
  pub(crate) fn is_empty(&self) -> bool {
    self.text.is_empty() && self.thoughts.is_empty()
  }

  /// Everything, whatever it is marked as.
  pub(crate) fn joined(self) -> String {
    match self.thoughts.is_empty() {
      true => self.text,
      false => self.thoughts + &self.text,
    }
  }

  fn add(&mut self, other: &Self) {
    self.text.push_str(&other.text);
    self.thoughts.push_str(&other.thoughts);
  }
}

impl From<&str> for Words {
  fn from(text: &str) -> Self {
    Self {
      text: text.to_owned(),
      thoughts: String::new(),
    }
  }
}

impl<'de> Deserialize<'de> for Words {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    struct Any;
    impl<'de> Visitor<'de> for Any {
      type Value = Words;

      fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
      }

      fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
        Ok(text.into())
      }

      fn visit_string<E: de::Error>(self, text: String) -> Result<Words, E> {
        Ok(Words {
          text,
          thoughts: String::new(),
        })
      }

      fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
        let mut all = Words::default();
        while let Some(part) = seq.next_element()? {
          all.add(&part);
        }
        Ok(all)
      }

      fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut all = Words::default();
        while let Some(key) = map.next_key::<String>()? {
          match key.as_str() {
            "text" | "content" | "message" | "msg" => all.add(&map.next_value()?),
            "thinking" | "reasoning" => {
              all.thoughts += &map.next_value::<Words>()?.joined();
            }
            _ => {
              map.next_value::<IgnoredAny>()?;
            }
          }
        }
        Ok(all)
      }

      fn visit_unit<E: de::Error>(self) -> Result<Words, E> {
        Ok(Words::default())
      }

      fn visit_bool<E: de::Error>(self, _: bool) -> Result<Words, E> {
        Ok(Words::default())
      }

      fn visit_i64<E: de::Error>(self, _: i64) -> Result<Words, E> {
        Ok(Words::default())
      }

      fn visit_u64<E: de::Error>(self, _: u64) -> Result<Words, E> {
        Ok(Words::default())
      }

      fn visit_f64<E: de::Error>(self, _: f64) -> Result<Words, E> {
        Ok(Words::default())
      }
    }
    deserializer.deserialize_any(Any)
  }
}

/// A number that counts something, `None` if it is none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) Option<u64>);

impl<'de> Deserialize<'de> for Number {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    struct Any;
    impl<'de> Visitor<'de> for Any {
      type Value = Number;

      fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
      }

      fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
        Ok(Number(Some(number)))
      }

      fn visit_i64<E: de::Error>(self, number: i64) -> Result<Number, E> {
        Ok(Number(u64::try_from(number).ok()))
      }

      #[expect(
        clippy::cast_sign_loss,
        reason = "a negative one becomes zero, which is as good as any"
      )]
      fn visit_f64<E: de::Error>(self, number: f64) -> Result<Number, E> {
        Ok(Number(Some(number as u64)))
      }

      fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
        Ok(Number(text.parse().ok()))
      }

      fn visit_unit<E: de::Error>(self) -> Result<Number, E> {
        Ok(Number(None))
      }

      fn visit_bool<E: de::Error>(self, _: bool) -> Result<Number, E> {
        Ok(Number(None))
      }

      fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Number, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| Number(None))
      }

      fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Number, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Number(None))
      }
    }
    deserializer.deserialize_any(Any)
  }
}

/// A list of at most `MOST`: null is none of them, and one without a list is a list of one.
#[derive(Debug)]
pub(crate) struct Several<T, const MOST: usize>(pub(crate) Vec<T>);

impl<T, const MOST: usize> Default for Several<T, MOST> {
  fn default() -> Self {
    Self(Vec::new())
  }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Several<T, MOST> {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    struct Any<T, const MOST: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Any<T, MOST> {
      type Value = Several<T, MOST>;

      fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
      }

      fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
          if all.len() == MOST {
            return Err(de::Error::custom(format!(
              "a list has more than {MOST} entries"
            )));
          }
          all.push(one);
        }
        Ok(Several(all))
      }

      fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let one = T::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Several(vec![one]))
      }

      fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Several::default())
      }
    }
    deserializer.deserialize_any(Any(PhantomData))
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn words(json: &str) -> (String, String) {
    let words: Words = serde_json::from_str(json).expect(json);
    (words.text, words.thoughts)
  }

  #[test]
  fn text_comes_in_many_forms() {
    for (json, text, thoughts) in [
      (r#""a""#, "a", ""),
      ("null", "", ""),
      ("7", "", ""),
      ("-7.5", "", ""),
      ("false", "", ""),
      (r#"["a", "b"]"#, "ab", ""),
      (
        r#"[{"type": "text", "text": "a"}, {"type": "image", "data": [1, {}]}]"#,
        "a",
        "",
      ),
      (
        r#"[{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}, {"type": "text", "text": "a"}]"#,
        "a",
        "h",
      ),
      (r#"{"content": {"text": "a"}}"#, "a", ""),
    ] {
      assert_eq!(
        words(json),
        (text.to_owned(), thoughts.to_owned()),
        "{json}"
      );
    }
  }

  #[test]
  fn numbers_come_in_many_forms() {
    for (json, number) in [
      ("7", Some(7)),
      ("7.0", Some(7)),
      (r#""7""#, Some(7)),
      ("-7", None),
      ("null", None),
      ("true", None),
      (r#""seven""#, None),
      ("[7]", None),
      (r#"{"a": 7}"#, None),
    ] {
      let read: Number = serde_json::from_str(json).expect(json);
      assert_eq!(read.0, number, "{json}");
    }
  }

  #[test]
  fn a_list_may_be_missing_or_one_entry_but_not_too_long() {
    #[derive(Deserialize)]
    struct One {
      a: u8,
    }
    let read = |json: &str| {
      let read = serde_json::from_str::<Several<One, 2>>(json)?;
      Ok::<_, serde_json::Error>(read.0.iter().map(|one| one.a).collect::<Vec<_>>())
    };
    assert_eq!(read("null").expect("none"), Vec::<u8>::new());
    assert_eq!(read(r#"{"a": 1}"#).expect("one"), [1]);
    assert_eq!(read(r#"[{"a": 1}, {"a": 2}]"#).expect("two"), [1, 2]);
    let error = read(r#"[{"a": 1}, {"a": 2}, {"a": 3}]"#).expect_err("three");
    assert!(error.to_string().contains("more than 2"), "{error}");
  }
}
