//! Chats, with a model that is played.

use access::Caller;
use engine::agents::RunStatus;
use futures::StreamExt;
use serde_json::Value;
use serde_json::json;

use crate::engine::Played;
use crate::model::Model;
use crate::model::Turn;

const SCRIPT: &str = r#"<py-script id="s1">print 4</py-script>"#;
const ANSWER: &str = r#"<returnToUser commit="s1">4</returnToUser>"#;

/// An agent `a` of the workspace `ann`, and its model.
async fn agent(turns: impl IntoIterator<Item = Turn>) -> (Played, Model) {
  let model = Model::new(turns).await;
  let engine = Played::with(&model.url, None);
  let given = json!({"id": "a", "autoAttachKernel": true});
  engine.call("ann", "createAgent", given).await;
  (engine, model)
}

/// What was yielded, without pieces of texts, which come in any number, and with ids that are always the same.
fn whole(yielded: Vec<Value>) -> Vec<Value> {
  let mut whole = yielded;
  whole.retain(|event| event["type"] != "text_chunk");
  for event in &mut whole {
    for id in ["completion_id", "call_id"] {
      if event.get(id).is_some() {
        event[id] = json!("c");
      }
    }
  }
  whole
}

fn begins() -> Value {
  json!({"type": "new_completion", "completion_id": "c"})
}

fn text(text: &str) -> Value {
  json!({"type": "text", "content": text})
}

#[tokio::test]
async fn a_chat_yields_what_the_agent_does_and_is_kept() {
  let turns = [Turn::Says(SCRIPT), Turn::Says(ANSWER), Turn::Says(ANSWER)];
  let (engine, model) = agent(turns).await;
  let given = json!({"agentId": "a", "message": "2+2?", "sessionId": "s-1"});
  let yielded = engine.yields("ann", "chatWithAgent", given).await;
  let pieces: String = yielded
    .iter()
    .filter(|event| event["type"] == "text_chunk")
    .filter_map(|event| event["content"].as_str())
    .collect();
  assert_eq!(pieces, format!("{SCRIPT}{ANSWER}"));
  assert_eq!(
    whole(yielded),
    [
      begins(),
      text(SCRIPT),
      json!({
        "type": "function_call", "name": "runCode", "arguments": {"code": "print 4"}, "call_id": "c",
      }),
      json!({"type": "function_call_output", "content": "4", "call_id": "c"}),
      begins(),
      text(ANSWER),
      json!({"type": "text", "content": "4", "commitIds": ["s1"]}),
    ]
  );
  let kept = engine
    .call("ann", "getAgentConversation", json!({"agentId": "a"}))
    .await;
  let conversation = json!([
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
  ]);
  assert_eq!(kept, json!({"conversation": conversation, "length": 2}));

  // What was said before is sent with a new message.
  let given = json!({"agentId": "ann:a", "message": "Again?"});
  engine.yields("ann", "chatWithAgent", given).await;
  assert_eq!(model.told(), ["2+2?", "4", "Again?"]);
}

