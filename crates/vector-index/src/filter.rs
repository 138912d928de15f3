//! Filters on metadata, as users of vector stores know them from MongoDB.

use serde_json::Map;
use serde_json::Value;

use crate::error::IndexError;

/// Most comparisons of one filter, and most filters inside one another.
const MAX_CONDITIONS: usize = 256;
const MAX_DEPTH: usize = 32;

const OPERATORS: &str = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists or $not";
const CONNECTIVES: &str = "$and, $or, $nor or $not";

/// A condition on the metadata of documents.
///
/// `{"a": 1, "b.c": {"$gte": 2}}` takes documents whose `a` is 1 and whose `c` inside `b` is at least
/// 2. Values of different types are never equal, and an array has every value that one of its
/// elements has. `null` is also what is missing. Keys are compared up to a
/// NUL character, as SQLite does.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(pub(crate) Condition);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
  All(Vec<Condition>),
  Any(Vec<Condition>),
  Not(Box<Condition>),
  Compare {
    path: String,
    comparison: Comparison,
    operand: Scalar,
  },
  In {
    path: String,
    operands: Vec<Scalar>,
  },
  Exists {
    path: String,
  },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
  Equal,
  Greater,
  GreaterOrEqual,
  Less,
  LessOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
  Null,
  Bool(bool),
  Integer(i64),
  Real(f64),
  Text(String),
}

impl Filter {
  /// # Errors
  /// Names the place of the first mistake.
  pub fn parse(value: &Value) -> Result<Self, IndexError> {
    let mut parser = Parser {
      left: MAX_CONDITIONS,
    };
    parser.object("filter", value, 0).map(Self)
  }
}

struct Parser {
  left: usize,
}

impl Parser {
  fn object(&mut self, place: &str, value: &Value, depth: usize) -> Result<Condition, IndexError> {
    let members = members(place, value)?;
    check_depth(place, depth)?;
    let conditions = members.iter().map(|(name, value)| {
      let place = format!("{place}.{name}");
      match name.as_str() {
        "$and" => self.list(&place, value, depth).map(Condition::All),
        "$or" => self.list(&place, value, depth).map(Condition::Any),
        "$nor" => {
          let any = self.list(&place, value, depth).map(Condition::Any)?;
          Ok(Condition::Not(Box::new(any)))
        }
        "$not" => {
          let inner = self.object(&place, value, depth + 1)?;
          Ok(Condition::Not(Box::new(inner)))
        }
        _ if name.starts_with('$') => Err(unknown(&place, name, CONNECTIVES)),
        _ => self.field(&place, &json_path(name), value, depth + 1),
      }
    });
    conditions.collect::<Result<_, _>>().map(Condition::All)
  }

