//! Where a model is asked, and how far its address is trusted.

use std::fmt;

use access::Secret;
use outbound::Reach;
use outbound::network::check_literal;
use reqwest::Url;

use crate::error::ModelError;
use crate::error::Server;
use crate::redact::Redactor;

/// Who chose an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
  /// The operator: it may be on this machine or a private network.
  Operator,
  /// A tenant: it must be on the public network.
  Tenant,
}

/// A server that speaks Chat Completions.
#[derive(Clone)]
pub struct Endpoint {
  base: Url,
  key: Option<Secret>,
  trust: Trust,
}

impl Endpoint {
  /// `/chat/completions` is appended to `base_url`, whether or not it ends with `/`. A query stays. A
  /// user and a password in it are sent where there is no key.
  ///
  /// # Errors
  /// When it is no http or https URL, the key could not be sent, or a tenant's address is not public.
  pub fn new(base_url: &str, api_key: Option<Secret>, trust: Trust) -> Result<Self, ModelError> {
    let base = Url::parse(base_url.trim())
      .ok()
      .filter(|url| matches!(url.scheme(), "http" | "https"))
      // The text may hold a password.
      .ok_or_else(|| {
        ModelError::Invalid(
          "baseURL: not an http or https URL, e.g. https://api.openai.com/v1".to_owned(),
        )
      })?;
    let key = api_key.filter(|key| !key.expose().is_empty());
    let sendable = |key: &Secret| key.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if !key.as_ref().is_none_or(sendable) {
      return Err(ModelError::Invalid(
        "apiKey: it holds a blank or a character that no key has".to_owned(),
      ));
    }
    let endpoint = Self { base, key, trust };
    endpoint.check_address()?;
    Ok(endpoint)
  }

  pub fn trust(&self) -> Trust {
    self.trust
  }

  /// The base URL as listings show it: without user, password and query.
  pub fn shown(&self) -> String {
    let shown = outbound::shown(&self.base);
    self.redactor().redact(shown.trim_end_matches('/'))
  }

  pub(crate) fn key(&self) -> Option<&Secret> {
    self.key.as_ref()
  }

  pub(crate) fn reach(&self) -> Reach {
    match self.trust {
      Trust::Operator => Reach::Anywhere,
      Trust::Tenant => Reach::PublicNetwork,
    }
  }

  /// Where requests go.
  pub(crate) fn url(&self) -> Url {
    let mut url = outbound::below(&self.base, &["chat", "completions"]);
    if self.key.is_some() {
      // Otherwise they would be sent beside the key. Cannot fail for http and https.
      let _ = url.set_username("");
      let _ = url.set_password(None);
    }
    url
  }

  /// Refuses a tenant's address that is written as a number; names are judged when they are resolved.
  pub(crate) fn check_address(&self) -> Result<(), ModelError> {
    match self.trust {
      Trust::Operator => Ok(()),
      Trust::Tenant => check_literal(&self.base).map_err(ModelError::NotPublic),
    }
  }

  pub(crate) fn server(&self) -> Server {
    Server {
      base_url: self.shown(),
      trust: self.trust,
    }
  }

  pub(crate) fn redactor(&self) -> Redactor {
    Redactor::new(self.key.as_ref().map(Secret::expose), &self.base)
  }
}

impl fmt::Debug for Endpoint {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct("Endpoint")
      .field("base", &self.shown())
      .field("key", &self.key)
      .field("trust", &self.trust)
      .finish()
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn endpoint(base: &str) -> Endpoint {
    Endpoint::new(base, Some(Secret::new("sk-hunter2")), Trust::Operator).expect("an endpoint")
  }

  #[test]
  fn a_slash_at_the_end_makes_no_difference() {
    for base in ["https://host/v1", "https://host/v1/", " https://host/v1 "] {
      assert_eq!(
        endpoint(base).url().as_str(),
        "https://host/v1/chat/completions"
      );
      assert_eq!(endpoint(base).shown(), "https://host/v1");
    }
    assert_eq!(
      endpoint("http://host").url().as_str(),
      "http://host/chat/completions"
    );
    assert_eq!(
      endpoint("https://host/deployment?api-version=1")
        .url()
        .as_str(),
      "https://host/deployment/chat/completions?api-version=1"
    );
  }

  #[test]
  fn no_secret_is_shown() {
    let endpoint = endpoint("https://me:hunter3@host/sk-hunter2/v1?key=hunter4");
    assert_eq!(endpoint.shown(), "https://host/[secret]/v1");
    let debugged = format!("{endpoint:?} {:?}", endpoint.server());
    assert!(!debugged.contains("hunter"), "{debugged}");
  }

  #[test]
  fn a_key_goes_before_a_password() {
    assert_eq!(endpoint("https://me:word@host/").url().username(), "");
    let without = Endpoint::new("https://me:word@host/", None, Trust::Operator);
    assert_eq!(without.expect("an endpoint").url().password(), Some("word"));
  }

  #[test]
  fn what_cannot_work_is_named_without_secrets() {
    let refused = |base: &str, key: &str| {
      let refused = Endpoint::new(base, Some(Secret::new(key)), Trust::Operator);
      refused.expect_err("refused").to_string()
    };
    for base in ["", "host/v1", "file:///etc", "me:hunter2@host", "http://"] {
      let refused = refused(base, "k");
      assert!(
        refused.starts_with("baseURL: ") && !refused.contains("hunter2"),
        "{refused}"
      );
    }
    for key in ["a b", "a\n", "schlüssel"] {
      assert!(refused("http://host", key).starts_with("apiKey: "));
    }
  }

  #[test]
  fn an_empty_key_is_none() {
    let endpoint = Endpoint::new("http://host", Some(Secret::new("")), Trust::Operator);
    assert!(endpoint.expect("an endpoint").key().is_none());
  }

  #[test]
  fn a_tenants_address_inside_is_refused_at_once() {
    for base in [
      "http://127.0.0.1:11434/v1",
      "http://[::1]/v1",
      "http://169.254.169.254/latest",
      "http://10.0.0.7/v1",
    ] {
      let refused = Endpoint::new(base, None, Trust::Tenant).expect_err(base);
      assert!(matches!(refused, ModelError::NotPublic(_)), "{refused}");
      let said = refused.to_string();
      assert!(
        said.starts_with("baseURL: `") && said.contains("not on the public network"),
        "{said}"
      );
      Endpoint::new(base, None, Trust::Operator).expect(base);
    }
  }
}
