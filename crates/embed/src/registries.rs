//! Where packages come from. What opens a registry is kept apart from its address: addresses are shown
//! in errors and in the environment of kernels.

use std::ffi::OsString;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kernel_protocol::RegistryAuth;
use reqwest::Url;

/// Variables of the server's environment that say where packages come from.
pub const VARIABLES: [&str; 2] = ["NPM_CONFIG_REGISTRY", "JSR_URL"];

/// An address without user name and password, and what they open; `None` when it has none.
pub fn without_credentials(address: &str) -> Option<(String, RegistryAuth)> {
  let mut url: Url = address.parse().ok()?;
  if url.username().is_empty() && url.password().is_none() {
    return None;
  }
  let decoded = |text: &str| {
    let decoded = percent_encoding::percent_decode_str(text);
    decoded.decode_utf8_lossy().into_owned()
  };
  let (user, password) = (
    decoded(url.username()),
    decoded(url.password().unwrap_or_default()),
  );
  url.set_username("").ok()?;
  url.set_password(None).ok()?;
  let mut place = url.clone();
  if !place.path().ends_with('/') {
    place.set_path(&format!("{}/", place.path()));
  }
  let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
  let auth = RegistryAuth {
    place: place.into(),
    authorization: format!("Basic {credentials}"),
  };
  Some((url.into(), auth))
}

/// What opens the registries that this process's environment names.
pub fn auth() -> Vec<RegistryAuth> {
  let addresses = VARIABLES
    .into_iter()
    .filter_map(|name| std::env::var(name).ok());
  addresses
    .filter_map(|address| Some(without_credentials(&address)?.1))
    .collect()
}

/// The registries' variables for processes of kernels, without what opens them.
pub fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
  VARIABLES.into_iter().filter_map(|name| {
    let value = std::env::var_os(name)?;
    let clean = value.to_str().and_then(without_credentials);
    Some((name, clean.map_or(value, |(address, _)| address.into())))
  })
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn credentials_are_taken_out_of_an_address() {
    let (address, auth) =
      without_credentials("https://us%40er:se%3Acret@npm.example/path").expect("credentials");
    assert_eq!(address, "https://npm.example/path");
    assert_eq!(auth.place, "https://npm.example/path/");
    let expected = BASE64_STANDARD.encode("us@er:se:cret");
    assert_eq!(auth.authorization, format!("Basic {expected}"));
    assert!(!format!("{auth:?}").contains(&expected));
    for without in ["https://npm.example/", "not an address"] {
      assert!(without_credentials(without).is_none(), "{without}");
    }
    let (_, token) = without_credentials("http://token@npm.example").expect("a name");
    assert_eq!(token.place, "http://npm.example/");
  }
}
