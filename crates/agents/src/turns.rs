//! The loop of one run: the model is asked, what it asks for is done, until it answers.
//!
//! Each thing that the model is told is stored before the next is begun, so that a run that was cut off goes on
//! where it was.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use kernels::EnvironmentSource;
use kernels::KernelManager;
use kernels::Language;
use models::ChatClient;
use models::ChatDelta;
use models::ChatMessage;
use models::ChatRequest;
use models::Content;
use models::ContentPart;
use models::Endpoint;
use models::Limits;
use models::ModelError;
use models::ToolCall;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::AgentConfig;
use crate::config::ModelSettings;
use crate::config::ToolMode;
use crate::error::AgentError;
use crate::images;
use crate::kernel;
use crate::kernel::AgentKernel;
use crate::kernel::Observed;
use crate::prompt;
use crate::run::ChatOptions;
use crate::run::Run;
use crate::store::Entry;
use crate::store::Store;
use crate::tags;
use crate::tags::Intent;
use crate::tools;
use crate::tools::Tools;
use crate::window;

/// Pieces of text leave together: what came within this time, or so many bytes.
const GATHER: Duration = Duration::from_millis(40);
const GATHERED: usize = 300;
/// Turns without anything to do that a model is guided after, before the run is stopped.
const MAX_GUIDANCE: u32 = 3;
const END_OF_PLAN: &str = "<end_plan>";

/// Everything that a run works with.
pub(crate) struct Turns {
  pub store: Arc<Store>,
  pub kernels: Arc<KernelManager>,
  /// Makes variables for the kernel.
  pub environment: Option<Arc<dyn EnvironmentSource>>,
  pub client: Arc<ChatClient>,
  pub endpoint: Endpoint,
  pub model: ModelSettings,
  pub limits: Limits,
  pub config: AgentConfig,
  pub options: ChatOptions,
  pub namespace: Option<String>,
  pub kernel: Arc<AgentKernel>,
  pub tools: Tools,
  /// Set once the model's server has refused a request with what not every server knows: tools, and the count of
  /// tokens.
  pub refuses_extras: Arc<AtomicBool>,
  pub most_steps: u32,
  pub run: Arc<Run>,
  /// What is sent before the run's own messages; the task is the last of it.
  pub base: Vec<ChatMessage>,
  pub entries: Vec<Entry>,
}

/// How a run ends.
#[derive(Debug)]
pub(crate) enum Ending {
  Answer {
    content: String,
    commits: Vec<String>,
  },
  /// No answer: the user is told this instead.
  Stopped(String),
  /// The model could not be asked, or a budget is used up.
  Failed(String),
  Cancelled,
}

/// Why a step was not finished.
enum Cut {
  Cancelled,
  Failed(AgentError),
}

impl From<AgentError> for Cut {
  fn from(error: AgentError) -> Self {
    Self::Failed(error)
  }
}

/// What one call of the model gave.
#[derive(Default)]
struct Answered {
  text: String,
  calls: Vec<ToolCall>,
}

impl Turns {
  /// Goes on until there is an answer.
  ///
  /// # Errors
  /// When something of it cannot be stored.
  pub(crate) async fn run(mut self) -> Result<Ending, AgentError> {
    match self.work().await {
      Ok(ending) => Ok(ending),
      Err(Cut::Cancelled) => Ok(Ending::Cancelled),
      Err(Cut::Failed(AgentError::Model(ModelError::Cancelled))) => Ok(Ending::Cancelled),
      Err(Cut::Failed(error @ AgentError::Model(_))) => Ok(Ending::Failed(self.told(&error))),
      Err(Cut::Failed(error)) => Err(error),
    }
  }

  /// An error as the owner of the agent may see it.
  fn told(&self, error: &AgentError) -> String {
    error.told_in(self.namespace.as_deref())
  }

