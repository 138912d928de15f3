//! From the TypeScript of a cell to the script that V8 evaluates, with a map back to what the
//! user wrote.

use std::sync::Arc;

use deno_ast::MediaType;
use deno_ast::ModuleSpecifier;
use deno_ast::ParseDiagnostic;
use deno_ast::ParsedSource;
use deno_ast::StartSourcePos;
use deno_ast::diagnostics::Diagnostic;
use deno_ast::swc::ast::Expr;
use deno_ast::swc::ast::ModuleDecl;
use deno_ast::swc::ast::ModuleItem;
use deno_ast::swc::ast::Stmt;
use deno_ast::swc::parser::error::SyntaxError;
use kernel_protocol::Checked;
use kernel_protocol::ErrorReport;
use serde_json::Value;
use serde_json::json;

use crate::runtime::CellMap;
use crate::typescript::plain::is_plain;
use crate::typescript::rewrite;
use crate::typescript::rewrite::Declaration;
use crate::typescript::rewrite::Declared;
use crate::typescript::rewrite::items;

/// A cell, ready for V8's REPL mode.
#[derive(Debug)]
pub(crate) struct PreparedCell {
  pub javascript: String,
  /// The way back to what the user wrote.
  pub map: CellMap,
  /// Whether the last statement is an expression, whose value the user wants to see. It is the script's.
  pub shows_value: bool,
}

/// Strict like a module; a line of its own, so that the cell's columns stay.
const PROLOGUE: &str = "'use strict'; void 0;";
/// Brackets of a cell that is one object, on the lines around it.
const BRACKETS: (&str, &str) = ("(", "\n)");

/// Rewrites and transpiles a cell; notes in `declared` what it declares.
///
/// # Errors
/// A report of the error, pointing into the cell.
pub(crate) fn prepare(
  code: &str,
  name: &str,
  declared: &mut Declared,
) -> Result<PreparedCell, ErrorReport> {
  let code = without_mark(code);
  let specifier = ModuleSpecifier::parse(name)
    .map_err(|e| ErrorReport::new("Error", format!("not a cell name: {name}: {e}")))?;
  let cell = parse_cell(code, &specifier, declared).map_err(|e| syntax_error(&e))?;
  let ParsedCell {
    source,
    script,
    new,
    shows_value,
    bracketed,
  } = cell;
  if let Some((name, at)) = declared.assigned_constant(&source, &new) {
    return Err(constant_error(&source, &name, at.start));
  }
  let (text, map) = match script {
    Script::AsWritten(text) => {
      let map = CellMap::AsWritten(text.as_str().into());
      (text, map)
    }
    Script::Foreign(script) => transpiled(&script, &source, bracketed, declared)?,
  };
  declared.add(new);
  let (open, close) = match (bracketed, &map) {
    (true, CellMap::AsWritten(_)) => BRACKETS,
    _ => ("", ""),
  };
  Ok(PreparedCell {
    javascript: format!("{PROLOGUE}{open}\n{text}{close}\n//# sourceURL={name}"),
    map,
    shows_value,
  })
}

