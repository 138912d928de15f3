//! Access to indices of other namespaces.

use std::fmt;

use access::Caller;
use access::Right;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::VectorError;
use crate::id::IndexId;

/// Access that an index gives to other namespaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
  #[default]
  Private,
  PublicRead,
  PublicReadAdd,
  PublicReadWrite,
}

/// An operation on documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
  Read,
  Add,
  Remove,
}

/// The owner of an index, and what it permits others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ownership {
  pub namespace: Option<String>,
  pub permission: Permission,
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

impl Operation {
  /// The right that a caller needs for this, in its own namespace too.
  pub(crate) fn right(self) -> Right {
    match self {
      Self::Read => Right::Read,
      Self::Add | Self::Remove => Right::Use,
    }
  }
}

impl Ownership {
  /// # Errors
  /// When `caller` may not do this with the index `id`. A caller that may not even read it is told that
  /// there is no such index, so that nobody learns what others have.
  pub(crate) fn check(
    &self,
    caller: &Caller,
    id: &IndexId,
    operation: Operation,
  ) -> Result<(), VectorError> {
    let Some(asking) = caller.namespace() else {
      return Ok(());
    };
    let may = |operation| match &self.namespace {
      _ if asking.is_empty() => false,
      None => false,
      Some(owner) => owner == asking || self.permission.allows(operation),
    };
    if may(operation) {
      return Ok(());
    }
    if !may(Operation::Read) {
      return Err(VectorError::no_index(id));
    }
    Err(VectorError::Forbidden(format!(
      "Access denied: Cannot {operation} on vector index {id}. It belongs to workspace {} with \
       permission {}, and workspace {asking} asks",
      self.namespace.as_deref().unwrap_or("(none)"),
      self.permission,
    )))
  }

  /// Whether `caller` may add documents, but not replace those that are there.
  pub(crate) fn only_adds(&self, caller: &Caller) -> bool {
    let foreign = caller
      .namespace()
      .is_some_and(|asking| self.namespace.as_deref() != Some(asking));
    foreign && self.permission == Permission::PublicReadAdd
  }
}

#[cfg(test)]
mod tests {
  use access::Scope;

  use super::*;

  fn of(namespace: &str) -> Caller {
    Caller::of(Scope::Namespace(namespace.into()))
  }

  fn owned(namespace: Option<&str>, permission: Permission) -> Ownership {
    Ownership {
      namespace: namespace.map(str::to_owned),
      permission,
    }
  }

  #[test]
  fn each_level_allows_what_its_name_says() {
    use Operation::*;
    let id = IndexId::full("w:i");
    let may =
      |who, owner, level, operation| owned(owner, level).check(&of(who), &id, operation).is_ok();
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
    let other = of("v");
    let id = IndexId::full("w:i");
    let error = owned(Some("w"), Permission::PublicRead).check(&other, &id, Operation::Add);
    let message = error.expect_err("denied").to_string();
    assert_eq!(
      message,
      "Access denied: Cannot add on vector index w:i. It belongs to workspace w with permission \
       public_read, and workspace v asks"
    );
    let hidden = owned(Some("w"), Permission::Private);
    assert_eq!(
      hidden.check(&other, &id, Operation::Read),
      Err(VectorError::no_index(&id))
    );
    let unowned = owned(None, Permission::Private);
    assert_eq!(
      unowned.check(&Caller::operator(), &id, Operation::Remove),
      Ok(())
    );
  }

  #[test]
  fn only_another_namespace_is_held_to_adding() {
    let adding = owned(Some("w"), Permission::PublicReadAdd);
    assert!(adding.only_adds(&of("v")));
    assert!(!adding.only_adds(&of("w")) && !adding.only_adds(&Caller::operator()));
    assert!(!owned(Some("w"), Permission::PublicReadWrite).only_adds(&of("v")));
  }
}
