//! Files as whoever asks for them sees them: read and written in pieces, whatever keeps them.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use access::Classified;
use access::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use futures::StreamExt;
use futures::stream;
use futures::stream::BoxStream;
use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileKind;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;
use kernel_protocol::files::MAX_CHUNK_BYTES;
use kernel_protocol::files::MAX_WATCHES;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use crate::feed::FileWatch;
use crate::feed::OpenWatch;
use crate::folder::Folder;
use crate::folder_watches::FolderWatches;

/// Keeps files.
#[async_trait]
pub trait Store: Send + Sync {
  /// Does one step.
  ///
  /// # Errors
  /// When whatever keeps the files does not answer; what is wrong with the request is in the reply.
  async fn answer(&self, request: FileRequest) -> Result<FileReply, StoreError>;

  /// Opens a watch of a file or a folder.
  ///
  /// # Errors
  /// When whatever keeps the files does not answer; what is wrong with the request is in the inner result.
  async fn open_watch(&self, path: String) -> Result<Result<OpenWatch, FileError>, StoreError>;
}

/// Why files could not be used: a message for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
  kind: ErrorKind,
  message: String,
}

impl StoreError {
  /// Another error, as a store reports it.
  pub fn of(error: &impl Classified) -> Self {
    Self::new(error.kind(), error.to_string())
  }

  fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
    Self {
      kind,
      message: message.into(),
    }
  }

  /// The answer is none to what was asked.
  pub fn odd() -> Self {
    Self::new(
      ErrorKind::Internal,
      "the kernel gave no proper answer about its files",
    )
  }

  fn file(error: FileError, path: &str) -> Self {
    const SHOWN: usize = 200;
    let path: String = path.chars().take(SHOWN).collect();
    let conflict = |message| Self::new(ErrorKind::Conflict, message);
    match error {
      FileError::NotFound => Self::new(ErrorKind::NotFound, format!("File not found: {path}")),
      FileError::Denied => Self::new(
        ErrorKind::Forbidden,
        format!(
          "`{path}` is outside of the files that may be used here, or there is no permission for it"
        ),
      ),
      FileError::IsDirectory => conflict(format!("`{path}` is a directory: name a file in it")),
      FileError::NotDirectory => conflict(format!(
        "`{path}` goes through a file as if it were a directory"
      )),
      FileError::NotFile => conflict(format!(
        "`{path}` is a pipe, a socket or a device, not a file"
      )),
      FileError::NotEmpty => conflict(format!(
        "the directory `{path}` is not empty: delete it with recursive=true"
      )),
      FileError::TooManyEntries => Self::new(
        ErrorKind::TooLarge,
        format!("the directory `{path}` has too many entries to list"),
      ),
      FileError::NoSpace => Self::new(ErrorKind::Internal, "no space is left for files"),
      FileError::BadPath => Self::new(
        ErrorKind::Invalid,
        format!("`{path}` is not a path: it is too long or has characters that paths cannot have"),
      ),
      FileError::TooManyWatches => Self::new(
        ErrorKind::LimitReached,
        format!(
          "{MAX_WATCHES} watches are open here already, the most at one time: close one first"
        ),
      ),
      FileError::CannotWatch => Self::new(
        ErrorKind::Unavailable,
        "this machine has no more watches (fs.inotify.max_user_instances, fs.inotify.max_user_watches)",
      ),
      FileError::Other(reason) => Self::new(ErrorKind::Internal, format!("`{path}`: {reason}")),
    }
  }
}

impl fmt::Display for StoreError {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.message)
  }
}

impl std::error::Error for StoreError {}

impl Classified for StoreError {
  fn kind(&self) -> ErrorKind {
    self.kind
  }
}

/// The files of a folder of this machine.
pub struct FolderStore {
  folder: Arc<Folder>,
  watches: Arc<FolderWatches>,
}

impl FolderStore {
  /// `watches` are those of whoever owns the folder.
  pub fn new(folder: Folder, watches: Arc<FolderWatches>) -> Self {
    Self {
      folder: Arc::new(folder),
      watches,
    }
  }
}

#[async_trait]
impl Store for FolderStore {
  async fn answer(&self, request: FileRequest) -> Result<FileReply, StoreError> {
    let folder = self.folder.clone();
    blocking(move || folder.answer(&request)).await
  }

  async fn open_watch(&self, path: String) -> Result<Result<OpenWatch, FileError>, StoreError> {
    let (folder, watches) = (self.folder.clone(), self.watches.clone());
    blocking(move || watches.open(&folder, &path)).await
  }
}

