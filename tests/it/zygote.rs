//! TypeScript kernels that are forked from one that has booted: what they must have for themselves, and that they do
//! without when there is none to be forked from.

use std::collections::BTreeSet;
use std::collections::HashSet;

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use crate::support::Kernel;
use crate::support::Server;
use crate::support::children_of;
use crate::support::eventually;
use crate::support::exists;
use crate::support::kill;

fn forking() -> Server {
  Server::builder().env("KERNEL_ZYGOTE", "true").start()
}

/// Children of the server that fork kernels.
fn zygotes(server: &Server) -> Vec<u32> {
  let is_zygote = |pid: &u32| {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.ends_with(b"\0zygote\0")
  };
  let mut found = children_of(server.pid());
  found.retain(is_zygote);
  found
}

async fn text(kernel: &Kernel, code: &str) -> String {
  let events = kernel.execute(code).await;
  events
    .result()
    .unwrap_or_else(|| panic!("{code}: {events:?}"))
    .to_owned()
}

async fn siblings(server: &Server, count: usize) -> Vec<Kernel> {
  let client = server.client();
  join_all((0..count).map(|_| client.typescript())).await
}

#[tokio::test]
async fn kernels_are_children_of_one_zygote() {
  let server = forking();
  let kernels = siblings(&server, 3).await;
  let zygotes = zygotes(&server);
  let [zygote] = zygotes.as_slice() else {
    panic!("{zygotes:?}")
  };
  let forked: BTreeSet<u32> = children_of(*zygote).into_iter().collect();
  let mut known = BTreeSet::new();
  for kernel in &kernels {
    known.insert(kernel.pid().await);
  }
  assert_eq!(forked, known);
}

#[tokio::test]
async fn siblings_draw_different_random_numbers() {
  let server = forking();
  let kernels = siblings(&server, 4).await;
  for code in [
    "Math.random()",
    "crypto.randomUUID()",
    "crypto.getRandomValues(new Uint8Array(16)).join()",
    "(await import('node:crypto')).randomBytes(16).toString('hex')",
    "(await import('node:crypto')).randomUUID()",
    "[...new Uint8Array(await crypto.subtle.exportKey('raw', await crypto.subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt'])))].join()",
    "await (async () => {
       const code = 'postMessage(Math.random())';
       const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
       const drawn = await new Promise((resolve) => worker.onmessage = (event) => resolve(event.data));
       worker.terminate();
       return drawn;
     })()",
    "Deno.pid",
  ] {
    let drawn: HashSet<String> = join_all(kernels.iter().map(|kernel| text(kernel, code)))
      .await
      .into_iter()
      .collect();
    assert_eq!(drawn.len(), kernels.len(), "{code}: {drawn:?}");
  }
}

/// What is open in a process and can be told apart: pipes, sockets and event counters.
fn open(pid: u32) -> BTreeSet<String> {
  let folder = format!("/proc/{pid}/fd");
  let entries = std::fs::read_dir(folder).expect("is readable").flatten();
  let target = |entry: std::fs::DirEntry| {
    let target = std::fs::read_link(entry.path()).ok()?;
    let target = target.to_string_lossy().into_owned();
    let number = entry.file_name().to_string_lossy().into_owned();
    if target != "anon_inode:[eventfd]" {
      return Some(target);
    }
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let id = info.lines().find(|line| line.starts_with("eventfd-id:"))?;
    Some(id.to_owned())
  };
  entries.filter_map(target).collect()
}

#[tokio::test]
async fn siblings_and_their_zygote_share_nothing_that_is_open_but_files() {
  let server = forking();
  let kernels = siblings(&server, 2).await;
  let mut processes = zygotes(&server);
  for kernel in &kernels {
    processes.push(kernel.pid().await);
  }
  // Files, queues that cannot be told apart by name, and processes.
  let named = |target: &String| target.starts_with('/') || target.starts_with("anon_inode:");
  for (index, one) in processes.iter().enumerate() {
    for other in &processes[index + 1..] {
      let (one, other) = (open(*one), open(*other));
      let shared: Vec<&String> = one.intersection(&other).filter(|it| !named(it)).collect();
      assert!(shared.is_empty(), "{shared:?}");
    }
    let kinds: BTreeSet<String> = open(*one)
      .into_iter()
      .filter(|it| it.starts_with("anon_inode:"))
      .collect();
    // A child makes its alarm itself.
    let known = ["eventpoll", "pidfd", "timerfd"].map(|kind| format!("anon_inode:[{kind}]"));
    assert!(kinds.is_subset(&known.into()), "{kinds:?}");
  }
}

