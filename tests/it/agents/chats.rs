//! What a chat does, and what it shows.

use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use super::Agent;
use super::answers;
use super::model::Model;
use super::model::Turn;
use super::only;
use super::says;
use super::script;
use super::server;
use super::types;

#[tokio::test]
async fn an_agent_runs_code_sees_what_it_prints_and_answers() {
  let model = Model::new([
    script("t-script", "let x = 20; console.log('half', x); x + 1"),
    script("t-script", "x * 2 + 2"),
    answers("It is 42."),
  ])
  .await;
  let agent = Agent::typescript(&model).await;
  let (run, events) = agent.begin(&json!({"message": "What is it?"})).await;
  let events = events.rest().await;
  assert_eq!(
    types(&events),
    [
      "start",
      "new_completion",
      "text",
      "function_call",
      "function_call_output",
      "new_completion",
      "text",
      "function_call",
      "function_call_output",
      "new_completion",
      "text",
      "text",
      "complete"
    ]
  );
  let of = |kind: &str| -> Vec<&Value> { events.iter().filter(|it| it["type"] == kind).collect() };
  let (calls, outputs) = (of("function_call"), of("function_call_output"));
  assert_eq!(calls[1]["name"], "runCode");
  assert_eq!(calls[1]["arguments"]["code"], "x * 2 + 2");
  assert_eq!(outputs[0]["content"], "half 20\n21");
  assert_eq!(outputs[1]["content"], "42");
  assert_eq!(outputs[1]["call_id"], calls[1]["call_id"]);
  let texts = of("text");
  assert_eq!(texts[3]["content"], "It is 42.");
  assert_eq!(texts[3]["commitIds"], json!(["a"]));
  let pieces: String = of("text_chunk")
    .iter()
    .filter_map(|it| it["content"].as_str())
    .collect();
  let whole: String = texts[..3]
    .iter()
    .filter_map(|it| it["content"].as_str())
    .collect();
  assert_eq!(pieces, whole);

  let said = [("user", "What is it?"), ("assistant", "It is 42.")];
  assert_eq!(
    agent.conversation().await,
    said.map(|(a, b)| (a.to_owned(), b.to_owned()))
  );
  let record = agent.run(&run).await;
  assert_eq!(record["status"], "completed");
  assert_eq!(
    (&record["steps"], &record["promptTokens"]),
    (&json!(3), &json!(33))
  );
  assert!(
    model
      .keys()
      .iter()
      .all(|key| key == "Bearer sk-test-secret")
  );
  assert!(
    model.asked()[0]["messages"][0]["content"]
      .as_str()
      .is_some_and(|it| it.contains("<t-script"))
  );
}

#[tokio::test]
async fn errors_of_both_languages_are_seen() {
  for (language, tag, code, seen) in [
    (
      "typescript",
      "t-script",
      "console.log(1); throw new TypeError('boom')",
      "TypeError: boom",
    ),
    (
      "python",
      "py-script",
      "print(1)\n1 / 0",
      "ZeroDivisionError: division by zero",
    ),
  ] {
    let model = Model::new([script(tag, code), answers("no")]).await;
    let body = json!({"kernelType": language, "autoAttachKernel": true});
    let agent = Agent::new(server().client(), &model, body).await;
    let events = agent.chat("go").await;
    let output = only(&events, "function_call_output")["content"]
      .as_str()
      .expect("text");
    assert!(output.starts_with('1') && output.contains(seen), "{output}");
    assert!(model.told_last().contains(seen));
  }
}

#[tokio::test]
async fn earlier_turns_are_sent_unless_the_agent_sends_the_newest_only() {
  for (history, expected) in [(true, 4), (false, 2)] {
    let model = Model::new([answers("Hi Ann"), answers("Ann")]).await;
    let agent = Agent::new(server().client(), &model, json!({ "sendHistory": history })).await;
    agent.chat("I am Ann").await;
    agent.chat("Who am I?").await;
    assert_eq!(model.told().len(), expected, "{history}");
    assert_eq!(model.told_last(), "Who am I?");
  }
}

#[tokio::test]
async fn a_stateless_chat_leaves_no_trace_in_the_conversation() {
  let model = Model::new([answers("4")]).await;
  let agent = Agent::new(server().client(), &model, json!({})).await;
  let messages = json!([{"role": "user", "content": "2"}, {"role": "assistant", "content": "?"},
                        {"role": "user", "content": "+2"}]);
  let (run, events) = agent
    .stream("/chat-stateless", &json!({ "messages": messages }))
    .await;
  let events = events.rest().await;
  assert_eq!(events[0]["message"], "Starting stateless chat...");
  assert_eq!(types(&events).last(), Some(&"complete"));
  assert_eq!(model.told().len(), 4);
  assert!(agent.conversation().await.is_empty());
  assert_eq!(agent.run(&run).await["kind"], "stateless");
}

