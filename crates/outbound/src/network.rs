//! The public network: which addresses belong to it, and how to reach nothing else.

use std::error::Error;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::LazyLock;

use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use url::Host;
use url::Url;

/// What is not the public internet: private and link-local networks, and what is reserved, translated
/// to one of these or to many hosts at once (RFC 6890 and the registries it began; RFC 6052, 8215,
/// 3056, 3879, 1112). The loopback network of IPv4 is [`LOOPBACK`].
pub const NOT_PUBLIC: &[&str] = &[
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/4",
  "240.0.0.0/4",
  // The unspecified and the loopback address, and IPv4 addresses in IPv6 ones.
  "::/96",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "2002::/16",
  "fc00::/7",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
];

/// The addresses of this machine that only this machine reaches, of IPv4.
pub const LOOPBACK: &str = "127.0.0.0/8";

static CLOSED: LazyLock<Vec<Range>> = LazyLock::new(|| {
  let ranges = NOT_PUBLIC.iter().chain([&LOOPBACK]);
  ranges.filter_map(|range| Range::parse(range)).collect()
});

/// Addresses that begin alike.
struct Range {
  start: IpAddr,
  prefix: u32,
}

impl Range {
  fn parse(text: &str) -> Option<Self> {
    let (start, prefix) = text.split_once('/')?;
    Some(Self {
      start: start.parse().ok()?,
      prefix: prefix.parse().ok()?,
    })
  }

  fn has(&self, address: IpAddr) -> bool {
    let differing = match (self.start, address) {
      (IpAddr::V4(start), IpAddr::V4(other)) => (start.to_bits() ^ other.to_bits()).leading_zeros(),
      (IpAddr::V6(start), IpAddr::V6(other)) => (start.to_bits() ^ other.to_bits()).leading_zeros(),
      _ => return false,
    };
    differing >= self.prefix
  }
}

/// Addresses of this machine's own interfaces, as they are now.
pub fn own_addresses() -> Vec<IpAddr> {
  match netif::up() {
    Ok(interfaces) => interfaces.map(|interface| *interface.address()).collect(),
    Err(_) => Vec::new(),
  }
}

/// Whether an address is on the public network: none of this machine's own, and in no closed range.
pub fn is_public(address: IpAddr) -> bool {
  let address = address.to_canonical();
  !CLOSED.iter().any(|range| range.has(address)) && !own_addresses().contains(&address)
}

/// A host that is not on the public network. The message has no address: what a name leads to
/// inside is nothing that others learn here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPublic {
  pub host: String,
}

impl std::fmt::Display for NotPublic {
  fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    write!(
      f,
      "`{}` is not on the public network: it leads to this machine or to a private or reserved address",
      self.host
    )
  }
}

impl Error for NotPublic {}

/// Refuses a URL that names an address which is not public. No resolver sees such a host; a name
/// passes, and is judged once it is resolved.
///
/// # Errors
/// When it does.
pub fn check_literal(url: &Url) -> Result<(), NotPublic> {
  let address = match url.host() {
    Some(Host::Ipv4(address)) => IpAddr::V4(address),
    Some(Host::Ipv6(address)) => IpAddr::V6(address),
    Some(Host::Domain(_)) | None => return Ok(()),
  };
  if is_public(address) {
    return Ok(());
  }
  Err(NotPublic {
    host: address.to_string(),
  })
}

/// Why a request failed, if its host is not on the public network.
pub fn not_public(error: &reqwest::Error) -> Option<&NotPublic> {
  let mut cause: &dyn Error = error;
  loop {
    if let Some(found) = cause.downcast_ref() {
      return Some(found);
    }
    cause = cause.source()?;
  }
}

/// Resolves names to public addresses only. A connection is made to what this returns and to nothing
/// else, so a name cannot lead elsewhere between the check and the connection.
pub(crate) struct PublicResolver;

impl Resolve for PublicResolver {
  fn resolve(&self, name: Name) -> Resolving {
    Box::pin(async move {
      let host = name.as_str().to_owned();
      // The port is the connector's to say.
      let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
      let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
      if public.is_empty() {
        return Err(NotPublic { host }.into());
      }
      Ok(Box::new(public.into_iter()) as Addrs)
    })
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn public(text: &str) -> bool {
    is_public(text.parse().expect("an address"))
  }

  #[test]
  fn every_range_is_understood() {
    assert_eq!(CLOSED.len(), NOT_PUBLIC.len() + 1);
  }

  #[test]
  fn the_public_network_is_that_and_nothing_more() {
    for address in [
      "93.184.216.34",
      "1.1.1.1",
      "11.0.0.1",
      "172.32.0.1",
      "126.255.255.255",
      "128.0.0.1",
      "2606:4700::1111",
      "::ffff:1.1.1.1",
    ] {
      assert!(public(address), "{address}");
    }
    for address in [
      "0.0.0.0",
      "10.1.2.3",
      "100.64.0.1",
      "127.0.0.1",
      "127.255.255.255",
      "169.254.169.254",
      "172.16.0.1",
      "172.31.255.255",
      "192.168.1.1",
      "224.0.0.1",
      "255.255.255.255",
      "::",
      "::1",
      "::ffff:127.0.0.1",
      "::ffff:169.254.169.254",
      "64:ff9b::7f00:1",
      "2002:7f00:1::",
      "fd00::1",
      "fe80::1",
      "ff02::1",
    ] {
      assert!(!public(address), "{address}");
    }
  }

  #[test]
  fn no_address_of_this_machine_is_public() {
    let own = own_addresses();
    assert!(!own.is_empty());
    for address in own {
      assert!(!is_public(address), "{address}");
    }
  }

  #[test]
  fn a_host_that_is_an_address_is_judged_however_it_is_written() {
    let checked = |url: &str| check_literal(&Url::parse(url).expect("a URL"));
    for url in [
      "http://127.0.0.1/",
      "http://127.1:8080/",
      "http://2130706433/",
      "http://0x7f.0.0.1/",
      "http://0177.0.0.1./",
      "https://[::1]/",
      "https://[::ffff:a9fe:a9fe]/",
      "http://user:word@10.0.0.1/",
    ] {
      let refused = checked(url).expect_err(url).to_string();
      assert!(
        refused.contains("not on the public network") && !refused.contains("word"),
        "{refused}"
      );
    }
    for url in [
      "http://1.1.1.1/",
      "http://localhost/",
      "http://example.com/",
    ] {
      assert_eq!(checked(url), Ok(()), "{url}");
    }
  }

  #[tokio::test]
  async fn a_name_of_this_machine_resolves_to_nothing() {
    let name = "localhost".parse().expect("a name");
    let refused = PublicResolver.resolve(name).await.err().expect("refused");
    let refused: &NotPublic = refused.downcast_ref().expect("told apart");
    assert_eq!(refused.host, "localhost");
  }
}
