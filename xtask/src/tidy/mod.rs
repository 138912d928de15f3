//! `cargo xtask tidy`: the rules of docs/architecture.md that a program can check.

mod arrows;
mod documents;
mod files;
mod graph;
mod lints;
mod manifests;

use std::io;
use std::io::Write;

use crate::generate;
use crate::workspace::Workspace;
use crate::workspace::root;

/// Checks every rule.
///
/// # Errors
/// When a rule is broken; the message has a line for each place.
pub(crate) fn run() -> Result<(), String> {
  let root = root();
  let workspace = Workspace::read(&root)?;
  let mut problems = arrows::check(&workspace);
  problems.extend(manifests::check(&workspace));
  problems.extend(documents::check(&root, &workspace)?);
  problems.extend(files::check(&root)?);
  problems.extend(lints::check(&root)?);
  problems.extend(graph::check(&root)?);
  // Running the binary takes a build, which is in vain while the above is wrong.
  if problems.is_empty() {
    problems.extend(generate::stale(&root)?);
  }
  if problems.is_empty() {
    let _ = writeln!(io::stderr(), "tidy: all is well");
    return Ok(());
  }
  Err(format!(
    "{}\ntidy: {} found",
    problems.join("\n"),
    match problems.len() {
      1 => "1 problem".to_owned(),
      many => format!("{many} problems"),
    }
  ))
}
