//! Agents, but for their chats.

use serde_json::Value;
use serde_json::json;

use crate::engine::AGENTS;
use crate::engine::Played;
use crate::engine::take_time;

/// Methods that are about one agent and answer a value.
const OF_ONE: [&str; 8] = [
  "getAgentInfo",
  "updateAgent",
  "destroyAgent",
  "getAgentConversation",
  "clearAgentConversation",
  "setAgentConversationHistory",
  "attachKernelToAgent",
  "detachKernelFromAgent",
];

/// What each of them takes to succeed, but for the members that it does not know.
fn of(agent: &str) -> Value {
  json!({"agentId": agent, "messages": [], "sessionId": "s-1"})
}

#[tokio::test]
async fn an_agent_is_made_listed_told_changed_and_ended() {
  let engine = Played::new();
  let mut made = engine
    .call(
      "ann",
      "createAgent",
      json!({
        "id": "helper", "name": "Helper", "description": "Helps", "instructions": "Help.",
        "startupScript": "print ready", "kernelType": "TYPESCRIPT", "kernelEnvirons": {"A": "b"}, "maxSteps": 4,
        "ModelSettings": {
          "baseURL": "https://models.example/v1/", "apiKey": "sk-secret", "model": "m", "temperature": 0.5,
        },
        "modelConfig": {"model": "ignored"}, "lang": "python", "namespace": "bob",
      }),
    )
    .await;
  take_time(&mut made, "created");
  assert_eq!(
    made,
    json!({
      "id": "helper", "name": "Helper", "description": "Helps", "instructions": "Help.",
      "startupScript": "print ready", "kernelType": "typescript", "hasKernel": false, "hasStartupError": false,
      "created": null, "maxSteps": 4,
    })
  );

  let mut listed = engine.call("ann", "listAgents", json!({})).await;
  take_time(&mut listed[0], "created");
  let listing = json!([{
    "id": "helper", "name": "Helper", "description": "Helps", "kernelType": "typescript", "hasKernel": false,
    "created": null, "conversationLength": 0, "namespace": "ann",
  }]);
  assert_eq!(listed, listing);

  for id in ["helper", "ann:helper"] {
    let mut info = engine
      .call("ann", "getAgentInfo", json!({"agentId": id}))
      .await;
    assert!(!info.to_string().contains("sk-secret"), "{info}");
    take_time(&mut info, "created");
    assert_eq!(
      info,
      json!({
        "id": "helper", "name": "Helper", "description": "Helps", "instructions": "Help.",
        "startupScript": "print ready", "kernelType": "typescript", "kernelEnvirons": ["A"], "hasKernel": false,
        "hasStartupError": false, "maxSteps": 4, "inactivityTimeout": 3_600_000, "maxExecutionTime": 600_000,
        "created": null, "conversationLength": 0,
        "ModelSettings": {
          "baseURL": "https://models.example/v1/", "apiKey": "***", "model": "m", "temperature": 0.5,
        },
        "enablePlanning": false, "toolMode": "auto", "sendHistory": true, "knowledge": [], "memory": false,
        "mcpServers": [], "hyphaServices": {}, "namespace": "ann",
      })
    );
    let exists = engine
      .call("ann", "agentExists", json!({"agentId": id}))
      .await;
    assert_eq!(exists, json!({"exists": true}));
  }

  let changed = engine
    .call(
      "ann",
      "updateAgent",
      json!({
        "agentId": "helper", "name": "Other", "description": null, "startupScript": " ", "kernelType": "python",
        "ModelSettings": {"model": "n"}, "sessionId": "s-1",
      }),
    )
    .await;
  assert_eq!(
    changed,
    json!({
      "success": true, "message": "Agent updated successfully",
      "agent": {
        "id": "ann:helper", "name": "Other", "description": "Helps", "instructions": "Help.",
        "kernelType": "python", "hasKernel": false, "hasStartupError": false,
      },
    })
  );
  let info = engine
    .call("ann", "getAgentInfo", json!({"agentId": "helper"}))
    .await;
  assert_eq!(info["ModelSettings"]["model"], "n");
  assert_eq!(info["ModelSettings"]["temperature"], 0.5);

  let ended = engine
    .call("ann", "destroyAgent", json!({"agentId": "helper"}))
    .await;
  assert_eq!(
    ended,
    json!({"success": true, "message": "Agent helper deleted successfully"})
  );
  let exists = engine
    .call("ann", "agentExists", json!({"agentId": "helper"}))
    .await;
  assert_eq!(exists, json!({"exists": false}));
}

