//! The binary: everything lives in the library, see `deno_app_engine::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
  deno_app_engine::cli::main()
}