  async fn work(&mut self) -> Result<Ending, Cut> {
    self.close_open_step().await?;
    let (mut guidance, mut previous, mut reminded) = (0, None::<String>, false);
    while self.run.record().steps < self.most_steps {
      if let Some(over) = self.over_budget() {
        return Ok(Ending::Failed(over));
      }
      self.plan_if_due().await?;
      let answered = self.ask_model().await?;
      if !answered.calls.is_empty() {
        self.call_tools(answered).await?;
        previous = None;
      } else {
        let reading = tags::read(&answered.text);
        if reading.intent == Intent::Empty && !reading.forged {
          return Ok(Ending::Stopped(prompt::EMPTY_TWICE.into()));
        }
        if previous.as_deref() == Some(answered.text.as_str()) {
          return Ok(Ending::Stopped(prompt::SAME_TWICE.into()));
        }
        previous = Some(answered.text);
        match reading.intent {
          Intent::Answer { content, commits } => {
            self.count_step().await?;
            return Ok(Ending::Answer { content, commits });
          }
          Intent::Text if self.answers_in_plain_text() => {
            self.count_step().await?;
            return Ok(Ending::Answer {
              content: reading.text.trim().to_owned(),
              commits: Vec::new(),
            });
          }
          Intent::Script {
            tag,
            code,
            thoughts,
          } => {
            self
              .run_script(tag, &code, thoughts.as_deref(), reading.forged)
              .await?;
          }
          intent => {
            guidance += 1;
            if guidance > MAX_GUIDANCE {
              return Ok(Ending::Stopped(prompt::NO_FORMAT.into()));
            }
            self.guide(&intent, reading.text, reading.forged).await?;
            continue;
          }
        }
      }
      let left = self.most_steps.saturating_sub(self.run.record().steps);
      if (1..=2).contains(&left) && !std::mem::replace(&mut reminded, true) {
        self
          .say(Entry::said(ChatMessage::user(prompt::reminder(left))))
          .await?;
      }
    }
    Ok(Ending::Stopped(prompt::out_of_steps(self.most_steps)))
  }

  // ------------------------------------------------------------ the model

  /// Asks the model with all that was said so far, and shows what it writes.
  async fn ask_model(&mut self) -> Result<Answered, Cut> {
    let completion = Uuid::new_v4().simple().to_string();
    self
      .show(vec![
        json!({ "type": "new_completion", "completion_id": completion }),
      ])
      .await?;
    let mut request = ChatRequest::new(self.model.model.clone(), self.messages());
    request.temperature = self.options.temperature.or(self.model.temperature);
    request.max_tokens = self.model.max_tokens;
    request.include_usage = !self.refuses_extras.load(Ordering::Relaxed);
    if self.offers_tools() {
      request.tools = self.tools.offered(self.language());
    }
    let answered = match self.stream(&request, true).await {
      Err(Cut::Failed(AgentError::Model(error))) if request.include_usage && refuses(&error) => {
        self.refuses_extras.store(true, Ordering::Relaxed);
        request.include_usage = false;
        if self.config.tool_mode == ToolMode::Auto {
          request.tools.clear();
        }
        self.stream(&request, true).await?
      }
      other => other?,
    };
    if !answered.text.is_empty() {
      self
        .show(vec![json!({ "type": "text", "content": answered.text })])
        .await?;
    }
    Ok(answered)
  }

