//! The files of Pyodide inside this binary, unpacked once for all kernels of a data directory.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use sha2::Digest;
use sha2::Sha256;

/// Name and gzipped content of each file, made by `build.rs`; empty in a build without Python.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pyodide_files.rs"));

/// Unpacks the distribution below `folder`, unless an earlier start has. The path names its content,
/// so that another version gets another folder.
///
/// # Errors
/// A sentence for whoever asks for a Python kernel.
pub fn unpack(folder: &Path) -> Result<PathBuf, String> {
  if FILES.is_empty() {
    return Err(
      "this engine was built without Python: build it again after scripts/setup.sh has run".into(),
    );
  }
  let target = folder.join(content_id());
  if target.is_dir() {
    return Ok(target);
  }
  unpack_to(&target)
    .map_err(|e| format!("Python cannot be unpacked to {}: {e}", target.display()))?;
  Ok(target)
}

fn unpack_to(target: &Path) -> io::Result<()> {
  tracing::info!("unpacking Python to {}", target.display());
  // Seen by nobody until it is whole.
  let half = target.with_extension(std::process::id().to_string());
  fs::create_dir_all(&half)?;
  for (name, compressed) in FILES {
    let mut file = fs::File::create(half.join(name))?;
    io::copy(&mut GzDecoder::new(*compressed), &mut file)?;
  }
  match fs::rename(&half, target) {
    // Another server was faster.
    Err(_) if target.is_dir() => fs::remove_dir_all(&half),
    other => other,
  }
}

fn content_id() -> String {
  let mut hash = Sha256::new();
  for (name, compressed) in FILES {
    hash.update(name);
    hash.update(compressed);
  }
  hash.finalize()[..8]
    .iter()
    .map(|byte| format!("{byte:02x}"))
    .collect()
}
