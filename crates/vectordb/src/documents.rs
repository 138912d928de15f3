//! Add, find, list and remove documents.

use std::sync::Arc;

use access::Caller;
use access::Right;
use vector_index::Document;
use vector_index::Filter;
use vector_index::Hit;
use vector_index::Index;
use vector_index::Query;
use vector_index::Stored;

use crate::answers::Added;
use crate::answers::DocumentPage;
use crate::answers::Removed;
use crate::database::VectorDb;
use crate::embed::TargetDimension;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::open_index::Lease;
use crate::permission::Operation;
use crate::record::IndexRecord;
use crate::requests::ListDocuments;
use crate::requests::NewDocument;
use crate::requests::QueryMode;
use crate::requests::QueryRequest;
use crate::requests::RemoveDocuments;
use crate::requests::check_documents;
use crate::tasks::blocking;

impl VectorDb {
  /// Adds all documents or none; a document replaces that of the same id.
  ///
  /// # Errors
  /// When one of them cannot be added; the message names it.
  pub async fn add(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
    documents: Vec<NewDocument>,
  ) -> Result<Added, VectorError> {
    caller.require(Right::Use)?;
    let id = &IndexId::of(caller, id);
    let limits = self.options.limits.clone();
    let documents = blocking(move || {
      check_documents(&documents, &limits)?;
      Ok(documents)
    })
    .await?;
    let lease = self.lease(caller, id, Operation::Add).await?;
    let before = lease.open_index.record();
    self.check_vectors(lease.index(), &before, &documents)?;
    let target = TargetDimension::of(&lease.index().options());
    // A slow provider must not keep the index from being closed.
    drop(lease);
    let documents = self.embed_documents(&before, target, documents).await?;
    let lease = self
      .lease_again(caller, id, Operation::Add, &before)
      .await?;
    let record = lease.open_index.record();
    let new_only = record.ownership().only_adds(caller);
    let added = lease
      .write(move |index| {
        check_room(index, &record, &documents, new_only)?;
        let upserted = index.upsert(documents)?;
        Ok(Added {
          added: upserted.added,
          replaced: upserted.replaced,
          document_count: index.count(),
        })
      })
      .await?;
    self.announce(VectorEventKind::DocumentsAdded {
      index: id.clone(),
      added: added.added,
      replaced: added.replaced,
    });
    Ok(added)
  }

  /// Finds documents, best first.
  ///
  /// # Errors
  /// When the index or the query cannot be used, or the text cannot be embedded.
  pub async fn query(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
    mut request: QueryRequest,
  ) -> Result<Vec<Hit>, VectorError> {
    caller.require(Right::Read)?;
    let id = &IndexId::of(caller, id);
    request.check(&self.options.limits)?;
    let filter = request.filter.as_ref().map(Filter::parse).transpose()?;
    let mut lease = self.lease(caller, id, Operation::Read).await?;
    let mut vector = request.vector;
    if let (None, Some(text)) = (&vector, &request.text)
      && request.mode != QueryMode::FullText
    {
      let before = lease.open_index.record();
      let target = TargetDimension::of(&lease.index().options());
      drop(lease);
      vector = Some(self.embed_query(&before, target, text).await?);
      lease = self
        .lease_again(caller, id, Operation::Read, &before)
        .await?;
    }
    let query = Query {
      vector: vector.filter(|_| request.mode != QueryMode::FullText),
      text: request.text.filter(|_| request.mode != QueryMode::Semantic),
      k: request.k,
      offset: request.offset,
      threshold: request.threshold,
      filter,
      include_metadata: request.include_metadata,
      include_vectors: request.include_vectors,
    };
    let hits = lease
      .read(&self.readers, move |index| Ok(index.query(&query)?))
      .await?;
    self.announce(VectorEventKind::QueryCompleted {
      index: id.clone(),
      results: hits.len(),
    });
    Ok(hits)
  }

  /// Returns one document.
  ///
  /// # Errors
  /// When the index cannot be used, or has no such document.
  pub async fn get_document(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
    document: &str,
    include_vectors: bool,
  ) -> Result<Stored, VectorError> {
    let ids = vec![document.to_owned()];
    let mut found = self.get_documents(caller, id, ids, include_vectors).await?;
    let found = found.pop();
    found.ok_or_else(|| VectorError::NotFound(format!("Document {document} not found")))
  }

  /// Returns the documents that exist among `ids`.
  ///
  /// # Errors
  /// When the index cannot be used, or too many are asked for.
  pub async fn get_documents(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
    ids: Vec<String>,
    include_vectors: bool,
  ) -> Result<Vec<Stored>, VectorError> {
    caller.require(Right::Read)?;
    let id = &IndexId::of(caller, id);
    self.check_results("documentIds", ids.len() as u64)?;
    let lease = self.lease(caller, id, Operation::Read).await?;
    lease
      .read(&self.readers, move |index| {
        Ok(index.get(&ids, include_vectors)?)
      })
      .await
  }

