//! Exports and imports indices as JSON Lines: a line that describes the index, then one document a line
//! with its vector.

use std::fs;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use access::Caller;
use access::Right;
use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncBufRead;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::ReadBuf;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;
use vector_index::Dimensions;
use vector_index::Index;
use vector_index::IndexOptions;
use vector_index::Metric;

use crate::answers::OffloadedIndex;
use crate::database::MAX_EXPORTS;
use crate::database::VectorDb;
use crate::embed::TargetDimension;
use crate::error::VectorError;
use crate::events::VectorEventKind;
use crate::id::IndexId;
use crate::permission::Operation;
use crate::record::IndexRecord;
use crate::requests::NewDocument;
use crate::requests::check_documents;
use crate::tasks::blocking;

const FORMAT: &str = "vector-index";
const VERSION: u32 = 1;
/// Documents of a page and of a transaction.
const BATCH: u64 = 500;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
  format: String,
  version: u32,
  metric: Metric,
  flexible: bool,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  dimension: Option<usize>,
  documents: u64,
  #[serde(rename = "about")]
  record: IndexRecord,
}

/// An index as JSON Lines. The file has no name; the system deletes it once this is dropped.
#[derive(Debug)]
pub struct Export {
  pub file: ExportFile,
  pub bytes: u64,
}

/// The file of an export. It takes the disk space of a copy until its reader is done.
#[derive(Debug)]
pub struct ExportFile {
  file: tokio::fs::File,
  _place: OwnedSemaphorePermit,
}

impl AsyncRead for ExportFile {
  fn poll_read(
    mut self: Pin<&mut Self>,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
  ) -> Poll<io::Result<()>> {
    Pin::new(&mut self.file).poll_read(cx, buffer)
  }
}

/// New names for an index that is imported; without one it keeps its own.
#[derive(Debug, Clone, Default)]
pub struct ImportIndex {
  pub id: Option<String>,
  pub namespace: Option<String>,
}

impl VectorDb {
  /// Exports an index as it is at one moment. Writers go on meanwhile.
  ///
  /// # Errors
  /// When the index cannot be used, or the disk is full.
  #[expect(
    clippy::disallowed_methods,
    reason = "its files are written where indices are read: on threads of their own"
  )]
  pub async fn export(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<Export, VectorError> {
    let id = IndexId::of(caller, id);
    let lease = self.lease(caller, &id, Operation::Read).await?;
    let place = self.exports.clone().try_acquire_owned().map_err(|_| {
      VectorError::LimitReached(format!(
        "{MAX_EXPORTS} exports are being read already: wait until one has ended"
      ))
    })?;
    let (store, open_index) = (self.store.clone(), lease.open_index.clone());
    let file = lease
      .read(&self.readers, move |index| {
        let draft = store.draft()?;
        let path = draft.file("export.jsonl");
        let failed =
          |e: io::Error| VectorError::Storage(format!("{} cannot be written: {e}", path.display()));
        let mut out = BufWriter::new(fs::File::create(&path).map_err(failed)?);
        write_lines(index, open_index.record(), &mut out, failed)?;
        out.flush().map_err(failed)?;
        drop(out);
        // Dropping the draft deletes its name; the open file stays readable.
        fs::File::open(&path).map_err(failed)
      })
      .await?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    Ok(Export {
      file: ExportFile {
        file: tokio::fs::File::from_std(file),
        _place: place,
      },
      bytes,
    })
  }

  /// Creates a closed index from what [`Self::export`] wrote. Documents may lack a vector if they have a
  /// text. The index is in the caller's namespace, or, for the operator, in the one that the request
  /// names, otherwise in the one that it had.
  ///
  /// # Errors
  /// When a line cannot be used, or the id is taken; the message names the line, and nothing is left
  /// behind.
  pub async fn import(
    self: &Arc<Self>,
    caller: &Caller,
    lines: impl AsyncBufRead + Unpin + Send,
    mut request: ImportIndex,
  ) -> Result<OffloadedIndex, VectorError> {
    caller.require(Right::Manage)?;
    request.namespace = caller.work_in(request.namespace.as_deref())?;
    let mut lines = Lines::new(lines, self.options.limits.line_bytes);
    let first = lines.next().await?;
    let first = first.ok_or_else(|| VectorError::Invalid("line 1: there is none".into()))?;
    let header: Header = serde_json::from_slice(&first)
      .map_err(|e| VectorError::Invalid(format!("line 1: not that of an export: {e}")))?;
    if header.format != FORMAT || header.version != VERSION {
      return Err(VectorError::Invalid(format!(
        "line 1: format {} of version {}; this server reads {FORMAT} of version {VERSION}",
        header.format, header.version
      )));
    }
    let record = renamed(header.record, &request)?;
    self.check_free(&record.id).await?;
    if record.provider.is_some() {
      self.provider_of(&record)?;
    }
    let options = IndexOptions {
      metric: header.metric,
      dimensions: if header.flexible {
        Dimensions::Flexible
      } else {
        Dimensions::Strict
      },
      dimension: header.dimension,
    };
    let (store, known) = (self.store.clone(), record.clone());
    let (draft, index) = blocking(move || {
      let draft = store.draft()?;
      let index = store.create_in(&draft, &options, &known)?;
      Ok((draft, Arc::new(index)))
    })
    .await?;
    while let Some(batch) = self.next_batch(&mut lines).await? {
      let from = batch.first_line;
      let target = TargetDimension::of(&index.options());
      let documents = self
        .embed_documents(&record, target, batch.documents)
        .await?;
      let index = index.clone();
      let upserted = blocking(move || Ok(index.upsert(documents)?)).await;
      let upserted = upserted.map_err(|e| at_lines(e, from, lines.number))?;
      if upserted.replaced > 0 {
        return Err(VectorError::Invalid(format!(
          "lines {from} to {}: {} documents have ids of earlier lines",
          lines.number, upserted.replaced
        )));
      }
    }
    let _gate = self.gate(&record.id.folder()).await;
    self.check_free(&record.id).await?;
    let (store, id) = (self.store.clone(), record.id.clone());
    let summary = blocking(move || store.finish(&draft, index, &record)).await?;
    self.announce(VectorEventKind::IndexCreated(id));
    Ok(summary.into())
  }

  async fn next_batch<R: AsyncBufRead + Unpin>(
    &self,
    lines: &mut Lines<R>,
  ) -> Result<Option<Batch>, VectorError> {
    let mut documents: Vec<NewDocument> = Vec::new();
    let first_line = lines.number + 1;
    let mut bytes = 0;
    while (documents.len() as u64) < BATCH
      && bytes < self.options.limits.batch_bytes / 2
      && let Some(line) = lines.next().await?
    {
      if line.trim_ascii().is_empty() {
        continue;
      }
      let number = lines.number;
      let document = serde_json::from_slice(&line)
        .map_err(|e| VectorError::Invalid(format!("line {number}: not a document: {e}")))?;
      bytes += line.len();
      documents.push(document);
    }
    if documents.is_empty() {
      return Ok(None);
    }
    check_documents(&documents, &self.options.limits)
      .map_err(|e| at_lines(e, first_line, lines.number))?;
    Ok(Some(Batch {
      first_line,
      documents,
    }))
  }
}

