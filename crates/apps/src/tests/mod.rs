//! Apps against a stand-in for their processes, which the tests play.

mod folder;
mod instance;
mod life;
mod manager;
mod properties;
mod published;
mod reload;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::app::App;
use crate::manifest::WrittenManifest;
use crate::spec::AppSpec;
use crate::spec::Source;
use crate::status::AppState;
use crate::tests::instance::Process;
use crate::tests::instance::Processes;

const GRACE: Duration = Duration::from_secs(5);

fn seconds(seconds: u64) -> Duration {
  Duration::from_secs(seconds)
}

fn written(manifest: &Value) -> WrittenManifest {
  WrittenManifest::parse(&manifest.to_string()).expect("a manifest")
}

fn spec_of(manifest: &Value) -> AppSpec {
  let manifest = written(manifest).check(None).expect("valid");
  AppSpec::of_script(manifest, Source::Posted).expect("has a script")
}

fn with_policy(policy: &str) -> AppSpec {
  spec_of(&json!({"id": "a", "startup_script": "1", "restart": policy}))
}

fn start(spec: AppSpec) -> (Arc<App>, Processes) {
  let (launcher, processes) = instance::processes();
  (
    App::start_new(spec, launcher, Arc::new(|_| None)),
    processes,
  )
}

/// An app whose first instance runs and listens.
async fn serving(spec: AppSpec) -> (Arc<App>, Processes, Process) {
  let (app, mut processes) = start(spec);
  let mut process = processes.next().await;
  process.starts();
  process.listens();
  app.upstream(seconds(1)).await.expect("listens");
  (app, processes, process)
}

/// Waits until an app is in a state.
async fn becomes(app: &App, state: AppState) {
  let mut changes = app.watch();
  let reached = async {
    while app.status().state != state {
      changes.changed().await.expect("the app is there");
    }
  };
  let reached = tokio::time::timeout(seconds(3600), reached).await;
  assert!(reached.is_ok(), "never {state:?}: {:?}", app.status());
}

fn texts(app: &App) -> Vec<String> {
  app
    .log
    .last(usize::MAX)
    .iter()
    .map(|entry| entry.text.clone())
    .collect()
}
