//! What a cell declares, and how that is written so that a later cell may declare it again.
//!
//! A cell is written like a module but evaluated as a script in REPL mode. A script knows neither
//! `import`, `export` nor `using` at its top level, and REPL mode lets `let` replace `let`, `const`
//! replace `const`, and nothing else. So every lexical declaration becomes a `let`, and assignments to
//! what the user declared constant are refused here.

use std::collections::HashMap;
use std::ops::Range;

use deno_ast::ParsedSource;
use deno_ast::SourceRangedForSpanned;
use deno_ast::StartSourcePos;
use deno_ast::swc::ast::AssignExpr;
use deno_ast::swc::ast::Decl;
use deno_ast::swc::ast::DefaultDecl;
use deno_ast::swc::ast::Expr;
use deno_ast::swc::ast::ForHead;
use deno_ast::swc::ast::Id;
use deno_ast::swc::ast::Ident;
use deno_ast::swc::ast::ImportDecl;
use deno_ast::swc::ast::ImportSpecifier;
use deno_ast::swc::ast::ModuleDecl;
use deno_ast::swc::ast::ModuleExportName;
use deno_ast::swc::ast::ModuleItem;
use deno_ast::swc::ast::Stmt;
use deno_ast::swc::ast::TsModuleName;
use deno_ast::swc::ast::UpdateExpr;
use deno_ast::swc::ast::VarDecl;
use deno_ast::swc::ast::VarDeclKind;
use deno_ast::swc::ast::VarDeclarator;
use deno_ast::swc::common::SyntaxContext;
use deno_ast::swc::ecma_visit::Visit;
use deno_ast::swc::ecma_visit::VisitWith;
use deno_ast::swc::utils::find_pat_ids;

/// How the isolate knows a name. One kind cannot replace the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
  Lexical,
  /// `var`, function, namespace: a property of the global object.
  Global,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Declaration {
  pub binding: Binding,
  /// Whether the user may not assign to it.
  pub constant: bool,
}

/// Every top-level name that cells have declared so far.
#[derive(Debug, Default)]
pub(crate) struct Declared(HashMap<String, Declaration>);

impl Declared {
  fn binding(&self, name: &str) -> Option<Binding> {
    self.0.get(name).map(|d| d.binding)
  }

  fn conflicts(&self, name: &str, binding: Binding) -> bool {
    self.binding(name).is_some_and(|earlier| earlier != binding)
  }

  /// The keyword that declares `name` in the way the isolate knows it already.
  pub(crate) fn keyword(&self, name: &str) -> &'static str {
    if self.binding(name) == Some(Binding::Global) {
      "var"
    } else {
      "let"
    }
  }

  pub(crate) fn add(&mut self, declarations: Vec<(String, Declaration)>) {
    for (name, mut declaration) in declarations {
      // It stays what it is to the isolate: the cell was rewritten to fit that.
      declaration.binding = self.binding(&name).unwrap_or(declaration.binding);
      self.0.insert(name, declaration);
    }
  }

  /// A top-level name that `parsed` assigns to although it is constant, and where. Needs scope
  /// analysis.
  pub(crate) fn assigned_constant(
    &self,
    parsed: &ParsedSource,
    new: &[(String, Declaration)],
  ) -> Option<(String, Range<usize>)> {
    let is_constant = |name: &str| match new.iter().find(|(n, _)| n == name) {
      Some((_, declaration)) => declaration.constant,
      None => self.0.get(name).is_some_and(|d| d.constant),
    };
    let mut assignments = Assignments {
      top_level: [parsed.top_level_context(), parsed.unresolved_context()],
      found: Vec::new(),
    };
    match parsed.program_ref() {
      deno_ast::ProgramRef::Module(module) => module.visit_with(&mut assignments),
      deno_ast::ProgramRef::Script(script) => script.visit_with(&mut assignments),
    }
    assignments
      .found
      .into_iter()
      .find(|(name, _)| is_constant(name))
  }
}

/// Collects assignments to top-level names.
struct Assignments {
  top_level: [SyntaxContext; 2],
  found: Vec<(String, Range<usize>)>,
}

impl Assignments {
  fn note(&mut self, ids: Vec<Id>, at: Range<usize>) {
    let top_level = ids
      .into_iter()
      .filter(|(_, context)| self.top_level.contains(context));
    self
      .found
      .extend(top_level.map(|(name, _)| (name.to_string(), at.clone())));
  }
}

