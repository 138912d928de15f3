//! What outlives the server.

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use super::Agent;
use super::answers;
use super::model::Model;
use super::model::Turn;
use super::script;
use super::types;
use crate::support::Server;
use crate::support::Sse;

fn start(folder: &std::path::Path) -> Server {
  Server::builder().data_dir(folder).start()
}

async fn killed(mut server: Server) {
  server.signal(Signal::KILL);
  server.ended().await;
}

#[tokio::test]
async fn a_killed_server_has_its_agents_and_goes_on_with_their_runs() {
  let folder = tempfile::tempdir().expect("a folder");
  let server = start(folder.path());
  let model = Model::new([
    answers("Hello Ann"),
    script("t-script", "globalThis.n = 1; n"),
    Turn::Hangs,
  ])
  .await;
  let body = json!({"id": "a", "kernelType": "typescript", "autoAttachKernel": true, "instructions": "Be kind."});
  let agent = Agent::new(server.client(), &model, body).await;
  agent.chat("I am Ann").await;
  let (run, mut events) = agent.begin(&json!({"message": "count"})).await;
  model.hangs(1).await;
  let mut seen = Vec::new();
  while !types(&seen).ends_with(&["function_call_output", "new_completion"]) {
    seen.push(events.event().await.expect("goes on"));
  }
  killed(server).await;

  let server = start(folder.path());
  let agent = Agent {
    client: server.client(),
    ..agent
  };
  let info = agent.info().await;
  assert_eq!(
    (&info["instructions"], &info["hasKernel"]),
    (&json!("Be kind."), &json!(true))
  );
  assert_eq!(agent.conversation().await.len(), 3);
  assert_eq!(agent.run(&run).await["status"], "interrupted");
  model.add([script("t-script", "typeof n"), answers("one")]);
  let (_, events) = agent
    .stream(&format!("/runs/{run}/resume"), &Value::Null)
    .await;
  let events = events.rest().await;
  assert_eq!(events[..seen.len()], seen);
  assert_eq!(types(&events[seen.len()..])[0], "resumed");
  assert_eq!(types(&events).last(), Some(&"complete"));
  // The step that was finished is not asked for again, and the new state is told.
  let told = format!("{:?}", model.told());
  assert!(
    told.contains("globalThis.n = 1") && told.contains("undefined"),
    "{told}"
  );
  assert_eq!(agent.conversation().await[3].1, "one");
  let record = agent.run(&run).await;
  assert_eq!(
    (&record["status"], &record["steps"]),
    (&json!("completed"), &json!(3))
  );
  let again = agent
    .client
    .post_empty(&agent.path(&format!("/runs/{run}/resume")))
    .await;
  again.refused(409, &["completed"]);
}

