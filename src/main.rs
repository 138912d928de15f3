//! The binary `deno-app-engine`: a command line around the engine and its HTTP face.

mod cli;
mod descriptors;
mod memory;
mod pyodide;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
  // A kernel process starts often and parses nothing.
  embed::main_hook();
  cli::main()
}
