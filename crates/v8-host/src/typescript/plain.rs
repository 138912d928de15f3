//! Whether a cell is JavaScript as it stands, so that nothing has to be transpiled.

use deno_ast::ParsedSource;
use deno_ast::swc::ast;
use deno_ast::swc::ecma_visit::Visit;
use deno_ast::swc::ecma_visit::VisitWith;

/// Whether V8 can run a cell as it was parsed, apart from what is rewritten at its top level: `import`, `export`.
pub(super) fn is_plain(parsed: &ParsedSource) -> bool {
  let mut finder = Finder { found: false };
  match parsed.program_ref() {
    deno_ast::ProgramRef::Module(module) => module.visit_with(&mut finder),
    deno_ast::ProgramRef::Script(script) => script.visit_with(&mut finder),
  }
  !finder.found
}

/// Looks for what has to be transpiled.
struct Finder {
  found: bool,
}

/// Nodes that only TypeScript or JSX has, and those that Deno transpiles although V8 may know them.
macro_rules! foreign {
  ($($visit:ident: $node:ident,)*) => {
    $(fn $visit(&mut self, _: &ast::$node) {
      self.found = true;
    })*
  };
}

/// Nodes of both that have marks of TypeScript.
macro_rules! marked {
  ($($visit:ident: $node:ident => |$it:ident| $marked:expr,)*) => {
    $(fn $visit(&mut self, $it: &ast::$node) {
      self.found |= $marked;
      $it.visit_children_with(self);
    })*
  };
}

impl Visit for Finder {
  foreign! {
    visit_auto_accessor: AutoAccessor,
    visit_decorator: Decorator,
    visit_jsx_element: JSXElement,
    visit_jsx_fragment: JSXFragment,
    visit_ts_as_expr: TsAsExpr,
    visit_ts_const_assertion: TsConstAssertion,
    visit_ts_enum_decl: TsEnumDecl,
    visit_ts_export_assignment: TsExportAssignment,
    visit_ts_expr_with_type_args: TsExprWithTypeArgs,
    visit_ts_import_equals_decl: TsImportEqualsDecl,
    visit_ts_index_signature: TsIndexSignature,
    visit_ts_instantiation: TsInstantiation,
    visit_ts_interface_decl: TsInterfaceDecl,
    visit_ts_module_decl: TsModuleDecl,
    visit_ts_namespace_export_decl: TsNamespaceExportDecl,
    visit_ts_non_null_expr: TsNonNullExpr,
    visit_ts_param_prop: TsParamProp,
    visit_ts_satisfies_expr: TsSatisfiesExpr,
    visit_ts_type_alias_decl: TsTypeAliasDecl,
    visit_ts_type_ann: TsTypeAnn,
    visit_ts_type_assertion: TsTypeAssertion,
    visit_ts_type_param_decl: TsTypeParamDecl,
    visit_ts_type_param_instantiation: TsTypeParamInstantiation,
    visit_using_decl: UsingDecl,
  }

  marked! {
    visit_array_pat: ArrayPat => |it| it.optional,
    visit_binding_ident: BindingIdent => |it| it.id.optional || &*it.id.sym == "this",
    visit_class: Class => |it| it.is_abstract,
    visit_class_decl: ClassDecl => |it| it.declare,
    visit_class_method: ClassMethod => |it| {
      it.accessibility.is_some() || it.is_abstract || it.is_optional || it.is_override
    },
    visit_class_prop: ClassProp => |it| {
      it.accessibility.is_some() || it.is_abstract || it.is_optional || it.is_override
        || it.readonly || it.declare || it.definite
    },
    visit_constructor: Constructor => |it| {
      it.accessibility.is_some() || it.is_optional || it.body.is_none()
    },
    visit_fn_decl: FnDecl => |it| it.declare,
    visit_function: Function => |it| it.body.is_none(),
    visit_object_pat: ObjectPat => |it| it.optional,
    visit_private_method: PrivateMethod => |it| {
      it.accessibility.is_some() || it.is_abstract || it.is_optional || it.is_override
    },
    visit_private_prop: PrivateProp => |it| {
      it.accessibility.is_some() || it.is_optional || it.is_override || it.readonly || it.definite
    },
    visit_var_decl: VarDecl => |it| it.declare,
    visit_var_declarator: VarDeclarator => |it| it.definite,
  }
}

