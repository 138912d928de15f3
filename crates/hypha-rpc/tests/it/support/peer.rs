//! The official Python client as the other side.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value as Json;
use testing::hypha::Hypha;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;

use super::soon;

/// A connected Python client, which runs what it is told. It ends with this value.
pub(crate) struct Peer {
  process: Child,
  input: ChildStdin,
  output: Lines<BufReader<ChildStdout>>,
  pub(crate) address: String,
}

impl Peer {
  /// One in the operator's workspace.
  pub(crate) async fn operator(hypha: &Hypha) -> Self {
    Self::connect(hypha, hypha.env("HYPHA_TOKEN")).await
  }

  /// One in the workspace of a user who is no operator.
  pub(crate) async fn user(hypha: &Hypha) -> Self {
    Self::connect(hypha, hypha.env("HYPHA_USER_TOKEN")).await
  }

  async fn connect(hypha: &Hypha, token: &str) -> Self {
    let python = std::env::var("HYPHA_TEST_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peer.py");
    let mut process = Command::new(python.expect("HYPHA_TEST_PYTHON: scripts/test.sh sets it"))
      .arg(script)
      .env("HYPHA_SERVER_URL", hypha.env("HYPHA_SERVER_URL"))
      .env("HYPHA_TOKEN", token)
      .env("PYTHONWARNINGS", "ignore")
      .stdin(Stdio::piped())
      .stdout(Stdio::piped())
      .kill_on_drop(true)
      .spawn()
      .expect("Python can be run");
    let input = process.stdin.take().expect("a pipe");
    let output = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut peer = Self {
      process,
      input,
      output,
      address: String::new(),
    };
    let address = peer.answer().await.expect("the client connects");
    address
      .as_str()
      .unwrap_or_default()
      .clone_into(&mut peer.address);
    peer
  }

  /// Runs the body of an async Python function. What it returns, or its error as a text.
  pub(crate) async fn run(&mut self, body: &str) -> Result<Json, String> {
    self.begin(body).await;
    self.answer().await
  }

  /// As [`Peer::run`], for what must succeed.
  pub(crate) async fn ok(&mut self, body: &str) -> Json {
    match self.run(body).await {
      Ok(value) => value,
      Err(error) => panic!("{body}: {error}"),
    }
  }

  /// Tells it what to run, and does not wait for the end.
  pub(crate) async fn begin(&mut self, body: &str) {
    let line = format!("{}\n", Json::from(body));
    let written = self.input.write_all(line.as_bytes()).await;
    written.expect("the client takes commands");
  }

  /// Waits for the end of what was begun first.
  pub(crate) async fn answer(&mut self) -> Result<Json, String> {
    let line = soon(self.output.next_line()).await;
    let line = line.expect("the client's output is text");
    let line = line.expect("the client does not end by itself");
    let mut answer: Json = serde_json::from_str(&line).expect("an answer in JSON");
    match answer["error"].as_str() {
      Some(error) => Err(error.to_owned()),
      None => Ok(answer["ok"].take()),
    }
  }

  /// Ends the client without a word.
  pub(crate) async fn kill(mut self) {
    self.process.kill().await.expect("the client can be ended");
  }
}