#[tokio::test]
async fn what_is_left_out_takes_its_default_and_the_operators_model_has_no_address() {
  let engine = Played::new();
  let made = engine.call("ann", "createAgent", json!({"id": null})).await;
  let id = made["id"].as_str().expect("an id");
  assert_eq!(id.len(), 36, "{id} is a UUID");
  for (member, value) in [
    ("name", json!("New Agent")),
    ("description", json!("")),
    ("instructions", json!("You are a helpful assistant.")),
    ("kernelType", json!("python")),
    ("hasKernel", json!(false)),
    ("maxSteps", json!(10)),
  ] {
    assert_eq!(made[member], value, "{member}");
  }
  let info = engine
    .call("ann", "getAgentInfo", json!({"agentId": id}))
    .await;
  assert_eq!(
    info["ModelSettings"],
    json!({"model": "qwen2.5-coder:7b", "temperature": 0.7})
  );
  let stats = engine
    .call("ann", "getAgentStats", json!({"ws": "bob"}))
    .await;
  assert_eq!(
    stats,
    json!({
      "totalAgents": 1, "agentsWithKernels": 0, "maxAgents": 1000, "agentsByKernelType": {},
      "autoSaveConversations": true,
      "modelRegistry": {"totalModels": 0, "modelsInUse": 0, "allowCustomModels": true},
      "hyphaCore": {"enabled": false}, "activeRuns": 0,
    })
  );
}

#[tokio::test]
async fn two_workspaces_see_nothing_of_each_other() {
  let engine = Played::new();
  for (workspace, name) in [("ann", "Ann's"), ("bob", "Bob's")] {
    let given = json!({"id": "same", "name": name});
    engine.call(workspace, "createAgent", given).await;
  }
  engine
    .call("ann", "createAgent", json!({"id": "only"}))
    .await;
  for name in OF_ONE {
    assert_eq!(
      engine.failure("bob", name, of("ann:only")).await,
      "Access denied: Agent ann:only is not in workspace bob",
      "{name}"
    );
    let missing = engine.failure("bob", name, of("only")).await;
    let expected = match name {
      "getAgentInfo" | "getAgentConversation" => "Agent not found",
      _ => "Agent with ID \"bob:only\" not found",
    };
    assert_eq!(missing, expected, "{name}");
  }
  for id in ["ann:only", "only", "annie:only", ":only"] {
    let exists = engine
      .call("bob", "agentExists", json!({"agentId": id}))
      .await;
    assert_eq!(exists, json!({"exists": false}), "{id}");
  }
  // A workspace is what the server attests, not what a caller says.
  let lying = json!({"ws": "ann", "context": {"ws": "ann"}, "namespace": "ann"});
  let listed = engine.call("bob", "listAgents", lying).await;
  assert_eq!(listed.as_array().map(Vec::len), Some(1));
  assert_eq!(listed[0]["name"], "Bob's");
  engine
    .call("bob", "destroyAgent", json!({"agentId": "same"}))
    .await;
  let info = engine
    .call("ann", "getAgentInfo", json!({"agentId": "same"}))
    .await;
  assert_eq!(info["name"], "Ann's");
}

