//! The kernel of an agent: made when it is needed, and again when it has gone.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use access::Caller;
use access::Right;
use access::Scope;
use kernel_protocol::KernelEvent;
use kernels::CreateKernel;
use kernels::EnvironmentSource;
use kernels::Execution;
use kernels::Kernel;
use kernels::KernelManager;
use kernels::Language;
use kernels::Status;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::agent::Agent;
use crate::answers::AgentInfo;
use crate::config::AgentConfig;
use crate::config::KernelLanguage;
use crate::error::AgentError;
use crate::events::AgentEventKind;
use crate::images::MAX_IMAGES;
use crate::manager::AgentManager;

/// How long a start-up script may take.
const START_UP: Duration = Duration::from_mins(5);
/// Most characters of an observation, of its start and of its end.
const HEAD: usize = 12_000;
const TAIL: usize = 6_000;

/// Why a start-up script failed, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartupError {
  pub message: String,
  pub full_error: String,
  pub stack_trace: String,
}

/// What is known of the kernel now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attached {
  pub kernel_id: Option<String>,
  pub language: Option<Language>,
  pub startup_output: Option<String>,
  pub startup_error: Option<StartupError>,
}

/// The kernel of one agent.
#[derive(Default)]
pub(crate) struct AgentKernel {
  /// Held while a kernel is made or ended, so that there is never a second one.
  changing: tokio::sync::Mutex<()>,
  /// Gives up the start-up script that runs.
  starting: Mutex<CancellationToken>,
  attached: Mutex<Attached>,
}

/// A kernel to run code in.
pub(crate) struct Ready {
  pub kernel: Arc<Kernel>,
  /// Whether an earlier one, and its state, has gone.
  pub state_lost: bool,
}

/// What code came to.
#[derive(Debug, Default)]
pub(crate) struct Observed {
  pub text: String,
  /// PNG and JPEG images in base64.
  pub images: Vec<String>,
  /// The first error, as `name: message`.
  pub error: Option<(String, String)>,
}

impl AgentKernel {
  pub(crate) fn now(&self) -> Attached {
    self
      .attached
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .clone()
  }

  fn set(&self, attached: Attached) {
    *self.attached.lock().unwrap_or_else(PoisonError::into_inner) = attached;
  }

  /// What gives up the start-up script that is about to run.
  fn starting(&self) -> CancellationToken {
    let token = CancellationToken::new();
    *self.starting.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
    token
  }

  /// Forgets a start-up error: the script is another now.
  pub(crate) fn forget_startup_error(&self) {
    let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
    attached.startup_error = None;
  }

  /// The kernel, made if there is none, with the start-up script run in it; `environment` makes variables besides
  /// those of the agent. To be driven to its end: half of it
  /// leaves a kernel behind.
  ///
  /// # Errors
  /// When it cannot be made, or its script fails; nothing of it is left then.
  pub(crate) async fn ready(
    &self,
    kernels: &KernelManager,
    namespace: Option<&str>,
    config: &AgentConfig,
    environment: Option<Arc<dyn EnvironmentSource>>,
  ) -> Result<Ready, AgentError> {
    let _changing = self.changing.lock().await;
    let caller = caller(namespace);
    let before = self.now();
    if let Some(id) = &before.kernel_id {
      match kernels.get(&caller, id) {
        Ok(kernel) if kernel.status() != Status::Dead => {
          return Ok(Ready {
            kernel,
            state_lost: false,
          });
        }
        Ok(_) => {
          let _ = kernels.delete(&caller, id, true).await;
        }
        // It went after a time without use, or somebody deleted it.
        Err(_) => {}
      }
    }
    let request = CreateKernel {
      namespace: namespace.map(str::to_owned),
      language: config.kernel_type.0,
      env: config.kernel_environs.clone(),
      environment,
      inactivity_timeout: bound(config.times.inactivity_timeout),
      max_execution_time: bound(config.times.max_execution_time),
      ..Default::default()
    };
    let kernel = kernels.create(&caller, request).await?;
    let startup = match &config.startup_script {
      None => Ok(None),
      Some(script) => start_up(&kernel, script, &self.starting()).await.map(Some),
    };
    match startup {
      Ok(output) => {
        self.set(Attached {
          kernel_id: Some(kernel.id.as_str().to_owned()),
          language: Some(kernel.kind.language),
          startup_output: output.filter(|text| !text.is_empty()),
          startup_error: None,
        });
        Ok(Ready {
          kernel,
          state_lost: before.kernel_id.is_some(),
        })
      }
      Err(error) => {
        let _ = kernels.delete(&caller, kernel.id.as_str(), true).await;
        let failed = AgentError::Startup {
          message: error.message.clone(),
          full_error: error.full_error.clone(),
        };
        self.set(Attached {
          startup_error: Some(StartupError {
            message: failed.to_string(),
            ..error
          }),
          ..Default::default()
        });
        Err(failed)
      }
    }
  }

