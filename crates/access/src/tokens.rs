//! Bearer tokens: what each may see. Only their digests are kept, so that nothing that reads this
//! process or its files learns one.

#![expect(
  clippy::disallowed_methods,
  reason = "once at the start, and by the command line"
)]

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::Caller;
use crate::Scope;
use crate::Secret;

/// SHA-256 of a token, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct TokenDigest([u8; 32]);

impl TokenDigest {
  fn of(token: &str) -> Self {
    Self(Sha256::digest(token).into())
  }
}

impl TryFrom<String> for TokenDigest {
  type Error = String;

  fn try_from(text: String) -> Result<Self, String> {
    let wrong = || "write the SHA-256 of a token, 64 hexadecimal digits".to_owned();
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() || !text.is_ascii() {
      return Err(wrong());
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
      let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
      *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(Self(digest))
  }
}

impl From<TokenDigest> for String {
  fn from(digest: TokenDigest) -> Self {
    hex::encode(digest.0)
  }
}

/// The tokens that a server knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(HashMap<TokenDigest, Scope>);

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
  /// Everybody, as the operator.
  Open,
  Tokens(Tokens),
}

impl Access {
  /// Whoever calls with `token`; `None` when it opens nothing.
  pub fn caller(&self, token: Option<&str>) -> Option<Caller> {
    match self {
      Self::Open => Some(Caller::operator()),
      Self::Tokens(tokens) => tokens.scope(token?).cloned().map(Caller::of),
    }
  }
}

impl Tokens {
  /// What a token may see. Digests are compared, which takes no time that tells about tokens.
  pub fn scope(&self, token: &str) -> Option<&Scope> {
    self.0.get(&TokenDigest::of(token))
  }

  /// Those of both; where both know a token, `others` say what it may see.
  #[must_use]
  pub fn and(mut self, others: Self) -> Self {
    self.0.extend(others.0);
    self
  }
}

impl fmt::Debug for Tokens {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{} token(s)", self.0.len())
  }
}

impl FromStr for Tokens {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    let mut tokens = HashMap::new();
    for (i, item) in text
      .split(',')
      .map(str::trim)
      .filter(|item| !item.is_empty())
      .enumerate()
    {
      // The entry is a secret: name its place, not its text.
      let wrong = || {
        format!(
          "entry {} is not of the form token=namespace or token=*",
          i + 1
        )
      };
      let (token, scope) = item.rsplit_once('=').ok_or_else(wrong)?;
      if token.is_empty() || scope.is_empty() {
        return Err(wrong());
      }
      tokens.insert(TokenDigest::of(token), scope.to_owned().into());
    }
    if tokens.is_empty() {
      Err("no token in the list".into())
    } else {
      Ok(Self(tokens))
    }
  }
}

/// A file of tokens, as JSON: `{"tokens": [{"sha256": "…", "namespace": "lab"}]}`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
  tokens: Vec<TokenEntry>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
  sha256: TokenDigest,
  /// A namespace, or `*` for all.
  namespace: Scope,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
  #[error("the token file {0} cannot be read: {1}")]
  Read(PathBuf, io::Error),
  #[error("the token file {0} cannot be written: {1}")]
  Write(PathBuf, io::Error),
  #[error("the token file {0} can be changed by others: take the right away with `chmod go-w {0}`")]
  OpenToOthers(PathBuf),
  #[error("the token file {0} is not as it should be: {1}")]
  Malformed(PathBuf, serde_json::Error),
  #[error("the token file {0} has no token: make one with `deno-app-engine tokens add`")]
  Empty(PathBuf),
  #[error("a namespace has a name, or is `*` for all")]
  NoNamespace,
}

impl TokenFile {
  fn read(path: &Path) -> Result<Self, TokenFileError> {
    let read = |e| TokenFileError::Read(path.to_owned(), e);
    let mode = fs::metadata(path).map_err(read)?.permissions().mode();
    if mode & 0o022 != 0 {
      return Err(TokenFileError::OpenToOthers(path.to_owned()));
    }
    let text = fs::read(path).map_err(read)?;
    serde_json::from_slice(&text).map_err(|e| TokenFileError::Malformed(path.to_owned(), e))
  }
}