#[tokio::test]
async fn what_is_missing_or_of_another_type_is_named() {
  let engine = Played::new();
  engine.call("ann", "createAgent", json!({"id": "a"})).await;
  for name in OF_ONE {
    for given in [
      json!({}),
      json!({"agentId": 5}),
      json!({"agentId": ""}),
      json!({"agentId": null}),
    ] {
      assert_eq!(
        engine.failure("ann", name, given).await,
        "agentId is required and must be a string",
        "{name}"
      );
    }
  }
  let exists = engine
    .call("ann", "agentExists", json!({"agentId": 5}))
    .await;
  assert_eq!(exists, json!({"exists": false}));

  for (given, said) in [
    (json!({"id": ""}), "Agent ID and name are required"),
    (
      json!({"id": "x", "name": ""}),
      "Agent ID and name are required",
    ),
    (json!({"id": "ann:x"}), "Agent ID cannot contain colons"),
    (json!({"id": "a"}), "Agent with ID \"ann:a\" already exists"),
    (
      json!({"kernelType": "R"}),
      "Invalid parameters: kernelType: Invalid kernelType: R",
    ),
    (
      json!({"name": 5}),
      "Invalid parameters: name: invalid type: integer `5`, expected a string",
    ),
    (json!({"maxSteps": 0}), "maxSteps: must be at least 1"),
    (
      json!({"ModelSettings": {"model": "m"}}),
      "ModelSettings.baseURL: must be given",
    ),
  ] {
    assert_eq!(engine.failure("ann", "createAgent", given).await, said);
  }

  let messages = |messages: Value| json!({"agentId": "a", "messages": messages});
  for given in [
    json!({"agentId": "a"}),
    messages(json!("no")),
    messages(json!({})),
  ] {
    assert_eq!(
      engine
        .failure("ann", "setAgentConversationHistory", given)
        .await,
      "Messages must be an array"
    );
  }
  let given = messages(json!([{"role": "user", "content": "hi"}, {"role": "wizard"}]));
  let said = engine
    .failure("ann", "setAgentConversationHistory", given)
    .await;
  assert!(said.starts_with("messages[1]: "), "{said}");

  for wrong in [json!("R"), json!(5)] {
    let given = json!({"agentId": "a", "kernelType": wrong});
    let said = engine.failure("ann", "attachKernelToAgent", given).await;
    assert!(said.starts_with("Invalid kernelType: "), "{said}");
  }
}

#[tokio::test]
async fn a_full_workspace_makes_room_for_another_agent() {
  let engine = Played::new();
  for number in 0..=AGENTS {
    let given = json!({"id": format!("a{number}")});
    engine.call("ann", "createAgent", given).await;
  }
  let listed = engine.call("ann", "listAgents", json!({})).await;
  let ids: Vec<&str> = listed
    .as_array()
    .into_iter()
    .flatten()
    .filter_map(|agent| agent["id"].as_str())
    .collect();
  assert_eq!(ids, ["a1", "a2", "a3"]);
}

#[tokio::test]
async fn a_conversation_is_set_told_and_cleared() {
  let engine = Played::new();
  engine.call("ann", "createAgent", json!({"id": "a"})).await;
  let agent = || json!({"agentId": "a"});
  let empty = json!({"conversation": [], "length": 0});
  assert_eq!(
    engine.call("ann", "getAgentConversation", agent()).await,
    empty
  );
  let messages = json!([
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
  ]);
  let given = json!({"agentId": "a", "messages": messages});
  assert_eq!(
    engine
      .call("ann", "setAgentConversationHistory", given)
      .await,
    json!({"success": true, "message": "Conversation history set with 2 messages", "messageCount": 2})
  );
  assert_eq!(
    engine.call("ann", "getAgentConversation", agent()).await,
    json!({"conversation": messages, "length": 2})
  );
  let listed = engine.call("ann", "listAgents", json!({})).await;
  assert_eq!(listed[0]["conversationLength"], 2);
  assert_eq!(
    engine.call("ann", "clearAgentConversation", agent()).await,
    json!({"success": true, "message": "Conversation cleared successfully"})
  );
  assert_eq!(
    engine.call("ann", "getAgentConversation", agent()).await,
    empty
  );
}

