//! Reads an answer, piece by piece, into deltas. It does no input or output.

use std::collections::VecDeque;

use outbound::unreadable;

use crate::chunk::Called;
use crate::chunk::Choice;
use crate::chunk::Chunk;
use crate::chunk::Delta;
use crate::chunk::Trouble;
use crate::completion::ChatDelta;
use crate::completion::FinishReason;
use crate::completion::Usage;
use crate::error::Fault;
use crate::lenient::Several;
use crate::limits::Limits;
use crate::mend::mended;
use crate::said;
use crate::sse::Decoder;
use crate::sse::Event;
use crate::tools::Piece;
use crate::tools::ToolCalls;

/// What the end of a stream looks like.
const DONE: &[u8] = b"[DONE]";
/// Events that only keep a connection open.
const KEEP_ALIVE: [&[u8]; 4] = [b"ping", b"heartbeat", b"keepalive", b"keep-alive"];
/// As much of what is no answer is shown.
const EXCERPT: usize = 120;

pub(crate) struct Reader {
  limits: Limits,
  form: Form,
  wire_bytes: u64,
  text_bytes: usize,
  /// Whether any event came.
  any_event: bool,
  /// The choice that is followed: the first.
  choice: Option<u64>,
  /// Whether the server sends deltas, and not messages.
  by_delta: bool,
  calls: ToolCalls,
  usage: Option<Usage>,
  finish: Option<FinishReason>,
  done: bool,
}

/// How a server answers.
enum Form {
  /// Nothing but blanks came yet.
  Unknown,
  Events(Box<Events>),
  /// As one JSON, although a stream was asked for.
  Whole(Vec<u8>),
}

struct Events {
  decoder: Decoder,
  /// How it began, in case there is no event in it.
  excerpt: Vec<u8>,
}

impl Reader {
  pub(crate) fn new(limits: &Limits) -> Self {
    Self {
      limits: limits.clone(),
      form: Form::Unknown,
      wire_bytes: 0,
      text_bytes: 0,
      any_event: false,
      choice: None,
      by_delta: false,
      calls: ToolCalls::new(limits.tool_calls, limits.argument_bytes),
      usage: None,
      finish: None,
      done: false,
    }
  }

  /// Whether the server said that nothing follows.
  pub(crate) fn is_done(&self) -> bool {
    self.done
  }

  /// Whether the model stopped; the usage may follow.
  pub(crate) fn is_finished(&self) -> bool {
    self.finish.is_some()
  }

