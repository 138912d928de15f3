//! How long and how much an answer may be.

use std::time::Duration;

/// Bounds of one answer. Time that the reader of a stream takes for itself counts for `total` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
  /// From sending the request to the first text, reasoning or tool call. A server may load its model
  /// first. An attempt that runs into it is not repeated.
  pub first_token: Duration,
  /// Between two of them. Comments, with which servers keep connections open, are none.
  pub between_tokens: Duration,
  /// From the first attempt to the end of the answer, pauses included.
  pub total: Duration,
  /// Most bytes of text and reasoning together.
  pub text_bytes: usize,
  /// Most bytes of one line or event, and of an answer that comes in one piece.
  pub event_bytes: usize,
  /// Most bytes of an answer as it is sent. The rest of an event is a hundred times as long as its token.
  pub wire_bytes: u64,
  pub tool_calls: usize,
  /// Most bytes of the arguments, names and ids of all tool calls together.
  pub argument_bytes: usize,
  pub retries: Retries,
}

impl Default for Limits {
  fn default() -> Self {
    Self {
      first_token: Duration::from_secs(120),
      between_tokens: Duration::from_secs(60),
      total: Duration::from_secs(600),
      text_bytes: 8 << 20,
      event_bytes: 16 << 20,
      wire_bytes: 256 << 20,
      tool_calls: 256,
      argument_bytes: 1 << 20,
      retries: Retries::default(),
    }
  }
}

/// Attempts after the first, as long as nothing of an answer was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
  pub most: u32,
  /// Before the second attempt; it doubles for each further one.
  pub first_wait: Duration,
  /// Most of one wait. A server that asks for a longer one with `Retry-After` is given up at once.
  pub longest_wait: Duration,
}

impl Default for Retries {
  fn default() -> Self {
    Self {
      most: 2,
      first_wait: Duration::from_millis(500),
      longest_wait: Duration::from_secs(20),
    }
  }
}