async fn blocking<T: Send + 'static>(
  work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
  tokio::task::spawn_blocking(work)
    .await
    .map_err(|e| StoreError::new(ErrorKind::Internal, e.to_string()))
}

/// What is at a path.
pub enum Content {
  Directory(Vec<FileEntry>),
  File {
    entry: FileEntry,
    /// Which bytes of it were asked for; `None` when it has no such bytes.
    range: Option<Range<u64>>,
    bytes: BoxStream<'static, Result<Bytes, StoreError>>,
  },
}

/// Reads a file, or lists a directory. `wanted` says which bytes of a file of a size are wanted, or
/// `None` when it has no such bytes.
///
/// # Errors
/// When there is no such file, or it cannot be read.
pub async fn read(
  store: Arc<dyn Store>,
  path: &str,
  wanted: impl FnOnce(u64) -> Option<Range<u64>>,
) -> Result<Content, StoreError> {
  let request = FileRequest::Stat { path: path.into() };
  let entry = match store.answer(request).await? {
    FileReply::Entry(entry) => entry,
    reply => return Err(unexpected(reply, path)),
  };
  match entry.kind {
    FileKind::File => {
      let range = wanted(entry.size);
      let bytes = pieces(store, path.to_owned(), range.clone().unwrap_or_default()).boxed();
      Ok(Content::File {
        entry,
        range,
        bytes,
      })
    }
    FileKind::Directory => {
      let request = FileRequest::List { path: path.into() };
      match store.answer(request).await? {
        FileReply::Entries(entries) => Ok(Content::Directory(entries)),
        reply => Err(unexpected(reply, path)),
      }
    }
    FileKind::Other => Err(StoreError::file(FileError::NotFile, path)),
  }
}

/// The bytes of a range; fewer where the file has become shorter.
fn pieces(
  store: Arc<dyn Store>,
  path: String,
  range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
  stream::unfold(Some(range), move |left| {
    let (store, path) = (store.clone(), path.clone());
    async move {
      let left = left.filter(|left| !left.is_empty())?;
      let length = (left.end - left.start).min(MAX_CHUNK_BYTES as u64);
      let request = FileRequest::Read {
        path: path.clone(),
        offset: left.start,
        length: u32::try_from(length).unwrap_or(u32::MAX),
      };
      let chunk = match store.answer(request).await {
        Ok(FileReply::Chunk(chunk)) if chunk.len() as u64 <= length => {
          Bytes::from(chunk.into_vec())
        }
        Ok(reply) => return Some((Err(unexpected(reply, &path)), None)),
        Err(error) => return Some((Err(error), None)),
      };
      let read = chunk.len() as u64;
      if read == 0 {
        return None;
      }
      let rest = (read == length).then(|| left.start + read..left.end);
      Some((Ok(chunk), rest))
    }
  })
}

/// Writes a whole file: readers see the old one until the new one is complete. Returns its size, in
/// bytes.
///
/// # Errors
/// When it cannot be written, is longer than `most` bytes, or `content` breaks off; the old file is
/// still there then.
pub async fn write<E: fmt::Display>(
  store: &Arc<dyn Store>,
  path: &str,
  content: impl Stream<Item = Result<Bytes, E>>,
  most: u64,
) -> Result<u64, StoreError> {
  let mut part = Part {
    store: store.clone(),
    path: beside(path)?,
    is_left: true,
  };
  let written = async {
    let size = write_part(&**store, path, &part.path, content, most).await?;
    let rename = FileRequest::Rename {
      from: part.path.clone(),
      to: path.to_owned(),
    };
    match store.answer(rename).await? {
      FileReply::Done => Ok(size),
      // A file cannot take the place of a directory.
      FileReply::Failed(FileError::NotEmpty) => Err(StoreError::file(FileError::IsDirectory, path)),
      reply => Err(unexpected(reply, path)),
    }
  };
  let written = written.await;
  if written.is_err() {
    let _ = delete(&**store, &part.path, false).await;
  }
  part.is_left = false;
  written
}

/// A file that is not complete. Dropped before it is dealt with, because whoever sends it has gone, it is
/// deleted in the background.
struct Part {
  store: Arc<dyn Store>,
  path: String,
  is_left: bool,
}

impl Drop for Part {
  fn drop(&mut self) {
    if let (true, Ok(runtime)) = (self.is_left, tokio::runtime::Handle::try_current()) {
      let (store, path) = (self.store.clone(), std::mem::take(&mut self.path));
      runtime.spawn(async move { delete(&*store, &path, false).await });
    }
  }
}

