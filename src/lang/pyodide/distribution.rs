//! The files of Pyodide inside this binary, unpacked once for all kernels of a data directory.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use flate2::read::GzDecoder;

/// Name and gzipped content of each file, made by `build.rs`; empty in a build without Python.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pyodide_files.rs"));

/// Names the content, so that another version gets another folder.
const ID: &str = env!("PYODIDE_DIST_ID");

/// The memory that kernels start from; without it they start cold.
pub const SNAPSHOT: &str = "snapshot.memory";

/// Where below `folder` the distribution lies, or will.
///
/// # Errors
/// In a build without Python; a sentence for whoever asks for a Python kernel.
pub fn path_in(folder: &Path) -> Result<PathBuf, String> {
  if FILES.is_empty() {
    return Err(
      "this engine was built without Python: build it again after scripts/setup.sh has run".into(),
    );
  }
  Ok(folder.join(ID))
}

/// The file that names the packages of the distribution, and their sums.
///
/// # Errors
/// In a build without Python; a sentence for whoever asks for packages.
pub fn lock_file() -> Result<Vec<u8>, String> {
  let lock = FILES.iter().find(|(name, _)| *name == "pyodide-lock.json");
  let (_, compressed) = lock.ok_or_else(|| {
    "this engine was built without Python: build it again after scripts/setup.sh has run".to_owned()
  })?;
  let mut text = Vec::new();
  io::copy(&mut GzDecoder::new(*compressed), &mut text).map_err(|e| e.to_string())?;
  Ok(text)
}

/// Unpacks the distribution, unless it is there. Blocks for about a second when it is not.
///
/// # Errors
/// When the disk is full or cannot be written.
pub fn unpack(target: &Path) -> io::Result<()> {
  static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
  let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
  if target.is_dir() {
    return Ok(());
  }
  tracing::info!("unpacking Python to {}", target.display());
  if !FILES.iter().any(|(name, _)| *name == SNAPSHOT) {
    tracing::warn!("this engine was built without a snapshot of Python: kernels start in seconds");
  }
  // Seen by nobody until it is whole.
  let half = target.with_extension(std::process::id().to_string());
  fs::create_dir_all(&half)?;
  for (name, compressed) in FILES {
    let mut file = fs::File::create(half.join(name))?;
    io::copy(&mut GzDecoder::new(*compressed), &mut file)?;
    // Public files, whatever the server's umask: kernels may run as another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
  }
  fs::set_permissions(&half, Permissions::from_mode(0o755))?;
  match fs::rename(&half, target) {
    // Another server was faster.
    Err(_) if target.is_dir() => fs::remove_dir_all(&half),
    other => other,
  }
}
