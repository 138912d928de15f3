//! Web workers of kernel code: other isolates of the same kernel, with no more than the kernel has.

use serde_json::json;

use crate::support::Kernel;
use crate::support::kernel;
use crate::support::shared_server;

/// Runs code in a worker, which must call `done(value)`, and returns what it was called with.
async fn in_worker(kernel: &Kernel, code: &str) -> serde_json::Value {
  let worker = format!(
    "const done = (v) => postMessage(v ?? null); try {{ {code} }} catch (e) {{ done(e.name + ': ' + e.message) }}"
  );
  let cell = format!(
    "{{ const worker = new Worker(URL.createObjectURL(new Blob([{}], {{ type: 'text/javascript' }})), {{ type: 'module' }});
       const answer = await new Promise((yes, no) => {{ worker.onmessage = (e) => yes(e.data); worker.onerror = (e) => no(new Error(e.message)) }});
       worker.terminate(); console.log('answer' + JSON.stringify(answer)); }}",
    json!(worker)
  );
  let events = kernel.execute(&cell).await;
  let stdout = events.stdout();
  let answer = stdout
    .rsplit_once("answer")
    .unwrap_or_else(|| panic!("{code}: {events:?}"))
    .1;
  serde_json::from_str(answer).expect("JSON")
}

#[tokio::test]
async fn a_worker_sees_the_kernels_environment_and_folder() {
  let kernel = shared_server()
    .client()
    .create(json!({"env": {"A": "1"}}))
    .await;
  kernel
    .execute("await Deno.writeTextFile('file', 'from the cell')")
    .await;
  assert_eq!(
    in_worker(&kernel, "done(Deno.env.toObject())").await,
    json!({"A": "1"})
  );
  assert_eq!(
    in_worker(&kernel, "done(Deno.readTextFileSync('file'))").await,
    "from the cell"
  );
}

#[tokio::test]
async fn a_worker_may_do_no_more_than_its_kernel() {
  let kernel = kernel().await;
  let port = shared_server().port();
  for code in [
    "Deno.readTextFileSync('/etc/passwd')".to_owned(),
    "new Deno.Command('/bin/true').outputSync()".to_owned(),
    format!("await fetch('http://127.0.0.1:{port}/health')"),
  ] {
    let told = in_worker(&kernel, &format!("{code}; done('allowed')"))
      .await
      .to_string();
    assert!(told.contains("NotCapable"), "{code}: {told}");
  }
  let escalation = "new Worker('data:text/javascript,1', { type: 'module', deno: { permissions: { run: true } } })";
  assert!(kernel.execute(escalation).await.error().is_some());
}

#[tokio::test]
async fn what_a_worker_prints_belongs_to_the_cell() {
  let kernel = kernel().await;
  let code = "const w = new Worker('data:text/javascript,console.log(\"out\"); console.error(\"err\"); postMessage(1)', { type: 'module' }); \
    await new Promise(r => w.onmessage = r); w.terminate(); 'done'";
  let events = kernel.execute(code).await;
  assert_eq!(
    (events.stdout().as_str(), events.stderr().as_str()),
    ("out\n", "err\n")
  );
  assert_eq!(events.result(), Some("\"done\""));
}

#[tokio::test]
async fn an_error_nobody_handles_in_a_worker_leaves_the_kernel_alive() {
  let kernel = kernel().await;
  let code = "const w = new Worker('data:text/javascript,setTimeout(() => { throw new Error(\"lost\") })', { type: 'module' }); \
    await new Promise(r => setTimeout(r, 500)); 'on'";
  let events = kernel.execute(code).await;
  assert_eq!(events.result(), Some("\"on\""), "{events:?}");
  assert!(events.stderr().contains("lost"), "{events:?}");
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn memory_is_shared_and_atomics_wake_a_worker() {
  let kernel = kernel().await;
  let code = "const shared = new Int32Array(new SharedArrayBuffer(4));
    const w = new Worker('data:text/javascript,onmessage = (e) => { Atomics.wait(e.data, 0, 0); postMessage(Atomics.load(e.data, 0)) }', { type: 'module' });
    const answer = new Promise(r => w.onmessage = (e) => r(e.data)); w.postMessage(shared);
    await new Promise(r => setTimeout(r, 50)); Atomics.store(shared, 0, 7); Atomics.notify(shared, 0);
    const got = await answer; w.terminate(); got";
  assert_eq!(kernel.execute(code).await.result(), Some("7"));
}

#[tokio::test]
async fn a_worker_that_never_ends_goes_with_its_kernel() {
  let kernel = kernel().await;
  kernel
    .execute("new Worker('data:text/javascript,while (true) {}', { type: 'module' }); void 0")
    .await;
  let pid = kernel.pid().await;
  kernel.delete().await;
  crate::support::eventually("the process ends", || async {
    !crate::support::exists(pid)
  })
  .await;
}

#[tokio::test]
async fn a_worker_that_exhausts_the_heap_ends_only_its_kernel() {
  let client = shared_server().client();
  let (hungry, bystander) = (
    client.create(json!({"limits": {"heapMb": 64}})).await,
    client.typescript().await,
  );
  let code = "new Worker('data:text/javascript,const a = []; while (true) a.push(new Array(10000).fill({}))', { type: 'module' }); await new Promise(() => {})";
  let events = hungry.execute(code).await;
  assert_eq!(events.ename(), Some("KernelDied"), "{events:?}");
  assert!(
    events.evalue().contains("out of memory"),
    "{}",
    events.evalue()
  );
  assert_eq!(bystander.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn exit_in_a_worker_ends_the_worker_or_the_kernel_and_nothing_else() {
  let (kernel, bystander) = (kernel().await, kernel().await);
  kernel.submit("new Worker('data:text/javascript,Deno.exit(5)', { type: 'module' }); await new Promise(r => setTimeout(r, 300))").await;
  assert_eq!(bystander.execute("1").await.result(), Some("1"));
  assert_eq!(shared_server().client().get("/health").await.status, 200);
}
