//! From the TypeScript of a cell to the script the inspector evaluates.
//!
//! A cell is written like a module but evaluated as a script, whose top level knows neither
//! `import`, `export` nor `using`; those are rewritten. Edits keep every other character in place, so
//! the source map stays true to what the user wrote.

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
use deno_ast::swc::ast::ModuleDecl;
use deno_ast::swc::ast::ModuleItem;
use deno_ast::swc::ast::Stmt;
use deno_ast::swc::parser::error::SyntaxError;
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

/// # Errors
/// A report of the syntax error, pointing into the cell.
pub fn prepare(code: &str, name: &str) -> Result<PreparedCell, ErrorReport> {
  let specifier = ModuleSpecifier::parse(name)
    .map_err(|e| ErrorReport::new("Error", format!("not a cell name: {name}: {e}")))?;
  let parsed = parse_cell(code, &specifier).map_err(|e| syntax_error(&e))?;
  let shows_value = matches!(
    last_statement(&parsed),
    Some(ModuleItem::Stmt(Stmt::Expr(_)))
  );
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
  let javascript = format!("{PROLOGUE}{}\n//# sourceURL={name}", emitted.text);
  Ok(PreparedCell {
    javascript,
    source_map,
    shows_value,
  })
}

/// Parses a cell and rewrites what a script cannot hold.
fn parse_cell(code: &str, name: &ModuleSpecifier) -> Result<ParsedSource, ParseDiagnostic> {
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
  let edits: Vec<Edit> = items(&parsed)
    .flat_map(|item| rewrite(item, code))
    .collect();
  if edits.is_empty() {
    Ok(parsed)
  } else {
    parse(apply(code, &edits), name)
  }
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

/// Text to put over a range of the same length or longer; the rest becomes spaces.
struct Edit {
  over: Range<usize>,
  text: &'static str,
}

fn rewrite(item: &ModuleItem, code: &str) -> Option<Edit> {
  match item {
    ModuleItem::Stmt(Stmt::Decl(Decl::Using(using))) => {
      let whole = bytes(&**using);
      // `using x` and `await using x` both become `const x`: a cell's bindings outlive the cell.
      let keyword = code.get(whole.clone())?.find("using")? + "using".len();
      Some(Edit {
        over: whole.start..whole.start + keyword,
        text: "const",
      })
    }
    ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => Some(Edit {
      over: bytes(export).start..bytes(&export.decl).start,
      text: "",
    }),
    ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(export)) => Some(Edit {
      over: bytes(export).start..bytes(&*export.expr).start,
      text: "",
    }),
    ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => {
      let named = match &export.decl {
        DefaultDecl::Fn(function) => function.ident.is_some(),
        DefaultDecl::Class(class) => class.ident.is_some(),
        DefaultDecl::TsInterfaceDecl(_) => true,
      };
      let over = bytes(export).start..bytes(&export.decl).start;
      Some(Edit {
        over,
        text: if named { "" } else { "void" },
      })
    }
    // `export { a }` has nothing to do; `export … from "x"` still runs the module.
    ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) => Some(match &export.src {
      Some(source) => Edit {
        over: bytes(export).start..bytes(&**source).start,
        text: "import",
      },
      None => Edit {
        over: bytes(export),
        text: "",
      },
    }),
    ModuleItem::ModuleDecl(ModuleDecl::ExportAll(export)) => Some(Edit {
      over: bytes(export).start..bytes(&*export.src).start,
      text: "import",
    }),
    _ => None,
  }
}

/// Byte positions in the parsed text.
fn bytes(node: &impl SourceRangedForSpanned) -> Range<usize> {
  node.range().as_byte_range(StartSourcePos::START_SOURCE_POS)
}

fn apply(code: &str, edits: &[Edit]) -> String {
  let mut text = code.to_owned();
  for edit in edits {
    let old = &code[edit.over.clone()];
    let mut new = String::with_capacity(old.len());
    new.push_str(edit.text);
    // Line breaks stay, so that lines do.
    new.extend(
      old
        .bytes()
        .skip(edit.text.len())
        .map(|b| if b == b'\n' { '\n' } else { ' ' }),
    );
    text.replace_range(edit.over.clone(), &new);
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
  match parse_cell(code, &specifier) {
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
    let cell = prepare(code, "file:///cell-1.ts").expect("transpiles");
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
    prepare(code, "file:///cell-1.ts")
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
    let report = prepare("let a = 1;\nlet b = ;", "file:///cell-1.ts").expect_err("is invalid");
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