impl Visit for Assignments {
  fn visit_assign_expr(&mut self, node: &AssignExpr) {
    self.note(find_pat_ids(&node.left), bytes(node));
    node.visit_children_with(self);
  }

  fn visit_update_expr(&mut self, node: &UpdateExpr) {
    if let Expr::Ident(ident) = &*node.arg {
      self.note(vec![ident.to_id()], bytes(node));
    }
    node.visit_children_with(self);
  }

  fn visit_for_head(&mut self, node: &ForHead) {
    if let ForHead::Pat(pattern) = node {
      self.note(find_pat_ids(pattern), bytes(&**pattern));
    }
    node.visit_children_with(self);
  }
}

pub(crate) fn items(parsed: &ParsedSource) -> impl DoubleEndedIterator<Item = &ModuleItem> {
  let body: &[ModuleItem] = match parsed.program_ref() {
    deno_ast::ProgramRef::Module(module) => &module.body,
    deno_ast::ProgramRef::Script(_) => &[],
  };
  body.iter()
}

/// The top-level names a cell declares.
pub(crate) fn declarations(parsed: &ParsedSource) -> Vec<(String, Declaration)> {
  items(parsed).flat_map(declarations_of).collect()
}

fn declarations_of(item: &ModuleItem) -> Vec<(String, Declaration)> {
  const LET: Declaration = Declaration {
    binding: Binding::Lexical,
    constant: false,
  };
  const CONST: Declaration = Declaration {
    binding: Binding::Lexical,
    constant: true,
  };
  const VAR: Declaration = Declaration {
    binding: Binding::Global,
    constant: false,
  };
  let one = |ident: &Ident, declaration| vec![(ident.sym.to_string(), declaration)];
  let each = |names: Vec<String>, d| names.into_iter().map(|name| (name, d)).collect();
  match declaration_of(item) {
    Some(Decl::Var(var)) if var.declare => Vec::new(),
    Some(Decl::Var(var)) => each(
      names_of(&var.decls),
      match var.kind {
        VarDeclKind::Var => VAR,
        VarDeclKind::Let => LET,
        VarDeclKind::Const => CONST,
      },
    ),
    Some(Decl::Using(using)) => each(names_of(&using.decls), CONST),
    Some(Decl::Fn(function)) if !function.declare => one(&function.ident, VAR),
    Some(Decl::Class(class)) if !class.declare => one(&class.ident, LET),
    Some(Decl::TsEnum(e)) if !e.declare => one(&e.id, LET),
    Some(Decl::TsModule(module)) if !module.declare => match &module.id {
      TsModuleName::Ident(ident) => one(ident, VAR),
      TsModuleName::Str(_) => Vec::new(),
    },
    Some(_) => Vec::new(),
    None => match item {
      ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => {
        let values = value_specifiers(import);
        each(
          values.iter().map(|s| s.local().sym.to_string()).collect(),
          CONST,
        )
      }
      _ => match default_name(item) {
        Some((ident, Binding::Global, _)) => one(ident, VAR),
        Some((ident, Binding::Lexical, _)) => one(ident, LET),
        None => Vec::new(),
      },
    },
  }
}

/// The name in `export default function f() {}` or `export default class C {}`, and where the
/// declaration lies.
fn default_name(item: &ModuleItem) -> Option<(&Ident, Binding, Range<usize>)> {
  let ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) = item else {
    return None;
  };
  let (ident, binding) = match &export.decl {
    DefaultDecl::Fn(function) => (&function.ident, Binding::Global),
    DefaultDecl::Class(class) => (&class.ident, Binding::Lexical),
    DefaultDecl::TsInterfaceDecl(_) => return None,
  };
  Some((ident.as_ref()?, binding, bytes(&export.decl)))
}

fn declaration_of(item: &ModuleItem) -> Option<&Decl> {
  match item {
    ModuleItem::Stmt(Stmt::Decl(decl)) => Some(decl),
    ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => Some(&export.decl),
    _ => None,
  }
}

fn names_of(decls: &Vec<VarDeclarator>) -> Vec<String> {
  find_pat_ids::<_, Id>(decls)
    .into_iter()
    .map(|(name, _)| name.to_string())
    .collect()
}

