//! The file system a kernel in V8 sees: the host's, with its own current
//! directory, and with host directories mounted at paths of its own.
//!
//! A path that lies at or under a mount point, once made absolute and normalised as text, is
//! resolved within the mounted directory and nowhere else: neither `..` nor a symlink leads out
//! of it, an absolute symlink starts from its root. On Linux the kernel does that in one step
//! (`openat2` with `RESOLVE_IN_ROOT`), so there is nothing to race against. What it finds is kept
//! open and handed to Deno's own [`RealFs`] as a path below `/proc/self/fd`. Every other path goes
//! to [`RealFs`] as it is.
//!
//! Permissions are checked for another name of what is mounted, one that nothing can have on the
//! host: much of Deno opens the path that was checked by itself (databases, sockets, WASI), and must
//! not find there what the host has under the mount point's name.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File as StdFile;
use std::future::Future;
use std::io;
use std::io::Read;
use std::io::Write;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use deno_core::unsync::spawn_blocking;
use deno_runtime::deno_fs::FileSystem;
use deno_runtime::deno_fs::FsDirEntry;
use deno_runtime::deno_fs::FsFileType;
use deno_runtime::deno_fs::FsReadDirRc;
use deno_runtime::deno_fs::OpenOptions;
use deno_runtime::deno_fs::RealFs;
use deno_runtime::deno_fs::open_options_for_checked_path;
use deno_runtime::deno_io::StdFileResourceInner;
use deno_runtime::deno_io::fs::File;
use deno_runtime::deno_io::fs::FsError;
use deno_runtime::deno_io::fs::FsResult;
use deno_runtime::deno_io::fs::FsStat;
use deno_runtime::deno_io::fs::FsStatFs;
use deno_runtime::deno_permissions::CheckedPath;
use deno_runtime::deno_permissions::CheckedPathBuf;

#[cfg(unix)]
type ChmodMode = u32;
#[cfg(not(unix))]
type ChmodMode = i32;

/// A host directory, and where a kernel sees it.
#[derive(Debug)]
pub struct Mount {
  /// The directory on the host, opened by the server.
  pub root: OwnedFd,
  /// The absolute path at which the kernel sees it. Nothing has to exist there on the host.
  pub mount_point: PathBuf,
}

/// The file system of one kernel; see the module's description.
///
/// It can exist before it is known whose kernel it will serve: until [`KernelFs::configure`] it
/// has no mounts, and the current directory is the process's.
#[derive(Debug, Default)]
pub struct KernelFs {
  state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
  configured: bool,
  /// Absolute. None as long as it is the process's.
  cwd: Option<PathBuf>,
  /// The deeper mount point first.
  mounts: Vec<Arc<Mounted>>,
}

impl State {
  /// The mount that a path is in, and the rest of the path.
  fn mount_of<'a>(&self, path: &'a Path) -> Option<(&Arc<Mounted>, &'a Path)> {
    self.mounts.iter().find_map(|mount| {
      let inner = path.strip_prefix(&mount.point);
      let inner = inner.or_else(|_| path.strip_prefix(&mount.checked));
      inner.ok().map(|inner| (mount, inner))
    })
  }
}

/// What permissions know the content of a mount by. No system call takes so long a path, so that
/// nothing on the host can have it.
fn checked_name(number: usize) -> PathBuf {
  const LONGER_THAN_ANY_PATH: usize = 4096;
  format!("/{:~<LONGER_THAN_ANY_PATH$}", format!("mount-{number}-")).into()
}

impl KernelFs {
  /// A file system without mounts, in the process's current directory.
  pub fn new() -> Self {
    Self::default()
  }

  /// Sets the current directory, an absolute path as the kernel sees it, and the mounts. A mount
  /// below another one hides what lies there. This can be done once.
  ///
  /// # Errors
  /// If a root is no directory that can be opened, a path is not absolute, a mount point is given
  /// twice, or the file system has been configured before. Nothing has changed then.
  pub fn configure(&self, cwd: &Path, mounts: Vec<Mount>) -> io::Result<()> {
    let cwd = absolute(cwd)?;
    let mut opened: Vec<Arc<Mounted>> = Vec::with_capacity(mounts.len());
    for (number, Mount { root, mount_point }) in mounts.into_iter().enumerate() {
      let point = absolute(&mount_point)?;
      if opened.iter().any(|mount| mount.point == point) {
        return Err(invalid(format!("two mounts at '{}'", point.display())));
      }
      let root = host::Root::new(root).map_err(|error| {
        io::Error::new(
          error.kind(),
          format!("cannot mount at '{}': {error}", point.display()),
        )
      })?;
      opened.push(Arc::new(Mounted {
        point,
        checked: checked_name(number),
        root,
      }));
    }
    opened.sort_by_key(|mount| std::cmp::Reverse(mount.point.components().count()));

    let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
    if state.configured {
      return Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "the kernel's file system has been configured already",
      ));
    }
    *state = State {
      configured: true,
      cwd: Some(cwd),
      mounts: opened,
    };
    Ok(())
  }

  pub fn has_mounts(&self) -> bool {
    let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
    !state.mounts.is_empty()
  }

  /// What permissions are to be checked for instead of this path; `None` when it is in no mount.
  pub fn checked_path(&self, path: &Path) -> Option<PathBuf> {
    match self.locate(&CheckedPath::unsafe_new(Cow::Borrowed(path))) {
      Ok(Place::Inside(Inside { mount, inner })) => Some(join(&mount.checked, &inner)),
      _ => None,
    }
  }

  /// The path without symlinks, as permissions know it.
  ///
  /// # Errors
  /// When there is no such file.
  pub fn checked_real_path(&self, path: &Path) -> FsResult<PathBuf> {
    match self.locate(&CheckedPath::unsafe_new(Cow::Borrowed(path)))? {
      Place::Outside(path) => RealFs.realpath_sync(&path.as_checked_path()),
      Place::Inside(Inside { mount, inner }) => {
        Ok(join(&mount.checked, &mount.root.real_path(&inner)?))
      }
    }
  }

  /// Which file system serves a path, and as what.
  fn locate(&self, path: &CheckedPath) -> FsResult<Place> {
    // Deno's own file system panics on some of these.
    if path.as_os_str().as_encoded_bytes().contains(&0) {
      return Err(invalid("a path cannot contain a null character").into());
    }
    let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
    let Some(cwd) = state.cwd.as_ref().filter(|_| !path.as_os_str().is_empty()) else {
      return Ok(Place::Outside(path.as_owned()));
    };

    let joined = cwd.join(Path::new(path.as_os_str()));
    let mut through_mount = false;
    let normal = normalise(&joined, |left| {
      through_mount |= state.mount_of(left).is_some();
    });
    Ok(match state.mount_of(&normal) {
      Some((mount, inner)) => Place::Inside(Inside {
        inner: inner.to_path_buf(),
        mount: mount.clone(),
      }),
      // The host knows nothing of a mount point that `..` leads out of.
      None if through_mount => Place::Outside(CheckedPathBuf::unsafe_new(normal)),
      None if path.is_absolute() => Place::Outside(path.as_owned()),
      None => Place::Outside(CheckedPathBuf::unsafe_new(joined)),
    })
  }
}

/// A mount with its root opened.
#[derive(Debug)]
struct Mounted {
  point: PathBuf,
  /// What permissions know it by.
  checked: PathBuf,
  root: host::Root,
}

