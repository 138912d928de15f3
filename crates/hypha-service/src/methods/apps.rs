//! Apps: programs that the operator has the engine run. The original ran each in a kernel of its own; here it has a
//! process, without a history of cells. What clients of the original read of the kernel is told of the app:
//!
//! | member | of an app |
//! |---|---|
//! | `kernelId` | its id |
//! | `status` | see [`status_of`] |
//! | `activeExecutions` | 1 while its program runs |
//! | `historyCount` | how often its program was started |
//! | `isStuck` | `false`: no limit of time is set on an app |
//! | `uptime` | how long its program has been running, null when it does not |

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use access::Classified;
use access::ErrorKind;
use access::timestamp;
use chrono::Utc;
use engine::apps::App;
use engine::apps::AppError;
use engine::apps::AppId;
use engine::apps::AppState;
use engine::apps::AppStats;
use engine::apps::Level;
use engine::apps::LogEntry;
use engine::apps::LogStream;
use engine::apps::Source;
use engine::kernels::Mode;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use super::done;
use super::engine::days;
use crate::method::Asker;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Nothing;
use crate::method::Outcome;
use crate::method::Service;
use crate::method::answer;

/// Lines of a log in one answer: as many when a caller says nothing, and at most.
const LINES: usize = 100;
const MAX_LINES: usize = 1000;

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "notifyAppUpdates",
      "Reads the collection of published apps now, and starts what does not run",
      notify,
    ),
    Method::new(
      "reloadApp",
      "Starts an app anew, with script, environment and permissions as they are now",
      reload,
    ),
    Method::new("killApp", "Stops an app", kill),
    Method::new("listApps", "Lists all apps", list),
    Method::new(
      "getAppStats",
      "Counts apps, and tells what each does",
      stats,
    ),
    Method::new("getAppInfo", "Tells all about an app but its secrets", info),
    Method::new(
      "executeInApp",
      "Runs code in the process of an app, in the background; its output is in the app's log",
      execute,
    ),
    Method::new(
      "getAppKernelLogs",
      "The last lines of an app's log: its output, and what happens to it",
      logs,
    ),
  ]
}

// ------------------------------------------------------------ what an app is

/// In the words of the original: `executing` while the program runs, `idle` once it has ended well and its process
/// is kept, `error` when it ended otherwise than it should, also while it is about to be started again. Before its
/// first start and after it was stopped nothing is known. Nothing makes an app `stuck`.
fn status_of(state: AppState) -> &'static str {
  match state {
    AppState::Running => "executing",
    AppState::Exited => "idle",
    AppState::Failed | AppState::Restarting => "error",
    AppState::Starting | AppState::Stopped => "unknown",
  }
}

/// The id that clients know: a published app has that of its artifact. Managers take both.
fn shown_id(app: &App) -> String {
  match &app.spec().source {
    Source::Artifact { id, .. } | Source::Session { id, .. } => id.clone(),
    Source::Folder(_) | Source::File(_) | Source::Posted => app.id.to_string(),
  }
}

/// Whether a caller may know of an app: all but what another workspace has started.
fn sees(asker: &Asker, app: &App) -> bool {
  match &app.spec().source {
    Source::Session { owner, .. } => asker.is_own || *owner == asker.workspace,
    _ => true,
  }
}

fn active_executions(state: AppState) -> usize {
  usize::from(state == AppState::Running)
}

/// What all listings tell of an app.
fn shown(app: &App) -> Value {
  json!({
    "id": shown_id(app),
    "status": status_of(app.status().state),
    "kernelId": app.id,
    "language": app.spec().manifest.lang,
    "created": timestamp(app.added),
  })
}

fn described(app: &App) -> Value {
  let manifest = &app.spec().manifest;
  let mut described = shown(app);
  described["name"] = json!(manifest.name.as_deref().unwrap_or(app.id.as_str()));
  described["description"] = json!(manifest.description.as_deref().unwrap_or_default());
  described
}

/// Adds what an app does now; returns what is measured.
async fn add_activity(shown: &mut Value, app: &App) -> AppStats {
  let (status, stats) = (app.status(), app.stats().await);
  let uptime = uptime(&stats).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
  shown["activeExecutions"] = json!(active_executions(status.state));
  shown["isStuck"] = json!(false);
  shown["historyCount"] = json!(status.instance);
  shown["uptime"] = json!(uptime);
  stats
}

fn uptime(stats: &AppStats) -> Option<Duration> {
  let seconds = stats.uptime?;
  Duration::try_from_secs_f64(seconds).ok()
}

// ------------------------------------------------------------ looking

