//! `deno-app-engine generate`: documents that the program writes of itself, so that they are never older
//! than it is. Hidden, for contributors.

use std::fmt::Write as _;
use std::io;
use std::io::Write as _;

use clap::Arg;
use clap::Args;
use clap::Command;
use clap::ValueEnum;

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
  document: Document,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Document {
  /// docs/configuration.md.
  Configuration,
  /// docs/openapi.json.
  Openapi,
}

/// Prints a document. `program` is the whole command line.
///
/// # Errors
/// When nothing can be printed.
pub(super) fn run(args: &GenerateArgs, program: Command) -> io::Result<()> {
  let text = match args.document {
    Document::Configuration => configuration(program),
    Document::Openapi => openapi()?,
  };
  io::stdout().write_all(text.as_bytes())
}

fn openapi() -> io::Result<String> {
  let mut text = http_api::openapi().to_pretty_json()?;
  text.push('\n');
  Ok(text)
}

const INTRODUCTION: &str = "\
<!-- Written by `cargo xtask generate` from the command line's own definitions. -->

# Configuration

Every setting of `deno-app-engine serve` is an environment variable and a flag, but for `--no-auth`, which is only a flag. The
flag wins. A value that cannot be understood stops the start, with a message that names the setting and the value. `deno-app-engine serve --help` says what
stands here, and `-h` says it in short.

[operations.md](operations.md) says which settings a server for others needs, and [security.md](security.md) what they
protect.
";

/// Variables that no flag has: others define them, or they are read before there is a command line.
const OTHER_VARIABLES: [[&str; 3]; 6] = [
  [
    "NPM_CONFIG_REGISTRY",
    "npm's public one",
    "Registry of `npm:` packages. A user name and password in the address open it and are shown nowhere.",
  ],
  [
    "JSR_URL",
    "`https://jsr.io`",
    "Registry of `jsr:` packages. A user name and password in the address open it and are shown nowhere.",
  ],
  [
    "LOG",
    "`info`",
    "What to log, as a filter of the crate tracing: `info`, `warn` or `kernels=debug,info`, for example.",
  ],
  [
    "NO_COLOR",
    "",
    "Set to anything: logs on a terminal have no colours.",
  ],
  [
    "SSL_CERT_FILE, SSL_CERT_DIR",
    "",
    "Where the system's certificate authorities are, for kernels that trust them (`DENO_TLS_CA_STORE`).",
  ],
  [
    "XDG_DATA_HOME",
    "`~/.local/share`",
    "Folder of the data folder, unless `ENGINE_DATA_DIR` names one.",
  ],
];

/// Commands besides `serve` that take settings from the environment.
const OTHER_COMMANDS: [&str; 4] = ["run", "apps", "packages fetch", "tokens add"];

fn configuration(mut program: Command) -> String {
  program.build();
  let mut page = INTRODUCTION.to_owned();
  let serve = subcommand(&program, "serve");
  let mut headings: Vec<Option<&str>> = Vec::new();
  for argument in shown(serve) {
    let heading = argument.get_help_heading();
    if !headings.contains(&heading) {
      headings.push(heading);
    }
  }
  for heading in headings {
    let _ = write!(page, "\n## {}\n\n", heading.unwrap_or("Server"));
    page.push_str("| variable, flag | default | meaning |\n|---|---|---|\n");
    for argument in shown(serve).filter(|it| it.get_help_heading() == heading) {
      page.push_str(&row(argument));
    }
  }
  page.push_str("\n## Other variables\n\n| variable | default | meaning |\n|---|---|---|\n");
  for [names, default, meaning] in OTHER_VARIABLES {
    let names = names.replace(", ", "`, `");
    let _ = writeln!(page, "| `{names}` | {default} | {meaning} |");
  }
  page.push_str(
    "\n## Other commands\n\nWhat other commands take from the environment. Each one's `--help` has all its flags.\n",
  );
  for name in OTHER_COMMANDS {
    let _ = write!(page, "\n### `deno-app-engine {name}`\n\n");
    page.push_str("| variable, flag | default | meaning |\n|---|---|---|\n");
    let command = subcommand(&program, name);
    for argument in shown(command).filter(|it| it.get_env().is_some()) {
      page.push_str(&row(argument));
    }
  }
  page.push_str("\n`run` also takes the variables of kernels above.\n");
  page
}

