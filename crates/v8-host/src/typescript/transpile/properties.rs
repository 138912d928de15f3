//! What holds for every cell.

use std::collections::BTreeSet;

use deno_ast::ModuleSpecifier;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::PROLOGUE;
use super::is_complete;
use super::parse;
use super::prepare;
use crate::typescript::rewrite;
use crate::typescript::rewrite::Declared;

const NAME: &str = "file:///cell-1.ts";

fn config() -> ProptestConfig {
  ProptestConfig {
    cases: 512,
    failure_persistence: None,
    // The same cells in every run, so that a defect of the parser stops nobody who did not touch it;
    // `fuzz/` tries others.
    rng_seed: RngSeed::Fixed(2026),
    ..ProptestConfig::default()
  }
}

fn name() -> impl Strategy<Value = &'static str> {
  prop::sample::select(vec!["a", "b", "c", "f", "é", "$", "_x"])
}

fn expression() -> impl Strategy<Value = String> {
  let leaf = prop_oneof![
    name().prop_map(str::to_owned),
    Just("1".to_owned()),
    Just("`t${1}`".to_owned()),
    Just("'let a = 1'".to_owned()),
    Just("/=/g".to_owned()),
    Just("await f()".to_owned()),
    Just("{ a: 1 }.a as number".to_owned()),
    // Not at the start of a statement: swc drops the parentheses of `((function () {}) + 1) + 1;`.
    Just("[function () { let a = 1; var b; return a }]".to_owned()),
    Just("<T,>(x: T) => x".to_owned()),
  ];
  leaf.prop_recursive(2, 6, 2, |inner| {
    prop_oneof![
      (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) + ({b})")),
      inner.clone().prop_map(|a| format!("[{a}, ...[{a}]]")),
      inner.clone().prop_map(|a| format!("({{ a: {a} }})")),
      inner.prop_map(|a| format!("({a})!")),
    ]
  })
}

/// What may stand left of `=` in a declaration.
fn pattern() -> impl Strategy<Value = String> {
  (name(), name(), 0..6_u8).prop_map(|(a, b, kind)| match kind {
    0 => format!("{{ {a}: {b} }}"),
    1 => format!("[{a}, ...{b}]"),
    2 => format!("{{ {a} = 1, ...{b} }}"),
    3 => format!("{a}: unknown"),
    _ => a.to_owned(),
  })
}

fn statement() -> impl Strategy<Value = String> {
  let keyword = prop::sample::select(vec![
    "let",
    "const",
    "var",
    "using",
    "await using",
    "export let",
    "export const",
    "export var",
    "declare let",
  ]);
  prop_oneof![
    4 => (keyword, pattern(), expression()).prop_map(|(keyword, pattern, value)| match keyword {
      "declare let" => "declare let d: number;".to_owned(),
      _ => format!("{keyword} {pattern} = {value};"),
    }),
    2 => (name(), expression()).prop_map(|(name, value)| format!("function {name}() {{ {value} }}")),
    1 => name().prop_map(|name| format!("export default function {name}() {{}}")),
    1 => name().prop_map(|name| format!("async function* {name}() {{}}")),
    2 => name().prop_map(|name| format!("class {name} {{ #p = 1; get() {{ return this.#p }} }}")),
    1 => name().prop_map(|name| format!("export class {name} {{}}")),
    1 => name().prop_map(|name| format!("enum {name} {{ A, B = 'b' }}")),
    1 => name().prop_map(|name| format!("namespace {name} {{ export const x = 1 }}")),
    1 => name().prop_map(|name| format!("interface {name} {{ x: 1 }}")),
    1 => name().prop_map(|name| format!("type {name} = {{ x: 1 }}")),
    1 => (name(), name()).prop_map(|(a, b)| format!("import {a}, {{ b as {b} }} from 'm';")),
    1 => name().prop_map(|name| format!("import * as {name} from 'm';")),
    1 => name().prop_map(|name| format!("import type {name} from 'm';")),
    1 => Just("import 'm' with { type: 'json' };".to_owned()),
    1 => Just("for (let a = 0; a < 1; a++) { var inner = a }".to_owned()),
    1 => Just("{ let a = 1; const b = 2 }".to_owned()),
    1 => name().prop_map(|name| format!("export {{ {name} }};")),
    2 => expression().prop_map(|value| format!("({value});")),
    1 => expression(),
    1 => Just("// a comment".to_owned()),
  ]
}

fn cell() -> impl Strategy<Value = String> {
  let between = prop::sample::select(vec!["\n", " ", "\n\n", ";\n"]);
  (prop::collection::vec(statement(), 0..4), between)
    .prop_map(|(statements, between)| statements.join(between))
}

/// The names that a text declares at its top level.
fn names(text: &str) -> Option<BTreeSet<String>> {
  let specifier = ModuleSpecifier::parse(NAME).expect("a constant URL");
  let parsed = parse(text.to_owned(), &specifier).ok()?;
  let declared = rewrite::declarations(&parsed);
  Some(declared.into_iter().map(|(name, _)| name).collect())
}

proptest! {
  #![proptest_config(config())]

  #[test]
  fn what_is_made_of_a_cell_parses_and_declares_the_same_names(first in cell(), second in cell()) {
    let mut declared = Declared::default();
    for cell in [first, second] {
      let Some(wanted) = names(&cell) else {
        prop_assert!(prepare(&cell, NAME, &mut declared).is_err(), "{cell}");
        continue;
      };
      // Assignments to constants are refused, and change nothing.
      let Ok(prepared) = prepare(&cell, NAME, &mut declared) else {
        continue;
      };
      let script = &prepared.javascript;
      prop_assert!(script.starts_with(PROLOGUE));
      let made = names(script);
      prop_assert_eq!(made.as_ref(), Some(&wanted), "{}\nbecame\n{}", cell, script);
      // A script knows none of these.
      for module_only in ["import ", "export ", "using "] {
        let starts = script.lines().any(|line| line.starts_with(module_only));
        prop_assert!(!starts, "{cell}\nbecame\n{script}");
      }
    }
  }

  #[test]
  fn a_cell_can_run_again(cell in cell()) {
    let mut declared = Declared::default();
    if prepare(&cell, NAME, &mut declared).is_ok() {
      let again = prepare(&cell, NAME, &mut declared);
      prop_assert!(again.is_ok(), "{cell}\n{again:?}");
    }
  }

  #[test]
  fn no_text_makes_it_panic(text in "(?s).{0,60}", cell in cell(), cut in any::<prop::sample::Index>()) {
    let half = &cell[..cell.floor_char_boundary(cut.index(cell.len() + 1))];
    for text in [&text, half, &format!("{half}{text}")] {
      // The parser asserts what it believes of these in debug builds only; in others they are errors.
      if ["with", "enum"].iter().any(|word| text.contains(word)) {
        continue;
      }
      let _ = prepare(text, NAME, &mut Declared::default());
      prop_assert!(is_complete(text)["status"].is_string());
    }
  }
}