/// The tokens of a file.
///
/// # Errors
/// When it cannot be read, is not as it should be, holds none, or others than its owner may write it.
pub fn read(path: &Path) -> Result<Tokens, TokenFileError> {
  let entries = TokenFile::read(path)?.tokens.into_iter();
  let tokens: HashMap<_, _> = entries
    .map(|entry| (entry.sha256, entry.namespace))
    .collect();
  match tokens.is_empty() {
    true => Err(TokenFileError::Empty(path.to_owned())),
    false => Ok(Tokens(tokens)),
  }
}

/// Makes a token and adds it to a file, which need not exist.
///
/// # Errors
/// When the file is there and is not as it should be, or cannot be written.
pub fn add(path: &Path, namespace: &str) -> Result<Secret, TokenFileError> {
  if namespace.trim().is_empty() {
    return Err(TokenFileError::NoNamespace);
  }
  let mut file = match TokenFile::read(path) {
    Err(TokenFileError::Read(_, e)) if e.kind() == io::ErrorKind::NotFound => TokenFile::default(),
    read => read?,
  };
  // 244 random bits.
  let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
  file.tokens.push(TokenEntry {
    sha256: TokenDigest::of(&token),
    namespace: namespace.to_owned().into(),
  });
  write(path, &file).map_err(|e| TokenFileError::Write(path.to_owned(), e))?;
  Ok(Secret::new(token))
}

/// Puts a whole file in place of what is there. Nobody but its owner may read it.
fn write(path: &Path, file: &TokenFile) -> io::Result<()> {
  let folder = path
    .parent()
    .filter(|folder| !folder.as_os_str().is_empty());
  let mut written = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
  serde_json::to_writer_pretty(&mut written, file)?;
  written.write_all(b"\n")?;
  written.as_file().sync_all()?;
  written.persist(path)?;
  Ok(())
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn tokens_are_parsed_and_never_shown() {
    let tokens: Tokens = "s3cret=lab, x=y=*".parse().expect("two");
    let lab = Scope::Namespace("lab".into());
    assert_eq!(tokens.scope("s3cret"), Some(&lab));
    assert_eq!(tokens.scope("x=y"), Some(&Scope::Everything));
    assert_eq!(tokens.scope("s3cre"), None);
    assert!(!format!("{tokens:?}").contains("s3cret"));
    let error = "s3cret".parse::<Tokens>().expect_err("no scope");
    assert!(!error.contains("s3cret"));
  }

  #[test]
  fn a_file_holds_digests_and_is_its_owners() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens.json");
    let lab = add(&path, "lab").expect("is made");
    let all = add(&path, "*").expect("is added");
    let tokens = read(&path).expect("two");
    assert_eq!(
      tokens.scope(lab.expose()),
      Some(&Scope::Namespace("lab".into()))
    );
    assert_eq!(tokens.scope(all.expose()), Some(&Scope::Everything));
    let text = fs::read_to_string(&path).expect("a text");
    assert!(
      !text.contains(lab.expose()) && !text.contains(all.expose()),
      "{text}"
    );
    let mode = fs::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).expect("is changed");
    assert!(matches!(read(&path), Err(TokenFileError::OpenToOthers(_))));
    assert!(matches!(
      add(&path, "lab"),
      Err(TokenFileError::OpenToOthers(_))
    ));
  }

  #[test]
  fn what_is_wrong_with_a_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens.json");
    let digest = "0".repeat(64);
    for (text, expected) in [
      ("", "EOF"),
      (r#"{"tokens": []}"#, "no token"),
      (
        r#"{"tokens": [{"sha256": "abc", "namespace": "a"}]}"#,
        "64 hexadecimal digits",
      ),
      (
        r#"{"tokens": [{"token": "abc", "namespace": "a"}]}"#,
        "unknown field `token`",
      ),
      (
        &format!(r#"{{"tokens": [{{"sha256": "{digest}"}}]}}"#),
        "missing field `namespace`",
      ),
    ] {
      fs::write(&path, text).expect("is written");
      let error = read(&path).expect_err(text).to_string();
      assert!(
        error.contains(expected) && error.contains("tokens.json"),
        "{error}"
      );
    }
    let missing = read(&folder.path().join("none")).expect_err("is missing");
    assert!(missing.to_string().contains("cannot be read"));
    assert!(matches!(add(&path, " "), Err(TokenFileError::NoNamespace)));
  }
}
