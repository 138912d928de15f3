//! Agents: models that solve tasks by running code in kernels. What they are, say and do is kept in a file, so that
//! it outlives the server.
//!
//! Every feature is a method of [`AgentManager`] that takes its [`Caller`](access::Caller) first: a face maps
//! requests to them and decides nothing.

mod agent;
mod answers;
mod chats;
mod config;
mod environment;
mod error;
mod events;
mod id;
mod images;
mod kernel;
mod manager;
mod mcp;
mod options;
mod prompt;
mod registry;
mod run;
mod saves;
mod store;
mod tags;
mod tools;
mod turns;
mod window;

pub use self::answers::AgentInfo;
pub use self::answers::AgentStats;
pub use self::answers::AgentSummary;
pub use self::answers::ConversationInfo;
pub use self::answers::ModelEntry;
pub use self::answers::RegistryStats;
pub use self::config::CreateAgent;
pub use self::config::KernelLanguage;
pub use self::config::ModelSettings;
pub use self::config::ModelSettingsChange;
pub use self::config::UpdateAgent;
pub use self::environment::Environments;
pub use self::error::AgentError;
pub use self::events::AgentEvent;
pub use self::events::AgentEventKind;
pub use self::events::AgentWatch;
pub use self::id::AgentId;
pub use self::id::RunId;
pub use self::manager::AgentManager;
pub use self::mcp::McpServer;
pub use self::options::AgentOptions;
pub use self::registry::RegistryRules;
pub use self::run::ChatOptions;
pub use self::run::Run;
pub use self::run::RunKind;
pub use self::run::RunReader;
pub use self::run::RunRecord;
pub use self::run::RunStatus;
pub use models;
