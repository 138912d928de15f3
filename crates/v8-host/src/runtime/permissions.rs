//! From the merged permission lists of a kernel to Deno's own container.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use deno_runtime::deno_permissions::AllowRunDescriptorParseResult;
use deno_runtime::deno_permissions::DenyRunDescriptor;
use deno_runtime::deno_permissions::EnvDescriptor;
use deno_runtime::deno_permissions::EnvDescriptorParseError;
use deno_runtime::deno_permissions::FfiDescriptor;
use deno_runtime::deno_permissions::Host;
use deno_runtime::deno_permissions::ImportDescriptor;
use deno_runtime::deno_permissions::NetDescriptor;
use deno_runtime::deno_permissions::NetDescriptorParseError;
use deno_runtime::deno_permissions::PathDescriptor;
use deno_runtime::deno_permissions::PathQueryDescriptor;
use deno_runtime::deno_permissions::PathResolveError;
use deno_runtime::deno_permissions::PermissionDescriptorParser;
use deno_runtime::deno_permissions::Permissions;
use deno_runtime::deno_permissions::PermissionsContainer;
use deno_runtime::deno_permissions::PermissionsOptions;
use deno_runtime::deno_permissions::ReadDescriptor;
use deno_runtime::deno_permissions::RunDescriptorParseError;
use deno_runtime::deno_permissions::RunQueryDescriptor;
use deno_runtime::deno_permissions::SpecialFilePathQueryDescriptor;
use deno_runtime::deno_permissions::SysDescriptor;
use deno_runtime::deno_permissions::SysDescriptorParseError;
use deno_runtime::deno_permissions::WriteDescriptor;
use deno_runtime::permissions::RuntimePermissionDescriptorParser;
use fqdn::FQDN;
use kernel_protocol::HostPermissions;
use outbound::network::LOOPBACK;
use outbound::network::NOT_PUBLIC;
use outbound::network::own_addresses;

use crate::runtime::sys::KernelSys;

fn parser(sys: KernelSys) -> Arc<dyn PermissionDescriptorParser> {
  Arc::new(Parser {
    deno: RuntimePermissionDescriptorParser::new(sys.clone()),
    sys,
  })
}

/// What a blank runtime may do: nothing.
pub(super) fn none(sys: KernelSys) -> PermissionsContainer {
  PermissionsContainer::new(parser(sys), Permissions::none_without_prompt())
}

/// Deno's own parser, but for paths in mounts: those are known by names that the host cannot have.
#[derive(Debug)]
struct Parser {
  deno: RuntimePermissionDescriptorParser<KernelSys>,
  sys: KernelSys,
}

impl Parser {
  fn path(&self, text: &str) -> Result<PathDescriptor, PathResolveError> {
    let query = self.parse_path_query(Cow::Borrowed(Path::new(text)))?;
    Ok(query.into_descriptor())
  }
}

impl PermissionDescriptorParser for Parser {
  fn parse_read_descriptor(&self, text: &str) -> Result<ReadDescriptor, PathResolveError> {
    self.path(text).map(ReadDescriptor)
  }

  fn parse_write_descriptor(&self, text: &str) -> Result<WriteDescriptor, PathResolveError> {
    self.path(text).map(WriteDescriptor)
  }

  fn parse_net_descriptor(&self, text: &str) -> Result<NetDescriptor, NetDescriptorParseError> {
    self.deno.parse_net_descriptor(text)
  }

  fn parse_import_descriptor(
    &self,
    text: &str,
  ) -> Result<ImportDescriptor, NetDescriptorParseError> {
    self.deno.parse_import_descriptor(text)
  }

  fn parse_env_descriptor(&self, text: &str) -> Result<EnvDescriptor, EnvDescriptorParseError> {
    self.deno.parse_env_descriptor(text)
  }

  fn parse_sys_descriptor(&self, text: &str) -> Result<SysDescriptor, SysDescriptorParseError> {
    self.deno.parse_sys_descriptor(text)
  }

  fn parse_allow_run_descriptor(
    &self,
    text: &str,
  ) -> Result<AllowRunDescriptorParseResult, RunDescriptorParseError> {
    self.deno.parse_allow_run_descriptor(text)
  }

  fn parse_deny_run_descriptor(&self, text: &str) -> Result<DenyRunDescriptor, PathResolveError> {
    self.deno.parse_deny_run_descriptor(text)
  }

  fn parse_ffi_descriptor(&self, text: &str) -> Result<FfiDescriptor, PathResolveError> {
    self.path(text).map(FfiDescriptor)
  }

  fn parse_path_query<'a>(
    &self,
    path: Cow<'a, Path>,
  ) -> Result<PathQueryDescriptor<'a>, PathResolveError> {
    match self.sys.fs.checked_path(&path) {
      Some(checked) => {
        let shown = path.to_string_lossy().into_owned();
        Ok(PathQueryDescriptor::new_known_absolute(Cow::Owned(checked)).with_requested(shown))
      }
      None => self.deno.parse_path_query(path),
    }
  }

  fn parse_special_file_descriptor<'a>(
    &self,
    path: PathQueryDescriptor<'a>,
  ) -> Result<SpecialFilePathQueryDescriptor<'a>, PathResolveError> {
    self.deno.parse_special_file_descriptor(path)
  }

  fn parse_net_query(&self, text: &str) -> Result<NetDescriptor, NetDescriptorParseError> {
    self.deno.parse_net_query(text)
  }

  fn parse_run_query<'a>(
    &self,
    requested: &'a str,
  ) -> Result<RunQueryDescriptor<'a>, RunDescriptorParseError> {
    self.deno.parse_run_query(requested)
  }
}

