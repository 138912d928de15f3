//! Agents, conversations, runs and their steps, in one SQLite file. A thread of its own writes it; what a
//! method has returned is on disk as far as the end of this process is concerned.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use chrono::DateTime;
use chrono::Utc;
use models::ChatMessage;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::config::AgentConfig;
use crate::config::ModelSettings;
use crate::error::AgentError;
use crate::id::AgentId;
use crate::id::RunId;
use crate::run::RunKind;
use crate::run::RunRecord;
use crate::run::RunStatus;

const FILE: &str = "agents.db";
/// A file that a running server has locked.
const PRESENCE: &str = "lock";
/// Raised with each change of the tables.
const VERSION: i64 = 1;
const SCHEMA: &str = "
  CREATE TABLE agents (
    id TEXT PRIMARY KEY, config TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER,
    dropped INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;
  CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE, message TEXT NOT NULL
  );
  CREATE INDEX messages_of ON messages (agent, number);
  CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    kind TEXT NOT NULL, status TEXT NOT NULL, request TEXT NOT NULL,
    created INTEGER NOT NULL, started INTEGER, ended INTEGER,
    steps INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0, error TEXT
  );
  CREATE INDEX runs_of ON runs (agent, number);
  CREATE TABLE entries (
    run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL,
    entry TEXT NOT NULL, PRIMARY KEY (run, position)
  ) WITHOUT ROWID;
  CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position INTEGER NOT NULL,
    event TEXT NOT NULL, PRIMARY KEY (run, position)
  ) WITHOUT ROWID;
  CREATE TABLE models (
    id TEXT PRIMARY KEY, settings TEXT NOT NULL, created INTEGER NOT NULL, last_used INTEGER
  ) WITHOUT ROWID;
  CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Messages of one conversation that are kept, and their bytes.
const MAX_MESSAGES: usize = 1000;
const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Finished runs of one agent that are kept.
const MAX_RUNS: u32 = 100;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Writes and reads on the thread of the database.
pub(crate) struct Store {
  jobs: mpsc::Sender<Job>,
  closed: AtomicBool,
  /// Locked while this server runs; the system releases the lock however it ends.
  _presence: fs::File,
}

/// An agent as the file has it.
pub(crate) struct StoredAgent {
  pub id: AgentId,
  pub config: AgentConfig,
  pub created: DateTime<Utc>,
  pub last_used: Option<DateTime<Utc>>,
  pub messages: usize,
}

/// A conversation, and how many of its oldest messages were dropped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversation {
  pub messages: Vec<ChatMessage>,
  pub dropped: usize,
}

/// What a file holds when it is opened.
pub(crate) struct Kept {
  pub agents: Vec<StoredAgent>,
  pub models: Vec<StoredModel>,
  pub settings: BTreeMap<String, String>,
  /// How many runs the end of a server has interrupted.
  pub interrupted: usize,
}

/// A model of the registry as the file has it.
#[derive(Debug, Clone)]
pub(crate) struct StoredModel {
  pub id: String,
  pub settings: ModelSettings,
  pub created: DateTime<Utc>,
  pub last_used: Option<DateTime<Utc>>,
}

/// One thing that a run has added to what its model is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
  pub message: ChatMessage,
  /// Whether the message asks for code or tools whose results follow.
  #[serde(default)]
  pub asks: bool,
  /// Whether it is a plan, which stands in the system prompt and not among the messages.
  #[serde(default)]
  pub plan: bool,
}

impl Entry {
  pub(crate) fn said(message: ChatMessage) -> Self {
    Self {
      message,
      asks: false,
      plan: false,
    }
  }

  pub(crate) fn asking(message: ChatMessage) -> Self {
    Self {
      asks: true,
      ..Self::said(message)
    }
  }

  pub(crate) fn plan(text: &str) -> Self {
    Self {
      plan: true,
      ..Self::said(ChatMessage::assistant(text))
    }
  }
}

