//! The system as permission checks see it: the kernel's own working directory, environment and
//! mounts, so that a check speaks of the same file as the operation that follows it.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use deno_runtime::deno_fs::FileSystem;
use deno_runtime::deno_io::fs::FsError;
use sys_traits::BaseEnvVar;
use sys_traits::BaseFsCanonicalize;
use sys_traits::BaseFsMetadata;
use sys_traits::BaseFsReadDir;
use sys_traits::EnvCurrentDir;
use sys_traits::EnvHomeDir;
use sys_traits::impls::RealSys;

use crate::runtime::extension::KernelEnv;
use crate::runtime::fs::KernelFs;

#[derive(Clone, Debug)]
pub(super) struct KernelSys {
  pub fs: Arc<KernelFs>,
  pub env: KernelEnv,
}

impl EnvCurrentDir for KernelSys {
  fn env_current_dir(&self) -> io::Result<PathBuf> {
    self.fs.cwd().map_err(FsError::into_io_error)
  }
}

impl BaseFsCanonicalize for KernelSys {
  fn base_fs_canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
    self
      .fs
      .checked_real_path(path)
      .map_err(FsError::into_io_error)
  }
}

impl BaseEnvVar for KernelSys {
  fn base_env_var_os(&self, key: &OsStr) -> Option<OsString> {
    self.env.get(key.to_str()?).map(OsString::from)
  }
}

impl EnvHomeDir for KernelSys {
  fn env_home_dir(&self) -> Option<PathBuf> {
    self.env.get("HOME").map(PathBuf::from)
  }
}

// Only for finding programs in PATH, which lie on the host.
impl BaseFsMetadata for KernelSys {
  type Metadata = <RealSys as BaseFsMetadata>::Metadata;

  fn base_fs_metadata(&self, path: &Path) -> io::Result<Self::Metadata> {
    RealSys.base_fs_metadata(path)
  }

  fn base_fs_symlink_metadata(&self, path: &Path) -> io::Result<Self::Metadata> {
    RealSys.base_fs_symlink_metadata(path)
  }
}

impl BaseFsReadDir for KernelSys {
  type ReadDirEntry = <RealSys as BaseFsReadDir>::ReadDirEntry;

  fn base_fs_read_dir(
    &self,
    path: &Path,
  ) -> io::Result<Box<dyn Iterator<Item = io::Result<Self::ReadDirEntry>>>> {
    RealSys.base_fs_read_dir(path)
  }
}
