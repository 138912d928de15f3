//! Rules of single source files.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Where production code is.
const FOLDERS: [&str; 3] = ["src", "crates", "xtask/src"];
/// The most lines of a file without its tests.
const MOST_LINES: usize = 800;

/// Says which files break a rule.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
  let mut problems = Vec::new();
  let mut files = Vec::new();
  for folder in FOLDERS {
    collect(&root.join(folder), &mut files).map_err(|e| format!("{folder}: {e}"))?;
  }
  files.sort();
  for file in files {
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let name = file.strip_prefix(root).unwrap_or(&file);
    problems.extend(of_file(&name.to_string_lossy(), &text));
  }
  Ok(problems)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
  for entry in fs::read_dir(folder)? {
    let entry = entry?;
    let path = entry.path();
    if entry.file_type()?.is_dir() {
      collect(&path, files)?;
    } else if path.extension().is_some_and(|it| it == "rs") {
      files.push(path);
    }
  }
  Ok(())
}

fn of_file(name: &str, text: &str) -> Vec<String> {
  let mut problems = Vec::new();
  for (number, line) in text.lines().enumerate() {
    let line = line.trim_start();
    let attribute = line.starts_with("#[path")
      || line.starts_with("#[cfg_attr(") && (line.contains("path =") || line.contains("path="));
    if attribute {
      problems.push(format!(
        "{name}:{}: no `#[path]`: a module lies where its name says; what tests share is in crates/testing",
        number + 1
      ));
    }
  }
  let lines = production_lines(text);
  if !is_test(name) && lines > MOST_LINES {
    problems.push(format!(
      "{name}: {lines} lines without tests, {MOST_LINES} are the most: split it by what it does"
    ));
  }
  problems
}

fn is_test(name: &str) -> bool {
  let path = Path::new(name);
  let in_tests = path.components().any(|it| it.as_os_str() == "tests");
  let stem = path.file_stem().unwrap_or_default().to_string_lossy();
  in_tests || stem == "tests" || stem.ends_with("_tests")
}

/// Lines outside modules that only tests have. rustfmt puts their ends where their beginnings are.
fn production_lines(text: &str) -> usize {
  let mut count = 0;
  let mut lines = text.lines().peekable();
  while let Some(line) = lines.next() {
    let module = lines
      .peek()
      .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
    if line == "#[cfg(test)]" && module {
      lines.by_ref().find(|line| *line == "}");
    } else {
      count += 1;
    }
  }
  count
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn a_module_elsewhere_is_named_with_its_line() {
    for line in [
      "#[path = \"other.rs\"]",
      "  #[cfg_attr(test, path = \"tests/instance.rs\")]",
    ] {
      let problems = of_file(
        "crates/apps/src/lib.rs",
        &format!("//! Apps.\n{line}\nmod x;\n"),
      );
      assert!(
        matches!(&problems[..], [it] if it.starts_with("crates/apps/src/lib.rs:2: no `#[path]`")),
        "{problems:?}"
      );
    }
    let fine = "#[cfg_attr(test, derive(Debug))]\nstruct A;\n// #[path] is not used.\n";
    assert!(of_file("src/a.rs", fine).is_empty());
  }

  #[test]
  fn a_long_file_is_named_with_its_length() {
    let problems = of_file("src/a.rs", &"x\n".repeat(801));
    assert!(
      matches!(&problems[..], [it] if it.starts_with("src/a.rs: 801 lines")),
      "{problems:?}"
    );
    assert!(of_file("src/a.rs", &"x\n".repeat(800)).is_empty());
  }

  #[test]
  fn tests_may_be_long() {
    let tests = format!(
      "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
      "x\n".repeat(800),
      "  y\n".repeat(900)
    );
    assert!(of_file("src/a.rs", &tests).is_empty());
    let after = format!("{tests}z\n");
    assert_eq!(of_file("src/a.rs", &after).len(), 1);
    for name in [
      "crates/a/src/tests.rs",
      "crates/a/src/tests/long.rs",
      "crates/a/src/b_tests.rs",
    ] {
      assert!(of_file(name, &"x\n".repeat(900)).is_empty(), "{name}");
    }
  }
}
