//! What a kernel is called, and what kinds of kernels there are.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::KernelError;

/// A kernel's full id: `name`, or `namespace:name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId(String);

impl KernelId {
  const MAX_LENGTH: usize = 128;

  /// # Errors
  /// When a part is empty, too long or holds a character that ids may not have.
  pub fn new(namespace: Option<&str>, name: &str) -> Result<Self, KernelError> {
    if name.contains(':') {
      return Err(KernelError::Invalid(
        "Kernel ID cannot contain colons".into(),
      ));
    }
    Self::check("id", name)?;
    match namespace {
      Some(namespace) => {
        Self::check("namespace", namespace)?;
        Ok(Self(format!("{namespace}:{name}")))
      }
      None => Ok(Self(name.to_owned())),
    }
  }

  /// An id as a client addresses it. Anything may be asked for; what no kernel can be called is
  /// simply not found.
  pub fn addressed(id: &str) -> Self {
    Self(id.to_owned())
  }

  fn check(what: &str, part: &str) -> Result<(), KernelError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '|');
    if part.is_empty() || part.len() > Self::MAX_LENGTH || !part.chars().all(allowed) {
      return Err(KernelError::Invalid(format!(
        "{what} must be 1 to {} characters of A-Z a-z 0-9 _ - . @ |",
        Self::MAX_LENGTH
      )));
    }
    Ok(())
  }

  pub fn namespace(&self) -> Option<&str> {
    self.0.split_once(':').map(|(namespace, _)| namespace)
  }

  pub fn as_str(&self) -> &str {
    &self.0
  }
}

impl fmt::Display for KernelId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.0)
  }
}

/// Where a kernel's host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
  /// A process of its own.
  #[default]
  Worker,
  /// A thread of the server: trusted code only.
  MainThread,
}

impl fmt::Display for Mode {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match self {
      Self::Worker => "worker",
      Self::MainThread => "main_thread",
    })
  }
}

impl FromStr for Mode {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    match text {
      "worker" => Ok(Self::Worker),
      "main_thread" => Ok(Self::MainThread),
      _ => Err(format!(
        "`{text}` is not a kernel mode: worker or main_thread"
      )),
    }
  }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
  /// Python in V8, sandboxed.
  #[default]
  Python,
  /// The machine's own Python: trusted code only.
  CPython,
  TypeScript,
  JavaScript,
}

impl fmt::Display for Language {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match self {
      Self::Python => "python",
      Self::CPython => "cpython",
      Self::TypeScript => "typescript",
      Self::JavaScript => "javascript",
    })
  }
}

impl FromStr for Language {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    match text.to_ascii_lowercase().as_str() {
      "python" | "py" => Ok(Self::Python),
      "cpython" => Ok(Self::CPython),
      "typescript" | "ts" => Ok(Self::TypeScript),
      "javascript" | "js" => Ok(Self::JavaScript),
      _ => Err(format!(
        "`{text}` is not a language: typescript, javascript, python or cpython"
      )),
    }
  }
}

/// A mode and a language, written `mode-language`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelType {
  pub mode: Mode,
  pub language: Language,
}

impl fmt::Display for KernelType {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}-{}", self.mode, self.language)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn ids_may_be_namespaced_but_hold_no_colon_themselves() {
    let id = KernelId::new(Some("lab"), "k1").expect("valid");
    assert_eq!((id.as_str(), id.namespace()), ("lab:k1", Some("lab")));
    assert_eq!(KernelId::new(None, "k1").expect("valid").namespace(), None);
    let message = KernelId::new(None, "a:b").expect_err("a colon").to_string();
    assert_eq!(message, "Kernel ID cannot contain colons");
  }

  #[test]
  fn ids_that_could_not_be_addressed_are_refused() {
    for id in ["", " ", "a b", "a/b", "é", &"x".repeat(129)] {
      assert!(KernelId::new(None, id).is_err(), "{id}");
    }
  }
}