/// [`NOT_PUBLIC`], and what leads to this machine by another name or address, except the one address
/// that is the app's own.
fn local_networks(except: Option<Ipv4Addr>) -> Vec<NetDescriptor> {
  let loopback = match except {
    None => vec![LOOPBACK.to_owned()],
    Some(own) => loopback_without(own),
  };
  let ranges = NOT_PUBLIC.iter().map(|range| (*range).to_owned());
  let ranges = ranges
    .chain(loopback)
    .filter_map(|range| range.parse().ok());
  let ranges = ranges.map(Host::IpSubnet);
  let own = own_addresses().into_iter().map(Host::Ip);
  let mut networks: Vec<_> = ranges
    .chain(own)
    .map(|host| NetDescriptor(host, None))
    .collect();
  networks.extend(NetDescriptor::parse_for_list("localhost"));
  networks
}

/// The loopback network but one address: at each length of the prefix the half that it is not in.
fn loopback_without(own: Ipv4Addr) -> Vec<String> {
  (9..=32_u32)
    .map(|length| {
      let flipped = own.to_bits() ^ (1 << (32 - length));
      let network = flipped & (u32::MAX << (32 - length));
      format!("{}/{length}", Ipv4Addr::from_bits(network))
    })
    .collect()
}

/// Every host by name or address. Deno's own "everything" is more: the sockets of this machine without
/// an address (abstract Unix sockets, vsock), which no list of files or networks covers.
fn every_host() -> Vec<NetDescriptor> {
  let names = Host::FqdnWithSubdomainWildcard(FQDN::default());
  // Of entries that match, the one that comes first in their order decides: what is denied shall.
  let ranges = [
    "255.255.255.255/0",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/0",
  ];
  let addresses = ranges.iter().filter_map(|range| range.parse().ok());
  std::iter::once(names)
    .chain(addresses.map(Host::IpSubnet))
    .map(|host| NetDescriptor(host, None))
    .collect()
}

/// Whether a listed host is in what is denied, in whole or in part: what is listed comes before that.
fn is_denied(host: &Host, denied: &[NetDescriptor]) -> bool {
  denied
    .iter()
    .any(|NetDescriptor(other, _)| match (host, other) {
      (Host::Ip(ip), Host::IpSubnet(net)) | (Host::IpSubnet(net), Host::Ip(ip)) => net.contains(ip),
      (Host::IpSubnet(a), Host::IpSubnet(b)) => {
        a.contains(&b.network()) || b.contains(&a.network())
      }
      (host, other) => host == other,
    })
}

/// Hosts that are permitted; an empty list is everything.
struct Hosts<'a> {
  listed: Option<&'a [String]>,
  own: Option<Ipv4Addr>,
  deny_local: bool,
}

/// `None` for nothing.
type Listed = Option<Vec<NetDescriptor>>;

impl Hosts<'_> {
  /// What is allowed and what is denied. `permission` is for the message.
  fn resolve(&self, permission: &str) -> Result<(Listed, Listed), String> {
    let denied = self.deny_local.then(|| local_networks(self.own));
    let listed = self.listed.unwrap_or_default();
    let listed = listed
      .iter()
      .map(|host| NetDescriptor::parse_for_list(host));
    let mut allowed = listed
      .collect::<Result<Vec<_>, _>>()
      .map_err(|e| format!("permissions.{permission}: {e}"))?;
    if self.listed.is_some_and(<[String]>::is_empty) {
      allowed = every_host();
    } else if let Some(denied) = &denied {
      allowed.retain(|listed| !is_denied(&listed.0, denied));
    }
    allowed.extend(
      self
        .own
        .map(|own| NetDescriptor(Host::Ip(own.into()), None)),
    );
    Ok(((!allowed.is_empty()).then_some(allowed), denied))
  }
}

/// # Errors
/// When an entry is not what its list takes; the message names it.
pub(super) fn container(
  sys: KernelSys,
  permissions: &HostPermissions,
) -> Result<PermissionsContainer, String> {
  let parser = parser(sys);
  let p = permissions.clone();
  let options = PermissionsOptions {
    allow_read: p.read,
    allow_write: p.write,
    allow_env: p.env,
    allow_run: p.run,
    allow_ffi: p.ffi,
    allow_sys: p.sys,
    allow_import: p.import,
    prompt: false,
    ..Default::default()
  };
  let mut permissions =
    Permissions::from_options(&*parser, &options).map_err(|e| format!("permissions: {e}"))?;
  let hosts = Hosts {
    listed: p.net.as_deref(),
    own: p.own_address,
    deny_local: p.deny_local_net,
  };
  if hosts.listed.is_some() || hosts.own.is_some() {
    let (allowed, denied) = hosts.resolve("net")?;
    permissions.net = Permissions::new_unary(allowed, denied, false);
  }
  if p.deny_local_import && options.allow_import.is_some() {
    let hosts = Hosts {
      listed: options.allow_import.as_deref(),
      own: None,
      deny_local: true,
    };
    let (allowed, denied) = hosts.resolve("import")?;
    let import =
      |hosts: Vec<NetDescriptor>| hosts.into_iter().map(NetDescriptor::into_import).collect();
    permissions.import = Permissions::new_unary(allowed.map(import), denied.map(import), false);
  }
  Ok(PermissionsContainer::new(parser, permissions))
}