async fn list(call: Call<Nothing>) -> Outcome {
  // Everybody may know which apps there are.
  let apps = call.service.engine.apps.list(&Caller::operator())?;
  let apps = apps.iter().filter(|app| sees(&call.asker, app));
  let apps: Vec<Value> = apps.map(|app| described(app)).collect();
  answer(json!({
    "totalCount": apps.len(),
    "apps": apps,
    "timestamp": timestamp(Utc::now()),
  }))
}

async fn stats(call: Call<Nothing>) -> Outcome {
  call.asker.require_own(&call.service, "get app stats")?;
  let apps = call.service.engine.apps.list(&Caller::operator())?;
  let told = join_all(apps.iter().map(|app| async move {
    let mut told = shown(app);
    let used = add_activity(&mut told, app).await;
    (told, used.process.resident_bytes)
  }));
  let (told, memory): (Vec<Value>, Vec<Option<u64>>) = told.await.into_iter().unzip();
  let memory: Vec<u64> = memory.into_iter().flatten().collect();
  let of_status = |status: &str| told.iter().filter(|app| app["status"] == status).count();
  let (executing, idle) = (of_status("executing"), of_status("idle"));
  let runs = told.iter().filter_map(|app| app["historyCount"].as_u64());
  answer(json!({
    "totalApps": told.len(),
    "runningApps": executing + idle,
    "idleApps": idle,
    "executingApps": executing,
    "stuckApps": of_status("stuck"),
    "errorApps": of_status("error"),
    "totalExecutions": runs.sum::<u64>(),
    // Bytes of one app in the mean, null when none has a process.
    "memoryUsage": memory.iter().sum::<u64>().checked_div(memory.len() as u64),
    "apps": told,
    "timestamp": timestamp(Utc::now()),
  }))
}

/// An app.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Which {
  /// Its id, or that of the artifact it was published as.
  app_id: Option<String>,
}

impl Which {
  fn id(&self) -> Result<&str, Failure> {
    named(self.app_id.as_deref())
  }
}

fn named(id: Option<&str>) -> Result<&str, Failure> {
  let id = id.filter(|id| !id.is_empty());
  id.ok_or_else(|| Failure::new("appId is required"))
}

async fn info(call: Call<Which>) -> Outcome {
  let apps = &call.service.engine.apps;
  // Everybody may look.
  let id = call.given.id()?;
  let app = apps.get(&Caller::operator(), id)?;
  if !sees(&call.asker, &app) {
    return Err(AppError::NotFound(id.to_owned()).into());
  }
  let mut told = described(&app);
  let used = add_activity(&mut told, &app).await;
  told["uptimeFormatted"] = json!(uptime(&used).map(days));
  told["manifest"] = manifest_of(&app, &call.asker);
  told["mode"] = json!(Mode::Worker);
  told["timestamp"] = json!(timestamp(Utc::now()));
  answer(told)
}

/// The manifest with the names of its variables only: their values are nobody's to read. The program is for those
/// who may change it.
fn manifest_of(app: &App, asker: &Asker) -> Value {
  let spec = app.spec();
  let mut manifest = json!(spec.manifest);
  manifest["env"] = json!(spec.manifest.env.keys().collect::<Vec<_>>());
  if let Value::Object(members) = &mut manifest
    && !asker.is_own
  {
    members.remove("startup_script");
  }
  manifest
}

// ------------------------------------------------------------ changing

async fn notify(call: Call<Nothing>) -> Outcome {
  call
    .asker
    .require_own(&call.service, "notify app updates")?;
  let apps = &call.service.engine.apps;
  let changes = apps.update_published(&Caller::operator()).await?;
  let failed = |id: String, error: String| json!({ "id": id, "error": error });
  let refused = changes.refused.into_iter();
  let mut failures: Vec<Value> = refused.map(|it| failed(it.id_or_path, it.reason)).collect();
  let is_new = |id: &AppId| changes.added.contains(id) || changes.reloaded.contains(id);
  let (mut started, mut skipped) = (Vec::new(), Vec::new());
  for app in published(&call.service)? {
    let id = shown_id(&app);
    let ended = matches!(app.status().state, AppState::Stopped | AppState::Failed);
    if is_new(&app.id) {
      started.push(id);
    } else if !ended {
      skipped.push(id);
    } else {
      match apps.start(&Caller::operator(), app.id.as_str()).await {
        Ok(_) => started.push(id),
        Err(error) => failures.push(failed(id, error.to_string())),
      }
    }
  }
  let mut done = done("Apps were updated");
  done["results"] = json!({
    "totalApps": changes.published,
    "skippedApps": skipped,
    "startedApps": started,
    "failedApps": failures,
  });
  answer(done)
}

fn published(service: &Service) -> Result<Vec<Arc<App>>, Failure> {
  let mut apps = service.engine.apps.list(&Caller::operator())?;
  apps.retain(|app| matches!(app.spec().source, Source::Artifact { .. }));
  Ok(apps)
}

