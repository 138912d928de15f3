//! What servers stream, and how it is read.

use models::ChatDelta;
use models::FinishReason;
use models::Usage;
use serde_json::json;

use crate::KEY;
use crate::complete;
use crate::deltas;
use crate::failure;
use crate::finish;
use crate::limits;
use crate::said;
use crate::server::STOP;
use crate::server::Server;
use crate::server::Step;
use crate::server::chunk;
use crate::server::events;
use crate::server::head;
use crate::server::hello;
use crate::server::status;
use crate::server::stream;
use crate::server::text;
use crate::server::unframed;
use crate::thought;

#[tokio::test]
async fn a_stream_is_delivered_piece_by_piece_and_ends() {
  let deltas = deltas(hello).await;
  assert_eq!(
    deltas,
    [
      ChatDelta::Text("Hel".to_owned()),
      ChatDelta::Text("lo".to_owned()),
      ChatDelta::Finished(FinishReason::Stop),
    ]
  );
}

#[tokio::test]
async fn the_request_is_a_chat_completion_with_the_key() {
  let server = Server::always(hello).await;
  let completion = complete(&server, &limits()).await.expect("an answer");
  assert_eq!(completion.text, "Hello");
  let request = server.requests().remove(0);
  let start = "post /v1/chat/completions http/1.1\r\n";
  assert!(request.head.starts_with(start), "{}", request.head);
  let key = format!("authorization: bearer {KEY}");
  assert!(request.head.contains(&key), "{}", request.head);
  assert!(
    !request.head.contains("accept-encoding"),
    "{}",
    request.head
  );
  assert_eq!(
    request.body,
    json!({"model": "m", "messages": [{"role": "user", "content": "Say hello"}], "stream": true})
  );
}

#[tokio::test]
async fn events_are_read_in_every_form_that_the_standard_has() {
  let plain = events([&text("Hel"), &text("lo"), STOP, "[DONE]"]);
  let two_lines = text("lo").replace("\"choices\"", "\ndata: \"choices\"");
  let forms = [
    plain.replace('\n', "\r\n"),
    plain.replace('\n', "\r"),
    format!("\u{feff}{plain}"),
    format!("\n\r\n{plain}"),
    format!(": OPENROUTER PROCESSING\n\n:\n{plain}"),
    plain.replace("data: ", "data:"),
    plain.replace("data: ", "event: message\nid: 7\nretry: 10\ndata: "),
    plain.replace("data: [DONE]", "data:  [DONE] "),
    plain.replace("data: [DONE]\n\n", ""),
    plain.replace("data: [DONE]\n\n", "data: [DONE]"),
    plain.replace("data: [DONE]\n\n", "data:\n\n: bye\n\n"),
    plain.replace(&text("lo"), &two_lines),
    format!("event: ping\ndata: {{\"type\": \"ping\"}}\n\ndata: null\n\n{plain}"),
    format!("{plain}data: {}\n\ndata: no JSON\n\n", text("more")),
  ];
  for form in forms {
    let sent = form.clone();
    let deltas = deltas(move || stream(&sent)).await;
    assert_eq!(said(&deltas), "Hello", "{form}");
    assert_eq!(finish(&deltas), &FinishReason::Stop, "{form}");
  }
}

