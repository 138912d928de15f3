//! TypeScript kernels that are forked from one that has booted: what they must have for themselves, and that they do
//! without when there is none to be forked from.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::process::Command;

use futures::future::join_all;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::support::Client;
use crate::support::Kernel;
use crate::support::Server;
use crate::support::ServerBuilder;
use crate::support::children_of;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;
use crate::support::in_time;
use crate::support::kill;
use crate::support::zygotes_of;

/// A server that forks TypeScript kernels.
async fn forking() -> Server {
  let server = Server::builder().start();
  let (kernel, _) = forked(&server, &server.client(), &json!({})).await;
  kernel.delete().await;
  server
}

/// A kernel that was forked, and from which process. The first kernels are not where the zygote takes long to boot.
async fn forked(server: &Server, client: &Client, body: &Value) -> (Kernel, u32) {
  for _ in 0..100 {
    let before = hosts_of(server.pid());
    let kernel = client.create(body.clone()).await;
    let is_new = |pid: &u32| !before.contains(pid);
    let of_new = |zygote: &u32| children_of(*zygote).iter().any(is_new);
    if let Some(zygote) = zygotes_of(server.pid()).into_iter().find(of_new) {
      return (kernel, zygote);
    }
    kernel.delete().await;
  }
  panic!("no kernel was forked: {}", server.log());
}

/// The one process that kernels are forked from.
fn zygote(server: &Server) -> u32 {
  match zygotes_of(server.pid())[..] {
    [zygote] => zygote,
    ref zygotes => panic!("{zygotes:?}: {}", server.log()),
  }
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
  let server = forking().await;
  let kernels = siblings(&server, 3).await;
  let forked: BTreeSet<u32> = children_of(zygote(&server)).into_iter().collect();
  let mut known = BTreeSet::new();
  for kernel in &kernels {
    known.insert(kernel.pid().await);
  }
  assert_eq!(forked, known);
}

#[tokio::test]
async fn siblings_draw_different_random_numbers() {
  let server = forking().await;
  let kernels = siblings(&server, 4).await;
  differ(&kernels, RANDOM).await;
}

/// Kinds of randomness, and what else is a kernel's own.
const RANDOM: &[&str] = &[
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
    "(await import('node:process')).pid",
    "performance.timeOrigin",
];

/// Whether no two kernels give the same.
async fn differ(kernels: &[Kernel], cells: &[&str]) {
  for code in cells {
    let given: HashSet<String> = join_all(kernels.iter().map(|kernel| text(kernel, code)))
      .await
      .into_iter()
      .collect();
    assert_eq!(given.len(), kernels.len(), "{code}: {given:?}");
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
  let server = forking().await;
  let kernels = siblings(&server, 2).await;
  let mut processes = vec![zygote(&server)];
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
  let server = forking().await;
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
      "const origin = performance.timeOrigin + performance.now(); Math.abs(origin - Date.now()) < 500",
      "true",
    ),
    (
      "await import('node:v8').then((v8) => v8.setFlagsFromString('--no-opt')).catch((error) => error.message)",
      "\"V8's flags cannot be set in a kernel: --no-opt\"",
    ),
    (
      "await new Promise((resolve) => { const timer = setInterval(() => { clearInterval(timer); resolve('ticked') }, 1) })",
      "\"ticked\"",
    ),
    ("Deno.mainModule", "\"file:///kernel.ts\""),
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
  let server = forking().await;
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
  let server = forking().await;
  let client = server.client();
  let kernel = client.typescript().await;
  let zygote = zygote(&server);
  kill(zygote, Signal::KILL);
  eventually("it has ended", async || !exists(zygote)).await;
  assert_eq!(text(&kernel, "6 * 7").await, "42");
  let next = client.typescript().await;
  assert_eq!(text(&next, "6 * 7").await, "42");
  assert_ne!(zygotes_of(server.pid()), [zygote]);
}

