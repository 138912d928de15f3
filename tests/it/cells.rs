//! The table of cells in `tests/cells/*.json`: what each prints, returns, shows or throws.
//!
//! A file is a list of entries `{name, cells: [{code, expect}]}`. The cells of an entry run one after
//! the other in a kernel of their own. `expect` is complete: what it does not mention must not come,
//! `{}` is a cell that says nothing at all.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::support::Events;
use crate::support::Server;
use crate::support::cpython_server;
use crate::support::shared_server;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
  name: String,
  cells: Vec<Cell>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
  code: Code,
  expect: Expect,
}

/// Code as one text or as its lines.
#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
  Text(String),
  Lines(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
  /// `text/plain` of the result.
  result: Option<Text>,
  /// Other types of the result's bundle, all of them.
  #[serde(default)]
  bundle: BTreeMap<String, Value>,
  stdout: Option<Text>,
  stderr: Option<Text>,
  error: Option<ExpectedError>,
  /// Data, metadata and transient of the display events, in order.
  #[serde(default)]
  display: Vec<Value>,
  #[serde(default)]
  update: Vec<Value>,
  /// Types of all events, when their order matters.
  types: Option<Vec<String>>,
}

/// An exact text, or what it must and must not contain.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
  Exact(String),
  Parts(Parts),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
  #[serde(default)]
  has: Vec<String>,
  #[serde(default)]
  lacks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedError {
  name: String,
  message: Text,
  #[serde(default)]
  stack: Option<Text>,
}

impl Text {
  fn check(&self, what: &str, actual: Option<&str>, wrong: &mut Vec<String>) {
    let text = actual.unwrap_or_default();
    match self {
      Self::Exact(expected) if actual != Some(expected) => {
        wrong.push(format!("{what}: expected {expected:?}, got {actual:?}"));
      }
      Self::Exact(_) => {}
      Self::Parts(parts) => {
        for part in parts.has.iter().filter(|p| !text.contains(p.as_str())) {
          wrong.push(format!("{what}: {part:?} is missing in {actual:?}"));
        }
        for part in parts.lacks.iter().filter(|p| text.contains(p.as_str())) {
          wrong.push(format!("{what}: {part:?} must not be in {actual:?}"));
        }
      }
    }
  }
}

impl Expect {
  /// What is wrong with the events, in words.
  fn check(&self, events: &Events) -> Vec<String> {
    let mut wrong = Vec::new();
    let empty = Text::Exact(String::new());
    self
      .stdout
      .as_ref()
      .unwrap_or(&empty)
      .check("stdout", Some(&events.stdout()), &mut wrong);
    self
      .stderr
      .as_ref()
      .unwrap_or(&empty)
      .check("stderr", Some(&events.stderr()), &mut wrong);
    self.check_result(events, &mut wrong);
    self.check_error(events, &mut wrong);
    for (kind, expected) in [
      ("display_data", &self.display),
      ("update_display_data", &self.update),
    ] {
      let actual: Vec<Value> = events.of(kind).into_iter().cloned().collect();
      if actual != *expected {
        wrong.push(format!("{kind}: expected {expected:?}, got {actual:?}"));
      }
    }
    if let Some(types) = &self.types
      && events.types() != *types
    {
      wrong.push(format!(
        "types: expected {types:?}, got {:?}",
        events.types()
      ));
    }
    wrong
  }

  fn check_result(&self, events: &Events, wrong: &mut Vec<String>) {
    let results = events.of("execute_result").len();
    if results != usize::from(self.result.is_some()) {
      wrong.push(format!("{results} results: {:?}", events.result_bundle()));
    }
    if let Some(result) = &self.result {
      result.check("result", events.result(), wrong);
      let mut bundle = events
        .result_bundle()
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
      bundle.remove("text/plain");
      let bundle: BTreeMap<String, Value> = bundle.into_iter().collect();
      if bundle != self.bundle {
        wrong.push(format!(
          "bundle: expected {:?}, got {bundle:?}",
          self.bundle
        ));
      }
    }
  }

  fn check_error(&self, events: &Events, wrong: &mut Vec<String>) {
    let errors = events.errors().len();
    if errors != usize::from(self.error.is_some()) {
      wrong.push(format!("{errors} errors: {:?}", events.error()));
    }
    if let Some(error) = &self.error {
      if events.ename() != Some(&error.name) {
        wrong.push(format!(
          "ename: expected {}, got {:?}",
          error.name,
          events.ename()
        ));
      }
      error.message.check("evalue", Some(events.evalue()), wrong);
      if let Some(stack) = &error.stack {
        stack.check("stack", Some(&events.traceback()), wrong);
      }
    }
  }
}

/// Runs every entry of a file, and names those that went wrong.
async fn run(server: &Server, language: &str, file: &str, json: &str) {
  let entries: Vec<Entry> = serde_json::from_str(json).unwrap_or_else(|e| panic!("{file}: {e}"));
  let failures: Vec<String> = futures::stream::iter(&entries)
    .map(|entry| run_entry(server, language, entry))
    .buffer_unordered(2)
    .filter_map(std::future::ready)
    .collect()
    .await;
  assert!(
    failures.is_empty(),
    "{} of {} entries of {file} failed:\n\n{}",
    failures.len(),
    entries.len(),
    failures.join("\n")
  );
}

async fn run_entry(server: &Server, language: &str, entry: &Entry) -> Option<String> {
  let kernel = server.client().create(json!({ "lang": language })).await;
  let mut wrong = Vec::new();
  for (number, cell) in entry.cells.iter().enumerate() {
    let code = match &cell.code {
      Code::Text(text) => text.clone(),
      Code::Lines(lines) => lines.join("\n"),
    };
    let events = kernel.execute(&code).await;
    let found = cell.expect.check(&events);
    wrong.extend(
      found
        .into_iter()
        .map(|w| format!("    cell {}: {w}\n", number + 1)),
    );
  }
  (!wrong.is_empty()).then(|| format!("  {}\n{}", entry.name, wrong.concat()))
}

macro_rules! tables {
  ($($test:ident: $file:literal;)*) => {$(
    #[tokio::test]
    async fn $test() {
      run(shared_server(), "typescript", $file, include_str!(concat!("../cells/", $file))).await;
    }
  )*};
}

tables! {
  a_trailing_expression_shows_its_value: "values.json";
  what_a_cell_declares_persists: "persistence.json";
  typescript_and_module_syntax_is_understood: "syntax.json";
  imports_work_and_persist: "imports.json";
  the_console_prints_as_deno_prints: "console.json";
  errors_name_the_cell_and_not_the_plumbing: "errors.json";
  values_are_displayed_richly: "display.json";
  values_are_recognised_by_what_they_can_do: "detectors.json";
  the_platform_of_deno_is_there: "platform.json";
  work_in_the_background_goes_on: "background.json";
}

#[tokio::test]
async fn python_cells_do_what_ipython_does() {
  let table = include_str!("../cells/python.json");
  run(shared_server(), "python", "python.json", table).await;
  run(cpython_server(), "cpython", "python.json", table).await;
}
