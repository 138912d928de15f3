//! What is in indices.

use std::sync::Arc;

use serde_json::Value;
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
use crate::embed::Fit;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::open_index::Lease;
use crate::permission::Operation;
use crate::permission::Requester;
use crate::record::About;
use crate::requests::NewDocument;
use crate::requests::QueryMode;
use crate::requests::QueryRequest;
use crate::requests::check_documents;
use crate::tasks::blocking;

impl VectorDb {
  /// Adds documents, in place of those of the same ids; all of them or none.
  ///
  /// # Errors
  /// When one of them cannot be added; the message names it.
  pub async fn add(
    self: &Arc<Self>,
    id: &IndexId,
    documents: Vec<NewDocument>,
    requester: &Requester,
  ) -> Result<Added, VectorError> {
    let limits = self.options.limits.clone();
    let documents = blocking(move || {
      check_documents(&documents, &limits)?;
      Ok(documents)
    })
    .await?;
    let lease = self.lease(id, requester, Operation::Add).await?;
    let before = lease.loaded.about();
    self.check_vectors(lease.index(), &before, &documents)?;
    let fit = Fit::of(&lease.index().options(), lease.index().dimension());
    // A slow provider must not keep the index open.
    drop(lease);
    let documents = self.embed_documents(&before, fit, documents).await?;
    let lease = self
      .lease_again(id, requester, Operation::Add, &before)
      .await?;
    let about = lease.loaded.about();
    let new_only = requester.only_adds(about.namespace.as_deref(), about.permission);
    let added = lease
      .write(move |index| {
        check_room(index, &about, &documents, new_only)?;
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

  /// # Errors
  /// When the index or the query cannot be used, or the text cannot be embedded.
  pub async fn query(
    self: &Arc<Self>,
    id: &IndexId,
    mut request: QueryRequest,
    requester: &Requester,
  ) -> Result<Vec<Hit>, VectorError> {
    request.check(&self.options.limits)?;
    let filter = request.filter.as_ref().map(Filter::parse).transpose()?;
    let mut lease = self.lease(id, requester, Operation::Read).await?;
    let mut vector = request.vector;
    if let (None, Some(text)) = (&vector, &request.text)
      && request.mode != QueryMode::FullText
    {
      let before = lease.loaded.about();
      let fit = Fit::of(&lease.index().options(), lease.index().dimension());
      drop(lease);
      vector = Some(self.embed_query(&before, fit, text).await?);
      lease = self
        .lease_again(id, requester, Operation::Read, &before)
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

  /// Documents by their ids; those that are not there are left out.
  ///
  /// # Errors
  /// When the index cannot be used, or too many are asked for.
  pub async fn get_documents(
    self: &Arc<Self>,
    id: &IndexId,
    ids: Vec<String>,
    include_vectors: bool,
    requester: &Requester,
  ) -> Result<Vec<Stored>, VectorError> {
    self.check_results("documentIds", ids.len() as u64)?;
    let lease = self.lease(id, requester, Operation::Read).await?;
    lease
      .read(&self.readers, move |index| {
        Ok(index.get(&ids, include_vectors)?)
      })
      .await
  }

  /// A page of the documents that a filter takes, or of all.
  ///
  /// # Errors
  /// When the index or the filter cannot be used, or too many are asked for.
  pub async fn list_documents(
    self: &Arc<Self>,
    id: &IndexId,
    filter: Option<&Value>,
    offset: u64,
    limit: u64,
    requester: &Requester,
  ) -> Result<DocumentPage, VectorError> {
    self.check_results("limit", limit)?;
    let filter = filter.map(Filter::parse).transpose()?;
    let lease = self.lease(id, requester, Operation::Read).await?;
    let list = move |index: &Index| {
      Ok(DocumentPage {
        total: match &filter {
          Some(filter) => index.count_where(filter)?,
          None => index.count(),
        },
        documents: index.list(filter.as_ref(), offset, limit)?,
      })
    };
    lease.read(&self.readers, list).await
  }

  /// Removes documents; ids that are not there do not count.
  ///
  /// # Errors
  /// When the index cannot be used.
  pub async fn delete_documents(
    self: &Arc<Self>,
    id: &IndexId,
    ids: Vec<String>,
    requester: &Requester,
  ) -> Result<Removed, VectorError> {
    let lease = self.lease(id, requester, Operation::Remove).await?;
    self
      .remove_with(lease, move |index| Ok(index.delete(&ids)?))
      .await
  }

  /// Removes the documents that a filter takes.
  ///
  /// # Errors
  /// When the index or the filter cannot be used.
  pub async fn delete_where(
    self: &Arc<Self>,
    id: &IndexId,
    filter: &Value,
    requester: &Requester,
  ) -> Result<Removed, VectorError> {
    let filter = Filter::parse(filter)?;
    let lease = self.lease(id, requester, Operation::Remove).await?;
    self
      .remove_with(lease, move |index| Ok(index.delete_where(&filter)?))
      .await
  }

  async fn remove_with(
    &self,
    lease: Lease,
    work: impl FnOnce(&Index) -> Result<usize, VectorError> + Send + 'static,
  ) -> Result<Removed, VectorError> {
    let index = lease.loaded.id.clone();
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

  /// A lease after embedding: for the index and the provider that the vectors were made for.
  async fn lease_again(
    self: &Arc<Self>,
    id: &IndexId,
    requester: &Requester,
    operation: Operation,
    before: &About,
  ) -> Result<Lease, VectorError> {
    let lease = self.lease(id, requester, operation).await?;
    let about = lease.loaded.about();
    if (about.incarnation, &about.provider) == (before.incarnation, &before.provider) {
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

/// Whether the documents may go in: nobody else writes meanwhile.
fn check_room(
  index: &Index,
  about: &About,
  documents: &[Document],
  new_only: bool,
) -> Result<(), VectorError> {
  if !new_only && about.max_documents.is_none() {
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
      document.id, about.id, about.permission
    )));
  }
  let after = index.count() + (ids.len() - known.len()) as u64;
  match about.max_documents {
    Some(most) if after > most => Err(VectorError::LimitReached(format!(
      "Vector index {} would have {after} documents, and may have {most} (maxDocuments)",
      about.id
    ))),
    _ => Ok(()),
  }
}
