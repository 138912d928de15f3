//! Kernels: their lives, and code that runs in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use access::Classified;
use access::ErrorKind;
use access::timestamp;
use chrono::Utc;
use engine::kernels::CreateKernel;
use engine::kernels::Execution;
use engine::kernels::Kernel;
use engine::kernels::KernelError;
use engine::kernels::KernelType;
use engine::kernels::Language;
use engine::kernels::LogReader;
use engine::kernels::Mode;
use engine::kernels::Status;
use futures::StreamExt;
use futures::stream;
use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use super::base;
use super::done;
use super::short;
use crate::method::Answer;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Nothing;
use crate::method::Outcome;
use crate::method::answer;

/// Milliseconds without use, and of one execution, where a caller says none.
const INACTIVITY: u64 = 600_000;
const EXECUTION: u64 = 864_000_000;

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "createKernel",
      "Makes a kernel in the caller's workspace",
      create,
    ),
    Method::new(
      "listKernels",
      "Lists the kernels of the caller's workspace",
      list,
    ),
    Method::new("destroyKernel", "Ends a kernel and what it runs", destroy),
    Method::new("getKernelInfo", "Tells all about a kernel", info),
    Method::new(
      "pingKernel",
      "Counts as use: the inactivity time-out starts again",
      ping,
    ),
    Method::new(
      "restartKernel",
      "Starts a kernel afresh: nothing of its state is kept",
      restart,
    ),
    Method::new(
      "interruptKernel",
      "Stops the running cell; the kernel's state is kept",
      interrupt,
    ),
    Method::new(
      "getInactivityTimerStatus",
      "Tells when an unused kernel ends",
      timer,
    ),
    Method::new(
      "setInactivityTimeout",
      "Sets how long a kernel may be unused",
      set_timeout,
    ),
    Method::new(
      "resetInactivityTimer",
      "Counts as use, like pingKernel",
      reset_timer,
    ),
    Method::new("executeCode", "Runs a cell in the background", execute),
    Method::new(
      "getExecutionResult",
      "The events of a cell that has ended",
      result,
    ),
    Method::new(
      "streamExecution",
      "Runs a cell and yields its events as they come",
      stream_execution,
    ),
  ]
}

/// A kernel to make.
#[derive(Deserialize, ToSchema)]
struct Create {
  /// Name within the workspace; a UUID when left out.
  id: Option<String>,
  /// `worker-python`, `worker-typescript`, `worker-javascript` or `worker-cpython`.
  #[schema(default = "worker-python")]
  mode: Option<String>,
  /// Milliseconds without use after which it ends; 0 or none for ten minutes.
  #[schema(default = 600_000)]
  inactivity_timeout: Option<u64>,
  /// Milliseconds after which a cell is interrupted; 0 or none for ten days.
  #[schema(default = 864_000_000_u64)]
  max_execution_time: Option<u64>,
  /// Environment variables. They win over what the engine gives of its own, such as HYPHA_TOKEN.
  #[serde(default)]
  env: BTreeMap<String, String>,
}

async fn create(call: Call<Create>) -> Outcome {
  let Call {
    service,
    asker,
    given,
  } = call;
  let time = |given: Option<u64>, default: u64| {
    let given = given.filter(|ms| *ms > 0);
    Some(Duration::from_millis(given.unwrap_or(default)))
  };
  let kind = kind_of(given.mode.as_deref().unwrap_or_default());
  let request = CreateKernel {
    id: given.id.filter(|id| !id.is_empty()),
    mode: kind.mode,
    language: kind.language,
    env: given.env,
    environment: service.environment(&asker),
    inactivity_timeout: time(given.inactivity_timeout, INACTIVITY),
    max_execution_time: time(given.max_execution_time, EXECUTION),
    ..CreateKernel::default()
  };
  let kernel = service
    .engine
    .kernels
    .create(&asker.caller(), request)
    .await?;
  answer(json!({
    "id": kernel.id.as_str(),
    "mode": kernel.kind.mode,
    "language": kernel.kind.language,
    "created": timestamp(kernel.created),
    "name": name(&kernel),
  }))
}