#[tokio::test]
async fn what_cells_do_works_in_a_kernel_that_was_forked() {
  let server = forking();
  let kernel = server.client().typescript().await;
  for (code, result) in [
    ("_", "undefined"),
    ("_ ?? 'nothing'", "\"nothing\""),
    (
      "await new Promise((resolve) => setTimeout(() => resolve('late'), 10))",
      "\"late\"",
    ),
    (
      "performance.now() < 60_000 && Math.abs(performance.timeOrigin - Date.now()) < 60_000",
      "true",
    ),
    (
      "await Deno.writeTextFile('a', 'kept'); await Deno.readTextFile('a')",
      "\"kept\"",
    ),
    (
      "(await WebAssembly.instantiate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0))).module instanceof WebAssembly.Module",
      "true",
    ),
    (
      "(await crypto.subtle.digest('SHA-256', new Uint8Array(3))).byteLength",
      "32",
    ),
    (
      "let sum = 0; for (let i = 0; i < 1e7; i++) sum += i; sum",
      "49999995000000",
    ),
    (
      "(() => { const made = []; for (let i = 0; i < 200_000; i++) made.push({ i }); return made.length })()",
      "200000",
    ),
    (
      "(await import('data:text/javascript,export default 7')).default",
      "7",
    ),
    (
      "(await new Response(new Blob(['x']).stream().pipeThrough(new CompressionStream('gzip'))).bytes()).length > 0",
      "true",
    ),
    (
      "await Promise.any([new Promise(() => {}), Promise.resolve(1)])",
      "1",
    ),
  ] {
    // What a cell before has left is nobody's but the user's.
    let found = kernel.execute(code).await;
    let wanted = (result != "undefined").then_some(result);
    assert_eq!(found.result(), wanted, "{code}: {found:?}");
  }
  let printed = kernel
    .execute("console.log('one'); await Deno.stdout.write(new TextEncoder().encode('two\\n')); console.error('three')")
    .await;
  assert_eq!(printed.stdout(), "one\ntwo\n");
  assert_eq!(printed.stderr(), "three\n");
}

#[tokio::test]
async fn one_that_loops_dies_or_ends_itself_leaves_its_siblings_alone() {
  let server = forking();
  let client = server.client();
  let kernels = siblings(&server, 3).await;
  let [looping, exiting, other] = kernels.as_slice() else {
    panic!("three kernels")
  };
  let full = client.create(json!({"limits": {"heapMb": 64}})).await;
  looping.execute("globalThis.kept = 1").await;
  looping
    .submit_running("console.log('running'); while (true) {}")
    .await;
  looping.interrupt().await.ok();
  assert_eq!(text(looping, "kept").await, "1");
  let ended = full
    .execute("const all = []; while (true) all.push(new Array(1e6).fill(Math.random()))")
    .await;
  assert!(ended.result().is_none(), "{ended:?}");
  let ended = exiting.execute("Deno.exit(3)").await;
  assert!(ended.result().is_none(), "{ended:?}");
  assert_eq!(text(other, "6 * 7").await, "42");
  assert_eq!(text(looping, "kept").await, "1");
}

#[tokio::test]
async fn a_zygote_that_is_killed_is_replaced_and_its_kernels_go_on() {
  let server = forking();
  let client = server.client();
  let kernel = client.typescript().await;
  let [zygote] = zygotes(&server)[..] else {
    panic!("one zygote")
  };
  kill(zygote, Signal::KILL);
  eventually("it has ended", async || !exists(zygote)).await;
  assert_eq!(text(&kernel, "6 * 7").await, "42");
  let next = client.typescript().await;
  assert_eq!(text(&next, "6 * 7").await, "42");
  assert_ne!(zygotes(&server), [zygote]);
}

#[tokio::test]
async fn a_zygote_that_is_stopped_is_done_without_and_replaced() {
  let server = forking();
  let client = server.client();
  client.typescript().await;
  let [zygote] = zygotes(&server)[..] else {
    panic!("one zygote")
  };
  kill(zygote, Signal::STOP);
  let kernel = client.typescript().await;
  assert_eq!(text(&kernel, "6 * 7").await, "42");
  assert!(
    server.log().contains("cannot be forked"),
    "{}",
    server.log()
  );
  eventually("it has ended", async || !exists(zygote)).await;
  let next = client.typescript().await;
  assert_eq!(text(&next, "6 * 7").await, "42");
}

#[tokio::test]
async fn a_burst_of_kernels_is_forked() {
  let server = forking();
  let kernels = siblings(&server, 60).await;
  let results = join_all(kernels.iter().map(|kernel| text(kernel, "6 * 7"))).await;
  assert!(results.iter().all(|it| it == "42"), "{results:?}");
  assert_eq!(zygotes(&server).len(), 1);
}
