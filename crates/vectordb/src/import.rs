//! Takes over indices of the original.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use vector_index::IndexOptions;

use crate::answers::FailedImport;
use crate::answers::FolderImport;
use crate::answers::ImportedIndex;
use crate::answers::SkippedDocument;
use crate::database::VectorDb;
use crate::embed::TargetDimension;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::legacy;
use crate::legacy::Metadata;
use crate::record::IndexRecord;
use crate::requests::NewDocument;
use crate::store::write_privately;
use crate::tasks::blocking;
use crate::tasks::run_to_completion;

/// Name of the list of files that were taken over.
const TAKEN_OVER: &str = "taken-over.json";
/// Documents of one transaction.
const BATCH: usize = 1000;

impl VectorDb {
  /// Takes over what the original off-loaded into the folder of this database. Each only once: one
  /// that is deleted afterwards does not come back when the server starts again.
  #[expect(
    clippy::disallowed_methods,
    reason = "at the start, before anything is served"
  )]
  pub async fn take_over(self: &Arc<Self>) {
    let list = self.folder().join(TAKEN_OVER);
    let mut known: BTreeSet<String> = fs::read(&list)
      .ok()
      .and_then(|bytes| serde_json::from_slice(&bytes).ok())
      .unwrap_or_default();
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let files = legacy::find(self.folder()).unwrap_or_default();
    let new = |path: &PathBuf| name(path).is_some_and(|name| !known.contains(&name));
    let files: Vec<_> = files.into_iter().filter(new).collect();
    if files.is_empty() {
      return;
    }
    let report = self.import_files(files.clone()).await;
    for index in &report.imported {
      tracing::info!(index = %index.id, "taken over with {} documents", index.document_count);
      for document in &index.skipped {
        tracing::warn!(index = %index.id, "document {} left out: {}", document.id, document.reason);
      }
    }
    for failed in &report.failed {
      tracing::warn!(
        "{} not taken over: {}",
        failed.file.display(),
        failed.reason
      );
    }
    let failed = |path: &&PathBuf| report.failed.iter().any(|failed| failed.file == **path);
    known.extend(
      files
        .iter()
        .filter(|path| !failed(path))
        .filter_map(|path| name(path)),
    );
    let bytes = serde_json::to_vec(&known).unwrap_or_default();
    if let Err(error) = write_privately(&list, &bytes) {
      tracing::warn!("{}: {error}", list.display());
    }
  }

  /// Creates closed indices from what the original off-loaded, given by their metadata files. Those whose
  /// id is taken are refused. The files are not changed.
  pub(crate) async fn import_files(self: &Arc<Self>, files: Vec<PathBuf>) -> FolderImport {
    let mut report = FolderImport::default();
    for file in files {
      let (db, path) = (self.clone(), file.clone());
      match run_to_completion(async move { db.import_legacy(path).await }).await {
        Ok(imported) => report.imported.push(imported),
        Err(error) => report.failed.push(FailedImport {
          file,
          reason: error.to_string(),
        }),
      }
    }
    report
  }

  async fn import_legacy(&self, file: PathBuf) -> Result<ImportedIndex, VectorError> {
    let (metadata, documents) = blocking(move || {
      let metadata = legacy::read_metadata(&file).map_err(VectorError::Corrupt)?;
      let documents = metadata.documents(&file).map_err(VectorError::Corrupt)?;
      Ok((metadata, documents))
    })
    .await?;
    let record = record_of(metadata)?;
    let _gate = self.gate(&record.id.folder()).await;
    self.check_free(&record.id).await?;
    let (usable, mut skipped) = sort_out(documents);
    let (with_vector, texts): (Vec<_>, Vec<_>) = usable
      .into_iter()
      .partition(|document| document.vector.is_some());
    let first = with_vector
      .first()
      .and_then(|document| document.vector.as_ref());
    let options = IndexOptions {
      dimension: first.map(Vec::len),
      ..IndexOptions::default()
    };
    let target = TargetDimension::of(&options);
    let mut documents = self.embed_documents(&record, target, with_vector).await?;
    // The provider may be missing.
    let ids: Vec<String> = texts.iter().map(|document| document.id.clone()).collect();
    match self.embed_documents(&record, target, texts).await {
      Ok(mut made) => documents.append(&mut made),
      Err(error) => skipped.extend(ids.into_iter().map(|id| SkippedDocument {
        id,
        reason: error.to_string(),
      })),
    }
    let store = self.store.clone();
    let id = record.id.clone();
    let summary = blocking(move || {
      let draft = store.draft()?;
      let index = store.create_in(&draft, &options, &record)?;
      let mut rest = documents.into_iter().peekable();
      while rest.peek().is_some() {
        index.upsert(rest.by_ref().take(BATCH).collect())?;
      }
      store.finish(&draft, Arc::new(index), &record)
    })
    .await?;
    self.announce(VectorEventKind::IndexCreated(id.clone()));
    Ok(ImportedIndex {
      id,
      document_count: summary.document_count,
      skipped,
    })
  }

  /// # Errors
  /// When there is an index of this id, open or closed.
  pub(crate) async fn check_free(&self, id: &IndexId) -> Result<(), VectorError> {
    let (store, known) = (self.store.clone(), id.clone());
    let exists = blocking(move || Ok(store.exists(&known))).await?;
    if exists || self.find(id).is_some() {
      return Err(VectorError::Exists(format!(
        "Vector database instance with ID {id} already exists: delete it first"
      )));
    }
    Ok(())
  }
}

