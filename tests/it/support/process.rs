//! Processes, as `/proc` shows them.

use std::net::SocketAddr;

use rustix::process::Pid;
use rustix::process::Signal;

/// Living children of a process, zombies left out.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
  let Ok(entries) = std::fs::read_dir("/proc") else {
    return Vec::new();
  };
  entries
    .flatten()
    .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    .filter(|pid| stat(*pid).is_some_and(|(state, of)| of == parent && state != "Z"))
    .collect()
}

/// Children of a server that fork kernels and apps.
pub(crate) fn zygotes_of(server: u32) -> Vec<u32> {
  let mut zygotes = children_of(server);
  zygotes.retain(|pid| is_zygote(*pid));
  zygotes
}

/// Processes of a server's kernels and apps, whoever started them.
pub(crate) fn hosts_of(server: u32) -> Vec<u32> {
  let (zygotes, mut hosts): (Vec<u32>, Vec<u32>) = children_of(server)
    .into_iter()
    .partition(|pid| is_zygote(*pid));
  hosts.extend(zygotes.into_iter().flat_map(children_of));
  hosts
}

fn is_zygote(pid: u32) -> bool {
  let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
  arguments
    .split(|byte| *byte == 0)
    .any(|argument| argument == b"zygote")
}

/// Whether a process runs.
pub(crate) fn exists(pid: u32) -> bool {
  stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
  let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
  // The name may hold anything, blanks and brackets too.
  let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
  Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// # Panics
/// When the signal cannot be sent.
pub(crate) fn kill(pid: u32, signal: Signal) {
  let pid = i32::try_from(pid)
    .ok()
    .and_then(Pid::from_raw)
    .expect("a process id");
  rustix::process::kill_process(pid, signal).expect("the process takes the signal");
}

/// Addresses of IPv4 that a process accepts connections at.
pub(crate) fn listeners_of(pid: u32) -> Vec<SocketAddr> {
  let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
    .into_iter()
    .flatten()
    .flatten();
  let sockets: Vec<String> = descriptors
    .filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
    .collect();
  let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
  let lines = table.lines().skip(1).filter_map(|line| {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let address = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    let port = u16::from_str_radix(port, 16).ok()?;
    let owned = sockets.contains(&format!("socket:[{}]", fields.get(9)?));
    (fields.get(3) == Some(&"0A") && owned).then(|| (address, port).into())
  });
  lines.collect()
}