  /// Ends the kernel, if there is one.
  pub(crate) async fn detach(&self, kernels: &KernelManager, namespace: Option<&str>) {
    self
      .starting
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .cancel();
    let _changing = self.changing.lock().await;
    let before = self.now();
    self.set(Attached {
      startup_error: before.startup_error,
      ..Default::default()
    });
    if let Some(id) = before.kernel_id {
      let _ = kernels.delete(&caller(namespace), &id, true).await;
    }
  }

  /// Runs the start-up script again in the kernel that there is.
  pub(crate) async fn start_up_again(
    &self,
    kernels: &KernelManager,
    namespace: Option<&str>,
    script: Option<&str>,
  ) {
    let _changing = self.changing.lock().await;
    let mut attached = self.now();
    let kernel = attached
      .kernel_id
      .as_deref()
      .map(|id| kernels.get(&caller(namespace), id));
    let Some(Ok(kernel)) = kernel else {
      return;
    };
    attached.startup_output = None;
    attached.startup_error = None;
    if let Some(script) = script {
      match start_up(&kernel, script, &self.starting()).await {
        Ok(output) => attached.startup_output = Some(output).filter(|text| !text.is_empty()),
        Err(error) => {
          let message = format!("Startup script failed: {}", error.message);
          attached.startup_error = Some(StartupError { message, ..error });
        }
      }
    }
    self.set(attached);
  }
}

impl AgentManager {
  /// Gives an agent a kernel of a language, instead of one that it may have. `environment` is that of
  /// [`UpdateAgent`].
  ///
  /// # Errors
  /// When there is no such agent, or its kernel cannot be made.
  pub async fn attach(
    &self,
    caller: &Caller,
    id: &str,
    language: Language,
    environment: Option<String>,
  ) -> Result<AgentInfo, AgentError> {
    let agent = self.change(caller, Right::Manage, id)?;
    let caller = caller.clone();
    self
      .run_to_completion(move |manager| async move {
        manager
          .attach_kernel(&agent, Some(language), environment)
          .await?;
        Ok(manager.info(&caller, &agent))
      })
      .await
  }

  pub(crate) async fn attach_kernel(
    &self,
    agent: &Arc<Agent>,
    language: Option<Language>,
    environment: Option<String>,
  ) -> Result<(), AgentError> {
    let mut config = agent.config();
    config.environment = environment.or(config.environment);
    let language = language.unwrap_or(config.kernel_type.0);
    let attached = agent.kernel.now();
    if attached.language.is_some_and(|present| present != language) {
      agent
        .kernel
        .detach(&self.kernels, agent.id.namespace())
        .await;
    }
    config.kernel_type = KernelLanguage(language);
    config.has_kernel = true;
    let ready = agent
      .kernel
      .ready(
        &self.kernels,
        agent.id.namespace(),
        &config,
        self.environment_of(&config),
      )
      .await;
    let kernel = ready?.kernel;
    self.keep_config(agent, config).await?;
    let attached = AgentEventKind::KernelAttached {
      kernel_id: kernel.id.to_string(),
      kernel_type: language.to_string(),
    };
    self.events.tell(Some(&agent.id), attached);
    Ok(())
  }

  /// Takes the kernel of an agent away, if it has one.
  ///
  /// # Errors
  /// When there is no such agent for this caller.
  pub async fn detach(&self, caller: &Caller, id: &str) -> Result<(), AgentError> {
    let agent = self.change(caller, Right::Manage, id)?;
    self
      .run_to_completion(move |manager| async move {
        let mut config = agent.config();
        config.has_kernel = false;
        manager.keep_config(&agent, config).await?;
        agent
          .kernel
          .detach(&manager.kernels, agent.id.namespace())
          .await;
        manager
          .events
          .tell(Some(&agent.id), AgentEventKind::KernelDetached);
        Ok(())
      })
      .await
  }
}

/// A time in milliseconds; 0 is none.
fn bound(ms: u64) -> Option<Duration> {
  (ms > 0).then(|| Duration::from_millis(ms))
}

/// Who the engine is for the kernels of a namespace.
pub(crate) fn caller(namespace: Option<&str>) -> Caller {
  match namespace {
    Some(namespace) => Caller::of(Scope::Namespace(namespace.to_owned())),
    None => Caller::operator(),
  }
}

