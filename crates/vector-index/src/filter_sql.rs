//! Filters as SQL. Whatever a caller wrote is a bound parameter.

use std::collections::HashSet;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::filter::Comparison;
use crate::filter::Condition;
use crate::filter::Filter;
use crate::filter::Scalar;

/// An expression on the column `metadata` of `document`, which is 0 or 1 and never NULL.
pub(crate) struct Sql {
  pub expression: String,
  pub parameters: Vec<Value>,
}

impl Filter {
  /// `first` is the number of the first parameter.
  pub(crate) fn sql(&self, first: usize) -> Sql {
    let mut sql = Sql {
      expression: String::new(),
      parameters: Vec::new(),
    };
    let mut writer = Writer {
      sql: &mut sql,
      first,
    };
    writer.condition(&self.0);
    sql
  }

  /// The rowids of all matching documents, in order.
  pub(crate) fn rowids(&self, connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = self.sql(1);
    let text = format!(
      "SELECT rowid FROM document WHERE {} ORDER BY rowid",
      sql.expression
    );
    let mut select = connection.prepare_cached(&text)?;
    let rows = select.query_map(rusqlite::params_from_iter(sql.parameters), |row| row.get(0))?;
    rows.collect()
  }

  /// The matching ones among `rowids`.
  pub(crate) fn taken(
    &self,
    connection: &Connection,
    rowids: impl Iterator<Item = i64>,
  ) -> rusqlite::Result<HashSet<i64>> {
    let mut sql = self.sql(2);
    let rowids: Vec<i64> = rowids.collect();
    let rowids = serde_json::Value::from(rowids).to_string();
    sql.parameters.insert(0, rowids.into());
    let text = format!(
      "SELECT rowid FROM document WHERE rowid IN (SELECT value FROM json_each(?1)) AND {}",
      sql.expression
    );
    let mut select = connection.prepare_cached(&text)?;
    let rows = select.query_map(rusqlite::params_from_iter(sql.parameters), |row| row.get(0))?;
    rows.collect()
  }
}

struct Writer<'a> {
  sql: &'a mut Sql,
  first: usize,
}

/// Types of values that a comparison applies to, as SQLite names them.
#[derive(Clone, Copy)]
enum Class {
  Text,
  Number,
}

impl Class {
  fn types(self) -> &'static str {
    match self {
      Self::Text => "('text')",
      Self::Number => "('integer', 'real')",
    }
  }
}

impl Writer<'_> {
  fn condition(&mut self, condition: &Condition) {
    match condition {
      Condition::All(inner) => self.joined(inner, " AND ", "1"),
      Condition::Any(inner) => self.joined(inner, " OR ", "0"),
      Condition::Not(inner) => {
        self.push("NOT ");
        self.condition(inner);
      }
      Condition::Exists { path } => {
        let path = self.bind(path.clone().into());
        self.push(&format!("(json_type(metadata, {path}) IS NOT NULL)"));
      }
      Condition::Compare {
        path,
        comparison,
        operand,
      } => self.compare(path, *comparison, operand),
      Condition::In { path, operands } => self.one_of(path, operands),
    }
  }

  fn joined(&mut self, conditions: &[Condition], word: &str, none: &str) {
    self.push("(");
    for (i, condition) in conditions.iter().enumerate() {
      if i > 0 {
        self.push(word);
      }
      self.condition(condition);
    }
    if conditions.is_empty() {
      self.push(none);
    }
    self.push(")");
  }

  fn compare(&mut self, path: &str, comparison: Comparison, operand: &Scalar) {
    let operator = match comparison {
      Comparison::Equal => "=",
      Comparison::Greater => ">",
      Comparison::GreaterOrEqual => ">=",
      Comparison::Less => "<",
      Comparison::LessOrEqual => "<=",
    };
    let path = self.bind(path.to_owned().into());
    let (class, operand) = match operand {
      Scalar::Null => return self.null(&path),
      Scalar::Bool(bool) => return self.bool(&path, *bool),
      Scalar::Integer(integer) => (Class::Number, Value::from(*integer)),
      Scalar::Real(real) => (Class::Number, Value::from(*real)),
      Scalar::Text(text) => (Class::Text, Value::from(text.clone())),
    };
    let operand = self.bind(operand);
    self.values(&path, class, &format!("{operator} {operand}"));
  }

  fn one_of(&mut self, path: &str, operands: &[Scalar]) {
    if operands.is_empty() {
      return self.push("0");
    }
    let path = self.bind(path.to_owned().into());
    let mut texts = Vec::new();
    let mut numbers = Vec::new();
    self.push("(0");
    for operand in operands {
      match operand {
        Scalar::Null => {
          self.push(" OR ");
          self.null(&path);
        }
        Scalar::Bool(bool) => {
          self.push(" OR ");
          self.bool(&path, *bool);
        }
        Scalar::Integer(integer) => numbers.push(serde_json::Value::from(*integer)),
        Scalar::Real(real) => numbers.push(serde_json::Value::from(*real)),
        Scalar::Text(text) => texts.push(serde_json::Value::from(text.as_str())),
      }
    }
    for (class, list) in [(Class::Text, texts), (Class::Number, numbers)] {
      if !list.is_empty() {
        let list = self.bind(serde_json::Value::from(list).to_string().into());
        self.push(" OR ");
        self.values(
          &path,
          class,
          &format!("IN (SELECT value FROM json_each({list}))"),
        );
      }
    }
    self.push(")");
  }

  /// The value, or an element of it when it is an array, has the class and passes the test.
  fn values(&mut self, path: &str, class: Class, test: &str) {
    let types = class.types();
    self.push(&format!(
      "((json_extract(metadata, {path}) {test} AND json_type(metadata, {path}) IN {types} \
       OR json_type(metadata, {path}) = 'array' AND EXISTS (SELECT 1 FROM json_each(metadata, {path}) \
       AS element WHERE element.type IN {types} AND element.value {test})) IS TRUE)"
    ));
  }

  fn bool(&mut self, path: &str, bool: bool) {
    self.push(&format!(
      "((json_type(metadata, {path}) = '{bool}' OR json_type(metadata, {path}) = 'array' AND \
       EXISTS (SELECT 1 FROM json_each(metadata, {path}) AS element WHERE element.type = '{bool}')) \
       IS TRUE)"
    ));
  }

  fn null(&mut self, path: &str) {
    self.push(&format!(
      "(coalesce(json_type(metadata, {path}), 'null') = 'null' OR (json_type(metadata, {path}) = \
       'array' AND EXISTS (SELECT 1 FROM json_each(metadata, {path}) AS element WHERE \
       element.type = 'null')) IS TRUE)"
    ));
  }

  fn bind(&mut self, value: Value) -> String {
    self.sql.parameters.push(value);
    format!("?{}", self.first + self.sql.parameters.len() - 1)
  }

  fn push(&mut self, text: &str) {
    self.sql.expression.push_str(text);
  }
}
