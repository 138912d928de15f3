//! An engine whose kernels are played, and calls of the service's methods.

use std::sync::Arc;

use ::engine::AppOptions;
use ::engine::Engine;
use ::engine::EngineOptions;
use ::engine::agents::AgentOptions;
use ::engine::agents::ModelSettings;
use ::engine::hypha_client::Artifacts;
use ::engine::kernel_protocol::launch::PackageFolders;
use ::engine::kernel_protocol::launch::PythonFiles;
use ::engine::kernels::KernelOptions;
use ::engine::kernels::PoolOptions;
use ::engine::vectordb::VectorDbOptions;
use access::Secret;
use futures::StreamExt;
use futures::stream::BoxStream;
use hypha_service::Answer;
use hypha_service::Asker;
use hypha_service::Method;
use hypha_service::Service;
use hypha_service::methods;
use serde_json::Value;
use tempfile::TempDir;

use crate::hosts::PlayedHosts;

/// The workspace that the service runs in.
pub(crate) const OWN: &str = "home";
/// Agents that one workspace may have.
pub(crate) const AGENTS: usize = 3;

pub(crate) struct Played {
  pub service: Arc<Service>,
  methods: Vec<Method>,
  _data: TempDir,
}

impl Played {
  pub(crate) fn new() -> Self {
    Self::with("http://127.0.0.1:9/v1", None)
  }

  /// One whose agents ask the model at this address, and which runs the apps of a collection.
  pub(crate) fn with(model: &str, artifacts: Option<Arc<Artifacts>>) -> Self {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path();
    let agents = AgentOptions::new(folder.join("agents"));
    let agents = AgentOptions {
      max_per_namespace: AGENTS,
      default_model: ModelSettings {
        base_url: model.to_owned(),
        api_key: Some(Secret::new("sk-of-the-operator")),
        ..agents.default_model
      },
      ..agents
    };
    let options = EngineOptions {
      data_dir: folder.to_owned(),
      kernels: KernelOptions {
        pool: PoolOptions {
          enabled: false,
          ..KernelOptions::default().pool
        },
        ..KernelOptions::default()
      },
      cached_only: true,
      python: Ok(PythonFiles {
        assets: folder.join("pyodide"),
        packages: PackageFolders {
          local: None,
          cache: folder.join("pyodide/packages"),
        },
      }),
      apps: AppOptions {
        artifacts,
        ..AppOptions::default()
      },
      vectors: VectorDbOptions::new(folder.join("vectordb")),
      agents,
    };
    let engine = Engine::start(options, Arc::new(PlayedHosts)).expect("starts");
    Self {
      service: Arc::new(Service::new(engine, OWN.to_owned())),
      methods: methods(),
      _data: data,
    }
  }

  pub(crate) fn engine(&self) -> &Engine {
    &self.service.engine
  }

  pub(crate) fn method(&self, name: &str) -> &Method {
    let method = self.methods.iter().find(|method| method.name == name);
    method.unwrap_or_else(|| panic!("there is no method {name}"))
  }

  /// Calls a method from a workspace.
  pub(crate) async fn try_call(
    &self,
    workspace: &str,
    name: &str,
    given: Value,
  ) -> Result<Answer, String> {
    let Value::Object(given) = given else {
      panic!("parameters have names");
    };
    let asker = Asker {
      workspace: workspace.to_owned(),
      is_own: workspace == OWN,
      is_anonymous: false,
    };
    let called = self.method(name).call(self.service.clone(), asker, given);
    called.await.map_err(|failure| failure.to_string())
  }

  pub(crate) async fn call(&self, workspace: &str, name: &str, given: Value) -> Value {
    match self.try_call(workspace, name, given).await {
      Ok(Answer::Value(value)) => value,
      Ok(Answer::Stream(_)) => panic!("{name} yields"),
      Err(failure) => panic!("{name}: {failure}"),
    }
  }

  /// Why a call is refused.
  pub(crate) async fn failure(&self, workspace: &str, name: &str, given: Value) -> String {
    match self.try_call(workspace, name, given).await {
      Err(failure) => failure,
      Ok(Answer::Value(value)) => panic!("{name} answers {value}"),
      Ok(Answer::Stream(_)) => panic!("{name} yields"),
    }
  }

  pub(crate) async fn stream(
    &self,
    workspace: &str,
    name: &str,
    given: Value,
  ) -> BoxStream<'static, Value> {
    match self.try_call(workspace, name, given).await {
      Ok(Answer::Stream(stream)) => stream,
      Ok(Answer::Value(value)) => panic!("{name} answers {value}"),
      Err(failure) => panic!("{name}: {failure}"),
    }
  }

  /// All that a call yields.
  pub(crate) async fn yields(&self, workspace: &str, name: &str, given: Value) -> Vec<Value> {
    self.stream(workspace, name, given).await.collect().await
  }
}

/// Takes a member that is a time, as clients have it, out of an answer.
pub(crate) fn take_time(answer: &mut Value, member: &str) -> String {
  let time = answer[member].take();
  let time = time.as_str().unwrap_or_default().to_owned();
  let form: String = time
    .chars()
    .map(|c| if c.is_ascii_digit() { '0' } else { c })
    .collect();
  assert_eq!(form, "0000-00-00T00:00:00.000Z", "{member}");
  time
}
