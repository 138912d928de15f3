//! `deno-app-engine run`: one app in the foreground, with the permissions of the command line.

use std::io;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use embed::ZygoteOptions;
use engine::apps::script;
use kernel_protocol::KernelEvent;
use kernel_protocol::MainProgram;
use kernel_protocol::ProgramEvent;
use kernel_protocol::StreamName;
use kernels::CreateKernel;
use kernels::Grant;
use kernels::Kernel;
use kernels::KernelError;
use kernels::KernelType;
use kernels::Language;
use kernels::LaunchProgram;
use kernels::Mode;
use kernels::OwnFolders;
use kernels::PermissionRequest;
use kernels::ProgramNotice;
use kernels::launch::Tenant;
use kernels::spawner;
use rustix::process::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;

use crate::pyodide::PYODIDE;
use crate::settings::KernelArgs;
use crate::settings::default_data_dir;

/// The flags of `run`. As in Deno, a program may do nothing but what is allowed.
#[derive(Debug, Args)]
#[command(after_help = "Lists are separated by commas, e.g. --allow-net=example.com,0.0.0.0:8000.")]
pub(super) struct RunArgs {
  /// Allow everything.
  #[arg(short = 'A', long)]
  allow_all: bool,

  /// Allow reading files [default: those beside the script].
  #[arg(long, value_name = "PATHS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_read: Option<String>,

  /// Allow writing files.
  #[arg(long, value_name = "PATHS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_write: Option<String>,

  /// Allow connecting and listening.
  #[arg(long, value_name = "HOSTS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_net: Option<String>,

  /// Allow reading environment variables.
  #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_env: Option<String>,

  /// Allow running programs.
  #[arg(long, value_name = "PROGRAMS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_run: Option<String>,

  /// Allow loading libraries.
  #[arg(long, value_name = "PATHS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_ffi: Option<String>,

  /// Allow asking for information about the system.
  #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_sys: Option<String>,

  /// Hosts to import modules from [default: all].
  #[arg(long, value_name = "HOSTS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
  allow_import: Option<String>,

  /// Import only modules that are in the cache.
  #[arg(long, env = "DENO_CACHED_ONLY")]
  cached_only: bool,

  /// Run Python with the interpreter that CPYTHON_EXECUTABLE names instead of the sandboxed one.
  #[arg(long)]
  cpython: bool,

  /// Folder of the module cache.
  #[arg(long, env = "ENGINE_DATA_DIR", value_name = "DIR")]
  data_dir: Option<PathBuf>,

  /// The script: TypeScript, JavaScript or Python.
  script: PathBuf,

