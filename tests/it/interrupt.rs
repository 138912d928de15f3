//! Interrupts: whatever a cell does, it stops, and the kernel's state is kept.

use serde_json::json;

use crate::support::Events;
use crate::support::Kernel;
use crate::support::eventually;
use crate::support::kernel;
use crate::support::keys;

/// Runs code that never ends, interrupts it, and checks that nothing but the cell has ended.
async fn is_interrupted(kernel: &Kernel, endless: &str) {
  kernel
    .execute("globalThis.kept = (globalThis.kept ?? 0) + 1; let scoped = 'kept'")
    .await;
  let before = kernel.execute("kept").await.result().map(str::to_owned);
  let session = kernel
    .submit_running(&format!("console.log('running'); {endless}"))
    .await;
  let done = kernel.interrupt().await.ok();
  assert_eq!(keys(&done), ["message", "success", "timestamp"], "{done}");
  assert_eq!(done["success"], true);
  assert_eq!(done["message"], "Kernel execution interrupted");
  let events = kernel.result(&session).await;
  assert_eq!(events.types(), ["stream", "execute_error"], "{events:?}");
  assert_eq!(events.ename(), Some("KeyboardInterrupt"));
  assert_eq!(events.evalue(), "Execution interrupted by user");
  assert_eq!(
    kernel.execute("kept").await.result().map(str::to_owned),
    before
  );
  assert_eq!(kernel.execute("scoped").await.result(), Some("\"kept\""));
  assert_eq!(
    kernel
      .execute("await new Promise(r => setTimeout(() => r(3), 5))")
      .await
      .result(),
    Some("3")
  );
}

macro_rules! interrupts {
  ($($test:ident: $code:expr;)*) => {$(
    #[tokio::test]
    async fn $test() {
      is_interrupted(&kernel().await, $code).await;
    }
  )*};
}

interrupts! {
  an_endless_loop: "while (true) {}";
  an_endless_loop_that_catches_everything: "while (true) { try { while (true) {} } catch {} finally {} }";
  an_endless_loop_that_prints_to_nowhere: "while (true) { new Array(100).fill(1).map(String).join() }";
  an_endless_loop_after_an_await: "await new Promise(r => setTimeout(r, 1)); while (true) {}";
  an_endless_loop_of_microtasks: "while (true) await null;";
  microtasks_that_call_each_other: "const again = () => { queueMicrotask(again) }; again(); await new Promise(() => {});";
  an_endless_await: "await new Promise(() => {});";
  an_await_of_a_timer: "await new Promise(r => setTimeout(r, 1e8));";
  timers_that_never_stop: "setInterval(() => {}, 1); await new Promise(() => {});";
  a_catastrophic_regular_expression: "/^(a+)+$/.test('a'.repeat(50) + 'b');";
  atomics_wait: "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);";
  an_endless_loop_in_webassembly: "new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,5,1,1,102,0,0,10,9,1,7,0,3,64,12,0,11,11]))).exports.f();";
  an_endless_loop_in_a_getter_of_the_result: "({ get [Symbol.toStringTag]() { while (true) {} } })[Symbol.toStringTag]";
  an_endless_loop_in_a_display_method: "({ [Symbol.for('Jupyter.display')]() { while (true) {} } })";
  an_endless_await_in_a_display_method: "({ async [Symbol.for('Jupyter.display')]() { await new Promise(() => {}) } })";
  an_endless_loop_in_a_custom_inspect: "({ [Symbol.for('Deno.customInspect')]() { while (true) {} } })";
  a_worker_that_never_answers: "const w = new Worker('data:text/javascript,while(true){}', { type: 'module' }); await new Promise(r => w.onmessage = r);";
  deep_recursion_that_goes_on: "const f = (n) => { try { f(n + 1) } catch {} f(n + 1) }; f(0);";
}

