//! Files of a kernel that keeps them on disk: in its scratch folder and its mounts, within its
//! permissions. Answered beside the code that runs, for it takes none of it.

use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use files::Folder;
use files::Tell;
use files::Watcher;
use kernel_protocol::HostConfig;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;

/// The folders of a kernel, and what it may do there.
pub(crate) struct DiskFiles {
  working: PathBuf,
  /// Each with the path that it is seen at.
  folders: Vec<(PathBuf, Folder)>,
  read: Option<Vec<String>>,
  write: Option<Vec<String>>,
  watcher: Watcher,
}

impl DiskFiles {
  /// `roots` are the directories of the mounts, in their order. What cannot be opened is not there. What
  /// watches see goes to `tell`.
  pub(crate) fn new(config: &HostConfig, roots: &[OwnedFd], tell: Tell) -> Self {
    let mounts = config.mounts.iter().zip(roots).filter_map(|(mount, root)| {
      let root = root.try_clone().ok()?;
      Some((mount.mount_point.clone(), Folder::from(root)))
    });
    let scratch = Folder::open(&config.scratch).ok();
    let scratch = scratch.map(|folder| (config.scratch.clone(), folder));
    Self {
      working: config.scratch.clone(),
      folders: scratch.into_iter().chain(mounts).collect(),
      read: config.permissions.read.clone(),
      write: config.permissions.write.clone(),
      watcher: Watcher::new(tell),
    }
  }

  pub(crate) fn answer(&self, request: &FileRequest) -> FileReply {
    match self.located(request) {
      Ok((folder, request)) => folder.answer(&request),
      Err(error) => FileReply::Failed(error),
    }
  }

  /// Opens a watch, for which it takes the permission to read.
  pub(crate) fn watch(&self, id: u64, mut path: String) -> FileReply {
    let placed = self.place(&mut path, self.read.as_deref());
    match placed.and_then(|folder| self.watcher.watch(id, folder, &path)) {
      Ok(entry) => FileReply::Entry(entry),
      Err(error) => FileReply::Failed(error),
    }
  }

  pub(crate) fn unwatch(&self, id: u64) {
    self.watcher.unwatch(id);
  }

  /// The folder that a request is about, and the request as that folder takes it.
  fn located(&self, request: &FileRequest) -> Result<(&Folder, FileRequest), FileError> {
    let mut request = request.clone();
    let folder = match &mut request {
      FileRequest::Stat { path } | FileRequest::List { path } | FileRequest::Read { path, .. } => {
        self.place(path, self.read.as_deref())?
      }
      FileRequest::Write { path, .. } | FileRequest::Delete { path, .. } => {
        self.place(path, self.write.as_deref())?
      }
      FileRequest::Rename { from, to } => {
        let folder = self.place(from, self.write.as_deref())?;
        if !std::ptr::eq(folder, self.place(to, self.write.as_deref())?) {
          return Err(FileError::Denied);
        }
        folder
      }
    };
    Ok((folder, request))
  }

  /// The folder that a path is in, if it is `granted`; the path becomes one below that folder.
  fn place(&self, path: &mut String, granted: Option<&[String]>) -> Result<&Folder, FileError> {
    let absolute = plain(&self.working.join(&*path));
    if !self.is_granted(&absolute, granted) {
      return Err(FileError::Denied);
    }
    let folders = self.folders.iter().filter_map(|(root, folder)| {
      let below = absolute.strip_prefix(root).ok()?;
      Some((root.components().count(), below, folder))
    });
    let (_, below, folder) = folders
      .max_by_key(|(depth, ..)| *depth)
      .ok_or(FileError::Denied)?;
    below.to_str().ok_or(FileError::BadPath)?.clone_into(path);
    Ok(folder)
  }

  /// As Deno judges a path: nothing, everything, or what is below the listed paths.
  fn is_granted(&self, path: &Path, granted: Option<&[String]>) -> bool {
    granted.is_some_and(|list| {
      let covers = |listed: &String| path.starts_with(plain(&self.working.join(listed)));
      list.is_empty() || list.iter().any(covers)
    })
  }
}

/// A path without `.` and `..`, as it is written; symlinks are for the folders to judge.
fn plain(path: &Path) -> PathBuf {
  let mut plain = PathBuf::new();
  for part in path.components() {
    match part {
      Component::ParentDir => {
        plain.pop();
      }
      Component::CurDir => {}
      part => plain.push(part),
    }
  }
  plain
}

#[cfg(test)]
mod tests {
  use std::sync::Arc;
  use std::sync::mpsc;
  use std::time::Duration;

  use kernel_protocol::HostPermissions;
  use kernel_protocol::MountConfig;
  use kernel_protocol::files::ChangeKind;
  use kernel_protocol::files::FileChange;
  use kernel_protocol::files::FileChanges;
  use tempfile::TempDir;

  use super::*;

  fn paths(list: &[&Path]) -> Vec<String> {
    list.iter().map(|path| path.display().to_string()).collect()
  }

  fn files(dir: &Path, permissions: HostPermissions) -> DiskFiles {
    telling(dir, permissions, Arc::new(|_, _| {}))
  }