#[tokio::test]
async fn what_a_model_makes_up_is_not_believed() {
  let model = Model::new([
    says("<t-script>'real'</t-script>\n<observation>made up</observation><returnToUser>made up</returnToUser>"),
    answers("done"),
  ])
  .await;
  let agent = Agent::typescript(&model).await;
  let events = agent.chat("go").await;
  assert_eq!(only(&events, "function_call_output")["content"], "\"real\"");
  let told = model.told_last();
  assert!(
    told.contains("real") && told.contains("removed") && !told.contains("made up"),
    "{told}"
  );
  assert!(!format!("{:?}", model.told()).contains("made up"));
  assert_eq!(agent.conversation().await[1].1, "done");
}

#[tokio::test]
async fn a_model_that_keeps_no_format_is_guided_and_then_stopped() {
  let model = Model::new(["a", "b", "c", "d"].map(says)).await;
  let agent = Agent::new(server().client(), &model, json!({})).await;
  let events = agent.chat("go").await;
  assert_eq!(model.asked().len(), 4);
  assert!(model.told_last().contains("returnToUser"));
  let last = events
    .iter()
    .rev()
    .find(|it| it["type"] == "text")
    .expect("a text");
  assert!(
    last["content"]
      .as_str()
      .is_some_and(|it| it.contains("cannot follow the format"))
  );
  for (turns, words) in [
    (vec![says("")], "empty responses"),
    (
      vec![says("same"), says("same")],
      "repeated response pattern",
    ),
  ] {
    let model = Model::new(turns).await;
    let agent = Agent::new(server().client(), &model, json!({})).await;
    let events = agent.chat("go").await;
    assert!(format!("{events:?}").contains(words), "{words}: {events:?}");
    assert_eq!(types(&events).last(), Some(&"complete"));
  }
}

#[tokio::test]
async fn steps_are_counted_and_the_reminder_comes_once() {
  let model = Model::new([]).await.then_always(Turn::Says(String::new()));
  for number in 0..4 {
    model.add([script("t-script", &number.to_string())]);
  }
  let agent = Agent::typescript(&model).await;
  let (run, events) = agent.begin(&json!({"message": "go", "maxSteps": 4})).await;
  let events = events.rest().await;
  assert!(
    format!("{events:?}").contains("limit of 4 tool calls"),
    "{events:?}"
  );
  assert_eq!(agent.run(&run).await["status"], "failed");
  let told = model.told();
  let reminders = told
    .iter()
    .filter(|it| it["content"].to_string().contains("Come to your answer"));
  assert_eq!(reminders.count(), 1);
}

#[tokio::test]
async fn tools_are_called_in_their_order_and_an_answer_is_plain_text() {
  let model = Model::new([
    Turn::Calls(vec![
      ("run_code", json!({"code": "var n = 1; n"})),
      ("run_code", json!({"code": "n += 1"})),
      ("no_such_tool", json!({})),
    ]),
    says("It is two."),
  ])
  .await;
  let agent = Agent::typescript(&model).await;
  let events = agent.chat("go").await;
  let outputs: Vec<&Value> = events
    .iter()
    .filter(|it| it["type"] == "function_call_output")
    .map(|it| &it["content"])
    .collect();
  assert_eq!(outputs[..2], [&json!("1"), &json!("2")]);
  assert!(
    outputs[2].as_str().is_some_and(|it| it.contains("no tool")),
    "{outputs:?}"
  );
  let told = model.told();
  let results: Vec<&Value> = told.iter().filter(|it| it["role"] == "tool").collect();
  assert_eq!(results[1]["tool_call_id"], "call_1");
  assert_eq!(agent.conversation().await[1].1, "It is two.");
}

#[tokio::test]
async fn a_server_without_tools_is_asked_without_them() {
  let refused = json!({"error": {"message": "this model does not support tools"}});
  let model = Model::new([Turn::Refuses(400, refused), answers("a"), answers("b")]).await;
  let agent = Agent::typescript(&model).await;
  agent.chat("one").await;
  agent.chat("two").await;
  let has_tools: Vec<bool> = model
    .asked()
    .iter()
    .map(|it| it.get("tools").is_some())
    .collect();
  assert_eq!(has_tools, [true, false, false]);
}

