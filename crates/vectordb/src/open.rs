//! Create and open indices. Each of these holds the gate of its index, so that no file is opened twice,
//! and runs to completion when its caller stops waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use access::Caller;
use access::Right;
use uuid::Uuid;
use vector_index::Dimensions;
use vector_index::Index;
use vector_index::IndexOptions;

use crate::answers::IndexInfo;
use crate::database::DEFAULT_NAMESPACE;
use crate::database::VectorDb;
use crate::embedding::LOCAL_MODEL;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::open_index::Lease;
use crate::open_index::OpenIndex;
use crate::options::CreateIndex;
use crate::options::DimensionRule;
use crate::permission::Operation;
use crate::providers::check_dimension;
use crate::record::IndexRecord;
use crate::tasks::blocking;
use crate::tasks::run_to_completion;

/// The name that stands for no provider in particular.
const NO_PROVIDER: &str = "default";

impl VectorDb {
  /// Creates an index, or opens a closed one when the request says `resume`. It is in the caller's
  /// namespace, or, for the operator, in the one that the request names, otherwise in `default`.
  ///
  /// # Errors
  /// When it is not allowed or not possible; nothing is left behind then.
  pub async fn create(
    self: &Arc<Self>,
    caller: &Caller,
    mut request: CreateIndex,
  ) -> Result<IndexInfo, VectorError> {
    caller.require(Right::Manage)?;
    let asked = request.namespace.take().filter(|name| !name.is_empty());
    let namespace = caller.work_in(asked.as_deref())?;
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let name = request.id.take().filter(|id| !id.is_empty());
    let name = name.unwrap_or_else(|| Uuid::new_v4().to_string());
    let id = IndexId::new(Some(&namespace), &name)?;
    let provider = &mut request.embedding_provider_name;
    provider.take_if(|name| name.is_empty() || name == NO_PROVIDER);
    let db = self.clone();
    let open_index = run_to_completion(async move {
      let _gate = db.gate(&id.folder()).await;
      let place = db.reserve(&id)?;
      db.check_not_shutting_down()?;
      let (store, known) = (db.store.clone(), id.clone());
      let exists = blocking(move || Ok(store.exists(&known))).await?;
      let open_index = match (exists, request.resume) {
        (true, false) => {
          return Err(VectorError::Exists(format!(
            "Vector database instance with ID {id} already exists on disk: use resume=true to \
             open it, or delete it first"
          )));
        }
        (false, true) => {
          return Err(VectorError::NotFound(format!(
            "Cannot resume: vector database instance {id} does not exist"
          )));
        }
        (false, false) => db.make(id.clone(), namespace, &request).await?,
        (true, true) => db.resume(&id, &request).await?,
      };
      place.fill(open_index.clone());
      db.watch_for_inactivity(&open_index);
      db.announce(match request.resume {
        true => VectorEventKind::IndexResumed(id),
        false => VectorEventKind::IndexCreated(id),
      });
      Ok(open_index)
    })
    .await?;
    let options = self.options.clone();
    let lease = open_index.lease().await;
    let lease = lease.ok_or_else(|| VectorError::no_index(&open_index.id))?;
    blocking(move || Ok(lease.info(&options))).await
  }

  async fn make(
    &self,
    id: IndexId,
    namespace: String,
    request: &CreateIndex,
  ) -> Result<Arc<OpenIndex>, VectorError> {
    let mut record = IndexRecord::new(id, Some(namespace));
    record.apply(request);
    let options = &self.options;
    if options.default_provider.is_none() && options.default_model == LOCAL_MODEL {
      // Kept with the index: its vectors are of this model, whatever later servers have by default.
      record
        .provider
        .get_or_insert_with(|| LOCAL_MODEL.to_owned());
    }
    // A default provider that does not work yet is reported when it is needed.
    if record.provider.is_some() {
      self.provider_of(&record)?;
    }
    let (dimensions, dimension) = match request.dimension {
      DimensionRule::Strict => (Dimensions::Strict, None),
      DimensionRule::Fixed(dimension) => (Dimensions::Strict, Some(dimension)),
      DimensionRule::Flexible => (Dimensions::Flexible, None),
    };
    let options = IndexOptions {
      metric: request.metric.unwrap_or_default(),
      dimensions,
      dimension,
    };
    let store = self.store.clone();
    let (index, record) = blocking(move || {
      let index = store.create(&options, &record)?;
      Ok((index, record))
    })
    .await?;
    Ok(Arc::new(OpenIndex::new(index, record, false)))
  }