#[cfg(test)]
mod tests {
  use deno_ast::ModuleSpecifier;

  use super::*;
  use crate::typescript::transpile::parse;

  fn plain(code: &str) -> bool {
    let specifier = ModuleSpecifier::parse("file:///cell-1.ts").expect("a constant URL");
    is_plain(&parse(code.to_owned(), &specifier).expect(code))
  }

  #[test]
  fn javascript_is_plain() {
    for code in [
      "",
      "1 + 1",
      "const a = 1, { b, ...c } = f(), [d = 2, , ...e] = g`x${a}`;",
      "class A extends B { static #p = 1; #m() {} get x() { return this.#p } static { this.y = 1 } constructor() { super() } }",
      "async function* f(a, [b], { c } = {}, ...d) { for await (const x of a) yield* x }",
      "label: for (let i = 0; i < 9 && !(i > 1); i++) { try { continue label } catch { } finally { } }",
      "x?.y?.[0]?.(1) ?? (z ||= 2)",
      "({ a, 'b': 1, [c]: 2, get d() { return this }, set d(v) {}, async *e() {} })",
      "import a, { b as c } from 'm'; export default a; export * from 'n'; export { c };",
      "a < b > (c, d)",
      "import('m'); import.meta; /re/v.test(1n); a ** b; type; declare; readonly = abstract",
    ] {
      // Where TypeScript reads something else, it is not plain.
      assert_eq!(plain(code), code != "a < b > (c, d)", "{code}");
    }
  }

  #[test]
  fn what_v8_cannot_run_is_not_plain() {
    for code in [
      "let a: number",
      "let a!: number",
      "declare let a",
      "declare function f()",
      "declare class A {}",
      "declare module 'm' {}",
      "declare global {}",
      "a as any",
      "a as const",
      "a!",
      "a satisfies B",
      "<T>a",
      "f<T>(a)",
      "new A<T>()",
      "f<T>",
      "t<T>`x`",
      "function f(a?) {}",
      "function f([a]?) {}\nfunction f([a]) {}",
      "function f(this) {}",
      "function f(a: B) {}",
      "function f<T>() {}",
      "function f(): void {}",
      "function f()\nfunction f() {}",
      "(a?) => a",
      "(a): void => a",
      "<T,>() => 1",
      "type A = 1",
      "interface A {}",
      "enum A { B }",
      "const enum A { B }",
      "namespace A { export const b = 1 }",
      "import a = require('b')",
      "import a = B.c",
      "export = a",
      "export as namespace a",
      "abstract class A {}",
      "class A implements B {}",
      "class A extends B<T> {}",
      "class A<T> {}",
      "class A { a?; }",
      "class A { a!; }",
      "class A { a: B }",
      "class A { declare a }",
      "class A { readonly a }",
      "class A { public a }",
      "class A extends B { override a }",
      "class A { readonly #a }",
      "class A { [a: string]: b }",
      "class A { private f() {} }",
      "class A extends B { override f() {} }",
      "class A { f?() {} }",
      "class A { f()\nf() {} }",
      "class A { constructor(private a) {} }",
      "class A { private constructor() {} }",
      "class A { constructor()\nconstructor() {} }",
      "class A { accessor a }",
      "@d class A {}",
      "class A { @d a }",
      "class A { @d f() {} }",
      "class A { f(@d a) {} }",
      "<a />",
      "<>{1}</>",
      "{ using a = b }",
      "try {} catch (e: unknown) {}",
      "for (const a of b as any) {}",
    ] {
      assert!(!plain(code), "{code}");
    }
  }
}
