//! What a face holds: the settings and the managers. Knows the order of starting and stopping.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::kernel::KernelManager;
use crate::kernel::Language;
use crate::lang::pyodide::distribution;
use crate::runtime::ModuleCache;
use crate::runtime::PackageFolders;
use crate::runtime::PythonFiles;
use crate::settings::Settings;

pub struct Engine {
  pub settings: Settings,
  pub kernels: Arc<KernelManager>,
  pub started: Instant,
}

impl Engine {
  /// # Errors
  /// When the data directory cannot be used.
  pub fn start(settings: Settings) -> io::Result<Arc<Self>> {
    let scratch = settings.data_dir.join("scratch");
    std::fs::create_dir_all(&scratch)?;
    remove_leftovers(&scratch);
    let scratch = scratch.canonicalize()?.join(std::process::id().to_string());
    std::fs::create_dir_all(&scratch)?;
    let modules = ModuleCache {
      folder: std::path::absolute(settings.data_dir.join("deno"))?,
      cached_only: settings.kernels.cached_only,
    };
    let python = python_files(&settings);
    let kernels = KernelManager::new(settings.kernels.clone(), scratch, modules, python);
    Ok(Arc::new(Self {
      settings,
      kernels,
      started: Instant::now(),
    }))
  }

  /// Ends everything that runs.
  pub async fn shut_down(&self) {
    self.kernels.shut_down().await;
  }
}

/// Pyodide's files, or why there are no Python kernels.
fn python_files(settings: &Settings) -> Result<PythonFiles, String> {
  let mut allowed = settings.kernels.allowed_kernel_types.0.iter();
  if !allowed.any(|kind| kind.language == Language::Python) {
    return Err("Python kernels are not allowed on this server".into());
  }
  let folder = settings.data_dir.join("pyodide");
  Ok(PythonFiles {
    assets: distribution::path_in(&folder)?,
    packages: PackageFolders {
      local: settings.kernels.pyodide_packages_dir.clone(),
      cache: folder.join("packages"),
    },
  })
}

/// Removes what servers that no longer live have left: their folders are named by process id.
fn remove_leftovers(scratch: &Path) {
  let Ok(folders) = std::fs::read_dir(scratch) else {
    return;
  };
  for folder in folders.flatten() {
    let pid = folder
      .file_name()
      .to_str()
      .and_then(|name| name.parse::<i32>().ok());
    let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
      continue;
    };
    if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
      let _ = std::fs::remove_dir_all(folder.path());
    }
  }
}
