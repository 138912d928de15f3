//! The files of a kernel, as the kernel itself gives them.

use std::sync::Arc;
use std::sync::Weak;

use async_trait::async_trait;
use files::OpenWatch;
use files::Store;
use files::StoreError;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;

use crate::kernel::Kernel;

/// What a kernel keeps: in memory, or in its scratch folder and its mounts.
pub struct KernelFiles(Arc<Kernel>);

impl KernelFiles {
  pub(crate) fn of(kernel: Arc<Kernel>) -> Self {
    Self(kernel)
  }
}

#[async_trait]
impl Store for KernelFiles {
  async fn answer(&self, request: FileRequest) -> Result<FileReply, StoreError> {
    let reply = self.0.file(request).await;
    reply.map_err(|error| StoreError::of(&error))
  }

  async fn open_watch(&self, path: String) -> Result<Result<OpenWatch, FileError>, StoreError> {
    let kernel = &self.0;
    let opened = kernel.watch(path, |id| {
      let feed = kernel.watches.open(id)?;
      let kernel = Arc::downgrade(kernel);
      // From here on it ends with this value, even when nobody waits for the answer any more.
      Some((feed, Held { kernel, id }))
    });
    match opened.await.map_err(|error| StoreError::of(&error))? {
      None => Ok(Err(FileError::TooManyWatches)),
      Some(((feed, held), FileReply::Entry(entry))) => Ok(Ok(OpenWatch {
        entry,
        feed,
        held: Box::new(held),
      })),
      Some((_, FileReply::Failed(error))) => Ok(Err(error)),
      Some(_) => Err(StoreError::odd()),
    }
  }
}

/// One watch; ends when it is dropped. A reader that is slow to leave keeps nothing of a deleted kernel.
struct Held {
  kernel: Weak<Kernel>,
  id: u64,
}

impl Drop for Held {
  fn drop(&mut self) {
    if let Some(kernel) = self.kernel.upgrade() {
      kernel.unwatch(self.id);
    }
  }
}