#[tokio::test]
async fn a_part_of_deno_that_is_loading_is_whole_afterwards() {
  for module in ["node:http", "node:crypto", "node:stream", "node:http"] {
    let kernel = kernel().await;
    let import = format!("Object.keys(await import('{module}')).length > 10");
    let endless = format!("console.log('running'); await 0; {import}; while (true) {{}}");
    kernel.submit_running(&endless).await;
    kernel.interrupt().await.ok();
    let again = kernel.execute(&import).await;
    assert_eq!(again.result(), Some("true"), "{module}: {again:?}");
    let timer = "await new Promise(r => setTimeout(() => r(3), 5))";
    assert_eq!(kernel.execute(timer).await.result(), Some("3"), "{module}");
  }
}

#[tokio::test]
async fn a_loop_that_sleeps_does_not_go_on_behind_the_users_back() {
  let kernel = kernel().await;
  let code = "globalThis.turns = 0; console.log('running'); \
    while (true) { turns++; await new Promise(r => setTimeout(r, 5)) }";
  kernel.submit_running(code).await;
  kernel.interrupt().await.ok();
  let turns = kernel.execute("turns").await.result().map(str::to_owned);
  let later = kernel
    .execute("await new Promise(r => setTimeout(r, 100)); turns")
    .await;
  assert_eq!(later.result().map(str::to_owned), turns);
}

#[tokio::test]
async fn timers_of_earlier_cells_go_on_after_an_interrupt() {
  let kernel = kernel().await;
  kernel
    .execute("let ticks = 0; const ticker = setInterval(() => ticks++, 1); 0")
    .await;
  kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  kernel.interrupt().await.ok();
  let before = kernel
    .execute("ticks")
    .await
    .result()
    .and_then(|t| t.parse::<u64>().ok());
  let after = kernel
    .execute("await new Promise(r => setTimeout(r, 100)); ticks")
    .await;
  assert!(after.result().and_then(|t| t.parse::<u64>().ok()) > before);
  kernel.execute("clearInterval(ticker)").await;
}

#[tokio::test]
async fn timers_of_the_same_duration_still_fire_after_one_was_interrupted() {
  let kernel = kernel().await;
  for _ in 0..3 {
    let code = "await new Promise(r => setTimeout(r, 1)); console.log('running'); while (true) {}";
    kernel.submit_running(code).await;
    kernel.interrupt().await.ok();
    let timer = kernel
      .execute("await new Promise(r => setTimeout(() => r(3), 1))")
      .await;
    assert_eq!(timer.result(), Some("3"));
  }
}

#[tokio::test]
async fn three_in_a_row_work() {
  let kernel = kernel().await;
  for endless in [
    "while (true) {}",
    "await new Promise(() => {})",
    "while (true) {}",
  ] {
    is_interrupted(&kernel, endless).await;
  }
}

#[tokio::test]
async fn a_loop_in_a_timer_between_cells_is_stopped() {
  let kernel = kernel().await;
  let code = "let kept = 1; setTimeout(() => { console.log('looping'); while (true) {} }); void 0";
  let session = kernel.submit(code).await;
  eventually("the timer loops", || async {
    kernel.result(&session).await.stdout() == "looping\n"
  })
  .await;
  kernel.interrupt().await.ok();
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
}

#[tokio::test]
async fn a_loop_in_a_timer_that_keeps_a_cell_waiting_is_stopped() {
  let kernel = kernel().await;
  let code = "let kept = 1; setTimeout(() => { console.log('looping'); while (true) {} }); void 0";
  let session = kernel.submit(code).await;
  eventually("the timer loops", || async {
    kernel.result(&session).await.stdout() == "looping\n"
  })
  .await;
  let waiting = kernel.submit("'ran'").await;
  let done = kernel.interrupt().await.ok();
  assert!(done.get("restarted").is_none(), "{done}");
  kernel.result(&waiting).await;
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
}