#[tokio::test]
async fn a_stateless_chat_is_of_the_messages_given_and_is_not_kept() {
  let (engine, model) = agent([Turn::Says(ANSWER)]).await;
  let given = json!({
    "agentId": "a", "modelConfig": {"model": "ignored"},
    "messages": [
      {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
      {"role": "user", "content": "2+2?"},
    ],
  });
  let yielded = engine.yields("ann", "chatWithAgentStateless", given).await;
  assert_eq!(
    whole(yielded),
    [
      begins(),
      text(ANSWER),
      json!({"type": "text", "content": "4", "commitIds": ["s1"]}),
    ]
  );
  assert_eq!(model.told(), ["Hi", "Hello", "2+2?"]);
  let kept = engine
    .call("ann", "getAgentConversation", json!({"agentId": "a"}))
    .await;
  assert_eq!(kept["length"], 0);
}

#[tokio::test]
async fn a_model_that_refuses_is_an_error_and_the_end() {
  let (engine, _model) = agent([Turn::Refuses]).await;
  let given = json!({"agentId": "a", "message": "Hi"});
  let yielded = engine.yields("ann", "chatWithAgent", given).await;
  let [begun, error] = &whole(yielded)[..] else {
    panic!("two events");
  };
  assert_eq!(*begun, begins());
  let said = error["error"].as_str().expect("a text");
  assert!(said.starts_with("Authentication error: "), "{said}");
  assert!(
    !said.contains("127.0.0.1"),
    "the operator's address: {said}"
  );
  assert_eq!(
    *error,
    json!({"type": "error", "error": said, "content": said})
  );
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_the_run() {
  let (engine, model) = agent([Turn::Hangs, Turn::Says(ANSWER)]).await;
  let given = json!({"agentId": "a", "message": "Hi"});
  let mut stream = engine.stream("ann", "chatWithAgent", given).await;
  let first = stream.next().await.expect("an event");
  assert_eq!(whole(vec![first]), [begins()]);
  model.hangs().await;
  drop(stream);
  model.given_up().await;
  // The next one does not wait for it.
  let given = json!({"agentId": "a", "message": "Well?"});
  let yielded = engine.yields("ann", "chatWithAgent", given).await;
  assert_eq!(yielded.last().expect("an answer")["content"], "4");
  let operator = Caller::operator();
  let runs = engine.engine().agents.runs(&operator, "ann:a").await;
  let runs = runs.expect("lists");
  let statuses: Vec<RunStatus> = runs.iter().map(|run| run.status).collect();
  assert_eq!(statuses, [RunStatus::Completed, RunStatus::Cancelled]);
}

#[tokio::test]
async fn an_agent_that_is_ended_is_the_error_of_its_chats() {
  let (engine, _model) = agent([Turn::Hangs]).await;
  let given = json!({"agentId": "a", "message": "Hi"});
  let mut stream = engine.stream("ann", "chatWithAgent", given).await;
  stream.next().await.expect("an event");
  engine
    .call("ann", "destroyAgent", json!({"agentId": "a"}))
    .await;
  let rest: Vec<Value> = stream.collect().await;
  assert_eq!(
    whole(rest),
    [json!({"type": "error", "error": "The run was cancelled"})]
  );
}

#[tokio::test]
async fn every_failure_is_yielded() {
  let (engine, _model) = agent([]).await;
  let message = "Message is required and must be a string";
  let messages = "Messages array is required and cannot be empty";
  let missing = "agentId is required and must be a string";
  let hi = json!([{"role": "user", "content": "hi"}]);
  for (workspace, name, given, said) in [
    ("ann", "chatWithAgent", json!({"agentId": "a"}), message),
    (
      "ann",
      "chatWithAgent",
      json!({"agentId": "a", "message": ""}),
      message,
    ),
    (
      "ann",
      "chatWithAgent",
      json!({"agentId": "a", "message": 5}),
      message,
    ),
    ("ann", "chatWithAgent", json!({"message": "hi"}), missing),
    (
      "ann",
      "chatWithAgent",
      json!({"agentId": "none", "message": "hi"}),
      "Agent not found",
    ),
    (
      "bob",
      "chatWithAgent",
      json!({"agentId": "a", "message": "hi"}),
      "Agent not found",
    ),
    (
      "bob",
      "chatWithAgent",
      json!({"agentId": "ann:a", "message": "hi"}),
      "Access denied: Agent ann:a is not in workspace bob",
    ),
    (
      "ann",
      "chatWithAgentStateless",
      json!({"agentId": "a"}),
      messages,
    ),
    (
      "ann",
      "chatWithAgentStateless",
      json!({"agentId": "a", "messages": []}),
      messages,
    ),
    (
      "ann",
      "chatWithAgentStateless",
      json!({"agentId": "a", "messages": "hi"}),
      messages,
    ),
    (
      "ann",
      "chatWithAgentStateless",
      json!({"agentId": 5, "messages": hi}),
      missing,
    ),
    (
      "bob",
      "chatWithAgentStateless",
      json!({"agentId": "a", "messages": hi}),
      "Agent not found",
    ),
  ] {
    let yielded = engine.yields(workspace, name, given).await;
    assert_eq!(yielded, [json!({"type": "error", "error": said})], "{name}");
  }
  let given = json!({"agentId": "a", "messages": [{"role": "wizard"}]});
  let yielded = engine.yields("ann", "chatWithAgentStateless", given).await;
  let said = yielded[0]["error"].as_str().expect("a text");
  assert!(said.starts_with("messages[0]: "), "{said}");
}
