//! The two lists of methods that clippy disallows.

use std::fs;
use std::path::Path;

/// For code that may wait for a disk, and for all other code.
const LISTS: [&str; 2] = ["clippy.toml", "crates/clippy.toml"];
/// What the `clippy.toml` of a crate leads to.
const LINK: &str = "../../clippy.toml";

/// Says where the lists have drifted apart, and which crates have one of their own.
///
/// # Errors
/// When a list cannot be read.
pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
  let read = |name: &str| fs::read_to_string(root.join(name)).map_err(|e| format!("{name}: {e}"));
  let mut problems = drifted(&read(LISTS[0])?, &read(LISTS[1])?);
  let folders = fs::read_dir(root.join("crates")).map_err(|e| format!("crates: {e}"))?;
  for folder in folders.filter_map(Result::ok) {
    let list = folder.path().join("clippy.toml");
    let own = list.exists() && fs::read_link(&list).ok().as_deref() != Some(Path::new(LINK));
    if own {
      problems.push(format!(
        "{}: must be a link to {LINK}, for a crate whose threads may wait for a disk, or not be there",
        list.strip_prefix(root).unwrap_or(&list).display()
      ));
    }
  }
  Ok(problems)
}

fn drifted(short: &str, long: &str) -> Vec<String> {
  let entries = short.lines().filter(|line| line.contains("path ="));
  let lost = entries.filter(|entry| !long.lines().any(|line| line == *entry));
  lost
    .map(|entry| format!("{}: lacks this line of {}:{entry}", LISTS[1], LISTS[0]))
    .collect()
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn the_longer_list_has_all_of_the_shorter() {
    let short = "[\n  { path = \"a\" },\n]\n";
    assert!(drifted(short, "[\n  { path = \"a\" },\n  { path = \"b\" },\n]\n").is_empty());
    assert_eq!(drifted(short, "[\n  { path = \"b\" },\n]\n").len(), 1);
  }

  #[test]
  fn a_crate_has_no_list_of_its_own() {
    let root = tempfile::tempdir().expect("a folder");
    let crates = root.path().join("crates");
    for name in ["linked", "own", "none"] {
      fs::create_dir_all(crates.join(name)).expect("a folder");
    }
    for list in LISTS {
      fs::write(root.path().join(list), "").expect("a file");
    }
    std::os::unix::fs::symlink(LINK, crates.join("linked/clippy.toml")).expect("a link");
    fs::write(crates.join("own/clippy.toml"), "").expect("a file");
    let problems = check(root.path()).expect("reads");
    assert!(
      problems.len() == 1 && problems[0].starts_with("crates/own"),
      "{problems:?}"
    );
  }
}