  async fn resume(
    &self,
    id: &IndexId,
    request: &CreateIndex,
  ) -> Result<Arc<OpenIndex>, VectorError> {
    let (index, before) = self.load(id).await?;
    let mut record = before.clone();
    record.apply(request);
    let mut outcome = Ok(());
    if request.embedding_provider_name.is_some() {
      let provider = self.provider_of(&record);
      outcome = provider.and_then(|p| check_dimension(index.dimension(), &p));
    }
    let store = self.store.clone();
    blocking(move || {
      if outcome.is_ok() && record != before {
        outcome = index.set_record(&record.to_value()).map_err(Into::into);
      }
      match outcome {
        Ok(()) => Ok(Arc::new(OpenIndex::new(index, record, true))),
        Err(error) => {
          // If closing fails as well, the first error says more.
          let _ = store.close(index, &before);
          Err(error)
        }
      }
    })
    .await
  }

  async fn load(&self, id: &IndexId) -> Result<(Index, IndexRecord), VectorError> {
    let (store, id) = (self.store.clone(), id.clone());
    blocking(move || store.load(&id)).await
  }

  /// Leases an index to `caller`, and opens it first if it is closed.
  pub(crate) async fn lease(
    self: &Arc<Self>,
    caller: &Caller,
    id: &IndexId,
    operation: Operation,
  ) -> Result<Lease, VectorError> {
    caller.require(operation.right())?;
    loop {
      let Some(open_index) = self.find(id) else {
        self.check_closed(caller, id, operation).await?;
        let (db, id) = (self.clone(), id.clone());
        run_to_completion(async move { db.auto_resume(&id).await }).await?;
        continue;
      };
      open_index.ownership().check(caller, id, operation)?;
      if let Some(lease) = open_index.lease().await {
        open_index.touch();
        return Ok(lease);
      }
    }
  }

  /// Checks access to a closed index before it is opened, so that a caller neither opens an index of
  /// others nor learns of it.
  async fn check_closed(
    &self,
    caller: &Caller,
    id: &IndexId,
    operation: Operation,
  ) -> Result<(), VectorError> {
    let Some(asking) = caller.namespace() else {
      return Ok(());
    };
    let (store, known) = (self.store.clone(), id.clone());
    match blocking(move || store.owner(&known)).await {
      Ok(Some(owner)) => owner.check(caller, id, operation),
      // Opening it tells its owner what is wrong with the file.
      Err(_) if id.namespace() != Some(asking) => Err(VectorError::no_index(id)),
      Ok(None) | Err(_) => Ok(()),
    }
  }

  async fn auto_resume(self: &Arc<Self>, id: &IndexId) -> Result<(), VectorError> {
    let _gate = self.gate(&id.folder()).await;
    if self.find(id).is_some() {
      return Ok(());
    }
    self.check_not_shutting_down()?;
    let (store, known) = (self.store.clone(), id.clone());
    if !blocking(move || Ok(store.exists(&known))).await? {
      return Err(VectorError::no_index(id));
    }
    let place = self.reserve(id).map_err(|error| match error {
      VectorError::LimitReached(why) => VectorError::LimitReached(format!(
        "Cannot auto-load index {id}: {why}; off-load or delete another one first"
      )),
      other => other,
    })?;
    let (index, record) = self.load(id).await?;
    let open_index = Arc::new(OpenIndex::new(index, record, true));
    place.fill(open_index.clone());
    self.watch_for_inactivity(&open_index);
    self.announce(VectorEventKind::IndexResumed(id.clone()));
    Ok(())
  }

  fn check_not_shutting_down(&self) -> Result<(), VectorError> {
    match self.shutting_down.load(Ordering::SeqCst) {
      true => Err(VectorError::Conflict("the server is shutting down".into())),
      false => Ok(()),
    }
  }
}