#[cfg(test)]
mod tests {
  use super::*;

  fn net(deny_local_net: bool) -> PermissionsContainer {
    with_own_address(Some(Vec::new()), deny_local_net, None)
  }

  fn with_own_address(
    net: Option<Vec<String>>,
    deny_local_net: bool,
    own_address: Option<Ipv4Addr>,
  ) -> PermissionsContainer {
    let sys = KernelSys {
      fs: Arc::default(),
      env: crate::runtime::extension::KernelEnv::new(kernel_host::sink::ProcessOwner::Kernel),
    };
    let permissions = HostPermissions {
      net,
      deny_local_net,
      own_address,
      ..Default::default()
    };
    container(sys, &permissions).expect("valid")
  }

  #[test]
  fn every_range_is_understood() {
    let own = own_addresses().len();
    assert!(own > 0);
    assert_eq!(local_networks(None).len(), NOT_PUBLIC.len() + own + 2);
    let address = Ipv4Addr::new(127, 77, 1, 2);
    assert_eq!(
      local_networks(Some(address)).len(),
      NOT_PUBLIC.len() + own + 1 + 24
    );
    assert_eq!(every_host().len(), 3);
  }

  #[test]
  fn the_public_network_is_that_and_nothing_more() {
    let mut public = net(true);
    let mut may = |host: &str| public.check_net(&(host, Some(80)), "test").is_ok();
    for host in [
      "example.com",
      "deep.sub.example.org",
      "host",
      "93.184.216.34",
      "2606:4700::1111",
    ] {
      assert!(may(host), "{host}");
    }
    let own = own_addresses()
      .into_iter()
      .map(|address| address.to_string());
    let closed = [
      "localhost",
      "127.0.0.1",
      "10.0.0.1",
      "192.0.0.8",
      "198.18.0.1",
      "224.0.0.1",
      "255.255.255.255",
      "::1",
      "::ffff:127.0.0.1",
      "64:ff9b:1::7f00:1",
      "2002:7f00:1::",
      "fec0::1",
      "ff02::1",
    ];
    for host in own.chain(closed.map(str::to_owned)) {
      assert!(!may(&host), "{host}");
    }
  }

  #[test]
  fn an_app_reaches_its_own_address_and_no_other_of_this_machine() {
    let own = Ipv4Addr::new(127, 77, 1, 2);
    for net in [Some(Vec::new()), Some(vec!["example.com".to_owned()]), None] {
      let mut container = with_own_address(net, true, Some(own));
      let mut may = |host: &str| container.check_net(&(host, Some(80)), "test").is_ok();
      assert!(may("127.77.1.2"));
      for other in [
        "127.77.1.3",
        "127.77.0.2",
        "127.0.0.1",
        "127.255.255.255",
        "10.0.0.1",
      ] {
        assert!(!may(other), "{other}");
      }
    }
  }

  #[test]
  fn what_is_denied_is_so_even_where_it_is_listed() {
    for listed in [
      "127.0.0.1",
      "127.0.0.1:80",
      "10.0.0.0/9",
      "0.0.0.0/0",
      "localhost:80",
      "::1",
    ] {
      let listed = if listed == "::1" { "[::1]" } else { listed };
      let net = Some(vec![listed.to_owned(), "example.com".to_owned()]);
      let mut container = with_own_address(net, true, None);
      for host in ["127.0.0.1", "10.0.0.1", "localhost", "::1"] {
        assert!(
          container.check_net(&(host, Some(80)), "test").is_err(),
          "{listed} {host}"
        );
      }
      assert!(
        container
          .check_net(&("example.com", Some(80)), "test")
          .is_ok()
      );
    }
    let mut nothing = with_own_address(Some(vec!["127.0.0.1".to_owned()]), true, None);
    assert!(
      nothing
        .check_net(&("example.com", Some(80)), "test")
        .is_err()
    );
  }

  #[test]
  fn no_everything_reaches_sockets_without_an_address() {
    for mut container in [net(true), net(false)] {
      assert!(container.check_net_vsock(2, 1024, "test").is_err());
      let names = ["\0abstract", "/run/docker.sock"].map(Path::new);
      for name in names {
        assert!(container.check_net_unix_socket(name, None).is_err());
      }
    }
    assert!(
      net(false)
        .check_net(&("127.0.0.1", Some(80)), "test")
        .is_ok()
    );
  }
}
