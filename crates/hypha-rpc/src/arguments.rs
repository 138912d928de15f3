//! Arguments of calls.

use crate::value::Map;
use crate::value::Value;

/// The arguments of a call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arguments {
  pub positional: Vec<Value>,
  pub keywords: Map,
}

impl Arguments {
  pub fn none() -> Self {
    Self::default()
  }

  /// Adds a positional argument.
  #[must_use]
  pub fn with(mut self, value: impl Into<Value>) -> Self {
    self.positional.push(value.into());
    self
  }

  /// Adds a keyword argument.
  #[must_use]
  pub fn with_keyword(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
    self.keywords.insert(name, value);
    self
  }

  /// What came over the wire: `with_kwargs` says that the last is the map of keywords.
  pub(crate) fn received(mut positional: Vec<Value>, with_kwargs: bool) -> Self {
    let last_is_keywords = match positional.last() {
      Some(Value::Map(map)) => {
        with_kwargs || map.get("_rkwargs").and_then(Value::as_bool) == Some(true)
      }
      _ => false,
    };
    let mut keywords = Map::new();
    if last_is_keywords && let Some(Value::Map(map)) = positional.pop() {
      keywords = map;
      keywords.remove("_rkwargs");
    }
    // How the server's HTTP face forwards a JSON array.
    if positional.is_empty() && is_numbered(&keywords) {
      let numbered = std::mem::take(&mut keywords).into_iter();
      let mut numbered: Vec<(usize, Value)> = numbered
        .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
        .collect();
      numbered.sort_by_key(|(index, _)| *index);
      positional = numbered.into_iter().map(|(_, value)| value).collect();
    }
    Self {
      positional,
      keywords,
    }
  }

  pub fn is_empty(&self) -> bool {
    self.positional.is_empty() && self.keywords.is_empty()
  }

  /// An argument that may be given by its place or by its name.
  pub fn get(&self, index: usize, name: &str) -> Option<&Value> {
    let argument = self.positional.get(index);
    argument.or_else(|| self.keywords.get(name))
  }

  /// The arguments as one object of options, which is what clients before 0.21.36 made of keywords.
  ///
  /// The object is the first positional argument if that is a map, with the keywords laid over it. One
  /// whose only member is `params` or `options`, and is a map, stands for that map.
  pub fn options(&self) -> Map {
    let mut options = match self.positional.first() {
      Some(Value::Map(map)) => map.clone(),
      _ => Map::new(),
    };
    for (name, value) in self.keywords.iter() {
      options.insert(name, value.clone());
    }
    let wrapped = ["params", "options"].into_iter().find_map(|name| {
      let inner = options.get(name)?.as_map()?;
      (options.len() == 1).then(|| inner.clone())
    });
    wrapped.unwrap_or(options)
  }
}

/// Whether the members are named `0`, `1` and so on.
fn is_numbered(map: &Map) -> bool {
  !map.is_empty() && (0..map.len()).all(|index| map.contains(&index.to_string()))
}

impl From<Vec<Value>> for Arguments {
  fn from(positional: Vec<Value>) -> Self {
    Self {
      positional,
      keywords: Map::new(),
    }
  }
}

impl From<Map> for Arguments {
  /// Keyword arguments.
  fn from(keywords: Map) -> Self {
    Self {
      positional: Vec::new(),
      keywords,
    }
  }
}

impl From<()> for Arguments {
  fn from((): ()) -> Self {
    Self::none()
  }
}

impl<V: Into<Value>, const SIZE: usize> From<[V; SIZE]> for Arguments {
  fn from(positional: [V; SIZE]) -> Self {
    let positional: Vec<Value> = positional.into_iter().map(Into::into).collect();
    positional.into()
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn map(json: serde_json::Value) -> Map {
    match Value::from(json) {
      Value::Map(map) => map,
      other => panic!("{other:?} is no map"),
    }
  }

  fn received(json: serde_json::Value, with_kwargs: bool) -> Arguments {
    match Value::from(json) {
      Value::List(positional) => Arguments::received(positional, with_kwargs),
      other => panic!("{other:?} is no list"),
    }
  }

  #[test]
  fn keywords_are_the_last_argument() {
    let arguments = received(serde_json::json!([1, {"a": 2}]), true);
    assert_eq!(arguments.positional, [Value::Int(1)]);
    assert_eq!(arguments.get(1, "a"), Some(&Value::Int(2)));
    let same = received(serde_json::json!([1, {"a": 2, "_rkwargs": true}]), false);
    assert_eq!(same, arguments);
    let plain = received(serde_json::json!([1, {"a": 2}]), false);
    assert_eq!(plain.positional.len(), 2);
  }

  #[test]
  fn a_forwarded_array_is_positional_again() {
    let numbered: serde_json::Map<_, _> = (0..12)
      .map(|number| (number.to_string(), number.into()))
      .collect();
    let arguments = received(serde_json::json!([numbered]), true);
    let expected: Vec<Value> = (0..12).map(Value::Int).collect();
    assert_eq!(arguments.positional, expected);
    let other = received(serde_json::json!([{"0": 1, "2": 2}]), true);
    assert!(other.positional.is_empty());
  }

  #[test]
  fn all_ways_of_giving_options_are_one() {
    let wanted = map(serde_json::json!({"id": "k"}));
    for (given, with_kwargs) in [
      (serde_json::json!([{"id": "k"}]), true),
      (serde_json::json!([{"id": "k"}]), false),
      (serde_json::json!([{"params": {"id": "k"}}]), true),
      (serde_json::json!([{"options": {"id": "k"}}]), false),
      (serde_json::json!([{"0": {"id": "k"}}]), true),
      (serde_json::json!([{"id": "k", "_rkwargs": true}]), false),
      (serde_json::json!([{"id": "other"}, {"id": "k"}]), true),
    ] {
      assert_eq!(
        received(given.clone(), with_kwargs).options(),
        wanted,
        "{given}"
      );
    }
    assert!(Arguments::none().options().is_empty());
  }
}
