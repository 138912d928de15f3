//! One index: a SQLite file with documents, their metadata and their vectors. Blocking; it may be
//! used by any number of threads.

mod budget;
mod check;
mod error;
mod filter;
mod filter_sql;
mod fulltext;
mod nearest;
mod pool;
mod quantised;
mod read;
mod schema;
mod search;
mod simd;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;
mod vectors;
mod write;

use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rusqlite::Connection;
use serde_json::Value;

use self::pool::Pool;
use self::schema::Settings;
use self::snapshot::Cache;

pub use self::budget::Memory;
pub use self::error::IndexError;
pub use self::filter::Filter;
pub use self::types::Dimensions;
pub use self::types::Document;
pub use self::types::Hit;
pub use self::types::IndexOptions;
pub use self::types::IndexStats;
pub use self::types::Metric;
pub use self::types::Query;
pub use self::types::Stored;
pub use self::types::Upserted;

/// An open index. Drop closes it and gives its memory back. Acknowledged writes are always in its files.
pub struct Index {
  shared: Arc<Shared>,
  loader: Mutex<Option<JoinHandle<()>>>,
}

/// State that the loading thread uses, too.
struct Shared {
  path: PathBuf,
  // Closed before the writer, which then empties the log into the file.
  pool: Pool,
  writer: Mutex<Connection>,
  settings: RwLock<Settings>,
  count: AtomicU64,
  cache: Cache,
  closing: AtomicBool,
}

impl Index {
  /// Creates an index. `record` is the caller's: the index keeps it and does not read it.
  ///
  /// # Errors
  /// When the file exists or cannot be made; no file is left behind then.
  pub fn create(
    path: &Path,
    options: &IndexOptions,
    record: &Value,
    memory: &Arc<Memory>,
  ) -> Result<Self, IndexError> {
    schema::create(path, options, record)?;
    Self::open(path, memory)
  }

  /// Reads the record in the file of an index, without opening the index.
  ///
  /// # Errors
  /// When it is no index, is damaged or cannot be read.
  pub fn read_record(path: &Path) -> Result<Value, IndexError> {
    Ok(schema::open(path)?.1.record)
  }

  /// Opens an index. Its snapshot takes its bytes from `memory`.
  ///
  /// # Errors
  /// [`IndexError::NotFound`] when there is no such file, [`IndexError::Corrupt`] when it is no
  /// index or is damaged.
  pub fn open(path: &Path, memory: &Arc<Memory>) -> Result<Self, IndexError> {
    let (writer, settings, state) = schema::open(path)?;
    Ok(Self {
      shared: Arc::new(Shared {
        path: path.to_owned(),
        pool: Pool::new(path),
        writer: Mutex::new(writer),
        settings: RwLock::new(settings),
        count: AtomicU64::new(state.count),
        cache: Cache::new(memory.clone()),
        closing: AtomicBool::new(false),
      }),
      loader: Mutex::default(),
    })
  }

  /// The caller's record.
  pub fn record(&self) -> Value {
    self.shared.settings().record
  }

  /// Replaces the caller's record.
  ///
  /// # Errors
  /// When it cannot be written; the record is then what it was.
  pub fn set_record(&self, record: &Value) -> Result<(), IndexError> {
    let writer = self.shared.writer();
    schema::set(&writer, schema::RECORD, &record.to_string()).map_err(|e| self.shared.failed(e))?;
    self
      .shared
      .change_settings(|settings| settings.record = record.clone());
    Ok(())
  }

  pub fn options(&self) -> IndexOptions {
    self.shared.settings().options
  }

  /// `None` before the first vector, unless the options have one.
  pub fn dimension(&self) -> Option<usize> {
    self.options().dimension
  }

  pub fn count(&self) -> u64 {
    self.shared.count.load(Ordering::Acquire)
  }

  /// Writes the log into the file, and gives unused space back.
  ///
  /// # Errors
  /// When the disk fails; no data is lost then.
  pub fn checkpoint(&self) -> Result<(), IndexError> {
    let writer = self.shared.writer();
    let run = || -> rusqlite::Result<()> {
      let mut vacuum = writer.prepare("PRAGMA incremental_vacuum")?;
      let mut rows = vacuum.query(())?;
      while rows.next()?.is_some() {}
      // A reader of an older state is no error: the next checkpoint writes the rest.
      writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
    };
    run().map_err(|e| self.shared.failed(e))
  }

  /// Checks the whole file for damage.
  ///
  /// # Errors
  /// [`IndexError::Corrupt`] names what is damaged.
  pub fn verify(&self) -> Result<(), IndexError> {
    let reader = self.shared.reader()?;
    let found: String = reader
      .query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))
      .map_err(|e| self.shared.failed(e))?;
    if found == "ok" {
      return Ok(());
    }
    Err(IndexError::Corrupt(format!(
      "index file {}: is damaged ({found}); restore it from a copy or delete the index",
      schema::name(&self.shared.path)
    )))
  }

  pub fn stats(&self) -> IndexStats {
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bytes = size(&self.shared.path) + size(&schema::log_of(&self.shared.path));
    let count = self.count();
    IndexStats {
      count,
      dimension: self.dimension(),
      bytes,
      bytes_per_vector: bytes.checked_div(count).unwrap_or_default(),
      memory_bytes: self.shared.cache.bytes() as u64,
    }
  }
}

impl fmt::Debug for Index {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct("Index")
      .field("path", &self.shared.path)
      .field("count", &self.count())
      .finish_non_exhaustive()
  }
}

impl Drop for Index {
  fn drop(&mut self) {
    self.shared.closing.store(true, Ordering::Release);
    let loader = self
      .loader
      .get_mut()
      .unwrap_or_else(PoisonError::into_inner);
    if let Some(loader) = loader.take() {
      // It ends at the next vector; a panic in it has been reported already.
      let _ = loader.join();
    }
  }
}

impl Shared {
  fn settings(&self) -> Settings {
    let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
    settings.clone()
  }

  fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
    let mut settings = self
      .settings
      .write()
      .unwrap_or_else(PoisonError::into_inner);
    change(&mut settings);
  }

  fn writer(&self) -> MutexGuard<'_, Connection> {
    self.writer.lock().unwrap_or_else(PoisonError::into_inner)
  }

  fn reader(&self) -> Result<pool::Reader<'_>, IndexError> {
    self.pool.take().map_err(|e| self.failed(e))
  }

  fn failed(&self, error: rusqlite::Error) -> IndexError {
    schema::failed(&self.path, error)
  }
}
