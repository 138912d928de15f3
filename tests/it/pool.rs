//! Kernels that wait warm.

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::support::Client;
use crate::support::Kernel;
use crate::support::Server;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;

async fn pool(client: &Client) -> Value {
  client.get("/api/status").await.ok()["pool"].clone()
}

async fn is_full(client: &Client, size: u64) {
  eventually("the pool is full", || async {
    pool(client).await["available"] == size
  })
  .await;
}

fn pooled() -> crate::support::ServerBuilder {
  Server::builder()
    .env("KERNEL_POOL_ENABLED", "true")
    .env("KERNEL_POOL_PRELOAD_CONFIGS", "worker-typescript")
}

#[tokio::test]
async fn the_status_tells_how_full_the_pool_is() {
  let server = pooled().env("KERNEL_POOL_SIZE", "1").start();
  let client = server.client();
  is_full(&client, 1).await;
  assert_eq!(
    pool(&client).await,
    json!({"enabled": true, "available": 1, "total": 1})
  );
  assert_eq!(hosts_of(server.pid()).len(), 1);
}

#[tokio::test]
async fn without_preloading_there_is_no_pool() {
  let server = Server::builder().start();
  assert_eq!(pool(&server.client()).await["total"], 0);
  assert!(hosts_of(server.pid()).is_empty());
}

#[tokio::test]
async fn a_pool_can_be_switched_off() {
  let server = pooled().env("KERNEL_POOL_ENABLED", "false").start();
  assert_eq!(
    pool(&server.client()).await,
    json!({"enabled": false, "available": 0, "total": 0})
  );
  let kernel = server.client().typescript().await;
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn without_refilling_the_pool_runs_empty_and_kernels_are_made_anew() {
  let server = pooled()
    .env("KERNEL_POOL_SIZE", "1")
    .env("KERNEL_POOL_AUTO_REFILL", "false")
    .start();
  let client = server.client();
  is_full(&client, 1).await;
  let (first, second) = (client.typescript().await, client.typescript().await);
  assert_eq!(first.execute("1").await.result(), Some("1"));
  assert_eq!(second.execute("2").await.result(), Some("2"));
  assert_eq!(pool(&client).await["available"], 0);
  assert_eq!(hosts_of(server.pid()).len(), 2);
}

#[tokio::test]
async fn more_kernels_than_the_pool_has_can_be_made_at_once() {
  let server = pooled().env("KERNEL_POOL_SIZE", "2").start();
  let client = server.client();
  is_full(&client, 2).await;
  let kernels = futures::future::join_all((0..6).map(|_| client.typescript())).await;
  let pids = futures::future::join_all(kernels.iter().map(Kernel::pid)).await;
  let different: std::collections::HashSet<u32> = pids.iter().copied().collect();
  assert_eq!(different.len(), 6, "{pids:?}");
  is_full(&client, 2).await;
}

#[tokio::test]
async fn a_pooled_kernel_is_made_now_not_when_it_was_booted() {
  let server = pooled().start();
  let client = server.client();
  is_full(&client, 2).await;
  let status = client.get("/api/status").await.ok();
  assert_eq!(status["kernels"]["total"], 0, "blank ones are no kernels");
  let before = chrono_now();
  let kernel = client.typescript().await;
  assert!(kernel.created["created"].as_str().expect("a time") >= before.as_str());
  assert_eq!(
    kernel.execute("1").await.of("execute_result")[0]["execution_count"],
    1
  );
}

/// The time as the server writes it, to the second.
fn chrono_now() -> String {
  let now = std::time::SystemTime::now()
    .duration_since(std::time::UNIX_EPOCH)
    .expect("after 1970");
  let output = std::process::Command::new("date")
    .args([
      "-u",
      "-d",
      &format!("@{}", now.as_secs()),
      "+%Y-%m-%dT%H:%M:%S",
    ])
    .output()
    .expect("date runs");
  String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn a_restart_may_take_a_pooled_kernel_and_loses_all_state() {
  let server = pooled().start();
  let client = server.client();
  is_full(&client, 2).await;
  let kernel = client.create(json!({"env": {"A": "1"}})).await;
  kernel.execute("globalThis.old = 1").await;
  kernel.restart().await.ok();
  assert_eq!(
    kernel
      .execute("[typeof old, Deno.env.get('A')]")
      .await
      .result(),
    Some("[ \"undefined\", \"1\" ]")
  );
}

#[tokio::test]
async fn a_blank_kernel_works_for_javascript_too() {
  let server = pooled().env("KERNEL_POOL_AUTO_REFILL", "false").start();
  let client = server.client();
  is_full(&client, 2).await;
  let blank = hosts_of(server.pid());
  let kernel = client.create(json!({"lang": "javascript"})).await;
  assert!(blank.contains(&kernel.pid().await));
}

#[tokio::test]
async fn blank_kernels_end_with_the_server() {
  for signal in [Signal::KILL, Signal::TERM] {
    let mut server = pooled().start();
    is_full(&server.client(), 2).await;
    let blank = hosts_of(server.pid());
    server.signal(signal);
    server.ended().await;
    eventually("blank kernels end too", || async {
      !blank.iter().any(|pid| exists(*pid))
    })
    .await;
  }
}