async fn write_part<E: fmt::Display>(
  store: &dyn Store,
  path: &str,
  part: &str,
  content: impl Stream<Item = Result<Bytes, E>>,
  most: u64,
) -> Result<u64, StoreError> {
  let mut content = pin!(content);
  let mut waiting = Vec::new();
  let mut size = 0;
  while let Some(piece) = content.next().await {
    let broken = |e| StoreError::new(ErrorKind::Invalid, format!("the content broke off: {e}"));
    let piece = piece.map_err(broken)?;
    if size + (waiting.len() + piece.len()) as u64 > most {
      return Err(StoreError::new(
        ErrorKind::TooLarge,
        format!("`{path}` is larger than the {most} bytes that a file may have here"),
      ));
    }
    for piece in piece.chunks(MAX_CHUNK_BYTES) {
      if waiting.len() + piece.len() > MAX_CHUNK_BYTES {
        size += write_at(store, path, part, size, std::mem::take(&mut waiting)).await?;
      }
      waiting.extend_from_slice(piece);
    }
  }
  if !waiting.is_empty() || size == 0 {
    size += write_at(store, path, part, size, waiting).await?;
  }
  Ok(size)
}

/// Writes a piece, and returns its length. Errors name `path`, for which `part` stands.
async fn write_at(
  store: &dyn Store,
  path: &str,
  part: &str,
  offset: u64,
  data: Vec<u8>,
) -> Result<u64, StoreError> {
  let length = data.len() as u64;
  let request = FileRequest::Write {
    path: part.to_owned(),
    offset,
    data: ByteBuf::from(data),
  };
  match store.answer(request).await? {
    FileReply::Done => Ok(length),
    reply => Err(unexpected(reply, path)),
  }
}

/// Where a file is written before it is complete.
fn beside(path: &str) -> Result<String, StoreError> {
  let (folder, name) = match path.rsplit_once('/') {
    Some((folder, name)) => (Some(folder), name),
    None => (None, path),
  };
  if name.is_empty() || name == "." || name == ".." {
    return Err(StoreError::file(FileError::IsDirectory, path));
  }
  let part = format!(".{}.part", Uuid::new_v4().simple());
  Ok(match folder {
    Some(folder) => format!("{folder}/{part}"),
    None => part,
  })
}

/// Deletes a file or a directory.
///
/// # Errors
/// When it is not there, or a directory with something in it and `recursive` is `false`.
pub async fn delete(store: &dyn Store, path: &str, recursive: bool) -> Result<(), StoreError> {
  let request = FileRequest::Delete {
    path: path.to_owned(),
    recursive,
  };
  match store.answer(request).await? {
    FileReply::Done => Ok(()),
    reply => Err(unexpected(reply, path)),
  }
}

/// Watches a file, or what is directly in a folder, from now on.
///
/// # Errors
/// When it is not there, or there are too many watches.
pub async fn watch(store: &dyn Store, path: &str) -> Result<FileWatch, StoreError> {
  match store.open_watch(path.to_owned()).await? {
    Ok(open) => Ok(FileWatch::new(path, open)),
    Err(error) => Err(StoreError::file(error, path)),
  }
}

fn unexpected(reply: FileReply, path: &str) -> StoreError {
  match reply {
    FileReply::Failed(error) => StoreError::file(error, path),
    _ => StoreError::odd(),
  }
}

#[cfg(test)]
mod tests {
  use std::io;

  use futures::TryStreamExt;
  use kernel_protocol::files::ChangeKind;
  use tempfile::TempDir;

  use super::*;
  use crate::feed::FileEvent;

  fn store() -> (TempDir, Arc<dyn Store>) {
    let dir = TempDir::new().expect("a folder");
    let folder = Folder::open(dir.path()).expect("opens");
    let store = FolderStore::new(folder, Arc::default());
    (dir, Arc::new(store))
  }

