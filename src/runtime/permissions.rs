//! From the merged permission lists of a kernel to Deno's own container.

use std::sync::Arc;

use deno_runtime::deno_permissions::PermissionDescriptorParser;
use deno_runtime::deno_permissions::Permissions;
use deno_runtime::deno_permissions::PermissionsContainer;
use deno_runtime::deno_permissions::PermissionsOptions;
use deno_runtime::permissions::RuntimePermissionDescriptorParser;
use sys_traits::impls::RealSys;

use crate::protocol::HostPermissions;

fn parser() -> Arc<dyn PermissionDescriptorParser> {
  Arc::new(RuntimePermissionDescriptorParser::new(RealSys))
}

/// What a blank runtime may do: nothing.
pub fn none() -> PermissionsContainer {
  PermissionsContainer::new(parser(), Permissions::none_without_prompt())
}

/// # Errors
/// When an entry is not what its list takes; the message names it.
pub fn container(permissions: &HostPermissions) -> Result<PermissionsContainer, String> {
  let parser = parser();
  let p = permissions.clone();
  let options = PermissionsOptions {
    allow_read: p.read,
    allow_write: p.write,
    allow_net: p.net,
    deny_net: (!p.deny_net.is_empty()).then_some(p.deny_net),
    allow_env: p.env,
    allow_run: p.run,
    allow_ffi: p.ffi,
    allow_sys: p.sys,
    allow_import: p.import,
    prompt: false,
    ..Default::default()
  };
  let permissions =
    Permissions::from_options(&*parser, &options).map_err(|e| format!("permissions: {e}"))?;
  Ok(PermissionsContainer::new(parser, permissions))
}
