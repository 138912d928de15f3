//! From the TypeScript of a cell to the script the inspector evaluates.
//!
//! A cell is written like a module but evaluated as a script, whose top level knows neither
//! `import`, `export` nor `using`; those are rewritten. Edits keep every other character in place, so
//! the source map stays true to what the user wrote.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use deno_ast::MediaType;
use deno_ast::ModuleSpecifier;
use deno_ast::ParseDiagnostic;
use deno_ast::ParsedSource;
use deno_ast::SourceRangedForSpanned;
use deno_ast::StartSourcePos;
use deno_ast::diagnostics::Diagnostic;
use deno_ast::swc::ast::Decl;
use deno_ast::swc::ast::DefaultDecl;
use deno_ast::swc::ast::Expr;
use deno_ast::swc::ast::Id;
use deno_ast::swc::ast::Ident;
use deno_ast::swc::ast::ModuleDecl;
use deno_ast::swc::ast::ModuleItem;
use deno_ast::swc::ast::Stmt;
use deno_ast::swc::ast::TsModuleName;
use deno_ast::swc::ast::VarDeclKind;
use deno_ast::swc::ast::VarDeclarator;
use deno_ast::swc::parser::error::SyntaxError;
use deno_ast::swc::utils::find_pat_ids;
use serde_json::Value;
use serde_json::json;

use crate::protocol::ErrorReport;

/// A cell, ready for `Runtime.evaluate`.
#[derive(Debug)]
pub struct PreparedCell {
  pub javascript: String,
  pub source_map: Option<Vec<u8>>,
  /// Whether the last statement is an expression, whose value the user wants to see.
  pub shows_value: bool,
}

/// Strict like a module; a line of its own, so that the cell's columns stay.
const PROLOGUE: &str = "'use strict'; void 0;\n";

/// How a name of an earlier cell was declared. REPL mode lets `let`, `const` and `class` replace
/// each other, but neither them replace a `var` or function, nor the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
  Lexical,
  Var,
}

/// Every top-level name that cells have declared so far.
pub type Declared = HashMap<String, Kind>;