  /// Takes the next bytes, and adds what they say. What was added before an error is valid.
  pub(crate) fn push(
    &mut self,
    bytes: &[u8],
    deltas: &mut VecDeque<ChatDelta>,
  ) -> Result<(), Fault> {
    self.wire_bytes += bytes.len() as u64;
    if self.wire_bytes > self.limits.wire_bytes {
      return Err(Fault::TooLong {
        what: "bytes",
        limit: self.limits.wire_bytes,
      });
    }
    let mut bytes = bytes;
    if matches!(self.form, Form::Unknown) {
      // Blanks and the three bytes of a byte order mark.
      let is_mark = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF);
      while let Some((first, rest)) = bytes.split_first()
        && is_mark(*first)
      {
        bytes = rest;
      }
      let Some(first) = bytes.first() else {
        return Ok(());
      };
      self.form = match first {
        b'<' => return Err(Fault::Malformed(not_an_answer("a web page"))),
        b'{' | b'[' => Form::Whole(Vec::new()),
        _ => Form::Events(Box::new(Events {
          decoder: Decoder::new(self.limits.event_bytes),
          excerpt: Vec::new(),
        })),
      };
    }
    let too_long = || Fault::too_long("bytes in one event", self.limits.event_bytes);
    match &mut self.form {
      Form::Unknown => Ok(()),
      Form::Whole(body) => {
        if bytes.len() > self.limits.event_bytes.saturating_sub(body.len()) {
          return Err(too_long());
        }
        body.extend_from_slice(bytes);
        Ok(())
      }
      Form::Events(events) => {
        let wanted = EXCERPT.saturating_sub(events.excerpt.len());
        events
          .excerpt
          .extend_from_slice(&bytes[..wanted.min(bytes.len())]);
        let mut found = Vec::new();
        let decoded = events.decoder.push(bytes, &mut found);
        let too_long = too_long();
        for event in found {
          self.event(&event, deltas)?;
          if self.done {
            return Ok(());
          }
        }
        decoded.map_err(|_| too_long)
      }
    }
  }

  /// Takes the end of the answer. `framed` tells whether the server marked it as the end: without that,
  /// it may as well be a cut.
  pub(crate) fn end(
    &mut self,
    framed: bool,
    deltas: &mut VecDeque<ChatDelta>,
  ) -> Result<(), Fault> {
    match std::mem::replace(&mut self.form, Form::Unknown) {
      Form::Unknown => return Err(Fault::Malformed("the answer is empty".to_owned())),
      Form::Whole(body) => self.whole(&body, deltas)?,
      Form::Events(mut events) if !self.done => {
        let inside = events.decoder.is_inside();
        let mut found = Vec::new();
        events.decoder.finish(&mut found);
        for event in found {
          self.event(&event, deltas).map_err(|fault| match fault {
            Fault::Malformed(_) if inside => Fault::CutShort("it ends inside an event".to_owned()),
            other => other,
          })?;
        }
        if !self.any_event {
          let excerpt = String::from_utf8_lossy(&events.excerpt);
          return Err(Fault::Malformed(format!(
            "{}; it begins with: {excerpt}",
            not_an_answer("no stream of events")
          )));
        }
      }
      Form::Events(_) => {}
    }
    if !framed && !self.done && self.finish.is_none() {
      return Err(Fault::CutShort(
        "the connection ended before the answer did".to_owned(),
      ));
    }
    self.conclude(deltas)
  }

  /// Adds what stands at the end of every stream.
  pub(crate) fn conclude(&mut self, deltas: &mut VecDeque<ChatDelta>) -> Result<(), Fault> {
    deltas.extend(self.calls.finish()?.into_iter().map(ChatDelta::ToolCall));
    deltas.extend(self.usage.take().map(ChatDelta::Usage));
    let reason = self.finish.take().unwrap_or(FinishReason::Unstated);
    deltas.push_back(ChatDelta::Finished(reason));
    Ok(())
  }

  fn event(&mut self, event: &Event, deltas: &mut VecDeque<ChatDelta>) -> Result<(), Fault> {
    let data = event.data.trim_ascii();
    if KEEP_ALIVE.contains(&event.kind.as_slice()) || data.is_empty() {
      return Ok(());
    }
    self.any_event = true;
    if data == DONE {
      self.done = true;
      return Ok(());
    }
    let text = String::from_utf8_lossy(data);
    let better;
    let mut read = serde_json::from_str::<Option<Chunk<'_>>>(&text);
    if read.as_ref().is_err_and(serde_json::Error::is_syntax)
      && let Some(mended) = mended(&text)
    {
      better = mended;
      read = serde_json::from_str(&better);
    }
    if event.kind == b"error" {
      let told = read
        .ok()
        .flatten()
        .and_then(|mut chunk| said::reason(&mut chunk));
      let plain = || Trouble::saying(text.clone().into_owned());
      return Err(reported(told.unwrap_or_else(plain)));
    }
    match read {
      // Null says nothing.
      Ok(None) => Ok(()),
      Ok(Some(mut chunk)) => self.chunk(&mut chunk, deltas),
      Err(error) => {
        let excerpt: String = text.chars().take(EXCERPT).collect();
        Err(Fault::Malformed(format!(
          "an event cannot be read, {}; it begins with: {excerpt}",
          unreadable(data, &error)
        )))
      }
    }
  }

  /// An answer in one piece.
  fn whole(&mut self, body: &[u8], deltas: &mut VecDeque<ChatDelta>) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(body);
    let Several(chunks) = serde_json::from_str::<said::Whole<'_>>(&text).map_err(|error| {
      let why = unreadable(body, &error);
      match error.is_eof() {
        true => Fault::CutShort(why),
        false => Fault::Malformed(why),
      }
    })?;
    let first = chunks.into_iter().next();
    let mut chunk = first.ok_or_else(|| Fault::Malformed(not_an_answer("an empty list")))?;
    if chunk.choices.0.is_empty() {
      return Err(match said::reason(&mut chunk) {
        Some(trouble) => reported(trouble),
        None => Fault::Malformed(not_an_answer("JSON without `choices`")),
      });
    }
    // Nothing of JSON that is complete can be missing.
    self.done = true;
    self.chunk(&mut chunk, deltas)
  }

  fn chunk(
    &mut self,
    chunk: &mut Chunk<'_>,
    deltas: &mut VecDeque<ChatDelta>,
  ) -> Result<(), Fault> {
    if let Some(trouble) = said::trouble(chunk) {
      return Err(reported(trouble));
    }
    if let Some(counted) = chunk.usage.take()
      && counted
        .prompt_tokens
        .0
        .or(counted.completion_tokens.0)
        .is_some()
    {
      self.usage = Some(Usage {
        prompt: counted.prompt_tokens.0.unwrap_or_default(),
        completion: counted.completion_tokens.0.unwrap_or_default(),
      });
    }
    for choice in std::mem::take(&mut chunk.choices.0) {
      let index = choice.index.0.unwrap_or_default();
      if *self.choice.get_or_insert(index) == index {
        self.choice(choice, deltas)?;
      }
    }
    Ok(())
  }

  fn choice(&mut self, choice: Choice<'_>, deltas: &mut VecDeque<ChatDelta>) -> Result<(), Fault> {
    if let Some(trouble) = choice.error.reported() {
      return Err(reported(trouble));
    }
    let delta = match (choice.delta, choice.message) {
      (Some(delta), _) if !delta.is_empty() => {
        self.by_delta = true;
        delta
      }
      // Some servers repeat the whole message at the end of their deltas.
      (_, Some(message)) if !self.by_delta => message,
      _ => Delta::default(),
    };
    self.delta(delta, &choice.text.joined(), deltas)?;
    let reason = choice.finish_reason.joined();
    if !reason.is_empty() {
      self.finish = Some(FinishReason::parse(&reason));
    }
    Ok(())
  }

  fn delta(
    &mut self,
    mut delta: Delta<'_>,
    older: &str,
    deltas: &mut VecDeque<ChatDelta>,
  ) -> Result<(), Fault> {
    let reasoning = delta.take_reasoning() + &delta.content.thoughts;
    let text = delta.content.text + &delta.refusal.joined() + older;
    self.text_bytes += reasoning.len() + text.len();
    if self.text_bytes > self.limits.text_bytes {
      return Err(Fault::too_long("bytes of text", self.limits.text_bytes));
    }
    if !reasoning.is_empty() {
      deltas.push_back(ChatDelta::Reasoning(reasoning));
    }
    if !text.is_empty() {
      deltas.push_back(ChatDelta::Text(text));
    }
    for fragment in delta.tool_calls.0 {
      let called = fragment.function.unwrap_or_default();
      self.call(fragment.index.0, &fragment.id.joined(), called, deltas)?;
    }
    if let Some(called) = delta.function_call {
      // There is one at most.
      self.call(Some(0), "", called, deltas)?;
    }
    Ok(())
  }

  fn call(
    &mut self,
    index: Option<u64>,
    id: &str,
    called: Called<'_>,
    deltas: &mut VecDeque<ChatDelta>,
  ) -> Result<(), Fault> {
    let arguments = called.arguments();
    let name = called.name.joined();
    let call = self.calls.add(Piece {
      index,
      id,
      name: &name,
      arguments: &arguments,
    })?;
    if !(name.is_empty() && arguments.is_empty()) {
      deltas.push_back(ChatDelta::ToolCallPart {
        call,
        name,
        arguments,
      });
    }
    Ok(())
  }
}

