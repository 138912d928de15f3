//! What a blank kernel process is started as. The server writes it, the process reads it.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::MainProgram;

/// The runtime of a kernel process in V8, and the files it needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Runtime {
  /// TypeScript and JavaScript: cells, or a main program.
  JavaScript {
    modules: ModuleCache,
    main: Option<MainProgram>,
  },
  /// Python in WebAssembly.
  Pyodide {
    files: PythonFiles,
    modules: ModuleCache,
  },
}

/// Where modules are kept, and whether others may be fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModuleCache {
  /// Laid out as a DENO_DIR; shared by every kernel and app. Writers rename finished files into
  /// place, so any number may write at once.
  pub folder: PathBuf,
  /// Only modules that are in the cache can be imported.
  pub cached_only: bool,
}

/// Files of Pyodide on this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PythonFiles {
  /// The distribution, unpacked.
  pub assets: PathBuf,
  pub packages: PackageFolders,
}

/// Packages of the distribution on this machine. Each is checked against the sum that
/// `pyodide-lock.json` has for it, every time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageFolders {
  /// The operator's own, never written to.
  pub local: Option<PathBuf>,
  /// What was downloaded before.
  pub cache: PathBuf,
}
