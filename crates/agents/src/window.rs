//! What of a conversation is sent: as much as the model's context takes, the newest of it, in whole steps.

use models::ChatMessage;
use models::Content;
use models::ContentPart;
use models::Role;

/// Tokens of a context whose size nobody has named.
pub(crate) const DEFAULT_CONTEXT: u32 = 32_768;
/// What an image is taken for, in tokens.
const IMAGE_TOKENS: usize = 1_000;
/// What a message takes besides its text, in tokens.
const MESSAGE_TOKENS: usize = 8;
const NOTE: &str = "[Earlier messages of this conversation are left out: they would not fit.]";

/// An estimate that is rather too high: models cut texts differently, and their tokenisers are not here.
pub(crate) fn tokens_of(text: &str) -> usize {
  let ascii = text.bytes().filter(u8::is_ascii).count();
  let others = text.chars().count() - ascii;
  ascii.div_ceil(3) + others
}

fn tokens(message: &ChatMessage) -> usize {
  let content = match &message.content {
    None => 0,
    Some(Content::Text(text)) => tokens_of(text),
    Some(Content::Parts(parts)) => parts
      .iter()
      .map(|part| match part {
        ContentPart::Text { text } => tokens_of(text),
        ContentPart::ImageUrl { .. } => IMAGE_TOKENS,
      })
      .sum(),
  };
  let calls = message.tool_calls.iter().map(|call| {
    MESSAGE_TOKENS + tokens_of(&call.function.name) + tokens_of(&call.function.arguments)
  });
  MESSAGE_TOKENS + content + calls.sum::<usize>()
}

/// The messages to send: the system prompt, and of `messages` the newest that fit into `context` tokens with a
/// quarter left for the answer. A step, which is a message that asks for code and all its results, stays whole;
/// what comes first is never a result. The last step and the task, which is at `task`, are sent whatever they
/// weigh.
pub(crate) fn fit(
  system: String,
  messages: &[ChatMessage],
  task: usize,
  context: u32,
) -> Vec<ChatMessage> {
  let room = context as usize / 4 * 3;
  let system = ChatMessage::system(system);
  let task = messages.get(task).map(|message| (task, message));
  let pinned = task.map_or(0, |(_, message)| tokens(message));
  let mut left = room.saturating_sub(tokens(&system) + pinned);
  let steps = steps(messages);
  let mut first = messages.len();
  for start in steps.into_iter().rev() {
    let weight: usize = messages[start..first].iter().map(tokens).sum();
    if weight > left && first < messages.len() {
      break;
    }
    left = left.saturating_sub(weight);
    first = start;
  }
  let note = (first > 0).then(|| ChatMessage::user(NOTE));
  let task = task
    .filter(|(at, _)| *at < first)
    .map(|(_, task)| task.clone());
  let kept = messages[first..].iter().cloned();
  std::iter::once(system)
    .chain(note)
    .chain(task)
    .chain(kept)
    .collect()
}

/// Where steps begin: at every message that is no result of the one before.
fn steps(messages: &[ChatMessage]) -> Vec<usize> {
  let mut starts = Vec::new();
  for (index, message) in messages.iter().enumerate() {
    let follows = match message.role {
      Role::Tool => true,
      Role::User => index > 0 && is_observation(message),
      Role::System | Role::Assistant => false,
    };
    if !follows || starts.is_empty() {
      starts.push(index);
    }
  }
  starts
}

fn is_observation(message: &ChatMessage) -> bool {
  let text = message.content.as_ref().map(Content::text);
  text.is_some_and(|text| text.starts_with("<observation>"))
}

#[cfg(test)]
mod tests {
  use super::*;

  fn conversation() -> Vec<ChatMessage> {
    vec![
      ChatMessage::user("x".repeat(300)),
      ChatMessage::assistant(format!("<py-script>{}</py-script>", "y".repeat(100))),
      ChatMessage::user(format!("<observation>{}</observation>", "z".repeat(200))),
      ChatMessage::assistant("w".repeat(30)),
    ]
  }

  fn roles(task: usize, context: u32) -> Vec<(Role, usize)> {
    let sent = fit("s".into(), &conversation(), task, context);
    let length = |it: &ChatMessage| {
      it.content
        .as_ref()
        .map_or(0, |content| content.text().len())
    };
    sent.iter().map(|it| (it.role, length(it))).collect()
  }

  #[test]
  fn all_is_sent_while_it_fits() {
    assert_eq!(roles(0, 10_000).len(), 5);
  }

  #[test]
  fn the_oldest_goes_first_and_a_step_stays_whole() {
    let (system, note) = ((Role::System, 1), (Role::User, NOTE.len()));
    let (code, seen, last) = (
      (Role::Assistant, 123),
      (Role::User, 227),
      (Role::Assistant, 30),
    );
    assert_eq!(roles(4, 240), [system, note, code, seen, last]);
    // The code alone would fit, without what it gave.
    assert_eq!(roles(4, 150), [system, note, last]);
    assert_eq!(roles(4, 1), [system, note, last]);
    let task = (Role::User, 300);
    assert_eq!(roles(0, 1), [system, note, task, last]);
  }
}