impl Mounted {
  /// The path the kernel sees for one relative to the root.
  fn shown(&self, inner: &Path) -> PathBuf {
    join(&self.point, inner)
  }
}

/// A path below another; joined with nothing it would end in a slash.
fn join(path: &Path, inner: &Path) -> PathBuf {
  if inner.as_os_str().is_empty() {
    path.to_path_buf()
  } else {
    path.join(inner)
  }
}

/// A path within a mount.
#[derive(Debug)]
struct Inside {
  mount: Arc<Mounted>,
  /// Relative to the root, without `.` and `..`; empty for the mount point.
  inner: PathBuf,
}

impl Inside {
  fn open(&self, options: OpenOptions) -> FsResult<StdFile> {
    Ok(self.mount.root.open_file(&self.inner, options)?)
  }

  fn shown(&self) -> PathBuf {
    self.mount.shown(&self.inner)
  }
}

/// Where a path leads. It owns what it needs, so that it can move to another thread.
#[derive(Debug)]
enum Place {
  /// To the host's file system.
  Outside(CheckedPathBuf),
  Inside(Inside),
}

/// A path that the host's file system can be called with, and what must live as long as the path
/// is in use.
struct HostPath<'a> {
  path: CheckedPath<'a>,
  _held: Option<host::Held>,
}

impl<'a> HostPath<'a> {
  fn outside(path: &'a CheckedPathBuf) -> Self {
    Self {
      path: path.as_checked_path(),
      _held: None,
    }
  }

  fn held((path, held): (PathBuf, host::Held)) -> Self {
    Self {
      path: CheckedPath::unsafe_new(Cow::Owned(path)),
      _held: Some(held),
    }
  }
}

impl<'a> Deref for HostPath<'a> {
  type Target = CheckedPath<'a>;

  fn deref(&self) -> &Self::Target {
    &self.path
  }
}

impl Place {
  /// For calls that follow a symlink at the end of the path. What it leads to must exist.
  fn follow(&self) -> FsResult<HostPath<'_>> {
    match self {
      Self::Outside(path) => Ok(HostPath::outside(path)),
      Self::Inside(path) => Ok(HostPath::held(path.mount.root.follow(&path.inner)?)),
    }
  }

  /// For calls that act on the last name itself, be it there or not. These must be calls that
  /// never follow it.
  fn entry(&self) -> FsResult<HostPath<'_>> {
    match self {
      Self::Outside(path) => Ok(HostPath::outside(path)),
      Self::Inside(path) => Ok(HostPath::held(path.mount.root.entry(&path.inner)?)),
    }
  }

  /// As [`Place::entry`], for calls that take the name away: a mount point stays.
  fn movable_entry(&self) -> FsResult<HostPath<'_>> {
    match self {
      Self::Inside(path) if path.inner.as_os_str().is_empty() => {
        Err(refusal(libc::EBUSY, io::ErrorKind::ResourceBusy))
      }
      _ => self.entry(),
    }
  }

  fn open(&self, options: OpenOptions) -> FsResult<StdFile> {
    match self {
      Self::Outside(path) => {
        Ok(open_options_for_checked_path(options, &path.as_checked_path()).open(path)?)
      }
      Self::Inside(path) => path.open(options),
    }
  }

  fn join(&self, name: &OsStr) -> Self {
    match self {
      Self::Outside(path) => Self::Outside(CheckedPathBuf::unsafe_new(path.join(name))),
      Self::Inside(Inside { mount, inner }) => Self::Inside(Inside {
        mount: mount.clone(),
        inner: inner.join(name),
      }),
    }
  }

  fn parent(&self) -> Self {
    match self {
      Self::Outside(path) => {
        let parent = path.parent().unwrap_or(path);
        Self::Outside(CheckedPathBuf::unsafe_new(parent.to_path_buf()))
      }
      Self::Inside(Inside { mount, inner }) => {
        let inner = inner.parent().unwrap_or(inner).to_path_buf();
        Self::Inside(Inside {
          mount: mount.clone(),
          inner,
        })
      }
    }
  }

  /// The path as the kernel sees it.
  fn shown(&self) -> PathBuf {
    match self {
      Self::Outside(path) => path.to_path_buf(),
      Self::Inside(path) => path.shown(),
    }
  }
}

/// Both ends of a call that needs them in one file system.
fn both<'a>(old: &'a Place, new: &'a Place) -> FsResult<(HostPath<'a>, HostPath<'a>)> {
  let together = match (old, new) {
    (Place::Outside(_), Place::Outside(_)) => true,
    (Place::Inside(old), Place::Inside(new)) => Arc::ptr_eq(&old.mount, &new.mount),
    _ => false,
  };
  if !together {
    return Err(refusal(libc::EXDEV, io::ErrorKind::CrossesDevices));
  }
  Ok((old.movable_entry()?, new.movable_entry()?))
}

/// Writes the two methods, sync and async, of an operation given once. The paths arrive in it as
/// [`Place`]s; the async one runs it on a thread that may block, as `RealFs` does.
macro_rules! operations {
  ($(
    $sync:ident, $async:ident($($path:ident),+ $(; $($argument:ident: $type:ty),+)?) -> $out:ty
    $body:block
  )*) => {$(
    fn $sync(&self, $($path: &CheckedPath,)+ $($($argument: $type,)+)?) -> FsResult<$out> {
      $(let $path = &self.locate($path)?;)+
      $body
    }

    // What `async_trait` makes of an `async fn`, as it does not look into macros.
    fn $async<'life0, 'async_trait>(
      &'life0 self,
      $($path: CheckedPathBuf,)+
      $($($argument: $type,)+)?
    ) -> Pin<Box<dyn Future<Output = FsResult<$out>> + 'async_trait>>
    where
      'life0: 'async_trait,
      Self: 'async_trait,
    {
      Box::pin(async move {
        $(let $path = self.locate(&$path.as_checked_path())?;)+
        spawn_blocking(move || -> FsResult<$out> {
          $(let $path = &$path;)+
          $body
        })
        .await?
      })
    }
  )*};
}

