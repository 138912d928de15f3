//! Embedding providers, which turn texts into vectors.

mod batch;
mod cache;
mod config;
mod http;
mod local;
mod mock;
mod ollama;
mod openai;
mod provider;
mod registry;
#[cfg(test)]
#[expect(
  clippy::disallowed_methods,
  reason = "a test is all that its thread does"
)]
pub(crate) mod tests;
mod usage;

use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::VectorError;

pub use self::batch::BatchLimits;
pub use self::batch::Label;
pub use self::batch::Text;
pub use self::cache::EmbeddingCache;
pub use self::config::OllamaConfig;
pub use self::config::OpenAiConfig;
pub use self::config::ProviderConfig;
pub use self::http::HttpLimits;
pub use self::local::LOCAL_DIMENSIONS;
pub use self::local::LOCAL_MODEL;
pub use self::local::LocalConfig;
pub use self::local::LocalModelFiles;
pub use self::mock::MOCK_MODEL;
pub use self::mock::MockModel;
pub use self::provider::Provider;
pub use self::registry::Registry;
pub use self::registry::RegistryOptions;
pub use self::registry::preconfigured;
pub use self::usage::UsageReport;

/// Turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
  /// Dimension of every vector that it makes.
  fn dimension(&self) -> usize;

  fn kind(&self) -> ProviderKind;

  /// One vector for each text, in their order. Answers are not checked here.
  async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, VectorError>;
}

/// Type of a provider.
#[derive(
  Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
  /// Part of the server, without meaning.
  Builtin,
  /// Part of the server, with meaning.
  Local,
  Ollama,
  /// Anything that speaks the embeddings API of OpenAI.
  OpenAi,
}

impl ProviderKind {
  /// As requests and listings name it.
  pub fn as_str(self) -> &'static str {
    match self {
      Self::Builtin => "builtin",
      Self::Local => "local",
      Self::Ollama => "ollama",
      Self::OpenAi => "openai",
    }
  }

  /// Whether it is part of the server: as fast as a cache, and its vectors are fitted to any index.
  pub fn is_own(self) -> bool {
    matches!(self, Self::Builtin | Self::Local)
  }

  /// As messages name it.
  pub fn title(self) -> &'static str {
    match self {
      Self::Builtin => "the built-in model",
      Self::Local => "the local model",
      Self::Ollama => "Ollama",
      Self::OpenAi => "OpenAI",
    }
  }
}

impl fmt::Display for ProviderKind {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(self.as_str())
  }
}
