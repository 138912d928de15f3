//! Agents that are made, changed and ended, with their kernels.

use serde_json::json;

use super::Agent;
use super::answers;
use super::model::Model;
use super::script;
use super::server;
use crate::support::Server;
use crate::support::eventually;

#[tokio::test]
async fn an_agent_has_one_kernel_which_ends_with_it() {
  let server = Server::builder().start();
  let model = Model::new([]).await;
  let body = json!({"id": "one", "kernelType": "TypeScript", "autoAttachKernel": true,
                    "kernelEnvirons": {"SECRET": "s3"}, "startupScript": "console.log('hi', Deno.env.get('SECRET'))"});
  let agent = Agent::new(server.client(), &model, body).await;
  assert_eq!(agent.created["hasKernel"], true);
  assert_eq!(agent.kernels().await, 1);
  let attach = json!({"kernelType": "TYPESCRIPT"});
  let attached = agent
    .client
    .post(&agent.path("/kernel"), &attach)
    .await
    .ok();
  assert_eq!(attached["message"], "Kernel attached successfully");
  assert_eq!(attached["kernelId"], agent.info().await["kernelId"]);
  assert_eq!(agent.kernels().await, 1);
  // Of another language, in its place.
  let javascript = json!({"kernelType": "javascript"});
  agent
    .client
    .post(&agent.path("/kernel"), &javascript)
    .await
    .ok();
  assert_eq!(agent.kernels().await, 1);
  let info = agent.info().await;
  assert_eq!(info["kernelType"], "javascript");
  assert_eq!(info["kernelEnvirons"], json!(["SECRET"]));
  assert!(
    !info.to_string().contains("s3") && !info.to_string().contains("sk-test"),
    "{info}"
  );
  let detached = agent.client.delete(&agent.path("/kernel")).await.ok();
  assert_eq!(detached["message"], "Kernel detached successfully");
  assert_eq!(
    (agent.kernels().await, &agent.info().await["hasKernel"]),
    (0, &json!(false))
  );
  agent
    .client
    .post(&agent.path("/kernel"), &attach)
    .await
    .ok();
  let deleted = agent.client.delete(&agent.path("")).await.ok();
  assert_eq!(deleted["message"], "Agent one deleted successfully");
  assert_eq!(agent.kernels().await, 0);
  agent
    .client
    .get(&agent.path(""))
    .await
    .refused(404, &["Agent not found"]);
}

#[tokio::test]
async fn a_start_up_script_that_fails_leaves_nothing_and_can_be_mended() {
  let server = Server::builder().start();
  let client = server.client();
  let model = Model::new([answers("well")]).await;
  for (language, script, words) in [
    (
      "typescript",
      "throw new Error('ts')",
      "Startup script failed: Error: ts",
    ),
    ("python", "1 / 0", "Startup script failed: "),
  ] {
    let body = json!({"id": "bad", "kernelType": language, "autoAttachKernel": true,
                      "startupScript": script, "ModelSettings": model.settings()});
    client
      .post("/api/agents", &body)
      .await
      .refused(400, &[words]);
    client.get("/api/agents/bad").await.refused(404, &[]);
    assert_eq!(client.list("").await.len(), 0, "{language}");
  }
  let body = json!({"kernelType": "typescript", "autoAttachKernel": true, "startupScript": "console.log('ready')"});
  let agent = Agent::new(client, &model, body).await;
  let change = |script: &str| json!({ "startupScript": script });
  agent
    .client
    .put(&agent.path(""), &change("throw new Error('later')"))
    .await
    .ok();
  eventually("the error is known", async || {
    agent.info().await["hasStartupError"] == true
  })
  .await;
  let events = agent.chat("hi").await;
  assert_eq!(events.len(), 2, "{events:?}");
  assert_eq!(
    events[1],
    json!({"type": "error", "error": "Startup script failed: Error: later"})
  );
  agent
    .client
    .put(&agent.path(""), &change("console.log('mended')"))
    .await
    .ok();
  eventually("the error is gone", async || {
    agent.info().await["hasStartupError"] == false
  })
  .await;
  eventually("the script has run", async || {
    agent.chat("hi").await;
    format!("{:?}", model.told()).contains("mended") || {
      model.add([answers("well")]);
      false
    }
  })
  .await;
}

#[tokio::test]
async fn a_kernel_that_has_gone_comes_back_and_the_model_is_told() {
  let server = Server::builder().start();
  let model = Model::new([
    script("t-script", "globalThis.kept = 1"),
    answers("kept"),
    script("t-script", "typeof kept + prepared"),
    answers("gone"),
  ])
  .await;
  let body = json!({"kernelType": "typescript", "autoAttachKernel": true, "startupScript": "globalThis.prepared = 'yes'"});
  let agent = Agent::new(server.client(), &model, body).await;
  agent.chat("one").await;
  let kernel = agent.info().await["kernelId"]
    .as_str()
    .expect("a kernel")
    .to_owned();
  agent.client.delete(&format!("/api/kernels/{kernel}")).await;
  let events = agent.chat("two").await;
  let output = super::only(&events, "function_call_output")["content"]
    .as_str()
    .expect("text");
  assert!(
    output.contains("started anew") && output.contains("undefinedyes"),
    "{output}"
  );
  assert_eq!(agent.kernels().await, 1);
}