#[async_trait::async_trait(?Send)]
impl FileSystem for KernelFs {
  operations! {
    mkdir_sync, mkdir_async(path; recursive: bool, mode: Option<u32>) -> () {
      make_directory(path, recursive, mode)
    }
    chmod_sync, chmod_async(path; mode: ChmodMode) -> () {
      RealFs.chmod_sync(&*path.follow()?, mode)
    }
    lchmod_sync, lchmod_async(path; mode: u32) -> () {
      RealFs.lchmod_sync(&*path.entry()?, mode)
    }
    chown_sync, chown_async(path; uid: Option<u32>, gid: Option<u32>) -> () {
      RealFs.chown_sync(&*path.follow()?, uid, gid)
    }
    lchown_sync, lchown_async(path; uid: Option<u32>, gid: Option<u32>) -> () {
      RealFs.lchown_sync(&*path.entry()?, uid, gid)
    }
    remove_sync, remove_async(path; recursive: bool) -> () {
      RealFs.remove_sync(&*path.movable_entry()?, recursive)
    }
    rmdir_sync, rmdir_async(path) -> () {
      RealFs.rmdir_sync(&*path.movable_entry()?)
    }
    copy_file_sync, copy_file_async(from, to) -> () {
      copy_file(from, to)
    }
    cp_sync, cp_async(from, to) -> () {
      copy(from, to)
    }
    rename_sync, rename_async(old, new) -> () {
      let (old, new) = both(old, new)?;
      RealFs.rename_sync(&old, &new)
    }
    link_sync, link_async(old, new) -> () {
      let (old, new) = both(old, new)?;
      RealFs.link_sync(&old, &new)
    }
    stat_sync, stat_async(path) -> FsStat {
      RealFs.stat_sync(&*path.follow()?)
    }
    lstat_sync, lstat_async(path) -> FsStat {
      RealFs.lstat_sync(&*path.entry()?)
    }
    statfs_sync, statfs_async(path; bigint: bool) -> FsStatFs {
      RealFs.statfs_sync(&*path.follow()?, bigint)
    }
    realpath_sync, realpath_async(path) -> PathBuf {
      real_path(path)
    }
    read_link_sync, read_link_async(path) -> PathBuf {
      RealFs.read_link_sync(&*path.entry()?)
    }
    // As an entry: Deno does not truncate through a symlink.
    truncate_sync, truncate_async(path; length: u64) -> () {
      RealFs.truncate_sync(&*path.entry()?, length)
    }
    utime_sync, utime_async(
      path; atime: i64, atime_nanos: u32, mtime: i64, mtime_nanos: u32
    ) -> () {
      RealFs.utime_sync(&*path.follow()?, atime, atime_nanos, mtime, mtime_nanos)
    }
    lutime_sync, lutime_async(
      path; atime: i64, atime_nanos: u32, mtime: i64, mtime_nanos: u32
    ) -> () {
      RealFs.lutime_sync(&*path.entry()?, atime, atime_nanos, mtime, mtime_nanos)
    }
    read_file_sync, read_file_async(path; options: OpenOptions) -> Cow<'static, [u8]> {
      read_file(path, options)
    }
  }

  fn cwd(&self) -> FsResult<PathBuf> {
    let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
    state.cwd.clone().map_or_else(|| RealFs.cwd(), Ok)
  }

  fn chdir(&self, path: &CheckedPath) -> FsResult<()> {
    let place = self.locate(path)?;
    // Without symlinks, as a process's own would be.
    let cwd = real_path(&place)?;
    if !RealFs.stat_sync(&*place.follow()?)?.is_directory {
      return Err(refusal(libc::ENOTDIR, io::ErrorKind::NotADirectory));
    }
    self
      .state
      .write()
      .unwrap_or_else(PoisonError::into_inner)
      .cwd = Some(cwd);
    Ok(())
  }

  fn tmp_dir(&self) -> FsResult<PathBuf> {
    RealFs.tmp_dir()
  }

  /// There is one mask in the process, so that a kernel can read but not set it.
  fn umask(&self, mask: Option<u32>) -> FsResult<u32> {
    match mask {
      Some(_) => Err(FsError::NotSupported),
      None => umask(),
    }
  }

  fn open_sync(&self, path: &CheckedPath, options: OpenOptions) -> FsResult<Rc<dyn File>> {
    match self.locate(path)? {
      Place::Outside(path) => RealFs.open_sync(&path.as_checked_path(), options),
      Place::Inside(path) => Ok(Rc::new(StdFileResourceInner::file(
        path.open(options)?,
        Some(path.shown()),
      ))),
    }
  }

  async fn open_async<'a>(
    &'a self,
    path: CheckedPathBuf,
    options: OpenOptions,
  ) -> FsResult<Rc<dyn File>> {
    match self.locate(&path.as_checked_path())? {
      Place::Outside(path) => RealFs.open_async(path, options).await,
      Place::Inside(path) => {
        let shown = path.shown();
        let file = spawn_blocking(move || path.open(options)).await??;
        Ok(Rc::new(StdFileResourceInner::file(file, Some(shown))))
      }
    }
  }

  fn write_file_sync(&self, path: &CheckedPath, options: OpenOptions, data: &[u8]) -> FsResult<()> {
    write_file(&self.locate(path)?, options, data)
  }

  async fn write_file_async<'a>(
    &'a self,
    path: CheckedPathBuf,
    options: OpenOptions,
    data: Box<[u8]>,
  ) -> FsResult<()> {
    let path = self.locate(&path.as_checked_path())?;
    spawn_blocking(move || write_file(&path, options, &data)).await?
  }

  fn read_dir_sync(&self, path: &CheckedPath) -> FsResult<Vec<FsDirEntry>> {
    RealFs.read_dir_sync(&*self.locate(path)?.follow()?)
  }

  async fn read_dir_async(&self, path: CheckedPathBuf) -> FsResult<FsReadDirRc> {
    let path = self.locate(&path.as_checked_path())?;
    // Held until the directory is open; listing it needs no path.
    let path = path.follow()?;
    RealFs.read_dir_async(path.as_owned()).await
  }

  /// `old` is the link's text, stored as it is: within a mount it is read from the root.
  fn symlink_sync(
    &self,
    old: &CheckedPath,
    new: &CheckedPath,
    file_type: Option<FsFileType>,
  ) -> FsResult<()> {
    RealFs.symlink_sync(old, &*self.locate(new)?.entry()?, file_type)
  }

  async fn symlink_async(
    &self,
    old: CheckedPathBuf,
    new: CheckedPathBuf,
    file_type: Option<FsFileType>,
  ) -> FsResult<()> {
    let new = self.locate(&new.as_checked_path())?;
    spawn_blocking(move || RealFs.symlink_sync(&old.as_checked_path(), &*new.entry()?, file_type))
      .await?
  }

  fn exists_sync(&self, path: &CheckedPath) -> bool {
    self.locate(path).is_ok_and(|path| exists(&path))
  }

  async fn exists_async(&self, path: CheckedPathBuf) -> FsResult<bool> {
    let path = self.locate(&path.as_checked_path())?;
    Ok(spawn_blocking(move || exists(&path)).await?)
  }
}

fn exists(path: &Place) -> bool {
  path.follow().is_ok_and(|path| RealFs.exists_sync(&path))
}

fn real_path(path: &Place) -> FsResult<PathBuf> {
  match path {
    Place::Outside(path) => RealFs.realpath_sync(&path.as_checked_path()),
    Place::Inside(path) => Ok(path.mount.shown(&path.mount.root.real_path(&path.inner)?)),
  }
}

fn read_file(path: &Place, options: OpenOptions) -> FsResult<Cow<'static, [u8]>> {
  match path {
    Place::Outside(path) => RealFs.read_file_sync(&path.as_checked_path(), options),
    Place::Inside(path) => {
      let mut data = Vec::new();
      path.open(options)?.read_to_end(&mut data)?;
      Ok(Cow::Owned(data))
    }
  }
}

fn write_file(path: &Place, options: OpenOptions, data: &[u8]) -> FsResult<()> {
  match path {
    Place::Outside(path) => RealFs.write_file_sync(&path.as_checked_path(), options, data),
    Place::Inside(path) => {
      let mut file = path.open(options)?;
      #[cfg(unix)]
      if let Some(mode) = options.mode {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
      }
      Ok(file.write_all(data)?)
    }
  }
}

fn make_directory(path: &Place, recursive: bool, mode: Option<u32>) -> FsResult<()> {
  let inside = match path {
    Place::Inside(inside) if recursive => inside,
    _ => return RealFs.mkdir_sync(&*path.entry()?, recursive, mode),
  };
  // Name by name: each is resolved anew, so that none can be a symlink out of the mount.
  let mut place = Place::Inside(Inside {
    mount: inside.mount.clone(),
    inner: PathBuf::new(),
  });
  for name in &inside.inner {
    place = place.join(name);
    if let Err(error) = RealFs.mkdir_sync(&*place.entry()?, false, mode) {
      let there = place.follow().and_then(|path| RealFs.stat_sync(&path));
      if !there.is_ok_and(|stat| stat.is_directory) {
        return Err(error);
      }
    }
  }
  Ok(())
}

