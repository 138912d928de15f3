//! Names of agents and of their runs.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use crate::error::AgentError;

/// Longest id, in bytes, without the namespace.
const MAX_BYTES: usize = 128;

/// Where the HTTP API has something else in the place of an id.
const RESERVED: [&str; 3] = ["events", "models", "stats"];

/// `name`, or `namespace:name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentId(String);

impl AgentId {
  /// The id of a new agent.
  ///
  /// # Errors
  /// When `id` is no name.
  pub(crate) fn new(namespace: Option<&str>, id: &str) -> Result<Self, AgentError> {
    if id.contains(':') {
      return Err(AgentError::Invalid("Agent ID cannot contain colons".into()));
    }
    if id.len() > MAX_BYTES || id.chars().any(|c| c.is_control() || c == '/') {
      return Err(AgentError::Invalid(format!(
        "id: an agent's id has at most {MAX_BYTES} bytes, none of them a slash or a control character"
      )));
    }
    if RESERVED.contains(&id) {
      return Err(AgentError::Invalid(format!(
        "id: `{id}` is the name of a route, choose another"
      )));
    }
    Ok(Self(match namespace {
      Some(namespace) => format!("{namespace}:{id}"),
      None => id.to_owned(),
    }))
  }

  /// A full id, as an address has it.
  pub(crate) fn addressed(full: String) -> Self {
    Self(full)
  }

  pub fn as_str(&self) -> &str {
    &self.0
  }

  pub fn namespace(&self) -> Option<&str> {
    self.0.split_once(':').map(|(namespace, _)| namespace)
  }

  /// Without the namespace.
  pub fn name(&self) -> &str {
    self.0.split_once(':').map_or(&self.0, |(_, name)| name)
  }
}

impl fmt::Display for AgentId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}

/// `run-` and a UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
  pub(crate) fn random() -> Self {
    Self(format!("run-{}", Uuid::new_v4()))
  }

  pub(crate) fn addressed(id: &str) -> Self {
    Self(id.to_owned())
  }

  pub fn as_str(&self) -> &str {
    &self.0
  }
}

impl fmt::Display for RunId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}
