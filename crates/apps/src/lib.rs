//! Apps: programs that the engine loads, runs and keeps alive. What a face offers is a method of
//! [`AppManager`], which takes the [`access::Caller`] first; an [`App`] is what it looks at.

mod app;
mod artifact;
mod background;
mod endpoint;
mod environment;
mod error;
mod folder;
mod id;
mod instance;
mod label;
mod log;
mod manager;
mod manifest;
mod ports;
mod process;
mod published;
mod restart;
mod runner;
pub mod script;
mod session;
mod snapshot;
mod spec;
mod stats;
mod status;
mod store;
mod supervisor;
mod table;
#[cfg(test)]
#[expect(
  clippy::disallowed_methods,
  reason = "a test is all that its thread does"
)]
mod tests;

pub use self::app::App;
pub use self::endpoint::Endpoint;
pub use self::endpoint::ForwardError;
pub use self::error::AppError;
pub use self::folder::RefusedApp;
pub use self::id::AppId;
pub use self::instance::End;
pub use self::instance::Instance;
pub use self::instance::InstanceEvent;
pub use self::instance::Launch;
pub use self::instance::Launcher;
pub use self::log::AppLog;
pub use self::log::Level;
pub use self::log::LogEntry;
pub use self::log::LogFollower;
pub use self::log::LogItem;
pub use self::log::LogStream;
pub use self::manager::AppManager;
pub use self::manifest::Manifest;
pub use self::manifest::WrittenManifest;
pub use self::process::KernelLauncher;
pub use self::published::Changes;
pub use self::restart::RestartPolicy;
pub use self::session::NewSession;
pub use self::session::SessionFile;
pub use self::spec::AppSpec;
pub use self::spec::Entry;
pub use self::spec::Source;
pub use self::stats::AppStats;
pub use self::status::AppState;
pub use self::status::AppStatus;
