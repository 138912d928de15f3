//! Questions about files, of a kernel or of any other folder, their answers, and what is told of files that
//! are watched.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::bounded::few;

/// Most bytes that one [`FileRequest`] reads or writes.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Most entries of one listing.
pub const MAX_ENTRIES: usize = 10_000;
/// Most watches of one kernel, or of the lasting files of one namespace, at one time.
pub const MAX_WATCHES: usize = 16;
/// Least time between two [`FileChanges`] of one watch.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Most changes of one [`FileChanges`].
pub const MAX_CHANGES: usize = 1000;
/// Most bytes that the names of those have together: as many as the longest names that disks have.
const MAX_CHANGED_BYTES: usize = 255 * MAX_CHANGES;

/// One step with files. A path is absolute, or relative to the working directory of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRequest {
  /// Answered by [`FileReply::Entry`].
  Stat { path: String },
  /// Answered by [`FileReply::Entries`], sorted by name.
  List { path: String },
  /// Answered by [`FileReply::Chunk`]: at most `length` bytes, fewer at the end of the file.
  Read {
    path: String,
    offset: u64,
    length: u32,
  },
  /// Writes at `offset`, which makes the file, and folders above it, when it is 0 and empties what was
  /// there. Answered by [`FileReply::Done`].
  Write {
    path: String,
    offset: u64,
    data: ByteBuf,
  },
  /// Puts a file in the place of another, whole. Answered by [`FileReply::Done`].
  Rename { from: String, to: String },
  /// Deletes a file, or a folder: an empty one, or with `recursive` all in it. Answered by
  /// [`FileReply::Done`].
  Delete { path: String, recursive: bool },
}

/// The answer to a [`FileRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileReply {
  Entry(FileEntry),
  Entries(Vec<FileEntry>),
  Chunk(ByteBuf),
  Done,
  Failed(FileError),
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
  /// The last part of its path; empty for a root.
  pub name: String,
  pub kind: FileKind,
  /// In bytes; 0 for what is no file.
  pub size: u64,
  /// When its content was changed, in milliseconds since 1970.
  pub modified: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
  File,
  Directory,
  /// A symlink that leads nowhere, a pipe, a socket, a device.
  Other,
}

/// Why a step with files was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileError {
  NotFound,
  /// Outside of what may be reached, or without the permission for it.
  Denied,
  /// A folder, where only a file will do.
  IsDirectory,
  /// A file, where only a folder will do.
  NotDirectory,
  /// A pipe, a socket or a device.
  NotFile,
  /// A folder with something in it.
  NotEmpty,
  TooManyEntries,
  NoSpace,
  /// No path, or one that is too long.
  BadPath,
  /// [`MAX_WATCHES`] are there already.
  TooManyWatches,
  /// The system watches no files, or no more of them.
  CannotWatch,
  Other(String),
}

/// What has changed since the last that a watch told, or since it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileChanges {
  /// Each name once.
  Names(#[serde(deserialize_with = "few::<_, _, MAX_CHANGES>")] Vec<FileChange>),
  /// More than can be told: whoever wants to know lists the folder again.
  TooMany,
  /// What was watched is not there any more, or not under its path. The last that the watch tells.
  Gone,
}

impl FileChanges {
  /// What is told of these changes, each of another name.
  pub fn of(changes: Vec<FileChange>) -> Self {
    let bytes: usize = changes.iter().map(|change| change.name.len()).sum();
    if changes.len() > MAX_CHANGES || bytes > MAX_CHANGED_BYTES {
      Self::TooMany
    } else {
      Self::Names(changes)
    }
  }
}

/// One change of a file, or of an entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
  /// The last part of its path.
  pub name: String,
  pub change: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
  Created,
  /// Its content, its times or its rights; or another file has taken its place.
  Modified,
  /// Deleted, or renamed.
  Removed,
}
