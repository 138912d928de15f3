//! Modules of this machine: `file:` through the kernel's own file system, `blob:`.

use std::borrow::Cow;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use deno_cache_dir::file_fetcher::BlobData;
use deno_cache_dir::file_fetcher::BlobStore;
use deno_core::ModuleSpecifier;
use deno_core::anyhow;
use deno_core::url::Url;
use deno_error::JsErrorBox;
use deno_error::JsErrorClass;
use deno_runtime::deno_fs::FileSystem;
use deno_runtime::deno_fs::OpenOptions;
use deno_runtime::deno_permissions::CheckedPath;
use deno_runtime::deno_permissions::OpenAccessKind;
use deno_runtime::deno_web::BlobStoreTrait;

use crate::runtime::fs::KernelFs;
use crate::runtime::modules::access::Access;

#[derive(Debug, Clone)]
pub(crate) struct LocalModules {
  pub fs: Arc<KernelFs>,
  pub blobs: Arc<dyn BlobStoreTrait>,
  pub access: Access,
}

impl LocalModules {
  /// Where user code thinks it is.
  pub(crate) fn working_directory(&self) -> PathBuf {
    self.fs.cwd().unwrap_or_else(|_| PathBuf::from("/"))
  }

  /// A file that user code may read; `None` when it is not there.
  ///
  /// # Errors
  /// When it may not be read or cannot be.
  pub(crate) async fn read(
    &self,
    specifier: &ModuleSpecifier,
  ) -> Result<Option<Vec<u8>>, JsErrorBox> {
    let path = specifier
      .to_file_path()
      .map_err(|()| JsErrorBox::type_error(format!("\"{specifier}\" is not a local path")))?;
    let checked = self.checked(Cow::Owned(path))?.into_owned();
    match self.fs.read_file_async(checked, OpenOptions::read()).await {
      Ok(bytes) => Ok(Some(bytes.into_owned())),
      Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
      Err(error) => Err(JsErrorBox::new(
        error.get_class(),
        format!("Module \"{specifier}\" cannot be read: {error}"),
      )),
    }
  }

  /// The same for `require`, which does not wait.
  ///
  /// # Errors
  /// When it cannot be read.
  pub(crate) fn read_now(&self, path: &Path) -> Result<Vec<u8>, JsErrorBox> {
    let path = CheckedPath::unsafe_new(Cow::Borrowed(path));
    self
      .fs
      .read_file_sync(&path, OpenOptions::read())
      .map(Cow::into_owned)
      .map_err(|e| JsErrorBox::new(e.get_class(), e.to_string()))
  }

  /// A file that user code may read, at once.
  ///
  /// # Errors
  /// When it may not be read or cannot be.
  pub(crate) fn read_permitted(&self, path: &Path) -> Result<Vec<u8>, JsErrorBox> {
    let checked = self.checked(Cow::Borrowed(path))?;
    self.read_now(&checked)
  }

  /// A small text file that may be missing, or that user code may not see.
  pub(crate) fn read_configuration(&self, path: &Path) -> Result<Option<String>, anyhow::Error> {
    let Ok(checked) = self.checked(Cow::Borrowed(path)) else {
      return Ok(None);
    };
    match self.fs.read_file_sync(&checked, OpenOptions::read()) {
      Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
      Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
      Err(error) => Err(anyhow::anyhow!("{}: {error}", path.display())),
    }
  }

  fn checked<'a>(&self, path: Cow<'a, Path>) -> Result<CheckedPath<'a>, JsErrorBox> {
    self
      .access
      .permissions()
      .check_open(path, OpenAccessKind::Read, Some("import()"))
      .map_err(JsErrorBox::from_err)
  }

  pub(crate) fn blobs(&self) -> Blobs {
    Blobs(self.blobs.clone())
  }
}

/// The kernel's object URLs, as the file fetcher asks for them.
#[derive(Debug, Clone)]
pub(crate) struct Blobs(Arc<dyn BlobStoreTrait>);

#[async_trait::async_trait(?Send)]
impl BlobStore for Blobs {
  async fn get(&self, url: &Url) -> std::io::Result<Option<BlobData>> {
    let Some(blob) = self.0.get_object_url(url.clone()) else {
      return Ok(None);
    };
    Ok(Some(BlobData {
      media_type: blob.media_type.clone(),
      bytes: blob.read_all().await,
    }))
  }
}
