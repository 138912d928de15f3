//! `deno-app-engine packages`: packages of Python kernels, for machines without a network.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use pyodide_dist::packages::DISTRIBUTION;
use pyodide_dist::packages::Fetcher;
use pyodide_dist::packages::Lock;
use pyodide_dist::packages::PackagesError;

use crate::pyodide::PYODIDE;

#[derive(Debug, Args)]
pub(super) struct PackagesArgs {
  #[command(subcommand)]
  command: PackagesCommand,
}

#[derive(Debug, Subcommand)]
enum PackagesCommand {
  /// Fetch packages of the Pyodide distribution, with all that they need, into a folder. Servers started
  /// with that folder as PYODIDE_PACKAGES_DIR have them without a network.
  Fetch(FetchArgs),
}

#[derive(Debug, Args)]
struct FetchArgs {
  /// Names, such as numpy.
  #[arg(required = true, value_name = "NAME")]
  names: Vec<String>,

  /// The folder.
  #[arg(long, env = "PYODIDE_PACKAGES_DIR", value_name = "DIR")]
  pyodide_packages_dir: PathBuf,

  /// Where the distribution is: a mirror, say.
  #[arg(
    long,
    value_name = "URL",
    default_value = DISTRIBUTION
  )]
  from: String,

  /// PEM file with certificate authorities to trust besides the usual ones.
  #[arg(long = "cert", env = "DENO_CERT", value_name = "FILE")]
  deno_cert: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PackagesCommandError {
  #[error(transparent)]
  Packages(#[from] PackagesError),
  #[error("{0}")]
  Io(#[from] io::Error),
  #[error("{0} of {1} packages could not be fetched")]
  Incomplete(usize, usize),
}

/// # Errors
/// When a package is unknown or could not be fetched; the others are fetched all the same.
pub(super) fn run(args: PackagesArgs) -> Result<(), PackagesCommandError> {
  let PackagesCommand::Fetch(args) = args.command;
  let packages = Lock::of(&PYODIDE)?.with_dependencies(&args.names)?;
  let fetcher = Fetcher::new(&args.from, args.deno_cert.as_deref())?;
  let folder = args.pyodide_packages_dir;
  let runtime = tokio::runtime::Builder::new_current_thread()
    .enable_all()
    .build()?;
  let mut failed = 0;
  for (number, package) in packages.iter().enumerate() {
    let place = format!("[{}/{}]", number + 1, packages.len());
    let name = format!("{} {}", package.name, package.version);
    if io::stderr().is_terminal() {
      let _ = write!(io::stderr(), "{place} {name} …\r");
    }
    if PYODIDE.has(&package.file_name) {
      let _ = writeln!(io::stderr(), "{place} {name}: part of the engine");
      continue;
    }
    let line = match runtime.block_on(fetcher.fetch(package, &folder)) {
      Ok(0) => format!("{name}: there already"),
      Ok(bytes) => format!("{name}: {} KiB", bytes.div_ceil(1024)),
      Err(error) => {
        failed += 1;
        error.to_string()
      }
    };
    let _ = writeln!(io::stderr(), "{place} {line}");
  }
  match failed {
    0 => Ok(()),
    failed => Err(PackagesCommandError::Incomplete(failed, packages.len())),
  }
}