#[tokio::test]
async fn a_zygote_that_is_stopped_is_done_without_and_replaced() {
  let server = forking().await;
  let client = server.client();
  client.typescript().await;
  let zygote = zygote(&server);
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
  let server = forking().await;
  let kernels = siblings(&server, 200).await;
  let results = join_all(kernels.iter().map(|kernel| text(kernel, "6 * 7"))).await;
  assert!(results.iter().all(|it| it == "42"), "{results:?}");
  zygote(&server);
}

#[tokio::test]
async fn a_zygote_makes_room_for_another_and_lives_until_its_last_kernel_has_ended() {
  let server = forking().await;
  let client = server.client();
  let (kept, first) = forked(&server, &client, &json!({})).await;
  for _ in 0..64 {
    let kernels = siblings(&server, 8).await;
    join_all(kernels.iter().map(Kernel::delete)).await;
  }
  eventually("another zygote forks", || async {
    forked(&server, &client, &json!({})).await.1 != first
  })
  .await;
  assert!(exists(first));
  let ended = kept.execute("Deno.exit(3)").await;
  assert!(ended.evalue().contains("exited with code 3"), "{ended:?}");
  kept.delete().await;
  eventually("it has ended", || async { !exists(first) }).await;
}

#[tokio::test]
async fn child_processes_and_signals_work_in_a_kernel_that_was_forked() {
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"run": true, "read": true}"#)
    .start();
  let client = server.client();
  let body = json!({"permissions": {"run": true, "read": true}});
  let (kernel, _) = forked(&server, &client, &body).await;
  for (code, result) in [
    (
      "new TextDecoder().decode((await new Deno.Command('/bin/echo', { args: ['child'] }).output()).stdout)",
      "\"child\\n\"",
    ),
    (
      "await new Promise((resolve) => { Deno.addSignalListener('SIGUSR2', () => resolve('heard')); new Deno.Command('/bin/kill', { args: ['-USR2', String(Deno.pid)] }).outputSync() })",
      "\"heard\"",
    ),
  ] {
    kernel.gives(code, result).await;
  }
}

#[tokio::test]
async fn each_kernel_that_was_forked_has_its_own_settings() {
  let server = forking().await;
  let client = server.client();
  let [one, other] = [("Asia/Tokyo", 64), ("America/New_York", 256)].map(|(zone, heap)| {
    client.create(json!({"env": {"TZ": zone, "NAME": zone}, "limits": {"heapMb": heap}, "permissions": {"env": true}}))
  });
  let (one, other) = (one.await, other.await);
  one
    .gives(
      "new Date(0).getHours() + Deno.env.get('NAME')",
      "\"9Asia/Tokyo\"",
    )
    .await;
  other
    .gives(
      "new Date(0).getHours() + Deno.env.get('NAME')",
      "\"19America/New_York\"",
    )
    .await;
}

/// Python's of each kind.
const PYTHON_RANDOM: &[&str] = &[
  "import random; random.random()",
  "import os; os.urandom(16)",
  "import uuid; uuid.uuid4()",
  "import secrets; secrets.token_hex()",
  "import js; js.Math.random()",
  "js.crypto.randomUUID()",
  "js.performance.timeOrigin",
  "import tempfile; tempfile.mkdtemp()",
];

