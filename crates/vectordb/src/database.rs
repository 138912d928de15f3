//! All vector indices of the engine.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;

use access::Caller;
use access::Right;
use chrono::Utc;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::Semaphore;
use tokio::sync::broadcast;
use vector_index::IndexStats;
use vector_index::Memory;

use crate::answers::DatabaseStats;
use crate::answers::IndexInfo;
use crate::answers::MonitoringStats;
use crate::answers::OffloadedIndex;
use crate::embedding::Registry;
use crate::error::VectorError;
use crate::events::EventWatch;
use crate::events::VectorEvent;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::open_index::Lease;
use crate::open_index::OpenIndex;
use crate::options::VectorDbOptions;
use crate::store::IndexSummary;
use crate::store::Store;
use crate::tasks::blocking;
use crate::tasks::run_to_completion;

/// Exports that are read at one time.
pub(crate) const MAX_EXPORTS: usize = 8;

/// Events a slow watcher may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;
/// Where added providers are kept.
const PROVIDERS: &str = "providers.json";
/// Namespace of new indices when none is named; those without one are counted here.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";
/// Number of gates above which unheld ones are dropped.
const MANY_GATES: usize = 1024;

pub struct VectorDb {
  pub(crate) options: VectorDbOptions,
  pub(crate) store: Arc<Store>,
  pub(crate) registry: Arc<Registry>,
  pub(crate) readers: Arc<Semaphore>,
  /// Permits for exports.
  pub(crate) exports: Arc<Semaphore>,
  pub(crate) shutting_down: AtomicBool,
  indices: RwLock<HashMap<IndexId, Slot>>,
  /// By folder; one task at a time opens, closes or deletes an index.
  gates: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
  events: broadcast::Sender<VectorEvent>,
}

enum Slot {
  /// Being created or opened; not listed.
  Reserved,
  Open(Arc<OpenIndex>),
}

/// A place among the open indices, given back on drop unless it is filled.
pub(crate) struct Reservation {
  db: Arc<VectorDb>,
  id: Option<IndexId>,
}

impl VectorDb {
  /// Opens the database; indices of an earlier server are closed. Blocking.
  ///
  /// # Errors
  /// When the folder cannot be used, or a setting cannot work.
  pub fn open(options: VectorDbOptions) -> Result<Arc<Self>, VectorError> {
    let store = Store::open(&options.folder, Memory::new(options.memory))?;
    let file = store.root().join(PROVIDERS);
    let registry = Registry::open(file, options.providers.clone(), options.registry.clone())?;
    if let Some(name) = &options.default_provider
      && registry.get(name).is_none()
    {
      tracing::warn!("the default embedding provider {name} is not in the registry");
    }
    Ok(Arc::new(Self {
      store: Arc::new(store),
      registry: Arc::new(registry),
      readers: Arc::new(Semaphore::new(options.limits.readers.max(1))),
      exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
      shutting_down: AtomicBool::new(false),
      indices: RwLock::default(),
      gates: Mutex::default(),
      events: broadcast::channel(EVENT_BUFFER).0,
      options,
    }))
  }

  /// Follows the events that `caller` sees.
  ///
  /// # Errors
  /// When the caller may not look.
  pub fn watch(&self, caller: &Caller) -> Result<EventWatch, VectorError> {
    caller.require(Right::Read)?;
    Ok(EventWatch::new(self.events.subscribe(), caller))
  }

  pub(crate) fn announce(&self, kind: VectorEventKind) {
    let time = Utc::now();
    let _ = self.events.send(VectorEvent { time, kind });
  }

  // ------------------------------------------------------------ listing

  /// The open indices that `caller` has, or those of them in the namespace `asked`, oldest first.
  ///
  /// # Errors
  /// When another namespace than the caller's is asked for, or the work on them was cut short.
  pub async fn list(
    &self,
    caller: &Caller,
    asked: Option<&str>,
  ) -> Result<Vec<IndexInfo>, VectorError> {
    caller.require(Right::Read)?;
    let namespace = caller.work_in(asked)?;
    let mut indices = self.open_indices();
    indices.retain(|index| namespace.is_none() || index.ownership().namespace == namespace);
    let options = self.options.clone();
    blocking(move || {
      let leases = indices.iter().filter_map(OpenIndex::try_lease);
      let mut list: Vec<_> = leases.map(|lease| lease.info(&options)).collect();
      list.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
      Ok(list)
    })
    .await
  }

