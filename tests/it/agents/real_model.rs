//! Agents whose model is a real one: small, slow, and of no great use. `scripts/test.sh` fetches it where it can be
//! run.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;

use super::Agent;
use super::server;
use super::types;

/// Its server, and its address; it ends with its input. `None` where the machine has none.
async fn model() -> Option<(Child, String)> {
  let folder = std::env::var("MODEL_TEST_FOLDER").unwrap_or_default();
  if folder.is_empty() {
    let note = "left out: MODEL_TEST_FOLDER names no model (scripts/test.sh says why)";
    let _ = writeln!(std::io::stderr(), "{note}");
    return None;
  }
  let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llm/serve.mjs");
  let mut child = Command::new("node")
    .arg(script)
    .arg(folder)
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .kill_on_drop(true)
    .spawn()
    .expect("node can be run");
  let stdout = child.stdout.take().expect("is piped");
  let line = BufReader::new(stdout).lines().next_line().await;
  let port: u16 = line
    .expect("a line")
    .expect("a line")
    .trim()
    .parse()
    .expect("a port");
  Some((child, format!("http://127.0.0.1:{port}/v1")))
}

/// An agent of such a model.
async fn agent(url: &str) -> Agent {
  let client = server().client();
  let settings = json!({"baseURL": url, "model": "smollm2", "temperature": 0, "maxTokens": 40});
  let body = json!({
    "instructions": "Answer in one short sentence.", "toolMode": "native", "ModelSettings": settings,
  });
  let created = client.post("/api/agents", &body).await.ok();
  let id = created["id"].as_str().expect("an id").to_owned();
  Agent {
    client,
    id,
    created,
  }
}

fn answer_of(events: &[Value]) -> &str {
  let answer = events.iter().rfind(|event| event["type"] == "text");
  answer.expect("an answer")["content"]
    .as_str()
    .expect("text")
}

#[tokio::test]
async fn a_real_model_streams_a_chat_to_its_end() {
  let Some((_model, url)) = model().await else {
    return;
  };
  let agent = agent(&url).await;
  let (run, events) = agent
    .begin(&json!({"message": "What is the capital of France?"}))
    .await;
  let events = events.rest().await;
  assert_eq!(
    types(&events),
    ["start", "new_completion", "text", "text", "complete"]
  );
  let pieces = events.iter().filter(|event| event["type"] == "text_chunk");
  let pieces: Vec<&str> = pieces.filter_map(|it| it["content"].as_str()).collect();
  let answer = answer_of(&events);
  assert_eq!(pieces.concat().trim(), answer);
  assert!(answer.contains("Paris"), "{answer}");
  let run = agent.run(&run).await;
  assert_eq!(run["status"], "completed", "{run}");
  let tokens = |name: &str| run[name].as_u64().expect("a number");
  assert!(
    tokens("promptTokens") > 20 && tokens("completionTokens") > 4,
    "{run}"
  );
}

#[tokio::test]
async fn a_real_model_is_cancelled_in_the_middle_and_free_at_once() {
  let Some((_model, url)) = model().await else {
    return;
  };
  let agent = agent(&url).await;
  let longer = json!({"ModelSettings": {"maxTokens": 500}});
  agent.client.put(&agent.path(""), &longer).await.ok();
  let story = json!({"message": "Write a long story about a whale, a ship and its captain."});
  let (run, mut events) = agent.begin(&story).await;
  events.until("text_chunk").await;
  agent
    .client
    .post_empty(&agent.path(&format!("/runs/{run}/cancel")))
    .await
    .ok();
  events.until("cancelled").await;
  assert_eq!(agent.run(&run).await["status"], "cancelled");
  // Its server would go on with the story, and answer only then, if the connection were still there.
  let question =
    json!({"messages": [{"role": "user", "content": "What is the capital of Italy?"}]});
  let (_, events) = agent.stream("/chat-stateless", &question).await;
  let events = events.rest().await;
  assert!(answer_of(&events).contains("Rome"), "{events:?}");
}
