//! `deno-app-engine tokens`: makes tokens for a token file.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;

use access::tokens;
use access::tokens::TokenFileError;
use clap::Args;
use clap::Subcommand;

#[derive(Debug, Args)]
pub(super) struct TokensArgs {
  #[command(subcommand)]
  command: TokensCommand,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
  /// Make a token, show it once, and add its digest to the token file.
  Add {
    /// What the token may see: a namespace, or "*" for everything.
    namespace: String,

    /// The token file; it is made when it is not there.
    #[arg(
      long,
      env = "ENGINE_TOKENS_FILE",
      value_name = "FILE",
      default_value = "tokens.json"
    )]
    tokens_file: PathBuf,
  },
}

/// # Errors
/// When the token file cannot be read or written, or is not as it should be.
pub(super) fn run(args: TokensArgs) -> Result<(), TokenFileError> {
  let TokensCommand::Add {
    namespace,
    tokens_file,
  } = args.command;
  let token = tokens::add(&tokens_file, &namespace)?;
  // Alone on stdout, for scripts.
  let _ = writeln!(io::stdout(), "{}", token.expose());
  if io::stdout().is_terminal() {
    let _ = writeln!(
      io::stderr(),
      "This is shown once. Its digest is in {file}; servers started with --tokens-file {file} know it.",
      file = tokens_file.display()
    );
  }
  Ok(())
}