/// Rewrites and transpiles a cell; notes in `declared` what it declares.
///
/// # Errors
/// A report of the syntax error, pointing into the cell.
pub fn prepare(
  code: &str,
  name: &str,
  declared: &mut Declared,
) -> Result<PreparedCell, ErrorReport> {
  let specifier = ModuleSpecifier::parse(name)
    .map_err(|e| ErrorReport::new("Error", format!("not a cell name: {name}: {e}")))?;
  let parsed = parse_cell(code, &specifier, declared).map_err(|e| syntax_error(&e))?;
  let shows_value = matches!(
    last_statement(&parsed),
    Some(ModuleItem::Stmt(Stmt::Expr(_)))
  );
  let enums = enum_names(&parsed);
  let new: Vec<_> = items(&parsed).flat_map(declarations).collect();
  let emitted = parsed
    .transpile(
      &deno_ast::TranspileOptions {
        // An import this cell does not use is for the cells after it.
        verbatim_module_syntax: true,
        var_decl_imports: true,
        ..Default::default()
      },
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
  // An empty first line in the mappings stands for the prologue.
  let source_map = emitted.source_map.map(|m| {
    m.replacen(r#""mappings":""#, r#""mappings":";"#, 1)
      .into_bytes()
  });
  let text = fresh_enums(emitted.text, &enums, declared);
  let javascript = format!("{PROLOGUE}{text}\n//# sourceURL={name}");
  for (name, kind) in new {
    declared.entry(name).or_insert(kind);
  }
  Ok(PreparedCell {
    javascript,
    source_map,
    shows_value,
  })
}

/// Parses a cell and rewrites what a script cannot hold.
fn parse_cell(
  code: &str,
  name: &ModuleSpecifier,
  declared: &Declared,
) -> Result<ParsedSource, ParseDiagnostic> {
  // The prologue stands before it, where a hashbang would be an error.
  let commented = code.strip_prefix("#!").map(|rest| format!("//{rest}"));
  let code = commented.as_deref().unwrap_or(code);
  // `{ a: 1 }` means the object, as in every REPL, when it can.
  let trimmed = code.trim();
  if trimmed.starts_with('{')
    && trimmed.ends_with('}')
    && let Ok(parsed) = parse(format!("({code}\n)"), name)
    && matches!(last_statement(&parsed), Some(ModuleItem::Stmt(Stmt::Expr(e))) if is_object(&e.expr))
  {
    return Ok(parsed);
  }
  let parsed = parse(code.to_owned(), name)?;
  let mut edits: Vec<Edit> = Vec::new();
  for item in items(&parsed) {
    edits.extend(rewrite(item, code));
    edits.extend(redeclare(item, declared));
  }
  if edits.is_empty() {
    Ok(parsed)
  } else {
    parse(apply(code, edits), name)
  }
}

/// The top-level names a statement declares.
fn declarations(item: &ModuleItem) -> Vec<(String, Kind)> {
  let decl = match item {
    ModuleItem::Stmt(Stmt::Decl(decl)) => decl,
    ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => &export.decl,
    ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => {
      let names = import.specifiers.iter().map(|s| s.local().sym.to_string());
      return names.map(|name| (name, Kind::Lexical)).collect();
    }
    _ => return Vec::new(),
  };
  let one = |ident: &Ident, kind| vec![(ident.sym.to_string(), kind)];
  match decl {
    Decl::Var(var) => {
      let kind = if var.kind == VarDeclKind::Var {
        Kind::Var
      } else {
        Kind::Lexical
      };
      names_of(&var.decls).map(|name| (name, kind)).collect()
    }
    Decl::Using(using) => names_of(&using.decls)
      .map(|name| (name, Kind::Lexical))
      .collect(),
    Decl::Fn(function) => one(&function.ident, Kind::Var),
    Decl::Class(class) => one(&class.ident, Kind::Lexical),
    Decl::TsEnum(e) => one(&e.id, Kind::Lexical),
    Decl::TsModule(module) => match &module.id {
      TsModuleName::Ident(ident) => one(ident, Kind::Var),
      TsModuleName::Str(_) => Vec::new(),
    },
    Decl::TsInterface(_) | Decl::TsTypeAlias(_) => Vec::new(),
  }
}

fn names_of(decls: &Vec<VarDeclarator>) -> impl Iterator<Item = String> {
  find_pat_ids::<_, Id>(decls)
    .into_iter()
    .map(|(name, _)| name.to_string())
}

/// Writes a declaration in the way that may replace what an earlier cell declared under its name.
fn redeclare(item: &ModuleItem, declared: &Declared) -> Vec<Edit> {
  let conflict = declarations(item)
    .iter()
    .any(|(name, kind)| declared.get(name).is_some_and(|earlier| earlier != kind));
  let decl = match item {
    ModuleItem::Stmt(Stmt::Decl(decl)) if conflict => decl,
    ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) if conflict => &export.decl,
    _ => return Vec::new(),
  };
  let whole = bytes(decl);
  let keyword = |old: &str, new: &str| {
    vec![Edit {
      over: whole.start..whole.start + old.len(),
      text: new.to_owned(),
    }]
  };
  let as_value = |keyword: &str, ident: &Ident| {
    let before = format!("{keyword} {} = ", ident.sym);
    vec![
      Edit {
        over: whole.start..whole.start,
        text: before,
      },
      Edit {
        over: whole.end..whole.end,
        text: ";".to_owned(),
      },
    ]
  };
  match decl {
    Decl::Var(var) => match var.kind {
      VarDeclKind::Var => keyword("var", "let"),
      VarDeclKind::Let => keyword("let", "var"),
      VarDeclKind::Const => keyword("const", "var"),
    },
    Decl::Fn(function) => as_value("let", &function.ident),
    Decl::Class(class) => as_value("var", &class.ident),
    // Enums are rewritten once they are JavaScript.
    _ => Vec::new(),
  }
}

/// Names of top-level enums that the cell declares once.
fn enum_names(parsed: &ParsedSource) -> Vec<String> {
  let mut names: Vec<String> = Vec::new();
  for item in items(parsed) {
    if let ModuleItem::Stmt(Stmt::Decl(Decl::TsEnum(e))) = item
      && !e.declare
    {
      names.push(e.id.sym.to_string());
    }
  }
  let once = |name: &String| names.iter().filter(|n| *n == name).count() == 1;
  names.iter().filter(|name| once(name)).cloned().collect()
}

/// TypeScript merges an enum into one of the same name; here that would be the one of an earlier
/// cell, often its own former version. Makes each a new, lexical binding.
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
    if declared.get(name) != Some(&Kind::Var) {
      text.replace_range(start..start + "var".len(), "let");
    }
  }
  text
}

