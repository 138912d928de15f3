//! One folder, opened once: paths below it are resolved by the kernel with `RESOLVE_BENEATH`, so neither
//! `..` nor a symlink leads out, and there is nothing to race. Blocking.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileKind;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;
use kernel_protocol::files::MAX_CHUNK_BYTES;
use kernel_protocol::files::MAX_ENTRIES;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::fs::Uid;
use rustix::io::Errno;

/// Of folders and files that are made, before the umask.
const FOLDER_MODE: u32 = 0o777;
const FILE_MODE: u32 = 0o666;

/// A folder of this machine.
#[derive(Debug)]
pub struct Folder {
  dir: OwnedFd,
  /// Whose the files are that are made here, if not this process's.
  owner: Option<(Uid, Gid)>,
}

impl Folder {
  /// # Errors
  /// When it is no folder, or cannot be opened.
  pub fn open(path: &Path) -> io::Result<Self> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Self::from(rustix::fs::open(path, flags, Mode::empty())?))
  }

  /// Gives what is made here to another user.
  #[must_use]
  pub fn owned_by(self, uid: u32, gid: u32) -> Self {
    Self {
      owner: Some((Uid::from_raw(uid), Gid::from_raw(gid))),
      ..self
    }
  }

  /// Does one step with files; the path of the request is relative to this folder, and is taken so
  /// even when it begins with a slash.
  pub fn answer(&self, request: &FileRequest) -> FileReply {
    let answered = match request {
      FileRequest::Stat { path } => self.stat(path).map(FileReply::Entry),
      FileRequest::List { path } => self.list(path).map(FileReply::Entries),
      FileRequest::Read {
        path,
        offset,
        length,
      } => self
        .read(path, *offset, *length)
        .map(|bytes| FileReply::Chunk(bytes.into())),
      FileRequest::Write { path, offset, data } => {
        self.write(path, *offset, data).map(|()| FileReply::Done)
      }
      FileRequest::Rename { from, to } => self.rename(from, to).map(|()| FileReply::Done),
      FileRequest::Delete { path, recursive } => {
        self.delete(path, *recursive).map(|()| FileReply::Done)
      }
    };
    answered.unwrap_or_else(FileReply::Failed)
  }

  fn stat(&self, path: &str) -> Result<FileEntry, FileError> {
    let path = relative(path)?;
    let file = self.open_at(&path, OFlags::PATH, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    Ok(entry(name, &rustix::fs::fstat(&file).map_err(failed)?))
  }

  fn list(&self, path: &str) -> Result<Vec<FileEntry>, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = self.open_at(&relative(path)?, flags, Mode::empty())?;
    let mut entries = Vec::new();
    for listed in Dir::read_from(&dir).map_err(failed)? {
      let listed = listed.map_err(failed)?;
      let name = OsStr::from_bytes(listed.file_name().to_bytes());
      if name == "." || name == ".." {
        continue;
      }
      if entries.len() == MAX_ENTRIES {
        return Err(FileError::TooManyEntries);
      }
      // What a symlink leads to, if that is below; otherwise the link itself.
      let path = Path::new(name);
      let stat = match beneath(&dir, path, OFlags::PATH, Mode::empty()) {
        Ok(file) => rustix::fs::fstat(&file),
        Err(_) => rustix::fs::statat(&dir, path, AtFlags::SYMLINK_NOFOLLOW),
      };
      match stat {
        Ok(stat) => entries.push(entry(name, &stat)),
        // Deleted meanwhile.
        Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
      }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
  }

  fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, FileError> {
    let file = self.open_file(path, OFlags::RDONLY)?;
    let length = usize::try_from(length).map_or(MAX_CHUNK_BYTES, |it| it.min(MAX_CHUNK_BYTES));
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
      match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
        Ok(0) => break,
        Ok(read) => filled += read,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(other(&error)),
      }
    }
    bytes.truncate(filled);
    Ok(bytes)
  }

  fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<(), FileError> {
    let file = if offset == 0 {
      let path = relative(path)?;
      if let Some(parent) = path.parent() {
        self.make_folders(parent)?;
      }
      let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
      let file = self.open_at(&path, flags, Mode::from_raw_mode(FILE_MODE))?;
      let file = regular(file)?;
      self.give(&file)?;
      file
    } else {
      self.open_file(path, OFlags::WRONLY)?
    };
    file.write_all_at(data, offset).map_err(|e| other(&e))
  }

  fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
    let (from, to) = (relative(from)?, relative(to)?);
    let (from_folder, from_name) = self.parent_of(&from)?;
    let (to_folder, to_name) = self.parent_of(&to)?;
    rustix::fs::renameat(&from_folder, from_name, &to_folder, to_name).map_err(failed)
  }

  fn delete(&self, path: &str, recursive: bool) -> Result<(), FileError> {
    let path = relative(path)?;
    let (folder, name) = self.parent_of(&path)?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
      Err(Errno::ISDIR | Errno::PERM) => {}
      other => return other.map_err(failed),
    }
    if recursive {
      // The link names the very folder that was opened; nothing below it is followed.
      let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
      return std::fs::remove_dir_all(Path::new(&opened).join(name)).map_err(|e| other(&e));
    }
    rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR).map_err(failed)
  }

  /// What a watch of a path follows.
  pub(crate) fn watchable(&self, path: &str) -> Result<Watchable, FileError> {
    let path = relative(path)?;
    let file = self.open_at(&path, OFlags::PATH, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    let entry = entry(name, &rustix::fs::fstat(&file).map_err(failed)?);
    let (folder, only) = match entry.kind {
      FileKind::Directory => {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        (self.open_at(&path, flags, Mode::empty())?, None)
      }
      FileKind::File => (self.parent_of(&path)?.0, Some(entry.name.clone())),
      FileKind::Other => return Err(FileError::NotFile),
    };
    Ok(Watchable {
      entry,
      folder,
      only,
    })
  }

  /// The folder that something is in, and its name there.
  fn parent_of<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), FileError> {
    let name = path.file_name().ok_or(FileError::Denied)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let folder = self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    Ok((folder, name))
  }

  /// Makes the folders of a path that are missing.
  fn make_folders(&self, path: &Path) -> Result<(), FileError> {
    const OPENED: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
    let mut made = PathBuf::new();
    for part in path.components() {
      let above = made.clone();
      made.push(part);
      match self.open_at(&made, OPENED, Mode::empty()) {
        Err(FileError::NotFound) => {}
        opened => {
          opened?;
          continue;
        }
      }
      let folder = self.open_at(&above, OPENED, Mode::empty())?;
      let mode = Mode::from_raw_mode(FOLDER_MODE);
      match rustix::fs::mkdirat(&folder, part.as_os_str(), mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
      }
      let flags = OFlags::RDONLY | OFlags::DIRECTORY;
      let folder = self.open_at(&made, flags, Mode::empty())?;
      self.give(&folder)?;
    }
    Ok(())
  }

  fn give(&self, file: impl AsFd) -> Result<(), FileError> {
    match self.owner {
      Some((uid, gid)) => rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(failed),
      None => Ok(()),
    }
  }

  /// Opens a file that is there; a pipe is no file, and nobody waits for its other end.
  fn open_file(&self, path: &str, flags: OFlags) -> Result<File, FileError> {
    let flags = flags | OFlags::NONBLOCK;
    regular(self.open_at(&relative(path)?, flags, Mode::empty())?)
  }

  fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, FileError> {
    let path = if path.as_os_str().is_empty() {
      Path::new(".")
    } else {
      path
    };
    beneath(&self.dir, path, flags, mode).map_err(failed)
  }
}