/// # Panics
/// When there is no such command.
fn subcommand<'a>(program: &'a Command, path: &str) -> &'a Command {
  path.split(' ').fold(program, |command, name| {
    command.find_subcommand(name).expect("a command of ours")
  })
}

/// The flags that a reader of `--help` sees.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
  let arguments = command.get_arguments();
  arguments.filter(|it| !it.is_hide_set() && !matches!(it.get_id().as_str(), "help" | "version"))
}

/// An argument as a row of a table.
fn row(argument: &Arg) -> String {
  let variable = argument
    .get_env()
    .map(|name| format!("`{}`", name.display()));
  let value = argument.get_action().takes_values().then(|| {
    let names = argument.get_value_names().unwrap_or_default();
    format!(" {}", names.join(" "))
  });
  let flag = argument
    .get_long()
    .map(|long| format!("`--{long}{}`", value.unwrap_or_default()));
  let help = argument.get_long_help().or_else(|| argument.get_help());
  let help = help.map(ToString::to_string).unwrap_or_default();
  let (meaning, default) = without_default(&help);
  let values: Vec<_> = argument.get_default_values().iter().collect();
  let default = match (default, &values[..]) {
    (Some(text), _) => text,
    (None, [value]) if !value.is_empty() => format!("`{}`", value.display()),
    _ => String::new(),
  };
  let names: Vec<String> = variable.into_iter().chain(flag).collect();
  let cells = [names.join("<br>"), default, meaning].map(|cell| cell.replace('|', "\\|"));
  format!("| {} |\n", cells.join(" | "))
}

/// A help text as one paragraph, and the default that it names in brackets.
fn without_default(help: &str) -> (String, Option<String>) {
  let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
  let Some((before, rest)) = help.split_once(" [default: ") else {
    return (sentences(&help), None);
  };
  let (default, after) = rest.split_once(']').unwrap_or((rest, ""));
  // The full stop that clap takes off a first paragraph stands behind the bracket.
  let after = after.trim_start_matches('.').trim_start();
  let meaning = format!("{}. {after}", before.trim_end_matches('.'));
  (sentences(&meaning), Some(default.to_owned()))
}

/// With the full stop that clap takes off.
fn sentences(text: &str) -> String {
  let text = text.trim();
  match text.is_empty() || text.ends_with('.') {
    true => text.to_owned(),
    false => format!("{text}."),
  }
}

#[cfg(test)]
mod tests {
  use std::collections::BTreeSet;

  use clap::CommandFactory;

  use super::*;
  use crate::cli::Cli;

  #[test]
  fn every_variable_of_serve_stands_on_the_page_once() {
    let page = configuration(Cli::command());
    let mut program = Cli::command();
    program.build();
    let names: BTreeSet<String> = shown(subcommand(&program, "serve"))
      .filter_map(|argument| Some(argument.get_env()?.display().to_string()))
      .collect();
    assert!(names.len() > 40, "{names:?}");
    let (serve, _) = page.split_once("## Other variables").expect("a section");
    for name in names {
      let rows = serve.matches(&format!("\n| `{name}`<br>`--")).count();
      assert_eq!(rows, 1, "{name}");
    }
  }

  #[test]
  fn every_row_says_what_it_is_for() {
    for line in configuration(Cli::command()).lines() {
      if line.starts_with("| `") {
        let cells: Vec<&str> = line.split(" | ").collect();
        assert_eq!(cells.len(), 3, "{line}");
        assert!(cells[2].len() > 10 && cells[2].ends_with(". |"), "{line}");
      }
    }
  }

  #[test]
  fn a_default_in_a_help_text_goes_into_its_own_cell() {
    let (meaning, default) = without_default("Folder of\nall [default: none].\n\nIt is made.");
    assert_eq!(meaning, "Folder of all. It is made.");
    assert_eq!(default.as_deref(), Some("none"));
    assert_eq!(without_default("A port"), ("A port.".into(), None));
  }
}