  /// Lists a page of the documents that match a filter, or of all.
  ///
  /// # Errors
  /// When the index or the filter cannot be used, or too many are asked for.
  pub async fn list_documents(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
    request: ListDocuments,
  ) -> Result<DocumentPage, VectorError> {
    caller.require(Right::Read)?;
    let id = &IndexId::of(caller, id);
    self.check_results("limit", request.limit)?;
    let filter = request.filter.as_ref().map(Filter::parse).transpose()?;
    let lease = self.lease(caller, id, Operation::Read).await?;
    lease
      .read(&self.readers, move |index| {
        let total = match &filter {
          Some(filter) => index.count_where(filter)?,
          None => index.count(),
        };
        let mut documents = index.list(filter.as_ref(), request.offset, request.limit)?;
        if !request.include_vectors {
          for document in &mut documents {
            document.vector = None;
          }
        }
        Ok(DocumentPage { documents, total })
      })
      .await
  }

  /// Removes documents by their ids or by a filter. Ids that are not there do not count.
  ///
  /// # Errors
  /// When the index or the filter cannot be used, or there are both ids and a filter.
  pub async fn remove_documents(
    self: &Arc<Self>,
    caller: &Caller,
    id: &str,
    request: RemoveDocuments,
  ) -> Result<Removed, VectorError> {
    caller.require(Right::Use)?;
    let id = &IndexId::of(caller, id);
    let RemoveDocuments { ids, filter } = request;
    if filter.is_some() && !ids.is_empty() {
      return Err(VectorError::Invalid(
        "documentIds and filter: give one of the two".into(),
      ));
    }
    let filter = filter.as_ref().map(Filter::parse).transpose()?;
    let lease = self.lease(caller, id, Operation::Remove).await?;
    self
      .remove_with(lease, move |index| {
        Ok(match &filter {
          Some(filter) => index.delete_where(filter)?,
          None => index.delete(&ids)?,
        })
      })
      .await
  }

  async fn remove_with(
    &self,
    lease: Lease,
    work: impl FnOnce(&Index) -> Result<usize, VectorError> + Send + 'static,
  ) -> Result<Removed, VectorError> {
    let index = lease.open_index.id.clone();
    let removed = lease
      .write(move |index| {
        Ok(Removed {
          removed: work(index)?,
          document_count: index.count(),
        })
      })
      .await?;
    self.announce(VectorEventKind::DocumentsRemoved {
      index,
      removed: removed.removed,
    });
    Ok(removed)
  }

  /// Leases an index again after embedding, if it is still the one that the vectors were made for, with
  /// the same provider.
  async fn lease_again(
    self: &Arc<Self>,
    caller: &Caller,
    id: &IndexId,
    operation: Operation,
    before: &IndexRecord,
  ) -> Result<Lease, VectorError> {
    let lease = self.lease(caller, id, operation).await?;
    let record = lease.open_index.record();
    if (record.incarnation, &record.provider) == (before.incarnation, &before.provider) {
      return Ok(lease);
    }
    Err(VectorError::Conflict(format!(
      "Vector index {id} or its embedding provider was replaced meanwhile: try again"
    )))
  }

  fn check_results(&self, field: &str, wanted: u64) -> Result<(), VectorError> {
    let most = self.options.limits.results;
    if usize::try_from(wanted).is_ok_and(|wanted| wanted <= most) {
      return Ok(());
    }
    Err(VectorError::TooLarge(format!(
      "{field}: {wanted} at once, and a request gives at most {most}: ask for several pages"
    )))
  }
}

/// Checks whether the index may take the documents. Called in the turn of the writer.
fn check_room(
  index: &Index,
  record: &IndexRecord,
  documents: &[Document],
  new_only: bool,
) -> Result<(), VectorError> {
  if !new_only && record.max_documents.is_none() {
    return Ok(());
  }
  let ids: Vec<String> = documents
    .iter()
    .map(|document| document.id.clone())
    .collect();
  let known = index.get(&ids, false)?;
  if new_only && let Some(document) = known.first() {
    return Err(VectorError::Forbidden(format!(
      "Access denied: Cannot replace document {} of vector index {}. Its permission {} lets other \
       workspaces only add",
      document.id, record.id, record.permission
    )));
  }
  let after = index.count() + (ids.len() - known.len()) as u64;
  match record.max_documents {
    Some(most) if after > most => Err(VectorError::LimitReached(format!(
      "Vector index {} would have {after} documents, and may have {most} (maxDocuments)",
      record.id
    ))),
    _ => Ok(()),
  }
}
