//! What agents call besides code.

use std::process::Stdio;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;

use super::Agent;
use super::model::Model;
use super::model::Turn;
use super::says;
use super::server;

fn outputs(events: &[Value]) -> Vec<String> {
  let outputs = events
    .iter()
    .filter(|it| it["type"] == "function_call_output");
  let texts = outputs.map(|it| it["content"].as_str().expect("text").to_owned());
  texts.collect()
}

fn offered(request: &Value) -> Vec<&str> {
  let tools = request["tools"].as_array().expect("tools");
  let names = tools.iter().map(|tool| tool["function"]["name"].as_str());
  names.map(|name| name.expect("a name")).collect()
}

/// A server of the official SDK, and its port.
async fn mcp_server(token: &str) -> (Child, u16) {
  let python = std::env::var("MCP_TEST_PYTHON").expect("MCP_TEST_PYTHON: scripts/test.sh sets it");
  let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/server.py");
  let mut child = Command::new(python)
    .args([script, token])
    .stdout(Stdio::piped())
    .kill_on_drop(true)
    .spawn()
    .expect("Python can be run");
  let stdout = child.stdout.take().expect("is piped");
  let line = BufReader::new(stdout).lines().next_line().await;
  let port = line.expect("a line").expect("a line").trim().parse();
  (child, port.expect("a port"))
}

#[tokio::test]
async fn an_agent_searches_what_it_was_given_and_remembers() {
  let client = server().client();
  let index = json!({"id": "books", "namespace": "default"});
  client.post("/api/vectordb/indices", &index).await.ok();
  let documents = json!({"documents": [{"id": "d1", "text": "The whale is white."}]});
  client
    .post("/api/vectordb/indices/default:books/documents", &documents)
    .await
    .ok();
  let query = json!({"query": "whale"});
  let model = Model::new([
    Turn::Calls(vec![
      ("search_knowledge", query.clone()),
      ("recall", query.clone()),
      ("remember", json!({"text": "Ahab seeks a whale."})),
      ("recall", query.clone()),
      ("search_knowledge", json!({})),
    ]),
    says("Done."),
  ])
  .await;
  let body = json!({"knowledge": ["default:books"], "memory": true, "toolMode": "native"});
  let agent = Agent::new(client, &model, body).await;
  let outputs = outputs(&agent.chat("What colour?").await);
  assert!(outputs[0].contains("The whale is white."), "{outputs:?}");
  assert_eq!(outputs[1..3], ["Nothing was found", "Kept"]);
  assert!(outputs[3].contains("Ahab seeks a whale."), "{outputs:?}");
  assert!(outputs[4].contains("`query` is missing"), "{outputs:?}");
  assert_eq!(
    offered(&model.asked()[0]),
    ["search_knowledge", "remember", "recall"]
  );
  agent.client.delete(&agent.path("")).await.ok();
  let left = agent.client.get("/api/vectordb/instances").await.ok();
  assert!(!left.to_string().contains("agent-memory"), "{left}");
}

#[tokio::test]
async fn tools_of_mcp_servers_are_called_by_the_names_of_their_servers() {
  let (mut process, port) = mcp_server("mcp-secret").await;
  let model = Model::new([
    Turn::Calls(vec![
      ("calc__add", json!({"a": 20, "b": 22})),
      ("calc__fail_always", json!({})),
    ]),
    says("42"),
  ])
  .await;
  let url = format!("http://127.0.0.1:{port}/mcp");
  let body = json!({"toolMode": "native", "mcpServers": [
    {"name": "calc", "url": url, "token": "mcp-secret"},
    {"name": "shut", "url": url, "token": "another"},
  ]});
  let agent = Agent::new(server().client(), &model, body).await;
  let outputs = outputs(&agent.chat("add").await);
  assert_eq!(outputs[0], "42");
  assert!(outputs[1].starts_with("The tool failed: ") && outputs[1].contains("as it must"));
  assert_eq!(
    offered(&model.asked()[0]),
    ["calc__add", "calc__fail_always"]
  );
  let system = model.asked()[0]["messages"][0]["content"].to_string();
  assert!(
    system.contains("The tools of `shut` are not there now"),
    "{system}"
  );
  let info = agent.info().await;
  assert_eq!(info["mcpServers"][0], json!({"name": "calc", "url": url}));
  assert!(!info.to_string().contains("mcp-secret"), "{info}");

  // One that is down is missed, and the agent answers all the same.
  process.kill().await.expect("is killed");
  model.add([says("Alone.")]);
  let events = agent.chat("again").await;
  assert_eq!(events.last().expect("an event")["type"], "complete");
  assert!(model.asked()[2].get("tools").is_none());
}

#[tokio::test]
async fn mcp_servers_are_checked_like_models() {
  let client = server().client();
  for (servers, words) in [
    (
      json!([{"name": "a b", "url": "http://x"}]),
      "mcpServers[0].name",
    ),
    (json!([{"name": "a", "url": "x"}]), "mcpServers[0].url"),
    (json!([{"name": "a"}]), "url"),
  ] {
    let body = json!({ "mcpServers": servers });
    client
      .post("/api/agents", &body)
      .await
      .refused(400, &[words]);
  }
}

/// A PNG image of one pixel, in base64.
const PIXEL: &str =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC";

#[tokio::test]
async fn images_that_code_shows_follow_all_results_and_go_to_models_that_see() {
  let show = format!(
    "await Deno.jupyter.broadcast('display_data', {{data: {{'image/png': '{PIXEL}'}}, metadata: {{}}, transient: {{}}}})"
  );
  let shows = Turn::Calls(vec![
    ("run_code", json!({ "code": show })),
    (
      "run_code",
      json!({"code": format!("{show}; console.log('second')")}),
    ),
    (
      "run_code",
      json!({"code": show.replace(PIXEL, "bm8gaW1hZ2U=")}),
    ),
  ]);
  for sees in [true, false] {
    let model = Model::new([shows.clone(), says("Done.")]).await;
    let body = json!({"kernelType": "typescript", "autoAttachKernel": true, "toolMode": "native"});
    let agent = Agent::new(server().client(), &model, body).await;
    let settings = json!({"ModelSettings": {"vision": sees}});
    agent.client.put(&agent.path(""), &settings).await.ok();
    let outputs = outputs(&agent.chat("Show it.").await);
    assert_eq!(outputs, ["[image]", "[image]\nsecond", "[image]"]);
    let told = model.told();
    let roles: Vec<&str> = told.iter().filter_map(|it| it["role"].as_str()).collect();
    let common = ["system", "user", "assistant", "tool", "tool", "tool"];
    assert_eq!(roles[..6], common);
    assert_eq!(&roles[6..], if sees { &["user"][..] } else { &[] });
    if sees {
      let content = &told[6]["content"];
      let url = format!("data:image/png;base64,{PIXEL}");
      let image = json!({"type": "image_url", "image_url": {"url": url}});
      assert_eq!(
        (&content[1], &content[2], content[3].is_null()),
        (&image, &image, true)
      );
      let text = content[0]["text"].as_str().expect("text");
      assert!(
        text.contains("Images that the code showed") && text.contains("are left out"),
        "{text}"
      );
    }
  }
}
