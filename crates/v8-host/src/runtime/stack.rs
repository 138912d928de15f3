//! Stack traces that show the cell: V8 gives the script of a cell no file name, only a source URL,
//! which Deno's formatter does not read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use deno_ast::swc::sourcemap;
use deno_ast::swc::sourcemap::SourceMap;
use deno_ast::swc::sourcemap::SourceMapBuilder;
use deno_core::JsRuntime;
use deno_core::error::prepare_stack_trace_callback;
use deno_core::v8;

/// Cells are named `file:///cell-<n>.ts`; a stack trace shows `cell-<n>.ts`.
pub(crate) const CELL_URL_PREFIX: &str = "file:///cell-";

/// How many cells keep their map, so that late errors still point at the right line.
const MAX_SOURCE_MAPS: usize = 256;

/// The way from a cell's script to what the user wrote. One line stands before both.
#[derive(Debug, Clone)]
pub(crate) enum CellMap {
  /// It is what the user wrote, which is kept.
  AsWritten(Arc<str>),
  /// It was transpiled.
  Transpiled {
    /// A source map.
    json: Vec<u8>,
    /// Whether what was mapped had a bracket before what the user wrote.
    bracketed: bool,
  },
}

impl CellMap {
  /// A source map.
  pub(crate) fn json(self, name: &str) -> Option<Vec<u8>> {
    match self {
      Self::Transpiled { json, .. } => Some(json),
      Self::AsWritten(text) => identity(&text, name).ok(),
    }
  }
}

/// The map of a text to itself, one line higher: a place for each word and sign.
fn identity(text: &str, name: &str) -> sourcemap::Result<Vec<u8>> {
  let mut map = SourceMapBuilder::new(None);
  let source = map.add_source(name.to_owned().into());
  for (line, text) in (0..).zip(text.split('\n')) {
    let mut column = 0;
    let mut in_word = false;
    for character in text.chars() {
      let word = character.is_alphanumeric();
      if !(word && in_word) {
        map.add_raw(line + 1, column, line, column, Some(source), None, false);
      }
      in_word = word;
      column += u32::from(character.len_utf16() == 2) + 1;
    }
  }
  let mut json = Vec::new();
  map.into_sourcemap().to_writer(&mut json)?;
  Ok(json)
}

/// The maps of the last cells, by script name.
#[derive(Default)]
pub(crate) struct SourceMaps(RefCell<VecDeque<(String, CellMap)>>);

impl SourceMaps {
  pub(crate) fn insert(&self, name: String, map: CellMap) {
    let mut maps = self.0.borrow_mut();
    if maps.len() == MAX_SOURCE_MAPS {
      maps.pop_front();
    }
    maps.push_back((name, map));
  }

  pub(crate) fn get(&self, name: &str) -> Option<CellMap> {
    let maps = self.0.borrow();
    maps
      .iter()
      .rev()
      .find(|(known, _)| known == name)
      .map(|(_, map)| map.clone())
  }

  /// The original position of a generated one; both count from 1.
  fn original(&self, name: &str, line: u32, column: u32) -> Option<(u32, u32)> {
    let (line, column) = (line.checked_sub(1)?, column.checked_sub(1)?);
    let (line, column) = match self.get(name)? {
      CellMap::AsWritten(_) => (line.checked_sub(1)?, column),
      CellMap::Transpiled { json, bracketed } => {
        let map = SourceMap::from_slice(&json).ok()?;
        let (line, column) = map.lookup_token(line, column)?.get_src();
        let bracket = u32::from(bracketed && line == 0);
        (line, column.saturating_sub(bracket))
      }
    };
    Some((line + 1, column + 1))
  }
}

/// Makes every error of the isolate format its stack here.
pub(super) fn install(runtime: &mut JsRuntime, maps: Rc<SourceMaps>) {
  runtime.op_state().borrow_mut().put(maps);
  runtime
    .v8_isolate()
    .set_prepare_stack_trace_callback(prepare);
}

