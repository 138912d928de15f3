//! What a kernel does to itself or the operating system does to it: it ends one kernel, and says how.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::Kernel;
use crate::support::Server;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;
use crate::support::in_time;
use crate::support::kernel;
use crate::support::kill;
use crate::support::shared_server;

/// Checks that the kernel is dead and says why, refuses work, and lives again after a restart.
async fn is_dead_until_restarted(kernel: &Kernel, reason: &str) {
  let info = kernel.info().await;
  assert_eq!(info["status"], "dead");
  let death = info["death"].as_str().unwrap_or_default();
  assert!(death.contains(reason), "`{reason}` is missing in `{death}`");
  let refused = kernel.post("/execute", &json!({"code": "1"})).await;
  refused.refused(409, &["dead", "restart"]);
  kernel.restart().await.ok();
  assert_eq!(kernel.execute("20 + 1").await.result(), Some("21"));
}

#[tokio::test]
async fn a_killed_host_ends_its_cell_with_the_signal() {
  let kernel = kernel().await;
  let pid = kernel.pid().await;
  let running = kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let waiting = kernel.submit("1").await;
  kill(pid, Signal::KILL);
  for session in [&running, &waiting] {
    let events = kernel.result(session).await;
    assert_eq!(events.ename(), Some("KernelDied"), "{events:?}");
    assert!(
      events.evalue().contains("signal 9 (SIGKILL)"),
      "{}",
      events.evalue()
    );
  }
  is_dead_until_restarted(&kernel, "SIGKILL").await;
}

#[tokio::test]
async fn a_host_killed_between_cells_is_noticed() {
  let kernel = kernel().await;
  kill(kernel.pid().await, Signal::KILL);
  eventually("the kernel is dead", || async {
    kernel.status().await == "dead"
  })
  .await;
  is_dead_until_restarted(&kernel, "SIGKILL").await;
}

#[tokio::test]
async fn exit_ends_the_kernel_with_its_code() {
  let kernel = kernel().await;
  let events = kernel
    .execute("console.log('long'); console.log('before'); Deno.exit(3)")
    .await;
  assert_eq!(events.stdout(), "long\nbefore\n");
  assert_eq!(events.ename(), Some("KernelDied"));
  assert!(
    events.evalue().contains("exited with code 3"),
    "{}",
    events.evalue()
  );
  is_dead_until_restarted(&kernel, "code 3").await;
}

#[tokio::test]
async fn an_abort_ends_only_its_own_kernel() {
  let (victim, bystander) = (kernel().await, kernel().await);
  let events = victim
    .execute("console.log('long'); console.log('before'); process.abort()")
    .await;
  assert_eq!(events.stdout(), "long\nbefore\n");
  assert!(events.evalue().contains("SIGABRT"), "{}", events.evalue());
  assert_eq!(bystander.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn an_exhausted_heap_ends_only_its_own_kernel() {
  let client = shared_server().client();
  let hungry = client.create(json!({"limits": {"heapMb": 64}})).await;
  let bystander = client.typescript().await;
  let events = hungry
    .execute("const a = []; while (true) a.push(new Array(10000).fill({}))")
    .await;
  assert_eq!(events.ename(), Some("KernelDied"));
  assert!(
    events.evalue().contains("out of memory"),
    "{}",
    events.evalue()
  );
  assert!(events.evalue().contains("64 MiB"), "{}", events.evalue());
  assert_eq!(bystander.execute("1").await.result(), Some("1"));
  is_dead_until_restarted(&hungry, "out of memory").await;
}

#[tokio::test]
async fn memory_outside_the_heap_is_limited_too() {
  let client = shared_server().client();
  let hungry = client.create(json!({"limits": {"memoryMb": 256}})).await;
  let code = "const a = []; while (true) { a.push(new Uint8Array(1 << 20).fill(1)); await null }";
  let events = hungry.execute(code).await;
  assert!(
    events.evalue().contains("out of memory"),
    "{}",
    events.evalue()
  );
  is_dead_until_restarted(&hungry, "256 MiB").await;
}

#[tokio::test]
async fn endless_recursion_is_an_ordinary_error() {
  let kernel = kernel().await;
  let events = kernel.execute("const f = () => f() + 1; f()").await;
  assert_eq!(events.ename(), Some("RangeError"));
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn fifty_kernels_live_side_by_side() {
  let server = Server::builder().start();
  let client = server.client();
  let kernels = futures::future::join_all((0..50).map(|_| client.typescript())).await;
  let results = futures::future::join_all(kernels.iter().enumerate().map(async |(i, kernel)| {
    kernel
      .execute(&format!("{i} * 2"))
      .await
      .result()
      .map(str::to_owned)
  }))
  .await;
  let expected: Vec<_> = (0..50).map(|i| Some((i * 2).to_string())).collect();
  assert_eq!(results, expected);
  assert_eq!(hosts_of(server.pid()).len(), 50);
  drop(kernels);
  assert!(client.list("").await.is_empty());
  eventually("no process is left", || async {
    hosts_of(server.pid()).is_empty()
  })
  .await;
  // A folder goes after its process.
  eventually("no folder is left", || async {
    server.scratch_folders().is_empty()
  })
  .await;
}

#[tokio::test]
async fn the_list_answers_while_every_kernel_spins() {
  let kernels = futures::future::join_all((0..4).map(|_| kernel())).await;
  for kernel in &kernels {
    kernel
      .submit_running("console.log('running'); while (true) {}")
      .await;
  }
  let client = shared_server().client();
  let listed = tokio::time::timeout(Duration::from_secs(10), client.list("")).await;
  let listed = listed.expect("the list does not wait for kernels");
  for kernel in &kernels {
    let entry = listed
      .iter()
      .find(|k| k["id"] == kernel.id.as_str())
      .expect("listed");
    assert_eq!(entry["status"], "busy");
  }
}

#[tokio::test]
async fn a_killed_server_leaves_no_processes() {
  let mut server = Server::builder().start();
  let client = server.client();
  let (idle, busy) = (client.typescript().await, client.typescript().await);
  idle.execute("1").await;
  busy
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let children = hosts_of(server.pid());
  assert_eq!(children.len(), 2);
  server.signal(Signal::KILL);
  in_time("the server ends", server.ended()).await;
  eventually("its kernels end too", || async {
    !children.iter().any(|pid| exists(*pid))
  })
  .await;
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_stops_in_good_order() {
  let mut server = Server::builder().start();
  let kernel = server.client().typescript().await;
  kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let children = hosts_of(server.pid());
  server.signal(Signal::TERM);
  let status = in_time("the server ends", server.ended()).await;
  assert!(status.success(), "{status}");
  assert!(!children.iter().any(|pid| exists(*pid)));
  assert!(server.scratch_folders().is_empty());
}
