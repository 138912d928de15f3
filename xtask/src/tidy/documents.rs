//! docs/dependencies.md has a line for every crate of others, and none for what is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::Table;

use crate::workspace::Workspace;

const FILE: &str = "docs/dependencies.md";
/// The heading of what is no crate.
const OUTSIDE: &str = "## Outside cargo";

/// Says which dependencies have no line, and which lines have no dependency.
///
/// # Errors
/// When the page cannot be read.
pub(super) fn check(root: &Path, workspace: &Workspace) -> Result<Vec<String>, String> {
  let page = fs::read_to_string(root.join(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
  Ok(compare(&page, &workspace.versions))
}

fn compare(page: &str, versions: &Table) -> Vec<String> {
  let explained = explained(page);
  let missing = versions
    .iter()
    .filter(|(name, version)| version.get("path").is_none() && !explained.contains(name.as_str()))
    .map(|(name, _)| {
      format!("{name}: no line in {FILE}: add one that says what it is for, and why this one")
    });
  let gone = explained
    .iter()
    .filter(|name| !versions.contains_key(**name))
    .map(|name| {
      format!("{name}: a line in {FILE}, but not in [workspace.dependencies]: delete the line")
    });
  missing.chain(gone).collect()
}

/// The names in the first column of the page's tables.
fn explained(page: &str) -> BTreeSet<&str> {
  let cargo = page.split(OUTSIDE).next().unwrap_or_default();
  cargo
    .lines()
    .filter_map(|line| line.strip_prefix("| ")?.split('|').next())
    .flat_map(|cell| cell.split('`').skip(1).step_by(2))
    .collect()
}

#[cfg(test)]
mod tests {
  use super::*;

  const PAGE: &str = "Of `cargo`:\n\n| crate | what for |\n|---|---|\n| `serde`, `tokio` | `json` |\n\n\
    ## Outside cargo\n\n| what | what for |\n|---|---|\n| `typos` | spelling |\n";

  fn compared(page: &str, versions: &str) -> Vec<String> {
    compare(page, &versions.parse().expect("versions"))
  }

  #[test]
  fn a_page_with_a_line_for_each_is_tidy() {
    let own = "apps = { path = 'crates/apps' }";
    let problems = compared(
      PAGE,
      &format!("serde = '1'\ntokio = {{ version = '1' }}\n{own}"),
    );
    assert_eq!(problems, Vec::<String>::new());
  }

  #[test]
  fn a_dependency_without_a_line_is_named() {
    let problems = compared(PAGE, "serde = '1'\ntokio = '1'\nurl = '2'");
    assert!(
      matches!(&problems[..], [it] if it.starts_with("url: no line")),
      "{problems:?}"
    );
  }

  #[test]
  fn a_line_without_a_dependency_is_named() {
    let problems = compared(PAGE, "serde = '1'");
    assert!(
      matches!(&problems[..], [it] if it.starts_with("tokio: a line")),
      "{problems:?}"
    );
  }
}
