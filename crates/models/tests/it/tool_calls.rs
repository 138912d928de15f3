//! Tool calls, in the ways that servers send them.

use models::ChatDelta;
use models::Fault;
use models::FinishReason;
use models::ModelError;
use models::ToolCall;
use serde_json::Value;
use serde_json::json;

use crate::deltas;
use crate::failure;
use crate::finish;
use crate::limits;
use crate::read;
use crate::server::Server;
use crate::server::events;
use crate::server::status;
use crate::server::stream;

fn event(tool_calls: Value) -> String {
  let mut event = json!({"choices": [{"delta": {}}]});
  event["choices"][0]["delta"]["tool_calls"] = tool_calls;
  event.to_string()
}

fn stop() -> String {
  json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}).to_string()
}

fn calls(deltas: &[ChatDelta]) -> Vec<ToolCall> {
  let call = |delta: &ChatDelta| match delta {
    ChatDelta::ToolCall(call) => Some(call.clone()),
    _ => None,
  };
  deltas.iter().filter_map(call).collect()
}

/// Names and arguments of the calls in these events.
async fn called(data: Vec<String>) -> Vec<(String, String)> {
  let sent = events(data.iter().chain([&stop()]));
  let deltas = deltas(move || stream(&sent)).await;
  assert_eq!(finish(&deltas), &FinishReason::ToolCalls);
  let calls = calls(&deltas).into_iter();
  calls
    .map(|call| {
      assert!(!call.id.is_empty());
      (call.function.name, call.function.arguments)
    })
    .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
  let owned = |(name, arguments): &(&str, &str)| ((*name).to_owned(), (*arguments).to_owned());
  pairs.iter().map(owned).collect()
}

#[tokio::test]
async fn calls_in_pieces_are_shown_as_they_come_and_whole_at_the_end() {
  let sent = events([
    event(
      json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "run", "arguments": ""}}]),
    ),
    event(json!([{"index": 0, "function": {"arguments": "{\"x\":"}}])),
    event(json!([{"index": 1, "id": "b", "function": {"name": "look", "arguments": "{}"}}])),
    event(json!([{"index": 0, "function": {"arguments": "1}"}}])),
    stop(),
  ]);
  let deltas = deltas(move || stream(&sent)).await;
  let parts: Vec<_> = deltas
    .iter()
    .filter_map(|delta| match delta {
      ChatDelta::ToolCallPart {
        call,
        name,
        arguments,
      } => Some((*call, name.as_str(), arguments.as_str())),
      _ => None,
    })
    .collect();
  assert_eq!(
    parts,
    [
      (0, "run", ""),
      (0, "", "{\"x\":"),
      (1, "look", "{}"),
      (0, "", "1}")
    ]
  );
  let calls = calls(&deltas);
  assert_eq!(
    serde_json::to_value(&calls).expect("writes"),
    json!([
      {"id": "a", "type": "function", "function": {"name": "run", "arguments": "{\"x\":1}"}},
      {"id": "b", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ])
  );
  assert_eq!(deltas.len(), parts.len() + calls.len() + 1);
}

#[tokio::test]
async fn calls_without_index_or_id_are_told_apart() {
  let whole = |name: &str, arguments: &str| {
    event(json!([{"function": {"name": name, "arguments": arguments}}]))
  };
  assert_eq!(
    called(vec![
      whole("run", "{\"x\":1}"),
      whole("run", "{\"x\":2}"),
      whole("look", "")
    ])
    .await,
    pairs(&[("run", "{\"x\":1}"), ("run", "{\"x\":2}"), ("look", "{}")])
  );
  let together = event(json!([
    {"index": 0, "id": "a", "function": {"name": "run", "arguments": "{}"}},
    {"index": 0, "id": "b", "function": {"name": "run", "arguments": "{\"x\":1}"}},
  ]));
  assert_eq!(
    called(vec![together]).await,
    pairs(&[("run", "{}"), ("run", "{\"x\":1}")])
  );
  let pieces = vec![
    event(json!([{"id": "a", "function": {"name": "run"}}])),
    event(json!([{"function": {"arguments": "{\"x\":"}}])),
    event(json!([{"id": "a", "function": {"arguments": "1}"}}])),
  ];
  assert_eq!(called(pieces).await, pairs(&[("run", "{\"x\":1}")]));
}