  fn content(pieces: &[&[u8]]) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let pieces = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece)));
    stream::iter(pieces.collect::<Vec<_>>())
  }

  async fn bytes_of(store: &Arc<dyn Store>, path: &str, range: Range<u64>) -> Vec<u8> {
    let read = read(store.clone(), path, |_| Some(range)).await;
    let Ok(Content::File { bytes, .. }) = read else {
      panic!("{path} is no file")
    };
    let pieces: Vec<Bytes> = bytes.try_collect().await.expect("is read to the end");
    pieces.concat()
  }

  #[tokio::test]
  async fn a_file_of_several_pieces_is_written_and_read() {
    let (_dir, store) = store();
    let large = vec![7; 3 * MAX_CHUNK_BYTES + 5];
    let written = write(&store, "a/large", content(&[b"head", &large]), u64::MAX).await;
    assert_eq!(written, Ok(large.len() as u64 + 4));
    let all = bytes_of(&store, "a/large", 0..u64::MAX).await;
    assert!(all.starts_with(b"head") && all.len() == large.len() + 4);
    assert_eq!(bytes_of(&store, "a/large", 2..6).await, b"ad\x07\x07");
    assert_eq!(write(&store, "empty", content(&[]), 10).await, Ok(0));
    assert_eq!(bytes_of(&store, "empty", 0..10).await, b"");
  }

  #[tokio::test]
  async fn a_file_that_does_not_arrive_leaves_the_old_one() {
    let (dir, store) = store();
    write(&store, "f", content(&[b"old"]), 10)
      .await
      .expect("is written");
    let broken = content(&[b"ne"]).chain(stream::iter([Err(io::Error::other("gone"))]));
    let error = write(&store, "f", broken, 10).await;
    assert_eq!(error.expect_err("breaks off").kind(), ErrorKind::Invalid);
    let error = write(&store, "f", content(&[b"much", b"too large"]), 10).await;
    assert_eq!(error.expect_err("is too large").kind(), ErrorKind::TooLarge);
    assert_eq!(bytes_of(&store, "f", 0..10).await, b"old");
    assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
  }

  #[tokio::test]
  async fn a_file_whose_sender_has_gone_leaves_no_part() {
    let (dir, store) = store();
    let endless = content(&[&vec![7; MAX_CHUNK_BYTES], b"more"]).chain(stream::pending());
    let writing = write(&store, "f", endless, u64::MAX);
    let gone = tokio::time::timeout(std::time::Duration::from_millis(200), writing).await;
    assert!(gone.is_err(), "it is still being sent");
    let parts = || std::fs::read_dir(dir.path()).expect("lists").count();
    for _ in 0..1000 {
      if parts() == 0 {
        return;
      }
      tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("{} parts are left", parts());
  }

  #[tokio::test]
  async fn a_folder_is_watched_until_nobody_reads() {
    let dir = TempDir::new().expect("a folder");
    let watches = Arc::<FolderWatches>::default();
    let folder = Folder::open(dir.path()).expect("opens");
    let store: Arc<dyn Store> = Arc::new(FolderStore::new(folder, watches.clone()));
    std::fs::create_dir(dir.path().join("in")).expect("is made");
    let mut watch = super::watch(&*store, "in").await.expect("is watched");
    for expected in [ChangeKind::Created, ChangeKind::Modified] {
      write(&store, "in/f", content(&[b"x"]), 10)
        .await
        .expect("is written");
      loop {
        match watch.next().await.expect("goes on") {
          FileEvent::Changed { path, change } if path == "in/f" => {
            assert_eq!(change, expected);
            break;
          }
          // The part, on a slow machine.
          other => assert!(format!("{other:?}").contains(".part"), "{other:?}"),
        }
      }
    }
    delete(&*store, "in", true).await.expect("is deleted");
    let mut last = None;
    while let Some(event) = watch.next().await {
      last = Some(event);
    }
    assert!(matches!(last, Some(FileEvent::Ended { .. })), "{last:?}");
    drop(watch);
    assert_eq!(
      Arc::strong_count(&watches),
      2,
      "nothing holds them any more"
    );
    let mut open = Vec::new();
    for _ in 0..MAX_WATCHES {
      open.push(super::watch(&*store, "").await.expect("is watched"));
    }
    let refused = super::watch(&*store, "").await.err().expect("is refused");
    assert_eq!(refused.kind(), ErrorKind::LimitReached, "{refused}");
    open.pop();
    super::watch(&*store, "").await.expect("there is room");
  }

  #[tokio::test]
  async fn what_is_wrong_is_named() {
    let (dir, store) = store();
    std::fs::create_dir_all(dir.path().join("d/e")).expect("is made");
    let missing = read(store.clone(), "x", |size| Some(0..size)).await;
    let missing = missing.err().expect("is missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(missing.to_string(), "File not found: x");
    let taken = write(&store, "d", content(&[b"x"]), 10).await;
    let taken = taken.expect_err("a directory");
    assert_eq!(taken.kind(), ErrorKind::Conflict, "{taken}");
    let full = delete(&*store, "d", false).await.expect_err("not empty");
    assert!(full.to_string().contains("recursive=true"), "{full}");
    delete(&*store, "d", true).await.expect("is deleted");
    let out = delete(&*store, "../x", false).await.expect_err("leads out");
    assert_eq!(out.kind(), ErrorKind::Forbidden, "{out}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
  }
}
