//! Save, close and delete indices. Closing and deleting hold the gate of the index, and run to completion
//! when their caller stops waiting.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use access::Caller;
use access::Right;
use chrono::Utc;
use tokio::sync::Notify;
use tokio::sync::RwLockWriteGuard;
use tokio::time::Instant;
use vector_index::Index;

use crate::database::VectorDb;
use crate::database::own;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::open_index::OpenIndex;
use crate::options::InactivityTimeout;
use crate::tasks::blocking;
use crate::tasks::run_to_completion;

/// Why an index is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
  Asked,
  /// It was not used for too long.
  Idle,
  /// The server shuts down.
  Shutdown,
}

impl VectorDb {
  /// Counts as use of an open index.
  ///
  /// # Errors
  /// When it is not open.
  pub fn ping(&self, caller: &Caller, id: &str) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Use, VectorError::not_pinged)?;
    let open_index = self.find(&id).ok_or_else(|| VectorError::not_pinged(&id))?;
    open_index.touch();
    Ok(())
  }

  /// Sets how long an open index may be unused, now and after it is opened again.
  ///
  /// # Errors
  /// When it is not open, or that cannot be kept.
  pub async fn set_timeout(
    &self,
    caller: &Caller,
    id: &str,
    timeout: InactivityTimeout,
  ) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Manage, VectorError::not_open)?;
    let lease = self.open_lease(&id).await?;
    lease
      .describe(move |record, _| {
        record.inactivity_timeout = Some(timeout);
        Ok(())
      })
      .await
  }

  /// Checks the whole file of an open index for damage.
  ///
  /// # Errors
  /// When it is not open, or damaged; the message says how.
  pub async fn verify(&self, caller: &Caller, id: &str) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Read, VectorError::not_open)?;
    let lease = self.open_lease(&id).await?;
    lease.read(&self.readers, |index| Ok(index.verify()?)).await
  }

  /// Writes an index from the log into its own file; it stays open.
  ///
  /// # Errors
  /// When it is not open, or the disk fails.
  pub async fn save(&self, caller: &Caller, id: &str) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Manage, VectorError::not_open)?;
    let lease = self.open_lease(&id).await?;
    let open_index = lease.open_index.clone();
    lease.write(|index| Ok(index.checkpoint()?)).await?;
    open_index.set_saved(Some(Utc::now()));
    Ok(())
  }

  pub(crate) fn watch_for_inactivity(self: &Arc<Self>, open_index: &Arc<OpenIndex>) {
    let (db, index) = (Arc::downgrade(self), Arc::downgrade(open_index));
    tokio::spawn(watch_for_inactivity(db, index, open_index.changed.clone()));
  }

  // ------------------------------------------------------------ closing

  /// Closes an index. The next use opens it again.
  ///
  /// # Errors
  /// When it is not open, or its file cannot take everything; it stays open then.
  pub async fn offload(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Manage, VectorError::no_index)?;
    self.close(&id, Reason::Asked).await
  }

  async fn close(self: &Arc<Self>, id: &IndexId, reason: Reason) -> Result<(), VectorError> {
    let (db, id) = (self.clone(), id.clone());
    run_to_completion(async move {
      let _gate = db.gate(&id.folder()).await;
      let open_index = db.find(&id).ok_or_else(|| VectorError::no_index(&id))?;
      let mut file = match reason {
        Reason::Asked | Reason::Shutdown => open_index.file.write().await,
        Reason::Idle => match open_index.file.try_write() {
          Ok(file) => match open_index.deadline(&db.options) {
            Some(deadline) if deadline <= Instant::now() => file,
            _ => return Ok(()),
          },
          // A caller uses it after all.
          Err(_) => {
            open_index.touch();
            return Ok(());
          }
        },
      };
      let Some(index) = file.take() else {
        return Ok(());
      };
      let (store, record) = (db.store.clone(), open_index.record());
      let closed = blocking(move || Ok(store.close(index, &record))).await;
      match closed {
        Ok(Err(failed)) if reason != Reason::Shutdown => {
          let (index, error) = *failed;
          *file = Some(index);
          return Err(error);
        }
        // No acknowledged write is lost: the log is beside the file.
        Ok(Err(failed)) => tracing::warn!(index = %id, "{}", failed.1),
        Ok(Ok(())) => {}
        Err(error) => {
          db.unlist(&open_index, file);
          return Err(error);
        }
      }
      db.unlist(&open_index, file);
      db.announce(VectorEventKind::IndexOffloaded(id));
      Ok(())
    })
    .await
  }

  /// Deletes an index, open or closed, and its files.
  ///
  /// # Errors
  /// When there is none, or its files cannot be deleted; it is then closed and still there.
  pub async fn delete(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Manage, VectorError::no_index)?;
    let db = self.clone();
    run_to_completion(async move {
      let _gate = db.gate(&id.folder()).await;
      if let Some(open_index) = db.find(&id) {
        let mut file = open_index.file.write().await;
        let index = file.take();
        let closed = blocking(move || {
          drop(index);
          Ok(())
        });
        let closed = closed.await;
        db.unlist(&open_index, file);
        closed?;
      }
      db.remove(&id, VectorError::no_index(&id)).await
    })
    .await
  }

  /// Removes a closed index and its files. Of one that is open and was saved, only the mark of that
  /// goes: there is one file.
  ///
  /// # Errors
  /// When there is none, or its files cannot be removed.
  pub async fn delete_offloaded(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
  ) -> Result<(), VectorError> {
    let id = own(caller, id, Right::Manage, VectorError::not_offloaded)?;
    let db = self.clone();
    run_to_completion(async move {
      let _gate = db.gate(&id.folder()).await;
      let missing = VectorError::not_offloaded(&id);
      match db.find(&id) {
        Some(open_index) if open_index.saved().is_some() => {
          open_index.set_saved(None);
          Ok(())
        }
        Some(_) => Err(missing),
        None => db.remove(&id, missing).await,
      }
    })
    .await
  }

  async fn remove(&self, id: &IndexId, missing: VectorError) -> Result<(), VectorError> {
    let (store, known) = (self.store.clone(), id.clone());
    blocking(move || match store.exists(&known) {
      true => store.remove(&known),
      false => Err(missing),
    })
    .await?;
    self.announce(VectorEventKind::IndexDestroyed(id.clone()));
    Ok(())
  }

  /// Unlists the index before unlocking its file, so that a waiting caller finds it closed and absent.
  fn unlist(&self, open_index: &Arc<OpenIndex>, file: RwLockWriteGuard<'_, Option<Index>>) {
    self.forget(&open_index.id);
    drop(file);
    open_index.changed.notify_one();
  }

  /// Closes all indices; none is opened from then on.
  pub async fn shut_down(self: &Arc<Self>) {
    self.shutting_down.store(true, Ordering::SeqCst);
    for id in self.taken() {
      match self.close(&id, Reason::Shutdown).await {
        // It was not created after all, or was closed meanwhile.
        Ok(()) | Err(VectorError::NotFound(_)) => {}
        Err(error) => tracing::warn!(index = %id, "not closed: {error}"),
      }
    }
  }
}

/// Off-loads an index after its time without use; ends once it is closed.
async fn watch_for_inactivity(db: Weak<VectorDb>, index: Weak<OpenIndex>, changed: Arc<Notify>) {
  loop {
    let deadline = {
      let (Some(db), Some(open_index)) = (db.upgrade(), index.upgrade()) else {
        return;
      };
      match db.find(&open_index.id) {
        Some(current) if Arc::ptr_eq(&current, &open_index) => open_index.deadline(&db.options),
        _ => return,
      }
    };
    let Some(deadline) = deadline else {
      changed.notified().await;
      continue;
    };
    tokio::select! {
      () = tokio::time::sleep_until(deadline) => {}
      () = changed.notified() => continue,
    }
    let (Some(db), Some(open_index)) = (db.upgrade(), index.upgrade()) else {
      return;
    };
    if let Err(error) = db.close(&open_index.id, Reason::Idle).await {
      tracing::warn!(index = %open_index.id, "not off-loaded: {error}");
      db.announce(VectorEventKind::Error {
        index: open_index.id.clone(),
        message: error.to_string(),
      });
      // The next attempt is after another whole time without use.
      open_index.touch();
    }
  }
}