#[tokio::test]
async fn code_that_ran_when_the_server_ended_is_not_run_again() {
  let folder = tempfile::tempdir().expect("a folder");
  let server = start(folder.path());
  let model = Model::new([script(
    "t-script",
    "console.log('begun'); await new Promise(() => {})",
  )])
  .await;
  let body = json!({"kernelType": "typescript", "autoAttachKernel": true});
  let agent = Agent::new(server.client(), &model, body).await;
  let (run, mut events) = agent.begin(&json!({"message": "go"})).await;
  while events.event().await.expect("goes on")["type"] != "function_call" {}
  killed(server).await;

  let server = start(folder.path());
  let agent = Agent {
    client: server.client(),
    ..agent
  };
  model.add([answers("stopped")]);
  let (_, events) = agent
    .stream(&format!("/runs/{run}/resume"), &Value::Null)
    .await;
  events.rest().await;
  assert!(
    model.told_last().contains("stopped while this script ran"),
    "{}",
    model.told_last()
  );
  assert_eq!(model.asked().len(), 2);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_however_often_the_server_is_killed() {
  let folder = tempfile::tempdir().expect("a folder");
  let model = Model::new([])
    .await
    .then_always(script("t-script", "Math.random()"));
  let mut server = start(folder.path());
  let body =
    json!({"id": "a", "kernelType": "typescript", "autoAttachKernel": true, "maxSteps": 10});
  let mut agent = Agent::new(server.client(), &model, body).await;
  let (run, events) = agent.begin(&json!({"message": "go"})).await;
  let mut events = events;
  let mut seen: Vec<Value> = Vec::new();
  // Further and further into the run.
  for more in [1, 2, 3, 5, 8] {
    for _ in 0..more {
      if let Some(event) = events.event().await {
        seen.push(event);
      }
    }
    killed(server).await;
    server = start(folder.path());
    agent = Agent {
      client: server.client(),
      ..agent
    };
    let path = agent.path(&format!("/runs/{run}/stream"));
    let request = agent.client.request(reqwest::Method::GET, &path);
    let kept = Sse::new(agent.client.send(request).await).rest().await;
    assert_eq!(kept[..seen.len()], seen);
    if agent.run(&run).await["status"] != "interrupted" {
      // It had ended before its server did.
      assert_eq!(types(&kept).last(), Some(&"complete"));
      return;
    }
    (_, events) = agent
      .stream(&format!("/runs/{run}/resume"), &Value::Null)
      .await;
    seen.clear();
    for _ in 0..kept.len() {
      seen.push(events.event().await.expect("is there"));
    }
    assert_eq!(seen, kept);
  }
  let rest = events.rest().await;
  assert_eq!(
    types(&rest).last().or(types(&seen).last()),
    Some(&"complete")
  );
}

#[tokio::test]
async fn a_server_that_is_stopped_interrupts_its_runs_like_one_that_is_killed() {
  let folder = tempfile::tempdir().expect("a folder");
  let mut server = start(folder.path());
  let model = Model::new([Turn::Hangs]).await;
  let agent = Agent::new(server.client(), &model, json!({"id": "a"})).await;
  let (run, events) = agent.begin(&json!({"message": "go"})).await;
  model.hangs(1).await;
  drop(events);
  server.signal(Signal::TERM);
  server.ended().await;
  assert!(!server.log().contains("ERROR"), "{}", server.log());

  let server = start(folder.path());
  let agent = Agent {
    client: server.client(),
    ..agent
  };
  assert_eq!(agent.run(&run).await["status"], "interrupted");
  model.add([answers("late")]);
  let (_, events) = agent
    .stream(&format!("/runs/{run}/resume"), &Value::Null)
    .await;
  assert_eq!(types(&events.rest().await).last(), Some(&"complete"));
}

#[tokio::test]
async fn a_conversation_is_also_a_file_that_another_agent_can_take_over() {
  let folder = tempfile::tempdir().expect("a folder");
  let own = tempfile::tempdir().expect("a folder");
  let server = Server::builder()
    .data_dir(folder.path())
    .env("AGENT_DATA_DIRECTORY", own.path())
    // On unless it is exactly "false", as the original has it.
    .env("AUTO_SAVE_CONVERSATIONS", "yes")
    .start();
  let files = || {
    let entries = own.path().read_dir().expect("a folder");
    let names = entries.map(|it| {
      it.expect("an entry")
        .file_name()
        .into_string()
        .expect("text")
    });
    let mut names: Vec<String> = names
      .filter(|name| name.starts_with("conversation_"))
      .collect();
    names.sort();
    names
  };
  let model = Model::new([answers("Hello Ann"), answers("Ann")]).await;
  let agent = Agent::new(server.client(), &model, json!({"id": "a@b"})).await;
  agent.chat("I am Ann").await;
  agent.chat("Who am I?").await;
  let names = files();
  assert_eq!(names.len(), 2, "{names:?}");
  assert!(names[1].starts_with("conversation_a_b_"), "{names:?}");
  let text = std::fs::read(own.path().join(&names[1])).expect("can be read");
  let saved: Value = serde_json::from_slice(&text).expect("JSON");
  assert_eq!(saved["agentId"], "a@b");
  assert_eq!(saved["messages"][3]["content"], "Ann");
  let other = Agent::new(server.client(), &model, json!({"id": "other"})).await;
  let answer = other
    .client
    .post(&other.path("/set-conversation"), &saved)
    .await
    .ok();
  assert_eq!(answer["messageCount"], 4);
  assert_eq!(other.conversation().await[3].1, "Ann");
  agent.client.delete(&agent.path("")).await.ok();
  assert_eq!(files().len(), 0);
}
