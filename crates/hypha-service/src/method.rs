//! What a method of the service is: a name, what it takes, and what it does.

use std::fmt;
use std::sync::Arc;

use access::Caller;
use access::Classified;
use access::ErrorKind;
use access::Scope;
use engine::Engine;
use engine::kernels::EnvironmentSource;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

use crate::tokens;
use crate::tokens::ForAgents;
use crate::tokens::ForKernels;

/// Who calls, as the Hypha server attests it.
#[derive(Debug, Clone)]
pub struct Asker {
  /// The caller's workspace, which is the namespace of what is theirs.
  pub workspace: String,
  /// Whether it is the workspace that the service runs in.
  pub is_own: bool,
  /// Whether nobody knows who it is.
  pub is_anonymous: bool,
}

impl Asker {
  /// Whoever asks for kernels, agents and indices: those of their workspace.
  pub(crate) fn caller(&self) -> Caller {
    Caller::of(Scope::Namespace(self.workspace.clone()))
  }

  /// # Errors
  /// When they are not of the service's own workspace, with the words of the original.
  pub(crate) fn require_own(&self, service: &Service, what: &str) -> Result<(), Failure> {
    match self.is_own {
      true => Ok(()),
      false => Err(Failure::new(format!(
        "Permission denied: Only {} workspace can {what}",
        service.workspace
      ))),
    }
  }
}

/// What methods work with.
pub struct Service {
  pub engine: Arc<Engine>,
  /// The workspace that the service runs in.
  pub workspace: String,
  /// What kernels are given of the Hypha server; `None` where there is none.
  hypha: Option<Arc<ForKernels>>,
}

impl Service {
  /// A service without a Hypha server.
  pub fn new(engine: Arc<Engine>, workspace: String) -> Self {
    Self {
      engine,
      workspace,
      hypha: None,
    }
  }

  /// One whose kernels, and those of agents, are told of a Hypha server.
  pub(crate) fn at_hypha(engine: Arc<Engine>, workspace: String, hypha: Arc<ForKernels>) -> Self {
    engine
      .agents
      .set_environments(Arc::new(ForAgents(hypha.clone())));
    Self {
      hypha: Some(hypha),
      ..Self::new(engine, workspace)
    }
  }

  /// What makes variables for the kernels of a caller.
  pub(crate) fn environment(&self, asker: &Asker) -> Option<Arc<dyn EnvironmentSource>> {
    let hypha = self.hypha.as_ref();
    hypha.map(|hypha| hypha.environment(asker))
  }

  /// Whose variables the kernels of a caller's agents get.
  pub(crate) fn environment_name(&self, asker: &Asker) -> Option<String> {
    self.hypha.is_some().then(|| tokens::name_of(asker))
  }
}

/// What a method answers.
pub enum Answer {
  Value(Value),
  /// One value after the other, as they are asked for.
  Stream(BoxStream<'static, Value>),
}

/// Why a method could not do what it was asked for, as its caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
  pub(crate) fn new(message: impl Into<String>) -> Self {
    Self(message.into())
  }
}

impl fmt::Display for Failure {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}

/// All callers are tenants: what is the operator's to know is in the log only.
impl<E: Classified> From<E> for Failure {
  fn from(error: E) -> Self {
    match error.kind() {
      ErrorKind::Internal => tracing::error!("{error}"),
      ErrorKind::Upstream => tracing::warn!("{error}"),
      _ => {}
    }
    Self(error.public().unwrap_or_else(|| error.to_string()))
  }
}

pub(crate) type Outcome = Result<Answer, Failure>;

/// A call, with what it was given.
pub(crate) struct Call<P> {
  pub service: Arc<Service>,
  pub asker: Asker,
  pub given: P,
}

/// What a bare value stands for, in the order in which it is looked for.
const FIRST: [&str; 5] = ["kernelId", "indexId", "agentId", "appId", "providerId"];

type Work =
  dyn Fn(Arc<Service>, Asker, Map<String, Value>) -> BoxFuture<'static, Outcome> + Send + Sync;

/// A method of the service.
pub struct Method {
  pub name: &'static str,
  pub description: &'static str,
  /// JSON schema of what it takes: an object.
  pub parameters: Value,
  work: Box<Work>,
}

impl Method {
  /// A method that takes the members of `P`. Members that `P` does not have are ignored, for known clients send
  /// some; null is as good as absent.
  pub(crate) fn new<P, F>(
    name: &'static str,
    description: &'static str,
    work: impl Fn(Call<P>) -> F + Send + Sync + Copy + 'static,
  ) -> Self
  where
    P: DeserializeOwned + ToSchema + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
  {
    let run = move |service, asker, given: Map<String, Value>| -> BoxFuture<'static, Outcome> {
      Box::pin(async move {
        let given = given.into_iter().filter(|(_, value)| !value.is_null());
        let given = parsed(&Value::Object(given.collect()))?;
        work(Call {
          service,
          asker,
          given,
        })
        .await
      })
    };
    Self {
      name,
      description,
      parameters: serde_json::to_value(P::schema()).unwrap_or_default(),
      work: Box::new(run),
    }
  }

  /// The parameter that a bare value stands for: what the method works on.
  pub fn first_parameter(&self) -> Option<&'static str> {
    match self.name {
      "createKernel" => Some("mode"),
      _ => FIRST.into_iter().find(|name| self.takes(name)),
    }
  }

  /// Whether it has a parameter of this name.
  pub(crate) fn takes(&self, name: &str) -> bool {
    self.parameters["properties"].get(name).is_some()
  }

  /// Does it. `given` are its parameters by name.
  ///
  /// # Errors
  /// When it cannot be done; with a message for the caller.
  pub async fn call(
    &self,
    service: Arc<Service>,
    asker: Asker,
    given: Map<String, Value>,
  ) -> Outcome {
    (self.work)(service, asker, given).await
  }
}

/// # Errors
/// When it is not what the method takes; the message names the member.
fn parsed<P: DeserializeOwned>(given: &Value) -> Result<P, Failure> {
  // Vectors are many numbers: where one is, is found out only when it is wrong.
  P::deserialize(given)
    .or_else(|_| serde_path_to_error::deserialize(given))
    .map_err(|e| Failure::new(format!("Invalid parameters: {e}")))
}

/// Answers a value that can be written as JSON.
pub(crate) fn answer(value: impl Serialize) -> Outcome {
  serde_json::to_value(value)
    .map(Answer::Value)
    .map_err(|e| Failure::new(format!("the answer cannot be written: {e}")))
}

/// What a method without parameters takes.
#[derive(serde::Deserialize, ToSchema)]
pub(crate) struct Nothing {}
