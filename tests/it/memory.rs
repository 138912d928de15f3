//! Memory that kernel code asks for, in every form: it is refused or ends that kernel, nothing else.

use serde_json::json;

use crate::support::Kernel;
use crate::support::shared_server;

/// Runs a cell that wants too much in a small kernel. Whether it is refused or ends the kernel,
/// the reason is told, another kernel goes on, and a restart makes all well.
async fn harms_nobody(code: &str) {
  let client = shared_server().client();
  let limits = json!({"heapMb": 64, "memoryMb": 256});
  let (hungry, bystander) = (
    client.create(json!({ "limits": limits })).await,
    client.typescript().await,
  );
  bystander.execute("let kept = 1").await;
  let events = hungry.execute(code).await;
  let error = events
    .error()
    .unwrap_or_else(|| panic!("{code}: {events:?}"));
  if error["ename"] == "KernelDied" {
    assert!(
      events.evalue().contains("out of memory"),
      "{code}: {}",
      events.evalue()
    );
    assert_eq!(hungry.status().await, "dead");
    hungry.restart().await.ok();
  }
  works(&hungry).await;
  assert_eq!(bystander.execute("kept").await.result(), Some("1"));
}

async fn works(kernel: &Kernel) {
  assert_eq!(kernel.execute("20 + 1").await.result(), Some("21"));
}

macro_rules! harms_nobody {
  ($($test:ident: $code:expr;)*) => {$(
    #[tokio::test]
    async fn $test() {
      harms_nobody($code).await;
    }
  )*};
}

harms_nobody! {
  objects_without_end: "const a = []; while (true) a.push({ n: a.length });";
  strings_without_end: "let s = 'x'.repeat(1000); const a = []; while (true) a.push(s + a.length + '!'.repeat(a.length % 100)).toString();";
  one_string_that_doubles: "let s = 'x'; while (true) s += s;";
  an_array_of_the_largest_length: "new Array(2 ** 32 - 1).fill(0)";
  a_buffer_of_eight_gigabytes: "new Uint8Array(8e9).fill(1)";
  buffers_without_end: "const a = []; while (true) a.push(new Uint8Array(1 << 22).fill(1));";
  webassembly_memory_without_end: "const m = new WebAssembly.Memory({ initial: 1, maximum: 65536 }); while (true) { m.grow(160); new Uint8Array(m.buffer).fill(1) }";
  shared_memory_without_end: "const a = []; while (true) a.push(new Uint8Array(new SharedArrayBuffer(1 << 22)).fill(1));";
  a_map_without_end: "const m = new Map(); for (let i = 0; ; i++) m.set(i, i + '');";
  a_deep_json: "JSON.parse('['.repeat(1e7))";
  microtasks_that_pile_up: "const more = () => { queueMicrotask(more); queueMicrotask(more) }; more(); await new Promise(() => {})";
  workers_without_end: "const a = []; while (true) { a.push(new Worker('data:text/javascript,const b = new Uint8Array(1 << 23).fill(1); setInterval(() => b, 1000)', { type: 'module' })); await new Promise(r => setTimeout(r, 5)) }";
}

#[tokio::test]
async fn a_huge_result_is_cut_not_fatal() {
  let kernel = shared_server().client().typescript().await;
  let events = kernel.execute("'x'.repeat(60_000_000)").await;
  assert!(
    events.error().is_none_or(|e| e["ename"] != "KernelDied"),
    "{:?}",
    events.error()
  );
  works(&kernel).await;
}

#[tokio::test]
async fn memory_that_was_given_back_can_be_used_again() {
  let limits = json!({"limits": {"memoryMb": 512}});
  let kernel = shared_server().client().create(limits).await;
  for _ in 0..8 {
    let events = kernel
      .execute("{ const b = new Uint8Array(100 << 20).fill(1); console.log(b.length) }")
      .await;
    assert_eq!(events.stdout(), "104857600\n", "{events:?}");
  }
}

#[tokio::test]
async fn flags_of_v8_set_by_a_cell_reach_nobody_else() {
  let client = shared_server().client();
  let (one, other) = (client.typescript().await, client.typescript().await);
  one
    .execute("(await import('node:v8')).setFlagsFromString('--stack-size=10')")
    .await;
  one.execute("const f = (n) => n && f(n - 1); f(1000)").await;
  let deep = other
    .execute("const f = (n) => n && f(n - 1); f(1000)")
    .await;
  assert_eq!(deep.result(), Some("0"), "{deep:?}");
}