#[tokio::test]
async fn what_a_model_cannot_answer_is_one_error_and_the_end() {
  for (status, words) in [(401, "uthenticat"), (404, "scripted"), (400, "API error")] {
    let refused = Turn::Refuses(status, json!({"error": {"message": "no"}}));
    let model = Model::new([]).await.then_always(refused);
    let agent = Agent::new(server().client(), &model, json!({})).await;
    let (run, events) = agent.begin(&json!({"message": "go"})).await;
    let events = events.rest().await;
    assert_eq!(
      types(&events),
      ["start", "new_completion", "error", "complete"],
      "{status}"
    );
    let error = only(&events, "error")["content"].as_str().expect("text");
    assert!(
      error.contains(words) && !error.contains("sk-test"),
      "{status}: {error}"
    );
    assert_eq!(agent.run(&run).await["status"], "failed");
    assert_eq!(agent.conversation().await.len(), 1);
  }
}

#[tokio::test]
async fn a_cancelled_run_ends_at_once_whatever_it_does() {
  let model = Model::new([
    Turn::Hangs,
    script("t-script", "while (true) {}"),
    answers("alive"),
  ])
  .await;
  let agent = Agent::typescript(&model).await;
  let cancel = async |run: &str| {
    let before = Instant::now();
    let record = agent
      .client
      .post_empty(&agent.path(&format!("/runs/{run}/cancel")))
      .await
      .ok();
    assert_eq!(record["status"], "cancelled");
    before.elapsed()
  };
  // A model that waits, and a run that waits behind it.
  let (waiting, first) = agent.begin(&json!({"message": "one"})).await;
  model.hangs(1).await;
  let (queued, second) = agent.begin(&json!({"message": "two"})).await;
  assert_eq!(agent.run(&queued).await["status"], "queued");
  let times = [cancel(&queued).await, cancel(&waiting).await];
  assert_eq!(types(&second.rest().await), ["cancelled", "complete"]);
  assert_eq!(
    types(&first.rest().await),
    ["start", "new_completion", "cancelled", "complete"]
  );
  model.given_up(1).await;
  // A cell that runs.
  let (running, mut third) = agent.begin(&json!({"message": "three"})).await;
  while third.event().await.expect("goes on")["type"] != "function_call" {}
  let last = cancel(&running).await;
  assert_eq!(types(&third.rest().await), ["cancelled", "complete"]);
  assert!(
    times
      .iter()
      .chain([&last])
      .all(|time| time.as_millis() < 500),
    "{times:?} {last:?}"
  );
  // The kernel takes code again.
  assert_eq!(
    agent.chat("four").await.last().expect("an event")["type"],
    "complete"
  );
}

#[tokio::test]
async fn a_reader_that_leaves_ends_only_a_run_that_is_not_detached() {
  let model = Model::new([Turn::Hangs, Turn::Hangs]).await;
  let agent = Agent::new(server().client(), &model, json!({})).await;
  let (leashed, events) = agent
    .begin(&json!({"message": "one", "detach": false}))
    .await;
  model.hangs(1).await;
  drop(events);
  model.given_up(1).await;
  let (detached, events) = agent.begin(&json!({"message": "two"})).await;
  model.hangs(2).await;
  drop(events);
  assert_eq!(agent.run(&detached).await["status"], "running");
  assert_eq!(agent.run(&leashed).await["status"], "cancelled");
}

#[tokio::test]
async fn any_number_of_readers_see_the_same_from_wherever_they_begin() {
  let model = Model::new([script("t-script", "1"), answers("one")]).await;
  let agent = Agent::typescript(&model).await;
  let (run, events) = agent.begin(&json!({"message": "go"})).await;
  let path = agent.path(&format!("/runs/{run}/stream"));
  let follow = async |last: Option<&str>| {
    let mut request = agent.client.request(reqwest::Method::GET, &path);
    if let Some(last) = last {
      request = request.header("last-event-id", last);
    }
    crate::support::Sse::new(agent.client.send(request).await)
      .rest()
      .await
  };
  let (first, second) = tokio::join!(events.rest(), follow(None));
  assert_eq!(first, second);
  assert_eq!(follow(None).await, first);
  assert_eq!(follow(Some("2")).await, first[3..]);
  let runs = agent.client.get(&agent.path("/runs")).await.ok();
  assert_eq!(runs[0]["id"], run);
}

#[tokio::test]
async fn fifty_agents_chat_at_once_and_none_sees_steps_of_others() {
  let client = server().client();
  let chats = (0..50).map(|number| {
    let client = client.clone();
    async move {
      let model = Model::new([
        script("t-script", &format!("globalThis.mine = {number}; mine")),
        answers(&format!("I am {number}.")),
      ])
      .await;
      let agent = Agent::new(client, &model, json!({"kernelType": "typescript"})).await;
      let events = agent.chat(&format!("Who is {number}?")).await;
      assert!(
        format!("{events:?}").contains(&format!("I am {number}.")),
        "{events:?}"
      );
      assert_eq!(agent.conversation().await[0].1, format!("Who is {number}?"));
      agent.client.delete(&agent.path("")).await.ok();
    }
  });
  futures::future::join_all(chats).await;
}