  /// What the script sees as its arguments.
  #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
  args: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
  #[error("{0} cannot be read: {1}")]
  Script(PathBuf, io::Error),
  #[error("{0}: the ending tells the language, {endings}", endings = script::extensions())]
  Language(PathBuf),
  #[error("no home directory is known: say where to keep modules with --data-dir")]
  NoDataDir,
  #[error("{0}")]
  Settings(String),
  #[error("{0}")]
  Kernel(#[from] KernelError),
  #[error("{0}")]
  Io(#[from] io::Error),
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode, RunError> {
  tokio::runtime::Builder::new_multi_thread()
    .worker_threads(2)
    .enable_all()
    .build()?
    .block_on(foreground(args))
}

async fn foreground(args: RunArgs) -> Result<ExitCode, RunError> {
  let script = args.script.canonicalize();
  let script = script.map_err(|e| RunError::Script(args.script.clone(), e))?;
  let language = match script::language_of(&script) {
    Some(Language::Python) if args.cpython => Language::CPython,
    Some(language) => language,
    None => return Err(RunError::Language(args.script)),
  };
  let data_dir = args.data_dir.clone().or_else(default_data_dir);
  let mut settings =
    KernelArgs::from_environment().map_err(|e| RunError::Settings(e.to_string()))?;
  settings.kernel_pool_enabled = false;
  settings.cached_only |= args.cached_only;
  settings.shared_files = true;
  settings.kernel_permissions_max = PermissionRequest::everything();
  settings.allowed_kernel_types.0 = vec![KernelType {
    mode: Mode::Worker,
    language,
  }];
  let data_dir = data_dir.ok_or(RunError::NoDataDir)?;
  let kernels = embed::start_kernels(embed::Options {
    kernels: settings.options(),
    cached_only: settings.cached_only,
    pyodide: PYODIDE,
    pyodide_packages_dir: settings.pyodide_packages_dir,
    // There is one program, and nothing else to share anything with.
    zygotes: ZygoteOptions::NONE,
    ..embed::Options::new(data_dir, None)
  })
  .await?;
  // Inherited by the program's process, the only one that is started here.
  let stdin = rustix::io::dup(io::stdin()).map_err(io::Error::from)?;
  let (notices, mut heard) = mpsc::channel(256);
  let program = LaunchProgram {
    label: script.display().to_string(),
    tenant: Tenant::Apps,
    kernel: CreateKernel {
      language,
      env: std::env::vars().collect(),
      permissions: args.permissions(&script),
      ..Default::default()
    },
    folders: OwnFolders {
      working: std::env::current_dir()?,
      read: script.parent().map(Path::to_owned).into_iter().collect(),
      write: Vec::new(),
    },
    own_address: None,
    program: MainProgram {
      path: script,
      args: args.args,
      behind_engine: false,
      stdin: Some(stdin.as_raw_fd()),
    },
  };
  let kernel = kernels.launch(program, notices).await?;
  let code = follow(&kernel, &mut heard).await;
  kernels.shut_down().await;
  spawner::end_orphans().await;
  Ok(code)
}

/// Shows what the program prints until it has ended.
async fn follow(kernel: &Kernel, heard: &mut mpsc::Receiver<ProgramNotice>) -> ExitCode {
  // What the program said last: it tells its own errors itself.
  let mut said = String::new();
  // Both outlive every look at them: a signal that comes in between is not lost.
  let mut interrupt = signal(SignalKind::interrupt()).ok();
  let mut terminate = signal(SignalKind::terminate()).ok();
  loop {
    let notice = tokio::select! {
      notice = heard.recv() => notice,
      () = next(&mut interrupt) => {
        kernel.signal(Signal::INT);
        continue;
      }
      () = next(&mut terminate) => {
        kernel.signal(Signal::TERM);
        continue;
      }
    };
    match notice {
      Some(ProgramNotice::Event(KernelEvent::Stream { name, text })) => {
        show(name, &text);
        if name == StreamName::Stderr {
          said = text;
        }
      }
      Some(ProgramNotice::Program(ProgramEvent::Finished { code })) => return exit_code(code),
      Some(ProgramNotice::Ended(end)) => {
        if end.died() && !said.contains(&end.reason) {
          show(
            StreamName::Stderr,
            &format!("error: the program {}\n", end.reason),
          );
        }
        return exit_code(end.code.unwrap_or(1));
      }
      Some(ProgramNotice::Event(_) | ProgramNotice::Program(_)) => {}
      None => return ExitCode::FAILURE,
    }
  }
}

/// Waits for the next signal, for ever where the system gives none.
async fn next(signals: &mut Option<tokio::signal::unix::Signal>) {
  match signals {
    Some(signals) => {
      signals.recv().await;
    }
    None => std::future::pending().await,
  }
}

/// The low byte, as every exit code.
fn exit_code(code: i32) -> ExitCode {
  ExitCode::from(code.to_le_bytes()[0])
}

fn show(name: StreamName, text: &str) {
  let _ = match name {
    StreamName::Stdout => {
      let mut out = io::stdout();
      out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }
    StreamName::Stderr => io::stderr().write_all(text.as_bytes()),
  };
}

impl RunArgs {
  fn permissions(&self, script: &Path) -> PermissionRequest {
    let grant = |flag: &Option<String>| match flag {
      _ if self.allow_all => Grant::All(true),
      None => Grant::All(false),
      Some(list) if list.is_empty() => Grant::All(true),
      Some(list) => Grant::List(list.split(',').map(str::to_owned).collect()),
    };
    let read = match grant(&self.allow_read) {
      Grant::All(true) => Grant::All(true),
      granted => {
        let beside = script.parent().unwrap_or(script).display().to_string();
        let more = match granted {
          Grant::List(list) => list,
          Grant::All(_) => Vec::new(),
        };
        Grant::List(std::iter::once(beside).chain(more).collect())
      }
    };
    let import = match &self.allow_import {
      None => Grant::All(true),
      some => grant(some),
    };
    PermissionRequest {
      read: Some(read),
      write: Some(grant(&self.allow_write)),
      net: Some(grant(&self.allow_net)),
      env: Some(grant(&self.allow_env)),
      run: Some(grant(&self.allow_run)),
      ffi: Some(grant(&self.allow_ffi)),
      sys: Some(grant(&self.allow_sys)),
      import: Some(import),
    }
  }
}
