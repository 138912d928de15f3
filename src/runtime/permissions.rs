//! From the merged permission lists of a kernel to Deno's own container.

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
fn local_networks() -> Vec<NetDescriptor> {
  const RANGES: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::/128",
    "::1/128",
    "64:ff9b::/96",
    "fc00::/7",
    "fe80::/10",
  ];
  let ranges = RANGES
    .iter()
    .filter_map(|range| range.parse().ok().map(Host::IpSubnet));
  let mut networks: Vec<_> = ranges.map(|range| NetDescriptor(range, None)).collect();
  networks.extend(NetDescriptor::parse_for_list("localhost"));
  networks
}

/// # Errors
/// When an entry is not what its list takes; the message names it.
pub fn container(
  sys: KernelSys,
  permissions: &HostPermissions,
) -> Result<PermissionsContainer, String> {
  let parser = parser(sys);
  let p = permissions.clone();
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
    permissions.net = Permissions::new_unary(Some(allowed), Some(local_networks()), false);
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
    let denied = local_networks().into_iter().map(NetDescriptor::into_import);
    permissions.import = Permissions::new_unary(Some(allowed), Some(denied.collect()), false);
  }
  Ok(PermissionsContainer::new(parser, permissions))
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn every_local_range_is_understood() {
    assert_eq!(local_networks().len(), 13);
  }
}
