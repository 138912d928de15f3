//! An engine that starts no kernel, and callers of its service.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use engine::AppOptions;
use engine::Engine;
use engine::EngineOptions;
use engine::agents::AgentOptions;
use engine::kernels::KernelOptions;
use engine::kernels::PoolOptions;
use engine::kernels::launch::HostProcess;
use engine::kernels::launch::Hosts;
use engine::kernels::launch::LaunchSpec;
use engine::kernels::launch::Tenant;
use engine::vectordb::VectorDbOptions;
use hypha_service::Answer;
use hypha_service::Asker;
use hypha_service::Method;
use hypha_service::Service;
use serde_json::Value;
use tempfile::TempDir;

/// The workspace that the service runs in.
pub(crate) const HOME: &str = "home";

/// Hosts that do not start.
struct NoHosts;

#[async_trait]
impl Hosts for NoHosts {
  async fn check(&self, _: &LaunchSpec) -> Result<(), String> {
    Err("no kernel starts here".to_owned())
  }

  async fn start(
    &self,
    _: &LaunchSpec,
    _: &Tenant,
    _: UnixStream,
  ) -> io::Result<Box<dyn HostProcess>> {
    Err(io::Error::other("no kernel starts here"))
  }

  async fn start_on_thread(&self, _: &LaunchSpec, _: UnixStream) -> io::Result<()> {
    Err(io::Error::other("no kernel starts here"))
  }

  fn close(&self) {}
}

/// A service of its own for a test.
pub(crate) struct Fixture {
  service: Arc<Service>,
  methods: Vec<Method>,
  /// Removed at the end.
  _data: TempDir,
}

impl Fixture {
  pub(crate) fn new() -> Self {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path().to_owned();
    let kernels = KernelOptions {
      pool: PoolOptions {
        enabled: false,
        ..KernelOptions::default().pool
      },
      ..KernelOptions::default()
    };
    let options = EngineOptions {
      kernels,
      cached_only: true,
      python: Err("no kernel starts here".to_owned()),
      apps: AppOptions::default(),
      vectors: VectorDbOptions::new(folder.join("vectordb")),
      agents: AgentOptions::new(folder.join("agents")),
      data_dir: folder,
    };
    let engine = Engine::start(options, Arc::new(NoHosts)).expect("an engine");
    Self {
      service: Arc::new(Service::new(engine, HOME.to_owned())),
      methods: hypha_service::methods(),
      _data: data,
    }
  }

  /// What a method answers a caller of `workspace`, or the message of its failure.
  pub(crate) async fn call(
    &self,
    workspace: &str,
    method: &str,
    given: Value,
  ) -> Result<Value, String> {
    let found = self.methods.iter().find(|it| it.name == method);
    let asker = Asker {
      workspace: workspace.to_owned(),
      is_own: workspace == HOME,
      is_anonymous: false,
    };
    let given = given.as_object().expect("an object").clone();
    let answered = found
      .expect(method)
      .call(self.service.clone(), asker, given);
    match answered.await {
      Ok(Answer::Value(value)) => Ok(value),
      Ok(Answer::Stream(_)) => panic!("{method} answers a stream"),
      Err(failure) => Err(failure.to_string()),
    }
  }

  /// What a method answers, with [`TIME`] for every timestamp.
  pub(crate) async fn ok(&self, workspace: &str, method: &str, given: Value) -> Value {
    let answered = self.call(workspace, method, given).await;
    timeless(answered.expect(method))
  }

  /// Why a method fails.
  pub(crate) async fn fails(&self, workspace: &str, method: &str, given: Value) -> String {
    let answered = self.call(workspace, method, given).await;
    answered.expect_err(method)
  }
}

/// What stands for every timestamp in what is compared.
pub(crate) const TIME: &str = "<time>";

/// Replaces timestamps, which are UTC and have milliseconds.
fn timeless(value: Value) -> Value {
  let is_time = |text: &str| {
    text.len() == 24 && text.ends_with('Z') && DateTime::parse_from_rfc3339(text).is_ok()
  };
  match value {
    Value::String(text) if is_time(&text) => TIME.into(),
    Value::Array(items) => items.into_iter().map(timeless).collect(),
    Value::Object(members) => members
      .into_iter()
      .map(|(name, value)| (name, timeless(value)))
      .collect(),
    other => other,
  }
}