#[tokio::test]
async fn python_kernels_are_forked_and_share_nothing_that_changes() {
  let server = Server::builder().start();
  let client = server.client();
  let body = json!({"lang": "python"});
  forked(&server, &client, &body).await.0.delete().await;
  let kernels = join_all((0..3).map(|_| client.create(body.clone()))).await;
  assert!(hosts_of(server.pid()).len() >= kernels.len());
  assert!(
    hosts_of(server.pid())
      .iter()
      .all(|pid| !children_of(server.pid()).contains(pid)),
    "all are the zygote's: {}",
    server.log()
  );
  differ(&kernels, PYTHON_RANDOM).await;
  let [one, other, third] = kernels.as_slice() else {
    panic!("three kernels")
  };
  // Cells that were none of the user's have left nothing.
  let started = Server::builder().env("KERNEL_ZYGOTE", "false").start();
  let alone = started.client().create(body.clone()).await;
  let fresh = client.create(body.clone()).await;
  for code in [
    "import sys; sorted((name, repr(value)[:9]) for name, value in globals().items() if name != 'sys')",
    "In, Out, _, __, ___, _i, _ii, sorted(get_ipython().user_ns_hidden), sorted(vars(sys))",
    "1 / 0",
  ] {
    let (here, there) = (fresh.execute(code).await, alone.execute(code).await);
    assert_eq!(
      (here.result(), here.traceback()),
      (there.result(), there.traceback())
    );
  }
  one.execute("open('kept', 'w').write('1'); x = 1").await;
  other
    .gives(
      "import os; os.path.exists('kept'), 'x' in globals()",
      "(False, False)",
    )
    .await;
  other
    .submit_running("print('running')\nwhile True: pass")
    .await;
  other.interrupt().await.ok();
  other.gives("6 * 7", "42").await;
  let printed = third
    .execute(
      "import sys, asyncio\nprint('one'); await asyncio.sleep(0.01); print('two', file=sys.stderr)",
    )
    .await;
  assert_eq!(
    (printed.stdout().as_str(), printed.stderr().as_str()),
    ("one\n", "two\n")
  );
  third
    .gives("sum(i * i for i in range(300_000))", "8999955000050000")
    .await;
}

#[tokio::test]
async fn apps_are_forked_and_each_knows_its_own_main_module() {
  let server = Server::builder().start();
  let client = server.client();
  let script = "import process from 'node:process'; Deno.serve(() => new Response([Math.random(), Deno.mainModule, process.argv[1], import.meta.main, Deno.args.length, typeof _].join(' ')));";
  let app = |name: &str| json!({"id": name, "startup_script": script});
  let (one, other) = (
    client.post_app(app("one")).await,
    client.post_app(app("other")).await,
  );
  let mut answers = Vec::new();
  for app in [&one, &other] {
    app.ready().await;
    answers.push(app.get("/").await.text);
  }
  eventually("apps are forked", || async {
    one.reload().await.ok();
    one.ready().await;
    let pid = one.pid().await;
    zygotes_of(server.pid())
      .iter()
      .any(|zygote| children_of(*zygote).contains(&pid))
  })
  .await;
  answers.push(one.get("/").await.text);
  let words: Vec<Vec<&str>> = answers
    .iter()
    .map(|answer| answer.split(' ').collect())
    .collect();
  for answer in &words {
    let [_, module, argv, main, arguments, underscore] = answer[..] else {
      panic!("{answer:?}")
    };
    assert_eq!(module.strip_prefix("file://"), Some(argv), "{answer:?}");
    assert_eq!((main, arguments, underscore), ("true", "0", "undefined"));
  }
  assert_ne!(words[0][1], words[1][1]);
  let drawn: HashSet<&str> = words.iter().map(|answer| answer[0]).collect();
  assert_eq!(drawn.len(), 3);
}

fn shared_by_strangers() -> ServerBuilder {
  Server::builder().env("ENGINE_TOKENS", "all=*, one-token=one, other-token=other")
}

#[tokio::test]
async fn where_strangers_share_a_server_each_namespace_has_a_zygote_of_its_own() {
  let server = shared_by_strangers().start();
  let mut kernels = Vec::new();
  let mut zygotes = HashSet::new();
  for token in ["one-token", "other-token", "all"] {
    let client = server.client().with_token(token);
    for _ in 0..2 {
      let (kernel, zygote) = forked(&server, &client, &json!({})).await;
      kernels.push(kernel);
      zygotes.insert(zygote);
    }
  }
  assert_eq!(zygotes.len(), 3);
}

