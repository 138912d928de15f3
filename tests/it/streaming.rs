//! How the events of an execution reach readers: newline-delimited JSON, server-sent events, the
//! result; any number of readers, early or late.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::Events;
use crate::support::SseBlock;
use crate::support::kernel;

/// Prints five numbers with pauses between, so that readers see it live.
const COUNT: &str =
  "for (let i = 0; i < 5; i++) { console.log(i); await new Promise(r => setTimeout(r, 30)) }";

fn numbers(events: &[Value]) -> Vec<&str> {
  events
    .iter()
    .filter_map(|e| e["data"]["text"].as_str())
    .map(str::trim)
    .collect()
}

#[tokio::test]
async fn ndjson_is_framed_by_a_start_and_an_end() {
  let kernel = kernel().await;
  let lines = kernel.stream("console.log('a'); 5 + 3").await.rest().await;
  let id = lines[1]["executionId"].clone();
  assert!(
    id.as_str().is_some_and(|id| id.starts_with("exec-")),
    "{id}"
  );
  assert_eq!(
    lines,
    [
      json!({"type": "stream_start", "data": {"message": "Execution started"}}),
      json!({"type": "stream", "data": {"name": "stdout", "text": "a\n"}, "executionId": id}),
      json!({
        "type": "execute_result",
        "data": {"execution_count": 1, "data": {"text/plain": "8"}, "metadata": {}},
        "executionId": id
      }),
      json!({"type": "stream_complete", "data": {"message": "Execution completed", "outputCount": 2}}),
    ]
  );
}

#[tokio::test]
async fn an_error_of_the_user_is_an_ordinary_event() {
  let kernel = kernel().await;
  let events = kernel.execute("throw new TypeError('t')").await;
  assert_eq!(events.types(), ["execute_error"]);
  let error = events.error().expect("an error");
  assert_eq!(
    crate::support::keys(error),
    ["ename", "evalue", "traceback"]
  );
  assert!(error["traceback"].is_array());
}

#[tokio::test]
async fn ndjson_has_its_content_type() {
  let kernel = kernel().await;
  let answer = kernel.post("/execute", &json!({"code": "1"})).await;
  assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
}

#[tokio::test]
async fn ndjson_arrives_while_the_cell_runs() {
  let kernel = kernel().await;
  let mut lines = kernel
    .stream("console.log('first'); await new Promise(() => {})")
    .await;
  assert_eq!(lines.next().await.expect("a start")["type"], "stream_start");
  assert_eq!(
    lines.next().await.expect("a line")["data"]["text"],
    "first\n"
  );
  kernel.interrupt().await.ok();
  assert_eq!(
    lines.next().await.expect("an error")["type"],
    "execute_error"
  );
}

#[tokio::test]
async fn events_have_their_data_and_then_their_position() {
  let kernel = kernel().await;
  let mut sse = kernel.sse("console.log('a'); console.log('b'); 1").await;
  let mut blocks = Vec::new();
  while let Some(block) = sse.block().await {
    if !matches!(block, SseBlock::Comment(_)) {
      blocks.push(block);
    }
  }
  assert_eq!(blocks.len(), 6);
  for (position, pair) in blocks.chunks(2).enumerate() {
    assert!(matches!(&pair[0], SseBlock::Data(event) if event["executionId"].is_string()));
    assert_eq!(pair[1], SseBlock::Id(position as u64));
  }
}

#[tokio::test]
async fn server_sent_events_have_their_headers() {
  let kernel = kernel().await;
  let sse = kernel.sse("1").await;
  assert_eq!(sse.header("content-type"), Some("text/event-stream"));
  assert_eq!(sse.header("cache-control"), Some("no-cache"));
  uuid::Uuid::parse_str(&sse.session()).expect("the session is a UUID");
}

#[tokio::test]
async fn the_session_of_a_stream_can_be_asked_for_its_result() {
  let kernel = kernel().await;
  let sse = kernel.sse("1 + 1").await;
  let session = sse.session();
  let streamed = Events(sse.rest().await);
  assert_eq!(streamed.execution_id(), format!("exec-{session}"));
  assert_eq!(kernel.result(&session).await, streamed);
}

#[tokio::test]
async fn the_result_waits_for_the_end_and_is_an_array() {
  let kernel = kernel().await;
  let session = kernel.submit(COUNT).await;
  let answer = kernel
    .client
    .get(&kernel.path(&format!("/execute/result/{session}")))
    .await;
  assert_eq!(answer.header("content-type"), Some("application/json"));
  assert_eq!(
    numbers(answer.ok().as_array().expect("an array")),
    ["0", "1", "2", "3", "4"]
  );
}

#[tokio::test]
async fn the_result_of_a_cell_that_says_nothing_is_an_empty_array() {
  let kernel = kernel().await;
  let session = kernel.submit("let quiet = 1").await;
  assert_eq!(kernel.result(&session).await, Events(Vec::new()));
}

#[tokio::test]
async fn readers_of_one_execution_see_the_same() {
  let kernel = kernel().await;
  let starter = kernel.sse(COUNT).await;
  let session = starter.session();
  let other = kernel.follow(&session, None).await;
  let (one, two, result) = tokio::join!(starter.rest(), other.rest(), kernel.result(&session));
  assert_eq!(numbers(&one), ["0", "1", "2", "3", "4"]);
  assert_eq!(one, two);
  assert_eq!(one, *result);
}

