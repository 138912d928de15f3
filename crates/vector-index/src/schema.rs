//! The file of an index: its tables, and how it is made and opened.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::ErrorCode;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use serde_json::Value;

use crate::check::MAX_DIMENSION;
use crate::error::IndexError;
use crate::types::IndexOptions;
use crate::types::Metric;

/// Marks the file as an index of this program.
const APPLICATION_ID: i32 = 0x4441_4556;
const VERSION: i32 = 1;
/// Name of the setting that holds the record.
pub(crate) const RECORD: &str = "about";

/// How long a statement waits for another process that has the file locked.
const BUSY: Duration = Duration::from_secs(5);

/// Bytes of vectors in one chunk, about: few enough to waste little in a small index.
const CHUNK_BYTES: usize = 384 << 10;

/// The settings in the file, which rarely change.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
  pub options: IndexOptions,
  pub record: Value,
}

/// The number of documents, and of changes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
  pub generation: i64,
  pub count: u64,
}

/// Creates the file as a whole or not at all.
pub(crate) fn create(
  path: &Path,
  options: &IndexOptions,
  record: &Value,
) -> Result<(), IndexError> {
  if path.exists() {
    let name = name(path);
    return Err(IndexError::Exists(format!("index file {name}: exists")));
  }
  if let Some(dimension) = options.dimension
    && !(1..=MAX_DIMENSION).contains(&dimension)
  {
    return Err(IndexError::Invalid(format!(
      "dimension: {dimension} is not between 1 and {MAX_DIMENSION}"
    )));
  }
  let unfinished = PathBuf::from(format!("{}.unfinished", path.display()));
  let made = remove_all(&unfinished)
    .map_err(|e| unreachable_disk(path, &e))
    .and_then(|()| write(&unfinished, options, record).map_err(|e| failed(path, e)))
    .and_then(|()| fs::rename(&unfinished, path).map_err(|e| unreachable_disk(path, &e)));
  if made.is_err() {
    let _ = remove_all(&unfinished);
  }
  made
}

fn write(path: &Path, options: &IndexOptions, record: &Value) -> rusqlite::Result<()> {
  let mut connection = Connection::open(path)?;
  sqlite_vec_fast::register(&connection)?;
  connection.execute_batch(&format!(
    "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
     PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
  ))?;
  let transaction = connection.transaction()?;
  // Metadata stands before text, so that a filter does not walk over long texts.
  transaction.execute_batch(
    "CREATE TABLE document(rowid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, metadata BLOB,
       text TEXT);
     CREATE VIRTUAL TABLE words USING fts5(text, content = '', contentless_delete = 1,
       tokenize = 'unicode61 remove_diacritics 2');
     CREATE TABLE setting(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
     CREATE TABLE state(generation INTEGER NOT NULL, count INTEGER NOT NULL);
     INSERT INTO state VALUES (0, 0);",
  )?;
  set(&transaction, "options", &options_text(options))?;
  set(&transaction, RECORD, &record.to_string())?;
  if let Some(dimension) = options.dimension {
    create_vectors(&transaction, dimension, options.metric)?;
  }
  transaction.commit()
}

/// The table of the vectors, made as soon as their dimension is known.
pub(crate) fn create_vectors(
  connection: &Connection,
  dimension: usize,
  metric: Metric,
) -> rusqlite::Result<()> {
  // sqlite-vec ranks by no product; such an index is scanned here.
  let metric = match metric {
    Metric::Cosine => "cosine",
    Metric::L2 | Metric::Dot => "l2",
  };
  let chunk = chunk_size(dimension);
  connection.execute_batch(&format!(
    "CREATE VIRTUAL TABLE vector USING vec0(embedding float[{dimension}] \
     distance_metric={metric}, chunk_size={chunk})"
  ))
}

/// Vectors in one chunk of the table; a multiple of 8.
pub(crate) fn chunk_size(dimension: usize) -> usize {
  (CHUNK_BYTES / (4 * dimension) / 8 * 8).clamp(8, 1024)
}

/// Opens the connection that writes, and reads the settings.
pub(crate) fn open(path: &Path) -> Result<(Connection, Settings, State), IndexError> {
  if !path.is_file() {
    let name = name(path);
    return Err(IndexError::NotFound(format!(
      "index file {name}: not found"
    )));
  }
  let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| failed(path, e))?;
  let foreign = |reason: &str| {
    IndexError::Corrupt(format!(
      "index file {}: {reason}; restore it from a copy or delete the index",
      name(path)
    ))
  };
  let header = |pragma: &str| -> rusqlite::Result<i32> {
    connection.query_row(&format!("PRAGMA {pragma}"), (), |row| row.get(0))
  };
  if header("application_id").map_err(|e| failed(path, e))? != APPLICATION_ID {
    return Err(foreign("is not an index"));
  }
  let version = header("user_version").map_err(|e| failed(path, e))?;
  if version != VERSION {
    return Err(foreign(&format!(
      "has format {version} and this program reads {VERSION}"
    )));
  }
  let settings = settings(&connection)
    .map_err(|e| failed(path, e))?
    .ok_or_else(|| foreign("its settings are damaged"))?;
  let state = state(&connection).map_err(|e| failed(path, e))?;
  Ok((connection, settings, state))
}

