//! The command line. Nothing else in the crate prints.

mod apps;
mod env_file;
mod generate;
mod login;
mod packages;
mod run;
mod serve;
mod startup;
mod tokens;

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::CommandFactory;
use clap::FromArgMatches;
use clap::Parser;
use clap::Subcommand;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::parser::ValueSource;

use self::serve::Faces;
use crate::settings::ServeArgs;

/// Runs TypeScript, JavaScript and Python for others, each kernel in a process of its own, behind one HTTP API.
#[derive(Parser)]
#[command(
  name = "deno-app-engine",
  version,
  args_conflicts_with_subcommands = true,
  after_help = "Examples:\n  deno-app-engine                      serve on http://127.0.0.1:8000\n  \
    deno-app-engine serve --port 9000    on another port\n  \
    deno-app-engine serve --apps-dir apps    and keep the apps in a folder running\n  \
    deno-app-engine hypha --load-apps    as a service of the Hypha server that .env names\n  \
    deno-app-engine run --allow-net script.ts    one app in the foreground\n  \
    deno-app-engine packages fetch numpy --pyodide-packages-dir wheels    for machines without a network\n  \
    deno-app-engine tokens add lab       a token for the namespace lab\n  \
    deno-app-engine apps list            the apps of a running server\n  \
    KERNEL_POOL_PRELOAD_CONFIGS=worker-typescript deno-app-engine    with warm TypeScript kernels"
)]
struct Cli {
  #[command(subcommand)]
  command: Option<Command>,

  #[command(flatten)]
  serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
  /// Serve the HTTP API (the default).
  Serve(Box<ServeArgs>),
  /// Be the service deno-app-engine of a Hypha server; with --port, the HTTP API too.
  Hypha(Box<ServeArgs>),
  /// Run one app in the foreground.
  Run(Box<run::RunArgs>),
  /// Look at the apps of a running server, start, stop and reload them.
  Apps(Box<apps::AppsArgs>),
  /// Fetch packages of Python kernels for machines without a network.
  Packages(packages::PackagesArgs),
  /// Make tokens for those who may use a server.
  Tokens(tokens::TokensArgs),
  /// Print a document about this program, for `cargo xtask generate`.
  #[command(hide = true)]
  Generate(generate::GenerateArgs),
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
  let again = match startup::take_over() {
    Ok(again) => again,
    Err(error) => return failed(&error),
  };
  if let Err(error) = env_file::load(std::env::args_os()) {
    return failed(&error);
  }
  let matches = match Cli::command().try_get_matches() {
    Ok(matches) => matches,
    Err(error) => return usage_error(&error),
  };
  let cli = match Cli::from_arg_matches(&matches) {
    Ok(cli) => cli,
    Err(error) => return usage_error(&error),
  };
  // A program in the foreground has the environment of whoever runs it.
  let secretive = matches!(
    cli.command,
    None | Some(Command::Serve(_) | Command::Hypha(_) | Command::Apps(_))
  );
  if secretive
    && !again
    && let Err(error) = startup::start_again(std::env::args_os())
  {
    let _ = writeln!(
      io::stderr(),
      "warning: the environment that this process began with stays readable for its account: {error}"
    );
  }
  let registry_auth = match secretive {
    true => startup::forget(),
    false => Vec::new(),
  };
  let mut faces = Faces::Http;
  let mut args = match cli.command {
    None => cli.serve,
    Some(Command::Serve(args)) => *args,
    Some(Command::Hypha(mut args)) => {
      args.hypha.hypha = true;
      if !names_a_port(&matches) {
        faces = Faces::Hypha;
      }
      *args
    }
    Some(Command::Run(args)) => {
      start_logging();
      return run::run(*args).unwrap_or_else(|error| failed(&error));
    }
    Some(Command::Apps(args)) => {
      return match apps::run(*args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
      };
    }
    Some(Command::Packages(args)) => {
      return match packages::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
      };
    }
    Some(Command::Generate(args)) => {
      return match generate::run(&args, Cli::command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
      };
    }
    Some(Command::Tokens(args)) => {
      return match tokens::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
      };
    }
  };
  args.kernels.registry_auth = registry_auth;
  start_logging();
  match serve::run(args, faces) {
    Ok(()) => ExitCode::SUCCESS,
    Err(error) => failed(&error),
  }
}

/// Whether the port was chosen, by a flag or a variable.
fn names_a_port(matches: &ArgMatches) -> bool {
  let matches = matches.subcommand_matches("hypha");
  matches.is_some_and(|matches| {
    ["port", "positional_port"].into_iter().any(|name| {
      let source = matches.value_source(name);
      source.is_some_and(|source| source != ValueSource::DefaultValue)
    })
  })
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
  let _ = writeln!(io::stderr(), "error: {error}");
  ExitCode::FAILURE
}

/// Shows clap's message; when the wrong value came from the environment, it says from which variable.
fn usage_error(error: &clap::Error) -> ExitCode {
  match without_secret(error) {
    Some(message) => {
      let _ = io::stderr().write_all(message.as_bytes());
    }
    None => {
      let _ = error.print();
    }
  }
  if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) {
    let flag = argument.split_whitespace().next().unwrap_or(argument);
    let on_command_line = std::env::args()
      .any(|a| a == flag || a.strip_prefix(flag).is_some_and(|a| a.starts_with('=')));
    let command = Cli::command();
    let variable = command
      .get_arguments()
      .find(|a| {
        a.get_long()
          .is_some_and(|long| flag.strip_prefix("--") == Some(long))
      })
      .and_then(|a| a.get_env())
      .filter(|name| std::env::var_os(name).is_some());
    if let (false, Some(name)) = (on_command_line, variable) {
      let _ = writeln!(
        io::stderr(),
        "\nThe value is that of the environment variable {}.",
        name.display()
      );
    }
  }
  ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The message in place of clap's, which would show a secret.
fn without_secret(error: &clap::Error) -> Option<String> {
  let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
    return None;
  };
  let flag = argument.split_whitespace().next()?;
  error.get(ContextKind::InvalidValue)?;
  let source = std::error::Error::source(error)?;
  startup::is_secret(flag).then(|| {
    format!(
      "error: invalid value for '{argument}': {source}\n\nFor more information, try '--help'.\n"
    )
  })
}

/// Logs go to stderr; `LOG` takes a filter like "debug" or "deno_app_engine=trace".
fn start_logging() {
  let filter = tracing_subscriber::EnvFilter::try_from_env("LOG")
    .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
  tracing_subscriber::fmt()
    .with_env_filter(filter)
    .with_target(false)
    .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    .with_writer(io::stderr)
    .init();
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
  }
}
