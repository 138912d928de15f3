//! The origins that apps' pages have, so that a page of one app is nobody else's: neither that of
//! another app nor of the engine.

use engine::apps::AppId;

use crate::authority::Authority;
use crate::authority::Host;

/// Below it every name is this machine, without any setting (RFC 6761 section 6.3); browsers do not
/// ask anybody for it.
const LOCALHOST: &str = "localhost";

/// Where browsers find apps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppOrigins {
  /// Apps are at `{label}.` of this name.
  domain: Option<Domain>,
  /// Apps are at the same host with this port, where they share one origin.
  port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Domain {
  name: String,
  /// `None`: the port that the engine was asked at.
  port: Option<u16>,
}

impl AppOrigins {
  /// # Errors
  /// When apps cannot be below `domain`, because it is an address.
  pub fn new(domain: Option<Authority>, port: Option<u16>) -> Result<Self, String> {
    let domain = domain.map(|domain| match domain.host {
      Host::Name(name) => Ok(Domain {
        name,
        port: domain.port,
      }),
      Host::Ip(ip) => Err(format!(
        "ENGINE_APPS_DOMAIN: there are no names below `{ip}`; name a domain whose `*.` leads here, or set \
         ENGINE_APPS_PORT"
      )),
    });
    let domain = domain.transpose()?;
    Ok(Self { domain, port })
  }

  /// The port that only apps are served at.
  pub fn port(&self) -> Option<u16> {
    self.port
  }

  /// Whether apps' pages may be of the same site as the engine's, without being of its origin.
  pub fn may_be_beside_the_engine(&self) -> bool {
    *self != Self::default()
  }

  /// The label of the app that has `host` for its own.
  pub fn label<'a>(&self, host: &'a Authority) -> Option<&'a str> {
    let Host::Name(name) = &host.host else {
      return None;
    };
    let below = |domain: &str| {
      let label = name.strip_suffix(domain)?.strip_suffix('.')?;
      (!label.is_empty() && !label.contains('.')).then_some(label)
    };
    let domain = self.domain.as_ref();
    below(LOCALHOST).or_else(|| below(&domain?.name))
  }

  /// Whether apps have another origin than the engine for those who asked it at `host`.
  pub fn apart(&self, host: &Authority) -> bool {
    self.domain.is_some() || self.port.is_some() || host.host.is_loopback()
  }

  /// Where a browser that asked the engine at `host` finds `path` of an app, as a reference that keeps
  /// the scheme. `None` where apps have no other origin than the engine.
  pub fn location(&self, id: &AppId, host: &Authority, path: &str) -> Option<String> {
    let at = |domain: &str, port: Option<u16>| {
      let port = port.map(|port| format!(":{port}")).unwrap_or_default();
      format!("//{}.{domain}{port}{path}", id.label())
    };
    if let Some(domain) = &self.domain {
      return Some(at(&domain.name, domain.port.or(host.port)));
    }
    if let Some(port) = self.port {
      return Some(format!("//{}:{port}/apps/{id}{path}", host.host));
    }
    host.host.is_loopback().then(|| at(LOCALHOST, host.port))
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn authority(text: &str) -> Authority {
    text.parse().expect("an authority")
  }

  fn origins(domain: Option<&str>, port: Option<u16>) -> AppOrigins {
    AppOrigins::new(domain.map(authority), port).expect("origins")
  }

  #[test]
  fn a_page_of_an_app_is_where_the_settings_say_and_below_localhost_without_any() {
    let id = AppId::new("hello").expect("an id");
    let at = |origins: &AppOrigins, host: &str| origins.location(&id, &authority(host), "/a?b");
    let none = origins(None, None);
    for (host, expected) in [
      ("localhost:8000", Some("//hello.localhost:8000/a?b")),
      ("127.0.0.1", Some("//hello.localhost/a?b")),
      ("[::1]:1", Some("//hello.localhost:1/a?b")),
      ("10.0.0.1:8000", None),
      ("engine.example", None),
    ] {
      assert_eq!(at(&none, host).as_deref(), expected, "{host}");
      assert_eq!(none.apart(&authority(host)), expected.is_some(), "{host}");
    }
    let domain = origins(Some("apps.example"), Some(9000));
    let expected = Some("//hello.apps.example:8000/a?b".to_owned());
    assert_eq!(at(&domain, "10.0.0.1:8000"), expected);
    let expected = Some("//hello.apps.example:444/a?b".to_owned());
    assert_eq!(
      at(&origins(Some("apps.example:444"), None), "engine"),
      expected
    );
    let port = origins(None, Some(9000));
    let expected = Some("//[2001:db8::1]:9000/apps/hello/a?b".to_owned());
    assert_eq!(at(&port, "[2001:db8::1]:8000"), expected);
    assert!(AppOrigins::new(Some(authority("127.0.0.1")), None).is_err());
  }

  #[test]
  fn a_host_of_one_label_below_a_domain_of_apps_is_an_apps() {
    let origins = origins(Some("apps.example"), None);
    for (host, expected) in [
      ("hello.localhost:8000", Some("hello")),
      ("Hello.Apps.Example.", Some("hello")),
      ("a.b.localhost", None),
      ("localhost", None),
      (".localhost", None),
      ("xlocalhost", None),
      ("apps.example", None),
      ("127.0.0.1", None),
    ] {
      assert_eq!(origins.label(&authority(host)), expected, "{host}");
    }
  }
}
