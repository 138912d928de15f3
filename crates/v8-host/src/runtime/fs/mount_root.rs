//! Resolving a path within the directory of a mount, by the operating system.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use deno_runtime::deno_fs::OpenOptions;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

/// What a path below `/proc/self/fd` goes through.
pub(super) type Held = OwnedFd;

/// How often to begin again when a directory that `..` was in has been moved meanwhile.
const ATTEMPTS: usize = 64;

#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
  pub(super) fn new(root: OwnedFd) -> io::Result<Self> {
    let root = Self(root);
    // Some sandboxes have no openat2: say so now.
    root.resolve(Path::new(""), OFlags::PATH, Mode::empty())?;
    Ok(root)
  }

  /// What the path leads to, whatever it is.
  pub(super) fn follow(&self, inner: &Path) -> io::Result<(PathBuf, Held)> {
    let held = self.resolve(inner, OFlags::PATH, Mode::empty())?;
    Ok((path_of(&held), held))
  }

  /// The path's last name in the directory that the rest leads to. The path returned must not
  /// be given to a call that follows its end.
  pub(super) fn entry(&self, inner: &Path) -> io::Result<(PathBuf, Held)> {
    let (parent, name) = match (inner.parent(), inner.file_name()) {
      (Some(parent), Some(name)) => (parent, Path::new(name)),
      // The link in /proc is not what is meant.
      _ => (inner, Path::new(".")),
    };
    let held = self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    Ok((path_of(&held).join(name), held))
  }

  /// The path without symlinks, relative to the root.
  pub(super) fn real_path(&self, inner: &Path) -> io::Result<PathBuf> {
    let (path, _held) = self.follow(inner)?;
    let root = std::fs::read_link(path_of(&self.0))?;
    // Not below it any more only if it has been moved or deleted meanwhile.
    let real = std::fs::read_link(path)?;
    real
      .strip_prefix(root)
      .map(Path::to_path_buf)
      .map_err(|_| Errno::NOENT.into())
  }

  /// As `std::fs::OpenOptions` would, except that a file can be created for reading only.
  pub(super) fn open_file(&self, inner: &Path, options: OpenOptions) -> io::Result<File> {
    let writes = options.write || options.append;
    let truncates = options.truncate && !options.create_new;
    if !(options.read || writes)
      || (options.append && truncates)
      || (!writes && !options.create && (options.truncate || options.create_new))
    {
      return Err(Errno::INVAL.into());
    }

    let custom = OFlags::from_bits_retain(options.custom_flags.unwrap_or(0).cast_unsigned());
    let mut flags = custom.difference(OFlags::ACCMODE);
    flags |= match (options.read, writes) {
      (true, true) => OFlags::RDWR,
      (false, true) => OFlags::WRONLY,
      (_, false) => OFlags::RDONLY,
    };
    flags.set(
      OFlags::APPEND,
      options.append || custom.contains(OFlags::APPEND),
    );
    flags |= match (options.create_new, options.create, truncates && writes) {
      (true, _, _) => OFlags::CREATE | OFlags::EXCL,
      (false, true, true) => OFlags::CREATE | OFlags::TRUNC,
      (false, true, false) => OFlags::CREATE,
      (false, false, true) => OFlags::TRUNC,
      (false, false, false) => OFlags::empty(),
    };
    // Unlike open, openat2 takes a mode only with these.
    let mode = if flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE) {
      Mode::from_bits_truncate(options.mode.unwrap_or(0o666) & 0o777)
    } else {
      Mode::empty()
    };
    Ok(self.resolve(inner, flags, mode)?.into())
  }

  fn resolve(&self, inner: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let path = if inner.as_os_str().is_empty() {
      Path::new(".")
    } else {
      inner
    };
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
      match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, within) {
        Err(Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
        Err(Errno::INTR) => {}
        resolved => return Ok(resolved?),
      }
    }
  }
}

fn path_of(held: &impl AsFd) -> PathBuf {
  format!("/proc/self/fd/{}", held.as_fd().as_raw_fd()).into()
}
