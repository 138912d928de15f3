//! Where the lasting files of each namespace are.

use std::path::Path;
use std::path::PathBuf;

use crate::KernelError;
use crate::KernelId;

/// The folders of lasting files, one a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastingFolders {
  namespaces: PathBuf,
  /// Of those without a namespace.
  shared: PathBuf,
}

impl LastingFolders {
  /// Those below `root`, which has no symlinks in its path.
  pub fn new(root: &Path) -> Self {
    Self {
      namespaces: root.join("namespaces"),
      shared: root.join("shared"),
    }
  }

  /// The folders that have to be there for the others to be made.
  pub fn parents(&self) -> impl Iterator<Item = PathBuf> {
    let root = self.namespaces.parent().unwrap_or(Path::new("/"));
    [root.to_owned(), self.namespaces.clone()].into_iter()
  }

  /// The folder of a namespace, which may have to be made.
  ///
  /// # Errors
  /// When that cannot be a namespace.
  pub fn of(&self, namespace: Option<&str>) -> Result<PathBuf, KernelError> {
    let Some(namespace) = namespace else {
      return Ok(self.shared.clone());
    };
    KernelId::new(Some(namespace), "files")?;
    if namespace == "." || namespace == ".." {
      return Err(KernelError::Invalid(format!(
        "namespace: `{namespace}` can have no files"
      )));
    }
    Ok(self.namespaces.join(namespace))
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn each_namespace_has_a_folder_that_no_other_has() {
    let folders = LastingFolders::new(Path::new("/data/files"));
    let of = |namespace| folders.of(namespace).map_err(|e| e.to_string());
    assert_eq!(of(Some("lab")), Ok("/data/files/namespaces/lab".into()));
    assert_eq!(of(None), Ok("/data/files/shared".into()));
    for namespace in ["", ".", "..", "a/b", "../shared", "a\0b"] {
      assert!(of(Some(namespace)).is_err(), "{namespace:?}");
    }
  }
}