/// Specifiers of an import that are there at run time.
fn value_specifiers(import: &ImportDecl) -> Vec<&ImportSpecifier> {
  let is_value = |specifier: &&ImportSpecifier| match specifier {
    ImportSpecifier::Named(named) => !named.is_type_only,
    ImportSpecifier::Default(_) | ImportSpecifier::Namespace(_) => true,
  };
  if import.type_only {
    Vec::new()
  } else {
    import.specifiers.iter().filter(is_value).collect()
  }
}

/// Names of top-level enums that the cell declares once.
pub(crate) fn enum_names(parsed: &ParsedSource) -> Vec<String> {
  let mut names: Vec<String> = Vec::new();
  for item in items(parsed) {
    if let Some(Decl::TsEnum(e)) = declaration_of(item)
      && !e.declare
    {
      names.push(e.id.sym.to_string());
    }
  }
  let once = |name: &String| names.iter().filter(|n| *n == name).count() == 1;
  names.iter().filter(|name| once(name)).cloned().collect()
}

/// Text to put over a range; what it leaves of the range becomes spaces.
#[derive(Debug)]
struct Edit {
  over: Range<usize>,
  text: String,
}

impl Edit {
  fn insert(at: usize, text: &str) -> Self {
    Self {
      over: at..at,
      text: text.to_owned(),
    }
  }
}

/// The cell as a script may hold it, or `None` when nothing has to change. Lines stay where they are.
pub(crate) fn as_script(parsed: &ParsedSource, code: &str, declared: &Declared) -> Option<String> {
  let mut edits: Vec<Edit> = items(parsed)
    .flat_map(|item| {
      let import = unwrap_export(item).into_iter();
      import.chain(declare_anew(item, code, declared))
    })
    .collect();
  if edits.is_empty() {
    return None;
  }
  // From the end, so that the positions before stay true.
  edits.sort_by_key(|edit| std::cmp::Reverse((edit.over.start, edit.over.end)));
  let mut text = code.to_owned();
  for Edit {
    over,
    text: mut new,
  } in edits
  {
    let left = text[over.clone()].bytes().skip(new.len());
    let blank: String = left.map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    // A longer text takes no line away either.
    let lines = text[over.clone()].matches('\n').count();
    let kept = blank.matches('\n').count();
    new.push_str(&blank);
    new.push_str(&"\n".repeat(lines - kept));
    text.replace_range(over, &new);
  }
  Some(text)
}

/// Takes `export` away, and keeps what it exports.
fn unwrap_export(item: &ModuleItem) -> Option<Edit> {
  let edit = |over, text: &str| {
    Some(Edit {
      over,
      text: text.to_owned(),
    })
  };
  let ModuleItem::ModuleDecl(declaration) = item else {
    return None;
  };
  match declaration {
    ModuleDecl::ExportDecl(export) => edit(bytes(export).start..bytes(&export.decl).start, ""),
    ModuleDecl::ExportDefaultExpr(export) => {
      edit(bytes(export).start..bytes(&*export.expr).start, "")
    }
    ModuleDecl::ExportDefaultDecl(export) => {
      let named = match &export.decl {
        DefaultDecl::Fn(function) => function.ident.is_some(),
        DefaultDecl::Class(class) => class.ident.is_some(),
        DefaultDecl::TsInterfaceDecl(_) => true,
      };
      let keywords = bytes(export).start..bytes(&export.decl).start;
      edit(keywords, if named { "" } else { "void" })
    }
    // `export { a }` has nothing to do; `export … from "x"` still runs the module.
    ModuleDecl::ExportNamed(export) => match &export.src {
      Some(source) if !export.type_only => edit(
        bytes(export),
        &format!("await import({});", quoted(&source.value.to_string_lossy())),
      ),
      _ => edit(bytes(export), ""),
    },
    ModuleDecl::ExportAll(export) if !export.type_only => {
      let source = export.src.value.to_string_lossy();
      edit(
        bytes(export),
        &format!("await import({});", quoted(&source)),
      )
    }
    ModuleDecl::ExportAll(export) => edit(bytes(export), ""),
    _ => None,
  }
}

