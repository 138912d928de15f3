//! Agents: their lives, their conversations and their kernels. Chats are in `chats`.

use std::collections::BTreeMap;

use engine::agents::AgentInfo;
use engine::agents::AgentSummary;
use engine::agents::CreateAgent;
use engine::agents::KernelLanguage;
use engine::agents::ModelSettingsChange;
use engine::agents::UpdateAgent;
use engine::agents::models::ChatMessage;
use engine::kernels::Language;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use super::base;
use crate::method::Asker;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Nothing;
use crate::method::Outcome;
use crate::method::Service;
use crate::method::answer;

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "listAgents",
      "Lists the agents of the caller's workspace",
      list,
    ),
    Method::new("agentExists", "Says whether there is an agent", exists),
    Method::new(
      "getAgentStats",
      "Counts the caller's agents, their kernels and models",
      stats,
    ),
    Method::new(
      "createAgent",
      "Makes an agent in the caller's workspace, which makes room by ending its oldest ones",
      create,
    ),
    Method::new("getAgentInfo", "Tells all about an agent but its key", info),
    Method::new(
      "updateAgent",
      "Changes an agent: what is left out stays",
      update,
    ),
    Method::new(
      "destroyAgent",
      "Ends an agent with its kernel, its runs and its conversation",
      destroy,
    ),
    Method::new(
      "getAgentConversation",
      "What an agent and its users have said",
      conversation,
    ),
    Method::new(
      "clearAgentConversation",
      "Forgets the conversation of an agent",
      clear_conversation,
    ),
    Method::new(
      "setAgentConversationHistory",
      "Replaces the conversation of an agent",
      set_conversation,
    ),
    Method::new(
      "attachKernelToAgent",
      "Gives an agent a kernel, and runs its start-up script in it",
      attach,
    ),
    Method::new(
      "detachKernelFromAgent",
      "Takes the kernel of an agent away",
      detach,
    ),
  ]
}

/// The full id of what a caller calls by this name.
///
/// # Errors
/// When it is no name, or one of another workspace.
pub(super) fn full_id(asker: &Asker, given: &Value) -> Result<String, Failure> {
  let id = given.as_str().filter(|id| !id.is_empty());
  let id = id.ok_or_else(|| Failure::new("agentId is required and must be a string"))?;
  match id.split_once(':') {
    Some((workspace, _)) if workspace != asker.workspace => Err(Failure::new(format!(
      "Access denied: Agent {id} is not in workspace {}",
      asker.workspace
    ))),
    Some(_) => Ok(id.to_owned()),
    None => Ok(format!("{}:{id}", asker.workspace)),
  }
}

/// Messages in the form of the Chat Completions API.
pub(super) fn messages_of(given: Value, wrong: &str) -> Result<Vec<ChatMessage>, Failure> {
  let Value::Array(messages) = given else {
    return Err(Failure::new(wrong));
  };
  let parsed = messages.into_iter().enumerate().map(|(index, message)| {
    serde_json::from_value(message).map_err(|e| Failure::new(format!("messages[{index}]: {e}")))
  });
  parsed.collect()
}

/// Confirms what was done; unlike a kernel's, an agent's answer has no time.
fn done(message: impl Into<String>) -> Value {
  json!({ "success": true, "message": message.into() })
}

/// An agent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Which {
  /// Its id, with or without the workspace.
  #[serde(default)]
  #[schema(value_type = String)]
  agent_id: Value,
}

// ------------------------------------------------------------ lives

async fn list(call: Call<Nothing>) -> Outcome {
  let agents = &call.service.engine.agents;
  let listed = agents.list(&call.asker.caller(), None)?;
  answer(listed.into_iter().map(listed_agent).collect::<Vec<_>>())
}

fn listed_agent(agent: AgentSummary) -> Value {
  json!({
    "id": agent.id,
    "name": agent.name,
    "description": agent.description.unwrap_or_default(),
    "kernelType": agent.kernel_type,
    "hasKernel": agent.has_kernel,
    "created": access::timestamp(agent.created),
    "conversationLength": agent.conversation_length,
    "namespace": agent.namespace,
  })
}

