//! Names of servers and origins of pages, as the operator writes them and as requests bring them.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
  pub host: Host,
  pub port: Option<u16>,
}

/// Case and a dot at the end of a name make no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
  Name(String),
  Ip(IpAddr),
}

/// Where a page comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
  pub scheme: String,
  pub authority: Authority,
}

/// It is none; what it should be is for the caller to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl FromStr for Authority {
  type Err = Malformed;

  fn from_str(text: &str) -> Result<Self, Malformed> {
    let (host, port) = match text.strip_prefix('[') {
      Some(rest) => {
        let (ip, rest) = rest.split_once(']').ok_or(Malformed)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| Malformed)?;
        let port = match rest {
          "" => None,
          rest => Some(rest.strip_prefix(':').ok_or(Malformed)?),
        };
        (Host::Ip(IpAddr::V6(ip).to_canonical()), port)
      }
      None => match text.split_once(':') {
        Some((host, port)) => (Host::plain(host)?, Some(port)),
        None => (Host::plain(text)?, None),
      },
    };
    let port = match port {
      None | Some("") => None,
      Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
        Some(port.parse().map_err(|_| Malformed)?)
      }
      Some(_) => return Err(Malformed),
    };
    Ok(Self { host, port })
  }
}

impl Host {
  /// A name or an IPv4 address.
  fn plain(text: &str) -> Result<Self, Malformed> {
    if let Ok(ip) = text.parse::<std::net::Ipv4Addr>() {
      return Ok(Self::Ip(ip.into()));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(usual) {
      return Err(Malformed);
    }
    Ok(Self::Name(name.to_ascii_lowercase()))
  }

  fn is_localhost(&self) -> bool {
    matches!(self, Self::Name(name) if name == "localhost")
  }

  /// Whether it is this machine, whoever asks.
  pub fn is_loopback(&self) -> bool {
    self.is_localhost() || matches!(self, Self::Ip(ip) if ip.is_loopback())
  }

  /// Whether it is a way to say `bound`, the address that a server listens on. No name that others give
  /// out is one: a page could have it lead to this machine.
  pub fn means(&self, bound: IpAddr) -> bool {
    match self {
      Self::Name(_) => self.is_localhost(),
      Self::Ip(ip) => {
        *ip == bound.to_canonical()
          || bound.is_unspecified()
          || (bound.is_loopback() && ip.is_loopback())
      }
    }
  }
}

impl fmt::Display for Host {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match self {
      Self::Name(name) => f.write_str(name),
      Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
      Self::Ip(ip) => write!(f, "{ip}"),
    }
  }
}

impl fmt::Display for Authority {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match self.port {
      Some(port) => write!(f, "{}:{port}", self.host),
      None => write!(f, "{}", self.host),
    }
  }
}

impl FromStr for Origin {
  type Err = Malformed;

  fn from_str(text: &str) -> Result<Self, Malformed> {
    let (scheme, rest) = text.split_once("://").ok_or(Malformed)?;
    let usual = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(usual) {
      return Err(Malformed);
    }
    let scheme = scheme.to_ascii_lowercase();
    let mut authority: Authority = rest.parse()?;
    if authority.port == default_port(&scheme) {
      authority.port = None;
    }
    Ok(Self { scheme, authority })
  }
}

impl fmt::Display for Origin {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}://{}", self.scheme, self.authority)
  }
}

impl Origin {
  /// Whether it is that of pages which came from a server that is asked for as `host`. Whether TLS was
  /// spoken before the request came here is not known.
  pub fn is_of(&self, host: &Authority) -> bool {
    let Some(default) = default_port(&self.scheme) else {
      return false;
    };
    let port = |authority: &Authority| authority.port.unwrap_or(default);
    self.authority.host == host.host && port(&self.authority) == port(host)
  }
}

fn default_port(scheme: &str) -> Option<u16> {
  match scheme {
    "http" => Some(80),
    "https" => Some(443),
    _ => None,
  }
}

/// Names that a server goes by, from a comma list; one without a port goes with every port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Authority>);

impl Hosts {
  pub fn is_empty(&self) -> bool {
    self.0.is_empty()
  }

  pub fn has(&self, asked: &Authority) -> bool {
    self.0.iter().any(|known| {
      known.host == asked.host
        && match (known.port, asked.port) {
          (None, _) => true,
          // The client left out that of http or https.
          (Some(80 | 443), None) => true,
          (known, asked) => known == asked,
        }
    })
  }
}

