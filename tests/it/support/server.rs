//! The built binary as a server of its own data directory.

use std::ffi::OsStr;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;

use rustix::process::Signal;
use tempfile::TempDir;

use super::Client;
use super::PATIENCE;

/// The binary under test.
pub(crate) fn binary() -> &'static str {
  env!("CARGO_BIN_EXE_deno-app-engine")
}

/// A running server; ends with this value, or with the test process.
pub(crate) struct Server {
  child: Child,
  port: u16,
  log: Log,
  dir: TempDir,
}

type Log = Arc<Mutex<Vec<String>>>;

/// How to start one. It sees nothing of the tests' environment.
pub(crate) struct ServerBuilder {
  command: Command,
  /// Where it keeps its files, unless told otherwise.
  dir: TempDir,
  data_dir: Option<PathBuf>,
}

impl ServerBuilder {
  pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
    self.command.env(name, value);
    self
  }

  pub(crate) fn arg(mut self, value: impl AsRef<OsStr>) -> Self {
    self.command.arg(value);
    self
  }

  /// Lets it keep its files in a folder that outlives it.
  pub(crate) fn data_dir(mut self, path: &Path) -> Self {
    self.data_dir = Some(path.to_owned());
    self
  }

  /// # Panics
  /// When the server does not come up.
  pub(crate) fn start(mut self) -> Server {
    let data_dir = self.data_dir.as_deref().unwrap_or(self.dir.path());
    self
      .command
      .arg("--data-dir")
      .arg(data_dir)
      .stdin(Stdio::null())
      .stdout(Stdio::null())
      .stderr(Stdio::piped());
    let mut child = spawn(self.command).expect("the binary can be started");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (log, port) = read_log(stderr);
    let port = port.recv_timeout(PATIENCE).unwrap_or_else(|_| {
      let _ = child.kill();
      panic!("the server did not come up:\n{}", text(&log));
    });
    Server {
      child,
      port,
      log,
      dir: self.dir,
    }
  }
}

impl Server {
  pub(crate) fn builder() -> ServerBuilder {
    Self::builder_of(Command::new(binary()))
  }

  /// One that is started by a script of the shell, which ends in `exec "$0" "$@"`.
  pub(crate) fn builder_in(shell: &str, script: &str) -> ServerBuilder {
    let mut words = shell.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).arg("-c").arg(script).arg(binary());
    Self::builder_of(command)
  }

  fn builder_of(mut command: Command) -> ServerBuilder {
    let dir = TempDir::new().expect("a temporary directory");
    command
      .env_clear()
      .arg("serve")
      .env("ENGINE_PORT", "0")
      // Blank kernels that no test takes would only slow it down.
      .env("KERNEL_POOL_ENABLED", "false");
    ServerBuilder {
      command,
      dir,
      data_dir: None,
    }
  }

  /// A client for this server. It belongs to the runtime it is used in: make one for each test.
  pub(crate) fn client(&self) -> Client {
    Client::new(self.port)
  }

  pub(crate) fn port(&self) -> u16 {
    self.port
  }

  pub(crate) fn pid(&self) -> u32 {
    self.child.id()
  }

  /// The folders that kernels work in.
  pub(crate) fn scratch_folders(&self) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
      std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect()
    };
    list(&self.dir.path().join("scratch"))
      .iter()
      .flat_map(|server| list(server))
      .collect()
  }

  /// Everything the server has logged.
  pub(crate) fn log(&self) -> String {
    text(&self.log)
  }

  pub(crate) fn signal(&self, signal: Signal) {
    super::kill(self.pid(), signal);
  }

  /// Waits until the server has ended.
  pub(crate) async fn ended(&mut self) -> ExitStatus {
    let mut status = None;
    super::eventually("the server ends", || {
      status = self.child.try_wait().expect("the server can be waited for");
      std::future::ready(status.is_some())
    })
    .await;
    status.expect("has ended")
  }
}

impl Drop for Server {
  #[expect(
    clippy::print_stderr,
    reason = "what explains a failed test belongs to its output"
  )]
  fn drop(&mut self) {
    let _ = self.child.kill();
    let _ = self.child.wait();
    if std::thread::panicking() {
      eprintln!("log of the server:\n{}", self.log());
    }
  }
}

fn text(log: &Log) -> String {
  log
    .lock()
    .unwrap_or_else(PoisonError::into_inner)
    .join("\n")
}

/// Reads the log for as long as the server writes it, and finds the port in it.
fn read_log(stderr: ChildStderr) -> (Log, mpsc::Receiver<u16>) {
  let log = Log::default();
  let (found, port) = mpsc::channel();
  let lines = log.clone();
  std::thread::spawn(move || {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
      if let Some(number) = port_in(&line) {
        let _ = found.send(number);
      }
      lines
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line);
    }
  });
  (log, port)
}

fn port_in(line: &str) -> Option<u16> {
  let (_, address) = line.split_once("listening on http://")?;
  let (_, port) = address.split_whitespace().next()?.rsplit_once(':')?;
  port.parse().ok()
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a process that dies with this one. The kernel binds that to the thread that starts it,
/// and the threads of tests come and go: one thread that stays does it for all.
fn spawn(mut command: Command) -> io::Result<Child> {
  static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
      for (mut command, done) in queue {
        let _ = done.send(command.spawn());
      }
    });
    jobs
  });
  // SAFETY: between fork and exec it makes one system call and allocates nothing.
  unsafe {
    command.pre_exec(|| {
      rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
    });
  }
  let gone = || io::Error::other("the thread that starts servers is gone");
  let (done, child) = mpsc::channel();
  SPAWNER.send((command, done)).map_err(|_| gone())?;
  child.recv().map_err(|_| gone())?
}
