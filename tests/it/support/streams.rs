//! Readers of streamed answers: newline-delimited JSON and server-sent events.

use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::in_time;

/// The body of an answer, cut at a separator.
struct Pieces {
  chunks: BoxStream<'static, Result<bytes::Bytes, reqwest::Error>>,
  buffer: Vec<u8>,
  /// Bytes at the start of the buffer that hold no separator.
  searched: usize,
  separator: &'static [u8],
}

impl Pieces {
  fn new(response: reqwest::Response, separator: &'static [u8]) -> Self {
    let chunks = response.bytes_stream().boxed();
    Self {
      chunks,
      buffer: Vec::new(),
      searched: 0,
      separator,
    }
  }

  /// The next piece, without its separator; `None` at the end, where nothing may be left over.
  async fn next(&mut self) -> Option<String> {
    loop {
      let window = self.separator.len();
      let from = self.searched.saturating_sub(window - 1);
      let found = self.buffer[from..]
        .windows(window)
        .position(|w| w == self.separator);
      if let Some(position) = found {
        let rest = self.buffer.split_off(from + position + window);
        let mut piece = std::mem::replace(&mut self.buffer, rest);
        piece.truncate(from + position);
        self.searched = 0;
        return Some(String::from_utf8(piece).expect("pieces are UTF-8"));
      }
      self.searched = self.buffer.len();
      match in_time("the next piece of a stream", self.chunks.next()).await {
        Some(chunk) => self
          .buffer
          .extend_from_slice(&chunk.expect("the stream goes on")),
        None => {
          assert!(
            self.buffer.is_empty(),
            "the stream ended inside a piece: {:?}",
            self.buffer
          );
          return None;
        }
      }
    }
  }
}

/// Newline-delimited JSON.
pub(crate) struct Lines(Pieces);

impl Lines {
  pub(crate) fn new(response: reqwest::Response) -> Self {
    Self(Pieces::new(response, b"\n"))
  }

  pub(crate) async fn next(&mut self) -> Option<Value> {
    let line = self.0.next().await?;
    Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}")))
  }

  pub(crate) async fn rest(mut self) -> Vec<Value> {
    let mut lines = Vec::new();
    while let Some(line) = self.next().await {
      lines.push(line);
    }
    lines
  }
}

/// One block of a stream of server-sent events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SseBlock {
  Data(Value),
  Id(u64),
  Comment(String),
}

/// Server-sent events, read as the clients of the original read them: cut at blank lines, JSON
/// after `data: `.
pub(crate) struct Sse {
  pub headers: HeaderMap,
  pieces: Pieces,
}

impl Sse {
  pub(crate) fn new(response: reqwest::Response) -> Self {
    Self {
      headers: response.headers().clone(),
      pieces: Pieces::new(response, b"\n\n"),
    }
  }

  pub(crate) fn header(&self, name: &str) -> Option<&str> {
    self.headers.get(name).and_then(|v| v.to_str().ok())
  }

  /// The session of the streamed execution.
  ///
  /// # Panics
  /// When the answer names none.
  pub(crate) fn session(&self) -> String {
    self
      .header("x-session-id")
      .expect("the session is named")
      .to_owned()
  }

  pub(crate) async fn block(&mut self) -> Option<SseBlock> {
    let block = self.pieces.next().await?;
    assert!(!block.contains('\n'), "a block of several lines: {block:?}");
    Some(if let Some(json) = block.strip_prefix("data: ") {
      SseBlock::Data(
        serde_json::from_str(json).unwrap_or_else(|e| panic!("not JSON ({e}): {json}")),
      )
    } else if let Some(id) = block.strip_prefix("id: ") {
      SseBlock::Id(id.parse().expect("positions are numbers"))
    } else if let Some(comment) = block.strip_prefix(':') {
      SseBlock::Comment(comment.trim().to_owned())
    } else {
      panic!("an unknown block: {block:?}")
    })
  }

  /// The next event, whatever stands between.
  pub(crate) async fn event(&mut self) -> Option<Value> {
    loop {
      if let SseBlock::Data(event) = self.block().await? {
        return Some(event);
      }
    }
  }

  /// Reads to the end.
  pub(crate) async fn rest(mut self) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(event) = self.event().await {
      events.push(event);
    }
    events
  }

  /// Reads until an event of that type.
  ///
  /// # Panics
  /// When the stream ends before.
  pub(crate) async fn until(&mut self, kind: &str) -> Value {
    loop {
      let event = self
        .event()
        .await
        .unwrap_or_else(|| panic!("the stream ended without {kind}"));
      if event["type"] == kind {
        return event;
      }
    }
  }
}

/// The log of an app as it is followed: entries, and notices of what was missed.
pub(crate) struct LogLines(Pieces);

impl LogLines {
  pub(crate) fn new(response: reqwest::Response) -> Self {
    Self(Pieces::new(response, b"\n\n"))
  }

  /// The next entry; the event that carries it has the number of the entry as its id.
  pub(crate) async fn next(&mut self) -> Option<Value> {
    loop {
      let block = self.0.next().await?;
      if block.starts_with(':') {
        continue;
      }
      let (id, data) = match block.split_once('\n') {
        Some((id, data)) => (id.strip_prefix("id: "), data),
        None => (None, block.as_str()),
      };
      let json = data
        .strip_prefix("data: ")
        .unwrap_or_else(|| panic!("{block:?}"));
      let entry: Value = serde_json::from_str(json).expect("entries are JSON");
      let number = entry["seq"].as_u64().map(|seq| seq.to_string());
      assert_eq!(id.map(str::to_owned), number, "{block}");
      return Some(entry);
    }
  }

  /// Reads until a line with these words.
  ///
  /// # Panics
  /// When the log ends before.
  pub(crate) async fn until(&mut self, words: &str) -> Value {
    let mut seen = Vec::new();
    while let Some(entry) = self.next().await {
      let text = entry["text"].as_str().unwrap_or_default();
      if text.contains(words) {
        return entry;
      }
      seen.push(text.to_owned());
    }
    panic!("the log ended without {words:?}: {seen:#?}");
  }

  pub(crate) async fn rest(mut self) -> Vec<Value> {
    let mut entries = Vec::new();
    while let Some(entry) = self.next().await {
      entries.push(entry);
    }
    entries
  }
}
