//! What can go wrong with agents.

use access::Classified;
use access::Denied;
use access::ErrorKind;
use kernels::KernelError;
use models::ModelError;

use crate::id::AgentId;

/// Why an agent was not made, changed or asked. Texts with quotation marks are those of the original, which
/// clients compare.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
  #[error("{0}")]
  Invalid(String),
  #[error(transparent)]
  Denied(#[from] Denied),
  /// Asked for by its address.
  #[error("Agent not found")]
  Unknown,
  /// To be changed.
  #[error("Agent with ID \"{0}\" not found")]
  NotFound(String),
  #[error("Agent with ID \"{0}\" already exists")]
  Exists(AgentId),
  #[error("Maximum number of agents ({0}) reached")]
  TooMany(usize),
  #[error("Maximum number of agents per namespace ({most}) reached for namespace \"{namespace}\"")]
  TooManyInNamespace { most: usize, namespace: String },
  #[error("{0}")]
  LimitReached(String),
  #[error("{0}")]
  Conflict(String),
  #[error("{0}")]
  TooLarge(String),
  #[error("Run not found")]
  RunNotFound,
  #[error("Model {0} not found in registry")]
  ModelNotFound(String),
  #[error("Startup script failed: {message}")]
  Startup { message: String, full_error: String },
  #[error(transparent)]
  Kernel(#[from] KernelError),
  #[error(transparent)]
  Model(#[from] ModelError),
  #[error("agents cannot be stored: {0}")]
  Storage(String),
}

impl Classified for AgentError {
  fn kind(&self) -> ErrorKind {
    match self {
      Self::Invalid(_) | Self::Startup { .. } => ErrorKind::Invalid,
      Self::Denied(error) => error.kind(),
      Self::Unknown | Self::NotFound(_) | Self::RunNotFound | Self::ModelNotFound(_) => {
        ErrorKind::NotFound
      }
      Self::Exists(_) | Self::Conflict(_) => ErrorKind::Conflict,
      Self::TooLarge(_) => ErrorKind::TooLarge,
      Self::TooMany(_) | Self::TooManyInNamespace { .. } | Self::LimitReached(_) => {
        ErrorKind::LimitReached
      }
      Self::Kernel(error) => error.kind(),
      Self::Model(error) => error.kind(),
      Self::Storage(_) => ErrorKind::Internal,
    }
  }

  fn public(&self) -> Option<String> {
    match self {
      Self::Kernel(error) => error.public(),
      Self::Model(error) => error.public(),
      Self::Storage(_) => Some("agents cannot be stored".into()),
      _ => None,
    }
  }
}

impl AgentError {
  /// What those of a namespace are told; the operator's own agents are told all.
  pub(crate) fn told_in(&self, namespace: Option<&str>) -> String {
    let public = namespace.and_then(|_| self.public());
    public.unwrap_or_else(|| self.to_string())
  }
}

impl From<rusqlite::Error> for AgentError {
  fn from(error: rusqlite::Error) -> Self {
    Self::Storage(error.to_string())
  }
}

impl From<serde_json::Error> for AgentError {
  fn from(error: serde_json::Error) -> Self {
    Self::Storage(error.to_string())
  }
}
