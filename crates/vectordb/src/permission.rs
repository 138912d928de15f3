//! Who may use an index of another namespace.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::VectorError;
use crate::id::IndexId;

/// What other namespaces may do with an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
  #[default]
  Private,
  PublicRead,
  PublicReadAdd,
  PublicReadWrite,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
  Read,
  Add,
  Remove,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Requester {
  /// Somebody for whom nothing is checked here.
  #[default]
  Trusted,
  Namespace(String),
}

impl Permission {
  pub fn as_str(self) -> &'static str {
    match self {
      Self::Private => "private",
      Self::PublicRead => "public_read",
      Self::PublicReadAdd => "public_read_add",
      Self::PublicReadWrite => "public_read_write",
    }
  }

  fn allows(self, operation: Operation) -> bool {
    match self {
      Self::Private => false,
      Self::PublicRead => operation == Operation::Read,
      Self::PublicReadAdd => operation != Operation::Remove,
      Self::PublicReadWrite => true,
    }
  }
}

impl fmt::Display for Permission {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(self.as_str())
  }
}

impl fmt::Display for Operation {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match self {
      Self::Read => "read",
      Self::Add => "add",
      Self::Remove => "remove",
    })
  }
}

impl Requester {
  /// # Errors
  /// When the requester may not do this with an index of that namespace and permission; there is none
  /// for those who may not even read it.
  pub(crate) fn check(
    &self,
    id: &IndexId,
    namespace: Option<&str>,
    permission: Permission,
    operation: Operation,
  ) -> Result<(), VectorError> {
    let Self::Namespace(requester) = self else {
      return Ok(());
    };
    let may = |operation| match namespace {
      _ if requester.is_empty() => false,
      None => false,
      Some(owner) => owner == requester || permission.allows(operation),
    };
    if may(operation) {
      return Ok(());
    }
    if !may(Operation::Read) {
      // Nobody learns what others have to themselves.
      return Err(VectorError::no_index(id));
    }
    Err(VectorError::Forbidden(format!(
      "Access denied: Cannot {operation} on vector index {id}. It belongs to workspace {} with \
       permission {permission}, and workspace {} asks",
      namespace.unwrap_or("(none)"),
      requester,
    )))
  }

  /// Whether it may add, but not change what is there.
  pub(crate) fn only_adds(&self, namespace: Option<&str>, permission: Permission) -> bool {
    match self {
      Self::Trusted => false,
      Self::Namespace(requester) => {
        namespace != Some(requester) && permission == Permission::PublicReadAdd
      }
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn may(who: &str, owner: Option<&str>, permission: Permission, operation: Operation) -> bool {
    let requester = Requester::Namespace(who.into());
    requester
      .check(&IndexId::full("w:i"), owner, permission, operation)
      .is_ok()
  }

  #[test]
  fn each_level_allows_what_its_name_says() {
    use Operation::*;
    let levels = [
      (Permission::Private, [false, false, false]),
      (Permission::PublicRead, [true, false, false]),
      (Permission::PublicReadAdd, [true, true, false]),
      (Permission::PublicReadWrite, [true, true, true]),
    ];
    for (level, expected) in levels {
      let other = [Read, Add, Remove].map(|op| may("other", Some("w"), level, op));
      assert_eq!(other, expected, "{level}");
      assert!(
        [Read, Add, Remove]
          .iter()
          .all(|op| may("w", Some("w"), level, *op))
      );
      assert!(!may("", Some("w"), level, Read) && !may("other", None, level, Read));
      assert!(!may("", None, level, Read));
    }
  }

  #[test]
  fn a_denial_names_both_workspaces_and_the_permission_and_hides_what_is_private() {
    let other = Requester::Namespace("v".into());
    let id = IndexId::full("w:i");
    let error = other.check(&id, Some("w"), Permission::PublicRead, Operation::Add);
    let message = error.expect_err("denied").to_string();
    assert!(
      message.starts_with("Access denied: Cannot add on vector index w:i. "),
      "{message}"
    );
    assert!(
      message.contains("workspace w") && message.contains("workspace v"),
      "{message}"
    );
    assert!(message.contains("public_read"), "{message}");
    let hidden = other.check(&id, Some("w"), Permission::Private, Operation::Read);
    assert_eq!(hidden, Err(VectorError::no_index(&id)));
    let trusted = Requester::Trusted;
    assert!(
      trusted
        .check(&id, None, Permission::Private, Operation::Remove)
        .is_ok()
    );
  }
}
