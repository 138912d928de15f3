//! Folders of the server that kernels use, when kernels are another user to the file system: by their
//! number, or because they lack the privileges of root. Blocking.

use std::collections::HashMap;
use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process;

use crate::Confinement;
use crate::drop_privileges;
use crate::user::KernelUser;

impl Confinement {
  /// Whom the files of kernels belong to.
  fn owner(&self) -> KernelUser {
    self.user.unwrap_or_else(KernelUser::own)
  }

  /// Makes a folder that only kernels enter. One that is there already is left as it is.
  ///
  /// # Errors
  /// When it cannot be made or given to their user.
  pub fn make_own(&self, folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
      fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
      Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
      Err(error) => Err(error),
      Ok(()) if self.user.is_none() => Ok(()),
      Ok(()) => {
        let owner = self.owner();
        Ok(rustix::fs::chown(
          folder,
          Some(owner.uid()),
          Some(owner.gid()),
        )?)
      }
    }
  }

  /// Makes a folder that only kernels enter, and gives them all that an earlier server, whose kernels
  /// ran as somebody else, has kept there.
  ///
  /// # Errors
  /// When it cannot be made or given to their user.
  pub fn take_over(&self, folder: &Path) -> io::Result<()> {
    self.make_own(folder)?;
    let owner = self.owner();
    let top = rustix::fs::open(folder, FOLDER, Mode::empty())?;
    let is_theirs = {
      let stat = rustix::fs::fstat(&top)?;
      (stat.st_uid, stat.st_gid) == (owner.uid().as_raw(), owner.gid().as_raw())
    };
    // Who is not root has no kernels of another user, and can give nothing away.
    if is_theirs || !process::geteuid().is_root() && self.user.is_none() {
      return Ok(());
    }
    give_all(top.as_fd(), owner, &mut HashMap::new())?;
    // Last: it tells that all below is done.
    Ok(rustix::fs::fchown(
      &top,
      Some(owner.uid()),
      Some(owner.gid()),
    )?)
  }

  /// Makes a folder of the server that kernels must pass, but need not list: what other kernels have
  /// there is theirs.
  ///
  /// # Errors
  /// When it cannot be made.
  pub fn make_passable(&self, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    self.set_mode(folder, 0o711)
  }

  /// Lets kernels read a file of the server's.
  ///
  /// # Errors
  /// When its mode cannot be changed.
  pub fn make_readable(&self, file: &Path) -> io::Result<()> {
    self.set_mode(file, 0o644)
  }

  /// Only where kernels are somebody else.
  fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
    match self.user {
      Some(_) => fs::set_permissions(path, Permissions::from_mode(mode)),
      None => Ok(()),
    }
  }

  /// Whether kernels get to `folder`, which need not be there yet.
  ///
  /// # Errors
  /// A sentence that names the folder which stops them, and what would help.
  pub fn check_way_to(&self, folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let there = folder.ancestors().find(|path| path.exists());
    let there = there.unwrap_or(&folder).canonicalize()?;
    let stops = self.as_kernel(move || {
      let mut way: Vec<&Path> = there.ancestors().collect();
      way.reverse();
      let stops = |path: &&&Path| rustix::fs::access(**path, Access::EXEC_OK).is_err();
      way.iter().find(stops).map(|path| PathBuf::from(*path))
    })?;
    match stops {
      None => Ok(()),
      Some(path) => Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
          "{} cannot pass {}: choose another folder with --data-dir, or let that user pass this one \
           (chmod o+x)",
          self.who(),
          path.display()
        ),
      )),
    }
  }

  /// Whether kernels can read a file, or list a folder.
  ///
  /// # Errors
  /// When that cannot be found out.
  pub fn can_read(&self, path: &Path) -> io::Result<bool> {
    let path = path.to_owned();
    self.as_kernel(move || rustix::fs::access(&path, Access::READ_OK).is_ok())
  }

  /// Kernels, as a message calls them.
  pub fn who(&self) -> String {
    match self.user {
      Some(user) => format!("the user of kernels ({user})"),
      None => format!("a kernel ({} without privileges)", self.owner()),
    }
  }

  /// Answers a question the way a kernel would find it answered: on a thread that has become one.
  fn as_kernel<T: Send + 'static>(
    &self,
    ask: impl FnOnce() -> T + Send + 'static,
  ) -> io::Result<T> {
    let user = self.user;
    // Its user and capabilities are its own, and end with it.
    let asking = std::thread::Builder::new().spawn(move || {
      drop_privileges(user)?;
      Ok(ask())
    })?;
    asking
      .join()
      .unwrap_or_else(|_| Err(io::Error::other("the question failed")))
  }
}