impl FromStr for Hosts {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    list(text, |item| match item.parse::<Ipv6Addr>() {
      Ok(ip) => Ok(Authority {
        host: Host::Ip(IpAddr::V6(ip).to_canonical()),
        port: None,
      }),
      Err(_) => item
        .parse()
        .map_err(|Malformed| format!("`{item}` is neither a host nor host:port")),
    })
    .map(Self)
  }
}

/// Origins whose pages may use a server, from a comma list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

impl Origins {
  pub fn has(&self, origin: &Origin) -> bool {
    self.0.contains(origin)
  }

  pub fn iter(&self) -> impl Iterator<Item = &Origin> {
    self.0.iter()
  }
}

impl FromStr for Origins {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    list(text, |item| {
      item.parse().map_err(|Malformed| {
        format!(
          "`{item}` is not an origin: write scheme://host or scheme://host:port, without a path"
        )
      })
    })
    .map(Self)
  }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
  let items = text.split(',').map(str::trim);
  items.filter(|item| !item.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
  use super::*;

  fn authority(text: &str) -> Authority {
    text.parse().unwrap_or_else(|Malformed| panic!("{text}"))
  }

  #[test]
  fn hosts_are_compared_without_case_and_the_dot_at_the_end() {
    assert_eq!(authority("LocalHost.:80"), authority("localhost:80"));
    assert_eq!(authority("[::FFFF:127.0.0.1]"), authority("127.0.0.1"));
    assert_eq!(authority("a:"), authority("a"));
    for wrong in [
      "", ".", "a b", "a@b", "a/b", "a:b", "a:70000", "a:+1", "::1", "[::1", "[::1]x", "[a]",
      "a:1:2", "é",
    ] {
      assert_eq!(wrong.parse::<Authority>(), Err(Malformed), "{wrong}");
    }
  }

  #[test]
  fn an_address_goes_by_localhost_and_by_itself() {
    let means = |host: &str, bound: &str| {
      let bound = bound.parse().expect("an address");
      authority(host).host.means(bound)
    };
    for host in ["localhost", "127.0.0.1", "127.0.0.2", "[::1]"] {
      assert!(means(host, "127.0.0.1"), "{host}");
    }
    for host in [
      "10.0.0.1",
      "a.localhost",
      "rebind.test",
      "[2001:db8::1]",
      "127.1",
    ] {
      assert!(!means(host, "127.0.0.1"), "{host}");
    }
    assert!(means("10.0.0.1", "0.0.0.0") && means("[2001:db8::1]", "::"));
    assert!(!means("rebind.test", "0.0.0.0"));
    assert!(means("10.0.0.1", "10.0.0.1") && !means("10.0.0.2", "10.0.0.1"));
  }

  #[test]
  fn an_origin_is_ones_own_with_the_same_host_and_port() {
    let own = |origin: &str, host: &str| {
      let origin: Origin = origin.parse().expect("an origin");
      origin.is_of(&authority(host))
    };
    assert!(own("http://localhost:8000", "localhost:8000"));
    assert!(own("https://Engine.Example", "engine.example"));
    assert!(own("https://engine.example", "engine.example:443"));
    assert!(own("http://engine.example:80", "engine.example"));
    assert!(!own("http://localhost:8001", "localhost:8000"));
    assert!(!own("http://127.0.0.1:8000", "localhost:8000"));
    assert!(!own("https://engine.example", "engine.example:80"));
    assert!(!own("chrome-extension://engine.example", "engine.example"));
  }

  #[test]
  fn lists_name_the_entry_that_is_wrong() {
    let hosts: Hosts = " Engine.example , other:9000,::1,".parse().expect("three");
    assert!(hosts.has(&authority("engine.example:1")) && hosts.has(&authority("[::1]:5")));
    assert!(hosts.has(&authority("other:9000")) && !hosts.has(&authority("other")));
    let secure: Hosts = "engine.example:443".parse().expect("one");
    assert!(secure.has(&authority("engine.example")));
    assert!("".parse::<Hosts>().expect("none").is_empty());
    let error = "fine, http://not".parse::<Hosts>().expect_err("an origin");
    assert!(error.contains("`http://not`"), "{error}");
    let origins: Origins = "https://a.example:443".parse().expect("one");
    assert!(origins.has(&"https://A.example".parse().expect("an origin")));
    for wrong in [
      "*",
      "null",
      "a.example",
      "https://a.example/",
      "https://a/b",
      "1a://b",
    ] {
      let error = wrong.parse::<Origins>().expect_err("none");
      assert!(error.contains(&format!("`{wrong}`")), "{error}");
    }
  }
}
