//! The folder of kernels' own folders: one a server, removed with it.

#![expect(
  clippy::disallowed_methods,
  reason = "at the start, before anything is served"
)]

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Pid;
use uuid::Uuid;

/// Extension of the file that a living server holds locked.
const LOCK: &str = "lock";

/// This server's folder below `scratch`. A lock beside it tells that the server lives: its process id would
/// not, for in a container the next one has the same.
pub(crate) fn locked_folder(scratch: &Path) -> io::Result<PathBuf> {
  let folder = scratch.join(format!(
    "{}-{}",
    std::process::id(),
    Uuid::new_v4().simple()
  ));
  // Nobody sees it before it is locked.
  let unfinished = folder.with_extension("new");
  let lock = fs::File::create(&unfinished)?;
  rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
  fs::rename(&unfinished, folder.with_extension(LOCK))?;
  // Held until the process has ended, however it does.
  #[expect(clippy::mem_forget, reason = "the descriptor is kept for ever")]
  std::mem::forget(lock);
  Ok(folder)
}

/// Removes what servers that no longer live have left.
pub(crate) fn remove_leftovers(scratch: &Path) {
  let Ok(entries) = fs::read_dir(scratch) else {
    return;
  };
  for path in entries.flatten().map(|entry| entry.path()) {
    if path.extension().is_some_and(|extension| extension == LOCK) {
      let lock = fs::File::open(&path);
      let is_left = lock.is_ok_and(|lock| {
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
      });
      if is_left {
        let _ = fs::remove_dir_all(path.with_extension(""));
        let _ = fs::remove_file(&path);
      }
      continue;
    }
    // Servers before the locks had nothing but their process id.
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.parse().ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
      && rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
    {
      let _ = fs::remove_dir_all(&path);
    }
  }
}