/// The JavaScript of a script that is not all JavaScript.
fn transpiled(
  script: &ParsedSource,
  source: &ParsedSource,
  bracketed: bool,
  declared: &Declared,
) -> Result<(String, CellMap), ErrorReport> {
  let emitted = script
    .clone()
    .transpile(
      &deno_ast::TranspileOptions::default(),
      &deno_ast::TranspileModuleOptions {
        module_kind: Some(deno_ast::ModuleKind::Esm),
      },
      &deno_ast::EmitOptions {
        source_map: deno_ast::SourceMapOption::Separate,
        inline_sources: false,
        ..Default::default()
      },
    )
    .map_err(|e| ErrorReport::new("SyntaxError", e.to_string()))?
    .into_source();
  let json = emitted.source_map.unwrap_or_default();
  let map = CellMap::Transpiled {
    // An empty first line in the mappings stands for the prologue.
    json: json
      .replacen(r#""mappings":""#, r#""mappings":";"#, 1)
      .into_bytes(),
    bracketed,
  };
  let enums = rewrite::enum_names(source);
  Ok((fresh_enums(emitted.text, &enums, declared), map))
}

/// A cell without the byte order mark that some editors put first; the parser takes none.
fn without_mark(code: &str) -> &str {
  code.trim_start_matches('\u{feff}')
}

struct ParsedCell {
  /// As the user wrote it.
  source: ParsedSource,
  /// As a script may hold it.
  script: Script,
  /// What it declares.
  new: Vec<(String, Declaration)>,
  shows_value: bool,
  /// Whether it is one object without brackets. `source` has them, and so has `script` where it is foreign.
  bracketed: bool,
}

enum Script {
  /// JavaScript, every line and column of which is the user's.
  AsWritten(String),
  /// TypeScript, or JSX.
  Foreign(ParsedSource),
}

/// Parses a cell, makes a script of it, and tells what it declares.
fn parse_cell(
  code: &str,
  name: &ModuleSpecifier,
  declared: &Declared,
) -> Result<ParsedCell, ParseDiagnostic> {
  // The prologue stands before it, where a hashbang would be an error.
  let commented = code.strip_prefix("#!").map(|rest| format!("//{rest}"));
  let code = commented.as_deref().unwrap_or(code);
  // `{ a: 1 }` means the object, as in every REPL, when it can.
  let trimmed = code.trim();
  if trimmed.starts_with('{')
    && trimmed.ends_with('}')
    && let Ok(source) = parse(format!("({code}\n)"), name)
    && is_object(&source)
  {
    return Ok(ParsedCell {
      script: match is_plain(&source) {
        true => Script::AsWritten(code.to_owned()),
        false => Script::Foreign(source.clone()),
      },
      source,
      new: Vec::new(),
      shows_value: true,
      bracketed: true,
    });
  }
  let source = parse(code.to_owned(), name)?;
  let new = rewrite::declarations(&source);
  let rewritten = rewrite::as_script(&source, code, declared);
  let script = match (is_plain(&source), rewritten) {
    (true, Some(script)) => Script::AsWritten(script),
    (true, None) => Script::AsWritten(code.to_owned()),
    (false, Some(script)) => Script::Foreign(parse(script, name)?),
    (false, None) => Script::Foreign(source.clone()),
  };
  // An import becomes an expression, but has no value to show.
  let shows_value = matches!(
    last_statement(&source),
    Some(
      ModuleItem::Stmt(Stmt::Expr(_)) | ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(_))
    )
  );
  Ok(ParsedCell {
    source,
    script,
    new,
    shows_value,
    bracketed: false,
  })
}

/// Whether a cell is nothing but `({ … })`.
fn is_object(parsed: &ParsedSource) -> bool {
  let mut items = items(parsed);
  let (Some(ModuleItem::Stmt(Stmt::Expr(statement))), None) = (items.next(), items.next()) else {
    return false;
  };
  matches!(&*statement.expr, Expr::Paren(inner) if matches!(*inner.expr, Expr::Object(_)))
}

/// TypeScript merges an enum into one of the same name; here that would be the one of an earlier
/// cell, often its own former version. Makes each a new binding.
fn fresh_enums(mut text: String, enums: &[String], declared: &Declared) -> String {
  for name in enums {
    let (head, tail) = (format!("var {name} = "), format!("}}({name} || {{}});"));
    let starts_line = |at: usize| at == 0 || text[..at].ends_with('\n');
    let Some(start) = text
      .match_indices(&head)
      .map(|(at, _)| at)
      .find(|at| starts_line(*at))
    else {
      continue;
    };
    let Some(end) = text[start..].find(&tail).map(|at| start + at) else {
      continue;
    };
    text.replace_range(end..end + tail.len(), "}({});");
    text.replace_range(start..start + "var".len(), declared.keyword(name));
  }
  text
}

fn constant_error(parsed: &ParsedSource, name: &str, at: usize) -> ErrorReport {
  let position = parsed
    .text_info_lazy()
    .line_and_column_display(StartSourcePos::START_SOURCE_POS + at);
  let evalue = "Assignment to constant variable.".to_owned();
  let cell = parsed
    .specifier()
    .as_str()
    .trim_start_matches("file:///")
    .to_owned();
  ErrorReport {
    ename: "TypeError".into(),
    traceback: vec![format!(
      "TypeError: {evalue}\n    at {cell}:{}:{} ({name})",
      position.line_number, position.column_number
    )],
    evalue,
    status: None,
  }
}

