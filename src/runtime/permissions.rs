//! From the merged permission lists of a kernel to Deno's own container.

use std::net::Ipv4Addr;
use std::sync::Arc;

use deno_runtime::deno_permissions::Host;
use deno_runtime::deno_permissions::ImportDescriptor;
use deno_runtime::deno_permissions::NetDescriptor;
use deno_runtime::deno_permissions::PermissionDescriptorParser;
use deno_runtime::deno_permissions::Permissions;
use deno_runtime::deno_permissions::PermissionsContainer;
use deno_runtime::deno_permissions::PermissionsOptions;
use deno_runtime::permissions::RuntimePermissionDescriptorParser;

use super::sys::KernelSys;
use crate::protocol::HostPermissions;

fn parser(sys: KernelSys) -> Arc<dyn PermissionDescriptorParser> {
  Arc::new(RuntimePermissionDescriptorParser::new(sys))
}

/// What a blank runtime may do: nothing.
pub fn none(sys: KernelSys) -> PermissionsContainer {
  PermissionsContainer::new(parser(sys), Permissions::none_without_prompt())
}

/// This machine, private and link-local ranges (RFC 1122, 1918, 3927, 4193, 4291, 6052, 6598).
/// Deno's textual descriptors cannot name an IPv6 range, so these are built here.
fn local_networks(except: Option<Ipv4Addr>) -> Vec<NetDescriptor> {
  const RANGES: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::/128",
    "::1/128",
    "64:ff9b::/96",
    "fc00::/7",
    "fe80::/10",
  ];
  let loopback = match except {
    None => vec!["127.0.0.0/8".to_owned()],
    Some(own) => loopback_without(own),
  };
  let ranges = RANGES
    .iter()
    .map(|range| (*range).to_owned())
    .chain(loopback)
    .filter_map(|range| range.parse().ok().map(Host::IpSubnet));
  let mut networks: Vec<_> = ranges.map(|range| NetDescriptor(range, None)).collect();
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

/// # Errors
/// When an entry is not what its list takes; the message names it.
pub fn container(
  sys: KernelSys,
  permissions: &HostPermissions,
) -> Result<PermissionsContainer, String> {
  let parser = parser(sys);
  let mut p = permissions.clone();
  let own = p.own_address.map(|address| address.to_string());
  match (&mut p.net, own) {
    (Some(allowed), Some(own)) if !allowed.is_empty() => allowed.push(own),
    (net @ None, Some(own)) => *net = Some(vec![own]),
    _ => {}
  }
  let options = PermissionsOptions {
    allow_read: p.read,
    allow_write: p.write,
    allow_net: p.net,
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
  if p.deny_local_net
    && let Some(allowed) = &options.allow_net
  {
    let allowed = allowed
      .iter()
      .map(|host| NetDescriptor::parse_for_list(host));
    let allowed = allowed
      .collect::<Result<Vec<_>, _>>()
      .map_err(|e| format!("permissions.net: {e}"))?;
    let denied = local_networks(p.own_address);
    permissions.net = Permissions::new_unary(Some(allowed), Some(denied), false);
  }
  if p.deny_local_import
    && let Some(allowed) = &options.allow_import
  {
    let allowed = allowed
      .iter()
      .map(|host| ImportDescriptor::parse_for_list(host));
    let allowed = allowed
      .collect::<Result<Vec<_>, _>>()
      .map_err(|e| format!("permissions.import: {e}"))?;
    let denied = local_networks(None)
      .into_iter()
      .map(NetDescriptor::into_import);
    permissions.import = Permissions::new_unary(Some(allowed), Some(denied.collect()), false);
  }
  Ok(PermissionsContainer::new(parser, permissions))
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn every_local_range_is_understood() {
    assert_eq!(local_networks(None).len(), 13);
    let own = Ipv4Addr::new(127, 77, 1, 2);
    assert_eq!(local_networks(Some(own)).len(), 12 + 24);
  }

  #[test]
  fn an_app_reaches_its_own_address_and_no_other_of_this_machine() {
    let sys = KernelSys {
      fs: Arc::default(),
      env: crate::runtime::extension::KernelEnv::new(kernel_host::sink::ProcessOwner::Kernel),
    };
    let own = Ipv4Addr::new(127, 77, 1, 2);
    let permissions = HostPermissions {
      net: Some(Vec::new()),
      deny_local_net: true,
      own_address: Some(own),
      ..Default::default()
    };
    let mut container = container(sys, &permissions).expect("valid");
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
