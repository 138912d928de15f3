//! Where an app may listen.

use std::net::IpAddr;

use kernel_protocol::HostPermissions;

/// Whether these permissions let an app listen on a port of this machine.
pub(crate) fn may_listen(permissions: &HostPermissions, port: u16) -> bool {
  let Some(net) = &permissions.net else {
    return false;
  };
  !permissions.deny_local_net && (net.is_empty() || net.iter().any(|entry| grants(entry, port)))
}

/// Whether an entry of the permission `net` names a port of this machine.
fn grants(entry: &str, port: u16) -> bool {
  let (host, granted) = match entry.rsplit_once(':') {
    Some((host, number)) if !host.contains(':') || host.ends_with(']') => {
      (host, number.parse::<u16>().ok())
    }
    _ => (entry, Some(port)),
  };
  let host = host.trim_start_matches('[').trim_end_matches(']');
  let is_here = host.eq_ignore_ascii_case("localhost")
    || host
      .parse::<IpAddr>()
      .is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
  is_here && granted == Some(port)
}

#[cfg(test)]
mod tests {
  use super::*;

  fn permissions(net: Option<&[&str]>, deny_local_net: bool) -> HostPermissions {
    HostPermissions {
      net: net.map(|net| net.iter().map(|entry| (*entry).to_owned()).collect()),
      deny_local_net,
      ..Default::default()
    }
  }

  #[test]
  fn a_port_needs_the_permission_for_it() {
    let may = |net: Option<&[&str]>, deny| may_listen(&permissions(net, deny), 3000);
    assert!(may(Some(&[]), false));
    assert!(!may(Some(&[]), true) && !may(None, false));
    for entry in [
      "127.0.0.1:3000",
      "localhost",
      "0.0.0.0:3000",
      "[::]:3000",
      "::1",
      "127.0.0.1",
    ] {
      assert!(may(Some(&["example.com", entry]), false), "{entry}");
      assert!(!may(Some(&[entry]), true), "{entry}");
    }
    for entry in [
      "127.0.0.1:3001",
      "example.com:3000",
      "[::1]:80",
      "10.0.0.1:3000",
      "3000",
    ] {
      assert!(!may(Some(&[entry]), false), "{entry}");
    }
  }
}
