//! A distribution of Pyodide as `scripts/setup.sh` prepares it: gzipped files, inside a binary or in a
//! folder, unpacked once for all kernels of a data directory.

pub mod packages;

use std::borrow::Cow;
use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use flate2::read::GzDecoder;

/// The memory that kernels start from; without it they start cold.
const SNAPSHOT: &str = "snapshot.memory";
/// Names the packages of the distribution, and their sums.
const LOCK_FILE: &str = "pyodide-lock.json";
/// Extension of the files in a folder.
const COMPRESSED: &str = "gz";

/// Where the files of Pyodide come from.
#[derive(Debug, Clone)]
pub enum Distribution {
  /// Inside this binary: the name and gzipped content of each file.
  Embedded {
    /// Names the content, so that another version gets another folder.
    id: &'static str,
    files: &'static [(&'static str, &'static [u8])],
  },
  /// In a folder named after what it was made from; each file is `name.gz`.
  Folder(PathBuf),
}

/// A file's name and its gzipped content.
type NamedFile = (Cow<'static, str>, Cow<'static, [u8]>);

impl Distribution {
  /// Where below `folder` the distribution lies, or will.
  ///
  /// # Errors
  /// In a build without Python; a sentence for whoever asks for a Python kernel.
  pub fn path_in(&self, folder: &Path) -> Result<PathBuf, String> {
    match self {
      Self::Embedded { files: [], .. } => Err(without_python()),
      Self::Embedded { id, .. } => Ok(folder.join(id)),
      Self::Folder(source) => match source.file_name() {
        Some(id) if source.join(format!("{LOCK_FILE}.{COMPRESSED}")).is_file() => {
          Ok(folder.join(id))
        }
        _ => Err(format!("{} has no Pyodide", source.display())),
      },
    }
  }

  /// The file that names the packages of the distribution, and their sums.
  ///
  /// # Errors
  /// In a build without Python; a sentence for whoever asks for packages.
  pub fn lock_file(&self) -> Result<Vec<u8>, String> {
    let files = self.files().map_err(|e| e.to_string())?;
    let lock = files.into_iter().find(|(name, _)| name == LOCK_FILE);
    let (_, compressed) = lock.ok_or_else(without_python)?;
    let mut text = Vec::new();
    io::copy(&mut GzDecoder::new(&*compressed), &mut text).map_err(|e| e.to_string())?;
    Ok(text)
  }

  /// Whether it has a file of this name.
  pub fn has(&self, name: &str) -> bool {
    self
      .files()
      .is_ok_and(|files| files.iter().any(|(known, _)| known == name))
  }

  /// Unpacks the distribution, unless it is there. Blocks for about a second when it is not.
  ///
  /// # Errors
  /// When the disk is full or cannot be written.
  pub fn unpack(&self, target: &Path) -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if target.is_dir() {
      return Ok(());
    }
    tracing::info!("unpacking Python to {}", target.display());
    let files = self.files()?;
    if !files.iter().any(|(name, _)| name == SNAPSHOT) {
      tracing::warn!(
        "this engine was built without a snapshot of Python: kernels start in seconds"
      );
    }
    // Seen by nobody until it is whole.
    let half = target.with_extension(std::process::id().to_string());
    fs::create_dir_all(&half)?;
    for (name, compressed) in files {
      let mut file = fs::File::create(half.join(&*name))?;
      io::copy(&mut GzDecoder::new(&*compressed), &mut file)?;
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

  fn files(&self) -> io::Result<Vec<NamedFile>> {
    let folder = match self {
      Self::Embedded { files, .. } => {
        let borrowed = |(name, content): &(&'static str, &'static [u8])| {
          (Cow::Borrowed(*name), Cow::Borrowed(*content))
        };
        return Ok(files.iter().map(borrowed).collect());
      }
      Self::Folder(folder) => folder,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
      let path = entry?.path();
      if path
        .extension()
        .is_some_and(|extension| extension == COMPRESSED)
        && let Some(name) = path.file_stem().and_then(|name| name.to_str())
      {
        files.push((Cow::Owned(name.to_owned()), Cow::Owned(fs::read(&path)?)));
      }
    }
    Ok(files)
  }
}

fn without_python() -> String {
  "this engine was built without Python: build it again after scripts/setup.sh has run".into()
}
