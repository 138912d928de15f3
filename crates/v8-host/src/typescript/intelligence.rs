//! Completion and inspection, from the live values of the isolate. Nothing here has side effects:
//! V8 refuses to evaluate what could have one.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::typescript::CallError;
use crate::typescript::Evaluation;
use crate::typescript::RemoteObject;
use crate::typescript::TypeScript;
use crate::typescript::inspector;

const KEYWORDS: &[&str] = &[
  "async",
  "await",
  "break",
  "case",
  "catch",
  "class",
  "const",
  "continue",
  "debugger",
  "default",
  "delete",
  "do",
  "else",
  "enum",
  "export",
  "extends",
  "false",
  "finally",
  "for",
  "from",
  "function",
  "if",
  "import",
  "in",
  "instanceof",
  "interface",
  "let",
  "new",
  "null",
  "of",
  "return",
  "static",
  "super",
  "switch",
  "this",
  "throw",
  "true",
  "try",
  "type",
  "typeof",
  "undefined",
  "using",
  "var",
  "void",
  "while",
  "yield",
];

const MAX_MATCHES: usize = 500;

impl TypeScript {
  /// The answer to a `complete` request, as Jupyter shapes it.
  pub(super) async fn complete(&mut self, code: &str, cursor: usize) -> Value {
    let end = byte_offset(code, cursor);
    let (object, prefix) = split_member(&code[..end]);
    let mut matches = match object {
      Some(object) => self.member_matches(object).await,
      None => self.name_matches().await,
    };
    matches.retain(|(name, _)| name.starts_with(prefix));
    matches.sort_by(|a, b| a.0.cmp(&b.0));
    matches.dedup_by(|a, b| a.0 == b.0);
    matches.truncate(MAX_MATCHES);
    let types: Map<String, Value> = matches
      .iter()
      .map(|(n, kind)| (n.clone(), json!(kind)))
      .collect();
    json!({
      "matches": matches.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
      "cursor_start": cursor.min(utf16_len(code)) - utf16_len(prefix),
      "cursor_end": cursor.min(utf16_len(code)),
      "metadata": types,
      "status": "ok",
    })
  }

  /// The answer to an `inspect` request, as Jupyter shapes it.
  pub(super) async fn inspect(&mut self, code: &str, cursor: usize) -> Value {
    let expression = expression_around(code, byte_offset(code, cursor));
    let text = match self.peek(expression).await {
      Some(value) => self
        .call_host(
          "inspectValue",
          &[value.as_argument(), json!({ "value": expression })],
        )
        .await
        .ok()
        .and_then(|r| r.value)
        .and_then(|v| v.as_str().map(str::to_owned)),
      None => None,
    };
    let found = text.is_some();
    let data = text.map_or_else(|| json!({}), |text| json!({ "text/plain": text }));
    json!({ "status": "ok", "found": found, "data": data, "metadata": {} })
  }

  /// The value of an expression without side effects, or nothing.
  async fn peek(&mut self, expression: &str) -> Option<RemoteObject> {
    if expression.is_empty() {
      return None;
    }
    let params = json!({
      "expression": expression,
      "throwOnSideEffect": true,
      "silent": true,
      "timeout": 500,
      "objectGroup": inspector::CELL_GROUP,
    });
    let response = self.call("Runtime.evaluate", &params).await.ok()?;
    match Evaluation::parse(response).ok()? {
      Evaluation {
        exception: None,
        result,
      } => Some(result),
      Evaluation { .. } => None,
    }
  }

  async fn members(&mut self, value: &RemoteObject) -> Option<Vec<(String, String)>> {
    let names = self
      .call_host("members", &[value.as_argument()])
      .await
      .ok()?
      .value?;
    serde_json::from_value(names).ok()
  }

  async fn member_matches(&mut self, object: &str) -> Vec<(String, String)> {
    match self.peek(object).await {
      Some(value) => self.members(&value).await.unwrap_or_default(),
      None => Vec::new(),
    }
  }

