//! Questions about files, of a kernel or of any other folder, and their answers.

use serde::Deserialize;
use serde::Serialize;
use serde_bytes::ByteBuf;

/// Most bytes that one [`FileRequest`] reads or writes.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Most entries of one listing.
pub const MAX_ENTRIES: usize = 10_000;

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
  Other(String),
}