#[tokio::test]
async fn a_change_touches_what_it_names_and_null_clears() {
  let server = Server::builder().start();
  let model = Model::new([]).await;
  let body = json!({"name": "n", "description": "d", "instructions": "i", "startupScript": "1", "maxSteps": 3});
  let agent = Agent::new(server.client(), &model, body).await;
  let changed = agent
    .client
    .put(&agent.path(""), &json!({"description": "e"}))
    .await
    .ok();
  assert_eq!(changed["message"], "Agent updated successfully");
  let info = agent.info().await;
  assert_eq!(
    (
      &info["description"],
      &info["instructions"],
      &info["maxSteps"]
    ),
    (&json!("e"), &json!("i"), &json!(3))
  );
  agent
    .client
    .put(
      &agent.path(""),
      &json!({"startupScript": null, "maxSteps": null}),
    )
    .await
    .ok();
  let info = agent.info().await;
  assert!(
    info.get("startupScript").is_none() && info["maxSteps"] == 10,
    "{info}"
  );
  // The key stays when its stars come back, and is never shown.
  let settings = info["ModelSettings"].clone();
  assert_eq!(settings["apiKey"], "***");
  agent
    .client
    .put(&agent.path(""), &json!({ "ModelSettings": settings }))
    .await
    .ok();
  model.add([answers("ok")]);
  agent.chat("hi").await;
  assert_eq!(model.keys(), ["Bearer sk-test-secret"]);
}

#[tokio::test]
async fn a_full_namespace_makes_room_by_ending_its_oldest() {
  let server = Server::builder().env("MAX_AGENTS", "12").start();
  let client = server.client();
  let make = async |id: &str, namespace: Option<&str>| {
    client
      .post("/api/agents", &json!({"id": id, "namespace": namespace}))
      .await
  };
  for number in 0..11 {
    make(&format!("a{number}"), Some("lab")).await.ok();
  }
  let listed = client.get("/api/agents?namespace=lab").await.ok();
  let ids: Vec<&str> = listed
    .as_array()
    .expect("agents")
    .iter()
    .filter_map(|it| it["id"].as_str())
    .collect();
  assert_eq!(ids, ["a5", "a6", "a7", "a8", "a9", "a10"]);
  make("a5", Some("lab"))
    .await
    .refused(409, &["Agent with ID \"lab:a5\" already exists"]);
  for number in 0..6 {
    make(&format!("b{number}"), None).await.ok();
  }
  make("c", None)
    .await
    .refused(429, &["Maximum number of agents (12) reached"]);
  let stats = client.get("/api/agents/stats").await.ok();
  assert_eq!(
    (&stats["totalAgents"], &stats["maxAgents"]),
    (&json!(12), &json!(12))
  );
}

#[tokio::test]
async fn namespaces_do_not_meet() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "l=lab,o=other,all=*")
    .start();
  let [lab, other, all] = ["l", "o", "all"].map(|token| server.client().with_token(token));
  let made = lab.post("/api/agents", &json!({"id": "a"})).await.ok();
  assert_eq!(
    (&made["id"], &made["namespace"]),
    (&json!("lab:a"), &json!("lab"))
  );
  assert!(
    made["ModelSettings"].get("baseURL").is_none(),
    "the operator's address: {made}"
  );
  for id in ["a", "lab:a", "lab%3Aa"] {
    let path = format!("/api/agents/{id}");
    other.get(&path).await.refused(404, &[]);
    other
      .post(&format!("{path}/chat"), &json!({"message": "hi"}))
      .await
      .refused(404, &["Agent not found"]);
    other
      .put(&path, &json!({"name": "x"}))
      .await
      .refused(404, &[]);
    other.delete(&path).await.refused(404, &[]);
    other.get(&format!("{path}/runs")).await.refused(404, &[]);
    lab.get(&path).await.ok();
  }
  assert_eq!(other.get("/api/agents").await.ok(), json!([]));
  assert_eq!(other.get("/api/agents/stats").await.ok()["totalAgents"], 0);
  other
    .get("/api/agents?namespace=lab")
    .await
    .refused(403, &["namespace"]);
  other
    .post("/api/agents", &json!({"namespace": "lab"}))
    .await
    .refused(403, &["namespace"]);
  assert_eq!(
    all.get("/api/agents/a?namespace=lab").await.ok()["id"],
    "lab:a"
  );
  // The registry is the operator's.
  let model = json!({"id": "big", "modelSettings": {"baseURL": "http://127.0.0.1:9/v1", "apiKey": "sk-x", "model": "m"}});
  lab
    .post("/api/agents/models", &model)
    .await
    .refused(403, &[]);
  all.post("/api/agents/models", &model).await.ok();
  let seen = lab.get("/api/agents/models").await.ok();
  assert_eq!(seen[0]["id"], "big");
  assert!(
    !seen.to_string().contains("127.0.0.1") && !seen.to_string().contains("sk-x"),
    "{seen}"
  );
  lab
    .post("/api/agents", &json!({"id": "b", "modelId": "big"}))
    .await
    .ok();
  lab
    .post("/api/agents", &json!({"modelId": "none"}))
    .await
    .refused(404, &["Model none not found in registry"]);
  all
    .delete("/api/agents/models/big")
    .await
    .refused(409, &["it is being used by 1 agent(s)"]);
  all
    .put(
      "/api/agents/models",
      &json!({"allowedModels": [], "allowCustomModels": false}),
    )
    .await
    .ok();
  lab
    .post("/api/agents", &json!({"modelId": "big"}))
    .await
    .refused(400, &["not in the allowed models list"]);
  let own = json!({"ModelSettings": {"baseURL": "https://api.example.com/v1", "model": "m"}});
  lab
    .post("/api/agents", &own)
    .await
    .refused(400, &["Custom model settings are not allowed"]);
}

