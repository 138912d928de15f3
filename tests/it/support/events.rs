//! Output events of an execution, and questions to ask them.

use std::ops::Deref;

use serde_json::Value;

/// The output events of one execution, in order, without the markers of a transport.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Events(pub Vec<Value>);

impl Deref for Events {
  type Target = [Value];

  fn deref(&self) -> &[Value] {
    &self.0
  }
}

impl Events {
  pub(crate) fn types(&self) -> Vec<&str> {
    self
      .iter()
      .map(|e| e["type"].as_str().unwrap_or_default())
      .collect()
  }

  /// `data` of every event of a type.
  pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
    self
      .iter()
      .filter(|e| e["type"] == kind)
      .map(|e| &e["data"])
      .collect()
  }

  /// Text of all stream events of that name, joined.
  fn text(&self, name: &str) -> String {
    let of_name = self.of("stream").into_iter().filter(|d| d["name"] == name);
    of_name.filter_map(|d| d["text"].as_str()).collect()
  }

  pub(crate) fn stdout(&self) -> String {
    self.text("stdout")
  }

  pub(crate) fn stderr(&self) -> String {
    self.text("stderr")
  }

  /// The mime bundle of the result.
  pub(crate) fn result_bundle(&self) -> Option<&Value> {
    self.of("execute_result").first().map(|d| &d["data"])
  }

  /// The result as text.
  pub(crate) fn result(&self) -> Option<&str> {
    self
      .result_bundle()
      .and_then(|bundle| bundle["text/plain"].as_str())
  }

  /// The errors, of Python and of all else.
  pub(crate) fn errors(&self) -> Vec<&Value> {
    [self.of("error"), self.of("execute_error")].concat()
  }

  /// The first error.
  pub(crate) fn error(&self) -> Option<&Value> {
    self.errors().first().copied()
  }

  pub(crate) fn ename(&self) -> Option<&str> {
    self.error().and_then(|e| e["ename"].as_str())
  }

  pub(crate) fn evalue(&self) -> &str {
    self
      .error()
      .and_then(|e| e["evalue"].as_str())
      .unwrap_or_default()
  }

  /// The traceback of the first error, as one text.
  pub(crate) fn traceback(&self) -> String {
    let lines = self
      .error()
      .and_then(|e| e["traceback"].as_array())
      .cloned()
      .unwrap_or_default();
    lines
      .iter()
      .filter_map(Value::as_str)
      .collect::<Vec<_>>()
      .join("\n")
  }

  /// The execution every event names.
  ///
  /// # Panics
  /// When they name different ones, or none.
  pub(crate) fn execution_id(&self) -> &str {
    let ids: Vec<&str> = self
      .iter()
      .filter_map(|e| e["executionId"].as_str())
      .collect();
    assert!(
      ids.len() == self.len() && ids.windows(2).all(|w| w[0] == w[1]),
      "{self:?}"
    );
    ids.first().expect("there are events")
  }
}