const FOLDER: OFlags = OFlags::DIRECTORY
  .union(OFlags::NOFOLLOW)
  .union(OFlags::CLOEXEC)
  .union(OFlags::RDONLY);

/// Gives everything below `folder` to `owner`, links themselves and not what they lead to. A file with
/// names elsewhere stays whose it is: a kernel of root's may have put a name of another's file here.
fn give_all(
  folder: BorrowedFd<'_>,
  owner: KernelUser,
  names: &mut HashMap<(u64, u64), u128>,
) -> io::Result<()> {
  for entry in Dir::read_from(folder)? {
    let entry = entry?;
    let name = entry.file_name();
    if matches!(name.to_bytes(), b"." | b"..") {
      continue;
    }
    let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
      Ok(stat) => stat,
      // Another server has removed it.
      Err(Errno::NOENT) => continue,
      Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
      let inner = rustix::fs::openat(folder, name, FOLDER, Mode::empty())?;
      give_all(inner.as_fd(), owner, names)?;
      rustix::fs::fchown(&inner, Some(owner.uid()), Some(owner.gid()))?;
      continue;
    }
    let seen = names.entry((stat.st_dev, stat.st_ino)).or_default();
    *seen += 1;
    // As wide as the count of no processor.
    if *seen == u128::from(stat.st_nlink) {
      let (uid, gid) = (Some(owner.uid()), Some(owner.gid()));
      rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
  }
  Ok(())
}

#[cfg(test)]
mod tests {
  use std::os::unix::fs::MetadataExt;

  use super::*;

  fn confinement(user: &str) -> Confinement {
    Confinement {
      user: Some(user.parse().expect("a user")),
      shared_files: false,
    }
  }

  #[test]
  fn what_earlier_kernels_kept_becomes_the_new_users_and_nothing_else_does() {
    let place = tempfile::tempdir().expect("a folder");
    let (cache, own) = (place.path().join("cache"), Confinement::default());
    own.take_over(&cache).expect("is made");
    assert_eq!(
      fs::metadata(&cache).expect("is there").mode() & 0o777,
      0o700
    );
    // Only root gives files away.
    if !process::geteuid().is_root() {
      return;
    }
    let other = place.path().join("other");
    fs::write(&other, "not of the cache").expect("is written");
    fs::create_dir(cache.join("deep")).expect("is made");
    fs::write(cache.join("deep/file"), "").expect("is written");
    fs::hard_link(cache.join("deep/file"), cache.join("again")).expect("is linked");
    fs::hard_link(&other, cache.join("link")).expect("is linked");
    std::os::unix::fs::symlink(&other, cache.join("symlink")).expect("is linked");
    confinement("65534:65533")
      .take_over(&cache)
      .expect("is given");
    let owner = |path: &Path| {
      let metadata = fs::symlink_metadata(path).expect("is there");
      (metadata.uid(), metadata.gid())
    };
    for name in ["", "deep", "deep/file", "again", "symlink"] {
      assert_eq!(owner(&cache.join(name)), (65534, 65533), "{name}");
    }
    assert_eq!(owner(&other), (0, 0));
    own.take_over(&cache).expect("is taken back");
    assert_eq!(owner(&cache.join("deep/file")), (0, 0));
  }

  #[test]
  fn a_folder_that_kernels_cannot_pass_is_named() {
    if !process::geteuid().is_root() {
      return;
    }
    let place = tempfile::tempdir().expect("a folder");
    fs::set_permissions(place.path(), Permissions::from_mode(0o700)).expect("is shut");
    let (user, data) = (confinement("65534"), place.path().join("data/deep"));
    let shut = user.check_way_to(&data).expect_err("is shut").to_string();
    assert!(
      shut.contains(&*place.path().to_string_lossy()) && shut.contains("--data-dir"),
      "{shut}"
    );
    assert!(Confinement::default().check_way_to(&data).is_ok());
    fs::set_permissions(place.path(), Permissions::from_mode(0o711)).expect("is opened");
    assert!(user.check_way_to(&data).is_ok());
    assert!(!user.can_read(place.path()).expect("is asked"));
  }
}
