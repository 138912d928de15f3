//! The engine for any Rust program: kernels in V8, in Pyodide and in CPython, apps and vectors, without
//! HTTP. Call [`main_hook`] first in `main`, then [`start`].

mod hosts;
pub mod registries;

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use agents::AgentOptions;
use engine::AppOptions;
use engine::Engine;
use engine::EngineOptions;
use kernel_protocol::launch::PackageFolders;
use kernel_protocol::launch::PythonFiles;
use kernels::KernelManager;
use kernels::KernelOptions;
use kernels::Language;
use pyodide_dist::Distribution;
use vectordb::VectorDbOptions;

use self::hosts::LocalHosts;

pub use self::hosts::HOST_COMMAND;
pub use self::hosts::ZygoteOptions;
pub use engine;
pub use pyodide_dist;

/// Zygotes that a server without settings keeps at most.
pub const DEFAULT_ZYGOTES: usize = 8;

/// Whether [`main_hook`] was called: without it a kernel process would be the whole program once more.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// What an engine is started with.
pub struct Options {
  /// Folder for everything the engine keeps on disk.
  pub data_dir: PathBuf,
  pub kernels: KernelOptions,
  pub zygotes: ZygoteOptions,
  /// Kernels import only modules that are in the cache.
  pub cached_only: bool,
  /// The Pyodide of Python kernels.
  pub pyodide: Distribution,
  /// Folder with packages of Pyodide, looked in before the network.
  pub pyodide_packages_dir: Option<PathBuf>,
  pub apps: AppOptions,
  pub vectors: VectorDbOptions,
  pub agents: AgentOptions,
}

impl Options {
  /// What a server without settings has, with its files in `data_dir`; without `pyodide` there are no
  /// Python kernels in V8.
  pub fn new(data_dir: impl Into<PathBuf>, pyodide: Option<Distribution>) -> Self {
    let data_dir = data_dir.into();
    Self {
      kernels: KernelOptions::default(),
      zygotes: ZygoteOptions {
        most: DEFAULT_ZYGOTES,
        per_namespace: false,
      },
      cached_only: false,
      pyodide: pyodide.unwrap_or(Distribution::Embedded { id: "", files: &[] }),
      pyodide_packages_dir: None,
      apps: AppOptions::default(),
      vectors: VectorDbOptions::new(data_dir.join("vectordb")),
      agents: AgentOptions::new(data_dir.join("agents")),
      data_dir,
    }
  }
}

/// Turns this process into a kernel's and never returns from that, when it was started to be one;
/// otherwise does nothing. Call it first in `main`: kernel processes are this very binary.
pub fn main_hook() {
  HOOKED.store(true, Ordering::Relaxed);
  let mut args = std::env::args_os().skip(1);
  if args.next().is_none_or(|command| command != HOST_COMMAND) {
    return;
  }
  let code = match v8_host::process::run(args) {
    Some(Ok(())) => 0,
    Some(Err(error)) => {
      let _ = writeln!(io::stderr(), "kernel host: {error}");
      1
    }
    None => {
      let _ = writeln!(io::stderr(), "error: the server starts kernel hosts");
      2
    }
  };
  #[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "what this process is for has ended, and all of it was dropped"
  )]
  std::process::exit(code)
}

/// Starts an engine. Call it on a tokio runtime with several threads, once a process.
///
/// # Errors
/// When [`main_hook`] was not called, or the data directory cannot be used.
pub async fn start(options: Options) -> io::Result<Arc<Engine>> {
  check_hook()?;
  engine::keep_watch().await?;
  let (options, hosts) = wired(options);
  Engine::start(options, hosts)
}

/// The kernels alone.
///
/// # Errors
/// As [`start`].
pub async fn start_kernels(options: Options) -> io::Result<Arc<KernelManager>> {
  check_hook()?;
  engine::keep_watch().await?;
  let (options, hosts) = wired(options);
  engine::start_kernels(&options, hosts)
}

fn check_hook() -> io::Result<()> {
  match HOOKED.load(Ordering::Relaxed) {
    true => Ok(()),
    false => Err(io::Error::other(
      "kernels are processes of this very program: call `embed::main_hook()` first in `main`",
    )),
  }
}

fn wired(options: Options) -> (EngineOptions, Arc<LocalHosts>) {
  let python = python_files(&options);
  let hosts = LocalHosts::new(
    options.kernels.confinement.clone(),
    options.pyodide,
    options.zygotes,
  );
  let options = EngineOptions {
    data_dir: options.data_dir,
    kernels: options.kernels,
    cached_only: options.cached_only,
    python,
    apps: options.apps,
    vectors: options.vectors,
    agents: options.agents,
  };
  (options, Arc::new(hosts))
}

/// Pyodide's files, or why there are no Python kernels.
fn python_files(options: &Options) -> Result<PythonFiles, String> {
  let mut allowed = options.kernels.allowed.iter();
  if !allowed.any(|kind| kind.language == Language::Python) {
    return Err("Python kernels are not allowed on this server".into());
  }
  let folder = options.data_dir.join("pyodide");
  Ok(PythonFiles {
    assets: options.pyodide.path_in(&folder)?,
    packages: PackageFolders {
      local: options.pyodide_packages_dir.clone(),
      cache: folder.join("packages"),
    },
  })
}

#[cfg(test)]
mod tests {
  use super::*;

  #[tokio::test]
  async fn a_missing_hook_is_said() {
    let started = start(Options::new("/no/such/folder", None)).await;
    let error = started.err().expect("is refused").to_string();
    assert!(error.contains("call `embed::main_hook()` first"), "{error}");
  }
}