impl Store {
  /// Opens the file in `folder`, which it makes, and reads what is kept; runs that an ended server has left
  /// are interrupted from then on.
  ///
  /// # Errors
  /// When it cannot be used, or a newer release wrote it.
  #[expect(
    clippy::disallowed_methods,
    reason = "at the start, before anything is served"
  )]
  pub(crate) fn open(folder: &Path) -> Result<(Self, Kept), AgentError> {
    let unusable = |e: std::io::Error| AgentError::Storage(format!("{}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(unusable)?;
    // Keys of models are in it.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
    let mut options = fs::File::options();
    let presence = options.create(true).truncate(false).write(true);
    let presence = presence.open(folder.join(PRESENCE)).map_err(unusable)?;
    // Runs of another server go on there.
    let alone = presence.try_lock().is_ok();
    let mut connection = Connection::open(folder.join(FILE))?;
    connection.execute_batch(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;
       PRAGMA busy_timeout = 5000;",
    )?;
    prepare(&mut connection)?;
    let kept = Kept {
      interrupted: match alone {
        true => interrupt_unfinished(&connection)?,
        false => 0,
      },
      agents: agents(&connection)?,
      models: models(&connection)?,
      settings: settings(&connection)?,
    };
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::Builder::new()
      .name("agents-store".into())
      .spawn(move || {
        while let Ok(job) = queue.recv() {
          job(&mut connection);
        }
      })
      .map_err(|e| AgentError::Storage(e.to_string()))?;
    let store = Self {
      jobs,
      closed: AtomicBool::new(false),
      _presence: presence,
    };
    Ok((store, kept))
  }

  /// Takes no more: what is not stored by now is as if the server had been killed.
  pub(crate) fn close(&self) {
    self.closed.store(true, Ordering::Relaxed);
  }

  pub(crate) fn is_closed(&self) -> bool {
    self.closed.load(Ordering::Relaxed)
  }

  /// Does `work` in one transaction.
  async fn call<T: Send + 'static>(
    &self,
    work: impl FnOnce(&Connection) -> Result<T, AgentError> + Send + 'static,
  ) -> Result<T, AgentError> {
    let gone = || AgentError::Storage("the database is closed".into());
    if self.is_closed() {
      return Err(gone());
    }
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |connection| {
      let done = connection
        .transaction()
        .map_err(AgentError::from)
        .and_then(|transaction| {
          let value = work(&transaction)?;
          transaction.commit()?;
          Ok(value)
        });
      let _ = reply.send(done);
    });
    self.jobs.send(job).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
  }

  // ------------------------------------------------------------ agents

  pub(crate) async fn insert_agent(
    &self,
    id: &AgentId,
    config: &AgentConfig,
    created: DateTime<Utc>,
  ) -> Result<(), AgentError> {
    let (id, config) = (id.to_string(), serde_json::to_string(config)?);
    self
      .call(move |db| {
        db.execute(
          "INSERT INTO agents (id, config, created) VALUES (?, ?, ?)",
          params![id, config, created.timestamp_millis()],
        )?;
        Ok(())
      })
      .await
  }

  pub(crate) async fn update_agent(
    &self,
    id: &AgentId,
    config: &AgentConfig,
  ) -> Result<(), AgentError> {
    let (id, config) = (id.to_string(), serde_json::to_string(config)?);
    self
      .call(move |db| {
        db.execute(
          "UPDATE agents SET config = ? WHERE id = ?",
          params![config, id],
        )?;
        Ok(())
      })
      .await
  }

  pub(crate) async fn delete_agent(&self, id: &AgentId) -> Result<(), AgentError> {
    let id = id.to_string();
    self
      .call(move |db| {
        db.execute("DELETE FROM agents WHERE id = ?", [id])?;
        Ok(())
      })
      .await
  }

  // ------------------------------------------------------------ conversations

  pub(crate) async fn conversation(&self, agent: &AgentId) -> Result<Conversation, AgentError> {
    let agent = agent.to_string();
    self
      .call(move |db| {
        let dropped = db
          .query_row("SELECT dropped FROM agents WHERE id = ?", [&agent], |row| {
            row.get(0)
          })
          .optional()?
          .unwrap_or(0);
        let mut statement =
          db.prepare("SELECT message FROM messages WHERE agent = ? ORDER BY number")?;
        let rows = statement.query_map([&agent], |row| row.get::<_, String>(0))?;
        let messages = rows
          .map(|row| Ok(serde_json::from_str(&row?)?))
          .collect::<Result<_, AgentError>>()?;
        Ok(Conversation { messages, dropped })
      })
      .await
  }

  /// Appends messages, and drops the oldest beyond what is kept. Returns how many there are.
  pub(crate) async fn append_messages(
    &self,
    agent: &AgentId,
    messages: &[ChatMessage],
    at: DateTime<Utc>,
  ) -> Result<usize, AgentError> {
    let (agent, texts) = (agent.to_string(), texts(messages)?);
    self
      .call(move |db| write_messages(db, &agent, &texts, at))
      .await
  }

  /// Replaces a conversation. Returns how many messages there are.
  pub(crate) async fn set_messages(
    &self,
    agent: &AgentId,
    messages: &[ChatMessage],
    at: DateTime<Utc>,
  ) -> Result<usize, AgentError> {
    let (agent, texts) = (agent.to_string(), texts(messages)?);
    self
      .call(move |db| {
        db.execute("DELETE FROM messages WHERE agent = ?", [&agent])?;
        db.execute(
          "UPDATE agents SET last_used = ?, dropped = 0 WHERE id = ?",
          params![at.timestamp_millis(), agent],
        )?;
        insert_messages(db, &agent, &texts)
      })
      .await
  }

  // ------------------------------------------------------------ runs

  pub(crate) async fn insert_run(
    &self,
    record: &RunRecord,
    request: String,
  ) -> Result<(), AgentError> {
    let record = record.clone();
    self
      .call(move |db| {
        db.execute(
          "INSERT INTO runs (id, agent, kind, status, request, created) VALUES (?, ?, ?, ?, ?, ?)",
          params![
            record.id.as_str(),
            record.agent_id.as_str(),
            record.kind.as_str(),
            record.status.as_str(),
            request,
            record.created.timestamp_millis()
          ],
        )?;
        // Those that have not ended are never dropped.
        db.execute(
          "DELETE FROM runs WHERE agent = ?1 AND ended IS NOT NULL AND number <=
             (SELECT number FROM runs WHERE agent = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
          params![record.agent_id.as_str(), MAX_RUNS],
        )?;
        Ok(())
      })
      .await
  }

  pub(crate) async fn update_run(&self, record: &RunRecord) -> Result<(), AgentError> {
    let record = record.clone();
    self.call(move |db| write_run(db, &record)).await
  }

  /// Ends a run: how it has ended, its last events, and what the agent says in its conversation, of which it
  /// returns how many messages there are. All of it, or nothing.
  pub(crate) async fn finish_run(
    &self,
    record: &RunRecord,
    (first, events): (usize, Vec<String>),
    said: Option<ChatMessage>,
    at: DateTime<Utc>,
  ) -> Result<Option<usize>, AgentError> {
    let (record, said) = (
      record.clone(),
      said.map(|message| texts(&[message])).transpose()?,
    );
    self
      .call(move |db| {
        write_run(db, &record)?;
        write_positions(db, EVENTS, record.id.as_str(), first, events)?;
        said
          .map(|texts| write_messages(db, record.agent_id.as_str(), &texts, at))
          .transpose()
      })
      .await
  }

  /// The runs of an agent, the newest first.
  pub(crate) async fn runs(&self, agent: &AgentId) -> Result<Vec<RunRecord>, AgentError> {
    let agent = agent.to_string();
    self
      .call(move |db| {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE agent = ? ORDER BY number DESC");
        let mut statement = db.prepare(&sql)?;
        let rows = statement.query_map([agent], run_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
      })
      .await
  }

  /// A run, and what was asked in it.
  pub(crate) async fn run(&self, id: &RunId) -> Result<Option<(RunRecord, String)>, AgentError> {
    let id = id.to_string();
    self
      .call(move |db| {
        let sql = format!("SELECT {RUN_COLUMNS}, request FROM runs WHERE id = ?");
        let found = db.query_row(&sql, [id], |row| Ok((run_of(row)?, row.get("request")?)));
        Ok(found.optional()?)
      })
      .await
  }

  pub(crate) async fn append_entries(
    &self,
    run: &RunId,
    first: usize,
    entries: &[Entry],
  ) -> Result<(), AgentError> {
    let texts: Vec<String> = entries
      .iter()
      .map(serde_json::to_string)
      .collect::<Result<_, _>>()?;
    self.append(run, ENTRIES, first, texts).await
  }

  pub(crate) async fn entries(&self, run: &RunId) -> Result<Vec<Entry>, AgentError> {
    let texts = self.texts_of(run, "entry", "entries").await?;
    let entries = texts.iter().map(|text| Ok(serde_json::from_str(text)?));
    entries.collect()
  }

  pub(crate) async fn append_events(
    &self,
    run: &RunId,
    first: usize,
    events: Vec<String>,
  ) -> Result<(), AgentError> {
    self.append(run, EVENTS, first, events).await
  }

  pub(crate) async fn events(&self, run: &RunId) -> Result<Vec<String>, AgentError> {
    self.texts_of(run, "event", "events").await
  }

  async fn append(
    &self,
    run: &RunId,
    into: &'static str,
    first: usize,
    texts: Vec<String>,
  ) -> Result<(), AgentError> {
    let run = run.to_string();
    self
      .call(move |db| write_positions(db, into, &run, first, texts))
      .await
  }

  async fn texts_of(
    &self,
    run: &RunId,
    column: &'static str,
    table: &'static str,
  ) -> Result<Vec<String>, AgentError> {
    let run = run.to_string();
    self
      .call(move |db| {
        let sql = format!("SELECT {column} FROM {table} WHERE run = ? ORDER BY position");
        let mut statement = db.prepare(&sql)?;
        let rows = statement.query_map([run], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
      })
      .await
  }

  // ------------------------------------------------------------ models

  pub(crate) async fn put_model(&self, model: &StoredModel) -> Result<(), AgentError> {
    let (model, settings) = (model.clone(), serde_json::to_string(&model.settings)?);
    self
      .call(move |db| {
        db.execute(
          "INSERT OR REPLACE INTO models (id, settings, created, last_used) VALUES (?, ?, ?, ?)",
          params![
            model.id,
            settings,
            model.created.timestamp_millis(),
            model.last_used.map(|it| it.timestamp_millis())
          ],
        )?;
        Ok(())
      })
      .await
  }

  pub(crate) async fn delete_model(&self, id: &str) -> Result<(), AgentError> {
    let id = id.to_owned();
    self
      .call(move |db| {
        db.execute("DELETE FROM models WHERE id = ?", [id])?;
        Ok(())
      })
      .await
  }

  /// Keeps a setting that is changed while the server runs.
  pub(crate) async fn set_setting(
    &self,
    name: &'static str,
    value: String,
  ) -> Result<(), AgentError> {
    self
      .call(move |db| {
        let sql = "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)";
        db.execute(sql, params![name, value])?;
        Ok(())
      })
      .await
  }
}

fn agents(db: &Connection) -> Result<Vec<StoredAgent>, AgentError> {
  let mut statement = db.prepare(
    "SELECT id, config, created, last_used, (SELECT count(*) FROM messages WHERE agent = id) AS messages
     FROM agents",
  )?;
  let mut rows = statement.query([])?;
  let mut agents = Vec::new();
  while let Some(row) = rows.next()? {
    agents.push(StoredAgent {
      id: AgentId::addressed(row.get("id")?),
      config: serde_json::from_str(&row.get::<_, String>("config")?)?,
      created: time(row.get("created")?),
      last_used: row.get::<_, Option<i64>>("last_used")?.map(time),
      messages: row.get("messages")?,
    });
  }
  Ok(agents)
}

fn models(db: &Connection) -> Result<Vec<StoredModel>, AgentError> {
  let mut statement = db.prepare("SELECT id, settings, created, last_used FROM models")?;
  let mut rows = statement.query([])?;
  let mut models = Vec::new();
  while let Some(row) = rows.next()? {
    models.push(StoredModel {
      id: row.get("id")?,
      settings: serde_json::from_str(&row.get::<_, String>("settings")?)?,
      created: time(row.get("created")?),
      last_used: row.get::<_, Option<i64>>("last_used")?.map(time),
    });
  }
  Ok(models)
}

fn settings(db: &Connection) -> Result<BTreeMap<String, String>, AgentError> {
  let mut statement = db.prepare("SELECT name, value FROM settings")?;
  let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
  Ok(rows.collect::<Result<_, _>>()?)
}

fn interrupt_unfinished(db: &Connection) -> Result<usize, AgentError> {
  Ok(db.execute(
    "UPDATE runs SET status = ?, ended = ? WHERE ended IS NULL",
    params![
      RunStatus::Interrupted.as_str(),
      Utc::now().timestamp_millis()
    ],
  )?)
}

const RUN_COLUMNS: &str = "id, agent, kind, status, created, started, ended, steps, prompt_tokens, \
  completion_tokens, error";

fn run_of(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
  let moment = |name: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(time));
  Ok(RunRecord {
    id: RunId::addressed(&row.get::<_, String>("id")?),
    agent_id: AgentId::addressed(row.get("agent")?),
    kind: RunKind::parse(&row.get::<_, String>("kind")?),
    status: RunStatus::parse(&row.get::<_, String>("status")?),
    created: time(row.get("created")?),
    started: moment("started")?,
    ended: moment("ended")?,
    steps: row.get("steps")?,
    prompt_tokens: row.get("prompt_tokens")?,
    completion_tokens: row.get("completion_tokens")?,
    error: row.get("error")?,
  })
}

/// Where texts with positions go.
const ENTRIES: &str = "entries (run, position, entry)";
const EVENTS: &str = "events (run, position, event)";

fn write_positions(
  db: &Connection,
  into: &str,
  run: &str,
  first: usize,
  texts: Vec<String>,
) -> Result<(), AgentError> {
  let mut insert = db.prepare_cached(&format!("INSERT INTO {into} VALUES (?, ?, ?)"))?;
  for (offset, text) in texts.into_iter().enumerate() {
    insert.execute(params![run, first + offset, text])?;
  }
  Ok(())
}

/// Appends messages to a conversation.
fn write_messages(
  db: &Connection,
  agent: &str,
  texts: &[String],
  at: DateTime<Utc>,
) -> Result<usize, AgentError> {
  db.execute(
    "UPDATE agents SET last_used = ? WHERE id = ?",
    params![at.timestamp_millis(), agent],
  )?;
  insert_messages(db, agent, texts)
}

fn write_run(db: &Connection, record: &RunRecord) -> Result<(), AgentError> {
  db.execute(
    "UPDATE runs SET status = ?, started = ?, ended = ?, steps = ?, prompt_tokens = ?,
       completion_tokens = ?, error = ? WHERE id = ?",
    params![
      record.status.as_str(),
      record.started.map(|it| it.timestamp_millis()),
      record.ended.map(|it| it.timestamp_millis()),
      record.steps,
      record.prompt_tokens,
      record.completion_tokens,
      record.error,
      record.id.as_str()
    ],
  )?;
  Ok(())
}

fn prepare(connection: &mut Connection) -> Result<(), AgentError> {
  let transaction = connection.transaction()?;
  let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
  match version {
    VERSION => {}
    0 => {
      transaction.execute_batch(SCHEMA)?;
      transaction.pragma_update(None, "user_version", VERSION)?;
    }
    newer => {
      return Err(AgentError::Storage(format!(
        "{FILE} is of version {newer}, which a newer release wrote: this one knows {VERSION}"
      )));
    }
  }
  transaction.commit()?;
  Ok(())
}

fn texts(messages: &[ChatMessage]) -> Result<Vec<String>, AgentError> {
  let texts = messages
    .iter()
    .map(|message| Ok(serde_json::to_string(message)?));
  texts.collect()
}

fn insert_messages(db: &Connection, agent: &str, texts: &[String]) -> Result<usize, AgentError> {
  let mut insert = db.prepare_cached("INSERT INTO messages (agent, message) VALUES (?, ?)")?;
  for text in texts {
    insert.execute([agent, text])?;
  }
  let mut sizes = db.prepare_cached(
    "SELECT number, length(CAST(message AS BLOB)) FROM messages WHERE agent = ? ORDER BY number DESC",
  )?;
  let rows = sizes.query_map([agent], |row| {
    Ok((row.get::<_, i64>(0)?, row.get::<_, usize>(1)?))
  })?;
  let (mut kept, mut bytes, mut last_dropped) = (0, 0, None);
  for row in rows {
    let (number, size) = row?;
    bytes += size;
    // The newest stays, whatever it weighs.
    if kept > 0 && (kept >= MAX_MESSAGES || bytes > MAX_MESSAGE_BYTES) {
      last_dropped = Some(number);
      break;
    }
    kept += 1;
  }
  if let Some(number) = last_dropped {
    let dropped = db.execute(
      "DELETE FROM messages WHERE agent = ? AND number <= ?",
      params![agent, number],
    )?;
    db.execute(
      "UPDATE agents SET dropped = dropped + ? WHERE id = ?",
      params![dropped, agent],
    )?;
  }
  Ok(kept)
}

fn time(millis: i64) -> DateTime<Utc> {
  DateTime::from_timestamp_millis(millis).unwrap_or_default()
}
