//! What a model answers.

use crate::message::ToolCall;

/// A piece of an answer. The last ones are, in this order, whole tool calls, the usage, and `Finished`.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatDelta {
  Text(String),
  /// What a model says to itself before it answers.
  Reasoning(String),
  /// More of a tool call that is being written, for those who show it. `call` counts from zero.
  ToolCallPart {
    call: usize,
    /// Empty once it is known.
    name: String,
    arguments: String,
  },
  /// A whole tool call. Its arguments are as the model wrote them: they need not be valid JSON.
  ToolCall(ToolCall),
  Usage(Usage),
  /// The end of the stream, once.
  Finished(FinishReason),
}

/// Tokens that a server counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
  pub prompt: u64,
  pub completion: u64,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
  /// It had said everything.
  Stop,
  /// It reached the most tokens that it may write.
  Length,
  ToolCalls,
  ContentFilter,
  Other(String),
  /// The server ended its answer without saying why.
  Unstated,
}

impl FinishReason {
  pub(crate) fn parse(text: &str) -> Self {
    match text {
      "stop" => Self::Stop,
      "length" => Self::Length,
      "tool_calls" | "function_call" => Self::ToolCalls,
      "content_filter" => Self::ContentFilter,
      other => Self::Other(outbound::printable(other)),
    }
  }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
  pub text: String,
  pub reasoning: String,
  pub tool_calls: Vec<ToolCall>,
  /// `None` if the server does not count.
  pub usage: Option<Usage>,
  pub finish: FinishReason,
}

impl Completion {
  pub(crate) fn new() -> Self {
    Self {
      text: String::new(),
      reasoning: String::new(),
      tool_calls: Vec::new(),
      usage: None,
      finish: FinishReason::Unstated,
    }
  }

  pub(crate) fn add(&mut self, delta: ChatDelta) {
    match delta {
      ChatDelta::Text(text) => self.text.push_str(&text),
      ChatDelta::Reasoning(text) => self.reasoning.push_str(&text),
      // The whole call follows.
      ChatDelta::ToolCallPart { .. } => {}
      ChatDelta::ToolCall(call) => self.tool_calls.push(call),
      ChatDelta::Usage(usage) => self.usage = Some(usage),
      ChatDelta::Finished(reason) => self.finish = reason,
    }
  }
}