/// As TypeScript, and when that fails as TSX; the first error is the one to show.
pub(super) fn parse(
  text: String,
  specifier: &ModuleSpecifier,
) -> Result<ParsedSource, ParseDiagnostic> {
  let text: Arc<str> = text.into();
  let parse_as = |media_type| {
    deno_ast::parse_module(deno_ast::ParseParams {
      specifier: specifier.clone(),
      text: text.clone(),
      media_type,
      capture_tokens: false,
      scope_analysis: true,
      maybe_syntax: None,
    })
    .and_then(|parsed| match parsed.diagnostics().first() {
      Some(error) => Err(error.clone()),
      None => Ok(parsed),
    })
  };
  parse_as(MediaType::TypeScript).or_else(|e| parse_as(MediaType::Tsx).map_err(|_| e))
}

fn last_statement(parsed: &ParsedSource) -> Option<&ModuleItem> {
  items(parsed)
    .rev()
    .find(|item| !matches!(item, ModuleItem::Stmt(Stmt::Empty(_))))
}

fn syntax_error(diagnostic: &ParseDiagnostic) -> ErrorReport {
  let position = diagnostic.display_position();
  let message = diagnostic.message();
  ErrorReport {
    ename: "SyntaxError".into(),
    evalue: format!(
      "{message} ({}:{})",
      position.line_number, position.column_number
    ),
    traceback: vec![diagnostic.to_string().replace("file:///", "")],
    status: None,
  }
}

/// Reads and transpiles a whole program, and throws away what comes of it.
pub(crate) fn check(name: &str, code: &str) -> Checked {
  let error = |message: String| Checked::Error { message };
  let root = ModuleSpecifier::parse("file:///").expect("a constant URL");
  let Some(specifier) = root.join(name).ok().filter(|it| it.scheme() == "file") else {
    return error(format!("{name} is not the name of a file"));
  };
  let read = deno_ast::parse_program(deno_ast::ParseParams {
    media_type: MediaType::from_specifier(&specifier),
    specifier,
    text: without_mark(code).into(),
    capture_tokens: false,
    maybe_syntax: None,
    scope_analysis: false,
  });
  let at = |diagnostic: &ParseDiagnostic| {
    let position = diagnostic.display_position();
    let (line, column) = (position.line_number, position.column_number);
    error(format!("{name}:{line}:{column}: {}", diagnostic.message()))
  };
  let program = match read {
    Ok(program) => program,
    Err(diagnostic) => return at(&diagnostic),
  };
  // What the parser can mend is an error of the program all the same.
  if let Some(diagnostic) = program.diagnostics().first() {
    return at(diagnostic);
  }
  let transpiled = program.transpile(
    &deno_ast::TranspileOptions::default(),
    &deno_ast::TranspileModuleOptions::default(),
    &deno_ast::EmitOptions::default(),
  );
  match transpiled {
    Ok(_) => Checked::Ok,
    Err(failed) => error(format!("{name}: {failed}")),
  }
}

/// The answer to an `is_complete` request, as Jupyter shapes it.
pub(crate) fn is_complete(code: &str) -> Value {
  let code = without_mark(code);
  let specifier = ModuleSpecifier::parse("file:///cell.ts").expect("a constant URL");
  match parse_cell(code, &specifier, &Declared::default()) {
    Ok(_) => json!({ "status": "complete" }),
    Err(error) if goes_on(&error, code) => json!({ "status": "incomplete", "indent": "    " }),
    Err(_) => json!({ "status": "invalid" }),
  }
}

