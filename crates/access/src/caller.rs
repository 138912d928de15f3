//! Who calls.

use serde::Deserialize;
use serde::Serialize;

use crate::Classified;
use crate::ErrorKind;

/// What a token may see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub enum Scope {
  /// Written `*`.
  Everything,
  Namespace(String),
}

impl From<String> for Scope {
  fn from(text: String) -> Self {
    match text.as_str() {
      "*" => Self::Everything,
      _ => Self::Namespace(text),
    }
  }
}

impl From<Scope> for String {
  fn from(scope: Scope) -> Self {
    match scope {
      Scope::Everything => "*".into(),
      Scope::Namespace(name) => name,
    }
  }
}

/// What a caller may do within its scope. Each right includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
  /// Look at what is there.
  Read,
  /// Use what is there: execute cells, write documents.
  Use,
  /// Create, change and delete.
  Manage,
  /// Change what concerns every namespace: apps, embedding providers. Needs [`Scope::Everything`].
  Operate,
}

/// Whoever calls a method of a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
  scope: Scope,
  right: Right,
}

/// Why a caller may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
  #[error("This token is for the namespace `{own}`, not `{asked}`")]
  OtherNamespace { own: String, asked: String },
  #[error("This is the operator's to do: the token is for the namespace `{0}` only")]
  OperatorOnly(String),
  #[error("This token may not do that")]
  Right(Right),
}

impl Classified for Denied {
  fn kind(&self) -> ErrorKind {
    ErrorKind::Forbidden
  }
}

impl Caller {
  /// The operator, and the engine itself: sees and does everything.
  pub fn operator() -> Self {
    Self {
      scope: Scope::Everything,
      right: Right::Operate,
    }
  }

  /// A caller that does everything within `scope`.
  pub fn of(scope: Scope) -> Self {
    let right = match scope {
      Scope::Everything => Right::Operate,
      Scope::Namespace(_) => Right::Manage,
    };
    Self { scope, right }
  }

  /// The same caller with `right` at most.
  #[must_use]
  pub fn limited_to(self, right: Right) -> Self {
    Self {
      right: self.right.min(right),
      ..self
    }
  }

  pub fn scope(&self) -> &Scope {
    &self.scope
  }

  /// The namespace this caller is bound to; `None` for one that sees everything.
  pub fn namespace(&self) -> Option<&str> {
    match &self.scope {
      Scope::Everything => None,
      Scope::Namespace(own) => Some(own),
    }
  }

  /// # Errors
  /// When this caller does not have `right`.
  pub fn require(&self, right: Right) -> Result<(), Denied> {
    match (&self.scope, right) {
      (Scope::Namespace(own), Right::Operate) => Err(Denied::OperatorOnly(own.clone())),
      _ if self.right >= right => Ok(()),
      _ => Err(Denied::Right(right)),
    }
  }

  /// Whether this caller sees what is in `namespace`.
  pub fn sees(&self, namespace: Option<&str>) -> bool {
    match &self.scope {
      Scope::Everything => true,
      Scope::Namespace(own) => namespace == Some(own),
    }
  }

  /// Whether this caller sees the thing with a full id, `name` or `namespace:name`.
  pub fn sees_id(&self, id: &str) -> bool {
    self.sees(id.split_once(':').map(|(namespace, _)| namespace))
  }

  /// The namespace to work in: the caller's own, otherwise the one asked for.
  ///
  /// # Errors
  /// When another namespace than the caller's is asked for.
  pub fn work_in(&self, asked: Option<&str>) -> Result<Option<String>, Denied> {
    match (&self.scope, asked) {
      (Scope::Namespace(own), Some(asked)) if own != asked => Err(Denied::OtherNamespace {
        own: own.clone(),
        asked: asked.to_owned(),
      }),
      (Scope::Namespace(own), _) => Ok(Some(own.clone())),
      (Scope::Everything, asked) => Ok(asked.map(str::to_owned)),
    }
  }

  /// The full id of what this caller calls `id`: one bound to a namespace may leave its own out.
  pub fn full_id(&self, id: &str) -> String {
    match &self.scope {
      Scope::Namespace(own) if !id.contains(':') => format!("{own}:{id}"),
      _ => id.to_owned(),
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn lab() -> Caller {
    Caller::of(Scope::Namespace("lab".into()))
  }

  #[test]
  fn a_caller_of_a_namespace_sees_only_what_is_in_it() {
    assert!(lab().sees_id("lab:k"));
    for other in ["k", "other:k", "lab2:k", "la:b:k"] {
      assert!(!lab().sees_id(other), "{other}");
    }
    assert!(Caller::operator().sees_id("k") && Caller::operator().sees_id("lab:k"));
  }

  #[test]
  fn its_own_namespace_may_be_left_out_of_ids_and_requests() {
    assert_eq!(lab().full_id("k"), "lab:k");
    assert_eq!(lab().full_id("other:k"), "other:k");
    assert_eq!(Caller::operator().full_id("k"), "k");
    assert_eq!(lab().work_in(None), Ok(Some("lab".into())));
    assert_eq!(lab().work_in(Some("lab")), Ok(Some("lab".into())));
    assert!(matches!(
      lab().work_in(Some("other")),
      Err(Denied::OtherNamespace { .. })
    ));
    assert_eq!(Caller::operator().work_in(None), Ok(None));
  }

  #[test]
  fn what_concerns_every_namespace_is_the_operators() {
    assert_eq!(
      lab().require(Right::Operate),
      Err(Denied::OperatorOnly("lab".into()))
    );
    assert_eq!(lab().require(Right::Manage), Ok(()));
    assert_eq!(Caller::operator().require(Right::Operate), Ok(()));
  }

  #[test]
  fn a_right_includes_those_before_it_and_no_other() {
    let reader = lab().limited_to(Right::Read);
    assert_eq!(reader.require(Right::Read), Ok(()));
    assert_eq!(reader.require(Right::Use), Err(Denied::Right(Right::Use)));
    assert_eq!(
      reader.limited_to(Right::Manage).require(Right::Use),
      Err(Denied::Right(Right::Use))
    );
  }
}
