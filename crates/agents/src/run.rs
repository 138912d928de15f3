//! Runs: what one chat sets off, and its log of events, which any number of readers replay and follow.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use chrono::DateTime;
use chrono::Utc;
use models::ChatMessage;
use models::Usage;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::error::AgentError;
use crate::id::AgentId;
use crate::id::RunId;
use crate::store::Store;

/// Most bytes of events that are kept of one run. Past them only whole texts and results are, and past twice as
/// many only how it ends.
const MAX_LOG_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
  /// Part of the agent's conversation.
  Chat,
  /// Apart from it: of messages that the caller has sent.
  Stateless,
}

impl RunKind {
  pub(crate) fn as_str(self) -> &'static str {
    match self {
      Self::Chat => "chat",
      Self::Stateless => "stateless",
    }
  }

  pub(crate) fn parse(text: &str) -> Self {
    match text {
      "stateless" => Self::Stateless,
      _ => Self::Chat,
    }
  }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
  /// Waits for runs before it.
  Queued,
  Running,
  /// There is an answer.
  Completed,
  Failed,
  Cancelled,
  /// The server ended before it did: it can be resumed.
  Interrupted,
}

impl RunStatus {
  const ALL: [Self; 6] = [
    Self::Queued,
    Self::Running,
    Self::Completed,
    Self::Failed,
    Self::Cancelled,
    Self::Interrupted,
  ];

  pub(crate) fn as_str(self) -> &'static str {
    match self {
      Self::Queued => "queued",
      Self::Running => "running",
      Self::Completed => "completed",
      Self::Failed => "failed",
      Self::Cancelled => "cancelled",
      Self::Interrupted => "interrupted",
    }
  }

  pub(crate) fn parse(text: &str) -> Self {
    let known = Self::ALL.into_iter().find(|it| it.as_str() == text);
    known.unwrap_or(Self::Interrupted)
  }

  pub fn has_ended(self) -> bool {
    !matches!(self, Self::Queued | Self::Running)
  }
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
  #[schema(value_type = String)]
  pub id: RunId,
  #[schema(value_type = String)]
  pub agent_id: AgentId,
  pub kind: RunKind,
  pub status: RunStatus,
  #[serde(serialize_with = "as_timestamp")]
  #[schema(value_type = String, format = DateTime)]
  pub created: DateTime<Utc>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "as_timestamp"
  )]
  #[schema(value_type = Option<String>, format = DateTime)]
  pub started: Option<DateTime<Utc>>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "as_timestamp"
  )]
  #[schema(value_type = Option<String>, format = DateTime)]
  pub ended: Option<DateTime<Utc>>,
  /// Turns of the model that ran code or tools, or gave the answer.
  pub steps: u32,
  /// As the model's server has counted.
  pub prompt_tokens: u64,
  pub completion_tokens: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub error: Option<String>,
}

pub(crate) fn as_timestamp<S: serde::Serializer>(
  time: &(impl Into<Option<DateTime<Utc>>> + Copy),
  serializer: S,
) -> Result<S::Ok, S::Error> {
  match (*time).into() {
    Some(time) => serializer.serialize_str(&access::timestamp(time)),
    None => serializer.serialize_none(),
  }
}

/// What a run was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Task {
  /// The new message, or all of a stateless chat.
  pub messages: Vec<ChatMessage>,
  #[serde(default)]
  pub options: ChatOptions,
}

/// What one chat has otherwise than the agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ChatOptions {
  /// Added to the agent's instructions.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub system_prompt: Option<String>,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub temperature: Option<f64>,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub max_steps: Option<u32>,
}

/// A run that waits or goes on, or one that has ended and is read.
pub struct Run {
  pub id: RunId,
  pub agent: AgentId,
  pub(crate) cancel: CancellationToken,
  record: Mutex<RunRecord>,
  log: Mutex<Log>,
  changed: Notify,
}

#[derive(Default)]
struct Log {
  events: Vec<Arc<str>>,
  bytes: usize,
  cut: bool,
  ended: bool,
}

impl Run {
  pub(crate) fn new(record: RunRecord) -> Arc<Self> {
    Self::with_events(record, Vec::new(), false)
  }

  /// One that has ended.
  pub(crate) fn ended(record: RunRecord, events: Vec<String>) -> Arc<Self> {
    Self::with_events(record, events, true)
  }

  /// One that goes on after `events`.
  pub(crate) fn resumed(record: RunRecord, events: Vec<String>) -> Arc<Self> {
    Self::with_events(record, events, false)
  }