fn copy_file(from: &Place, to: &Place) -> FsResult<()> {
  if let (Place::Outside(from), Place::Outside(to)) = (from, to) {
    return RealFs.copy_file_sync(&from.as_checked_path(), &to.as_checked_path());
  }
  let mut source = from.open(OpenOptions::read())?;
  let metadata = source.metadata()?;
  if !metadata.is_file() {
    return Err(invalid("the source path is not a regular file").into());
  }
  // Emptied only once it is known to be another file.
  let options = OpenOptions {
    write: true,
    create: true,
    ..OpenOptions::default()
  };
  let mut target = to.open(OpenOptions {
    mode: Some(mode_of(&metadata)),
    ..options
  })?;
  let target_metadata = target.metadata()?;
  if same_file(&metadata, &target_metadata) {
    return Err(invalid("Source and destination paths refer to the same file").into());
  }
  if target_metadata.is_file() {
    target.set_len(0)?;
    target.set_permissions(metadata.permissions())?;
  }
  io::copy(&mut source, &mut target)?;
  Ok(())
}

/// Copies a file, a symlink (as such) or a whole directory.
fn copy(from: &Place, to: &Place) -> FsResult<()> {
  if let (Place::Outside(from), Place::Outside(to)) = (from, to) {
    return RealFs.cp_sync(&from.as_checked_path(), &to.as_checked_path());
  }
  let source = RealFs.lstat_sync(&*from.entry()?)?;
  let target = to.follow().and_then(|path| RealFs.stat_sync(&path));
  let is_directory = |stat: FsResult<FsStat>| stat.is_ok_and(|stat| stat.is_directory);
  let shown = from.shown();
  if is_directory(target) && !is_directory(RealFs.stat_sync(&*from.follow()?)) {
    let name = shown
      .file_name()
      .ok_or_else(|| invalid("the source path is not a valid file"))?;
    return copy_tree(&source, from, &to.join(name));
  }
  // Or it would copy its own copy, and so on.
  if source.is_directory && to.shown().starts_with(&shown) {
    return Err(invalid("a directory cannot be copied into itself").into());
  }
  if source.is_file {
    make_directory(&to.parent(), true, None)?;
  }
  copy_tree(&source, from, to)
}

fn copy_tree(source: &FsStat, from: &Place, to: &Place) -> FsResult<()> {
  if source.is_directory {
    match make_directory(to, false, Some(source.mode & 0o7777)) {
      Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
      made => made?,
    }
    let listing = std::fs::read_dir(Path::new(from.follow()?.as_os_str()))?;
    let names = listing
      .map(|entry| Ok(entry?.file_name()))
      .collect::<io::Result<Vec<_>>>()?;
    for name in names {
      let from = from.join(&name);
      let source = RealFs.lstat_sync(&*from.entry()?)?;
      copy_tree(&source, &from, &to.join(&name))?;
    }
    Ok(())
  } else if source.is_symlink {
    let text = CheckedPathBuf::unsafe_new(RealFs.read_link_sync(&*from.entry()?)?);
    RealFs.symlink_sync(&text.as_checked_path(), &*to.entry()?, None)
  } else if source.is_file {
    copy_file(from, to)
  } else {
    // Opening a pipe would wait for its other end.
    Err(
      invalid(format!(
        "'{}' is not a regular file",
        from.shown().display()
      ))
      .into(),
    )
  }
}

/// The process's file mode creation mask. Elsewhere than on Linux it can only be read by setting
/// it, for a moment, for every thread.
fn umask() -> FsResult<u32> {
  if cfg!(target_os = "linux") {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    if let Some(mask) = mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()) {
      return Ok(mask);
    }
  }
  RealFs.umask(None)
}

/// An absolute path as text, without `.` and `..`.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
  if !path.is_absolute() {
    return Err(invalid(format!(
      "'{}' is not an absolute path",
      path.display()
    )));
  }
  Ok(normalise(path, |_| {}))
}

/// Takes `.` and `..` out of an absolute path, as text; `left` hears of each path that a `..`
/// leads out of.
fn normalise(path: &Path, mut left: impl FnMut(&Path)) -> PathBuf {
  let mut normal = PathBuf::new();
  for component in path.components() {
    match component {
      Component::CurDir => {}
      Component::ParentDir => {
        left(&normal);
        normal.pop();
      }
      component => normal.push(component),
    }
  }
  normal
}

