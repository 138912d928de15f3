//! Finds where an app listens, in `/proc`. What the app says is a claim, and it must not choose where the
//! engine connects to.

#![expect(clippy::disallowed_methods, reason = "files of /proc wait for no disk")]

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::PidfdGetfdFlags;

/// A listening socket, and a process that has it open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
  /// Address to connect to, from this machine.
  pub address: SocketAddr,
  pub pid: u32,
  /// Its descriptor in that process.
  pub fd: i32,
  inode: u64,
}

impl Listener {
  fn new(ip: IpAddr, port: u16, (pid, fd): (u32, i32), inode: u64) -> Self {
    let ip = match ip {
      IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
      IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
      ip => ip,
    };
    Self {
      address: SocketAddr::new(ip, port),
      pid,
      fd,
      inode,
    }
  }

  /// Of several the one with the lowest is meant.
  fn rank(&self) -> (bool, bool) {
    let ip = self.address.ip();
    (!ip.is_loopback(), ip.is_ipv6())
  }

  /// Whether that process still has it open.
  pub fn is_open(&self) -> bool {
    inode(Path::new(&format!("/proc/{}/fd/{}", self.pid, self.fd))) == Some(self.inode)
  }
}

/// Finds the socket on which a process or one of its descendants listens on this port.
pub fn listening(pid: u32, port: u16) -> Option<Listener> {
  // Mostly it is the process itself; the system's tables take it milliseconds to write.
  match asked(&[pid], port) {
    Ok(None) => asked(&family_of(pid), port).unwrap_or_else(|_| looked_up(pid, port)),
    Ok(found) => found,
    Err(_) => looked_up(pid, port),
  }
}

/// Asks the sockets of these processes where they listen.
///
/// # Errors
/// When the system does not hand them out: that takes the right to trace the process.
fn asked(processes: &[u32], port: u16) -> io::Result<Option<Listener>> {
  let mut found = Vec::new();
  for (inode, (pid, fd)) in sockets_of(processes) {
    let process = Pid::from_raw(pid.cast_signed()).ok_or(Errno::SRCH)?;
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    let socket = match rustix::process::pidfd_getfd(process, fd, PidfdGetfdFlags::empty()) {
      // It was closed meanwhile.
      Err(Errno::BADF) => continue,
      socket => socket?,
    };
    let is_listener = rustix::net::sockopt::socket_acceptconn(&socket)?;
    let address = rustix::net::getsockname(&socket)?;
    if let Ok(address) = SocketAddr::try_from(address)
      && is_listener
      && address.port() == port
    {
      found.push(Listener::new(
        address.ip().to_canonical(),
        port,
        (pid, fd),
        inode,
      ));
    }
  }
  Ok(found.into_iter().min_by_key(Listener::rank))
}

/// The same, from the tables of the system.
fn looked_up(pid: u32, port: u16) -> Option<Listener> {
  let candidates = listeners(pid, port);
  if candidates.is_empty() {
    return None;
  }
  let owned = sockets_of(&family_of(pid));
  let found = candidates
    .into_iter()
    .filter_map(|(ip, inode)| Some(Listener::new(ip, port, *owned.get(&inode)?, inode)));
  found.min_by_key(Listener::rank)
}

/// The addresses with a listener on this port, in the network namespace of the process, each with the
/// inode of its socket.
fn listeners(pid: u32, port: u16) -> Vec<(IpAddr, u64)> {
  let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}"));
  let tables = ["tcp", "tcp6"].map(|name| table(name).unwrap_or_default());
  let lines = tables.iter().flat_map(|table| table.lines().skip(1));
  lines.filter_map(|line| listener(line, port)).collect()
}

/// Reads a line of `/proc/net/tcp` or `tcp6` (proc(5)): the address is hexadecimal, each four bytes of
/// it in the machine's own order.
fn listener(line: &str, port: u16) -> Option<(IpAddr, u64)> {
  const LISTEN: &str = "0A";
  let mut fields = line.split_ascii_whitespace().skip(1);
  let (ip, local_port) = fields.next()?.split_once(':')?;
  let state = fields.nth(1)?;
  if state != LISTEN || u16::from_str_radix(local_port, 16) != Ok(port) {
    return None;
  }
  let inode = fields.nth(5)?.parse().ok()?;
  let words = (0..ip.len()).step_by(8).map(|at| {
    let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
    Some(word.to_ne_bytes())
  });
  let bytes = words.collect::<Option<Vec<_>>>()?.concat();
  let ip = match bytes.len() {
    4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
    16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    _ => return None,
  };
  Some((ip, inode))
}

/// A process and its descendants.
fn family_of(pid: u32) -> Vec<u32> {
  let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
  let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
  let parents: HashMap<u32, u32> = processes
    .filter_map(|process| Some((process, parent_of(process)?)))
    .collect();
  let descends = |process: u32| {
    std::iter::successors(Some(process), |process| parents.get(process).copied())
      // Deeper than any tree of processes: a process id may have been reused meanwhile.
      .take(1000)
      .any(|ancestor| ancestor == pid)
  };
  parents
    .keys()
    .copied()
    .filter(|process| descends(*process))
    .collect()
}

fn parent_of(process: u32) -> Option<u32> {
  let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
  // The name of the program, in brackets, may hold anything.
  let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
  fields.nth(1)?.parse().ok()
}

/// The sockets that these processes have open, by inode: the process and its descriptor.
fn sockets_of(processes: &[u32]) -> HashMap<u64, (u32, i32)> {
  let descriptors = processes.iter().flat_map(|process| {
    let entries = fs::read_dir(format!("/proc/{process}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(move |entry| (*process, entry))
  });
  descriptors
    .filter_map(|(process, entry)| {
      let fd = entry.file_name().to_str()?.parse().ok()?;
      Some((inode(&entry.path())?, (process, fd)))
    })
    .collect()
}

/// The inode of a descriptor; `None` if it is not a socket.
fn inode(descriptor: &Path) -> Option<u64> {
  let target = fs::read_link(descriptor).ok()?;
  let inode = target.to_str()?.strip_prefix("socket:[")?;
  inode.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
  use std::net::TcpListener;

  use super::*;

  #[test]
  fn a_listener_is_found_where_it_is_and_only_as_its_owners() {
    let me = std::process::id();
    for (bound, expected) in [
      ("127.0.0.1:0", "127.0.0.1"),
      ("127.8.8.8:0", "127.8.8.8"),
      ("0.0.0.0:0", "127.0.0.1"),
    ] {
      let listener = TcpListener::bind(bound).expect("listens");
      let port = listener.local_addr().expect("is bound").port();
      let expected = SocketAddr::new(expected.parse().expect("an address"), port);
      let found = listening(me, port).expect("is found");
      assert_eq!(looked_up(me, port).as_ref(), Some(&found));
      assert_eq!(
        (found.address, found.pid, found.is_open()),
        (expected, me, true)
      );
      // A process that is not the app's is not the listener.
      let mut other = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("starts");
      assert_eq!(listening(other.id(), port), None);
      other.kill().expect("is killed");
      other.wait().expect("is gone");
      drop(listener);
      assert_eq!(listening(me, port), None);
      assert!(!found.is_open());
    }
  }
}
