//! Chats with agents: runs whose events are yielded as they come.

use std::sync::Arc;

use engine::agents::ChatOptions;
use engine::agents::Run;
use engine::agents::RunReader;
use futures::StreamExt;
use futures::stream;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use super::agents::Messages;
use super::agents::full_id;
use super::agents::messages_of;
use crate::method::Answer;
use crate::method::Call;
use crate::method::Failure;
use crate::method::Method;
use crate::method::Outcome;

pub(super) fn methods() -> Vec<Method> {
  vec![
    Method::new(
      "chatWithAgent",
      "Lets an agent answer a message as part of its conversation, and yields what it does",
      chat,
    ),
    Method::new(
      "chatWithAgentStateless",
      "Lets an agent answer messages apart from its conversation, and yields what it does",
      chat_stateless,
    ),
  ]
}

/// A message to an agent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Message {
  /// Its id, with or without the workspace.
  #[serde(default)]
  #[schema(value_type = String)]
  agent_id: Value,
  #[serde(default)]
  #[schema(value_type = String)]
  message: Value,
}

async fn chat(call: Call<Message>) -> Outcome {
  Ok(told(begin(call).await))
}

async fn begin(call: Call<Message>) -> Result<Arc<Run>, Failure> {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let message = call.given.message.as_str().filter(|text| !text.is_empty());
  let message = message
    .ok_or_else(|| Failure::new("Message is required and must be a string"))?
    .to_owned();
  let (agents, caller) = (&call.service.engine.agents, call.asker.caller());
  let run = agents.chat(&caller, &id, message, ChatOptions::default());
  Ok(run.await?)
}

async fn chat_stateless(call: Call<Messages>) -> Outcome {
  Ok(told(begin_stateless(call).await))
}

async fn begin_stateless(call: Call<Messages>) -> Result<Arc<Run>, Failure> {
  let id = full_id(&call.asker, &call.given.agent_id)?;
  let wrong = "Messages array is required and cannot be empty";
  let messages = messages_of(call.given.messages, wrong)?;
  let (agents, caller) = (&call.service.engine.agents, call.asker.caller());
  let run = agents.chat_stateless(&caller, &id, messages, ChatOptions::default());
  Ok(run.await?)
}

/// What a chat yields; that there is none, too, is yielded and not thrown.
fn told(run: Result<Arc<Run>, Failure>) -> Answer {
  let events = match run {
    Ok(run) => stream::unfold(Some(Followed(run.reader(0))), next).boxed(),
    Err(failure) => {
      let error = json!({ "type": "error", "error": failure.to_string() });
      stream::iter([error]).boxed()
    }
  };
  Answer::Stream(events)
}

/// Reads a run that ends with its reader: callers have no other way to cancel one.
struct Followed(RunReader);

impl Drop for Followed {
  fn drop(&mut self) {
    self.0.run().cancel();
  }
}

/// The next event that is the caller's to see. Nothing follows an error.
async fn next(followed: Option<Followed>) -> Option<(Value, Option<Followed>)> {
  let mut followed = followed?;
  loop {
    let (_, event) = followed.0.next().await?;
    let Ok(mut event) = serde_json::from_str::<Value>(&event) else {
      continue;
    };
    match event["type"].as_str() {
      // These are for readers of the HTTP API, who cannot see otherwise where a run begins and ends.
      Some("start" | "complete") => {}
      Some("error") => {
        event["error"] = json!(said(&event));
        return Some((event, None));
      }
      // Somebody else has ended the run, or its agent: there is no answer.
      Some("cancelled") => {
        let error = json!({ "type": "error", "error": event["message"] });
        return Some((error, None));
      }
      _ => return Some((event, Some(followed))),
    }
  }
}

/// The text of an error: of one that was thrown it is `error` itself, of one in the log of a run `content`.
fn said(event: &Value) -> String {
  let text = event["error"].as_str().or(event["content"].as_str());
  text.unwrap_or_default().to_owned()
}