#[tokio::test]
async fn arguments_may_be_json_itself_and_members_null() {
  let odd = vec![
    event(json!(null)),
    event(json!([])),
    event(
      json!([{"index": 0, "id": null, "function": {"name": "run", "arguments": {"x": [1, null]}}}]),
    ),
    event(json!([{"index": 0, "function": null}])),
    event(json!({"index": 1, "id": 7, "function": {"name": "look", "arguments": null}})),
  ];
  assert_eq!(
    called(odd).await,
    pairs(&[("run", "{\"x\":[1,null]}"), ("look", "{}")])
  );
}

#[tokio::test]
async fn the_older_function_call_is_a_tool_call() {
  let piece = |call: Value| json!({"choices": [{"delta": {"function_call": call}}]}).to_string();
  let pieces = vec![
    piece(json!({"name": "run", "arguments": ""})),
    piece(json!({"arguments": "{\"x\":"})),
    piece(json!({"arguments": "1}"})),
  ];
  assert_eq!(called(pieces).await, pairs(&[("run", "{\"x\":1}")]));
}

#[tokio::test]
async fn calls_of_a_whole_answer_are_read() {
  let body = json!({"choices": [{"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": [
    {"id": "a", "type": "function", "function": {"name": "run", "arguments": "{}"}},
    {"id": "b", "type": "function", "function": {"name": "run", "arguments": "{}"}},
  ]}}]});
  let body = body.to_string();
  let deltas = deltas(move || status("200 OK", "", &body)).await;
  let ids: Vec<_> = calls(&deltas).into_iter().map(|call| call.id).collect();
  assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn arguments_that_are_no_json_are_delivered_as_they_are() {
  let cut =
    event(json!([{"index": 0, "id": "a", "function": {"name": "run", "arguments": "{\"x\":"}}]));
  assert_eq!(called(vec![cut]).await, pairs(&[("run", "{\"x\":")]));
}

#[tokio::test]
async fn a_call_without_a_name_is_an_error() {
  let nameless = event(json!([{"index": 0, "id": "a", "function": {"arguments": "{}"}}]));
  let sent = events([nameless, stop()]);
  let (_, error) = failure(move || stream(&sent)).await;
  assert!(
    error.to_string().contains("a tool call has no name"),
    "{error}"
  );
}

fn many(count: usize) -> String {
  let one = |index: usize| {
    event(
      json!([{"index": index, "id": format!("c{index}"), "function": {"name": "run", "arguments": "{}"}}]),
    )
  };
  events((0..count).map(one).chain([stop()]))
}

#[tokio::test]
async fn two_hundred_calls_are_delivered_and_more_than_the_limit_refused() {
  let sent = many(200);
  let delivered = calls(&deltas(move || stream(&sent)).await);
  assert_eq!(delivered.len(), 200);
  assert_eq!(delivered[199].id, "c199");
  let sent = many(257);
  let (_, error) = failure(move || stream(&sent)).await;
  let message = error.to_string();
  assert!(message.contains("more than 256 tool calls"), "{message}");
  let crowd = event((0..2000).map(|_| json!({})).collect());
  let (_, error) = failure(move || stream(events([&crowd]))).await;
  assert!(
    error.to_string().contains("more than 1024 entries"),
    "{error}"
  );
}

#[tokio::test]
async fn arguments_that_never_end_are_cut_off() {
  let begin =
    event(json!([{"index": 0, "id": "a", "function": {"name": "run", "arguments": "\""}}]));
  let more = event(json!([{"index": 0, "function": {"arguments": "x".repeat(1000)}}]));
  let sent = events(std::iter::once(&begin).chain(std::iter::repeat_n(&more, 200)));
  let server = Server::always(move || stream(&sent)).await;
  let mut limits = limits();
  limits.argument_bytes = 100_000;
  let (_, error) = read(&server.url(), &limits).await;
  let Some(ModelError::Broken { fault, .. }) = error else {
    panic!("{error:?}");
  };
  let expected = Fault::TooLong {
    what: "bytes of tool calls",
    limit: 100_000,
  };
  assert_eq!(fault, expected);
}