async fn exists(call: Call<Which>) -> Outcome {
  let agents = &call.service.engine.agents;
  // One of another workspace does not exist for this one.
  let exists = full_id(&call.asker, &call.given.agent_id)
    .is_ok_and(|id| agents.get(&call.asker.caller(), &id).is_ok());
  answer(json!({ "exists": exists }))
}

async fn stats(call: Call<Nothing>) -> Outcome {
  answer(call.service.engine.agents.stats(&call.asker.caller())?)
}

/// An agent to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Create {
  /// Name within the workspace; a UUID when left out.
  id: Option<String>,
  #[schema(default = "New Agent")]
  name: Option<String>,
  description: Option<String>,
  #[schema(default = "You are a helpful assistant.")]
  instructions: Option<String>,
  /// Runs in each new kernel of the agent.
  startup_script: Option<String>,
  /// `PYTHON`, `TYPESCRIPT`, `JAVASCRIPT` or `CPYTHON`, in any case.
  #[schema(value_type = Option<String>, default = "PYTHON")]
  kernel_type: Option<KernelLanguage>,
  /// Environment variables of its kernels.
  kernel_environs: Option<BTreeMap<String, String>>,
  #[schema(default = 10)]
  max_steps: Option<u32>,
  /// The model to ask: `baseURL`, `apiKey`, `model`, `temperature`; the server's own when left out.
  #[serde(rename = "ModelSettings", alias = "modelSettings")]
  #[schema(inline)]
  model_settings: Option<ModelSettingsChange>,
  /// A model of the operator's registry, instead of `ModelSettings`.
  model_id: Option<String>,
  /// Makes the kernel at once.
  #[serde(default)]
  auto_attach_kernel: bool,
}

async fn create(call: Call<Create>) -> Outcome {
  let given = call.given;
  let request = CreateAgent {
    id: given.id,
    name: given.name,
    description: given.description,
    instructions: given.instructions,
    startup_script: given.startup_script,
    kernel_type: given.kernel_type,
    kernel_environs: given.kernel_environs,
    environment: call.service.environment_name(&call.asker),
    max_steps: given.max_steps,
    model_settings: given.model_settings,
    model_id: given.model_id,
    auto_attach_kernel: given.auto_attach_kernel,
    ..CreateAgent::default()
  };
  let agents = &call.service.engine.agents;
  let agent = agents.create(&call.asker.caller(), request).await?;
  let mut shown = shown(&agent);
  shown["id"] = json!(base(&agent.id));
  shown["created"] = json!(access::timestamp(agent.created));
  shown["maxSteps"] = json!(agent.max_steps);
  answer(shown)
}

/// Whose variables an agent's kernels get from now on: those of somebody who is known, for whoever else uses it keeps
/// what it has.
fn known(service: &Service, asker: &Asker) -> Option<String> {
  let name = service.environment_name(asker);
  name.filter(|_| !asker.is_anonymous)
}

/// What both making and changing an agent tell of it.
fn shown(agent: &AgentInfo) -> Value {
  let mut shown = json!({
    "id": agent.id,
    "name": agent.name,
    "description": agent.description,
    "instructions": agent.instructions,
    "kernelType": agent.kernel_type,
    "hasKernel": agent.has_kernel,
    "hasStartupError": agent.has_startup_error,
  });
  if let Some(script) = &agent.startup_script {
    shown["startupScript"] = json!(script);
  }
  if let Some(error) = &agent.startup_error {
    shown["startupError"] = json!(error);
  }
  shown
}

async fn info(call: Call<Which>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let agents = &call.service.engine.agents;
  let agent = agents.get(&call.asker.caller(), &id)?;
  answer(AgentInfo {
    id: base(&agent.id).to_owned(),
    ..agent
  })
}

/// A change of an agent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Update {
  /// Its id, with or without the workspace.
  #[serde(default)]
  #[schema(value_type = String)]
  agent_id: Value,
  name: Option<String>,
  description: Option<String>,
  instructions: Option<String>,
  /// An empty one is none.
  startup_script: Option<String>,
  /// `PYTHON`, `TYPESCRIPT`, `JAVASCRIPT` or `CPYTHON`, in any case.
  #[schema(value_type = Option<String>)]
  kernel_type: Option<KernelLanguage>,
  /// In place of the present ones, from the next kernel on.
  kernel_environs: Option<BTreeMap<String, String>>,
  max_steps: Option<u32>,
  /// Put over the present settings.
  #[serde(rename = "ModelSettings", alias = "modelSettings")]
  #[schema(inline)]
  model_settings: Option<ModelSettingsChange>,
  /// A model of the operator's registry, instead of `ModelSettings`.
  model_id: Option<String>,
}