fn invalid(message: impl Into<String>) -> io::Error {
  io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

/// With the system's own number where it has one: the `code` that scripts look at comes from it.
fn refusal(number: i32, kind: io::ErrorKind) -> FsError {
  FsError::Io(if cfg!(unix) {
    io::Error::from_raw_os_error(number)
  } else {
    kind.into()
  })
}

#[cfg(unix)]
fn mode_of(metadata: &std::fs::Metadata) -> u32 {
  std::os::unix::fs::MetadataExt::mode(metadata)
}

#[cfg(not(unix))]
fn mode_of(_: &std::fs::Metadata) -> u32 {
  0o666
}

#[cfg(unix)]
fn same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
  use std::os::unix::fs::MetadataExt;
  (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
  false
}

/// Resolving a path within a directory, by the kernel.
mod host {
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
  pub type Held = OwnedFd;

  /// How often to begin again when a directory that `..` was in has been moved meanwhile.
  const ATTEMPTS: usize = 64;

  #[derive(Debug)]
  pub struct Root(OwnedFd);

  impl Root {
    pub fn new(root: OwnedFd) -> io::Result<Self> {
      let root = Self(root);
      // Some sandboxes have no openat2: say so now.
      root.resolve(Path::new(""), OFlags::PATH, Mode::empty())?;
      Ok(root)
    }

    /// What the path leads to, whatever it is.
    pub fn follow(&self, inner: &Path) -> io::Result<(PathBuf, Held)> {
      let held = self.resolve(inner, OFlags::PATH, Mode::empty())?;
      Ok((path_of(&held), held))
    }

    /// The path's last name in the directory that the rest leads to. The path returned must not
    /// be given to a call that follows its end.
    pub fn entry(&self, inner: &Path) -> io::Result<(PathBuf, Held)> {
      let (parent, name) = match (inner.parent(), inner.file_name()) {
        (Some(parent), Some(name)) => (parent, Path::new(name)),
        // The link in /proc is not what is meant.
        _ => (inner, Path::new(".")),
      };
      let held = self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
      Ok((path_of(&held).join(name), held))
    }

    /// The path without symlinks, relative to the root.
    pub fn real_path(&self, inner: &Path) -> io::Result<PathBuf> {
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
    pub fn open_file(&self, inner: &Path, options: OpenOptions) -> io::Result<File> {
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
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
  use std::fs;
  use std::os::unix::fs::PermissionsExt;
  use std::os::unix::fs::symlink;

  use tempfile::TempDir;

  use super::*;

  const DATA: &str = "/kernel/data";

  /// A mount at [`DATA`], and next to its root on the host a file it must not lead to.
  struct Fixture {
    fs: KernelFs,
    host: TempDir,
  }

  impl Fixture {
    fn new() -> Self {
      let host = TempDir::new().unwrap();
      fs::create_dir_all(host.path().join("root/dir")).unwrap();
      fs::write(host.path().join("root/dir/file"), "inside").unwrap();
      fs::write(host.path().join("secret"), "outside").unwrap();
      let fixture = Self {
        fs: KernelFs::new(),
        host,
      };
      fixture
        .fs
        .configure(Path::new(DATA), vec![fixture.mount("root", DATA)])
        .unwrap();
      fixture
    }

    fn mount(&self, root: &str, mount_point: &str) -> Mount {
      Mount {
        root: OwnedFd::from(StdFile::open(self.host.path().join(root)).unwrap()),
        mount_point: mount_point.into(),
      }
    }

    /// A path on the host, below the mount's root.
    fn root(&self, path: &str) -> PathBuf {
      self.host.path().join("root").join(path)
    }

    fn secret(&self) -> PathBuf {
      self.host.path().join("secret")
    }

    fn read(&self, path: &str) -> FsResult<String> {
      Ok(
        self
          .fs
          .read_text_file_lossy_sync(&checked(path))?
          .into_owned(),
      )
    }

    fn write(&self, path: &str, text: &str) -> FsResult<()> {
      self
        .fs
        .write_file_sync(&checked(path), creating(), text.as_bytes())
    }

    fn names(&self, path: &str) -> Vec<String> {
      let entries = self.fs.read_dir_sync(&checked(path)).unwrap();
      let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
      names.sort();
      names
    }
  }

  fn checked(path: &str) -> CheckedPath<'_> {
    CheckedPath::unsafe_new(Cow::Borrowed(Path::new(path)))
  }

  fn owned(path: &str) -> CheckedPathBuf {
    CheckedPathBuf::unsafe_new(path.into())
  }

  fn creating() -> OpenOptions {
    OpenOptions::write(true, false, false, None)
  }

  #[track_caller]
  fn kind<T>(result: FsResult<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
  }

  /// What a link out of the mount answers: resolved within it, or refused.
  #[track_caller]
  fn assert_leads_nowhere<T>(result: FsResult<T>) {
    let linux = cfg!(target_os = "linux");
    let expected = if linux {
      io::ErrorKind::NotFound
    } else {
      io::ErrorKind::PermissionDenied
    };
    assert_eq!(kind(result), expected);
  }

  #[test]
  fn files_and_directories_of_a_mount_can_be_used() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    assert_eq!(fixture.read("/kernel/data/dir/file").unwrap(), "inside");
    fixture.write("/kernel/data/new", "one").unwrap();
    assert_eq!(fs::read_to_string(fixture.root("new")).unwrap(), "one");
    assert_eq!(fixture.names(DATA), ["dir", "new"]);
    assert_eq!(fixture.names("/kernel/data/dir"), ["file"]);

    let stat = fs.stat_sync(&checked("/kernel/data/new")).unwrap();
    assert!(stat.is_file && stat.size == 3);
    assert!(fs.lstat_sync(&checked(DATA)).unwrap().is_directory);
    assert!(fs.stat_sync(&checked(DATA)).unwrap().is_directory);
    assert!(fs.exists_sync(&checked("/kernel/data/new")));
    assert!(!fs.exists_sync(&checked("/kernel/data/none")));
    assert!(fs.statfs_sync(&checked("/kernel/data/new"), true).is_ok());
    assert_eq!(
      kind(fixture.read("/kernel/data/none")),
      io::ErrorKind::NotFound
    );
    assert_eq!(
      kind(fixture.read("/kernel/data/dir")),
      io::ErrorKind::IsADirectory
    );
    assert_eq!(
      kind(fixture.read("/kernel/data/new/x")),
      io::ErrorKind::NotADirectory
    );

    fs.mkdir_sync(&checked("/kernel/data/a"), false, Some(0o700))
      .unwrap();
    assert_eq!(
      fixture.root("a").metadata().unwrap().permissions().mode() & 0o777,
      0o700
    );
    let again = fs.mkdir_sync(&checked("/kernel/data/a"), false, None);
    assert_eq!(kind(again), io::ErrorKind::AlreadyExists);
    assert_eq!(
      kind(fs.mkdir_sync(&checked(DATA), false, None)),
      io::ErrorKind::AlreadyExists
    );
    fs.mkdir_sync(&checked(DATA), true, None).unwrap();
    fs.mkdir_sync(&checked("/kernel/data/a/b/c"), true, None)
      .unwrap();
    fs.mkdir_sync(&checked("/kernel/data/a/b/c"), true, None)
      .unwrap();
    assert!(
      fs.mkdir_sync(&checked("/kernel/data/new/x"), true, None)
        .is_err()
    );

    fs.rename_sync(
      &checked("/kernel/data/new"),
      &checked("/kernel/data/a/b/c/moved"),
    )
    .unwrap();
    assert_eq!(fixture.read("/kernel/data/a/b/c/moved").unwrap(), "one");
    assert_eq!(
      kind(fs.remove_sync(&checked("/kernel/data/a"), false)),
      io::ErrorKind::DirectoryNotEmpty
    );
    fs.remove_sync(&checked("/kernel/data/a"), true).unwrap();
    fs.remove_sync(&checked("/kernel/data/dir/file"), false)
      .unwrap();
    fs.rmdir_sync(&checked("/kernel/data/dir")).unwrap();
    assert!(fixture.names(DATA).is_empty());
  }

  #[tokio::test(flavor = "current_thread")]
  async fn files_and_directories_of_a_mount_can_be_used_asynchronously() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    fs.mkdir_async(owned("/kernel/data/a/b"), true, None)
      .await
      .unwrap();
    fs.write_file_async(
      owned("/kernel/data/a/b/x"),
      creating(),
      b"text".as_slice().into(),
    )
    .await
    .unwrap();
    let file = fs
      .open_async(owned("a/b/x"), OpenOptions::read())
      .await
      .unwrap();
    assert_eq!(file.maybe_path(), Some(Path::new("/kernel/data/a/b/x")));
    assert_eq!(file.read_all_async().await.unwrap().as_ref(), b"text");
    fs.rename_async(owned("a/b/x"), owned("a/y")).await.unwrap();
    let data = fs
      .read_file_async(owned("a/y"), OpenOptions::read())
      .await
      .unwrap();
    assert_eq!(data.as_ref(), b"text");
    fs.copy_file_async(owned("a/y"), owned("a/z"))
      .await
      .unwrap();
    fs.truncate_async(owned("a/z"), 2).await.unwrap();
    assert_eq!(fs.stat_async(owned("a/z")).await.unwrap().size, 2);
    fs.symlink_async(owned("z"), owned("a/link"), None)
      .await
      .unwrap();
    assert!(fs.lstat_async(owned("a/link")).await.unwrap().is_symlink);
    assert_eq!(
      fs.read_link_async(owned("a/link")).await.unwrap(),
      Path::new("z")
    );
    let real = fs.realpath_async(owned("a/link")).await.unwrap();
    assert_eq!(real, Path::new("/kernel/data/a/z"));
    assert!(fs.exists_async(owned("a/link")).await.unwrap());
    let listing = fs.read_dir_async(owned("a")).await.unwrap();
    let mut names = Vec::new();
    while let Some(entry) = listing.next().await.unwrap() {
      names.push((entry.name, entry.is_directory, entry.is_symlink));
    }
    names.sort();
    let expected = [
      ("b", true, false),
      ("link", false, true),
      ("y", false, false),
    ];
    assert_eq!(
      names[..3],
      expected.map(|(name, dir, link)| (name.to_string(), dir, link))
    );
    fs.remove_async(owned("a"), true).await.unwrap();
    assert!(!fs.exists_async(owned("a")).await.unwrap());
    let gone = fs.read_file_async(owned("a/y"), OpenOptions::read()).await;
    assert_eq!(kind(gone), io::ErrorKind::NotFound);
  }

  #[test]
  fn metadata_can_be_changed_through_and_at_a_symlink() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    symlink("dir/file", fixture.root("link")).unwrap();
    fs.chmod_sync(&checked("link"), 0o600).unwrap();
    assert_eq!(
      fixture
        .root("dir/file")
        .metadata()
        .unwrap()
        .permissions()
        .mode()
        & 0o777,
      0o600
    );
    fs.utime_sync(&checked("link"), 1, 0, 2, 0).unwrap();
    fs.lutime_sync(&checked("link"), 3, 0, 4, 0).unwrap();
    assert_eq!(fs.stat_sync(&checked("link")).unwrap().mtime, Some(2000));
    assert_eq!(fs.lstat_sync(&checked("link")).unwrap().mtime, Some(4000));
    fs.chown_sync(&checked("link"), None, None).unwrap();
    fs.lchown_sync(&checked("link"), None, None).unwrap();
    fs.link_sync(&checked("dir/file"), &checked("hard"))
      .unwrap();
    assert_eq!(fs.stat_sync(&checked("hard")).unwrap().nlink, Some(2));
    assert!(fs.truncate_sync(&checked("link"), 0).is_err());
    fs.truncate_sync(&checked("hard"), 2).unwrap();
    assert_eq!(fixture.read("link").unwrap(), "in");
  }

  #[test]
  fn options_for_opening_mean_what_they_mean_elsewhere() {
    let fixture = Fixture::new();
    let open = |path: &str, options: OpenOptions| fixture.fs.open_sync(&checked(path), options);
    let append = OpenOptions::write(false, true, false, None);
    open("dir/file", append)
      .unwrap()
      .write_all_sync(b", still")
      .unwrap();
    assert_eq!(fixture.read("dir/file").unwrap(), "inside, still");
    let exclusive = OpenOptions::write(true, false, true, Some(0o640));
    assert_eq!(
      kind(open("dir/file", exclusive)),
      io::ErrorKind::AlreadyExists
    );
    open("exclusive", exclusive).unwrap();
    let mode = fixture
      .root("exclusive")
      .metadata()
      .unwrap()
      .permissions()
      .mode();
    assert_eq!(mode & 0o777 & !0o040, 0o600);
    let absent = OpenOptions::write(false, false, false, None);
    assert_eq!(kind(open("absent", absent)), io::ErrorKind::NotFound);
    assert_eq!(
      kind(open("dir/file", OpenOptions::default())),
      io::ErrorKind::InvalidInput
    );
    let truncating = OpenOptions {
      truncate: true,
      ..OpenOptions::read()
    };
    assert_eq!(
      kind(open("dir/file", truncating)),
      io::ErrorKind::InvalidInput
    );
    open("dir/file", creating()).unwrap();
    assert_eq!(fixture.read("dir/file").unwrap(), "");
    let flags = OpenOptions {
      custom_flags: Some(libc::O_DIRECTORY),
      ..OpenOptions::read()
    };
    assert!(open("dir", flags).is_ok());
    assert_eq!(kind(open("dir/file", flags)), io::ErrorKind::NotADirectory);
    assert_eq!(
      kind(open("nul\0", OpenOptions::read())),
      io::ErrorKind::InvalidInput
    );
    assert_eq!(kind(open("", OpenOptions::read())), io::ErrorKind::NotFound);
  }

  #[cfg(target_os = "linux")]
  #[test]
  fn a_file_can_be_created_for_reading_only() {
    let fixture = Fixture::new();
    let options = OpenOptions {
      create: true,
      ..OpenOptions::read()
    };
    let file = fixture.fs.open_sync(&checked("empty"), options).unwrap();
    assert_eq!(file.clone().read_all_sync().unwrap().as_ref(), b"");
    assert!(file.write_all_sync(b"x").is_err());
  }

  #[test]
  fn dots_in_a_path_are_taken_as_the_kernel_sees_it() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    assert_eq!(
      fixture.read("/kernel/data/./dir/../dir//file").unwrap(),
      "inside"
    );
    assert_eq!(
      fixture.read("/kernel/other/../data/dir/file").unwrap(),
      "inside"
    );
    // Next to the root on the host, but not for the kernel.
    assert_eq!(
      kind(fixture.read("/kernel/data/../secret")),
      io::ErrorKind::NotFound
    );
    assert_eq!(kind(fixture.read("../secret")), io::ErrorKind::NotFound);
    assert_eq!(
      kind(fixture.read("dir/../../secret")),
      io::ErrorKind::NotFound
    );
    // Out of the mount point is where other paths are.
    let secret = format!("/kernel/data/../..{}", fixture.secret().display());
    assert_eq!(fixture.read(&secret).unwrap(), "outside");
    // A symlink in between does not change that.
    symlink("/", fixture.root("top")).unwrap();
    assert_eq!(fixture.read("top/../dir/file").unwrap(), "inside");
    assert_eq!(
      fixture.read("top/../top/dir/file").is_ok(),
      cfg!(target_os = "linux")
    );
    assert!(fs.exists_sync(&checked("/kernel/data/dir/..")));
    assert!(!fs.exists_sync(&checked("/kernel/database")));
  }

  #[test]
  fn an_absolute_symlink_does_not_lead_out() {
    let fixture = Fixture::new();
    symlink("/etc/passwd", fixture.root("passwd")).unwrap();
    symlink(fixture.secret(), fixture.root("secret")).unwrap();
    for path in ["passwd", "secret"] {
      assert_leads_nowhere(fixture.read(path));
      assert_leads_nowhere(fixture.fs.stat_sync(&checked(path)));
      assert_leads_nowhere(fixture.fs.chmod_sync(&checked(path), 0o777));
      assert_leads_nowhere(fixture.fs.realpath_sync(&checked(path)));
      assert_leads_nowhere(fixture.fs.copy_file_sync(&checked(path), &checked("copy")));
      assert!(!fixture.fs.exists_sync(&checked(path)));
      assert!(fixture.fs.lstat_sync(&checked(path)).unwrap().is_symlink);
    }
    assert_eq!(
      fixture.fs.read_link_sync(&checked("secret")).unwrap(),
      fixture.secret()
    );
  }

  #[test]
  fn a_symlink_the_kernel_makes_does_not_lead_out() {
    let fixture = Fixture::new();
    let secret = fixture.secret().display().to_string();
    fixture
      .fs
      .symlink_sync(&checked(&secret), &checked("/kernel/data/link"), None)
      .unwrap();
    fixture
      .fs
      .symlink_sync(&checked("../.."), &checked("dir/up"), None)
      .unwrap();
    assert_eq!(
      fs::read_link(fixture.root("link")).unwrap(),
      fixture.secret()
    );
    assert_leads_nowhere(fixture.read("link"));
    assert_leads_nowhere(fixture.read("dir/up/secret"));
    let made = fixture.fs.symlink_sync(&checked("x"), &checked(DATA), None);
    assert_eq!(kind(made), io::ErrorKind::AlreadyExists);
  }

  #[test]
  fn a_relative_symlink_does_not_lead_out() {
    let fixture = Fixture::new();
    symlink("../secret", fixture.root("link")).unwrap();
    symlink("../../secret", fixture.root("dir/link")).unwrap();
    assert_leads_nowhere(fixture.read("link"));
    assert_leads_nowhere(fixture.read("dir/link"));
    if cfg!(target_os = "linux") {
      // As at the root of any file system, `..` stays there.
      symlink("../../dir/file", fixture.root("clamped")).unwrap();
      assert_eq!(fixture.read("clamped").unwrap(), "inside");
    }
  }

  #[test]
  fn a_symlinked_directory_in_the_middle_does_not_lead_out() {
    let fixture = Fixture::new();
    symlink("..", fixture.root("up")).unwrap();
    symlink(fixture.host.path(), fixture.root("host")).unwrap();
    symlink("dir", fixture.root("same")).unwrap();
    assert_eq!(fixture.read("same/file").unwrap(), "inside");
    for path in ["up/secret", "host/secret"] {
      assert_leads_nowhere(fixture.read(path));
      assert_leads_nowhere(fixture.fs.remove_sync(&checked(path), false));
      assert_leads_nowhere(fixture.fs.lstat_sync(&checked(path)));
      assert_leads_nowhere(fixture.fs.truncate_sync(&checked(path), 0));
    }
    for path in ["up/new", "host/new"] {
      let _ = fixture.write(path, "x");
      let _ = fixture.fs.mkdir_sync(&checked(path), true, None);
      let _ = fixture.fs.rename_sync(&checked("dir/file"), &checked(path));
      let _ = fixture.fs.symlink_sync(&checked("x"), &checked(path), None);
    }
    assert!(!fixture.host.path().join("new").exists());
    assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");
  }

  #[test]
  fn nothing_is_written_through_a_symlink_that_points_outside() {
    let fixture = Fixture::new();
    let target = fixture.host.path().join("created");
    symlink(&target, fixture.root("dangling")).unwrap();
    symlink(fixture.secret(), fixture.root("secret")).unwrap();
    for path in ["dangling", "secret"] {
      assert!(fixture.write(path, "x").is_err());
      let append = OpenOptions::write(true, true, false, None);
      assert!(fixture.fs.open_sync(&checked(path), append).is_err());
      let exclusive = OpenOptions::write(true, false, true, None);
      let exclusive = fixture.fs.open_sync(&checked(path), exclusive);
      assert_eq!(kind(exclusive), io::ErrorKind::AlreadyExists);
      assert!(fixture.fs.truncate_sync(&checked(path), 0).is_err());
      assert!(
        fixture
          .fs
          .copy_file_sync(&checked("dir/file"), &checked(path))
          .is_err()
      );
      assert!(fixture.fs.mkdir_sync(&checked(path), true, None).is_err());
    }
    assert!(!target.exists());
    assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");

    if cfg!(target_os = "linux") {
      // It is a name within the mount.
      symlink("/dir/created", fixture.root("within")).unwrap();
      fixture.write("within", "x").unwrap();
      assert_eq!(
        fs::read_to_string(fixture.root("dir/created")).unwrap(),
        "x"
      );
    }
  }

  #[cfg(target_os = "linux")]
  #[test]
  fn a_symlink_into_proc_leads_nowhere() {
    let fixture = Fixture::new();
    symlink("/proc/self/root/etc/passwd", fixture.root("root")).unwrap();
    symlink("/proc/self/fd/0", fixture.root("fd")).unwrap();
    assert_leads_nowhere(fixture.read("root"));
    assert_leads_nowhere(fixture.read("fd"));
  }

  #[cfg(target_os = "linux")]
  #[test]
  fn a_directory_swapped_for_a_symlink_meanwhile_does_not_lead_out() {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    let fixture = Fixture::new();
    fs::create_dir(fixture.root("swap")).unwrap();
    fs::write(fixture.root("swap/secret"), "inside").unwrap();
    symlink(fixture.host.path(), fixture.root("link")).unwrap();
    let done = AtomicBool::new(false);
    let mut escaped = Vec::new();
    std::thread::scope(|scope| {
      scope.spawn(|| {
        let (swap, link) = (fixture.root("swap"), fixture.root("link"));
        while !done.load(Ordering::Relaxed) {
          let exchange = rustix::fs::RenameFlags::EXCHANGE;
          rustix::fs::renameat_with(rustix::fs::CWD, &swap, rustix::fs::CWD, &link, exchange)
            .unwrap();
        }
      });
      // Without a panic, or the other thread would not end.
      for _ in 0..5_000 {
        match fixture.read("swap/secret") {
          Err(error) if error.kind() == io::ErrorKind::NotFound => {}
          Ok(text) if text == "inside" => {}
          other => escaped.push(other),
        }
        let _ = fixture.fs.remove_sync(&checked("swap/none"), true);
        let _ = fixture
          .fs
          .mkdir_sync(&checked("swap/made/deep"), true, None);
      }
      done.store(true, Ordering::Relaxed);
    });
    assert!(escaped.is_empty(), "{escaped:?}");
    assert!(!fixture.host.path().join("made").exists());
    assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");
  }

  #[test]
  fn removing_a_tree_does_not_follow_its_symlinks() {
    let fixture = Fixture::new();
    symlink(fixture.host.path(), fixture.root("dir/host")).unwrap();
    symlink(fixture.secret(), fixture.root("secret")).unwrap();
    fixture.fs.remove_sync(&checked("secret"), true).unwrap();
    fixture.fs.remove_sync(&checked("dir"), true).unwrap();
    assert!(fixture.names(DATA).is_empty());
    assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");
  }

  #[test]
  fn real_paths_are_the_kernels() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let real = |path: &str| fs.realpath_sync(&checked(path)).unwrap();
    symlink("dir", fixture.root("same")).unwrap();
    assert_eq!(real("same/file"), Path::new("/kernel/data/dir/file"));
    assert_eq!(
      real("/kernel/data/dir/../same"),
      Path::new("/kernel/data/dir")
    );
    assert_eq!(real(".").as_os_str(), DATA);
    assert_eq!(
      kind(fs.realpath_sync(&checked("none"))),
      io::ErrorKind::NotFound
    );
    let host = fixture.host.path().canonicalize().unwrap();
    assert_eq!(
      real(&fixture.secret().display().to_string()),
      host.join("secret")
    );
  }

  #[test]
  fn the_current_directory_is_the_kernels_own() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let process = std::env::current_dir().unwrap();
    assert_eq!(fs.cwd().unwrap(), Path::new(DATA));
    fs.chdir(&checked("dir")).unwrap();
    assert_eq!(fs.cwd().unwrap(), Path::new("/kernel/data/dir"));
    assert_eq!(fixture.read("file").unwrap(), "inside");
    assert_eq!(
      kind(fs.chdir(&checked("file"))),
      io::ErrorKind::NotADirectory
    );
    assert_eq!(kind(fs.chdir(&checked("none"))), io::ErrorKind::NotFound);
    symlink(fixture.host.path(), fixture.root("host")).unwrap();
    assert_leads_nowhere(fs.chdir(&checked("../host")));
    assert_eq!(fs.cwd().unwrap(), Path::new("/kernel/data/dir"));

    let host = fixture.host.path().canonicalize().unwrap();
    fs.chdir(&checked(&host.display().to_string())).unwrap();
    assert_eq!(fs.cwd().unwrap(), host);
    assert_eq!(fixture.read("secret").unwrap(), "outside");
    assert_eq!(fixture.read("root/dir/file").unwrap(), "inside");
    assert_eq!(std::env::current_dir().unwrap(), process);
  }

  #[test]
  fn renaming_and_linking_across_the_border_is_refused() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let secret = fixture.secret().display().to_string();
    let moved = fixture.host.path().join("moved").display().to_string();
    for (old, new) in [(secret.as_str(), "x"), ("dir/file", moved.as_str())] {
      let error = fs
        .rename_sync(&checked(old), &checked(new))
        .unwrap_err()
        .into_io_error();
      assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
      assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
      let linked = fs.link_sync(&checked(old), &checked(new));
      assert_eq!(kind(linked), io::ErrorKind::CrossesDevices);
    }
    assert_eq!(fixture.names(DATA), ["dir"]);
    assert!(!Path::new(&moved).exists());
  }

  #[test]
  fn copying_works_within_a_mount_and_across_its_border() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let secret = fixture.secret().display().to_string();
    let out = fixture.host.path().join("out").display().to_string();
    fs.copy_file_sync(&checked(&secret), &checked("in"))
      .unwrap();
    assert_eq!(fixture.read("in").unwrap(), "outside");
    fs::set_permissions(fixture.root("dir/file"), PermissionsExt::from_mode(0o750)).unwrap();
    fs.copy_file_sync(&checked("dir/file"), &checked(&out))
      .unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap(), "inside");
    assert_eq!(
      fs::metadata(&out).unwrap().permissions().mode() & 0o777,
      0o750
    );
    fs.copy_file_sync(&checked("dir/file"), &checked("in"))
      .unwrap();
    assert_eq!(fixture.read("in").unwrap(), "inside");
    let onto_itself = fs.copy_file_sync(&checked("in"), &checked("dir/../in"));
    assert_eq!(kind(onto_itself), io::ErrorKind::InvalidInput);
    assert_eq!(fixture.read("in").unwrap(), "inside");
    let directory = fs.copy_file_sync(&checked("dir"), &checked("copy"));
    assert_eq!(kind(directory), io::ErrorKind::InvalidInput);
  }

  #[test]
  fn copying_a_tree_copies_symlinks_as_such() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    symlink(fixture.secret(), fixture.root("dir/secret")).unwrap();
    symlink(fixture.host.path(), fixture.root("dir/host")).unwrap();
    fs.cp_sync(&checked("dir"), &checked("copy")).unwrap();
    assert_eq!(fixture.names("copy"), ["file", "host", "secret"]);
    assert_eq!(fixture.read("copy/file").unwrap(), "inside");
    assert_eq!(
      fs::read_link(fixture.root("copy/secret")).unwrap(),
      fixture.secret()
    );
    fs.cp_sync(&checked("dir/file"), &checked("new/deep/file"))
      .unwrap();
    fs.cp_sync(&checked("dir/file"), &checked("new")).unwrap();
    assert_eq!(fixture.names("new"), ["deep", "file"]);
    let into_itself = fs.cp_sync(&checked("dir"), &checked("dir/below"));
    assert_eq!(kind(into_itself), io::ErrorKind::InvalidInput);
    let out = fixture.host.path().join("out");
    fs.cp_sync(&checked("new"), &checked(&out.display().to_string()))
      .unwrap();
    assert_eq!(fs::read_to_string(out.join("deep/file")).unwrap(), "inside");
    fs.cp_sync(&checked(&out.display().to_string()), &checked("back"))
      .unwrap();
    assert_eq!(fixture.read("back/deep/file").unwrap(), "inside");
  }

  #[test]
  fn a_mount_point_cannot_be_taken_away() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    for path in [DATA, ".", "/kernel/data/", "dir/.."] {
      assert_eq!(
        kind(fs.remove_sync(&checked(path), true)),
        io::ErrorKind::ResourceBusy
      );
      assert_eq!(
        kind(fs.remove_sync(&checked(path), false)),
        io::ErrorKind::ResourceBusy
      );
      assert_eq!(
        kind(fs.rmdir_sync(&checked(path))),
        io::ErrorKind::ResourceBusy
      );
      let renamed = fs.rename_sync(&checked(path), &checked("dir/x"));
      assert_eq!(kind(renamed), io::ErrorKind::ResourceBusy);
      let replaced = fs.rename_sync(&checked("dir"), &checked(path));
      assert_eq!(kind(replaced), io::ErrorKind::ResourceBusy);
    }
    assert_eq!(fixture.read("dir/file").unwrap(), "inside");
  }

  #[test]
  fn the_deeper_of_two_mounts_serves_a_path() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.host.path().join("inner")).unwrap();
    fs::write(fixture.host.path().join("inner/file"), "deeper").unwrap();
    let fs = KernelFs::new();
    let mounts = vec![
      fixture.mount("root", DATA),
      fixture.mount("inner", "/kernel/data/dir"),
    ];
    fs.configure(Path::new("/"), mounts).unwrap();
    let read = |path| {
      fs.read_text_file_lossy_sync(&checked(path))
        .unwrap()
        .into_owned()
    };
    assert_eq!(read("/kernel/data/dir/file"), "deeper");
    let moved = fs.rename_sync(
      &checked("/kernel/data/dir/file"),
      &checked("/kernel/data/file"),
    );
    assert_eq!(kind(moved), io::ErrorKind::CrossesDevices);
  }

  #[test]
  fn before_it_is_configured_it_is_the_hosts() {
    let fixture = Fixture::new();
    let fs = KernelFs::new();
    assert_eq!(fs.cwd().unwrap(), std::env::current_dir().unwrap());
    let secret = fixture.secret().display().to_string();
    assert_eq!(
      fs.read_text_file_lossy_sync(&checked(&secret)).unwrap(),
      "outside"
    );
    fs.chdir(&checked(&fixture.host.path().display().to_string()))
      .unwrap();
    assert_eq!(
      fs.read_text_file_lossy_sync(&checked("secret")).unwrap(),
      "outside"
    );
  }

  #[test]
  fn a_faulty_configuration_is_refused_by_name() {
    let fixture = Fixture::new();
    let fs = KernelFs::new();
    let configure = |cwd: &str, mounts| fs.configure(Path::new(cwd), mounts);
    let file = configure("/", vec![fixture.mount("secret", DATA)]).unwrap_err();
    assert_eq!(file.kind(), io::ErrorKind::NotADirectory);
    assert!(file.to_string().contains(DATA), "{file}");
    let relative = configure("/", vec![fixture.mount("root", "data")]).unwrap_err();
    assert_eq!(relative.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(
      configure("x", vec![]).unwrap_err().kind(),
      io::ErrorKind::InvalidInput
    );
    let twice = vec![
      fixture.mount("root", DATA),
      fixture.mount("root", "/kernel/x/../data/"),
    ];
    assert_eq!(
      configure("/", twice).unwrap_err().kind(),
      io::ErrorKind::InvalidInput
    );
    configure("/tmp/../", vec![fixture.mount("root", DATA)]).unwrap();
    assert_eq!(fs.cwd().unwrap(), Path::new("/"));
    assert_eq!(
      configure("/", vec![]).unwrap_err().kind(),
      io::ErrorKind::AlreadyExists
    );
  }

  #[test]
  fn the_mask_for_new_files_can_be_read_but_not_set() {
    let fs = KernelFs::new();
    let mask = fs.umask(None).unwrap();
    assert!(mask <= 0o777);
    assert!(fs.umask(Some(0)).is_err());
    assert_eq!(fs.umask(None).unwrap(), mask);
  }
}
