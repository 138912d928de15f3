//! Secrets that a process was started with. Whatever its account runs may read the environment and the
//! command line that a process began with, whatever becomes of them later; so it begins once more
//! without them, and gets them over a descriptor that it closes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use embed::registries;
use kernel_protocol::RegistryAuth;
use rustix::fs::MemfdFlags;
use serde::Deserialize;
use serde::Serialize;

/// Flags whose values are secrets, and the variables that say the same.
const SECRETS: [(&str, &str); 4] = [
  ("--agent-model-api-key", "AGENT_MODEL_API_KEY"),
  ("--tokens", "ENGINE_TOKENS"),
  ("--hypha-token", "HYPHA_TOKEN"),
  ("--token", "ENGINE_TOKEN"),
];
/// Whether the value of `flag` may be shown to nobody.
pub(super) fn is_secret(flag: &str) -> bool {
  SECRETS.iter().any(|(secret, _)| *secret == flag)
}

/// Names the descriptor that secrets are handed over with.
const HANDED_OVER: &str = "DENO_APP_ENGINE_SECRETS";

/// What the process began with, by the names of variables.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
struct Secrets(BTreeMap<String, String>);

/// Takes secrets that the process which this one was before has handed over into the environment, where
/// the command line looks for them. Returns whether there were any. Call it before there are threads.
///
/// # Errors
/// When what was handed over cannot be read.
#[expect(clippy::disallowed_methods, reason = "there is one thread")]
pub(super) fn take_over() -> io::Result<bool> {
  let Some(descriptor) = std::env::var_os(HANDED_OVER) else {
    return Ok(false);
  };
  sandbox::keep_secrets()?;
  let number = descriptor.to_str().and_then(|text| text.parse().ok());
  let number: i32 = number.filter(|number| *number > 2).ok_or_else(|| {
    io::Error::new(
      io::ErrorKind::InvalidInput,
      format!("{HANDED_OVER} is the engine's own to set: unset it"),
    )
  })?;
  // SAFETY: `start_again` opened it for this; nobody else knows its number.
  let mut file = unsafe { File::from_raw_fd(number) };
  let mut text = Vec::new();
  file.read_to_end(&mut text)?;
  let Secrets(secrets) = serde_json::from_slice(&text)?;
  // SAFETY: there is one thread.
  unsafe {
    std::env::remove_var(HANDED_OVER);
    for (name, value) in secrets {
      std::env::set_var(name, value);
    }
  }
  Ok(true)
}

/// Begins this process again without the secrets in its environment and on its command line; returns
/// only when there are none. It stays the same process, with the same number.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub(super) fn start_again(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
  let mut secrets = Secrets::of_environment();
  let arguments = secrets.take_from(arguments);
  if secrets.0.is_empty() {
    return Ok(());
  }
  let descriptor = rustix::fs::memfd_create("secrets", MemfdFlags::empty())?;
  let mut file = File::from(descriptor);
  file.write_all(&serde_json::to_vec(&secrets)?)?;
  file.rewind()?;
  let mut command = Command::new(std::env::current_exe()?);
  let mut arguments = arguments.into_iter();
  if let Some(name) = arguments.next() {
    command.arg0(name);
  }
  command
    .args(arguments)
    .env(HANDED_OVER, file.as_raw_fd().to_string());
  for name in secrets.0.keys() {
    command.env_remove(name);
  }
  Err(command.exec())
}

/// Other systems do not show these to others, or have no descriptor without a file.
#[cfg(not(target_os = "linux"))]
pub fn start_again(_: impl Iterator<Item = OsString>) -> io::Result<()> {
  Ok(())
}

/// Takes the secrets out of the environment, now that they are where they are needed. Returns what opens
/// registries; their addresses stay. Call it before there are threads.
#[expect(clippy::disallowed_methods, reason = "there is one thread")]
pub(super) fn forget() -> Vec<RegistryAuth> {
  let auth = registries::auth();
  for (_, name) in SECRETS {
    // SAFETY: there is one thread.
    unsafe { std::env::remove_var(name) };
  }
  for name in registries::VARIABLES {
    let address = std::env::var(name).ok();
    if let Some((address, _)) = address.as_deref().and_then(registries::without_credentials) {
      // SAFETY: there is one thread.
      unsafe { std::env::set_var(name, address) };
    }
  }
  auth
}

impl Secrets {
  fn of_environment() -> Self {
    let tokens = SECRETS.into_iter().map(|(_, name)| name);
    let tokens = tokens.filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let registries = registries::VARIABLES
      .into_iter()
      .filter_map(|name| Some((name, std::env::var(name).ok()?)))
      .filter(|(_, address)| registries::without_credentials(address).is_some());
    let all = tokens.chain(registries);
    Self(all.map(|(name, value)| (name.to_owned(), value)).collect())
  }

  /// Moves the values of secret flags here, where they win over variables. Returns the other arguments.
  fn take_from(&mut self, arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut rest = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
      let text = argument.to_str().unwrap_or_default();
      let (flag, value) = match text.split_once('=') {
        Some((flag, value)) => (flag, Some(value.to_owned())),
        None => (text, None),
      };
      let Some((_, name)) = SECRETS.into_iter().find(|(secret, _)| *secret == flag) else {
        rest.push(argument);
        continue;
      };
      let value = value.or_else(|| arguments.next()?.into_string().ok());
      self.0.insert(name.to_owned(), value.unwrap_or_default());
    }
    rest
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn flags_become_what_is_handed_over() {
    let mut secrets = Secrets::default();
    secrets.0.insert("ENGINE_TOKENS".into(), "old=*".into());
    let arguments = [
      "engine",
      "serve",
      "--tokens",
      "a=*",
      "--port",
      "1",
      "--hypha-token=x=y",
      "--tokens-file",
      "f",
    ];
    let rest = secrets.take_from(arguments.iter().map(OsString::from));
    assert_eq!(
      rest,
      ["engine", "serve", "--port", "1", "--tokens-file", "f"]
    );
    assert_eq!(secrets.0["ENGINE_TOKENS"], "a=*");
    assert_eq!(secrets.0["HYPHA_TOKEN"], "x=y");
  }
}