fn reported(trouble: Trouble) -> Fault {
  let detail = match trouble.detail.is_empty() {
    true => "an error without a message".to_owned(),
    false => trouble.detail,
  };
  Fault::Reported {
    status: trouble.status,
    detail,
  }
}

fn not_an_answer(found: &str) -> String {
  format!("the answer is {found}, not a chat completion")
}

#[cfg(test)]
mod tests {
  use super::*;

  fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (VecDeque<ChatDelta>, Option<Fault>) {
    let mut reader = Reader::new(&Limits {
      text_bytes: 200,
      event_bytes: 400,
      tool_calls: 3,
      ..Limits::default()
    });
    let mut deltas = VecDeque::new();
    for piece in pieces {
      if let Err(fault) = reader.push(piece, &mut deltas) {
        return (deltas, Some(fault));
      }
      if reader.is_done() {
        let end = reader.conclude(&mut deltas);
        return (deltas, end.err());
      }
    }
    let end = reader.end(true, &mut deltas);
    (deltas, end.err())
  }

  #[test]
  fn messages_in_place_of_deltas_are_read() {
    let event = r#"data: {"choices": [{"message": {"content": "a"}}]}"#;
    let (deltas, fault) = read([format!("{event}\n\n{event}\n\n").as_bytes()]);
    let a = || ChatDelta::Text("a".to_owned());
    let end = ChatDelta::Finished(FinishReason::Unstated);
    assert_eq!((deltas.into(), fault), (vec![a(), a(), end], None));
  }

  mod properties {
    use proptest::prelude::*;

    use super::*;

    /// What servers send, and what they should not.
    fn part() -> impl Strategy<Value = Vec<u8>> {
      let texts = prop_oneof![
        "data: \\{\"choices\":\\[\\{\"delta\":\\{\"content\":\"[a-zä😀]{0,20}\"\\}\\}\\]\\}(\n\n|\r\r|\r\n\r\n)",
        "data: \\{\"choices\":\\[\\{\"delta\":\\{\"tool_calls\":\\[\\{\"index\":[0-4],\"id\":\"[ab]\",\"function\":\\{\"name\":\"[ab]\",\"arguments\":\"[{}1]\"\\}\\}\\]\\}\\}\\]\\}\n\n",
        Just("data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n".to_owned()),
        Just("data: [DONE]\n\n".to_owned()),
        Just("{\"choices\":[{\"message\":{\"content\":\"a\"}}]}".to_owned()),
        Just("event: error\ndata: \"no\"\n\n".to_owned()),
        "(data: |:|\n|\u{feff}|[<{a1\"]){1,6}",
      ];
      prop_oneof![
        9 => texts.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
      ]
    }

    proptest! {
      #[test]
      fn the_same_bytes_say_the_same_however_they_are_split(
        parts in prop::collection::vec(part(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
      ) {
        let bytes = parts.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let whole = read([bytes.as_slice()]);
        prop_assert_eq!(&read(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &whole);
        prop_assert_eq!(&read(bytes.chunks(1)), &whole);
      }
    }
  }
}
