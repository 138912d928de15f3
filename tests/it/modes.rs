//! Where kernels come from: a process, a thread of the server, the pool.

use serde_json::json;
use tempfile::TempDir;

use crate::support::Server;
use crate::support::eventually;
use crate::support::hosts_of;

fn main_thread() -> Server {
  Server::builder()
    .env(
      "ALLOWED_KERNEL_TYPES",
      "main_thread-typescript,worker-typescript",
    )
    .env("SECRET", "of the server")
    .start()
}

#[tokio::test]
async fn a_main_thread_kernel_behaves_like_any_other() {
  let server = main_thread();
  let kernel = server
    .client()
    .create(json!({"mode": "main_thread", "env": {"A": "1"}}))
    .await;
  assert_eq!(kernel.created["mode"], "main_thread");
  assert!(hosts_of(server.pid()).is_empty());
  let events = kernel.execute("console.log('out'); Deno.stdout.writeSync(new TextEncoder().encode('raw\\n')); console.error('err'); 1 + 1").await;
  assert_eq!(events.stdout(), "out\nraw\n");
  assert_eq!(
    (events.stderr().as_str(), events.result()),
    ("err\n", Some("2"))
  );
  let env = kernel.execute("JSON.stringify(Deno.env.toObject())").await;
  assert_eq!(env.result(), Some("'{\"A\":\"1\"}'"));
  kernel
    .execute("let kept = 1; await Deno.writeTextFile('f', 'x')")
    .await;
  kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let done = kernel.interrupt().await.ok();
  assert!(done.get("restarted").is_none(), "{done}");
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
  kernel.restart().await.ok();
  assert_eq!(
    kernel.execute("typeof kept").await.result(),
    Some("\"undefined\"")
  );
}

#[tokio::test]
async fn main_thread_kernels_do_not_share_and_do_not_end_the_server() {
  let server = main_thread();
  let client = server.client();
  let a = client
    .create(json!({"mode": "main_thread", "env": {"WHO": "a"}}))
    .await;
  let b = client
    .create(json!({"mode": "main_thread", "env": {"WHO": "b"}}))
    .await;
  a.execute("globalThis.shared = 1; Deno.env.set('NEW', 'a')")
    .await;
  assert_eq!(
    b.execute("typeof shared").await.result(),
    Some("\"undefined\"")
  );
  assert_eq!(
    b.execute("[Deno.env.get('WHO'), Deno.env.get('NEW')]")
      .await
      .result(),
    Some("[ \"b\", undefined ]")
  );
  for code in [
    "process.abort()",
    "Deno.kill(Deno.pid)",
    "process.kill(process.pid)",
  ] {
    assert_eq!(
      a.execute(code).await.ename(),
      Some("NotSupported"),
      "{code}"
    );
  }
  let events = a.execute("Deno.exit(4)").await;
  assert_eq!(events.ename(), Some("KernelDied"), "{events:?}");
  assert!(events.evalue().contains("exited with code 4"));
  assert_eq!(a.status().await, "dead");
  assert_eq!(b.execute("1").await.result(), Some("1"));
  a.restart().await.ok();
  assert_eq!(
    a.execute("Deno.env.get('WHO')").await.result(),
    Some("\"a\"")
  );
}

#[tokio::test]
async fn a_pooled_kernel_is_claimed_in_any_configuration() {
  let dir = TempDir::new().expect("a folder");
  std::fs::write(dir.path().join("f"), "mounted").expect("is written");
  let server = Server::builder()
    .env("KERNEL_POOL_ENABLED", "true")
    .env("KERNEL_POOL_PRELOAD_CONFIGS", "worker-typescript")
    .env("KERNEL_POOL_SIZE", "2")
    .env("KERNEL_MOUNT_ROOTS", dir.path())
    .start();
  let client = server.client();
  let available = || async { client.get("/api/status").await.ok()["pool"]["available"].as_u64() };
  eventually("the pool is full", || async {
    available().await == Some(2)
  })
  .await;
  assert!(
    client.list("").await.is_empty(),
    "blank kernels are not listed"
  );
  let pooled = hosts_of(server.pid());
  let kernel = client
    .create(json!({
      "env": {"A": "1"},
      "filesystem": {"root": dir.path(), "mountPoint": "/m"},
      "permissions": {"net": false},
      "limits": {"heapMb": 100},
      "inactivityTimeout": 600_000,
    }))
    .await;
  assert!(
    pooled.contains(&kernel.pid().await),
    "it came from the pool"
  );
  assert_eq!(
    kernel.execute("Deno.env.get('A')").await.result(),
    Some("\"1\"")
  );
  assert_eq!(kernel.execute("ENVIRONS.A").await.result(), Some("\"1\""));
  assert_eq!(
    kernel
      .execute("Deno.readTextFileSync('/m/f')")
      .await
      .result(),
    Some("\"mounted\"")
  );
  assert_eq!(
    kernel
      .execute("await fetch('http://example.com')")
      .await
      .ename(),
    Some("NotCapable")
  );
  eventually("the pool is full again", || async {
    available().await == Some(2)
  })
  .await;
  let events = kernel
    .execute("const a = []; while (true) a.push(new Array(10000).fill({}))")
    .await;
  assert!(events.evalue().contains("100 MiB"), "{}", events.evalue());
}

#[tokio::test]
async fn a_blank_kernel_that_died_is_not_handed_out() {
  let server = Server::builder()
    .env("KERNEL_POOL_ENABLED", "true")
    .env("KERNEL_POOL_PRELOAD_CONFIGS", "worker-javascript")
    .start();
  let client = server.client();
  eventually("the pool is full", || async {
    client.get("/api/status").await.ok()["pool"]["available"] == 2
  })
  .await;
  for pid in hosts_of(server.pid()) {
    crate::support::kill(pid, rustix::process::Signal::KILL);
  }
  let kernel = client.typescript().await;
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}
