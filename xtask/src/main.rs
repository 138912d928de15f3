//! `cargo xtask`: what contributors and CI run besides cargo's own commands.

mod generate;
mod tidy;
mod workspace;

use std::io;
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "Usage: cargo xtask COMMAND

  tidy        check the arrows between crates, their manifests, the length of files, and that what is
              generated is current
  generate    write docs/configuration.md and docs/openapi.json anew
";

fn main() -> ExitCode {
  let arguments: Vec<String> = std::env::args().skip(1).collect();
  let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
  let done = match arguments[..] {
    ["tidy"] => tidy::run(),
    ["generate"] => generate::run(),
    ["-h" | "--help"] => {
      let _ = io::stdout().write_all(USAGE.as_bytes());
      Ok(())
    }
    _ => Err(USAGE.to_owned()),
  };
  match done {
    Ok(()) => ExitCode::SUCCESS,
    Err(message) => {
      let _ = writeln!(io::stderr(), "{}", message.trim_end());
      ExitCode::FAILURE
    }
  }
}