  fn list(
    &mut self,
    place: &str,
    value: &Value,
    depth: usize,
  ) -> Result<Vec<Condition>, IndexError> {
    let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
      return Err(invalid(place, "must be a list of at least one filter"));
    };
    let items = items.iter().enumerate();
    items
      .map(|(i, item)| self.object(&format!("{place}[{i}]"), item, depth + 1))
      .collect()
  }

  fn field(
    &mut self,
    place: &str,
    path: &str,
    value: &Value,
    depth: usize,
  ) -> Result<Condition, IndexError> {
    check_depth(place, depth)?;
    let Value::Object(operators) = value else {
      return self.compare(place, path, Comparison::Equal, value);
    };
    if operators.is_empty() {
      return Err(invalid(
        place,
        &format!("is empty; write a value, or {OPERATORS}"),
      ));
    }
    let conditions = operators.iter().map(|(name, value)| {
      let place = format!("{place}.{name}");
      let negated = |condition| Condition::Not(Box::new(condition));
      match name.as_str() {
        "$eq" => self.compare(&place, path, Comparison::Equal, value),
        "$ne" => self
          .compare(&place, path, Comparison::Equal, value)
          .map(negated),
        "$gt" => self.compare(&place, path, Comparison::Greater, value),
        "$gte" => self.compare(&place, path, Comparison::GreaterOrEqual, value),
        "$lt" => self.compare(&place, path, Comparison::Less, value),
        "$lte" => self.compare(&place, path, Comparison::LessOrEqual, value),
        "$in" => self.one_of(&place, path, value),
        "$nin" => self.one_of(&place, path, value).map(negated),
        "$not" => self.field(&place, path, value, depth + 1).map(negated),
        "$exists" => {
          self.count(&place)?;
          let path = path.to_owned();
          match value {
            Value::Bool(true) => Ok(Condition::Exists { path }),
            Value::Bool(false) => Ok(negated(Condition::Exists { path })),
            _ => Err(invalid(&place, "must be true or false")),
          }
        }
        _ if name.starts_with('$') => Err(unknown(&place, name, OPERATORS)),
        _ => Err(invalid(
          &place,
          "objects cannot be compared; write the path with dots, as in \"a.b\"",
        )),
      }
    });
    conditions.collect::<Result<_, _>>().map(Condition::All)
  }

  fn compare(
    &mut self,
    place: &str,
    path: &str,
    comparison: Comparison,
    value: &Value,
  ) -> Result<Condition, IndexError> {
    self.count(place)?;
    let operand = scalar(place, value)?;
    let ordered = matches!(
      operand,
      Scalar::Integer(_) | Scalar::Real(_) | Scalar::Text(_)
    );
    if comparison != Comparison::Equal && !ordered {
      return Err(invalid(place, "must be a number or a string"));
    }
    Ok(Condition::Compare {
      path: path.to_owned(),
      comparison,
      operand,
    })
  }

  fn one_of(&mut self, place: &str, path: &str, value: &Value) -> Result<Condition, IndexError> {
    self.count(place)?;
    let Value::Array(items) = value else {
      return Err(invalid(place, "must be a list of values"));
    };
    let items = items.iter().enumerate();
    let operands = items.map(|(i, item)| scalar(&format!("{place}[{i}]"), item));
    Ok(Condition::In {
      path: path.to_owned(),
      operands: operands.collect::<Result<_, _>>()?,
    })
  }

  fn count(&mut self, place: &str) -> Result<(), IndexError> {
    match self.left.checked_sub(1) {
      Some(left) => {
        self.left = left;
        Ok(())
      }
      None => Err(invalid(
        place,
        &format!("is one comparison too many; the most is {MAX_CONDITIONS}, use $in for lists"),
      )),
    }
  }
}

fn members<'a>(place: &str, value: &'a Value) -> Result<&'a Map<String, Value>, IndexError> {
  value.as_object().ok_or_else(|| {
    invalid(
      place,
      "must be an object, as in {\"year\": {\"$gte\": 2020}}",
    )
  })
}

fn check_depth(place: &str, depth: usize) -> Result<(), IndexError> {
  if depth > MAX_DEPTH {
    return Err(invalid(
      place,
      &format!("is nested deeper than {MAX_DEPTH} levels"),
    ));
  }
  Ok(())
}

fn scalar(place: &str, value: &Value) -> Result<Scalar, IndexError> {
  match value {
    Value::Null => Ok(Scalar::Null),
    Value::Bool(bool) => Ok(Scalar::Bool(*bool)),
    Value::String(text) => Ok(Scalar::Text(text.clone())),
    Value::Number(number) => match (number.as_i64(), number.as_f64()) {
      (Some(integer), _) => Ok(Scalar::Integer(integer)),
      (None, Some(real)) => Ok(Scalar::Real(real)),
      (None, None) => Err(invalid(place, "is a number too large to be compared")),
    },
    Value::Array(_) | Value::Object(_) => Err(invalid(
      place,
      "must be a string, a number, true, false or null; use $in for lists",
    )),
  }
}

/// SQLite's path of a field; dots lead into objects. It is bound, never part of a statement.
fn json_path(name: &str) -> String {
  let keys = name.split('.').map(|key| format!(".{}", Value::from(key)));
  std::iter::once("$".to_owned()).chain(keys).collect()
}

fn unknown(place: &str, name: &str, known: &str) -> IndexError {
  invalid(place, &format!("unknown operator `{name}`; use {known}"))
}

fn invalid(place: &str, reason: &str) -> IndexError {
  IndexError::Invalid(format!("{place}: {reason}"))
}