/// Deno's own stack trace, with the frames of cells named and what lies below user code cut off.
fn prepare<'s>(
  scope: &mut v8::PinScope<'s, '_>,
  error: v8::Local<'s, v8::Value>,
  callsites: v8::Local<'s, v8::Array>,
) -> v8::Local<'s, v8::Value> {
  let value = prepare_stack_trace_callback(scope, error, callsites);
  // An own `Error.prepareStackTrace` may have made something else of it.
  let Ok(text) = v8::Local::<v8::String>::try_from(value) else {
    return value;
  };
  let text = text.to_rust_string_lossy(scope);
  let Some((head, frames)) = split_frames(&text, callsites.length() as usize) else {
    return value;
  };
  let mut lines = Vec::with_capacity(frames.len());
  for (i, line) in (0_u32..).zip(frames) {
    let script = line
      .contains("<anonymous>:")
      .then(|| script_name(scope, callsites, i))
      .flatten();
    let named = script.and_then(|script| name_frame(scope, line, &script));
    lines.push(named.unwrap_or_else(|| line.to_owned()));
  }
  let text = std::iter::once(head)
    .chain(user_frames(&lines))
    .collect::<Vec<_>>()
    .join("\n");
  v8::String::new(scope, &text).map_or(value, Into::into)
}

/// The message and the last `count` lines; `None` when these are not all frames.
fn split_frames(text: &str, count: usize) -> Option<(&str, Vec<&str>)> {
  let mut rest = text;
  let mut frames = Vec::with_capacity(count);
  for _ in 0..count {
    let (before, line) = rest.rsplit_once('\n')?;
    if !line.starts_with("    at ") {
      return None;
    }
    frames.push(line);
    rest = before;
  }
  frames.reverse();
  Some((rest, frames))
}

fn script_name<'s>(
  scope: &mut v8::PinScope<'s, '_>,
  callsites: v8::Local<'s, v8::Array>,
  index: u32,
) -> Option<String> {
  let callsite = v8::Local::<v8::Object>::try_from(callsites.get_index(scope, index)?).ok()?;
  let key = v8::String::new(scope, "getScriptNameOrSourceURL")?;
  let method = v8::Local::<v8::Function>::try_from(callsite.get(scope, key.into())?).ok()?;
  let name = method.call(scope, callsite.into(), &[])?;
  Some(
    v8::Local::<v8::String>::try_from(name)
      .ok()?
      .to_rust_string_lossy(scope),
  )
}

/// Puts the name of its cell, and the position the user wrote, into a frame.
fn name_frame(scope: &v8::PinScope<'_, '_>, line: &str, script: &str) -> Option<String> {
  let cell = script
    .strip_prefix("file:///")
    .filter(|_| script.starts_with(CELL_URL_PREFIX))?;
  let (before, position) = line.split_once("<anonymous>:")?;
  let position_end = position
    .find(|c: char| !c.is_ascii_digit() && c != ':')
    .unwrap_or(position.len());
  let (numbers, after) = position.split_at(position_end);
  let (row, column) = numbers.split_once(':')?;
  let state = JsRuntime::op_state_from(scope);
  let maps = state
    .try_borrow()
    .ok()?
    .try_borrow::<Rc<SourceMaps>>()?
    .clone();
  let (row, column) = maps.original(script, row.parse().ok()?, column.parse().ok()?)?;
  Some(format!("{before}{cell}:{row}:{column}{after}"))
}

/// The frames down to the last one of user code; all of them when there is none.
fn user_frames(lines: &[String]) -> impl Iterator<Item = &str> {
  let internal = |line: &str| line.contains("(ext:") || line.starts_with("    at ext:");
  let last = lines.iter().rposition(|line| !internal(line));
  let shown = last.map_or(lines, |last| &lines[..=last]);
  shown
    .iter()
    .map(String::as_str)
    .filter(|line| !line.contains("ext:kernel/"))
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn frames_are_told_from_a_message_of_several_lines() {
    let text = "Error: a\n    at not a frame\n    at f (x:1:1)\n    at x:2:1";
    let (head, frames) = split_frames(text, 2).expect("two frames");
    assert_eq!(head, "Error: a\n    at not a frame");
    assert_eq!(frames, ["    at f (x:1:1)", "    at x:2:1"]);
    assert!(split_frames("Error: a", 1).is_none());
  }

  #[test]
  fn what_lies_below_user_code_is_cut() {
    let lines = [
      "    at g (ext:a.js:1:1)",
      "    at cell-1.ts:1:1",
      "    at ext:core/b.js:1:1",
    ];
    let lines: Vec<String> = lines.map(str::to_owned).into();
    assert_eq!(user_frames(&lines).count(), 2);
    assert_eq!(user_frames(&lines[2..]).count(), 1);
  }
}