/// What can be watched.
pub(crate) struct Watchable {
  pub entry: FileEntry,
  /// The folder itself, or the one that the file is in.
  pub folder: OwnedFd,
  /// The name of the file there.
  pub only: Option<String>,
}

impl Watchable {
  /// What is in the folder; `None` where that is more than a listing has, or cannot be read.
  pub(crate) fn names(&self) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for listed in Dir::read_from(&self.folder).ok()? {
      if names.len() == MAX_ENTRIES {
        return None;
      }
      let name = listed.ok()?.file_name().to_string_lossy().into_owned();
      names.push(name);
    }
    Some(names)
  }
}

impl From<OwnedFd> for Folder {
  fn from(dir: OwnedFd) -> Self {
    Self { dir, owner: None }
  }
}

fn beneath(dir: &OwnedFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
  let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
  loop {
    match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, within) {
      // Something was renamed meanwhile.
      Err(Errno::AGAIN | Errno::INTR) => {}
      opened => return opened,
    }
  }
}

/// The path below a folder, without `.` and empty parts. `..` is for the system to judge.
fn relative(path: &str) -> Result<PathBuf, FileError> {
  if path.contains('\0') {
    return Err(FileError::BadPath);
  }
  let parts = Path::new(path).components();
  Ok(
    parts
      .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
      .collect(),
  )
}

fn regular(file: OwnedFd) -> Result<File, FileError> {
  let stat = rustix::fs::fstat(&file).map_err(failed)?;
  match FileType::from_raw_mode(stat.st_mode) {
    FileType::RegularFile => Ok(File::from(file)),
    FileType::Directory => Err(FileError::IsDirectory),
    _ => Err(FileError::NotFile),
  }
}

fn entry(name: &OsStr, stat: &Stat) -> FileEntry {
  let kind = match FileType::from_raw_mode(stat.st_mode) {
    FileType::RegularFile => FileKind::File,
    FileType::Directory => FileKind::Directory,
    _ => FileKind::Other,
  };
  let milliseconds = i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or_default();
  FileEntry {
    name: name.to_string_lossy().into_owned(),
    kind,
    size: match kind {
      FileKind::File => u64::try_from(stat.st_size).unwrap_or_default(),
      FileKind::Directory | FileKind::Other => 0,
    },
    modified: Some(stat.st_mtime * 1000 + milliseconds),
  }
}