/// What `mode-language` means; what is unknown is a worker with Python, as it was in the original.
fn kind_of(text: &str) -> KernelType {
  let (mode, language) = text.split_once('-').unwrap_or((text, ""));
  KernelType {
    mode: mode.parse().unwrap_or(Mode::Worker),
    language: language.parse().unwrap_or(Language::Python),
  }
}

fn name(kernel: &Kernel) -> String {
  format!("Kernel-{}", short(base(kernel.id.as_str())))
}

async fn list(call: Call<Nothing>) -> Outcome {
  let kernels = call
    .service
    .engine
    .kernels
    .list(&call.asker.caller(), None)?;
  let shown = kernels.iter().map(|kernel| {
    json!({
      "id": kernel.id.as_str(),
      "name": name(kernel),
      "mode": kernel.kind.mode,
      "language": kernel.kind.language,
      "status": kernel.status(),
      "created": timestamp(kernel.created),
    })
  });
  answer(shown.collect::<Vec<_>>())
}

/// A kernel.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Which {
  /// Its id, with or without the workspace.
  kernel_id: Option<String>,
}

impl Which {
  fn id(&self) -> Result<&str, Failure> {
    id(self.kernel_id.as_deref())
  }
}

fn id(given: Option<&str>) -> Result<&str, Failure> {
  let id = given.filter(|id| !id.is_empty());
  id.ok_or_else(|| Failure::new("Invalid kernel ID: undefined"))
}

/// As the original words it: what is another workspace's does not exist.
fn not_found(error: KernelError) -> Failure {
  match error.kind() {
    ErrorKind::NotFound => Failure::new("Kernel not found or access denied"),
    _ => error.into(),
  }
}

fn find<P>(call: &Call<P>, id: &str) -> Result<Arc<Kernel>, Failure> {
  let kernels = &call.service.engine.kernels;
  kernels.get(&call.asker.caller(), id).map_err(not_found)
}

async fn destroy(call: Call<Which>) -> Outcome {
  let id = call.given.id()?;
  let kernels = &call.service.engine.kernels;
  let ended = kernels.delete(&call.asker.caller(), id, false).await;
  ended.map_err(not_found)?;
  answer(json!({ "success": true }))
}

async fn info(call: Call<Which>) -> Outcome {
  let kernel = find(&call, call.given.id()?)?;
  let history = kernel.history();
  let history = history.iter().map(|execution| {
    json!({
      "id": execution.id.to_string(),
      "script": &*execution.code(),
      "outputs": execution.events().len(),
    })
  });
  answer(json!({
    "id": kernel.id.as_str(),
    "name": name(&kernel),
    "mode": kernel.kind.mode,
    "language": kernel.kind.language,
    "created": timestamp(kernel.created),
    "status": kernel.status(),
    "history": history.collect::<Vec<_>>(),
  }))
}

async fn ping(call: Call<Which>) -> Outcome {
  touch(&call)?;
  answer(done("Kernel activity timer reset"))
}

async fn reset_timer(call: Call<Which>) -> Outcome {
  let kernel = touch(&call)?;
  let mut done = done("Kernel activity timer reset");
  done["kernelId"] = json!(kernel.id.as_str());
  answer(done)
}

fn touch(call: &Call<Which>) -> Result<Arc<Kernel>, Failure> {
  let kernel = find(call, call.given.id()?)?;
  let kernels = &call.service.engine.kernels;
  kernels.touch(&call.asker.caller(), kernel.id.as_str())?;
  Ok(kernel)
}

async fn restart(call: Call<Which>) -> Outcome {
  let id = call.given.id()?;
  let kernels = &call.service.engine.kernels;
  let restarted = kernels.restart(&call.asker.caller(), id).await;
  restarted.map_err(not_found)?;
  answer(done("Kernel restarted successfully"))
}

async fn interrupt(call: Call<Which>) -> Outcome {
  let id = call.given.id()?;
  let kernels = &call.service.engine.kernels;
  let interrupted = kernels.interrupt(&call.asker.caller(), id).await;
  interrupted.map_err(not_found)?;
  answer(done("Kernel execution interrupted"))
}

