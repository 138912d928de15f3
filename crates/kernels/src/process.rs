//! Processes of kernels on this machine.

use std::process::ExitStatus;

use async_trait::async_trait;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use tokio::process::Child;

use crate::launch::HostProcess;
use crate::spawner;
use crate::zygote::ForkedKernel;

/// A process of this machine. Dropping it ends the kernel.
#[derive(Debug)]
pub enum LocalProcess {
  /// The server's own child.
  Direct(Child),
  /// A zygote's.
  Forked(ForkedKernel),
}

#[async_trait]
impl HostProcess for LocalProcess {
  fn id(&self) -> Option<u32> {
    match self {
      Self::Direct(child) => child.id(),
      Self::Forked(kernel) => Some(kernel.id()),
    }
  }

  fn has_exited(&self) -> bool {
    match self {
      Self::Direct(child) => match raw(child) {
        Some(pid) => {
          let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
          !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
        }
        None => true,
      },
      Self::Forked(kernel) => kernel.has_exited(),
    }
  }

  fn kill_group(&mut self) {
    match self {
      Self::Direct(child) => {
        if let Some(pid) = raw(child) {
          let _ = rustix::process::kill_process_group(pid, Signal::KILL);
          let _ = child.start_kill();
        }
      }
      Self::Forked(kernel) => kernel.kill(),
    }
  }

  async fn wait(&mut self) -> Option<ExitStatus> {
    let status = match self {
      Self::Direct(child) => child.wait().await.ok(),
      Self::Forked(kernel) => kernel.wait().await,
    };
    spawner::kernel_ended();
    status
  }
}

impl Drop for LocalProcess {
  fn drop(&mut self) {
    self.kill_group();
    spawner::kernel_ended();
  }
}

fn raw(child: &Child) -> Option<Pid> {
  child
    .id()
    .and_then(|id| i32::try_from(id).ok())
    .and_then(Pid::from_raw)
}