#[tokio::test]
async fn kernels_come_and_go_one_at_a_time() {
  let engine = Played::new();
  let kernels = || engine.engine().kernels.all().len();
  let given = json!({"id": "a", "autoAttachKernel": true, "startupScript": "print ready"});
  let made = engine.call("ann", "createAgent", given).await;
  assert_eq!((&made["hasKernel"], kernels()), (&json!(true), 1));
  // It is in the workspace of its agent.
  let listed = engine.call("ann", "listKernels", json!({})).await;
  assert_eq!(listed.as_array().map(Vec::len), Some(1));
  let stats = engine.call("ann", "getAgentStats", json!({})).await;
  assert_eq!(stats["agentsByKernelType"], json!({"python": 1}));
  assert_eq!(
    engine.call("bob", "getAgentStats", json!({})).await["totalAgents"],
    0
  );

  let attached = |kind: &str| {
    json!({
      "success": true, "message": "Kernel attached successfully", "hasKernel": true, "kernelType": kind,
    })
  };
  for (given, kind) in [
    (
      json!({"agentId": "a", "kernelType": "TYPESCRIPT"}),
      "typescript",
    ),
    (
      json!({"agentId": "a", "kernelType": "javascript"}),
      "javascript",
    ),
    (json!({"agentId": "a"}), "python"),
  ] {
    assert_eq!(
      engine.call("ann", "attachKernelToAgent", given).await,
      attached(kind)
    );
    assert_eq!(kernels(), 1, "{kind}");
  }
  for _ in 0..2 {
    assert_eq!(
      engine
        .call("ann", "detachKernelFromAgent", json!({"agentId": "a"}))
        .await,
      json!({"success": true, "message": "Kernel detached successfully"})
    );
    assert_eq!(kernels(), 0);
  }
}

#[tokio::test]
async fn a_start_up_script_that_fails_leaves_no_agent_and_is_told_of_one_that_stays() {
  let engine = Played::new();
  let script = "raise boom";
  let given = json!({"id": "a", "autoAttachKernel": true, "startupScript": script});
  let said = engine.failure("ann", "createAgent", given).await;
  assert_eq!(said, "Startup script failed: ValueError: boom");
  assert_eq!(engine.call("ann", "listAgents", json!({})).await, json!([]));
  assert_eq!(engine.engine().kernels.all().len(), 0);

  let given = json!({"id": "a", "startupScript": script});
  engine.call("ann", "createAgent", given).await;
  let said = engine
    .failure("ann", "attachKernelToAgent", json!({"agentId": "a"}))
    .await;
  assert_eq!(said, "Startup script failed: ValueError: boom");
  let given = json!({"agentId": "a", "name": "n"});
  let changed = engine.call("ann", "updateAgent", given).await;
  let error = json!({
    "message": "Startup script failed: ValueError: boom",
    "fullError": "ValueError: boom", "stackTrace": "ValueError: boom",
  });
  assert_eq!(changed["agent"]["hasStartupError"], true);
  assert_eq!(changed["agent"]["startupError"], error);
  let given = json!({"agentId": "a", "message": "hi"});
  let yielded = engine.yields("ann", "chatWithAgent", given).await;
  assert_eq!(
    yielded,
    [json!({"type": "error", "error": "Startup script failed: ValueError: boom"})]
  );
}

#[test]
fn parameters_are_described_without_references() {
  for method in hypha_service::methods() {
    let is_ours = method.name.contains("Agent") || method.name.contains("App");
    let schema = &method.parameters;
    if is_ours {
      assert_eq!(schema["type"], "object", "{}: {schema}", method.name);
      assert!(
        !schema.to_string().contains("$ref"),
        "{}: {schema}",
        method.name
      );
    }
  }
}