#[tokio::test]
async fn members_that_are_null_missing_or_of_another_kind_are_no_trouble() {
  for (data, expected) in [
    (r#"{"choices": null}"#, ""),
    (r#"{"choices": []}"#, ""),
    (r#"{"id": "a", "object": "chat.completion.chunk"}"#, ""),
    (r#"{"choices": [{"delta": null}]}"#, ""),
    (r#"{"choices": [{"index": 0}]}"#, ""),
    (
      r#"{"choices": [{"delta": {"content": null, "role": "assistant"}}]}"#,
      "",
    ),
    (
      r#"{"choices": [{"delta": {"content": ""}}], "error": null}"#,
      "",
    ),
    (
      r#"{"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{}]}}]}"#,
      "a",
    ),
    (
      r#"{"choices": [{"delta": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}"#,
      "ab",
    ),
    (r#"{"choices": {"delta": {"content": "a"}}}"#, "a"),
    (r#"{"choices": [{"text": "a"}]}"#, "a"),
    (r#"{"choices": [{"delta": {"refusal": "No."}}]}"#, "No."),
    (
      r#"{"choices": [{"delta": {"content": "\u00e4\ud83d\ude00"}}]}"#,
      "ä😀",
    ),
    (
      r#"{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}"#,
      "a",
    ),
  ] {
    let sent = events([data, STOP]);
    let deltas = deltas(move || stream(&sent)).await;
    assert_eq!(said(&deltas), expected, "{data}");
    assert_eq!(finish(&deltas), &FinishReason::Stop, "{data}");
  }
}

#[tokio::test]
async fn reasoning_is_kept_apart_whatever_it_is_called() {
  for data in [
    r#"{"choices": [{"delta": {"reasoning": "hm"}}]}"#,
    r#"{"choices": [{"delta": {"reasoning_content": "hm", "content": null}}]}"#,
    r#"{"choices": [{"delta": {"thinking": "hm", "content": ""}}]}"#,
    r#"{"choices": [{"delta": {"reasoning": "hm", "reasoning_content": "hm"}}]}"#,
    r#"{"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}}]}"#,
  ] {
    let sent = events([data, &text("a"), STOP]);
    let deltas = deltas(move || stream(&sent)).await;
    assert_eq!(thought(&deltas), "hm", "{data}");
    assert_eq!(said(&deltas), "a", "{data}");
  }
}

#[tokio::test]
async fn usage_comes_once_and_before_the_end() {
  let counted =
    r#"{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}"#;
  let early = r#"{"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}"#;
  let sent = events([early, STOP, counted, "[DONE]"]);
  let deltas = deltas(move || stream(&sent)).await;
  let usage = Usage {
    prompt: 7,
    completion: 3,
  };
  assert_eq!(
    deltas,
    [
      ChatDelta::Text("a".to_owned()),
      ChatDelta::Usage(usage),
      ChatDelta::Finished(FinishReason::Stop),
    ]
  );
}

#[tokio::test]
async fn the_reason_for_stopping_is_told() {
  for (reason, expected) in [
    ("length", FinishReason::Length),
    ("tool_calls", FinishReason::ToolCalls),
    ("function_call", FinishReason::ToolCalls),
    ("content_filter", FinishReason::ContentFilter),
    ("bored", FinishReason::Other("bored".to_owned())),
  ] {
    let stop = STOP.replace("stop", reason);
    let deltas = deltas(move || stream(events([&text("a"), &stop]))).await;
    assert_eq!(finish(&deltas), &expected);
  }
  let deltas = deltas(|| stream(events([&text("a")]))).await;
  assert_eq!(finish(&deltas), &FinishReason::Unstated);
}

#[tokio::test]
async fn a_whole_answer_in_place_of_a_stream_is_read() {
  let whole = json!({
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {
      "role": "assistant", "content": "Hello", "reasoning_content": "hm",
    }}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
  });
  for body in [
    whole.to_string(),
    format!("\u{feff}\n {whole:#}\n"),
    events([whole.to_string()]),
  ] {
    let sent = body.clone();
    let deltas = deltas(move || status("200 OK", "", &sent)).await;
    assert_eq!(said(&deltas), "Hello", "{body}");
    assert_eq!(thought(&deltas), "hm", "{body}");
    assert_eq!(deltas.len(), 4, "{body}");
  }
}

#[tokio::test]
async fn a_message_that_is_repeated_at_the_end_is_not_delivered_twice() {
  let last =
    r#"{"choices": [{"delta": {}, "message": {"content": "a"}, "finish_reason": "stop"}]}"#;
  let deltas = deltas(move || stream(events([text("a"), last.to_owned()]))).await;
  assert_eq!(said(&deltas), "a");
}

#[tokio::test]
async fn a_stream_that_never_closes_ends_soon_after_the_model_stopped() {
  let open = || vec![head(), chunk(events([&text("Hello"), STOP])), Step::Hang];
  let begun = std::time::Instant::now();
  let deltas = deltas(open).await;
  assert_eq!(said(&deltas), "Hello");
  assert_eq!(finish(&deltas), &FinishReason::Stop);
  assert!(begun.elapsed() < limits().between_tokens);
}

#[tokio::test]
async fn a_connection_that_ends_after_the_model_stopped_cuts_nothing() {
  for body in [
    events([&text("Hello"), STOP]),
    events([&text("Hello"), "[DONE]"]),
  ] {
    let deltas = deltas(move || unframed(&body)).await;
    assert_eq!(said(&deltas), "Hello");
  }
  let cut = || vec![head(), chunk(events([&text("Hello"), STOP]))];
  assert_eq!(said(&deltas(cut).await), "Hello");
}

#[tokio::test]
async fn a_cut_is_reported_after_the_text_so_far() {
  let unfinished = &text("lost")[..20];
  let cuts: Vec<Box<dyn Fn() -> Vec<Step> + Send + Sync>> = vec![
    // Between two chunks, inside a chunk, inside an event.
    Box::new(|| vec![head(), chunk(events([text("Hel")]))]),
    Box::new(|| {
      vec![
        head(),
        chunk(events([text("Hel")])),
        Step::Send(b"ff\r\ndata: {\"choi".to_vec()),
      ]
    }),
    Box::new({
      let body = events([text("Hel")]) + "data: " + unfinished;
      move || stream(&body)
    }),
    Box::new(|| unframed(&events([text("Hel")]))),
    Box::new({
      let body = events([text("Hel")]);
      move || {
        vec![Step::Send(
          format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{body}").into_bytes(),
        )]
      }
    }),
  ];
  for (number, cut) in cuts.into_iter().enumerate() {
    let (said, error) = failure(cut).await;
    assert_eq!(said, "Hel", "{number}");
    let message = error.to_string();
    assert!(
      message.starts_with("Error processing response: http://127.0.0.1:")
        && message.contains("the answer was cut short"),
      "{number}: {message}"
    );
  }
}

#[tokio::test]
async fn json_that_is_none_in_the_middle_is_an_error_after_the_text_so_far() {
  for wrong in ["{\"choices\": [", "no JSON", "\"text\"", "{\"choices\": 7}"] {
    let sent = events([&text("Hel"), wrong, &text("lo"), STOP]);
    let (said, error) = failure(move || stream(&sent)).await;
    assert_eq!(said, "Hel", "{wrong}");
    let message = error.to_string();
    assert!(
      message.starts_with("Error processing response: ")
        && message.contains("an event cannot be read"),
      "{message}"
    );
  }
}

#[tokio::test]
async fn an_error_inside_a_stream_is_told_after_the_text_so_far() {
  for wrong in [
    r#"data: {"error": {"message": "out of memory", "code": "boom"}}"#,
    r#"data: {"error": "out of memory"}"#,
    r#"data: {"choices": [{"delta": {}, "error": {"message": "out of memory", "code": 502}}]}"#,
    r#"data: {"object": "error", "message": "out of memory", "code": 500}"#,
    "event: error\ndata: out of memory",
    "event: error\ndata: {\"error\": {\"message\": \"out of memory\"}}",
    "event: error\ndata: {\"message\": \"out of memory\"}",
  ] {
    let sent = events([&text("Hel")]) + wrong + "\n\n" + &events([&text("lo")]);
    let (said, error) = failure(move || stream(&sent)).await;
    assert_eq!(said, "Hel", "{wrong}");
    let message = error.to_string();
    assert!(
      message.starts_with("Error processing response: ") && message.contains(": out of memory"),
      "{message}"
    );
  }
}

#[tokio::test]
async fn an_error_in_place_of_an_answer_is_one_of_the_api() {
  for body in [
    r#"{"error": {"message": "no room"}}"#.to_owned(),
    r#"{"error": "no room"}"#.to_owned(),
    r#"[{"error": {"message": "no room"}}]"#.to_owned(),
    r#"{"detail": "no room"}"#.to_owned(),
    events([r#"{"error": {"message": "no room"}}"#]),
  ] {
    let sent = body.clone();
    let (said, error) = failure(move || status("200 OK", "", &sent)).await;
    assert_eq!(said, "");
    let message = error.to_string();
    assert!(
      message.starts_with("API error: ") && message.ends_with("; it says: no room"),
      "{body}: {message}"
    );
  }
}

#[tokio::test]
async fn an_answer_that_is_no_completion_is_described() {
  for (body, expected) in [
    ("", "the answer is empty"),
    (" \n\n", "the answer is empty"),
    ("<html>Sign in</html>", "a web page"),
    ("Sign in, please", "it begins with: Sign in, please"),
    ("{\"hello\": 1}", "JSON without `choices`"),
    ("{\"choices\": [}", "not JSON"),
    ("[]", "an empty list"),
    (": nothing\n\n", "no stream of events"),
  ] {
    let (_, error) = failure(move || status("200 OK", "", body)).await;
    let message = error.to_string();
    assert!(
      message.starts_with("Error processing response: ") && message.contains(expected),
      "{body}: {message}"
    );
  }
}

#[tokio::test]
async fn a_character_that_was_cut_in_two_costs_no_more_than_itself() {
  let half = |half: &str| text("A").replace('A', half);
  let sent = events([&half("a\\ud83d"), &half("\\ude00b"), STOP]);
  let deltas = deltas(move || stream(&sent)).await;
  assert_eq!(said(&deltas), "a\u{fffd}\u{fffd}b");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
  let mut body = events([&text("A")]).replace('A', "A?").into_bytes();
  let place = body.iter().position(|byte| *byte == b'?').expect("marked");
  body[place] = 0xff;
  body.extend_from_slice(events([STOP]).as_bytes());
  let deltas = deltas(move || stream(&body)).await;
  assert_eq!(said(&deltas), "A\u{fffd}");
}
