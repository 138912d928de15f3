//! Sessions: apps from their start until the controller stops them.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::Caller;
use access::timestamp;
use engine::apps::App;
use engine::apps::AppError;
use engine::apps::Level;
use engine::apps::LogEntry;
use engine::apps::LogStream;
use engine::apps::NewSession;
use engine::apps::Source;
use engine::apps::WrittenManifest;
use hypha_rpc::Value;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;
use utoipa::ToSchema;

use super::Asked;
use super::Worker;
use super::call::Waiting;
use super::program;
use crate::method::Failure;
use crate::method::Nothing;
use crate::methods::wire;

/// What the controller says of an app that is to be started.
#[derive(Deserialize, ToSchema)]
pub(super) struct Started {
  config: Config,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct Config {
  /// Id of the session: `workspace/client_id`.
  pub id: String,
  /// Alias of the app.
  pub app_id: String,
  pub workspace: String,
  /// As whom the app is to connect.
  pub client_id: String,
  /// With what: valid for this client only.
  pub token: Option<String>,
  /// The file with the program, in the app's artifact.
  pub entry_point: Option<String>,
  /// `workspace/alias` of the artifact.
  pub artifact_id: String,
  pub manifest: Map<String, Json>,
}

impl Config {
  /// What the program finds in its environment, besides that of its manifest.
  fn environment(&self, server_url: &str) -> BTreeMap<String, String> {
    let pairs = [
      ("HYPHA_SERVER_URL", Some(server_url)),
      ("HYPHA_WORKSPACE", Some(&self.workspace)),
      ("HYPHA_CLIENT_ID", Some(&self.client_id)),
      ("HYPHA_APP_ID", Some(&self.app_id)),
      ("HYPHA_TOKEN", self.token.as_deref()),
    ];
    let given = pairs
      .into_iter()
      .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    given.collect()
  }

  /// The manifest as the engine's own apps have it.
  fn manifest(
    &self,
    program: &program::Program,
    server_url: &str,
  ) -> Result<WrittenManifest, AppError> {
    let mut members = self.manifest.clone();
    // Hypha's own controls are not the engine's, and its variables may be of any type.
    let environment = members.remove("env").unwrap_or_default();
    members.remove("entry");
    members.insert("lang".into(), json!(program.language));
    if let program::Code::Files(entry, _) = &program.code {
      members.insert("entry".into(), json!(entry));
    }
    let mut written = WrittenManifest::of_artifact(&Json::Object(members))?;
    if let Json::Object(variables) = environment {
      let text = |value: Json| match value {
        Json::String(text) => text,
        other => other.to_string(),
      };
      written.env.extend(
        variables
          .into_iter()
          .map(|(name, value)| (name, text(value))),
      );
    }
    written.env.extend(self.environment(server_url));
    Ok(written)
  }
}

pub(super) async fn start(asked: Asked, given: Started) -> Result<Value, Failure> {
  let (worker, config) = (&asked.worker, given.config);
  worker.admit(&asked.context, &config.workspace)?;
  if config.id != format!("{}/{}", config.workspace, config.client_id) {
    return Err(Failure::new(
      "config.id: it must be the workspace and the client_id of config",
    ));
  }
  let waiting = Waiting::new(&asked.context, &asked.arguments);
  waiting.tell("Reading the program...").await;
  let program = program::read(worker, &config).await?;
  let stands_in = !program.registers_itself();
  waiting
    .tell(&format!("Starting {}...", program.language))
    .await;
  let server_url = worker.hypha.server_url.as_str().trim_end_matches('/');
  let session = NewSession {
    id: config.id.clone(),
    owner: config.workspace.clone(),
    name: config.app_id.clone(),
    manifest: config.manifest(&program, server_url)?,
    files: program.files(),
  };
  let app = worker
    .engine
    .apps
    .start_session(&Caller::operator(), session)
    .await?;
  if stands_in && let Err(error) = worker.stand_in(&config, &app).await {
    worker.end(&config.id).await?;
    return Err(error);
  }
  tracing::info!(session = config.id, app = %app.id, "Hypha started an app");
  Ok(Value::from(config.id))
}

/// A session.
#[derive(Deserialize, ToSchema)]
pub(super) struct Which {
  /// Its id: `workspace/client_id`.
  session_id: String,
}

impl Worker {
  /// Checks that a caller may have to do with a session, whether or not there is one.
  fn admit_to(&self, asked: &Asked, session: &str) -> Result<(), Failure> {
    let workspace = session
      .split_once('/')
      .map_or("", |(workspace, _)| workspace);
    self.admit(&asked.context, workspace)
  }