#[tokio::test]
async fn an_idle_kernel_takes_no_harm() {
  let kernel = kernel().await;
  kernel.execute("let kept = 1").await;
  for _ in 0..3 {
    assert_eq!(kernel.interrupt().await.ok()["success"], true);
  }
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
  assert_eq!(
    kernel
      .execute("for (let i = 0; i < 1e6; i++) kept++; kept")
      .await
      .result(),
    Some("1000001")
  );
}

#[tokio::test]
async fn a_prompt_is_stopped() {
  let kernel = kernel().await;
  kernel.execute("let kept = 1").await;
  let mut sse = kernel.sse("prompt('name?')").await;
  sse.until("input_request").await;
  let done = kernel.interrupt().await.ok();
  assert!(done.get("restarted").is_none(), "{done}");
  assert_eq!(
    sse.until("execute_error").await["data"]["ename"],
    "KeyboardInterrupt"
  );
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
}

/// The cell must not take the end of its prompt for an answer, be it the last thing it does or not.
#[tokio::test]
async fn what_follows_a_prompt_that_is_stopped_does_not_run() {
  let kernel = kernel().await;
  for _ in 0..10 {
    for code in [
      "prompt('last')",
      "const a = prompt('a'); const b = prompt('b'); ((x) => x)(a + b)",
    ] {
      let mut sse = kernel.sse(code).await;
      sse.until("input_request").await;
      let done = kernel.interrupt().await.ok();
      assert!(done.get("restarted").is_none(), "{done}");
      let events = Events(sse.rest().await);
      assert_eq!(events.ename(), Some("KeyboardInterrupt"), "{events:?}");
      assert_eq!(events.result(), None, "{events:?}");
    }
  }
}

#[tokio::test]
async fn only_the_running_cell_is_stopped_the_next_one_runs() {
  let kernel = kernel().await;
  let running = kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let next = kernel.submit("'next'").await;
  kernel.interrupt().await.ok();
  assert_eq!(
    kernel.result(&running).await.ename(),
    Some("KeyboardInterrupt")
  );
  assert_eq!(kernel.result(&next).await.result(), Some("\"next\""));
}

#[tokio::test]
async fn interrupts_at_the_same_time_stop_one_cell_once() {
  let kernel = kernel().await;
  let running = kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let answers = futures::future::join_all((0..5).map(|_| kernel.interrupt())).await;
  assert!(answers.iter().all(|a| a.status == 200), "{answers:?}");
  assert_eq!(
    kernel.result(&running).await.types(),
    ["stream", "execute_error"]
  );
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn an_interrupt_never_hits_the_cell_after() {
  let kernel = kernel().await;
  // Cells that end by themselves about when the interrupt comes.
  for i in 0..30 {
    let session = kernel
      .submit(&format!("for (let n = 0; n < {i} * 20_000; n++); 'done'"))
      .await;
    kernel.interrupt().await.ok();
    kernel.result(&session).await;
    let after = kernel
      .execute("let sum = 0; for (let n = 0; n < 1e5; n++) sum += 1; sum")
      .await;
    assert_eq!(after.result(), Some("100000"), "{after:?}");
  }
}

#[tokio::test]
async fn an_abandoned_await_does_not_come_back() {
  let kernel = kernel().await;
  let code = "const waited = new Promise(r => globalThis.resolve = r); console.log('running'); await waited; console.log('back'); 'value'";
  kernel.submit_running(code).await;
  kernel.interrupt().await.ok();
  let events = kernel
    .execute("resolve(); await new Promise(r => setTimeout(r, 50)); 'mine'")
    .await;
  assert_eq!(events.result(), Some("\"mine\""));
  assert_eq!(events.of("execute_result").len(), 1);
}

#[tokio::test]
async fn an_interrupt_is_announced() {
  let kernel = kernel().await;
  let mut events = kernel.client.events().await;
  let session = kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  kernel.interrupt().await.ok();
  loop {
    let event = events.until("execution_interrupted").await;
    if event["kernelId"] == kernel.id.as_str() {
      assert_eq!(
        event["data"],
        json!({"executionId": format!("exec-{session}")})
      );
      break;
    }
  }
}
