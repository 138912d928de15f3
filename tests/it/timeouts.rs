//! Stalled executions, kernels nobody uses, and the events that tell of them.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::Server;
use crate::support::Sse;
use crate::support::eventually;
use crate::support::in_time;
use crate::support::shared_server;

/// The next engine event of a kernel and a type.
async fn event_of(events: &mut Sse, kernel: &str, kind: &str) -> Value {
  let search = async {
    loop {
      let event = events.event().await.expect("the stream goes on");
      if event["kernelId"] == kernel && event["type"] == kind {
        return event;
      }
    }
  };
  in_time(kind, search).await
}

#[tokio::test]
async fn a_stalled_cell_is_reported_and_stopped_and_the_kernel_goes_on() {
  let client = shared_server().client();
  let mut watch = client.events().await;
  let kernel = client.create(json!({"maxExecutionTime": 500})).await;
  kernel.execute("let kept = 1").await;
  let events = kernel.execute("while (true) {}").await;
  let names: Vec<_> = events
    .of("execute_error")
    .iter()
    .map(|e| e["ename"].clone())
    .collect();
  assert_eq!(
    names,
    ["ExecutionStalledError", "ExecutionInterrupted"],
    "{events:?}"
  );
  assert_eq!(
    events.evalue(),
    "Execution stalled or potentially deadlocked (running > 500ms)"
  );
  let event = event_of(&mut watch, &kernel.id, "execution_stalled").await;
  assert_eq!(event["data"]["maxExecutionTime"], 500);
  assert_eq!(event["data"]["code"], "while (true) {}");
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
}

#[tokio::test]
async fn the_start_of_a_stalled_cell_is_announced() {
  let client = shared_server().client();
  let mut watch = client.events().await;
  let kernel = client.create(json!({"maxExecutionTime": 500})).await;
  let code = format!("while (true) {{}} // {}", "é".repeat(5000));
  kernel.execute(&code).await;
  let event = event_of(&mut watch, &kernel.id, "execution_stalled").await;
  let told = event["data"]["code"].as_str().expect("a text");
  assert_eq!(told.chars().count(), 1000);
  assert!(code.starts_with(told));
}

#[tokio::test]
async fn a_cell_within_its_time_is_left_alone() {
  let client = shared_server().client();
  let kernel = client.create(json!({"maxExecutionTime": 60_000})).await;
  let events = kernel
    .execute("await new Promise(r => setTimeout(r, 50)); 1")
    .await;
  assert_eq!(events.result(), Some("1"));
}

#[tokio::test]
async fn a_kernel_nobody_uses_is_removed() {
  let client = shared_server().client();
  let mut watch = client.events().await;
  let kernel = client.create(json!({"inactivityTimeout": 300})).await;
  let event = event_of(&mut watch, &kernel.id, "kernel_terminated").await;
  assert_eq!(event["data"]["reason"], "inactivity timeout");
  client
    .get(&kernel.path("/info"))
    .await
    .refused(404, &["Kernel not found"]);
}

#[tokio::test]
async fn a_kernel_at_work_is_not_unused() {
  let client = shared_server().client();
  let kernel = client.create(json!({"inactivityTimeout": 300})).await;
  let events = kernel
    .execute("await new Promise(r => setTimeout(r, 1200)); 'done'")
    .await;
  assert_eq!(events.result(), Some("\"done\""));
}

#[tokio::test]
async fn a_ping_counts_as_use() {
  let client = shared_server().client();
  let kernel = client.create(json!({"inactivityTimeout": 600_000})).await;
  let left = || async {
    let info = kernel.info().await;
    info["timeUntilShutdown"].as_u64().expect("a time")
  };
  eventually("half a second passes", || async { left().await < 599_500 }).await;
  kernel.client.post_empty(&kernel.path("/ping")).await.ok();
  // Counted anew: more is left than there was, whatever the ping took.
  let after = left().await;
  assert!(after > 599_500, "{after}");
}

#[tokio::test]
async fn a_kernel_that_is_pinged_stays() {
  let client = shared_server().client();
  let mut watch = client.events().await;
  let kernel = client.create(json!({"inactivityTimeout": 3000})).await;
  let start = std::time::Instant::now();
  while start.elapsed() < Duration::from_secs(5) {
    kernel.client.post_empty(&kernel.path("/ping")).await.ok();
    tokio::time::sleep(Duration::from_millis(200)).await;
  }
  event_of(&mut watch, &kernel.id, "kernel_terminated").await;
}

#[tokio::test]
async fn an_endless_await_stalls_too() {
  let client = shared_server().client();
  let kernel = client.create(json!({"maxExecutionTime": 300})).await;
  let events = kernel
    .execute("let kept = 1; await new Promise(() => {})")
    .await;
  assert_eq!(
    events.types(),
    ["execute_error", "execute_error"],
    "{events:?}"
  );
  assert_eq!(events.ename(), Some("ExecutionStalledError"));
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
}