  fn with_events(record: RunRecord, events: Vec<String>, ended: bool) -> Arc<Self> {
    let events: Vec<Arc<str>> = events.into_iter().map(Arc::from).collect();
    Arc::new(Self {
      id: record.id.clone(),
      agent: record.agent_id.clone(),
      cancel: CancellationToken::new(),
      record: Mutex::new(record),
      log: Mutex::new(Log {
        bytes: events.iter().map(|event| event.len()).sum(),
        cut: false,
        events,
        ended,
      }),
      changed: Notify::new(),
    })
  }

  pub fn record(&self) -> RunRecord {
    self.lock_record().clone()
  }

  pub fn status(&self) -> RunStatus {
    self.lock_record().status
  }

  pub(crate) fn change(&self, change: impl FnOnce(&mut RunRecord)) -> RunRecord {
    let mut record = self.lock_record();
    change(&mut record);
    record.clone()
  }

  pub(crate) fn count_tokens(&self, usage: Usage) {
    self.change(|record| {
      record.prompt_tokens += usage.prompt;
      record.completion_tokens += usage.completion;
    });
  }

  /// Ends the run, if it has not ended: what it waits for or runs is given up.
  pub fn cancel(&self) {
    self.cancel.cancel();
  }

  /// Stores events, then shows them to readers. One task at a time does so for a run.
  pub(crate) async fn append(&self, store: &Store, events: Vec<Value>) -> Result<(), AgentError> {
    let (first, events) = self.bounded(events);
    if events.is_empty() {
      return Ok(());
    }
    store.append_events(&self.id, first, events.clone()).await?;
    self.show(events);
    Ok(())
  }

  /// The JSON of events that the log has room for, and the position of the first.
  pub(crate) fn bounded(&self, events: Vec<Value>) -> (usize, Vec<String>) {
    let mut log = self.lock_log();
    let mut kept = Vec::new();
    for event in events {
      let text = event.to_string();
      let kind = event["type"].as_str().unwrap_or_default();
      let most = match kind {
        "text_chunk" => MAX_LOG_BYTES,
        "start" | "error" | "complete" | "cancelled" => usize::MAX,
        _ => 2 * MAX_LOG_BYTES,
      };
      if log.bytes + text.len() <= most {
        log.bytes += text.len();
        kept.push(text);
      } else if !std::mem::replace(&mut log.cut, true) {
        let notice = format!(
          "the log of a run keeps {} MiB: later pieces of text and large results are not in it",
          MAX_LOG_BYTES >> 20
        );
        kept.push(serde_json::json!({ "type": "log_cut", "content": notice }).to_string());
      }
    }
    (log.events.len(), kept)
  }

  /// Shows events to readers, which are stored.
  pub(crate) fn show(&self, events: Vec<String>) {
    let shown = events.into_iter().map(Arc::from);
    self.lock_log().events.extend(shown);
    self.changed.notify_waiters();
  }

  /// No events follow.
  pub(crate) fn close(&self) {
    self.lock_log().ended = true;
    self.changed.notify_waiters();
  }

  /// Waits until no events follow.
  pub async fn closed(&self) {
    loop {
      let changed = self.changed.notified();
      if self.lock_log().ended {
        return;
      }
      changed.await;
    }
  }

  /// A reader that replays the log from `position` (counted from 0) and then follows it.
  pub fn reader(self: &Arc<Self>, position: usize) -> RunReader {
    RunReader {
      run: self.clone(),
      position,
    }
  }

  fn lock_record(&self) -> MutexGuard<'_, RunRecord> {
    self.record.lock().unwrap_or_else(PoisonError::into_inner)
  }

  fn lock_log(&self) -> MutexGuard<'_, Log> {
    self.log.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

/// Follows the log of one run.
pub struct RunReader {
  run: Arc<Run>,
  position: usize,
}

impl RunReader {
  /// The next event as JSON and its position, or `None` when none follow.
  pub async fn next(&mut self) -> Option<(usize, Arc<str>)> {
    loop {
      let changed = self.run.changed.notified();
      {
        let log = self.run.lock_log();
        if let Some(event) = log.events.get(self.position) {
          let position = self.position;
          self.position += 1;
          return Some((position, event.clone()));
        }
        if log.ended {
          return None;
        }
      }
      changed.await;
    }
  }

  pub fn run(&self) -> &Arc<Run> {
    &self.run
  }
}