/// Opens one more connection, which only reads.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
  let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
  reader.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
  Ok(reader)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
  let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
  let connection = Connection::open_with_flags(path, flags)?;
  sqlite_vec_fast::register(&connection)?;
  connection.busy_timeout(BUSY)?;
  connection.set_prepared_statement_cache_capacity(64);
  // FULL: acknowledged writes survive even the loss of power.
  connection.execute_batch(
    "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;
     PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 2000;
     PRAGMA journal_size_limit = 67108864;",
  )?;
  Ok(connection)
}

fn settings(connection: &Connection) -> rusqlite::Result<Option<Settings>> {
  let mut read = connection.prepare("SELECT value FROM setting WHERE name = ?")?;
  let mut value = |name: &str| -> rusqlite::Result<Option<String>> {
    read.query_row([name], |row| row.get(0)).optional()
  };
  let options = value("options")?.and_then(|text| serde_json::from_str(&text).ok());
  let record = value(RECORD)?.and_then(|text| serde_json::from_str(&text).ok());
  Ok(
    options
      .zip(record)
      .map(|(options, record)| Settings { options, record }),
  )
}

pub(crate) fn state(connection: &Connection) -> rusqlite::Result<State> {
  let mut read = connection.prepare_cached("SELECT generation, count FROM state")?;
  read.query_row((), |row| {
    Ok(State {
      generation: row.get(0)?,
      count: row.get(1)?,
    })
  })
}

/// Counts one change of the documents.
pub(crate) fn advance(connection: &Connection, added: i64) -> rusqlite::Result<State> {
  connection
    .prepare_cached("UPDATE state SET generation = generation + 1, count = count + ?")?
    .execute([added])?;
  state(connection)
}

pub(crate) fn set(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
  connection
    .prepare_cached("INSERT OR REPLACE INTO setting(name, value) VALUES (?, ?)")?
    .execute((name, value))?;
  Ok(())
}

pub(crate) fn options_text(options: &IndexOptions) -> String {
  serde_json::json!(options).to_string()
}

/// Turns an error of SQLite into one for callers.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn failed(path: &Path, error: rusqlite::Error) -> IndexError {
  let name = name(path);
  let code = error.sqlite_error_code();
  match code {
    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => IndexError::Corrupt(format!(
      "index file {name}: is damaged ({error}); restore it from a copy or delete the index"
    )),
    Some(ErrorCode::DiskFull) => IndexError::Storage(format!(
      "index file {name}: the disk is full; free some space"
    )),
    Some(ErrorCode::ReadOnly) => IndexError::Storage(format!(
      "index file {name}: cannot be written ({error}); make the file and its folder writable"
    )),
    Some(ErrorCode::CannotOpen) => IndexError::Storage(format!(
      "index file {name}: cannot be opened ({error}); check that its folder exists and is writable"
    )),
    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => IndexError::Conflict(format!(
      "index file {name}: another process has it locked; try again"
    )),
    Some(ErrorCode::TooBig) => IndexError::TooLarge(format!(
      "index file {name}: a text or metadata is too large for SQLite"
    )),
    // A shadow table of sqlite-vec is incomplete.
    Some(_) if error.to_string().contains("Internal sqlite-vec error") => {
      IndexError::Corrupt(format!(
        "index file {name}: is damaged ({error}); restore it from a copy or delete the index"
      ))
    }
    None
      if matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
          | rusqlite::Error::InvalidColumnType(..)
          | rusqlite::Error::QueryReturnedNoRows
      ) =>
    {
      IndexError::Corrupt(format!(
        "index file {name}: is damaged ({error}); restore it from a copy or delete the index"
      ))
    }
    _ => IndexError::Storage(format!("index file {name}: {error}")),
  }
}

fn unreachable_disk(path: &Path, error: &std::io::Error) -> IndexError {
  let name = name(path);
  IndexError::Storage(format!("index file {name}: {error}; check its folder"))
}

/// Files that SQLite keeps beside an index while it is open.
pub(crate) fn log_of(path: &Path) -> PathBuf {
  PathBuf::from(format!("{}-wal", path.display()))
}

fn remove_all(path: &Path) -> std::io::Result<()> {
  for suffix in ["", "-wal", "-shm"] {
    match fs::remove_file(format!("{}{suffix}", path.display())) {
      Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
      _ => {}
    }
  }
  Ok(())
}

/// Name of the file with that of its folder, which names the index.
pub(crate) fn name(path: &Path) -> String {
  let folder = path.parent().and_then(Path::file_name);
  let name: PathBuf = folder.into_iter().chain(path.file_name()).collect();
  name.display().to_string()
}