async fn update(call: Call<Update>) -> Outcome {
  let given = call.given;
  let id = full_id(&call.asker, &given.agent_id)?;
  let change = UpdateAgent {
    name: given.name,
    description: given.description.map(Some),
    instructions: given.instructions.map(Some),
    startup_script: given.startup_script.map(Some),
    kernel_type: given.kernel_type,
    kernel_environs: given.kernel_environs.map(Some),
    environment: known(&call.service, &call.asker),
    max_steps: given.max_steps.map(Some),
    model_settings: given.model_settings.map(Some),
    model_id: given.model_id.map(Some),
    ..UpdateAgent::default()
  };
  let agents = &call.service.engine.agents;
  let agent = agents.update(&call.asker.caller(), &id, change).await?;
  let mut done = done("Agent updated successfully");
  done["agent"] = shown(&agent);
  answer(done)
}

async fn destroy(call: Call<Which>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let agents = &call.service.engine.agents;
  agents.delete(&call.asker.caller(), &id).await?;
  let named = call.given.agent_id.as_str().unwrap_or_default();
  answer(done(format!("Agent {named} deleted successfully")))
}

// ------------------------------------------------------------ conversations

async fn conversation(call: Call<Which>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let agents = &call.service.engine.agents;
  let said = agents.conversation(&call.asker.caller(), &id).await?;
  answer(json!({ "conversation": said.messages, "length": said.messages.len() }))
}

async fn clear_conversation(call: Call<Which>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let agents = &call.service.engine.agents;
  let caller = call.asker.caller();
  agents.set_conversation(&caller, &id, Vec::new()).await?;
  answer(done("Conversation cleared successfully"))
}

/// Messages for an agent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Messages {
  /// Its id, with or without the workspace.
  #[serde(default)]
  #[schema(value_type = String)]
  pub(super) agent_id: Value,
  /// Each with `role` (system, user, assistant or tool) and `content`.
  #[serde(default)]
  #[schema(value_type = Vec<Object>)]
  pub(super) messages: Value,
}

async fn set_conversation(call: Call<Messages>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let messages = messages_of(call.given.messages, "Messages must be an array")?;
  let given = messages.len();
  let agents = &call.service.engine.agents;
  let caller = call.asker.caller();
  let count = agents.set_conversation(&caller, &id, messages).await?;
  let mut done = done(format!("Conversation history set with {given} messages"));
  done["messageCount"] = json!(count);
  answer(done)
}

// ------------------------------------------------------------ kernels

/// An agent, and the kernel it is to have.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Attach {
  /// Its id, with or without the workspace.
  #[serde(default)]
  #[schema(value_type = String)]
  agent_id: Value,
  /// `PYTHON`, `TYPESCRIPT`, `JAVASCRIPT` or `CPYTHON`, in any case.
  #[serde(default)]
  #[schema(value_type = Option<String>, default = "PYTHON")]
  kernel_type: Value,
}

async fn attach(call: Call<Attach>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let language = language_of(&call.given.kernel_type)?;
  let agents = &call.service.engine.agents;
  let environment = known(&call.service, &call.asker);
  let caller = call.asker.caller();
  let agent = agents.attach(&caller, &id, language, environment).await?;
  let mut done = done("Kernel attached successfully");
  done["hasKernel"] = json!(agent.has_kernel);
  done["kernelType"] = json!(agent.kernel_type);
  answer(done)
}

/// The original took every name that it did not know for Python; a caller is told instead.
fn language_of(given: &Value) -> Result<Language, Failure> {
  let unknown = |named: String| Failure::new(format!("Invalid kernelType: {named}"));
  match given {
    Value::Null => Ok(Language::Python),
    Value::String(name) => name.parse().map_err(|_| unknown(name.clone())),
    other => Err(unknown(other.to_string())),
  }
}

async fn detach(call: Call<Which>) -> Outcome {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let agents = &call.service.engine.agents;
  agents.detach(&call.asker.caller(), &id).await?;
  answer(done("Kernel detached successfully"))
}
