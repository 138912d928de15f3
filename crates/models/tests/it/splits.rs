//! The same bytes, cut in every place.

use futures::StreamExt;
use models::CancellationToken;
use models::ChatClient;
use models::ChatDelta;
use models::FinishReason;

use crate::deltas;
use crate::endpoint;
use crate::limits;
use crate::request;
use crate::server::STOP;
use crate::server::Server;
use crate::server::chunks;
use crate::server::events;
use crate::server::text;

/// A stream with something of everything: a byte order mark, characters of two to four bytes, ends of
/// lines of three kinds, comments, several lines of data, tool calls, reasoning and usage.
fn sample() -> String {
  let tools = [
    r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "run", "arguments": "{\"x\""}}]}}]}"#,
    r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":\"é\"}"}}]}}]}"#,
  ];
  format!(
    "\u{feff}: hé\r\n\r\n{}data:{{\"choices\":\rdata: [{{\"delta\": {{\"reasoning\": \"hm…\"}}}}]}}\r\n\r{}{}{}data: [DONE]\n\n",
    events([&text("ä€😀"), &text("\\n\n")]).replace('\n', "\r\n"),
    events(tools),
    events([STOP]).replace('\n', "\r"),
    events([r#"{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}"#]),
  )
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_says_the_same() {
  let whole = deltas(|| chunks([sample()])).await;
  assert_eq!(whole[0], ChatDelta::Text("ä€😀".to_owned()));
  assert_eq!(whole[1], ChatDelta::Text("\\n\n".to_owned()));
  assert_eq!(whole[2], ChatDelta::Reasoning("hm…".to_owned()));
  let ChatDelta::ToolCall(call) = &whole[5] else {
    panic!("no tool call: {whole:?}");
  };
  assert_eq!(call.function.arguments, "{\"x\":\"é\"}");
  assert_eq!(whole.last(), Some(&ChatDelta::Finished(FinishReason::Stop)));
  assert_eq!(whole.len(), 8);

  let size = sample().len();
  // The first request is cut before the first byte, the next one after it, and so on.
  let server = Server::start(move |number| {
    let sample = sample().into_bytes();
    match number <= size {
      true => {
        let (first, second) = sample.split_at(number);
        chunks([first, second])
      }
      // At last, every byte by itself.
      false => chunks(sample.iter().map(|byte| [*byte])),
    }
  })
  .await;
  let client = ChatClient::default();
  let endpoint = endpoint(&server.url());
  for cut in 0..=size + 1 {
    let stream = client.stream(&endpoint, &request(), &limits(), CancellationToken::new());
    let read: Vec<_> = stream.collect().await;
    let read: Vec<_> = read
      .into_iter()
      .map(|item| item.expect("a delta"))
      .collect();
    assert_eq!(read, whole, "cut at {cut} of {size}");
  }
  assert_eq!(server.requests().len(), size + 2);
}
