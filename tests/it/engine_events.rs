//! `GET /api/events`: what happens to kernels.

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::support::Server;
use crate::support::Sse;
use crate::support::in_time;
use crate::support::keys;
use crate::support::kill;
use crate::support::shared_server;
use crate::support::unique;

/// The next event of a kernel.
async fn next(events: &mut Sse, kernel: &str) -> Value {
  in_time("an engine event", async {
    loop {
      let event = events.event().await.expect("the stream goes on");
      if event["kernelId"] == kernel {
        return event;
      }
    }
  })
  .await
}

/// Types of the next events of a kernel, up to one of that type.
async fn types_until(events: &mut Sse, kernel: &str, last: &str) -> Vec<String> {
  let mut types = Vec::new();
  while types.last().map(String::as_str) != Some(last) {
    types.push(
      next(events, kernel).await["type"]
        .as_str()
        .expect("a type")
        .to_owned(),
    );
  }
  types
}

#[tokio::test]
async fn the_life_of_a_kernel_is_told() {
  let client = shared_server().client();
  let mut events = client.events().await;
  let kernel = client.typescript().await;
  kernel.execute("1").await;
  kernel.restart().await.ok();
  kernel.delete().await;
  let types = types_until(&mut events, &kernel.id, "kernel_terminated").await;
  let told: Vec<&str> = types
    .iter()
    .map(String::as_str)
    .filter(|t| *t != "kernel_idle")
    .collect();
  assert_eq!(
    told,
    [
      "kernel_ready",
      "kernel_busy",
      "kernel_ready",
      "kernel_restarted",
      "kernel_terminated"
    ]
  );
}

#[tokio::test]
async fn an_event_names_its_kernel_and_time() {
  let client = shared_server().client();
  let mut events = client.events().await;
  let kernel = client.typescript().await;
  let event = next(&mut events, &kernel.id).await;
  let fields = keys(&event);
  assert!(
    fields.contains(&"kernelId") && fields.contains(&"timestamp") && fields.contains(&"type"),
    "{event}"
  );
  assert!(
    event["timestamp"]
      .as_str()
      .is_some_and(|t| t.ends_with('Z'))
  );
}

#[tokio::test]
async fn a_kernel_is_busy_while_cells_wait_and_idle_after() {
  let client = shared_server().client();
  let kernel = client.typescript().await;
  let mut events = client.events().await;
  kernel.execute("1").await;
  assert_eq!(next(&mut events, &kernel.id).await["type"], "kernel_busy");
  assert_eq!(next(&mut events, &kernel.id).await["type"], "kernel_idle");
}

#[tokio::test]
async fn a_death_is_told_with_its_reason() {
  let client = shared_server().client();
  let kernel = client.typescript().await;
  let pid = kernel.pid().await;
  let mut events = client.events().await;
  kill(pid, Signal::KILL);
  loop {
    let event = next(&mut events, &kernel.id).await;
    if event["type"] == "kernel_died" {
      assert!(
        event["data"]["reason"]
          .as_str()
          .is_some_and(|r| r.contains("SIGKILL")),
        "{event}"
      );
      break;
    }
  }
}

#[tokio::test]
async fn several_watchers_see_the_same() {
  let client = shared_server().client();
  let (mut one, mut other) = (client.events().await, client.events().await);
  let kernel = client.typescript().await;
  kernel.delete().await;
  let first = types_until(&mut one, &kernel.id, "kernel_terminated").await;
  assert_eq!(
    first,
    types_until(&mut other, &kernel.id, "kernel_terminated").await
  );
}

#[tokio::test]
async fn a_token_for_a_namespace_is_told_of_that_only() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "all=*,lab-token=lab")
    .start();
  let (all, lab) = (
    server.client().with_token("all"),
    server.client().with_token("lab-token"),
  );
  let mut events = lab.events().await;
  let _elsewhere = all.create(json!({"namespace": "elsewhere"})).await;
  let _plain = all.typescript().await;
  let id = unique("k");
  let _own = lab.create(json!({ "id": id })).await;
  let event = events.event().await.expect("an event");
  assert_eq!(event["kernelId"], format!("lab:{id}"));
}

#[tokio::test]
async fn a_watcher_that_stops_reading_holds_nobody_up() {
  let client = shared_server().client();
  let _stuck = client.events().await;
  let kernel = client.typescript().await;
  for i in 0..600 {
    kernel.submit(&i.to_string()).await;
  }
  assert_eq!(kernel.execute("'end'").await.result(), Some("\"end\""));
}
