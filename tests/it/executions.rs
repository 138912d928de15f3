//! Cells that are submitted together: their queue, their histories, kernels beside each other.

use serde_json::json;

use crate::support::kernel;
use crate::support::keys;

#[tokio::test]
async fn cells_of_one_kernel_run_in_the_order_they_came() {
  let kernel = kernel().await;
  kernel.execute("globalThis.order = []").await;
  let mut sessions = Vec::new();
  for i in 0..20 {
    // The earlier ones take longer: run together, they would overtake each other.
    let wait = 20 - i;
    sessions.push(
      kernel
        .submit(&format!(
          "await new Promise(r => setTimeout(r, {wait})); order.push({i}); console.log({i}); {i}"
        ))
        .await,
    );
  }
  for (i, session) in sessions.iter().enumerate() {
    let events = kernel.result(session).await;
    assert_eq!(
      (events.stdout(), events.result()),
      (format!("{i}\n"), Some(i.to_string().as_str()))
    );
    assert_eq!(events.execution_id(), format!("exec-{session}"));
  }
  let order = kernel.execute("order.join()").await;
  let expected: Vec<String> = (0..20).map(|i| i.to_string()).collect();
  assert_eq!(
    order.result(),
    Some(format!("\"{}\"", expected.join(",")).as_str())
  );
}

#[tokio::test]
async fn an_async_cell_ends_before_the_next_begins() {
  let kernel = kernel().await;
  let first = kernel
    .submit(
      "globalThis.at = []; at.push('a'); await new Promise(r => setTimeout(r, 100)); at.push('b')",
    )
    .await;
  let second = kernel.submit("at.push('c'); at.join('')").await;
  assert_eq!(kernel.result(&second).await.result(), Some("\"abc\""));
  assert_eq!(kernel.result(&first).await.error(), None);
}

#[tokio::test]
async fn an_error_ends_only_its_own_cell() {
  let kernel = kernel().await;
  let (first, second, third) = (
    kernel
      .submit("console.log('one'); throw new Error('first')")
      .await,
    kernel.submit("'second'").await,
    kernel.submit("throw new Error('third')").await,
  );
  assert_eq!(
    kernel.result(&first).await.types(),
    ["stream", "execute_error"]
  );
  assert_eq!(kernel.result(&second).await.types(), ["execute_result"]);
  assert_eq!(kernel.result(&third).await.evalue(), "third");
}

#[tokio::test]
async fn cells_that_wait_are_counted() {
  let kernel = kernel().await;
  let running = kernel
    .submit_running("console.log('running'); await new Promise(() => {})")
    .await;
  let waiting = kernel.submit("1").await;
  let executions = kernel.info().await["executions"].clone();
  assert_eq!(executions["count"], 2);
  assert_eq!(
    executions["executionIds"],
    json!([format!("exec-{running}"), format!("exec-{waiting}")])
  );
  kernel.interrupt().await.ok();
  assert_eq!(kernel.result(&waiting).await.result(), Some("1"));
}

#[tokio::test]
async fn kernels_beside_each_other_do_not_mix() {
  let (one, other) = (kernel().await, kernel().await);
  let code = |name: &str| {
    format!(
      "for (let i = 0; i < 200; i++) {{ console.log('{name}'); if (i % 20 == 0) await new Promise(r => setTimeout(r, 1)) }} '{name}'"
    )
  };
  let (code_one, code_other) = (code("one"), code("other"));
  let (first, second) = tokio::join!(one.execute(&code_one), other.execute(&code_other));
  assert_eq!(first.stdout(), "one\n".repeat(200));
  assert_eq!(second.stdout(), "other\n".repeat(200));
  assert_ne!(first.execution_id(), second.execution_id());
}

#[tokio::test]
async fn many_clients_of_one_kernel_each_get_their_own_answer() {
  let kernel = kernel().await;
  let codes: Vec<String> = (0..30)
    .map(|i| format!("console.log('out {i}'); {i} * 2"))
    .collect();
  let answers = futures::future::join_all(codes.iter().map(|code| kernel.execute(code))).await;
  for (i, events) in answers.iter().enumerate() {
    assert_eq!(events.stdout(), format!("out {i}\n"));
    assert_eq!(events.result(), Some((i * 2).to_string().as_str()));
  }
}

#[tokio::test]
async fn the_queue_has_an_end() {
  let kernel = kernel().await;
  kernel
    .submit_running("console.log('running'); await new Promise(() => {})")
    .await;
  for _ in 0..1000 {
    kernel.submit("1").await;
  }
  kernel
    .post("/execute/submit", &json!({"code": "1"}))
    .await
    .refused(429, &["1000"]);
}

#[tokio::test]
async fn history_holds_what_ran() {
  let kernel = kernel().await;
  let first = kernel.submit("console.log('a'); 1").await;
  let second = kernel.submit("throw new Error('b')").await;
  let (events_first, events_second) = (kernel.result(&first).await, kernel.result(&second).await);
  let history = kernel.info().await["history"].clone();
  assert_eq!(
    history,
    json!([
      {"id": first, "script": "console.log('a'); 1", "outputs": events_first.0},
      {"id": second, "script": "throw new Error('b')", "outputs": events_second.0},
    ])
  );
}

#[tokio::test]
async fn history_holds_no_cell_that_still_runs() {
  let kernel = kernel().await;
  kernel.execute("1").await;
  kernel
    .submit_running("console.log('running'); await new Promise(() => {})")
    .await;
  let history = kernel.info().await["history"].clone();
  assert_eq!(history.as_array().map(Vec::len), Some(1));
  assert_eq!(keys(&history[0]), ["id", "outputs", "script"]);
}

#[tokio::test]
async fn history_is_bounded() {
  let kernel = kernel().await;
  let mut last = String::new();
  for i in 0..520 {
    last = kernel.submit(&format!("{i}")).await;
  }
  kernel.result(&last).await;
  let history = kernel.info().await["history"].clone();
  let scripts: Vec<&str> = history
    .as_array()
    .expect("a list")
    .iter()
    .filter_map(|e| e["script"].as_str())
    .collect();
  assert!((400..=520).contains(&scripts.len()), "{}", scripts.len());
  assert_eq!(scripts.last(), Some(&"519"), "the newest is kept");
}

#[tokio::test]
async fn a_restart_clears_history_and_sessions() {
  let kernel = kernel().await;
  let session = kernel.submit("1").await;
  kernel.result(&session).await;
  kernel.restart().await.ok();
  assert_eq!(kernel.info().await["history"], json!([]));
  for route in ["result", "stream"] {
    let path = kernel.path(&format!("/execute/{route}/{session}"));
    kernel
      .client
      .get(&path)
      .await
      .refused(404, &["Session not found"]);
  }
}

#[tokio::test]
async fn output_between_cells_belongs_to_the_cell_before() {
  let kernel = kernel().await;
  let session = kernel
    .submit("setTimeout(() => console.log('later'), 50); console.log('now')")
    .await;
  kernel.result(&session).await;
  crate::support::eventually("the later output is in the log", || async {
    kernel.result(&session).await.stdout() == "now\nlater\n"
  })
  .await;
}
