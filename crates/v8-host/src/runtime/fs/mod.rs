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

mod mount_root;

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

type ChmodMode = u32;

/// A host directory, and where a kernel sees it.
#[derive(Debug)]
pub(crate) struct Mount {
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
pub(super) struct KernelFs {
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
  pub(super) fn new() -> Self {
    Self::default()
  }

  /// Sets the current directory, an absolute path as the kernel sees it, and the mounts. A mount
  /// below another one hides what lies there. This can be done once.
  ///
  /// # Errors
  /// If a root is no directory that can be opened, a path is not absolute, a mount point is given
  /// twice, or the file system has been configured before. Nothing has changed then.
  pub(super) fn configure(&self, cwd: &Path, mounts: Vec<Mount>) -> io::Result<()> {
    let cwd = absolute(cwd)?;
    let mut opened: Vec<Arc<Mounted>> = Vec::with_capacity(mounts.len());
    for (number, Mount { root, mount_point }) in mounts.into_iter().enumerate() {
      let point = absolute(&mount_point)?;
      if opened.iter().any(|mount| mount.point == point) {
        return Err(invalid(format!("two mounts at '{}'", point.display())));
      }
      let root = mount_root::Root::new(root).map_err(|error| {
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

  pub(super) fn has_mounts(&self) -> bool {
    let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
    !state.mounts.is_empty()
  }

  /// What permissions are to be checked for instead of this path; `None` when it is in no mount.
  pub(super) fn checked_path(&self, path: &Path) -> Option<PathBuf> {
    match self.locate(&CheckedPath::unsafe_new(Cow::Borrowed(path))) {
      Ok(Place::Inside(Inside { mount, inner })) => Some(join(&mount.checked, &inner)),
      _ => None,
    }
  }

  /// The path without symlinks, as permissions know it.
  ///
  /// # Errors
  /// When there is no such file.
  pub(super) fn checked_real_path(&self, path: &Path) -> FsResult<PathBuf> {
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
  root: mount_root::Root,
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
  _held: Option<mount_root::Held>,
}

impl<'a> HostPath<'a> {
  fn outside(path: &'a CheckedPathBuf) -> Self {
    Self {
      path: path.as_checked_path(),
      _held: None,
    }
  }

  fn held((path, held): (PathBuf, mount_root::Held)) -> Self {
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
      Self::Inside(path) if path.inner.as_os_str().is_empty() => Err(refusal(libc::EBUSY)),
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
    return Err(refusal(libc::EXDEV));
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
      return Err(refusal(libc::ENOTDIR));
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
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
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

/// An error with the system's own number: the `code` that scripts look at comes from it.
fn refusal(number: i32) -> FsError {
  FsError::Io(io::Error::from_raw_os_error(number))
}

fn mode_of(metadata: &std::fs::Metadata) -> u32 {
  std::os::unix::fs::MetadataExt::mode(metadata)
}

fn same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
  use std::os::unix::fs::MetadataExt;
  (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