async fn timer(call: Call<Which>) -> Outcome {
  let kernel = find(&call, call.given.id()?)?;
  let idle = kernel.idle_time();
  let timeout = kernel.inactivity_timeout();
  let mut status = json!({
    "lastActivityTime": (Utc::now() - idle).timestamp_millis(),
    "isTimeoutEnabled": timeout.is_some(),
    "timestamp": timestamp(Utc::now()),
  });
  if let Some(timeout) = timeout {
    status["inactivityTimeout"] = json!(milliseconds(timeout));
    status["timeUntilShutdown"] = json!(milliseconds(timeout.saturating_sub(idle)));
  }
  answer(status)
}

fn milliseconds(time: Duration) -> u64 {
  u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A kernel, and its time-out.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SetTimeout {
  /// Its id, with or without the workspace.
  kernel_id: Option<String>,
  /// Milliseconds without use; 0 for never.
  timeout: u64,
}

async fn set_timeout(call: Call<SetTimeout>) -> Outcome {
  call
    .asker
    .require_own(&call.service, "set kernel inactivity timeouts")?;
  let (id, ms) = (id(call.given.kernel_id.as_deref())?, call.given.timeout);
  let timeout = (ms > 0).then(|| Duration::from_millis(ms));
  let kernels = &call.service.engine.kernels;
  let set = kernels.set_inactivity_timeout(&call.asker.caller(), id, timeout);
  set.map_err(not_found)?;
  let mut done = done(format!("Inactivity timeout set to {ms}ms"));
  done["timeout"] = json!(ms);
  answer(done)
}

/// Code for a kernel.
#[derive(Deserialize, ToSchema)]
struct Code {
  #[serde(rename = "kernelId", alias = "kernel_id")]
  kernel_id: Option<String>,
  code: Option<String>,
}

fn submit(call: Call<Code>) -> Result<Arc<Execution>, Failure> {
  let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
  let id = filled(call.given.kernel_id).ok_or_else(|| Failure::new("kernelId is required"))?;
  let code = filled(call.given.code).ok_or_else(|| Failure::new("No code provided"))?;
  let kernels = &call.service.engine.kernels;
  let submitted = kernels.submit(&call.asker.caller(), &id, code);
  submitted.map_err(not_found)
}

async fn execute(call: Call<Code>) -> Outcome {
  let execution = submit(call)?;
  answer(json!({ "execution_id": execution.id.to_string() }))
}

/// An execution of a kernel.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WhichExecution {
  /// Its id, with or without the workspace.
  kernel_id: Option<String>,
  execution_id: Option<String>,
}

async fn result(call: Call<WhichExecution>) -> Outcome {
  let kernel = find(&call, id(call.given.kernel_id.as_deref())?)?;
  let id = call.given.execution_id.as_deref().unwrap_or_default();
  let kernels = &call.service.engine.kernels;
  let execution = kernels.execution(&call.asker.caller(), kernel.id.as_str(), id);
  let ended = execution.ok().filter(|it| it.outcome().is_some());
  let ended = ended.ok_or_else(|| Failure::new("Execution not found"))?;
  let events = ended.events();
  let shown = events.iter().map(|event| wire(event, ended.id));
  answer(shown.collect::<Vec<_>>())
}

async fn stream_execution(call: Call<Code>) -> Outcome {
  let execution = submit(call)?;
  let id = execution.id;
  let events = stream::unfold(execution.reader(0), move |reader| next_event(reader, id));
  let end = json!({ "type": "complete", "status": "success" });
  Ok(Answer::Stream(
    events.chain(stream::once(async move { end })).boxed(),
  ))
}

async fn next_event(mut reader: LogReader, id: ExecutionId) -> Option<(Value, LogReader)> {
  let (_, event) = reader.next().await?;
  Some((wire(&event, id), reader))
}

/// An event as clients see it: with the cell that it is of.
pub(crate) fn wire(event: &KernelEvent, id: ExecutionId) -> Value {
  let mut shown = serde_json::to_value(event).unwrap_or_default();
  shown["executionId"] = json!(id.to_string());
  shown
}

/// How many kernels are doing something, of those that a caller sees.
pub(super) fn busy(kernels: &[Arc<Kernel>]) -> usize {
  let busy = kernels
    .iter()
    .filter(|kernel| kernel.status() == Status::Busy);
  busy.count()
}
