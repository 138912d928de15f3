//! What agents refuse, and how they say so.

use serde_json::json;

use super::Agent;
use super::model::Model;
use super::model::Turn;
use super::server;
use crate::support::Server;

#[tokio::test]
async fn a_request_that_is_wrong_is_told_what_is() {
  let client = server().client();
  for (body, status, words) in [
    (json!({"id": "a:b"}), 400, "Agent ID cannot contain colons"),
    (json!({"id": ""}), 400, "Agent ID and name are required"),
    (json!({"name": ""}), 400, "Agent ID and name are required"),
    (json!({"id": "a/b"}), 400, "slash"),
    (json!({"id": "stats"}), 400, "stats"),
    (
      json!({"kernelType": "cobol"}),
      400,
      "Invalid kernelType: cobol",
    ),
    (json!({"maxSteps": 0}), 400, "maxSteps"),
    (json!({"maxSteps": "3"}), 400, "maxSteps"),
    (json!({"unknown": 1}), 400, "unknown"),
    (
      json!({"modelId": "nobody"}),
      404,
      "Model nobody not found in registry",
    ),
    (
      json!({"ModelSettings": {"model": "m"}}),
      400,
      "ModelSettings.baseURL",
    ),
    (
      json!({"ModelSettings": {"baseURL": "ftp://x", "model": "m"}}),
      400,
      "baseURL",
    ),
    (
      json!({"ModelSettings": {"baseURL": "http://x", "model": "m", "temperature": 9}}),
      400,
      "temperature",
    ),
  ] {
    client
      .post("/api/agents", &body)
      .await
      .refused(status, &[words]);
  }
  let model = Model::new([Turn::Hangs]).await;
  let agent = Agent::new(client, &model, json!({})).await;
  let post = async |rest: &str, body| agent.client.post(&agent.path(rest), &body).await;
  for body in [json!({}), json!({"message": 1}), json!({"message": ""})] {
    post("/chat", body)
      .await
      .refused(400, &["Message is required and must be a string"]);
  }
  for body in [json!({}), json!({"messages": []}), json!({"messages": "x"})] {
    let words = "Messages array is required and cannot be empty";
    post("/chat-stateless", body).await.refused(400, &[words]);
  }
  let wizard =
    json!({"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]});
  post("/chat-stateless", wizard.clone())
    .await
    .refused(400, &["messages[1]", "wizard"]);
  post("/set-conversation", wizard)
    .await
    .refused(400, &["messages[1]", "wizard"]);
  post("/set-conversation", json!({"messages": 1}))
    .await
    .refused(400, &["Messages must be an array"]);
  post("/kernel", json!({}))
    .await
    .refused(400, &["kernelType is required and must be a string"]);
  post("/kernel", json!({"kernelType": "x"}))
    .await
    .refused(400, &["Invalid kernelType: x"]);
  let long = json!({"message": "x".repeat(5 << 20)});
  post("/chat", long).await.refused(413, &["4 MiB"]);
  let huge = json!({"message": "x".repeat(20 << 20)});
  post("/chat", huge).await.refused(413, &["MAX_BODY_BYTES"]);
  assert!(agent.conversation().await.is_empty());

  // One writer of a conversation at a time.
  let (run, _events) = agent.begin(&json!({"message": "wait"})).await;
  model.hangs(1).await;
  post("/set-conversation", json!({"messages": []}))
    .await
    .refused(409, &["A run of this agent"]);
  agent
    .client
    .delete(&agent.path("/conversation"))
    .await
    .refused(409, &["A run of this agent"]);
  agent
    .client
    .post_empty(&agent.path(&format!("/runs/{run}/resume")))
    .await
    .refused(409, &[]);
  agent
    .client
    .post_empty(&agent.path(&format!("/runs/{run}/cancel")))
    .await
    .ok();
  agent
    .client
    .post_empty(&agent.path(&format!("/runs/{run}/cancel")))
    .await
    .refused(409, &["ended already"]);
  agent
    .client
    .post_empty(&agent.path(&format!("/runs/{run}/resume")))
    .await
    .refused(409, &["cancelled"]);
  agent
    .client
    .get(&agent.path("/runs/run-none"))
    .await
    .refused(404, &["Run not found"]);
  let none = agent
    .client
    .put("/api/agents/none", &json!({"name": "n"}))
    .await;
  none.refused(404, &["Agent with ID \"none\" not found"]);
}

#[tokio::test]
async fn a_tenant_reaches_no_address_that_is_not_public() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "l=lab,all=*")
    .start();
  let lab = server.client().with_token("l");
  for address in [
    "http://169.254.169.254/v1",
    "http://127.0.0.1:1/v1",
    "http://[::1]/v1",
    "http://10.0.0.1/v1",
  ] {
    let body = json!({"ModelSettings": {"baseURL": address, "model": "m"}});
    lab
      .post("/api/agents", &body)
      .await
      .refused(403, &["baseURL"]);
  }
  // A name is looked up when it is asked.
  let body =
    json!({"id": "a", "ModelSettings": {"baseURL": "http://localhost:1/v1", "model": "m"}});
  let made = lab.post("/api/agents", &body).await;
  if made.status == 200 {
    let chat = lab
      .post("/api/agents/a/chat", &json!({"message": "hi"}))
      .await;
    assert!(
      chat.text.contains("\"error\"") && chat.text.contains("public network"),
      "{}",
      chat.text
    );
  } else {
    made.refused(403, &["public network"]);
  }
}

#[tokio::test]
async fn an_agent_that_ends_takes_its_runs_with_it() {
  let model = Model::new([Turn::Hangs]).await;
  let agent = Agent::new(server().client(), &model, json!({})).await;
  let (_, first) = agent.begin(&json!({"message": "one"})).await;
  let (_, second) = agent.begin(&json!({"message": "two"})).await;
  model.hangs(1).await;
  agent.client.delete(&agent.path("")).await.ok();
  model.given_up(1).await;
  assert_eq!(super::types(&first.rest().await).last(), Some(&"complete"));
  assert_eq!(
    super::types(&second.rest().await),
    ["cancelled", "complete"]
  );
  let chat = agent
    .client
    .post(&agent.path("/chat"), &json!({"message": "hi"}))
    .await;
  chat.refused(404, &["Agent not found"]);
}