  /// Describes an open index. This does not count as use.
  ///
  /// # Errors
  /// When it is not open.
  pub async fn info(&self, caller: &Caller, id: &str) -> Result<IndexInfo, VectorError> {
    let id = own(caller, id, Right::Read, VectorError::not_open)?;
    let lease = self.open_lease(&id).await?;
    let options = self.options.clone();
    blocking(move || Ok(lease.info(&options))).await
  }

  /// Measures an open index. This does not count as use.
  ///
  /// # Errors
  /// When it is not open.
  pub async fn index_stats(&self, caller: &Caller, id: &str) -> Result<IndexStats, VectorError> {
    let id = own(caller, id, Right::Read, VectorError::not_open)?;
    let lease = self.open_lease(&id).await?;
    blocking(move || Ok(lease.index().stats())).await
  }

  /// Counts the open indices that `caller` has.
  ///
  /// # Errors
  /// When the work on them was cut short.
  pub async fn stats(&self, caller: &Caller) -> Result<DatabaseStats, VectorError> {
    let list = self.list(caller, None).await?;
    let mut by_namespace = BTreeMap::new();
    for index in &list {
      let namespace = index.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
      *by_namespace.entry(namespace.to_owned()).or_default() += 1;
    }
    let is_operator = caller.namespace().is_none();
    let timed = |index: &&IndexInfo| index.activity_monitoring.time_until_offload.is_some();
    Ok(DatabaseStats {
      total_instances: list.len(),
      total_documents: list.iter().map(|index| index.document_count).sum(),
      embedding_model: self.options.default_model.clone(),
      max_instances: self.options.max_instances,
      instances_by_namespace: by_namespace,
      activity_monitoring: MonitoringStats {
        enabled: self.options.activity_monitoring,
        default_timeout: self.options.default_timeout,
        active_timers: list.iter().filter(timed).count(),
        offload_directory: is_operator.then(|| self.folder().to_owned()),
      },
    })
  }

  /// The folder of the database.
  pub(crate) fn folder(&self) -> &Path {
    self.store.root()
  }

  /// The closed indices and saved ones that `caller` has, or those of them in the namespace `asked`,
  /// last closed first.
  ///
  /// # Errors
  /// When another namespace than the caller's is asked for, or the work on them was cut short.
  pub async fn offloaded(
    self: &Arc<Self>,
    caller: &Caller,
    asked: Option<&str>,
  ) -> Result<Vec<OffloadedIndex>, VectorError> {
    caller.require(Right::Read)?;
    let namespace = caller.work_in(asked)?;
    let store = self.store.clone();
    let folders = blocking(move || Ok(store.folders())).await?;
    let open: HashMap<_, _> = self
      .open_indices()
      .into_iter()
      .map(|l| (l.id.folder(), l))
      .collect();
    let mut list: Vec<OffloadedIndex> = Vec::new();
    for (folder, summary) in folders {
      let summary = match (open.get(&folder), summary) {
        (Some(open_index), _) => {
          let open_index = open_index.clone();
          blocking(move || Ok(saved_summary(&open_index))).await?
        }
        (None, Some(summary)) => Some(summary),
        (None, None) => self.missing_summary(folder).await,
      };
      list.extend(summary.map(OffloadedIndex::from));
    }
    list.retain(|index| namespace.is_none() || index.namespace == namespace);
    list.sort_by(|a, b| (b.offloaded_at, &a.id).cmp(&(a.offloaded_at, &b.id)));
    Ok(list)
  }

  /// Summarises an index that was open when a server ended.
  async fn missing_summary(self: &Arc<Self>, folder: String) -> Option<IndexSummary> {
    let db = self.clone();
    let summary = run_to_completion(async move {
      let _gate = db.gate(&folder).await;
      if db
        .open_indices()
        .iter()
        .any(|open_index| open_index.id.folder() == folder)
      {
        return Ok(None);
      }
      let store = db.store.clone();
      blocking(move || store.make_summary(&folder).map(Some)).await
    })
    .await;
    summary.unwrap_or_else(|error| {
      tracing::warn!("a vector index is not listed: {error}");
      None
    })
  }