struct Batch {
  first_line: u64,
  documents: Vec<NewDocument>,
}

/// Lines of bounded length.
struct Lines<R> {
  reader: R,
  limit: usize,
  /// Number of the line read last.
  number: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
  fn new(reader: R, limit: usize) -> Self {
    Self {
      reader,
      limit,
      number: 0,
    }
  }

  async fn next(&mut self) -> Result<Option<Vec<u8>>, VectorError> {
    let mut line = Vec::new();
    let mut bounded = (&mut self.reader).take(self.limit as u64 + 1);
    let number = self.number + 1;
    let read = bounded.read_until(b'\n', &mut line).await;
    let read = read.map_err(|e| VectorError::Invalid(format!("line {number}: cut short: {e}")))?;
    if read > self.limit {
      return Err(VectorError::TooLarge(format!(
        "line {number}: longer than {} bytes",
        self.limit
      )));
    }
    if read == 0 {
      return Ok(None);
    }
    self.number = number;
    Ok(Some(line))
  }
}

fn write_lines(
  index: &Index,
  record: IndexRecord,
  out: &mut impl Write,
  failed: impl Fn(io::Error) -> VectorError,
) -> Result<(), VectorError> {
  let options = index.options();
  let begin = |out: &mut _, documents| {
    let header = Header {
      format: FORMAT.to_owned(),
      version: VERSION,
      metric: options.metric,
      flexible: options.dimensions == Dimensions::Flexible,
      dimension: index.dimension(),
      documents,
      record,
    };
    write_line(out, &header).map_err(&failed)
  };
  index.each(out, begin, |out, stored| {
    let document = NewDocument {
      id: stored.id,
      text: stored.text,
      vector: stored.vector,
      metadata: stored.metadata,
    };
    write_line(out, &document).map_err(&failed)
  })
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
  serde_json::to_writer(&mut *out, value)?;
  out.write_all(b"\n")
}

fn renamed(mut record: IndexRecord, request: &ImportIndex) -> Result<IndexRecord, VectorError> {
  let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
  let before = record.namespace.take();
  let full = record.id.as_str();
  let own = before.as_ref().and_then(|namespace| {
    let rest = full.strip_prefix(namespace.as_str())?;
    rest.strip_prefix(':')
  });
  let own = own.unwrap_or(full);
  let namespace = given(&request.namespace).or(before.clone());
  let name = match given(&request.id) {
    Some(id) => id,
    None if namespace.is_some() => own.to_owned(),
    None => full.to_owned(),
  };
  record.id = IndexId::new(namespace.as_deref(), &name)?;
  record.namespace = namespace;
  record.incarnation = Uuid::new_v4();
  Ok(record)
}

fn at_lines(error: VectorError, from: u64, to: u64) -> VectorError {
  let at = |why: String| format!("lines {from} to {to}: {why}");
  match error {
    VectorError::Invalid(why) => VectorError::Invalid(at(why)),
    VectorError::TooLarge(why) => VectorError::TooLarge(at(why)),
    other => other,
  }
}
