//! Packages of Pyodide on this machine.

use std::fs::Metadata;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use kernel_protocol::launch::PackageFolders;
use kernel_protocol::launch::PythonFiles;
use sha2::Digest;
use sha2::Sha256;

/// Most bytes of packages that are kept; the oldest make room.
const MAX_CACHE: u64 = 2 << 30;

/// Reads a package that is part of the engine, or otherwise on this machine, and has the sum that it should have.
pub(super) fn find(files: &PythonFiles, name: &str, sha256: &str) -> Option<Vec<u8>> {
  let name = plain_name(name)?;
  let PackageFolders { local, cache } = &files.packages;
  let places = [&files.assets].into_iter().chain(local).chain([cache]);
  places
    .filter_map(|folder| std::fs::read(folder.join(name)).ok())
    .find(|bytes| hex::encode(Sha256::digest(bytes)) == sha256)
}

/// Keeps a package that was downloaded, for all kernels.
///
/// # Errors
/// When it is not what it should be; a cache that cannot be written is no error.
pub(super) fn keep(
  folders: &PackageFolders,
  name: &str,
  sha256: &str,
  bytes: &[u8],
) -> Result<(), String> {
  if hex::encode(Sha256::digest(bytes)) != sha256 {
    return Err(format!(
      "{name} is not the file that pyodide-lock.json names: its sha256 is {}, not {sha256}",
      hex::encode(Sha256::digest(bytes))
    ));
  }
  let name = plain_name(name).ok_or_else(|| format!("not a file name: {name}"))?;
  // A cache that cannot be written is a slow one, nothing worse.
  let _ = std::fs::create_dir_all(&folders.cache);
  make_room(&folders.cache, bytes.len() as u64, MAX_CACHE);
  let half = folders
    .cache
    .join(format!("{}.{}.part", name.display(), std::process::id()));
  if std::fs::write(&half, bytes).is_ok() {
    let _ = std::fs::rename(&half, folders.cache.join(name));
  }
  Ok(())
}

/// Where `name` was looked for without success, in words.
pub(super) fn places(folders: &PackageFolders, name: &str) -> String {
  let state = |folder: &Path| match plain_name(name).map(|name| folder.join(name)) {
    Some(path) if path.exists() => "it has another sha256 than pyodide-lock.json says",
    _ => "not there",
  };
  let local = match &folders.local {
    Some(folder) => format!("{} ({})", folder.display(), state(folder)),
    None => "not set".to_owned(),
  };
  let cache = format!("{} ({})", folders.cache.display(), state(&folders.cache));
  format!("PYODIDE_PACKAGES_DIR: {local}, the cache {cache}")
}

/// Removes the oldest files of a folder until `bytes` more are within `most`.
fn make_room(folder: &Path, bytes: u64, most: u64) {
  let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
  let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
    .filter_map(|entry| {
      let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
      Some((metadata.modified().ok()?, metadata.len(), entry.path()))
    })
    .collect();
  files.sort_unstable();
  let mut total = files.iter().map(|(_, length, _)| length).sum::<u64>() + bytes;
  for (_, length, path) in files {
    if total <= most {
      return;
    }
    if std::fs::remove_file(path).is_ok() {
      total -= length;
    }
  }
}

/// The name as a path of one component.
fn plain_name(name: &str) -> Option<&Path> {
  let path = Path::new(name);
  (path.file_name() == Some(path.as_os_str())).then_some(path)
}

#[cfg(test)]
mod tests {
  use std::fs::File;
  use std::time::Duration;

  use super::*;

  const SUM: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

  #[test]
  fn a_package_is_taken_only_with_its_own_sum() {
    let dir = tempfile::tempdir().expect("a folder");
    let folders = PackageFolders {
      local: Some(dir.path().join("local")),
      cache: dir.path().join("cache"),
    };
    let files = PythonFiles {
      assets: dir.path().join("assets"),
      packages: folders.clone(),
    };
    assert_eq!(find(&files, "a.whl", SUM), None);
    let error = keep(&folders, "a.whl", SUM, b"other").expect_err("another sum");
    assert!(error.contains("a.whl") && error.contains(SUM), "{error}");
    keep(&folders, "a.whl", SUM, b"hello").expect("is kept");
    assert_eq!(find(&files, "a.whl", SUM), Some(b"hello".to_vec()));
    std::fs::write(folders.cache.join("a.whl"), "changed").expect("is written");
    assert_eq!(find(&files, "a.whl", SUM), None);
    std::fs::create_dir(dir.path().join("local")).expect("is made");
    std::fs::write(dir.path().join("local/a.whl"), "hello").expect("is written");
    assert_eq!(find(&files, "a.whl", SUM), Some(b"hello".to_vec()));
    std::fs::remove_dir_all(dir.path().join("local")).expect("is there");
    assert_eq!(find(&files, "a.whl", SUM), None);
    std::fs::create_dir(&files.assets).expect("is made");
    std::fs::write(files.assets.join("a.whl"), "hello").expect("is written");
    assert_eq!(find(&files, "a.whl", SUM), Some(b"hello".to_vec()));
  }

  #[test]
  fn the_oldest_packages_make_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = SystemTime::UNIX_EPOCH;
    for (age, name) in ["newest", "middle", "oldest"].iter().enumerate() {
      let file = File::create(dir.path().join(name)).expect("is made");
      file.set_len(100).expect("has a length");
      let time = start + Duration::from_secs(1000 - age as u64);
      file.set_modified(time).expect("has a time");
    }
    make_room(dir.path(), 100, 400);
    assert!(dir.path().join("oldest").exists());
    make_room(dir.path(), 150, 300);
    assert!(!dir.path().join("oldest").exists() && !dir.path().join("middle").exists());
    assert!(dir.path().join("newest").exists());
  }

  #[test]
  fn a_package_name_is_no_path() {
    for name in ["../a.whl", "/etc/passwd", "a/b.whl", "", ".."] {
      assert_eq!(plain_name(name), None, "{name}");
    }
  }
}