/// As the original words it.
fn not_running(id: &str) -> Failure {
  Failure::new(format!(
    "App {id} is not currently running (kernel not found)"
  ))
}

fn unless_missing(id: &str, error: AppError) -> Failure {
  match error.kind() {
    ErrorKind::NotFound => not_running(id),
    _ => error.into(),
  }
}

/// The app of this id, unless it was stopped.
fn running<'a>(service: &Service, id: &'a str) -> Result<(&'a str, Arc<App>), Failure> {
  let app = service.engine.apps.get(&Caller::operator(), id);
  let app = app.map_err(|error| unless_missing(id, error))?;
  match app.status().state {
    AppState::Stopped => Err(not_running(id)),
    _ => Ok((id, app)),
  }
}

async fn reload(call: Call<Which>) -> Outcome {
  call.asker.require_own(&call.service, "reload apps")?;
  let (id, app) = running(&call.service, call.given.id()?)?;
  let apps = &call.service.engine.apps;
  let reloaded = apps.reload(&Caller::operator(), id).await;
  reloaded.map_err(|error| unless_missing(id, error))?;
  answer(done_to(id, &app, format!("App {id} reloaded successfully")))
}

async fn kill(call: Call<Which>) -> Outcome {
  call.asker.require_own(&call.service, "kill apps")?;
  let (id, app) = running(&call.service, call.given.id()?)?;
  let apps = &call.service.engine.apps;
  let stopped = apps.stop(&Caller::operator(), id).await;
  stopped.map_err(|error| unless_missing(id, error))?;
  answer(done_to(id, &app, format!("App {id} killed successfully")))
}

fn done_to(id: &str, app: &App, message: String) -> Value {
  let mut done = done(message);
  done["appId"] = json!(id);
  done["kernelId"] = json!(app.id);
  done
}

/// Code for an app.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Code {
  /// Its id, or that of the artifact it was published as.
  app_id: Option<String>,
  code: Option<String>,
}

async fn execute(call: Call<Code>) -> Outcome {
  call
    .asker
    .require_own(&call.service, "execute code in apps")?;
  let id = named(call.given.app_id.as_deref())?;
  let code = call.given.code.clone().filter(|code| !code.is_empty());
  let code = code.ok_or_else(|| Failure::new("No code provided"))?;
  let apps = &call.service.engine.apps;
  let execution = apps.execute_in_background(&Caller::operator(), id, code);
  let execution = execution.map_err(|error| unless_missing(id, error))?;
  answer(json!({
    "executionId": execution.id.to_string(),
    "appId": id,
    "message": format!("Code execution started in app {id}"),
    "timestamp": timestamp(Utc::now()),
  }))
}

// ------------------------------------------------------------ logs

/// An app, and how much of its log.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Logs {
  /// Its id, or that of the artifact it was published as.
  app_id: Option<String>,
  /// How many, counted from the end.
  #[schema(default = 100, maximum = 1000)]
  lines: Option<usize>,
}

async fn logs(call: Call<Logs>) -> Outcome {
  call.asker.require_own(&call.service, "read logs of apps")?;
  let id = named(call.given.app_id.as_deref())?;
  let apps = &call.service.engine.apps;
  let app = apps.get(&Caller::operator(), id);
  let app = app.map_err(|error| unless_missing(id, error))?;
  let lines = call.given.lines.unwrap_or(LINES).min(MAX_LINES);
  let entries = app.log.last(usize::MAX);
  let skip = entries.len().saturating_sub(lines);
  let logs: Vec<Value> = entries[skip..].iter().map(|entry| logged(entry)).collect();
  let state = app.status().state;
  let active = active_executions(state);
  let current = (active > 0).then(|| json!({ "activeExecutions": active, "isStuck": false }));
  answer(json!({
    "appId": id,
    "kernelId": app.id,
    "logs": logs,
    "totalLogEntries": entries.len(),
    "requestedLines": lines,
    "kernelStatus": status_of(state),
    "currentExecution": current,
    "timestamp": timestamp(Utc::now()),
  }))
}

/// A line of output is of type `stream`, what the engine says of the app `message` or `error`.
fn logged(entry: &LogEntry) -> Value {
  let kind = match (entry.stream, entry.level) {
    (LogStream::Stdout | LogStream::Stderr, _) => "stream",
    (LogStream::Engine, Level::Error) => "error",
    (LogStream::Engine, _) => "message",
  };
  let mut logged = json!({
    "timestamp": timestamp(entry.time),
    "type": kind,
    "content": entry.text,
    // Lines belong to the app's process, and to none of the cells that run in it.
    "executionId": null,
  });
  if kind == "stream" {
    logged["stream"] = json!(entry.stream);
  }
  logged
}
