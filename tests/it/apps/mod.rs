//! Apps: published programs that the server runs and keeps alive, and the command that runs one in
//! the foreground.

mod access;
mod cli;
mod examples;
mod expected;
mod folders;
mod isolation;
mod life;
mod logs;
mod manifests;
mod operator;
mod origins;
mod ports;
mod posted;
mod reload;
mod requests;
mod streams;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::App;
use crate::support::Server;
use crate::support::ServerBuilder;

/// A server for every test whose apps are posted and deleted again.
fn apps_server() -> &'static Server {
  static SERVER: LazyLock<Server> = LazyLock::new(|| Server::builder().start());
  &SERVER
}

/// A TypeScript app of that server.
async fn app(script: &str) -> App {
  app_of(serde_json::json!({ "startup_script": script })).await
}

async fn app_of(manifest: Value) -> App {
  apps_server().client().post_app(manifest).await
}

/// An operator's folder of apps.
struct Folder(TempDir);

impl Folder {
  fn new() -> Self {
    Self(TempDir::new().expect("a temporary directory"))
  }

  fn path(&self) -> &Path {
    self.0.path()
  }

  /// Writes a file, and the folders it lies in.
  fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = self.path().join(name);
    let parent = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(parent)
      .and_then(|()| fs::write(&path, text))
      .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
  }

  /// Writes them all.
  fn with(self, files: &[(&str, &str)]) -> Self {
    for (name, text) in files {
      self.write(name, text);
    }
    self
  }

  /// A server that runs its apps.
  fn server(&self) -> ServerBuilder {
    Server::builder().env("APPS_DIR", self.path())
  }
}

/// Tests' own misbehaving apps, and the examples.
fn in_project(path: &str) -> PathBuf {
  Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
  fs::create_dir_all(to).expect("a folder can be made");
  for entry in fs::read_dir(from).expect("can be listed") {
    let entry = entry.expect("can be listed");
    let target = to.join(entry.file_name());
    if entry.path().is_dir() {
      copy(&entry.path(), &target);
    } else {
      fs::copy(entry.path(), target).expect("can be copied");
    }
  }
}