  async fn name_matches(&mut self) -> Vec<(String, String)> {
    let mut matches: Vec<(String, String)> = KEYWORDS
      .iter()
      .map(|k| ((*k).to_owned(), "keyword".to_owned()))
      .collect();
    if let Ok(names) = self.lexical_names().await {
      matches.extend(names.into_iter().map(|name| (name, "variable".to_owned())));
    }
    if let Some(global) = self.peek("globalThis").await {
      let globals = self.members(&global).await.unwrap_or_default();
      matches.extend(
        globals
          .into_iter()
          .map(|(name, _)| (name, "global".to_owned())),
      );
    }
    matches
  }

  /// Names that `let`, `const` and `class` of earlier cells declared.
  async fn lexical_names(&mut self) -> Result<Vec<String>, CallError> {
    let response = self
      .call("Runtime.globalLexicalScopeNames", &json!({}))
      .await?;
    serde_json::from_value(response["names"].clone())
      .map_err(|e| CallError::Protocol(e.to_string()))
  }
}

/// Splits what stands before the cursor into the object whose member is wanted, and the prefix.
fn split_member(text: &str) -> (Option<&str>, &str) {
  let prefix_start = text
    .char_indices()
    .rev()
    .take_while(|(_, c)| is_word(*c))
    .last()
    .map_or(text.len(), |(i, _)| i);
  let (before, prefix) = text.split_at(prefix_start);
  match before.strip_suffix('.') {
    Some(object) => {
      let object = object.strip_suffix('?').unwrap_or(object);
      (Some(&object[expression_start(object)..]), prefix)
    }
    None => (None, prefix),
  }
}

/// Where the chain of names, calls and subscripts that ends `text` begins.
fn expression_start(text: &str) -> usize {
  let mut depth = 0_usize;
  let mut start = text.len();
  let mut quote = None;
  for (i, c) in text.char_indices().rev() {
    let part_of_chain = match (quote, c) {
      (Some(q), _) => {
        if c == q {
          quote = None;
        }
        true
      }
      (None, '"' | '\'' | '`') => {
        quote = Some(c);
        true
      }
      (None, ')' | ']') => {
        depth += 1;
        true
      }
      (None, '(' | '[') if depth > 0 => {
        depth -= 1;
        true
      }
      (None, '.' | '?') => true,
      (None, c) => depth > 0 || is_word(c),
    };
    if !part_of_chain {
      break;
    }
    start = i;
  }
  start
}

/// The expression that ends with the word at `at`.
fn expression_around(code: &str, at: usize) -> &str {
  let end = code[at..]
    .char_indices()
    .find(|(_, c)| !is_word(*c))
    .map_or(code.len(), |(i, _)| at + i);
  &code[expression_start(&code[..end])..end]
}

fn is_word(c: char) -> bool {
  c.is_alphanumeric() || c == '_' || c == '$'
}

fn utf16_len(text: &str) -> usize {
  text.encode_utf16().count()
}

/// The byte position of a cursor counted in UTF-16 units; past the end means the end.
fn byte_offset(code: &str, cursor: usize) -> usize {
  let mut units = 0;
  code
    .char_indices()
    .find(|(_, c)| {
      let here = units;
      units += c.len_utf16();
      here >= cursor
    })
    .map_or(code.len(), |(i, _)| i)
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn the_object_before_the_dot_is_found() {
    assert_eq!(split_member("foo.ba"), (Some("foo"), "ba"));
    assert_eq!(
      split_member("x = a.b[0].c('.)').d"),
      (Some("a.b[0].c('.)')"), "d")
    );
    assert_eq!(split_member("a?.b"), (Some("a"), "b"));
    assert_eq!(split_member("1 + fo"), (None, "fo"));
    assert_eq!(split_member(""), (None, ""));
  }

  #[test]
  fn cursors_count_utf16_units() {
    assert_eq!(byte_offset("aé😀b", 0), 0);
    assert_eq!(byte_offset("aé😀b", 2), 3);
    assert_eq!(byte_offset("aé😀b", 4), 7);
    assert_eq!(byte_offset("aé😀b", 99), 8);
  }

  #[test]
  fn inspection_takes_the_word_under_the_cursor() {
    assert_eq!(expression_around("a + Math.max(1)", 9), "Math.max");
    assert_eq!(expression_around("", 0), "");
  }
}
