//! What the tests share: a server of the built binary, a client that knows the API, and ways to
//! look at what they leave behind in the operating system.

mod app;
mod client;
mod events;
mod process;
mod registry;
mod server;
mod streams;
mod websocket;

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

pub(crate) use self::app::App;
pub(crate) use self::client::Answer;
pub(crate) use self::client::Client;
pub(crate) use self::client::Kernel;
pub(crate) use self::events::Events;
pub(crate) use self::process::children_of;
pub(crate) use self::process::exists;
pub(crate) use self::process::hosts_of;
pub(crate) use self::process::kill;
pub(crate) use self::process::listeners_of;
pub(crate) use self::process::zygotes_of;
pub(crate) use self::registry::ADD_WASM;
pub(crate) use self::registry::Loopback;
pub(crate) use self::registry::Reply;
pub(crate) use self::registry::Request;
pub(crate) use self::registry::Sources;
pub(crate) use self::server::Server;
pub(crate) use self::server::ServerBuilder;
pub(crate) use self::server::binary;
pub(crate) use self::streams::Lines;
pub(crate) use self::streams::LogLines;
pub(crate) use self::streams::Sse;
pub(crate) use self::streams::SseBlock;
pub(crate) use self::websocket::Frame;
pub(crate) use self::websocket::WebSocket;
pub(crate) use testing::hypha::Hypha;

/// Longest anything may take. Nothing is that slow: it is for machines with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A server with default settings, for every test that leaves no trace outside its own kernels.
pub(crate) fn shared_server() -> &'static Server {
  static SERVER: LazyLock<Server> = LazyLock::new(|| Server::builder().start());
  &SERVER
}

/// The interpreter of CPython kernels.
///
/// # Panics
/// When `scripts/test.sh`, which names one, does not run the tests.
pub(crate) fn cpython() -> String {
  std::env::var("CPYTHON_EXECUTABLE").expect("CPYTHON_EXECUTABLE: scripts/test.sh sets it")
}

/// One that allows CPython kernels too.
pub(crate) fn cpython_server() -> &'static Server {
  static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::builder()
      .env("ALLOWED_KERNEL_TYPES", "worker-cpython,worker-typescript")
      .env("CPYTHON_EXECUTABLE", cpython())
      .start()
  });
  &SERVER
}

/// A kernel of the shared server.
pub(crate) async fn kernel() -> Kernel {
  shared_server().client().typescript().await
}

/// Asks `condition` until it says yes.
///
/// # Panics
/// When it does not for longer than [`PATIENCE`].
pub(crate) async fn eventually<F: Future<Output = bool>>(
  what: &str,
  mut condition: impl FnMut() -> F,
) {
  let deadline = Instant::now() + PATIENCE;
  while !condition().await {
    assert!(Instant::now() < deadline, "never happened: {what}");
    tokio::time::sleep(Duration::from_millis(20)).await;
  }
}

/// Waits for a future that must not hang.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
  let output = tokio::time::timeout(PATIENCE, future).await;
  output.unwrap_or_else(|_| panic!("took too long: {what}"))
}

/// A name that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
  format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// The keys of a JSON object, sorted.
pub(crate) fn keys(value: &serde_json::Value) -> Vec<&str> {
  let mut keys: Vec<&str> = value
    .as_object()
    .map(|o| o.keys().map(String::as_str).collect())
    .unwrap_or_default();
  keys.sort_unstable();
  keys
}