  // ------------------------------------------------------------ places

  pub(crate) fn find(&self, id: &IndexId) -> Option<Arc<OpenIndex>> {
    match self.read().get(id) {
      Some(Slot::Open(open_index)) => Some(open_index.clone()),
      _ => None,
    }
  }

  pub(crate) fn open_indices(&self) -> Vec<Arc<OpenIndex>> {
    let open = |slot: &Slot| match slot {
      Slot::Open(open_index) => Some(open_index.clone()),
      Slot::Reserved => None,
    };
    self.read().values().filter_map(open).collect()
  }

  /// Ids that are open or being opened.
  pub(crate) fn taken(&self) -> HashSet<IndexId> {
    self.read().keys().cloned().collect()
  }

  /// Leases an index only if it is open.
  pub(crate) async fn open_lease(&self, id: &IndexId) -> Result<Lease, VectorError> {
    let lease = match self.find(id) {
      Some(open_index) => open_index.lease().await,
      None => None,
    };
    lease.ok_or_else(|| VectorError::not_open(id))
  }

  pub(crate) fn reserve(self: &Arc<Self>, id: &IndexId) -> Result<Reservation, VectorError> {
    let mut indices = self.write();
    let most = self.options.max_instances;
    if indices.len() >= most {
      return Err(VectorError::LimitReached(format!(
        "Maximum number of vector database instances ({most}) reached"
      )));
    }
    if indices.contains_key(id) {
      return Err(VectorError::Exists(format!(
        "Vector database instance with ID {id} already exists"
      )));
    }
    indices.insert(id.clone(), Slot::Reserved);
    Ok(Reservation {
      db: self.clone(),
      id: Some(id.clone()),
    })
  }

  pub(crate) fn forget(&self, id: &IndexId) {
    self.write().remove(id);
  }

  /// Waits for its turn to open, close or delete the index of a folder.
  pub(crate) async fn gate(&self, folder: &str) -> OwnedMutexGuard<()> {
    let gate = {
      let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
      if gates.len() > MANY_GATES {
        gates.retain(|_, gate| gate.strong_count() > 0);
      }
      let known = gates.get(folder).and_then(Weak::upgrade);
      known.unwrap_or_else(|| {
        let gate = Arc::default();
        gates.insert(folder.to_owned(), Arc::downgrade(&gate));
        gate
      })
    };
    gate.lock_owned().await
  }

  fn read(&self) -> RwLockReadGuard<'_, HashMap<IndexId, Slot>> {
    self.indices.read().unwrap_or_else(PoisonError::into_inner)
  }

  fn write(&self) -> RwLockWriteGuard<'_, HashMap<IndexId, Slot>> {
    self.indices.write().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Reservation {
  pub(crate) fn fill(mut self, open_index: Arc<OpenIndex>) {
    if let Some(id) = self.id.take() {
      self.db.write().insert(id, Slot::Open(open_index));
    }
  }
}

impl Drop for Reservation {
  fn drop(&mut self) {
    if let Some(id) = &self.id {
      self.db.forget(id);
    }
  }
}

/// The index that `caller` calls `id`, which must be its own and which it needs `right` for.
///
/// # Errors
/// When the caller does not have the right. An index of others is `missing`, as one that does not exist,
/// so that callers do not learn what others have.
pub(crate) fn own(
  caller: &Caller,
  id: &str,
  right: Right,
  missing: fn(&IndexId) -> VectorError,
) -> Result<IndexId, VectorError> {
  caller.require(right)?;
  let id = IndexId::of(caller, id);
  match caller.sees(id.namespace()) {
    true => Ok(id),
    false => Err(missing(&id)),
  }
}

/// Summarises an open index; `None` if it was not saved.
fn saved_summary(open_index: &Arc<OpenIndex>) -> Option<IndexSummary> {
  let saved = open_index.saved()?;
  let lease = open_index.try_lease()?;
  Some(IndexSummary::of(lease.index(), &open_index.record(), saved))
}
