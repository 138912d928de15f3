//! A Hypha server of the tests' own, with published apps: `tests/hypha` says which.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::sync::LazyLock;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::sync::MutexGuard;

/// A running server; ends with this value, or with the test process.
pub struct Hypha {
  dir: TempDir,
  environment: HashMap<String, String>,
}

impl Hypha {
  /// The one that tests share. Only one test at a time has it: each sees what the others publish.
  pub async fn shared() -> MutexGuard<'static, Self> {
    static SERVER: LazyLock<Mutex<Hypha>> = LazyLock::new(|| Mutex::new(Hypha::start()));
    SERVER.lock().await
  }

  /// # Panics
  /// When it does not come up.
  pub fn start() -> Self {
    let dir = TempDir::new().expect("a temporary directory");
    let environment = start_in(dir.path());
    Self { dir, environment }
  }

  /// Starts what has ended, at the same address.
  ///
  /// # Panics
  /// When it does not come up.
  pub fn start_again(&mut self) {
    self.environment = start_in(self.dir.path());
  }

  /// Ends Hypha without warning, and leaves what it stored.
  ///
  /// # Panics
  /// When it does not run.
  pub fn kill(&self) {
    let file = self.dir.path().join("hypha.pid");
    let line = std::fs::read_to_string(file).expect("a running server has a pid file");
    let pid = line.split(' ').next().unwrap_or_default();
    let status = std::process::Command::new("kill")
      .args(["-KILL", pid])
      .status();
    assert!(
      status.expect("kill can be run").success(),
      "Hypha does not run"
    );
  }

  /// A variable of the clients' environment, such as HYPHA_SERVER_URL, HYPHA_TOKEN (of the operator of
  /// HYPHA_WORKSPACE) and HYPHA_USER_TOKEN (of a user of HYPHA_USER_WORKSPACE).
  pub fn env(&self, name: &str) -> &str {
    self.environment.get(name).map_or("", String::as_str)
  }

  /// The token of the administrator of the whole server.
  ///
  /// # Panics
  /// When the server was never started.
  pub fn root_token(&self) -> String {
    let file = self.dir.path().join("root_token");
    let token = std::fs::read_to_string(file).expect("a server has a root token");
    token.trim().to_owned()
  }

  /// Publishes, edits and deletes: see tests/hypha/seed.py.
  ///
  /// # Panics
  /// When that does not work.
  pub async fn seed(&self, arguments: &[&str]) {
    let output = self
      .python("seed.py", arguments, self.env("HYPHA_TOKEN"))
      .await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "seed.py {arguments:?}: {error}");
  }

  /// Connects with a token, registers a service and calls it, as an app would. The service's id, or the
  /// server's reason.
  ///
  /// # Errors
  /// When the server does not permit it.
  pub async fn register_service(
    &self,
    token: &str,
    workspace: Option<&str>,
  ) -> Result<String, String> {
    let workspace: Vec<&str> = workspace.into_iter().collect();
    let output = self.python("client.py", &workspace, token).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
      Ok(text(&output.stdout))
    } else {
      Err(text(&output.stderr))
    }
  }

  /// Calls a method of a service with the official client, as the operator of the workspace. What it returns.
  ///
  /// # Panics
  /// When it cannot be called.
  pub async fn call(&self, service: &str, method: &str, argument: &str) -> String {
    let arguments = ["call", service, method, argument];
    let token = self.env("HYPHA_TOKEN");
    let output = self.python("client.py", &arguments, token).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "client.py {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
  }

  /// Calls the service of an engine with the official client: see tests/hypha/service_calls.py.
  ///
  /// # Panics
  /// When something is not as it should be.
  pub async fn service_calls(&self, arguments: &[&str]) {
    self.script("service_calls.py", arguments).await;
  }

  /// Runs a script of tests/hypha, which connects as the operator of HYPHA_WORKSPACE.
  ///
  /// # Panics
  /// When something is not as it should be.
  pub async fn script(&self, name: &str, arguments: &[&str]) {
    let output = self.python(name, arguments, self.env("HYPHA_TOKEN")).await;
    succeeds(name, arguments, &output);
  }

  /// Runs a script of tests/hypha with an official JavaScript client, a package of tests/hypha/package.json.
  ///
  /// # Panics
  /// When something is not as it should be.
  pub async fn javascript(&self, modules: &str, package: &str, arguments: &[&str]) {
    let mut command = Command::new("node");
    command
      .arg("--experimental-websocket")
      .arg(folder().join("clients.mjs"))
      .arg(package)
      .args(arguments)
      .env("HYPHA_TEST_NODE_MODULES", modules);
    let output = self.output(command, self.env("HYPHA_TOKEN")).await;
    succeeds(package, arguments, &output);
  }

  /// Lets Hypha install and run apps on the engine at `port` of 127.0.0.1: see tests/hypha/worker_calls.py.
  ///
  /// # Panics
  /// When something is not as it should be.
  pub async fn worker_calls(&self, port: u16, group: &str) {
    let engine = format!("http://127.0.0.1:{port}");
    let token = self.env("HYPHA_TOKEN");
    let output = self
      .python("worker_calls.py", &[&engine, group], token)
      .await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "worker_calls.py {group}: {error}");
  }

  /// Starts an engine without a token and logs in: see tests/hypha/log_in.py.
  ///
  /// # Panics
  /// When something is not as it should be.
  pub async fn log_in(&self, binary: &str, folder: &Path) {
    let folder = folder.to_string_lossy();
    let token = self.env("HYPHA_TOKEN");
    let output = self.python("log_in.py", &[binary, &folder], token).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "log_in.py: {error}");
  }

  async fn python(&self, script: &str, arguments: &[&str], token: &str) -> Output {
    let mut command = Command::new(python());
    command
      .arg(folder().join(script))
      .args(arguments)
      .env("PYTHONWARNINGS", "ignore");
    self.output(command, token).await
  }

  async fn output(&self, mut command: Command, token: &str) -> Output {
    for name in [
      "HYPHA_SERVER_URL",
      "HYPHA_WORKSPACE",
      "HYPHA_USER_WORKSPACE",
      "HYPHA_USER_TOKEN",
    ] {
      command.env(name, self.env(name));
    }
    let output = command
      .env("HYPHA_TOKEN", token)
      .stdin(Stdio::null())
      .kill_on_drop(true)
      .output();
    output.await.expect("the script can be run")
  }
}