/// Whether more input could mend the error.
fn goes_on(error: &ParseDiagnostic, code: &str) -> bool {
  let start = error
    .range()
    .as_byte_range(StartSourcePos::START_SOURCE_POS)
    .start;
  match error.kind() {
    SyntaxError::Eof
    | SyntaxError::UnterminatedTpl
    | SyntaxError::UnterminatedBlockComment
    | SyntaxError::UnterminatedJSXContents => true,
    SyntaxError::UnterminatedStrLit | SyntaxError::UnterminatedRegExp => false,
    SyntaxError::Unexpected { got, .. } => got.contains("eof"),
    SyntaxError::Expected(_, got) => got.contains("eof"),
    _ => start >= code.trim_end().len(),
  }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
  use super::*;

  fn javascript(code: &str) -> String {
    javascript_after("", code)
  }

  /// The second of two cells.
  fn javascript_after(first: &str, second: &str) -> String {
    let mut declared = Declared::default();
    prepare(first, "file:///cell-1.ts", &mut declared).expect("transpiles");
    let cell = prepare(second, "file:///cell-1.ts", &mut declared).expect("transpiles");
    let body = cell
      .javascript
      .strip_prefix(PROLOGUE)
      .expect("the prologue");
    let body = body.split("\n//# sourceURL").next().unwrap_or_default();
    // What was taken out leaves spaces behind.
    body.split_whitespace().collect::<Vec<_>>().join(" ")
  }

  fn shows_value(code: &str) -> bool {
    prepare(code, "file:///cell-1.ts", &mut Declared::default())
      .expect("transpiles")
      .shows_value
  }

  #[test]
  fn a_program_is_read_as_what_its_name_says_and_its_first_error_is_told_with_its_place() {
    for (name, code) in [
      (
        "main.ts",
        "import a from './a.ts';\nexport const b: number = await a();",
      ),
      ("main.js", "export default 1"),
      ("main.tsx", "export const a = <p>1</p>;"),
      ("main.js", ""),
    ] {
      assert_eq!(check(name, code), Checked::Ok, "{name}: {code}");
    }
    for (name, code, wanted) in [
      ("main.ts", "const a = 1;\nconst = 2;", "main.ts:2:7: "),
      (
        "main.ts",
        "export const a = 1;\nimport from 1;",
        "main.ts:2:",
      ),
      ("main.js", "const a: number = 1;", "main.js:1:7: "),
      ("main.ts", "f(", "main.ts:1:"),
      ("http://[", "1", "is not the name"),
    ] {
      let Checked::Error { message } = check(name, code) else {
        panic!("{code} can be read");
      };
      assert!(message.contains(wanted), "{message}");
    }
  }

  #[test]
  fn types_are_erased_and_imports_become_dynamic() {
    assert_eq!(javascript("const a: number = 1;"), "let a = 1;");
    for (import, script) in [
      (
        r#"import { sep as s } from "m";"#,
        r#"let { "sep": s } = await import("m");"#,
      ),
      (
        r#"import d, { type T } from "m";"#,
        r#"let { "default": d } = await import("m");"#,
      ),
      (
        r#"import * as n from "m";"#,
        r#"let n = await import("m");"#,
      ),
      (r#"import "m";"#, r#"await import("m");"#),
      (r#"import type { T } from "m";"#, ""),
      (
        r#"import j from "m" with { type: "json" };"#,
        r#"let { "default": j } = await import("m", { with: { type: "json" } });"#,
      ),
    ] {
      assert_eq!(javascript(import), script, "{import}");
    }
  }

  #[test]
  fn exports_are_dropped_and_their_declarations_kept() {
    assert_eq!(javascript("export const a = 1;"), "let a = 1;");
    assert_eq!(javascript("let a = 1; export { a };"), "let a = 1;");
    assert_eq!(
      javascript("export default function f() {}"),
      "function f() {}"
    );
    assert!(shows_value("export default 1 + 1"));
    assert_eq!(
      javascript_after("export default function f() {}", "const f = 1;"),
      "var f = 1;"
    );
    assert_eq!(
      javascript_after("let f = 1", "export default function f() {}"),
      "let f = function f() {};"
    );
    assert_eq!(
      javascript_after("var c = 1", "export default class c {}"),
      "var c = class c {};"
    );
  }

  #[test]
  fn javascript_stays_where_it_was_written() {
    for code in [
      "1  +  1;",
      "const a = 1;\n\n  f( a )",
      "{ a: 1,\n b: 2 }",
      "export let x = [ 1 ]",
    ] {
      let cell = prepare(code, "file:///cell-1.ts", &mut Declared::default()).expect("parses");
      assert!(matches!(cell.map, CellMap::AsWritten(_)), "{code}");
      for (line, written) in cell.javascript.split('\n').skip(1).zip(code.split('\n')) {
        assert_eq!(line.len(), written.len(), "{code}");
        assert!(
          written.ends_with(line.trim_start_matches("let").trim_start()),
          "{code}"
        );
      }
    }
    let cell = prepare("1 as number", "file:///cell-1.ts", &mut Declared::default());
    let map = cell.expect("parses").map;
    assert!(matches!(map, CellMap::Transpiled { .. }));
  }

  #[test]
  fn using_becomes_a_plain_binding() {
    assert_eq!(javascript("using a = f();"), "let a = f();");
    assert_eq!(javascript("await using a = f();"), "let a = f();");
  }

  #[test]
  fn a_name_may_be_declared_again_in_any_way() {
    assert_eq!(
      javascript_after("function f() {}", "const f = 1;"),
      "var f = 1;"
    );
    assert_eq!(javascript_after("var v = 1", "let v = 2;"), "var v = 2;");
    assert_eq!(javascript_after("let v = 1", "var v = 2;"), "let v = 2;");
    assert_eq!(
      javascript_after("var { a } = o", "class a {}"),
      "var a = class a {};"
    );
    assert_eq!(
      javascript_after("const f = 1", "function f() {}"),
      "let f = function f() {};"
    );
    assert_eq!(javascript_after("let v = 1", "const v = 2;"), "let v = 2;");
    let import = javascript_after("var s = 1", r#"import { s, t } from "m";"#);
    assert!(
      import.contains("let { \"t\": t }") && import.contains("var { \"s\": s }"),
      "{import}"
    );
  }

  #[test]
  fn constants_stay_constant_in_every_scope_but_their_own_shadow() {
    let mut declared = Declared::default();
    let mut run = |code: &str| prepare(code, "file:///cell-1.ts", &mut declared).map(|_| ());
    run("const c = 1; let l = 1;").expect("declares");
    for code in [
      "c = 2",
      "c++",
      "function g() { [c] = [2]; }",
      "for (c of []) {}",
    ] {
      let report = run(code).expect_err(code);
      assert_eq!(report.evalue, "Assignment to constant variable.", "{code}");
    }
    for code in [
      "l = 2",
      "function h(c) { c = 2 }",
      "{ let c; c = 2 }",
      "let c = 2; c = 3",
      "c = 4",
    ] {
      run(code).expect(code);
    }
    assert!(run("const k = 1; k = 2").is_err());
  }

  #[test]
  fn an_enum_does_not_merge_with_an_earlier_cell() {
    let text = javascript("enum E { A }");
    assert!(
      text.starts_with("let E = ") && text.ends_with("}({});"),
      "{text}"
    );
    assert!(javascript_after("var E = 1", "enum E { A }").starts_with("var E = "));
  }

  #[test]
  fn a_hashbang_is_a_comment() {
    assert!(javascript("#!/usr/bin/env deno\nlet a = 1").ends_with("let a = 1"));
  }

  #[test]
  fn a_byte_order_mark_means_nothing() {
    assert_eq!(javascript("\u{feff}let a = 1"), "let a = 1");
    assert_eq!(is_complete("\u{feff}f(")["status"], "incomplete");
  }

  #[test]
  fn only_a_trailing_expression_shows_a_value() {
    for code in [
      "1",
      "f()",
      "await f()",
      "new A()",
      "a = 1;",
      "({ a: 1 })",
      "{ a: 1 }",
      "1;;",
    ] {
      assert!(shows_value(code), "{code}");
    }
    for code in [
      "",
      "let a = 1",
      "if (a) 1",
      "for (;;) 1",
      "1; let b = 2",
      "{ let a = 1; }",
      "// x",
    ] {
      assert!(!shows_value(code), "{code}");
    }
  }

  #[test]
  fn a_syntax_error_points_into_the_cell() {
    let report = prepare(
      "let a = 1;\nlet b = ;",
      "file:///cell-1.ts",
      &mut Declared::default(),
    )
    .expect_err("is invalid");
    assert_eq!(report.ename, "SyntaxError");
    assert!(report.evalue.ends_with("(2:9)"), "{}", report.evalue);
  }

  #[test]
  fn completeness_tells_open_from_wrong() {
    for (code, status) in [
      ("1 + 1", "complete"),
      ("", "complete"),
      ("function f() {", "incomplete"),
      ("const a = [1,", "incomplete"),
      ("`abc", "incomplete"),
      ("/* abc", "incomplete"),
      ("if (a) {\n  b(", "incomplete"),
      ("let = = 2", "invalid"),
      (")", "invalid"),
      ("'abc", "invalid"),
    ] {
      assert_eq!(is_complete(code)["status"], status, "{code}");
    }
  }
}
