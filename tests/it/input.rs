//! `prompt()` and its kin: questions to whoever runs the cell.

use serde_json::Value;
use serde_json::json;

use crate::support::Kernel;
use crate::support::kernel;

/// Runs a cell that asks once, answers, and returns the question and what came after it.
async fn ask(kernel: &Kernel, code: &str, answer: Value) -> (Value, Vec<Value>) {
  let mut sse = kernel.sse(code).await;
  let question = sse.until("input_request").await["data"].clone();
  let done = kernel
    .post("/input-reply", &json!({ "value": answer }))
    .await
    .ok();
  assert_eq!(done["success"], true);
  (question, sse.rest().await)
}

fn result(events: &[Value]) -> &str {
  let last = events.last().expect("an event");
  last["data"]["data"]["text/plain"]
    .as_str()
    .unwrap_or_else(|| panic!("no result: {last}"))
}

#[tokio::test]
async fn a_prompt_is_answered() {
  let kernel = kernel().await;
  let (question, events) = ask(
    &kernel,
    "const name = prompt('Your name?'); `Hello ${name}`",
    json!("Ada"),
  )
  .await;
  assert_eq!(question, json!({"prompt": "Your name?", "password": false}));
  assert_eq!(result(&events), "\"Hello Ada\"");
}

#[tokio::test]
async fn an_empty_answer_takes_the_default() {
  let kernel = kernel().await;
  let (question, events) = ask(&kernel, "prompt('Your name?', 'Bob')", json!("")).await;
  assert_eq!(question["prompt"], "Your name? [Bob]");
  assert_eq!(result(&events), "\"Bob\"");
}

#[tokio::test]
async fn a_prompt_that_is_cancelled_is_null() {
  let kernel = kernel().await;
  let (_, events) = ask(&kernel, "prompt('Your name?')", Value::Null).await;
  assert_eq!(result(&events), "null");
}

#[tokio::test]
async fn a_confirmation_takes_yes_and_no() {
  let kernel = kernel().await;
  for (answer, confirmed) in [
    ("y", "true"),
    ("YES", "true"),
    ("n", "false"),
    ("", "false"),
  ] {
    let (question, events) = ask(&kernel, "confirm('Sure?')", json!(answer)).await;
    assert_eq!(question["prompt"], "Sure? [y/N] ");
    assert_eq!(result(&events), confirmed, "{answer}");
  }
}

#[tokio::test]
async fn an_alert_waits() {
  let kernel = kernel().await;
  let (question, events) = ask(&kernel, "alert('Look'); 'seen'", json!("")).await;
  assert_eq!(question["prompt"], "Look [Enter] ");
  assert_eq!(result(&events), "\"seen\"");
}

#[tokio::test]
async fn questions_can_follow_each_other() {
  let kernel = kernel().await;
  let mut sse = kernel
    .sse("const a = prompt('a'); console.log('got', a); const b = prompt('b'); a + b")
    .await;
  for answer in ["1", "2"] {
    sse.until("input_request").await;
    kernel
      .post("/input-reply", &json!({ "value": answer }))
      .await
      .ok();
  }
  assert_eq!(
    sse.until("execute_result").await["data"]["data"]["text/plain"],
    "\"12\""
  );
}

#[tokio::test]
async fn a_reply_nobody_asked_for_is_a_conflict() {
  let kernel = kernel().await;
  let reply = json!({"value": "x"});
  kernel
    .post("/input-reply", &reply)
    .await
    .refused(409, &["not waiting for input"]);
  let running = kernel
    .submit_running("console.log('running'); await new Promise(() => {})")
    .await;
  kernel
    .post("/input-reply", &reply)
    .await
    .refused(409, &["not waiting for input"]);
  kernel.interrupt().await.ok();
  kernel.result(&running).await;
}

#[tokio::test]
async fn a_second_reply_is_a_conflict() {
  let kernel = kernel().await;
  let (_, events) = ask(&kernel, "prompt('once')", json!("1")).await;
  assert_eq!(result(&events), "\"1\"");
  kernel
    .post("/input-reply", &json!({"value": "2"}))
    .await
    .refused(409, &["not waiting for input"]);
}

#[tokio::test]
async fn a_reply_of_a_wrong_type_is_named_and_leaves_the_prompt_open() {
  let kernel = kernel().await;
  let mut sse = kernel.sse("prompt('name')").await;
  sse.until("input_request").await;
  kernel
    .post("/input-reply", &json!({"value": 5}))
    .await
    .refused(400, &["value"]);
  kernel
    .post("/input-reply", &json!({"answer": "x"}))
    .await
    .refused(400, &["answer"]);
  kernel
    .post("/input-reply", &json!({"value": "right"}))
    .await
    .ok();
  assert_eq!(
    sse.until("execute_result").await["data"]["data"]["text/plain"],
    "\"right\""
  );
}

#[tokio::test]
async fn a_kernel_that_waits_for_input_can_be_restarted_and_deleted() {
  let kernel = kernel().await;
  for _ in 0..2 {
    let mut sse = kernel.sse("prompt('name')").await;
    sse.until("input_request").await;
    kernel.restart().await.ok();
    assert_eq!(kernel.execute("1").await.result(), Some("1"));
  }
  let mut sse = kernel.sse("prompt('name')").await;
  sse.until("input_request").await;
  assert_eq!(kernel.delete().await.status, 200);
}