#[tokio::test]
async fn a_late_reader_replays_everything() {
  let kernel = kernel().await;
  let session = kernel.submit(COUNT).await;
  let result = kernel.result(&session).await;
  for _ in 0..2 {
    let late = kernel.follow(&session, None).await;
    assert_eq!(late.session(), session);
    assert_eq!(late.rest().await, *result);
  }
}

#[tokio::test]
async fn a_reader_resumes_after_the_last_event_it_saw() {
  let kernel = kernel().await;
  let session = kernel.submit(COUNT).await;
  let all = kernel.result(&session).await;
  for last in 0..all.len() {
    let resumed = kernel.follow(&session, Some(last as u64)).await;
    assert_eq!(resumed.rest().await, all[last + 1..], "after {last}");
  }
}

#[tokio::test]
async fn a_resumed_stream_counts_on() {
  let kernel = kernel().await;
  let session = kernel.submit(COUNT).await;
  let mut resumed = kernel.follow(&session, Some(2)).await;
  let mut ids = Vec::new();
  while let Some(block) = resumed.block().await {
    if let SseBlock::Id(id) = block {
      ids.push(id);
    }
  }
  assert_eq!(ids, [3, 4]);
}

#[tokio::test]
async fn a_reader_resumes_while_the_cell_runs() {
  let kernel = kernel().await;
  let mut first = kernel.sse(COUNT).await;
  let session = first.session();
  let mut seen = vec![first.event().await.expect("an event")];
  drop(first);
  let resumed = kernel.follow(&session, Some(0)).await;
  seen.extend(resumed.rest().await);
  assert_eq!(numbers(&seen), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_position_past_the_end_is_an_empty_stream() {
  let kernel = kernel().await;
  let session = kernel.submit("1").await;
  kernel.result(&session).await;
  for last in [0, 5, u64::MAX / 2] {
    assert_eq!(
      kernel.follow(&session, Some(last)).await.rest().await,
      Vec::<Value>::new()
    );
  }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_cell() {
  let kernel = kernel().await;
  let mut sse = kernel
    .sse("console.log('started'); await new Promise(r => setTimeout(r, 300)); globalThis.end = 1; 'end'")
    .await;
  let session = sse.session();
  sse.until("stream").await;
  drop(sse);
  let result = kernel.result(&session).await;
  assert_eq!(
    (result.stdout().as_str(), result.result()),
    ("started\n", Some("\"end\""))
  );
  assert_eq!(kernel.execute("end").await.result(), Some("1"));
}

#[tokio::test]
async fn a_client_of_ndjson_that_leaves_does_not_end_the_cell() {
  let kernel = kernel().await;
  let mut lines = kernel
    .stream("console.log('a'); await new Promise(r => setTimeout(r, 300)); globalThis.end = 1")
    .await;
  lines.next().await;
  lines.next().await;
  drop(lines);
  assert_eq!(kernel.execute("end").await.result(), Some("1"));
}

#[tokio::test]
async fn a_session_belongs_to_its_kernel() {
  let (mine, other) = (kernel().await, kernel().await);
  let session = mine.submit("1").await;
  for route in ["result", "stream"] {
    let path = other.path(&format!("/execute/{route}/{session}"));
    other
      .client
      .get(&path)
      .await
      .refused(404, &["Session not found"]);
  }
}

#[tokio::test]
async fn the_events_route_also_takes_the_id_that_events_carry() {
  let kernel = kernel().await;
  let session = kernel.submit("7").await;
  assert_eq!(
    kernel.result(&format!("exec-{session}")).await.result(),
    Some("7")
  );
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
  let kernel = kernel().await;
  let mut sse = kernel
    .sse("await new Promise(r => setTimeout(r, 17_000))")
    .await;
  let mut comments = Vec::new();
  while let Some(block) = sse.block().await {
    match block {
      SseBlock::Comment(text) => comments.push(text),
      other => panic!("{other:?}"),
    }
  }
  assert_eq!(
    comments.len(),
    2,
    "one when it opens and one in between: {comments:?}"
  );
}

#[tokio::test]
async fn a_stream_that_is_open_when_its_kernel_is_deleted_ends_normally() {
  let kernel = kernel().await;
  let mut sse = kernel.sse("console.log('running'); while (true) {}").await;
  let mut lines = kernel.stream("'never'").await;
  sse.until("stream").await;
  assert_eq!(kernel.delete().await.status, 200);
  assert_eq!(sse.rest().await, Vec::<Value>::new());
  assert_eq!(lines.next().await.expect("a start")["type"], "stream_start");
  assert_eq!(
    lines.next().await.expect("an end")["type"],
    "stream_complete"
  );
  assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn what_waits_for_a_result_when_the_kernel_is_deleted_is_answered() {
  let kernel = kernel().await;
  let session = kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let (result, _) = tokio::join!(kernel.result(&session), async {
    tokio::time::sleep(Duration::from_millis(100)).await;
    kernel.delete().await
  });
  assert_eq!(result.types(), ["stream"]);
}