fn succeeds(name: &str, arguments: &[&str], output: &Output) {
  let error = String::from_utf8_lossy(&output.stderr);
  assert!(output.status.success(), "{name} {arguments:?}: {error}");
}

impl Drop for Hypha {
  fn drop(&mut self) {
    let _ = server_sh("stop", [self.dir.path().as_os_str()]);
  }
}

fn folder() -> PathBuf {
  crate::repository().join("tests/hypha")
}

fn python() -> String {
  std::env::var("HYPHA_TEST_PYTHON").expect("HYPHA_TEST_PYTHON: scripts/test.sh sets it")
}

fn start_in(dir: &Path) -> HashMap<String, String> {
  // A server that nobody ends would outlive tests that are killed.
  let owner = std::process::id().to_string();
  let output = server_sh("start", [dir.as_os_str(), owner.as_ref()]);
  let error = String::from_utf8_lossy(&output.stderr);
  assert!(output.status.success(), "Hypha does not start: {error}");
  String::from_utf8_lossy(&output.stdout)
    .lines()
    .filter_map(|line| line.split_once('='))
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn server_sh<'a>(command: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Output {
  let output = std::process::Command::new(folder().join("server.sh"))
    .arg(command)
    .args(arguments)
    .env("HYPHA_TEST_PYTHON", python())
    .stdin(Stdio::null())
    .output();
  output.expect("server.sh can be run")
}