#[tokio::test]
async fn a_prompt_nobody_answers_stalls_too() {
  let client = shared_server().client();
  let kernel = client.create(json!({"maxExecutionTime": 300})).await;
  let events = kernel.execute("prompt('anybody?')").await;
  assert_eq!(
    events.types(),
    ["input_request", "execute_error", "execute_error"],
    "{events:?}"
  );
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn waiting_in_the_queue_is_not_stalling() {
  let client = shared_server().client();
  let kernel = client.create(json!({"maxExecutionTime": 5000})).await;
  let pause = "await new Promise(r => setTimeout(r, 1500)); 'done'";
  let mut sessions = Vec::new();
  for _ in 0..5 {
    sessions.push(kernel.submit(pause).await);
  }
  for session in &sessions {
    assert_eq!(kernel.result(session).await.result(), Some("\"done\""));
  }
}

#[tokio::test]
async fn a_stalled_cell_lets_the_next_one_run() {
  let client = shared_server().client();
  let kernel = client.create(json!({"maxExecutionTime": 500})).await;
  let stalled = kernel.submit("while (true) {}").await;
  let next = kernel.submit("'next'").await;
  assert_eq!(kernel.result(&next).await.result(), Some("\"next\""));
  assert_eq!(
    kernel.result(&stalled).await.ename(),
    Some("ExecutionStalledError")
  );
}

#[tokio::test]
async fn a_restart_keeps_the_timeouts() {
  let client = shared_server().client();
  let kernel = client
    .create(json!({"maxExecutionTime": 500, "inactivityTimeout": 600_000}))
    .await;
  kernel.restart().await.ok();
  let events = kernel.execute("while (true) {}").await;
  assert_eq!(events.ename(), Some("ExecutionStalledError"));
  assert!(kernel.info().await["timeUntilShutdown"].is_u64());
}

#[tokio::test]
async fn a_dead_kernel_nobody_uses_is_removed_too() {
  let client = shared_server().client();
  let mut watch = client.events().await;
  let kernel = client.create(json!({"inactivityTimeout": 1500})).await;
  kernel.execute("Deno.exit(1)").await;
  event_of(&mut watch, &kernel.id, "kernel_terminated").await;
}

#[tokio::test]
async fn restarts_and_removals_are_announced() {
  let client = shared_server().client();
  let mut watch = client.events().await;
  let kernel = client.typescript().await;
  event_of(&mut watch, &kernel.id, "kernel_ready").await;
  kernel.restart().await.ok();
  event_of(&mut watch, &kernel.id, "kernel_restarted").await;
  kernel.delete().await;
  let event = event_of(&mut watch, &kernel.id, "kernel_terminated").await;
  assert_eq!(event["data"]["reason"], "deleted");
}

#[tokio::test]
async fn a_forced_deletion_tells_readers() {
  let kernel = shared_server().client().typescript().await;
  let session = kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let mut stream = kernel.follow(&session, Some(0)).await;
  kernel
    .client
    .delete(&format!("{}?force=true", kernel.path("")))
    .await;
  let event = stream.event().await.expect("an error");
  assert_eq!(event["data"]["ename"], "KernelForcedTermination");
}

#[tokio::test]
async fn a_cell_that_cannot_be_interrupted_costs_a_restart_and_says_so() {
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"run": true}"#)
    .start();
  let kernel = server.client().typescript().await;
  // A blocking operation of the host: JavaScript cannot be stopped in it.
  let code = "new Deno.Command('/bin/sh', { \
    args: ['-c', 'echo running; exec sleep 1000'], stdout: 'inherit' }).outputSync()";
  let session = kernel.submit_running(code).await;
  let done = kernel.interrupt().await.ok();
  assert_eq!(done["restarted"], true);
  assert_eq!(
    kernel.result(&session).await.ename(),
    Some("KernelRestarted")
  );
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn the_inactivity_timeout_can_be_changed() {
  let kernel = shared_server().client().typescript().await;
  let set = async |timeout: Value| {
    kernel
      .post("/timeout", &json!({ "timeout": timeout }))
      .await
  };
  let done = set(json!(60_000)).await.ok();
  assert_eq!(
    (&done["message"], &done["timeout"]),
    (&json!("Inactivity timeout set to 60000ms"), &json!(60_000))
  );
  let info = kernel.info().await;
  assert_eq!(info["inactivityTimeout"], 60_000);
  assert!(info["timeUntilShutdown"].as_u64() <= Some(60_000), "{info}");
  set(json!(0)).await.ok();
  assert!(kernel.info().await["inactivityTimeout"].is_null());
  for wrong in [json!(-1), json!("soon"), json!(1.5), Value::Null] {
    set(wrong).await.refused(400, &["timeout"]);
  }
  set(json!(u64::MAX))
    .await
    .refused(400, &["timeout: must be at most"]);
}
