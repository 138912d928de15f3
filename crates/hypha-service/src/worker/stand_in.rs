//! What the engine registers at Hypha in the name of an app that does not do it itself: the service `default`, which
//! the controller waits for, with the functions that the program exports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use engine::Engine;
use engine::apps::App;
use engine::apps::AppError;
use engine::kernels::Execution;
use engine::kernels::Language;
use hypha_rpc::Arguments;
use hypha_rpc::Client;
use hypha_rpc::Context;
use hypha_rpc::Method;
use hypha_rpc::Options;
use hypha_rpc::RemoteError;
use hypha_rpc::Service;
use hypha_rpc::Token;
use hypha_rpc::Value;
use kernel_protocol::KernelEvent;
use kernel_protocol::json::JsonText;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::json;
use tokio::sync::Mutex;

use super::APP_TYPE;
use super::Worker;
use super::sessions::Config;
use crate::connection::limits;
use crate::method::Failure;

/// The service that the controller waits for.
const DEFAULT: &str = "default";
/// How long a program may take to come to its end or its first pause, before it is registered without what it exports.
const EVALUATION: Duration = Duration::from_secs(2);

/// The connections in the names of apps, by the ids of their sessions.
#[derive(Default)]
pub(super) struct StandIns(Mutex<HashMap<String, Client>>);

impl StandIns {
  pub(super) async fn clear(&self) {
    let clients: Vec<Client> = self
      .0
      .lock()
      .await
      .drain()
      .map(|(_, client)| client)
      .collect();
    futures::future::join_all(clients.iter().map(Client::disconnect)).await;
  }

  /// A connection in the name of one of these sessions.
  pub(super) async fn of(&self, sessions: &[String]) -> Option<Client> {
    let clients = self.0.lock().await;
    sessions
      .iter()
      .find_map(|session| clients.get(session).cloned())
  }

  pub(super) async fn remove(&self, session: &str) {
    let client = self.0.lock().await.remove(session);
    if let Some(client) = client {
      client.disconnect().await;
    }
  }
}

impl Worker {
  /// Connects as an app and registers its service.
  ///
  /// # Errors
  /// When the program fails, or the server does not permit it.
  pub(super) async fn stand_in(&self, config: &Config, app: &Arc<App>) -> Result<(), Failure> {
    let options = Options {
      client_id: Some(config.client_id.clone()),
      workspace: Some(config.workspace.clone()),
      token: config.token.clone().map(Token::new),
      authorities: self.hypha.authorities.clone(),
      limits: limits(),
      ..Options::new(self.hypha.server_url.clone())
    };
    let functions = Functions {
      engine: self.engine.clone(),
      app: app.clone(),
    };
    let listing = functions.execute(functions.listing()).await?;
    let names = tokio::time::timeout(EVALUATION, result(&listing)).await;
    let failed = |error| Failure::new(format!("the program fails: {error}"));
    let names = names.ok().transpose().map_err(failed)?;
    let client = Client::connect(options)
      .await
      .map_err(|error| Failure::new(format!("the app cannot be connected to Hypha: {error}")))?;
    let service = functions.service(names.as_ref().unwrap_or(&Json::Null));
    if let Err(error) = client.register(service).await {
      client.disconnect().await;
      return Err(Failure::new(format!(
        "the app cannot be registered at Hypha: {error}"
      )));
    }
    self
      .stand_ins
      .0
      .lock()
      .await
      .insert(config.id.clone(), client.clone());
    tokio::spawn(follow(
      client,
      functions,
      names.is_none().then_some(listing),
    ));
    Ok(())
  }
}

/// Registers what a program exports late, and disconnects when the app has failed for good, so that Hypha learns of it.
async fn follow(client: Client, functions: Functions, late: Option<Arc<Execution>>) {
  let stopped = client.stopped();
  let app = functions.app.clone();
  let register = async {
    if let Some(listing) = late
      && let Ok(names) = result(&listing).await
      && let Err(error) = client.register(functions.service(&names)).await
    {
      tracing::warn!(app = %app.id, "the functions of an app are not registered at Hypha: {error}");
    }
    std::future::pending::<()>().await;
  };
  tokio::select! {
    () = stopped.cancelled() => {}
    () = register => {}
    () = app.failed() => client.disconnect().await,
  }
}

/// The functions that a program exports: of a module its exports, of a Python program those in its `__all__`.
#[derive(Clone)]
struct Functions {
  engine: Arc<Engine>,
  app: Arc<App>,
}