#[tokio::test]
async fn a_namespace_that_finds_no_room_for_a_zygote_has_its_kernels_started() {
  let server = shared_by_strangers().env("KERNEL_ZYGOTES_MAX", "1").start();
  let one = server.client().with_token("one-token");
  let (_kernel, zygote) = forked(&server, &one, &json!({})).await;
  let other = server.client().with_token("other-token").typescript().await;
  assert_eq!(text(&other, "6 * 7").await, "42");
  let pid = other.pid().await;
  assert!(children_of(server.pid()).contains(&pid));
  assert_eq!(zygotes_of(server.pid()), [zygote]);
}

#[tokio::test]
async fn blank_kernels_that_wait_for_anyone_share_no_memory_where_strangers_do() {
  let server = shared_by_strangers()
    .env("KERNEL_POOL_ENABLED", "true")
    .env("KERNEL_POOL_PRELOAD_CONFIGS", "worker-typescript")
    .start();
  let one = server.client().with_token("one-token");
  eventually("the pool is full", || async {
    one.get("/api/status").await.ok()["pool"]["available"] == 2
  })
  .await;
  assert!(zygotes_of(server.pid()).is_empty());
  let waited = one.typescript().await;
  assert!(children_of(server.pid()).contains(&waited.pid().await));
  // The next are forked, from what was started meanwhile.
  eventually("there is a zygote", || async {
    !zygotes_of(server.pid()).is_empty()
  })
  .await;
  forked(&server, &one, &json!({})).await;
}

/// Takes something away from a zygote; kernels are made all the same, and then others are forked again.
async fn does_without(resource: Resource, left: u64) {
  let server = forking().await;
  let client = server.client();
  let limit = Rlimit {
    current: Some(left),
    maximum: Some(left),
  };
  let pid = Pid::from_raw(zygote(&server).cast_signed()).expect("a process");
  rustix::process::prlimit(Some(pid), resource, limit).expect("can be limited");
  for _ in 0..3 {
    let kernel = in_time("a kernel is made", client.typescript()).await;
    assert_eq!(text(&kernel, "6 * 7").await, "42");
  }
}

#[tokio::test]
async fn a_zygote_without_memory_is_done_without() {
  does_without(Resource::As, 1 << 20).await;
}

#[tokio::test]
async fn a_zygote_without_descriptors_is_done_without() {
  does_without(Resource::Nofile, 1).await;
}

#[tokio::test]
async fn a_zygote_without_room_for_one_descriptor_more_is_done_without() {
  let server = forking().await;
  let open = std::fs::read_dir(format!("/proc/{}/fd", zygote(&server)));
  let open = open.expect("is readable").count() as u64;
  drop(server);
  for more in 0..4 {
    does_without(Resource::Nofile, open + more).await;
  }
}

#[tokio::test]
async fn without_proc_kernels_are_started_and_the_log_says_so_once() {
  let in_own_mounts = "/usr/bin/unshare --mount /bin/sh";
  let can = Command::new("/usr/bin/unshare")
    .args(["--mount", "/bin/true"])
    .status();
  if !can.is_ok_and(|status| status.success()) {
    return note("left out: this user may make no mounts, so /proc stays where it is");
  }
  let hide = r#"/bin/mount -t tmpfs none /proc && exec "$0" "$@""#;
  let server = Server::builder_in(in_own_mounts, hide).start();
  for _ in 0..3 {
    let kernel = server.client().typescript().await;
    assert_eq!(text(&kernel, "6 * 7").await, "42");
  }
  let log = server.log();
  assert_eq!(log.matches("cannot be forked").count(), 1, "{log}");
  assert!(log.contains("/proc"), "{log}");
}

#[expect(clippy::print_stderr, reason = "for whoever runs the tests")]
fn note(text: &str) {
  eprintln!("{text}");
}