#[tokio::test]
async fn what_happens_to_agents_is_told_to_those_who_see_them() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "l=lab,o=other")
    .start();
  let [lab, other] = ["l", "o"].map(|token| server.client().with_token(token));
  let watch = async |client: &crate::support::Client| {
    let request = client.request(reqwest::Method::GET, "/api/agents/events");
    let mut events = crate::support::Sse::new(client.send(request).await);
    events.block().await.expect("says that it is open");
    events
  };
  let (mut seen, mut unseen) = (watch(&lab).await, watch(&other).await);
  lab.post("/api/agents", &json!({"id": "a"})).await.ok();
  let file = json!({"agentId": "x", "savedAt": "2025-01-02T03:04:05.678Z", "metadata": {"agentName": "n"},
                    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
  let set = lab.post("/api/agents/a/set-conversation", &file).await.ok();
  assert_eq!(set["message"], "Conversation history set with 2 messages");
  lab.put("/api/agents/a", &json!({"name": "b"})).await.ok();
  lab.delete("/api/agents/a").await.ok();
  other.post("/api/agents", &json!({"id": "z"})).await.ok();
  for kind in ["agent_created", "agent_updated", "agent_destroyed"] {
    let event = seen.event().await.expect("an event");
    assert_eq!(
      (&event["type"], &event["agentId"]),
      (&json!(kind), &json!("lab:a"))
    );
  }
  assert_eq!(
    unseen.event().await.expect("an event")["agentId"],
    "other:z"
  );
}

#[tokio::test]
async fn a_start_up_script_that_does_not_end_is_given_up_with_its_agent() {
  let server = Server::builder().start();
  let model = Model::new([]).await;
  let agent = Agent::new(
    server.client(),
    &model,
    json!({"id": "a", "startupScript": "while (true) {}"}),
  )
  .await;
  let attach = json!({"kernelType": "typescript"});
  let path = agent.path("/kernel");
  let attaching = agent.client.post(&path, &attach);
  let deleting = async {
    eventually("the kernel runs the script", async || {
      let kernels = agent.client.list("").await;
      kernels.iter().any(|kernel| kernel["status"] == "busy")
    })
    .await;
    agent.client.delete(&agent.path("")).await.ok();
  };
  let (attached, ()) = tokio::join!(attaching, deleting);
  attached.refused(400, &["given up"]);
  assert_eq!(agent.kernels().await, 0);
}

#[tokio::test]
async fn a_cell_that_takes_too_long_is_interrupted_and_the_model_is_told() {
  let model = Model::new([script("t-script", "while (true) {}"), answers("It hangs.")]).await;
  let body = json!({"kernelType": "typescript", "autoAttachKernel": true, "maxExecutionTime": 300,
                    "inactivityTimeout": 0, "hyphaServices": {"a": {"description": "1"}}});
  let agent = Agent::new(server().client(), &model, body).await;
  let events = agent.chat("Loop.").await;
  let output = events
    .iter()
    .find(|it| it["type"] == "function_call_output");
  let output = output.expect("an output")["content"].to_string();
  assert!(output.contains("ExecutionStalledError"), "{output}");
  let change = json!({"maxExecutionTime": null, "hyphaServices": {"b": {}}});
  agent.client.put(&agent.path(""), &change).await.ok();
  let info = agent.info().await;
  assert_eq!(
    (&info["maxExecutionTime"], &info["inactivityTimeout"]),
    (&json!(600_000), &json!(0))
  );
  assert_eq!(
    info["hyphaServices"],
    json!({"a": {"description": "1"}, "b": {"description": ""}})
  );
  let change = json!({"maxExecutionTime": u64::MAX});
  let refused = agent.client.put(&agent.path(""), &change).await;
  refused.refused(400, &["maxExecutionTime: must be at most"]);
}