impl Functions {
  fn service(&self, names: &Json) -> Service {
    let manifest = &self.app.spec().manifest;
    let service = Service::new(DEFAULT)
      .name(manifest.name.clone().unwrap_or_else(|| DEFAULT.into()))
      .kind(APP_TYPE)
      .description(
        manifest
          .description
          .clone()
          .unwrap_or_default()
          .chars()
          .take(1000)
          .collect::<String>(),
      );
    let names = names.as_array().into_iter().flatten();
    let names = names.filter_map(Json::as_str);
    names.fold(service, |service, name| service.method(self.method(name)))
  }

  fn method(&self, name: &str) -> Method {
    let (functions, function) = (self.clone(), name.to_owned());
    Method::new(name, move |_: Context, arguments: Arguments| {
      let (functions, function) = (functions.clone(), function.clone());
      async move {
        let code = functions.call(&function, &arguments);
        let execution = functions.execute(code).await;
        let execution = execution.map_err(|e| RemoteError::new(e.to_string()))?;
        result(&execution)
          .await
          .map(Value::from)
          .map_err(RemoteError::new)
      }
    })
  }

  /// Runs a cell in the app. A program that has ended well may have lost its process since: it gets another.
  async fn execute(&self, code: String) -> Result<Arc<Execution>, AppError> {
    let (apps, id) = (&self.engine.apps, self.app.id.as_str());
    match apps.execute(&Caller::operator(), id, code.clone()) {
      Err(AppError::Conflict(_)) => {
        apps.start(&Caller::operator(), id).await?;
        self.app.settled().await;
        apps.execute(&Caller::operator(), id, code)
      }
      outcome => outcome,
    }
  }

  fn is_python(&self) -> bool {
    let language = self.app.spec().manifest.lang;
    matches!(language, Language::Python | Language::CPython)
  }

  /// A cell whose result is the names of the functions.
  fn listing(&self) -> String {
    if self.is_python() {
      python("[name for name in globals().get('__all__', []) if callable(globals().get(name))]")
    } else {
      module("Object.keys(program).filter((name) => typeof program[name] === 'function')")
    }
  }

  /// A cell that calls a function, and whose result is what it returns.
  fn call(&self, function: &str, arguments: &Arguments) -> String {
    let positional: Vec<Json> = arguments.positional.iter().map(Value::to_json).collect();
    let keywords: serde_json::Map<String, Json> = arguments
      .keywords
      .iter()
      .map(|(name, value)| (name.to_owned(), value.to_json()))
      .collect();
    if self.is_python() {
      // A text in JSON is one in Python, too.
      let given = json!(json!([positional, keywords]).to_string());
      python(&format!(
        "(lambda given: globals()[{}](*given[0], **given[1]))(__import__('json').loads({given}))",
        json!(function)
      ))
    } else {
      let mut positional = positional;
      if !keywords.is_empty() {
        positional.push(Json::Object(keywords));
      }
      module(&format!(
        "await program[{}](...{})",
        json!(function),
        json!(positional)
      ))
    }
  }
}

/// A cell that leaves no names behind and shows the value of an expression, which sees the program's module as
/// `program`.
fn module(expression: &str) -> String {
  format!(
    "await (async () => {{ const program = await import(Deno.mainModule); const value = {expression}; \
     return {{ [Symbol.for('Jupyter.display')]: () => ({{ 'application/json': value ?? null }}) }}; }})()"
  )
}

fn python(expression: &str) -> String {
  let name = "__engine_value";
  format!(
    "type('Value', (), {{'_repr_mimebundle_': (lambda value: lambda self, **_: {{'application/json': value}})(\
     (await {name}) if __import__('inspect').isawaitable({name} := {expression}) else {name})}})()"
  )
}

/// What a cell has shown as JSON; null if it has shown none.
///
/// # Errors
/// When it fails; the message is the code's own.
async fn result(execution: &Arc<Execution>) -> Result<Json, String> {
  #[derive(Deserialize)]
  struct Shown {
    data: HashMap<String, Json>,
  }
  let shown = |text: &JsonText| {
    let shown: Shown = serde_json::from_str(text.as_str()).ok()?;
    shown.data.get("application/json").cloned()
  };
  let mut events = execution.reader(0);
  let mut value = Json::Null;
  while let Some((_, event)) = events.next().await {
    if let Some(report) = event.error() {
      return Err(format!("{}: {}", report.ename, report.evalue));
    }
    if let KernelEvent::ExecuteResult(text) | KernelEvent::DisplayData(text) = &*event
      && let Some(json) = shown(text)
    {
      value = json;
    }
  }
  Ok(value)
}