async fn start_up(
  kernel: &Arc<Kernel>,
  script: &str,
  given_up: &CancellationToken,
) -> Result<String, StartupError> {
  let plain = |message: String| StartupError {
    full_error: message.clone(),
    stack_trace: message.clone(),
    message,
  };
  let execution = kernel
    .submit(kernels::Work::Code(script.to_owned()))
    .map_err(|e| plain(e.to_string()))?;
  let ended = tokio::select! {
    biased;
    () = given_up.cancelled() => Err("it was given up".to_owned()),
    ended = tokio::time::timeout(START_UP, execution.ended()) => {
      ended.map_err(|_| format!("it did not end within {} seconds", START_UP.as_secs()))
    }
  };
  if let Err(reason) = ended {
    let _ = kernel.interrupt().await;
    return Err(plain(reason));
  }
  let observed = observe(&execution);
  match observed.error {
    None => Ok(observed.text),
    Some((message, traceback)) => Err(StartupError {
      message,
      full_error: traceback.clone(),
      stack_trace: traceback,
    }),
  }
}

/// Runs code, and returns what it came to. A cancelled run leaves at once; the cell is interrupted.
///
/// # Errors
/// When the kernel takes no code.
pub(crate) async fn run_code(
  kernels: &Arc<KernelManager>,
  ready: &Ready,
  code: &str,
  cancel: &CancellationToken,
) -> Result<Option<Observed>, AgentError> {
  let execution = ready.kernel.submit(kernels::Work::Code(code.to_owned()))?;
  tokio::select! {
    biased;
    () = cancel.cancelled() => {
      let (kernels, id) = (kernels.clone(), ready.kernel.id.clone());
      let caller = caller(id.namespace());
      tokio::spawn(async move { kernels.interrupt(&caller, id.as_str()).await });
      Ok(None)
    }
    _ = execution.ended() => Ok(Some(observe(&execution))),
  }
}

/// What the events of an execution say, as text.
fn observe(execution: &Execution) -> Observed {
  let mut observed = Observed::default();
  let mut text = String::new();
  for event in execution.events() {
    match &*event {
      KernelEvent::Stream { text: part, .. } => text.push_str(part),
      KernelEvent::ExecuteResult(json) => text.push_str(&shown(json.as_str(), &mut observed)),
      KernelEvent::DisplayData(json) | KernelEvent::UpdateDisplayData(json) => {
        new_line(&mut text);
        text.push_str(&shown(json.as_str(), &mut observed));
        new_line(&mut text);
      }
      KernelEvent::Error(report) | KernelEvent::ExecuteError(report) => {
        let message = format!("{}: {}", report.ename, report.evalue);
        new_line(&mut text);
        text.push_str(&message);
        observed
          .error
          .get_or_insert((message, report.traceback.join("\n")));
      }
      _ => {}
    }
  }
  observed.text = cut(text.trim());
  observed
}

fn new_line(text: &mut String) {
  if !text.is_empty() && !text.ends_with('\n') {
    text.push('\n');
  }
}

/// The text of a bundle; its image is kept.
fn shown(bundle: &str, observed: &mut Observed) -> String {
  let bundle: Value = serde_json::from_str(bundle).unwrap_or_default();
  let data = &bundle["data"];
  let plain = data["text/plain"].as_str().unwrap_or_default();
  let image = data["image/png"]
    .as_str()
    .or_else(|| data["image/jpeg"].as_str());
  match image {
    Some(image) => {
      let note = if observed.images.len() < MAX_IMAGES {
        observed.images.push(image.to_owned());
        "[image]"
      } else {
        "[one image too many]"
      };
      format!("{plain} {note}").trim().to_owned()
    }
    None => plain.to_owned(),
  }
}

/// A long text as its start and its end.
pub(crate) fn cut(text: &str) -> String {
  let count = text.chars().count();
  if count <= HEAD + TAIL {
    return text.to_owned();
  }
  let head: String = text.chars().take(HEAD).collect();
  let tail: String = text.chars().skip(count - TAIL).collect();
  format!(
    "{head}\n[… {} characters left out …]\n{tail}",
    count - HEAD - TAIL
  )
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn long_output_keeps_its_start_and_its_end() {
    assert_eq!(cut("short"), "short");
    let long = format!("a{}z", "é".repeat(30_000));
    let shown = cut(&long);
    assert!(shown.starts_with('a') && shown.ends_with('z'));
    assert!(shown.contains("[… 12002 characters left out …]"), "{shown}");
  }
}