  fn session(&self, id: &str) -> Result<Arc<App>, Failure> {
    let app = self.engine.apps.get(&Caller::operator(), id);
    let is_session = |app: &Arc<App>| matches!(app.spec().source, Source::Session { .. });
    let app = app.ok().filter(is_session);
    app.ok_or_else(|| Failure::new(format!("Session not found: {id}")))
  }

  /// Ends everything, when the engine stops: Hypha learns of it by the end of the connections.
  pub(crate) async fn end_all(&self) {
    self.stand_ins.clear().await;
  }

  pub(super) async fn end(&self, id: &str) -> Result<bool, Failure> {
    let ended = self.engine.apps.end_session(&Caller::operator(), id).await;
    self.stand_ins.remove(id).await;
    Ok(ended?)
  }
}

pub(super) async fn stop(asked: Asked, given: Which) -> Result<Value, Failure> {
  asked.worker.admit_to(&asked, &given.session_id)?;
  // The controller asks more than once.
  if asked.worker.end(&given.session_id).await? {
    tracing::info!(session = given.session_id, "Hypha stopped an app");
  }
  Ok(Value::Nil)
}

pub(super) async fn list(asked: Asked, _: Nothing) -> Result<Value, Failure> {
  let workspace = &asked.context.workspace;
  let sessions = asked
    .worker
    .engine
    .apps
    .sessions(&Caller::operator(), workspace)?;
  let shown = |app: &Arc<App>| {
    let spec = app.spec();
    let Source::Session { id, .. } = &spec.source else {
      return Json::Null;
    };
    json!({
      "id": id,
      "name": spec.manifest.name,
      "language": spec.manifest.lang,
      "status": app.status().state,
      "created": timestamp(app.added),
    })
  };
  Ok(Value::from(sessions.iter().map(shown).collect::<Json>()))
}

pub(super) async fn load(asked: Asked, _: Nothing) -> Result<Value, Failure> {
  let apps = asked.worker.engine.apps.list(&Caller::operator())?;
  Ok(Value::from(apps.len() as u64))
}

// ------------------------------------------------------------ logs

/// A part of a session's log.
#[derive(Deserialize, ToSchema)]
pub(super) struct Logs {
  /// Id of the session: `workspace/client_id`.
  session_id: String,
  /// `stdout`, `stderr`, or `info` and `error` for what the engine says; all by default. Also `log`, for what is no
  /// error.
  #[serde(rename = "type")]
  kind: Option<String>,
  /// Entries to leave out at the beginning.
  #[serde(default)]
  offset: usize,
  /// Most entries; all by default.
  limit: Option<usize>,
}

fn kind(entry: &LogEntry) -> &'static str {
  match (entry.stream, entry.level) {
    (LogStream::Stdout, _) => "stdout",
    (LogStream::Stderr, _) => "stderr",
    (LogStream::Engine, Level::Error) => "error",
    (LogStream::Engine, _) => "info",
  }
}

pub(super) async fn logs(asked: Asked, given: Logs) -> Result<Value, Failure> {
  asked.worker.admit_to(&asked, &given.session_id)?;
  let app = asked.worker.session(&given.session_id)?;
  let wanted = |entry: &Arc<LogEntry>| match given.kind.as_deref() {
    None => true,
    Some("log") => matches!(kind(entry), "stdout" | "info"),
    Some(wanted) => kind(entry) == wanted,
  };
  let mut entries = app.log.last(usize::MAX);
  entries.retain(wanted);
  let shown = entries
    .iter()
    .skip(given.offset)
    .take(given.limit.unwrap_or(usize::MAX));
  let items: Vec<Json> = shown
    .map(|entry| json!({ "type": kind(entry), "content": entry.text, "timestamp": timestamp(entry.time) }))
    .collect();
  Ok(Value::from(json!({
    "items": items,
    "total": entries.len(),
    "offset": given.offset,
    "limit": given.limit,
  })))
}

// ------------------------------------------------------------ code

/// Code for a session.
#[derive(Deserialize, ToSchema)]
pub(super) struct Execute {
  /// Id of the session: `workspace/client_id`.
  session_id: String,
  script: String,
}

pub(super) async fn execute(asked: Asked, given: Execute) -> Result<Value, Failure> {
  asked.worker.admit_to(&asked, &given.session_id)?;
  let app = asked.worker.session(&given.session_id)?;
  let apps = &asked.worker.engine.apps;
  let execution = apps.execute(&Caller::operator(), app.id.as_str(), given.script)?;
  let (mut outputs, mut error) = (Vec::new(), None);
  let mut events = execution.reader(0);
  while let Some((_, event)) = events.next().await {
    if let Some(report) = event.error() {
      error = Some(format!("{}: {}", report.ename, report.evalue));
    }
    outputs.push(wire(&event, execution.id));
  }
  Ok(Value::from(json!({
    "status": if error.is_some() { "error" } else { "ok" },
    "outputs": outputs,
    "error": error,
  })))
}