fn is_object(expr: &Expr) -> bool {
  matches!(expr, Expr::Paren(p) if matches!(*p.expr, Expr::Object(_)))
}

/// As TypeScript, and when that fails as TSX; the first error is the one to show.
fn parse(text: String, specifier: &ModuleSpecifier) -> Result<ParsedSource, ParseDiagnostic> {
  let text: Arc<str> = text.into();
  let parse_as = |media_type| {
    deno_ast::parse_module(deno_ast::ParseParams {
      specifier: specifier.clone(),
      text: text.clone(),
      media_type,
      capture_tokens: false,
      scope_analysis: false,
      maybe_syntax: None,
    })
    .and_then(|parsed| match parsed.diagnostics().first() {
      Some(error) => Err(error.clone()),
      None => Ok(parsed),
    })
  };
  parse_as(MediaType::TypeScript).or_else(|e| parse_as(MediaType::Tsx).map_err(|_| e))
}

fn items(parsed: &ParsedSource) -> impl DoubleEndedIterator<Item = &ModuleItem> {
  let body: &[ModuleItem] = match parsed.program_ref() {
    deno_ast::ProgramRef::Module(module) => &module.body,
    deno_ast::ProgramRef::Script(_) => &[],
  };
  body.iter()
}

fn last_statement(parsed: &ParsedSource) -> Option<&ModuleItem> {
  items(parsed)
    .rev()
    .find(|item| !matches!(item, ModuleItem::Stmt(Stmt::Empty(_))))
}

/// Text to put over a range; what it leaves of the range becomes spaces.
struct Edit {
  over: Range<usize>,
  text: String,
}

/// Turns what only a module can hold into what a script can.
fn rewrite(item: &ModuleItem, code: &str) -> Option<Edit> {
  let edit = |over, text: &str| {
    Some(Edit {
      over,
      text: text.to_owned(),
    })
  };
  match item {
    ModuleItem::Stmt(Stmt::Decl(Decl::Using(using))) => {
      let whole = bytes(&**using);
      // `using x` and `await using x` both become `const x`: a cell's bindings outlive the cell.
      let keyword = code.get(whole.clone())?.find("using")? + "using".len();
      edit(whole.start..whole.start + keyword, "const")
    }
    ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => {
      edit(bytes(export).start..bytes(&export.decl).start, "")
    }
    ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(export)) => {
      edit(bytes(export).start..bytes(&*export.expr).start, "")
    }
    ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => {
      let named = match &export.decl {
        DefaultDecl::Fn(function) => function.ident.is_some(),
        DefaultDecl::Class(class) => class.ident.is_some(),
        DefaultDecl::TsInterfaceDecl(_) => true,
      };
      let keywords = bytes(export).start..bytes(&export.decl).start;
      edit(keywords, if named { "" } else { "void" })
    }
    // `export { a }` has nothing to do; `export … from "x"` still runs the module.
    ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) => match &export.src {
      Some(source) => edit(bytes(export).start..bytes(&**source).start, "import"),
      None => edit(bytes(export), ""),
    },
    ModuleItem::ModuleDecl(ModuleDecl::ExportAll(export)) => {
      edit(bytes(export).start..bytes(&*export.src).start, "import")
    }
    _ => None,
  }
}

/// Byte positions in the parsed text.
fn bytes(node: &impl SourceRangedForSpanned) -> Range<usize> {
  node.range().as_byte_range(StartSourcePos::START_SOURCE_POS)
}