pub(crate) fn failed(errno: Errno) -> FileError {
  match errno {
    Errno::NOENT => FileError::NotFound,
    // XDEV: the path leads out. LOOP: a symlink where none may be, or a circle of them.
    Errno::ACCESS | Errno::PERM | Errno::XDEV | Errno::LOOP | Errno::ROFS | Errno::BUSY => {
      FileError::Denied
    }
    Errno::ISDIR => FileError::IsDirectory,
    Errno::NOTDIR => FileError::NotDirectory,
    Errno::NXIO => FileError::NotFile,
    Errno::NOTEMPTY | Errno::EXIST => FileError::NotEmpty,
    Errno::NOSPC | Errno::DQUOT => FileError::NoSpace,
    Errno::NAMETOOLONG | Errno::INVAL => FileError::BadPath,
    other => FileError::Other(io::Error::from(other).to_string()),
  }
}

fn other(error: &io::Error) -> FileError {
  match error.raw_os_error() {
    Some(errno) => failed(Errno::from_raw_os_error(errno)),
    None => FileError::Other(error.to_string()),
  }
}

#[cfg(test)]
mod tests {
  use std::os::unix::fs::symlink;

  use tempfile::TempDir;

  use super::*;

  fn folder() -> (TempDir, Folder) {
    let dir = TempDir::new().expect("a folder");
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).expect("is made");
    std::fs::write(dir.path().join("secret"), "s3cret").expect("is written");
    let folder = Folder::open(&inside).expect("opens");
    (dir, folder)
  }

  #[test]
  fn what_was_written_is_read_listed_renamed_and_deleted() {
    let (_dir, folder) = folder();
    folder.write("a/b/c.txt", 0, b"hello ").expect("is written");
    folder.write("a/b/c.txt", 6, b"world").expect("goes on");
    assert_eq!(folder.read("/a/b/c.txt", 6, 100), Ok(b"world".to_vec()));
    assert_eq!(folder.read("a/b/c.txt", 0, 5), Ok(b"hello".to_vec()));
    assert_eq!(folder.read("a/b/c.txt", 100, 5), Ok(Vec::new()));
    let entry = folder.stat("a/b/c.txt").expect("is there");
    assert_eq!(
      (entry.name.as_str(), entry.kind, entry.size),
      ("c.txt", FileKind::File, 11)
    );
    folder.rename("a/b/c.txt", "a/d.txt").expect("is renamed");
    let listed = folder.list("a").expect("lists").into_iter();
    let names: Vec<String> = listed.map(|entry| entry.name).collect();
    assert_eq!(names, ["b", "d.txt"]);
    folder.write("a/d.txt", 0, b"x").expect("begins anew");
    assert_eq!(folder.stat("a/d.txt").expect("is there").size, 1);
    assert_eq!(folder.delete("a", false), Err(FileError::NotEmpty));
    folder.delete("a/d.txt", false).expect("is deleted");
    folder
      .delete("a", true)
      .expect("is deleted with all that is in it");
    assert_eq!(folder.list(""), Ok(Vec::new()));
    assert_eq!(folder.stat("a"), Err(FileError::NotFound));
  }

  #[test]
  fn neither_dots_nor_symlinks_lead_out() {
    let (dir, folder) = folder();
    let inside = dir.path().join("inside");
    symlink("../secret", inside.join("file")).expect("a link");
    symlink("..", inside.join("up")).expect("a link");
    symlink(dir.path(), inside.join("absolute")).expect("a link");
    for path in [
      "../secret",
      "file",
      "up/secret",
      "absolute/secret",
      "x/../../secret",
    ] {
      assert!(folder.read(path, 0, 10).is_err(), "{path}");
      assert!(folder.write(path, 0, b"forged").is_err(), "{path}");
      assert!(folder.stat(path).is_err(), "{path}");
    }
    assert!(folder.delete("up/secret", false).is_err());
    assert!(folder.rename("file", "../moved").is_err());
    // A link is deleted, not what it leads to.
    folder.delete("absolute", true).expect("the link goes");
    let secret = std::fs::read_to_string(dir.path().join("secret")).expect("is there");
    assert_eq!(secret, "s3cret");
    assert_eq!(folder.delete("", true), Err(FileError::Denied));
    let listed = folder.list("").expect("lists");
    let links = listed.iter().filter(|entry| entry.kind == FileKind::Other);
    assert_eq!(links.count(), 2, "{listed:?}");
  }

  #[test]
  fn a_pipe_is_no_file_and_nobody_waits_for_it() {
    let (dir, folder) = folder();
    let path = dir.path().join("inside/pipe");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).expect("a pipe");
    assert_eq!(folder.read("pipe", 0, 10), Err(FileError::NotFile));
    assert_eq!(folder.write("pipe", 0, b"x"), Err(FileError::NotFile));
  }

  #[test]
  fn paths_that_are_none_are_refused() {
    let (_dir, folder) = folder();
    assert_eq!(folder.read("a\0b", 0, 1), Err(FileError::BadPath));
    let long = "x".repeat(5000);
    assert_eq!(folder.read(&long, 0, 1), Err(FileError::BadPath));
    assert_eq!(folder.read("", 0, 1), Err(FileError::IsDirectory));
  }
}