fn record_of(metadata: Metadata) -> Result<IndexRecord, VectorError> {
  let options = metadata.options;
  let id = IndexId::new(None, &metadata.id)?;
  let mut record = IndexRecord::new(id, options.namespace.filter(|name| !name.is_empty()));
  record.created = metadata.created.unwrap_or(record.created);
  record.embedding_model = options.embedding_model;
  record.provider = options.embedding_provider_name;
  record.max_documents = options.max_documents;
  record.permission = options.permission.unwrap_or_default();
  record.activity_monitoring = options.enable_activity_monitoring;
  // 0 was the default there.
  let timeout = options.inactivity_timeout;
  record.inactivity_timeout = timeout.filter(|timeout| timeout.limit().is_some());
  Ok(record)
}

/// Documents that can be taken over, and those that cannot.
fn sort_out(documents: Vec<NewDocument>) -> (Vec<NewDocument>, Vec<SkippedDocument>) {
  let mut usable = Vec::with_capacity(documents.len());
  let mut skipped = Vec::new();
  let mut ids = HashSet::new();
  let mut dimension = None;
  for mut document in documents {
    document.vector.take_if(|vector| vector.is_empty());
    let vector = document.vector.as_deref();
    let other_dimension = |vector: &[f32]| dimension.is_some_and(|known| known != vector.len());
    let has_text = document.text.as_ref().is_some_and(|text| !text.is_empty());
    let reason = if document.id.is_empty() {
      Some("it has no id")
    } else if vector.is_some_and(|vector| vector.iter().any(|number| !number.is_finite())) {
      Some("a number of its vector is not finite")
    } else if vector.is_some_and(|vector| vector.iter().all(|number| *number == 0.0)) {
      Some("its vector is nothing but zeros")
    } else if vector.is_some_and(other_dimension) {
      // The original left these out too.
      Some("its vector has another dimension than the first")
    } else if vector.is_none() && !has_text {
      Some("it has neither text nor vector")
    } else if !ids.insert(document.id.clone()) {
      Some("its id is there twice")
    } else {
      None
    };
    match reason {
      None => {
        dimension = dimension.or(vector.map(<[f32]>::len));
        usable.push(document);
      }
      Some(reason) => skipped.push(SkippedDocument {
        id: document.id,
        reason: reason.to_owned(),
      }),
    }
  }
  (usable, skipped)
}
