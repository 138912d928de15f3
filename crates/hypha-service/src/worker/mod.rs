//! The engine as a worker of Hypha's app controller: Hypha installs, starts, stops and scales apps of the type
//! `deno-app`, and the engine runs them, each as a session with a token and a name of its own.

mod call;
mod forgotten;
mod program;
mod sessions;
mod stand_in;

use std::path::PathBuf;
use std::sync::Arc;

use engine::Engine;
use engine::hypha_client::ArtifactFiles;
use engine::hypha_client::ArtifactsError;
use hypha_rpc::Arguments;
use hypha_rpc::Context;
use hypha_rpc::Method;
use hypha_rpc::RemoteError;
use hypha_rpc::Service;
use hypha_rpc::Value;
use hypha_rpc::Visibility;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use self::call::given;
use self::stand_in::StandIns;
use crate::connection::HyphaOptions;
use crate::method::Failure;

/// Id of the worker's service, beside that of the engine.
const WORKER_ID: &str = "deno-app-worker";
/// The type of service that the controller looks for.
const WORKER_TYPE: &str = "server-app-worker";
/// The type of apps that the worker runs.
const APP_TYPE: &str = "deno-app";
/// Where the controller calls from.
const CONTROLLER_WORKSPACE: &str = "public";

/// Whose apps the engine runs as a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
  /// Those of every workspace, instead of the engine's own alone.
  pub for_everyone: bool,
  /// Certificate authorities (PEM file) to trust besides those of the platform.
  pub certificates: Option<PathBuf>,
}

/// Runs apps for a Hypha server.
pub(crate) struct Worker {
  engine: Arc<Engine>,
  files: ArtifactFiles,
  hypha: HyphaOptions,
  /// The engine's own workspace.
  workspace: String,
  for_everyone: bool,
  stand_ins: StandIns,
}

impl Worker {
  /// # Errors
  /// When files cannot be read from this server: the address cannot work, or the certificates cannot be read.
  pub(crate) fn new(
    engine: Arc<Engine>,
    workspace: String,
    hypha: HyphaOptions,
    options: &WorkerOptions,
  ) -> Result<Arc<Self>, ArtifactsError> {
    let files = ArtifactFiles::new(hypha.server_url.clone(), options.certificates.as_deref())?;
    Ok(Arc::new(Self {
      engine,
      files,
      hypha,
      workspace,
      for_everyone: options.for_everyone,
      stand_ins: StandIns::default(),
    }))
  }

  /// The service that the controller finds.
  pub(crate) fn service(self: &Arc<Self>) -> Service {
    let offered = Service::new(WORKER_ID)
      .name("Deno App Engine")
      .kind(WORKER_TYPE)
      .description("Runs apps of the type deno-app: programs in TypeScript, JavaScript and Python")
      .data("supported_types", vec![Value::from(APP_TYPE)])
      .data("use_local_url", false);
    let offered = if self.for_everyone {
      offered.visibility(Visibility::Public)
    } else {
      offered.share_with(CONTROLLER_WORKSPACE)
    };
    offered
      .method(self.method(
        "compile",
        "Checks the program of an app that is being installed, and names the file that it starts with",
        &["manifest", "files", "config"],
        program::compile,
      ))
      .method(self.method(
        "start",
        "Starts an app; returns the id of its session",
        &["config"],
        sessions::start,
      ))
      .method(self.method(
        "stop",
        "Ends a session. One that has ended is none",
        &["session_id"],
        sessions::stop,
      ))
      .method(self.method(
        "get_logs",
        "Reads what a session has printed, and what the engine says of it",
        &["session_id", "type", "offset", "limit"],
        sessions::logs,
      ))
      .method(self.method(
        "execute",
        "Runs code in a session, beside its program",
        &["session_id", "script", "config"],
        sessions::execute,
      ))
      .method(self.method(
        "list_sessions",
        "Lists the sessions of the caller's workspace",
        &[],
        sessions::list,
      ))
      .method(self.method(
        "get_load",
        "The number of apps that the engine has",
        &[],
        sessions::load,
      ))
  }

  fn method<P, F>(
    self: &Arc<Self>,
    name: &str,
    description: &str,
    names: &'static [&'static str],
    work: impl Fn(Asked, P) -> F + Send + Sync + Copy + 'static,
  ) -> Method
  where
    P: DeserializeOwned + ToSchema + Send + 'static,
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
  {
    let worker = self.clone();
    let handler = move |context: Context, arguments: Arguments| {
      let worker = worker.clone();
      async move {
        let parameters = given::<P>(&arguments, names)?;
        let asked = Asked {
          worker,
          context,
          arguments,
        };
        let done = work(asked, parameters).await;
        done.map_err(|failure| RemoteError::new(failure.to_string()))
      }
    };
    Method::new(name, handler)
      .description(description)
      .schema(serde_json::to_value(P::schema()).unwrap_or_default())
  }

  /// Whether a caller may have to do with the apps of a workspace: they are the caller's, or the controller asks, who
  /// has checked that. Whatever else a caller says counts for nothing.
  fn admit(&self, context: &Context, workspace: &str) -> Result<(), Failure> {
    // Everybody may enter the controller's workspace, and nobody else is an administrator there.
    let is_controller = context.workspace == CONTROLLER_WORKSPACE
      && !context.user.is_anonymous
      && context.user.roles.iter().any(|role| role == "admin");
    if !is_controller && context.workspace != workspace {
      return Err(Failure::new(format!(
        "Permission denied: the session is of the workspace {workspace}"
      )));
    }
    if context.user.is_anonymous && workspace != self.workspace {
      return Err(Failure::new("Permission denied: log in to run apps"));
    }
    if !self.for_everyone && workspace != self.workspace {
      return Err(Failure::new(format!(
        "this worker runs apps of the workspace {} only",
        self.workspace
      )));
    }
    Ok(())
  }
}

/// A call of a method.
struct Asked {
  worker: Arc<Worker>,
  context: Context,
  arguments: Arguments,
}
