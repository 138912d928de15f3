//! The files of a kernel, as the kernel itself gives them.

use std::sync::Arc;

use async_trait::async_trait;
use files::Store;
use files::StoreError;
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
}
