//! Conversations as files, in the original's form, for those who collect them. The engine reads none of them: what it
//! keeps itself is in its store.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use chrono::DateTime;
use chrono::SecondsFormat;
use chrono::Utc;
use models::ChatMessage;
use serde::Deserialize;
use serde::Serialize;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::id::AgentId;

/// Files that are kept of one agent, the newest.
const KEPT: usize = 10;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConversationFile<'a> {
  agent_id: &'a AgentId,
  messages: &'a [ChatMessage],
  saved_at: String,
  metadata: Metadata<'a>,
}

/// What a file says of the agent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
  pub agent_name: &'a str,
  pub agent_description: &'a str,
}

/// Writes the conversation of an agent to a file of its own, and removes older ones of the agent.
///
/// # Errors
/// When the folder cannot be written; the file is whole or not there.
pub(crate) async fn save(
  folder: &Path,
  id: &AgentId,
  metadata: Metadata<'_>,
  messages: &[ChatMessage],
  now: DateTime<Utc>,
) -> io::Result<()> {
  let saved = ConversationFile {
    agent_id: id,
    messages,
    saved_at: now.to_rfc3339_opts(SecondsFormat::Millis, true),
    metadata,
  };
  let bytes = serde_json::to_vec_pretty(&saved)?;
  let file = folder.join(format!("{}{}.json", prefix(id), now.timestamp_millis()));
  let draft = folder.join(format!(".conversation-{}", Uuid::new_v4()));
  let written = write(&draft, &file, &bytes).await;
  if written.is_err() {
    let _ = fs::remove_file(&draft).await;
  }
  written?;
  remove(folder, id, KEPT).await
}

async fn write(draft: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
  let mut options = fs::OpenOptions::new();
  let options = options.write(true).create_new(true).mode(0o600);
  let mut out = options.open(draft).await?;
  out.write_all(bytes).await?;
  out.flush().await?;
  drop(out);
  fs::rename(draft, file).await
}

/// Removes the files of an agent but the newest `kept`.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) async fn remove(folder: &Path, id: &AgentId, kept: usize) -> io::Result<()> {
  let prefix = prefix(id);
  let mut found: Vec<(i64, PathBuf)> = Vec::new();
  let mut entries = fs::read_dir(folder).await?;
  while let Some(entry) = entries.next_entry().await? {
    let name = entry.file_name();
    let time = name
      .to_str()
      .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".json"));
    if let Some(time) = time.and_then(|time| time.parse().ok()) {
      found.push((time, entry.path()));
    }
  }
  found.sort_unstable();
  let surplus = found.len().saturating_sub(kept);
  for (_, file) in &found[..surplus] {
    if is_of(file, id).await {
      let _ = fs::remove_file(file).await;
    }
  }
  Ok(())
}

/// Whether a file is this agent's: names are not enough, for several ids have the same.
async fn is_of(file: &Path, id: &AgentId) -> bool {
  #[derive(Deserialize)]
  #[serde(rename_all = "camelCase")]
  struct Owner {
    agent_id: String,
  }
  let bytes = fs::read(file).await.unwrap_or_default();
  serde_json::from_slice(&bytes).is_ok_and(|owner: Owner| owner.agent_id == id.as_str())
}

/// How names of an agent's files begin.
fn prefix(id: &AgentId) -> String {
  let safe = |c| match c {
    ':' | '|' | '@' | '/' | '\\' | '<' | '>' | '*' | '?' | '"' => '_',
    c => c,
  };
  let name: String = id.as_str().chars().map(safe).collect();
  format!("conversation_{name}_")
}

#[cfg(test)]
mod tests {
  use super::*;

  fn agent(full: &str) -> AgentId {
    AgentId::addressed(full.to_owned())
  }

  async fn save_at(folder: &Path, id: &AgentId, ms: i64) {
    let now = DateTime::from_timestamp_millis(ms).expect("a time");
    let messages = [ChatMessage::user("Hello"), ChatMessage::assistant("Hi")];
    let metadata = Metadata {
      agent_name: "Ann",
      agent_description: "",
    };
    save(folder, id, metadata, &messages, now)
      .await
      .expect("is saved");
  }

  fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().expect("a folder");
    let mut names: Vec<_> = entries
      .map(|it| it.expect("an entry").file_name().into_string())
      .collect::<Result<_, _>>()
      .expect("text");
    names.sort();
    names
  }

  #[tokio::test]
  async fn a_file_is_what_the_original_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    save_at(folder.path(), &agent("lab:a|b"), 1_735_787_045_678).await;
    let name = "conversation_lab_a_b_1735787045678.json";
    assert_eq!(names(folder.path()), [name]);
    let text = fs::read_to_string(folder.path().join(name))
      .await
      .expect("text");
    let expected = r#"{
  "agentId": "lab:a|b",
  "messages": [
    {
      "role": "user",
      "content": "Hello"
    },
    {
      "role": "assistant",
      "content": "Hi"
    }
  ],
  "savedAt": "2025-01-02T03:04:05.678Z",
  "metadata": {
    "agentName": "Ann",
    "agentDescription": ""
  }
}"#;
    assert_eq!(text, expected);
  }

  #[tokio::test]
  async fn the_newest_are_kept_and_those_of_others_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (own, other) = (agent("a:b"), agent("a_b"));
    save_at(folder.path(), &other, 1).await;
    for ms in 2..14 {
      save_at(folder.path(), &own, ms).await;
    }
    let kept = names(folder.path());
    assert!(
      kept.contains(&"conversation_a_b_1.json".to_owned()),
      "{kept:?}"
    );
    assert!(
      kept.contains(&"conversation_a_b_13.json".to_owned()),
      "{kept:?}"
    );
    assert!(kept.len() <= KEPT + 1, "{kept:?}");
    remove(folder.path(), &own, 0).await.expect("are removed");
    assert_eq!(names(folder.path()), ["conversation_a_b_1.json"]);
  }
}
