//! `cargo xtask generate`: documents that the binary writes of itself.

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

use crate::workspace::cargo;
use crate::workspace::root;

/// Each document, and what the binary calls it.
const DOCUMENTS: [(&str, &str); 2] = [
  ("docs/configuration.md", "configuration"),
  ("docs/openapi.json", "openapi"),
];

/// Writes every document anew.
///
/// # Errors
/// When the binary does not build or run, or a file cannot be written.
pub(crate) fn run() -> Result<(), String> {
  let root = root();
  for (file, name) in DOCUMENTS {
    let path = root.join(file);
    let text = printed(&root, name)?;
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
      let _ = writeln!(io::stderr(), "{file}: current");
      continue;
    }
    fs::write(&path, text).map_err(|e| format!("{file}: {e}"))?;
    let _ = writeln!(io::stderr(), "{file}: written");
  }
  Ok(())
}

/// Says which documents are not what the binary would write.
///
/// # Errors
/// When the binary does not build or run.
pub(crate) fn stale(root: &Path) -> Result<Vec<String>, String> {
  let mut problems = Vec::new();
  for (file, name) in DOCUMENTS {
    let text = printed(root, name)?;
    if fs::read_to_string(root.join(file)).map_or(true, |there| there != text) {
      problems.push(format!("{file}: not current: run `cargo xtask generate`"));
    }
  }
  Ok(problems)
}

/// What the binary says of itself.
fn printed(root: &Path, document: &str) -> Result<String, String> {
  let output = cargo()
    .args(["run", "--quiet", "--package", "deno-app-engine", "--"])
    .args(["generate", document])
    .current_dir(root)
    .stderr(std::process::Stdio::inherit())
    .output()
    .map_err(|e| format!("cargo run: {e}"))?;
  if !output.status.success() {
    return Err(format!(
      "deno-app-engine generate {document}: {}",
      output.status
    ));
  }
  String::from_utf8(output.stdout).map_err(|e| format!("deno-app-engine generate {document}: {e}"))
}
