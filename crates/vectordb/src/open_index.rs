//! An open index, and who reads and writes it when.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use chrono::DateTime;
use chrono::Utc;
use tokio::sync::Notify;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::sync::RwLock;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use vector_index::Index;

use crate::answers::ActivityInfo;
use crate::answers::IndexInfo;
use crate::embedding::LOCAL_MODEL;
use crate::embedding::MOCK_MODEL;
use crate::error::VectorError;
use crate::id::IndexId;
use crate::options::VectorDbOptions;
use crate::permission::Ownership;
use crate::record::IndexRecord;
use crate::tasks::blocking;

/// Name of the built-in model in listings.
const BUILT_IN: &str = "Built-in";

pub(crate) struct OpenIndex {
  pub id: IndexId,
  /// Whether it was off-loaded before.
  pub from_offload: bool,
  /// `None` once closed. Users hold the read lock, closing takes the write lock.
  pub file: Arc<RwLock<Option<Index>>>,
  record: Mutex<IndexRecord>,
  /// Writers wait for each other here, not on threads.
  writing: Arc<tokio::sync::Mutex<()>>,
  last_use: Mutex<(Instant, DateTime<Utc>)>,
  saved: Mutex<Option<DateTime<Utc>>>,
  /// Wakes the task that watches for inactivity.
  pub changed: Arc<Notify>,
}

/// The hold of a user on an index, which stays open meanwhile.
pub(crate) struct Lease {
  pub open_index: Arc<OpenIndex>,
  index: OwnedRwLockReadGuard<Option<Index>, Index>,
}

impl OpenIndex {
  pub(crate) fn new(index: Index, record: IndexRecord, from_offload: bool) -> Self {
    Self {
      id: record.id.clone(),
      from_offload,
      file: Arc::new(RwLock::new(Some(index))),
      record: Mutex::new(record),
      writing: Arc::default(),
      last_use: Mutex::new((Instant::now(), Utc::now())),
      saved: Mutex::default(),
      changed: Arc::default(),
    }
  }

  /// `None` if it was closed meanwhile.
  pub(crate) async fn lease(self: &Arc<Self>) -> Option<Lease> {
    let guard = self.file.clone().read_owned().await;
    Lease::of(self, guard)
  }

  /// As [`Self::lease`], but `None` even when it is only about to be closed.
  pub(crate) fn try_lease(self: &Arc<Self>) -> Option<Lease> {
    Lease::of(self, self.file.clone().try_read_owned().ok()?)
  }

  pub(crate) fn record(&self) -> IndexRecord {
    lock(&self.record).clone()
  }

  pub(crate) fn touch(&self) {
    *lock(&self.last_use) = (Instant::now(), Utc::now());
  }

  pub(crate) fn saved(&self) -> Option<DateTime<Utc>> {
    *lock(&self.saved)
  }

  pub(crate) fn set_saved(&self, saved: Option<DateTime<Utc>>) {
    *lock(&self.saved) = saved;
  }

  pub(crate) fn ownership(&self) -> Ownership {
    lock(&self.record).ownership()
  }

  /// When it is off-loaded unless it is used before.
  pub(crate) fn deadline(&self, options: &VectorDbOptions) -> Option<Instant> {
    let record = lock(&self.record);
    let limit = record.timeout(options).limit();
    let limit = limit.filter(|_| record.is_monitored(options))?;
    // A deadline too far to represent means none.
    lock(&self.last_use).0.checked_add(limit)
  }

  fn activity(&self, options: &VectorDbOptions) -> ActivityInfo {
    let rest = self.deadline(options).map(|deadline| {
      let rest = deadline.saturating_duration_since(Instant::now());
      u64::try_from(rest.as_millis()).unwrap_or(u64::MAX)
    });
    let record = lock(&self.record);
    ActivityInfo {
      last_activity: lock(&self.last_use).1,
      time_until_offload: rest,
      inactivity_timeout: record.timeout(options),
      enabled: record.is_monitored(options),
    }
  }
}

impl Lease {
  fn of(open_index: &Arc<OpenIndex>, guard: OwnedRwLockReadGuard<Option<Index>>) -> Option<Self> {
    let index = OwnedRwLockReadGuard::try_map(guard, Option::as_ref).ok()?;
    Some(Self {
      open_index: open_index.clone(),
      index,
    })
  }

  pub(crate) fn index(&self) -> &Index {
    &self.index
  }

  /// Runs `work`, which only reads, when it is its turn.
  pub(crate) async fn read<T: Send + 'static>(
    self,
    readers: &Arc<Semaphore>,
    work: impl FnOnce(&Index) -> Result<T, VectorError> + Send + 'static,
  ) -> Result<T, VectorError> {
    // The semaphore is never closed.
    let turn = readers.clone().acquire_owned().await.ok();
    self.work(turn, work).await
  }

  /// Runs `work`, which changes the index, after the writers before it.
  pub(crate) async fn write<T: Send + 'static>(
    self,
    work: impl FnOnce(&Index) -> Result<T, VectorError> + Send + 'static,
  ) -> Result<T, VectorError> {
    let turn = self.open_index.writing.clone().lock_owned().await;
    self.work(turn, work).await
  }

  /// Runs `work` and gives the turn back after it, even when the caller stops waiting.
  async fn work<T: Send + 'static>(
    self,
    turn: impl Send + 'static,
    work: impl FnOnce(&Index) -> Result<T, VectorError> + Send + 'static,
  ) -> Result<T, VectorError> {
    blocking(move || {
      let outcome = work(&self.index);
      self.open_index.touch();
      drop(turn);
      outcome
    })
    .await
  }

  /// Changes the record of the index, in its file and here.
  pub(crate) async fn describe(
    self,
    change: impl FnOnce(&mut IndexRecord, &Index) -> Result<(), VectorError> + Send + 'static,
  ) -> Result<(), VectorError> {
    let open_index = self.open_index.clone();
    self
      .write(move |index| {
        let mut record = open_index.record();
        change(&mut record, index)?;
        index.set_record(&record.to_value())?;
        *lock(&open_index.record) = record;
        open_index.changed.notify_one();
        Ok(())
      })
      .await
  }

  /// Blocking.
  pub(crate) fn info(&self, options: &VectorDbOptions) -> IndexInfo {
    let record = self.open_index.record();
    let provider = record.provider;
    let provider = provider.filter(|name| ![MOCK_MODEL, LOCAL_MODEL].contains(&name.as_str()));
    IndexInfo {
      id: record.id,
      namespace: record.namespace,
      created: record.created,
      document_count: self.index.count(),
      embedding_dimension: self.index.dimension(),
      is_from_offload: self.open_index.from_offload,
      embedding_provider: provider.unwrap_or_else(|| BUILT_IN.to_owned()),
      embedding_model: record.embedding_model,
      metric: self.index.options().metric,
      permission: record.permission,
      max_documents: record.max_documents,
      activity_monitoring: self.open_index.activity(options),
    }
  }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
  mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
