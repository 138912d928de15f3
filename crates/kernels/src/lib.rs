//! Kernels as the engine sees them: created, queued, watched, restarted, ended. What a face (HTTP,
//! Hypha) offers is a method of [`KernelManager`] with typed input and output.

mod checking;
mod connection;
pub mod cpython;
mod environment;
mod error;
mod events;
mod execution;
mod files;
mod history;
mod hosting;
mod id;
mod kernel;
mod lasting;
pub mod launch;
pub mod log_budget;
mod manager;
mod mounts;
mod options;
mod orphans;
mod outgoing;
mod owner;
mod pool;
mod pools;
mod process;
mod questions;
mod recovery;
pub mod spawner;
mod start;
#[cfg(test)]
#[expect(
  clippy::disallowed_methods,
  reason = "a test is all that its thread does"
)]
mod tests;
mod watchdog;
pub mod zygote;
pub mod zygotes;

pub use self::environment::EnvironmentSource;
pub use self::environment::Variables;
pub use self::error::KernelError;
pub use self::events::EngineEvent;
pub use self::events::EngineEventKind;
pub use self::events::EventWatch;
pub use self::execution::Execution;
pub use self::execution::LogReader;
pub use self::execution::Work;
pub use self::files::KernelFiles;
pub use self::id::KernelId;
pub use self::id::KernelType;
pub use self::id::Language;
pub use self::id::Mode;
pub use self::kernel::Kernel;
pub use self::kernel::Status;
pub use self::lasting::LastingFolders;
pub use self::manager::KernelManager;
pub use self::mounts::MountRoot;
pub use self::options::CreateKernel;
pub use self::options::Filesystem;
pub use self::options::Grant;
pub use self::options::KernelOptions;
pub use self::options::LaunchProgram;
pub use self::options::Limits;
pub use self::options::OwnFolders;
pub use self::options::PermissionRequest;
pub use self::options::PoolOptions;
pub use self::owner::ProgramNotice;
pub use self::process::LocalProcess;
pub use self::recovery::Interrupted;
pub use self::start::start;
pub use self::watchdog::resident_bytes;