/// Writes a declaration so that it may replace what an earlier cell declared under its name.
fn declare_anew(item: &ModuleItem, code: &str, declared: &Declared) -> Vec<Edit> {
  if let ModuleItem::ModuleDecl(ModuleDecl::Import(import)) = item {
    return vec![Edit {
      over: bytes(import),
      text: dynamic_import(import, code, declared),
    }];
  }
  let as_value = |whole: Range<usize>, keyword: &str, ident: &Ident| {
    vec![
      Edit::insert(whole.start, &format!("{keyword} {} = ", ident.sym)),
      Edit::insert(whole.end, ";"),
    ]
  };
  if let Some((ident, binding, whole)) = default_name(item)
    && declared.conflicts(&ident.sym, binding)
  {
    let keyword = declared.keyword(&ident.sym);
    return as_value(whole, keyword, ident);
  }
  match declaration_of(item) {
    Some(Decl::Var(var)) if !var.declare => keyword_edit(var, declared).into_iter().collect(),
    Some(Decl::Using(using)) => {
      // `using x` and `await using x` both bind for good: a cell's names outlive the cell.
      let whole = bytes(&**using);
      let keyword = code.get(whole.clone()).and_then(|text| text.find("using"));
      let over = keyword.map(|at| whole.start..whole.start + at + "using".len());
      over
        .map(|over| Edit {
          over,
          text: "let".to_owned(),
        })
        .into_iter()
        .collect()
    }
    Some(Decl::Fn(function)) if declared.conflicts(&function.ident.sym, Binding::Global) => {
      as_value(bytes(function), "let", &function.ident)
    }
    Some(Decl::Class(class)) if declared.conflicts(&class.ident.sym, Binding::Lexical) => {
      as_value(bytes(class), "var", &class.ident)
    }
    // Enums are rewritten once they are JavaScript.
    _ => Vec::new(),
  }
}

fn keyword_edit(var: &VarDecl, declared: &Declared) -> Option<Edit> {
  let written = match var.kind {
    VarDeclKind::Var => "var",
    VarDeclKind::Let => "let",
    VarDeclKind::Const => "const",
  };
  let own = if var.kind == VarDeclKind::Var {
    Binding::Global
  } else {
    Binding::Lexical
  };
  let conflict = names_of(&var.decls)
    .iter()
    .any(|name| declared.conflicts(name, own));
  let keyword = if (own == Binding::Global) == conflict {
    "let"
  } else {
    "var"
  };
  let start = bytes(var).start;
  let over = start..start + written.len();
  (keyword != written).then(|| Edit {
    over,
    text: keyword.to_owned(),
  })
}

/// `import a, { b as c } from "x"` as statements of a script.
fn dynamic_import(import: &ImportDecl, code: &str, declared: &Declared) -> String {
  let values = value_specifiers(import);
  if import.type_only || (values.is_empty() && !import.specifiers.is_empty()) {
    return String::new();
  }
  let source = quoted(&import.src.value.to_string_lossy());
  let with = import
    .with
    .as_ref()
    .and_then(|with| code.get(bytes(&**with)));
  let module = match with {
    Some(with) => format!("await import({source}, {{ with: {with} }})"),
    None => format!("await import({source})"),
  };
  let mut members = Vec::new();
  let mut namespace = None;
  for value in values {
    let local = &value.local().sym;
    match value {
      ImportSpecifier::Namespace(_) => namespace = Some(local),
      ImportSpecifier::Default(_) => members.push(("\"default\"".to_owned(), local)),
      ImportSpecifier::Named(named) => {
        let imported = match &named.imported {
          Some(ModuleExportName::Ident(ident)) => quoted(&ident.sym),
          Some(ModuleExportName::Str(text)) => quoted(&text.value.to_string_lossy()),
          None => quoted(local),
        };
        members.push((imported, local));
      }
    }
  }
  let mut text = String::new();
  let from = match namespace {
    Some(name) => {
      text.push_str(&format!("{} {name} = {module};", declared.keyword(name)));
      name.to_string()
    }
    None => module,
  };
  // Each kind of binding is declared by a statement of its own.
  for keyword in ["let", "var"] {
    let members: Vec<_> = members
      .iter()
      .filter(|(_, local)| declared.keyword(local) == keyword)
      .map(|(imported, local)| format!("{imported}: {local}"))
      .collect();
    if !members.is_empty() {
      text.push_str(&format!("{keyword} {{ {} }} = {from};", members.join(", ")));
    }
  }
  if text.is_empty() {
    format!("{from};")
  } else {
    text
  }
}

fn quoted(text: &str) -> String {
  serde_json::Value::from(text).to_string()
}

/// Byte positions in the parsed text.
pub(crate) fn bytes(node: &impl SourceRangedForSpanned) -> Range<usize> {
  node.range().as_byte_range(StartSourcePos::START_SOURCE_POS)
}