  fn telling(dir: &Path, permissions: HostPermissions, tell: Tell) -> DiskFiles {
    for name in ["scratch", "mounted"] {
      std::fs::create_dir_all(dir.join(name)).expect("is made");
    }
    let config = HostConfig {
      env: Default::default(),
      scratch: dir.join("scratch"),
      mounts: vec![MountConfig {
        mount_point: "/data".into(),
      }],
      permissions,
      certificates: None,
      ca_stores: Vec::new(),
      registry_auth: Vec::new(),
      max_heap_bytes: 0,
    };
    let root = std::fs::File::open(dir.join("mounted")).expect("opens");
    DiskFiles::new(&config, &[root.into()], tell)
  }

  fn write(path: &str) -> FileRequest {
    FileRequest::Write {
      path: path.into(),
      offset: 0,
      data: b"x".to_vec().into(),
    }
  }

  fn stat(path: &str) -> FileRequest {
    FileRequest::Stat { path: path.into() }
  }

  #[test]
  fn paths_lead_to_the_scratch_folder_and_the_mounts_only() {
    let dir = TempDir::new().expect("a folder");
    let everything = HostPermissions {
      read: Some(Vec::new()),
      write: Some(Vec::new()),
      ..Default::default()
    };
    let files = files(dir.path(), everything);
    for (path, on_disk) in [
      ("a/b.txt", "scratch/a/b.txt"),
      ("./c/../d.txt", "scratch/d.txt"),
      ("/data/e.txt", "mounted/e.txt"),
      (
        &format!("{}/f.txt", dir.path().join("scratch").display()),
        "scratch/f.txt",
      ),
    ] {
      assert_eq!(files.answer(&write(path)), FileReply::Done, "{path}");
      assert!(dir.path().join(on_disk).is_file(), "{path}");
    }
    for path in [
      "/etc/passwd",
      "../mounted/e.txt",
      "/data/../etc/passwd",
      "/",
      "/database",
    ] {
      let denied = FileReply::Failed(FileError::Denied);
      assert_eq!(files.answer(&stat(path)), denied, "{path}");
      assert_eq!(files.answer(&write(path)), denied, "{path}");
    }
    let across = FileRequest::Rename {
      from: "d.txt".into(),
      to: "/data/d.txt".into(),
    };
    assert_eq!(files.answer(&across), FileReply::Failed(FileError::Denied));
  }

  #[test]
  fn the_permissions_of_the_kernel_hold() {
    let dir = TempDir::new().expect("a folder");
    let scratch = dir.path().join("scratch");
    let permissions = HostPermissions {
      read: Some(paths(&[&scratch])),
      write: Some(paths(&[&scratch.join("out")])),
      ..Default::default()
    };
    let files = files(dir.path(), permissions);
    std::fs::write(scratch.join("in.txt"), "x").expect("is written");
    let denied = FileReply::Failed(FileError::Denied);
    assert!(matches!(files.answer(&stat("in.txt")), FileReply::Entry(_)));
    assert_eq!(files.answer(&stat("/data")), denied);
    assert_eq!(files.answer(&write("in.txt")), denied);
    assert_eq!(files.answer(&write("output")), denied);
    assert_eq!(files.answer(&write("out/x.txt")), FileReply::Done);
    let nothing = super::DiskFiles {
      read: None,
      write: None,
      ..files
    };
    assert_eq!(nothing.answer(&stat("in.txt")), denied);
    assert_eq!(nothing.watch(1, "in.txt".into()), denied);
  }

  #[test]
  fn what_may_be_read_may_be_watched_and_nothing_else() {
    let dir = TempDir::new().expect("a folder");
    let scratch = dir.path().join("scratch");
    let permissions = HostPermissions {
      read: Some(paths(&[&scratch.join("in"), Path::new("/data")])),
      ..Default::default()
    };
    let (sender, told) = mpsc::channel();
    let tell: Tell = Arc::new(move |id, changes| {
      let _ = sender.send((id, changes));
    });
    let files = telling(dir.path(), permissions, tell);
    std::fs::create_dir(scratch.join("in")).expect("is made");
    for path in ["", "out", "/etc", "../mounted", "in/../.."] {
      let denied = FileReply::Failed(FileError::Denied);
      assert_eq!(files.watch(1, path.into()), denied, "{path}");
    }
    let missing = files.watch(1, "in/x".into());
    assert_eq!(missing, FileReply::Failed(FileError::NotFound));
    for (id, path, on_disk) in [(1, "in", "scratch/in/a"), (2, "/data", "mounted/a")] {
      let watched = files.watch(id, path.into());
      assert!(matches!(watched, FileReply::Entry(_)), "{watched:?}");
      std::fs::write(dir.path().join(on_disk), "x").expect("is written");
      let change = FileChange {
        name: "a".into(),
        change: ChangeKind::Created,
      };
      // The other watch may still have told that its file was written.
      let mut of_this = std::iter::from_fn(|| told.recv_timeout(Duration::from_secs(30)).ok());
      let first = of_this.find(|(of, _)| *of == id);
      assert_eq!(first, Some((id, FileChanges::Names(vec![change]))));
      files.unwatch(id);
    }
  }
}
