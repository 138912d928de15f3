//! What every manifest takes from the workspace's.

use std::collections::BTreeSet;

use toml::Table;
use toml::Value;

use crate::workspace::Workspace;

/// Keys of `[package]` that have one value for all crates.
const SHARED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Says which manifests have values of their own, and which versions nobody uses.
pub(super) fn check(workspace: &Workspace) -> Vec<String> {
  let mut problems = Vec::new();
  let mut used = BTreeSet::new();
  for each in &workspace.crates {
    let package = each.manifest.get("package").and_then(Value::as_table);
    for key in SHARED {
      if !package.and_then(|it| it.get(key)).is_some_and(inherited) {
        problems.push(format!(
          "{}: write `{key}.workspace = true` under [package]: all crates have one {key}",
          each.name
        ));
      }
    }
    if !each.manifest.get("lints").is_some_and(inherited) {
      problems.push(format!(
        "{}: write `workspace = true` under [lints]: all crates have one set of lints",
        each.name
      ));
    }
    for (name, dependency) in dependencies(&each.manifest) {
      used.insert(name.to_owned());
      if !inherited(dependency) {
        problems.push(format!(
          "{} -> {name}: write `{name}.workspace = true`: versions and features stand once, in the top Cargo.toml",
          each.name
        ));
      }
    }
  }
  for name in workspace.versions.keys() {
    if !used.contains(name) && !workspace.has(name) {
      problems.push(format!(
        "{name}: in [workspace.dependencies], but no crate uses it: delete it there"
      ));
    }
  }
  problems
}

fn inherited(value: &Value) -> bool {
  value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// The dependencies of a manifest, those of single targets included.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&String, &Value)> {
  let targets = manifest.get("target").and_then(Value::as_table);
  let targets = targets.into_iter().flat_map(Table::values);
  let tables = targets.filter_map(Value::as_table);
  tables
    .chain([manifest])
    .flat_map(|table| SECTIONS.iter().filter_map(|section| table.get(*section)))
    .filter_map(Value::as_table)
    .flatten()
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  const TIDY: &str = r#"
    [package]
    name = "room"
    version.workspace = true
    edition.workspace = true
    rust-version.workspace = true
    license.workspace = true
    publish.workspace = true
    [dependencies]
    serde.workspace = true
    [dev-dependencies]
    tokio = { workspace = true, features = ["test-util"] }
    [lints]
    workspace = true
  "#;
  const VERSIONS: &str = "[workspace.dependencies]\nserde = '1'\ntokio = '1'\n";

  fn checked(manifest: &str, top: &str) -> Vec<String> {
    let metadata =
      json!({"packages": [{"name": "room", "manifest_path": "room", "dependencies": []}]});
    let top: Table = top.parse().expect("the top manifest");
    let manifest: Table = manifest.parse().expect("a manifest");
    let workspace = Workspace::new(&top, &metadata, |_| Ok(manifest.clone()));
    check(&workspace.expect("a workspace"))
  }

  #[track_caller]
  fn one(problems: &[String], start: &str) {
    assert!(
      matches!(problems, [problem] if problem.starts_with(start)),
      "{problems:?}"
    );
  }

  #[test]
  fn a_manifest_that_inherits_everything_is_tidy() {
    assert_eq!(checked(TIDY, VERSIONS), Vec::<String>::new());
  }

  #[test]
  fn an_edition_of_its_own_is_named() {
    let manifest = TIDY.replace("edition.workspace = true", "edition = '2021'");
    one(
      &checked(&manifest, VERSIONS),
      "room: write `edition.workspace = true`",
    );
    let manifest = TIDY.replace("version.workspace = true\n    edition", "edition");
    one(
      &checked(&manifest, VERSIONS),
      "room: write `version.workspace = true`",
    );
  }

  #[test]
  fn lints_of_its_own_are_named() {
    let manifest = TIDY.replace(
      "[lints]\n    workspace = true",
      "[lints.rust]\n    unused = 'allow'",
    );
    one(
      &checked(&manifest, VERSIONS),
      "room: write `workspace = true` under [lints]",
    );
  }

  #[test]
  fn a_version_of_its_own_is_named_in_every_section() {
    for wrong in [
      "serde = '1'",
      "serde = { version = '1', features = ['derive'] }",
      "serde = { path = '../serde' }",
    ] {
      let manifest = TIDY.replace("serde.workspace = true", wrong);
      one(
        &checked(&manifest, VERSIONS),
        "room -> serde: write `serde.workspace = true`",
      );
    }
    for section in ["build-dependencies", "target.'cfg(unix)'.dependencies"] {
      let manifest = format!("{TIDY}\n[{section}]\ncc = '1'\n");
      one(&checked(&manifest, VERSIONS), "room -> cc: write");
    }
  }

  #[test]
  fn a_version_that_nobody_uses_is_named() {
    let top = format!("{VERSIONS}left-pad = '1'\n");
    one(
      &checked(TIDY, &top),
      "left-pad: in [workspace.dependencies]",
    );
  }
}
