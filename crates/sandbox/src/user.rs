//! The account that kernels run as.

use std::fmt;
use std::fs;
use std::str::FromStr;

use rustix::process;
use rustix::process::Gid;
use rustix::process::Uid;
use rustix::thread;
use rustix::thread::CapabilitySet;
use serde::Deserialize;
use serde::Serialize;

const ACCOUNTS: &str = "/etc/passwd";

/// A user and a group, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelUser {
  uid: u32,
  gid: u32,
}

impl KernelUser {
  /// Whoever runs this process.
  pub fn own() -> Self {
    Self {
      uid: process::geteuid().as_raw(),
      gid: process::getegid().as_raw(),
    }
  }

  pub fn uid(self) -> Uid {
    Uid::from_raw(self.uid)
  }

  pub fn gid(self) -> Gid {
    Gid::from_raw(self.gid)
  }

  /// Whether this process may start others as this user, give them their folders, and end them.
  ///
  /// # Errors
  /// A sentence for the operator.
  pub fn check(self) -> Result<(), String> {
    let needed = CapabilitySet::CHOWN
      | CapabilitySet::DAC_OVERRIDE
      | CapabilitySet::KILL
      | CapabilitySet::SETGID
      | CapabilitySet::SETUID;
    let held = thread::capabilities(None)
      .map_err(|e| format!("the server's capabilities are unknown: {e}"))?
      .effective;
    if self == Self::own() || held.contains(needed) {
      return Ok(());
    }
    Err(format!(
      "kernels can run as another user ({self}) only when the server runs as root, or has the \
       capabilities CHOWN, DAC_OVERRIDE, KILL, SETGID and SETUID: start it so, or leave \
       ENGINE_KERNEL_USER out"
    ))
  }

  fn of_entry(entry: &str) -> Option<(&str, Self)> {
    let mut fields = entry.split(':');
    let name = fields.next()?;
    let user = Self {
      uid: fields.nth(1)?.parse().ok()?,
      gid: fields.next()?.parse().ok()?,
    };
    Some((name, user))
  }
}

/// A name of `/etc/passwd`, `uid` or `uid:gid`.
impl FromStr for KernelUser {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    let accounts = fs::read_to_string(ACCOUNTS).unwrap_or_default();
    let user = find(text, &accounts)?;
    if user.uid == 0 {
      return Err("kernels must not run as root: name a user without privileges".into());
    }
    Ok(user)
  }
}

fn find(text: &str, accounts: &str) -> Result<KernelUser, String> {
  let number = |text: &str| {
    text
      .parse::<u32>()
      .map_err(|_| format!("`{text}` is not a number: write uid:gid, or the name of a user"))
  };
  if let Some((uid, gid)) = text.split_once(':') {
    return Ok(KernelUser {
      uid: number(uid)?,
      gid: number(gid)?,
    });
  }
  let mut known = accounts.lines().filter_map(KernelUser::of_entry);
  match text.parse::<u32>() {
    Ok(uid) => {
      let known = known.find(|(_, user)| user.uid == uid);
      Ok(known.map_or(KernelUser { uid, gid: uid }, |(_, user)| user))
    }
    Err(_) => known
      .find(|(name, _)| *name == text)
      .map(|(_, user)| user)
      .ok_or_else(|| format!("there is no user `{text}` in {ACCOUNTS}: write uid:gid instead")),
  }
}

impl fmt::Display for KernelUser {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "uid {}, gid {}", self.uid, self.gid)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  const SOME: &str = "root:x:0:0:root:/root:/bin/sh\nkernels:x:990:980::/:/bin/false\nbroken\n";

  #[test]
  fn a_user_is_named_or_numbered() {
    let user = |uid, gid| Ok(KernelUser { uid, gid });
    assert_eq!(find("kernels", SOME), user(990, 980));
    assert_eq!(find("990", SOME), user(990, 980));
    assert_eq!(find("991", SOME), user(991, 991));
    assert_eq!(find("990:7", SOME), user(990, 7));
  }

  #[test]
  fn what_is_no_user_is_told_with_the_remedy() {
    let nobody = find("nosuch", SOME).expect_err("is unknown");
    assert!(nobody.contains("nosuch") && nobody.contains("uid:gid"));
    assert!(find("kernels:x", SOME).is_err());
    assert!(
      "0"
        .parse::<KernelUser>()
        .expect_err("is root")
        .contains("root")
    );
  }
}
