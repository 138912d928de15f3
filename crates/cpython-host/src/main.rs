//! A kernel process with a CPython embedded. It is started with the libpython of the installation that
//! the server chose (`LD_PRELOAD`), so that one binary serves every CPython of the stable ABI.

mod environment;
mod fork_server;
mod interpreter;
mod interrupt;
mod language;

use std::process::ExitCode;

fn main() -> ExitCode {
  interpreter::main()
}
