//! Reads server-sent events, of which no line and no event takes more memory than a limit.
//!
//! Lines end with `\n`, `\r\n` or `\r`, and a piece of the stream may end anywhere, inside a character
//! too. What must be left out before is a byte order mark.

/// An event: its kind, which is mostly empty, and its data, which should be UTF-8.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Event {
  pub(crate) kind: Vec<u8>,
  pub(crate) data: Vec<u8>,
}

/// A line or an event is longer than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

pub(crate) struct Decoder {
  limit: usize,
  line: Vec<u8>,
  event: Event,
  /// Whether the event has data; it may be empty data.
  has_data: bool,
  /// A `\n` right after a `\r` ends no further line.
  after_return: bool,
}

impl Decoder {
  pub(crate) fn new(limit: usize) -> Self {
    Self {
      limit,
      line: Vec::new(),
      event: Event::default(),
      has_data: false,
      after_return: false,
    }
  }

  /// Takes the next piece of a stream, and adds the events that are complete now.
  pub(crate) fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
    let mut rest = bytes;
    while let Some(first) = rest.first() {
      if std::mem::take(&mut self.after_return) && *first == b'\n' {
        rest = &rest[1..];
        continue;
      }
      let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
        return self.keep(rest);
      };
      self.keep(&rest[..end])?;
      self.after_return = rest[end] == b'\r';
      rest = &rest[end + 1..];
      self.end_line(events);
    }
    Ok(())
  }

  /// Adds the event that the stream ended in, if it has data: not every server ends its last one.
  pub(crate) fn finish(&mut self, events: &mut Vec<Event>) {
    if !self.line.is_empty() {
      self.end_line(events);
    }
    self.dispatch(events);
  }

  /// Whether the stream would end inside an event.
  pub(crate) fn is_inside(&self) -> bool {
    !self.line.is_empty() || self.has_data
  }

  fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
    let kept = self.line.len() + self.event.data.len() + self.event.kind.len();
    if bytes.len() > self.limit.saturating_sub(kept) {
      return Err(TooLong);
    }
    self.line.extend_from_slice(bytes);
    Ok(())
  }

  fn end_line(&mut self, events: &mut Vec<Event>) {
    if self.line.is_empty() {
      self.dispatch(events);
      return;
    }
    let mut parts = self.line.splitn(2, |byte| *byte == b':');
    let field = parts.next().unwrap_or_default();
    let value = parts.next().unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match field {
      b"data" if self.has_data => {
        self.event.data.push(b'\n');
        self.event.data.extend_from_slice(value);
      }
      b"data" => {
        self.has_data = true;
        // A long line is not held twice.
        let start = self.line.len() - value.len();
        self.event.data = std::mem::take(&mut self.line);
        self.event.data.drain(..start);
      }
      b"event" => self.event.kind = value.to_vec(),
      // Comments (no name), `id` and `retry`: an answer is not resumed.
      _ => {}
    }
    self.line.clear();
  }

  fn dispatch(&mut self, events: &mut Vec<Event>) {
    let event = std::mem::take(&mut self.event);
    if std::mem::take(&mut self.has_data) {
      events.push(event);
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn decode(pieces: &[&[u8]]) -> Vec<Event> {
    let mut decoder = Decoder::new(10_000);
    let mut events = Vec::new();
    for piece in pieces {
      decoder.push(piece, &mut events).expect("short");
    }
    decoder.finish(&mut events);
    events
  }

  fn data(text: &str) -> Vec<String> {
    let events = decode(&[text.as_bytes()]);
    let text = |event: Event| String::from_utf8(event.data).expect("UTF-8");
    events.into_iter().map(text).collect()
  }

  #[test]
  fn events_are_read_whatever_their_lines_end_with() {
    for end in ["\n", "\r\n", "\r"] {
      let stream =
        "data: a\n\n: comment\ndata:b\ndata:  c\n\nid: 7\nretry: 1\ndata\n\n\n\ndata: d\n\n";
      let stream = stream.replace('\n', end);
      assert_eq!(data(&stream), ["a", "b\n c", "", "d"], "{end:?}");
    }
  }

  #[test]
  fn the_last_event_needs_no_end() {
    assert_eq!(data("data: a\n\ndata: b"), ["a", "b"]);
    assert_eq!(data("data: a\n\ndata: b\n"), ["a", "b"]);
    assert_eq!(data("data: a\n\n: b"), ["a"]);
  }

  #[test]
  fn an_event_has_the_kind_that_it_says() {
    let events = decode(&[b"event: error\ndata: x\n\ndata: y\n\nevent: ping\n\n"]);
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_slice()).collect();
    assert_eq!(kinds, [&b"error"[..], b""]);
  }

  #[test]
  fn no_line_and_no_event_grows_past_the_limit() {
    let mut events = Vec::new();
    let mut decoder = Decoder::new(10);
    assert_eq!(decoder.push(b"data: 7890", &mut events), Ok(()));
    assert_eq!(decoder.push(b"1", &mut events), Err(TooLong));
    let mut decoder = Decoder::new(6);
    assert_eq!(decoder.push(b"data:6\n\ndata:6\n", &mut events), Ok(()));
    assert_eq!(decoder.push(b"data:7", &mut events), Err(TooLong));
    let mut decoder = Decoder::new(10);
    assert_eq!(decoder.push(b":2345678901", &mut events), Err(TooLong));
  }

  mod properties {
    use proptest::prelude::*;

    use super::*;

    /// A line as servers write them.
    fn line() -> impl Strategy<Value = String> {
      prop_oneof![
        "data: ?[ -~äß😀]{0,12}",
        "data",
        "(event|id|retry|:)[ -~é]{0,8}",
        Just(String::new()),
        "[^\r\n\u{feff}]{0,8}",
      ]
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
      let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
      prop::collection::vec((line(), end), 0..24).prop_map(|lines| {
        let lines = lines.into_iter().map(|(line, end)| line + end);
        lines.collect::<String>().into_bytes()
      })
    }

    /// The events by the letter of the standard, of the whole stream at once.
    fn by_the_standard(stream: &[u8]) -> Vec<Vec<u8>> {
      let text = String::from_utf8(stream.to_vec()).expect("UTF-8");
      let text = text.replace("\r\n", "\n").replace('\r', "\n");
      let mut events = Vec::new();
      let mut data: Option<String> = None;
      let ended = text.ends_with('\n') || text.is_empty();
      let mut lines: Vec<_> = text.split('\n').collect();
      if ended {
        lines.pop();
      }
      for line in lines.into_iter().chain([""]) {
        if line.is_empty() {
          events.extend(data.take().map(String::into_bytes));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" && !line.is_empty() {
          let value = value.strip_prefix(' ').unwrap_or(value);
          data = Some(match data.take() {
            Some(before) => format!("{before}\n{value}"),
            None => value.to_owned(),
          });
        }
      }
      events
    }

    proptest! {
      #[test]
      fn every_stream_is_read_as_the_standard_says_however_it_is_split(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
      ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        let events = decode(&pieces);
        prop_assert_eq!(&events, &decode(&[&stream]));
        let data: Vec<_> = events.into_iter().map(|event| event.data).collect();
        prop_assert_eq!(data, by_the_standard(&stream));
      }

      #[test]
      fn no_bytes_make_it_keep_more_than_the_limit(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
      ) {
        let mut decoder = Decoder::new(64);
        let mut events = Vec::new();
        for piece in &pieces {
          if decoder.push(piece, &mut events).is_err() {
            break;
          }
          prop_assert!(decoder.line.len() + decoder.event.data.len() + decoder.event.kind.len() <= 64);
        }
        for event in events {
          prop_assert!(event.data.len() <= 64);
        }
      }
    }
  }
}