fn apply(code: &str, mut edits: Vec<Edit>) -> String {
  // From the end, so that the positions before stay true.
  edits.sort_by_key(|edit| std::cmp::Reverse((edit.over.start, edit.over.end)));
  let mut text = code.to_owned();
  for Edit {
    over,
    text: mut new,
  } in edits
  {
    // Line breaks stay, so that lines do.
    let left = text[over.clone()].bytes().skip(new.len());
    new.extend(
      left
        .map(|b| if b == b'\n' { '\n' } else { ' ' })
        .collect::<Vec<_>>(),
    );
    text.replace_range(over, &new);
  }
  text
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
  }
}

/// The answer to an `is_complete` request, as Jupyter shapes it.
pub fn is_complete(code: &str) -> Value {
  let specifier = ModuleSpecifier::parse("file:///cell.ts").expect("a constant URL");
  match parse_cell(code, &specifier, &Declared::new()) {
    Ok(_) => json!({ "status": "complete" }),
    Err(error) if goes_on(&error, code) => json!({ "status": "incomplete", "indent": "    " }),
    Err(_) => json!({ "status": "invalid" }),
  }
}

/// Whether more input could mend the error.
fn goes_on(error: &ParseDiagnostic, code: &str) -> bool {
  let at_end = error
    .range()
    .as_byte_range(StartSourcePos::START_SOURCE_POS)
    .end
    >= code.trim_end().len();
  match error.kind() {
    SyntaxError::Eof
    | SyntaxError::UnterminatedTpl
    | SyntaxError::UnterminatedBlockComment
    | SyntaxError::UnterminatedJSXContents => true,
    SyntaxError::UnterminatedStrLit | SyntaxError::UnterminatedRegExp => false,
    SyntaxError::Unexpected { got, .. } => got.contains("eof"),
    SyntaxError::Expected(_, got) => got.contains("eof"),
    _ => at_end && error.message().contains("eof"),
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn javascript(code: &str) -> String {
    javascript_after("", code)
  }

  /// The second of two cells.
  fn javascript_after(first: &str, second: &str) -> String {
    let mut declared = Declared::new();
    prepare(first, "file:///cell-1.ts", &mut declared).expect("transpiles");
    let cell = prepare(second, "file:///cell-1.ts", &mut declared).expect("transpiles");
    let body = cell
      .javascript
      .strip_prefix(PROLOGUE)
      .expect("the prologue");
    body
      .split("\n//# sourceURL")
      .next()
      .unwrap_or_default()
      .trim()
      .to_owned()
  }

  fn shows_value(code: &str) -> bool {
    prepare(code, "file:///cell-1.ts", &mut Declared::new())
      .expect("transpiles")
      .shows_value
  }

  #[test]
  fn types_are_erased_and_imports_become_dynamic() {
    assert_eq!(javascript("const a: number = 1;"), "const a = 1;");
    let import = javascript(r#"import { sep as s } from "node:path";"#);
    assert!(
      import.contains("await import(\"node:path\")") && import.contains("sep: s"),
      "{import}"
    );
  }

  #[test]
  fn exports_are_dropped_and_their_declarations_kept() {
    assert_eq!(javascript("export const a = 1;"), "const a = 1;");
    assert_eq!(javascript("const a = 1; export { a };"), "const a = 1;");
    assert_eq!(
      javascript("export default function f() {}"),
      "function f() {}"
    );
    assert!(shows_value("export default 1 + 1"));
  }

  #[test]
  fn using_becomes_const() {
    assert_eq!(javascript("using a = f();"), "const a = f();");
    assert_eq!(javascript("await using a = f();"), "const a = f();");
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
      "var a = class a {\n};"
    );
    assert_eq!(
      javascript_after("const f = 1", "function f() {}"),
      "let f = function f() {};"
    );
    assert_eq!(
      javascript_after("let v = 1", "const v = 2;"),
      "const v = 2;"
    );
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
    assert!(javascript("#!/usr/bin/env deno\n1").ends_with("1;"));
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
      &mut Declared::new(),
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
