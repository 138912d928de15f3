//! Which language a host runs, as the server says it on the command line.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::lang::Pyodide;
use crate::lang::TypeScript;
use crate::lang::pyodide::distribution;
use crate::runtime::PackageFolders;
use crate::runtime::PythonFiles;

/// What a blank host boots.
#[derive(Debug, Clone)]
pub enum HostSpec {
  /// TypeScript and JavaScript.
  JavaScript,
  /// Python in V8.
  Pyodide(PythonFiles),
}

impl HostSpec {
  /// What the server does before it starts such a host.
  ///
  /// # Errors
  /// When the files of the language cannot be put in place.
  pub async fn prepare(&self) -> io::Result<()> {
    match self {
      Self::JavaScript => Ok(()),
      Self::Pyodide(files) => {
        let assets = files.assets.clone();
        tokio::task::spawn_blocking(move || distribution::unpack(&assets))
          .await
          .map_err(io::Error::other)?
          .map_err(|e| io::Error::other(format!("Python cannot be unpacked: {e}")))
      }
    }
  }

  /// The arguments after the hidden command.
  pub fn to_args(&self) -> Vec<OsString> {
    match self {
      Self::JavaScript => vec!["javascript".into()],
      Self::Pyodide(PythonFiles { assets, packages }) => {
        let mut args = vec![
          "pyodide".into(),
          assets.into(),
          packages.cache.clone().into(),
        ];
        args.extend(packages.local.clone().map(Into::into));
        args
      }
    }
  }

  pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Option<Self> {
    let mut args = args.into_iter();
    let language = args.next()?;
    let mut path = || args.next().map(PathBuf::from);
    match language.to_str()? {
      "javascript" => Some(Self::JavaScript),
      "pyodide" => Some(Self::Pyodide(PythonFiles {
        assets: path()?,
        packages: PackageFolders {
          cache: path()?,
          local: path(),
        },
      })),
      _ => None,
    }
  }

  /// The body of the hidden command; see [`super::run_process`].
  pub fn run_process(self) -> ExitCode {
    match self {
      Self::JavaScript => super::run_process(TypeScript::boot),
      Self::Pyodide(files) => {
        super::run_process(async move |options| Pyodide::boot(options, files).await)
      }
    }
  }

  /// # Errors
  /// When the threads or pipes cannot be made.
  pub fn run_thread(self, socket: UnixStream) -> io::Result<()> {
    match self {
      Self::JavaScript => super::run_thread(socket, TypeScript::boot),
      Self::Pyodide(files) => super::run_thread(socket, async move |options| {
        Pyodide::boot(options, files).await
      }),
    }
  }
}