  /// Reads one answer of the model; `shown` says whether its text is an event as it comes.
  async fn stream(&self, request: &ChatRequest, shown: bool) -> Result<Answered, Cut> {
    let cancel = self.run.cancel.clone();
    let mut stream = pin!(self.client.stream(
      &self.endpoint,
      request,
      &self.limits,
      cancel.clone()
    ));
    let mut answered = Answered::default();
    let mut pending = String::new();
    let mut due = Instant::now();
    loop {
      let delta = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Cut::Cancelled),
        () = tokio::time::sleep_until(due), if !pending.is_empty() => None,
        delta = stream.next() => Some(delta),
      };
      match delta {
        None => self.show_text(&mut pending).await?,
        Some(None) => break,
        Some(Some(Err(error))) => {
          self.show_text(&mut pending).await?;
          return Err(Cut::Failed(error.into()));
        }
        Some(Some(Ok(delta))) => match delta {
          ChatDelta::Text(text) => {
            answered.text.push_str(&text);
            if shown {
              if pending.is_empty() {
                due = Instant::now() + GATHER;
              }
              pending.push_str(&text);
              if pending.len() >= GATHERED {
                self.show_text(&mut pending).await?;
              }
            }
          }
          ChatDelta::ToolCall(call) => answered.calls.push(call),
          ChatDelta::Usage(usage) => self.run.count_tokens(usage),
          ChatDelta::Reasoning(_) | ChatDelta::ToolCallPart { .. } | ChatDelta::Finished(_) => {}
        },
      }
    }
    self.show_text(&mut pending).await?;
    Ok(answered)
  }

  async fn show_text(&self, pending: &mut String) -> Result<(), AgentError> {
    if pending.is_empty() {
      return Ok(());
    }
    let text = std::mem::take(pending);
    self
      .show(vec![json!({ "type": "text_chunk", "content": text })])
      .await
  }

  fn messages(&self) -> Vec<ChatMessage> {
    let attached = self.kernel.now();
    let plan = self.entries.iter().rev().find(|entry| entry.plan);
    let plan = plan
      .and_then(|entry| entry.message.content.as_ref())
      .map(Content::text);
    let services = self.config.hypha_services.iter();
    let system = prompt::system(&prompt::Parts {
      instructions: &self.config.instructions,
      addition: self.options.system_prompt.as_deref(),
      startup: attached.startup_output.as_deref(),
      language: self.language(),
      tags: self.config.tool_mode != ToolMode::Native,
      services: services
        .map(|(name, note)| (name.as_str(), note.description.as_str()))
        .collect(),
      plan: plan.as_deref(),
      missing: &self.tools.servers.missing,
    });
    let own = self
      .entries
      .iter()
      .filter(|entry| !entry.plan)
      .map(|entry| &entry.message);
    let all: Vec<ChatMessage> = self.base.iter().chain(own).cloned().collect();
    let context = self.model.context_tokens.unwrap_or(window::DEFAULT_CONTEXT);
    window::fit(system, &all, self.base.len().saturating_sub(1), context)
  }

  /// The language of the kernel, if the agent has one.
  fn language(&self) -> Option<Language> {
    self.config.has_kernel.then_some(self.config.kernel_type.0)
  }

  fn offers_tools(&self) -> bool {
    match self.config.tool_mode {
      ToolMode::Tags => false,
      ToolMode::Native => true,
      ToolMode::Auto => !self.refuses_extras.load(Ordering::Relaxed),
    }
  }

  /// Whether text without tags is an answer: of models that call tools instead of writing tags.
  fn answers_in_plain_text(&self) -> bool {
    let has_called = || {
      self
        .entries
        .iter()
        .any(|entry| !entry.message.tool_calls.is_empty())
    };
    match self.config.tool_mode {
      ToolMode::Native => true,
      ToolMode::Auto => has_called(),
      ToolMode::Tags => false,
    }
  }

  fn over_budget(&self) -> Option<String> {
    let record = self.run.record();
    let used = record.prompt_tokens + record.completion_tokens;
    let most = self.config.max_tokens_per_run?;
    (used >= most).then(|| format!("The budget of {most} tokens is used up: {used} were counted"))
  }

  // ------------------------------------------------------------ steps

  async fn run_script(
    &mut self,
    tag: &'static str,
    code: &str,
    thoughts: Option<&str>,
    forged: bool,
  ) -> Result<(), Cut> {
    let call = Uuid::new_v4().simple().to_string();
    let thoughts = thoughts.map_or_else(String::new, |it| format!("<thoughts>{it}</thoughts>\n"));
    let said = format!("{thoughts}<{tag} id=\"{call}\">{code}</{tag}>");
    let note = if forged {
      format!("\n{}", prompt::FORGED)
    } else {
      String::new()
    };
    if !self.config.has_kernel {
      self.say(Entry::said(ChatMessage::assistant(said))).await?;
      let text = format!("{}{note}", prompt::NO_KERNEL);
      self.say(Entry::said(ChatMessage::user(text))).await?;
      return Ok(self.count_step().await?);
    }
    self
      .say(Entry::asking(ChatMessage::assistant(said)))
      .await?;
    self
      .show_call("runCode", &json!({ "code": code }), &call)
      .await?;
    let observed = self.execute(code).await?;
    let (output, told) = match &observed {
      Ok(observed) => (observed.text.clone(), prompt::observation(&observed.text)),
      Err(reason) => (reason.clone(), prompt::failed_observation(reason)),
    };
    let images = observed.map(|it| it.images).unwrap_or_default();
    let content = self.with_images(told + &note, images).await;
    self.say(Entry::said(ChatMessage::user(content))).await?;
    self.count_step().await?;
    self.show_output(&output, &call).await?;
    Ok(())
  }

  /// Runs code in the kernel; `Err` is why that was not possible, for the model.
  async fn execute(&self, code: &str) -> Result<Result<Observed, String>, Cut> {
    let cancel = &self.run.cancel;
    let making = {
      let (kernel, kernels) = (self.kernel.clone(), self.kernels.clone());
      let (namespace, config) = (self.namespace.clone(), self.config.clone());
      // Goes on when the run is cancelled, so that no kernel is left behind.
      let environment = self.environment.clone();
      tokio::spawn(async move {
        let ready = kernel.ready(&kernels, namespace.as_deref(), &config, environment);
        ready.await
      })
    };
    let ready = tokio::select! {
      biased;
      () = cancel.cancelled() => return Err(Cut::Cancelled),
      ready = making => ready.unwrap_or_else(|e| Err(AgentError::Storage(e.to_string()))),
    };
    let ready = match ready {
      Ok(ready) => ready,
      Err(error) => return Ok(Err(self.told(&error))),
    };
    match kernel::run_code(&self.kernels, &ready, code, cancel).await {
      Ok(None) => Err(Cut::Cancelled),
      Ok(Some(mut observed)) => {
        if observed.text.is_empty() {
          observed.text = "Code executed (no output)".into();
        }
        if ready.state_lost {
          observed.text = format!("{}\n{}", prompt::NEW_STATE, observed.text);
        }
        Ok(Ok(observed))
      }
      Err(error) => Ok(Err(self.told(&error))),
    }
  }

  /// Does what the model's tool calls ask for, one after the other. They count as one step.
  async fn call_tools(&mut self, answered: Answered) -> Result<(), Cut> {
    let content = (!answered.text.is_empty()).then(|| answered.text.into());
    let message = ChatMessage::calling(content, answered.calls.clone());
    self.say(Entry::asking(message)).await?;
    let mut images = Vec::new();
    for call in answered.calls {
      images.extend(self.call_tool(call).await?);
    }
    if self.model.vision == Some(true) && !images.is_empty() {
      // In a message of the user, for not every server takes images of tools; behind all results, for servers want
      // these to follow their calls.
      images.truncate(images::MAX_IMAGES);
      let content = self.with_images(prompt::IMAGES_SHOWN.into(), images).await;
      self.say(Entry::said(ChatMessage::user(content))).await?;
    }
    self.count_step().await?;
    Ok(())
  }

  /// Does what one call asks for; the images that its code showed.
  async fn call_tool(&mut self, call: ToolCall) -> Result<Vec<String>, Cut> {
    let ToolCall { id, function, .. } = call;
    let arguments: Result<Value, _> = serde_json::from_str(&function.arguments);
    let shown = arguments
      .as_ref()
      .map_or_else(|_| json!(function.arguments), Value::clone);
    let name = if function.name == tools::RUN_CODE {
      "runCode"
    } else {
      function.name.as_str()
    };
    self.show_call(name, &shown, &id).await?;
    let mut images = Vec::new();
    let output = match arguments {
      Err(error) => format!("The arguments are not JSON: {error}"),
      Ok(arguments) if function.name == tools::RUN_CODE => match arguments["code"].as_str() {
        Some(_) if !self.config.has_kernel => "Code cannot be run: this agent has no kernel".into(),
        None => "The argument `code` is missing".into(),
        Some(code) => match self.execute(code).await? {
          Ok(observed) => {
            images = observed.images;
            observed.text
          }
          Err(reason) => format!("The code could not be run: {reason}"),
        },
      },
      Ok(arguments) => tokio::select! {
        biased;
        () = self.run.cancel.cancelled() => return Err(Cut::Cancelled),
        output = self.tools.call(&function.name, &arguments) => output,
      },
    };
    let message = ChatMessage::tool(id.clone(), output.clone());
    self.say(Entry::said(message)).await?;
    self.show_output(&output, &id).await?;
    Ok(images)
  }

  /// Tells the model what its message lacks.
  async fn guide(&mut self, intent: &Intent, text: String, forged: bool) -> Result<(), AgentError> {
    let tag = self.language().map(prompt::script_tag);
    let guidance = match intent {
      _ if forged => prompt::FORGED.to_owned(),
      Intent::Text => prompt::untagged(tag),
      _ => prompt::unfinished(tag),
    };
    if !text.is_empty() {
      self.say(Entry::said(ChatMessage::assistant(text))).await?;
    }
    self.say(Entry::said(ChatMessage::user(guidance))).await?;
    // Keeps readers awake that expect something now and then.
    self
      .show(vec![json!({ "type": "text_chunk", "content": "" })])
      .await
  }

  /// Answers what was asked for when the server ended, and is not known to have come to its end.
  async fn close_open_step(&mut self) -> Result<(), AgentError> {
    let Some(at) = self.entries.iter().rposition(|entry| entry.asks) else {
      return Ok(());
    };
    let asked = self.entries[at].message.clone();
    let answers = &self.entries[at + 1..];
    if asked.tool_calls.is_empty() {
      if answers.is_empty() {
        self
          .say(Entry::said(ChatMessage::user(prompt::UNKNOWN_OUTCOME)))
          .await?;
        self.count_step().await?;
      }
      return Ok(());
    }
    let open: Vec<String> = asked
      .tool_calls
      .into_iter()
      .map(|call| call.id)
      .filter(|id| {
        !answers
          .iter()
          .any(|it| it.message.tool_call_id.as_ref() == Some(id))
      })
      .collect();
    let any = !open.is_empty();
    for id in open {
      self
        .say(Entry::said(ChatMessage::tool(id, prompt::UNKNOWN_OUTCOME)))
        .await?;
    }
    if any {
      self.count_step().await?;
    }
    Ok(())
  }

  // ------------------------------------------------------------ plans

  /// Makes a plan at the start, and again after every so many steps.
  async fn plan_if_due(&mut self) -> Result<(), Cut> {
    if !self.config.enable_planning {
      return Ok(());
    }
    let (steps, plans) = (
      self.run.record().steps,
      self.entries.iter().filter(|it| it.plan).count(),
    );
    let due = match self.config.planning_interval {
      None | Some(0 | 1) => plans == 0,
      Some(interval) => plans <= (steps / interval) as usize,
    };
    if !due {
      return Ok(());
    }
    let facts = self
      .think(
        "Before a task is solved, what is known is collected. Write three short lists with these heads: \
         1. Facts given in the task, 2. Facts to look up, and where, 3. Facts to derive. No code, no tags.",
      )
      .await?;
    let plan = self
      .think(&format!(
        "Write the plan by which the task is to be solved: numbered steps, one line each, without code or tags. \
         Write {END_OF_PLAN} after the last step.\n\nWhat is known:\n{facts}"
      ))
      .await?;
    let plan = plan.split(END_OF_PLAN).next().unwrap_or_default().trim();
    let event = json!({
      "type": "planning_step", "stepNumber": steps, "isFirstStep": plans == 0, "content": plan,
    });
    self.say(Entry::plan(plan)).await?;
    self.show(vec![event]).await?;
    Ok(())
  }

  /// Asks the model about the task, apart from the conversation.
  async fn think(&self, instructions: &str) -> Result<String, Cut> {
    let mut messages = self.messages();
    messages[0] = ChatMessage::system(instructions);
    let mut request = ChatRequest::new(self.model.model.clone(), messages);
    request.temperature = self.model.temperature;
    request.include_usage = !self.refuses_extras.load(Ordering::Relaxed);
    Ok(self.stream(&request, false).await?.text)
  }

  // ------------------------------------------------------------ what is kept and shown

  async fn say(&mut self, entry: Entry) -> Result<(), AgentError> {
    let first = self.entries.len();
    self
      .store
      .append_entries(&self.run.id, first, std::slice::from_ref(&entry))
      .await?;
    self.entries.push(entry);
    Ok(())
  }

  async fn count_step(&self) -> Result<(), AgentError> {
    let record = self.run.change(|record| record.steps += 1);
    self.store.update_run(&record).await
  }

  async fn show(&self, events: Vec<Value>) -> Result<(), AgentError> {
    self.run.append(&self.store, events).await
  }

  async fn show_call(&self, name: &str, arguments: &Value, call: &str) -> Result<(), AgentError> {
    let event =
      json!({ "type": "function_call", "name": name, "arguments": arguments, "call_id": call });
    self.show(vec![event]).await
  }

  async fn show_output(&self, content: &str, call: &str) -> Result<(), AgentError> {
    let event = json!({ "type": "function_call_output", "content": content, "call_id": call });
    self.show(vec![event]).await
  }

  /// A text, with images where the model sees them.
  async fn with_images(&self, mut text: String, images: Vec<String>) -> Content {
    let given = images.len();
    if given == 0 || self.model.vision != Some(true) {
      return text.into();
    }
    let images = images::for_model(images).await;
    if images.len() < given {
      text.push_str(prompt::IMAGES_LEFT_OUT);
    }
    let text = ContentPart::Text { text };
    std::iter::once(text)
      .chain(images)
      .collect::<Vec<_>>()
      .into()
  }
}

/// Whether a server refuses a request that has tools, as far as can be told.
fn refuses(error: &ModelError) -> bool {
  match error {
    ModelError::Api {
      status: Some(400..=499 | 501),
      ..
    } => true,
    ModelError::Api {
      status: Some(500),
      detail,
      ..
    } => detail.contains("tool"),
    _ => false,
  }
}
