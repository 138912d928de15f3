//! Chat models over the wire format of OpenAI's Chat Completions, streamed: what OpenAI, Ollama, vLLM,
//! llama.cpp and most gateways speak, each with oddities of its own.
//!
//! [`ChatClient::stream`] asks a model at an [`Endpoint`] and yields [`ChatDelta`]s. It is lenient with
//! what servers send and strict with how much and for how long ([`Limits`]). A tenant's endpoint is
//! reached on the public network only.
//!
//! Absent on purpose: agents, kernels, prompts, the counting of tokens, and which models there are.

mod answer;
mod asking;
mod chunk;
mod client;
mod completion;
mod endpoint;
mod error;
mod lenient;
mod limits;
mod mend;
mod message;
mod redact;
mod request;
mod retry;
mod said;
mod sse;
mod tools;

pub use tokio_util::sync::CancellationToken;

pub use self::client::ChatClient;
pub use self::client::ClientOptions;
pub use self::completion::ChatDelta;
pub use self::completion::Completion;
pub use self::completion::FinishReason;
pub use self::completion::Usage;
pub use self::endpoint::Endpoint;
pub use self::endpoint::Trust;
pub use self::error::Awaited;
pub use self::error::Fault;
pub use self::error::ModelError;
pub use self::error::Server;
pub use self::limits::Limits;
pub use self::limits::Retries;
pub use self::message::ChatMessage;
pub use self::message::Content;
pub use self::message::ContentPart;
pub use self::message::FunctionCall;
pub use self::message::ImageUrl;
pub use self::message::Role;
pub use self::message::ToolCall;
pub use self::message::ToolKind;
pub use self::request::ChatRequest;
pub use self::request::Function;
pub use self::request::Tool;
pub use self::request::ToolChoice;
