//! Descriptors of a child's own. A fork copies numbers and shares what is behind them: epoll queues, event counters, pipes
//! and sockets. A child that keeps them hears its siblings' events and steals their output.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;

use rustix::event::EventfdFlags;
use rustix::io::FdFlags;

const FOLDER: &str = "/proc/self/fd";

/// A descriptor of this process.
struct Open {
  number: RawFd,
  /// What is behind it, as the system names it: the same for descriptors that share it.
  target: String,
  closes_on_exec: bool,
  status: libc::c_int,
}

/// Gives this process its own of everything that it has inherited and that is not a file: call it in the child, before
/// anything else is done with a descriptor. `kept` stays as it is, and so do its duplicates.
///
/// Nothing may be in a pipe, a socket or a counter: it is not copied.
///
/// # Errors
/// When descriptors run out, /proc is not there, or something is open of a kind that is not known.
pub fn renew(kept: BorrowedFd<'_>) -> io::Result<()> {
  let open = open_descriptors()?;
  let mut shared: HashMap<&str, Vec<&Open>> = HashMap::new();
  for one in &open {
    shared.entry(&one.target).or_default().push(one);
  }
  shared.retain(|_, ends| ends.iter().all(|it| it.number != kept.as_raw_fd()));
  let mut sockets = Vec::new();
  let mut queues = Vec::new();
  for (target, ends) in shared {
    match target {
      _ if target.starts_with('/') => {}
      _ if target.starts_with("pipe:") => renew_pipe(&ends)?,
      _ if target.starts_with("socket:") => sockets.push(ends),
      "anon_inode:[eventfd]" => renew_counters(&ends)?,
      "anon_inode:[eventpoll]" => queues.extend(ends),
      "anon_inode:[pidfd]" => {}
      other => {
        return Err(io::Error::other(format!(
          "{other} is open, which no child can have for itself"
        )));
      }
    }
  }
  renew_pair(sockets)?;
  // Last, for they name the others.
  renew_queues(&queues)
}

fn open_descriptors() -> io::Result<Vec<Open>> {
  let mut numbers = Vec::new();
  for entry in std::fs::read_dir(FOLDER)? {
    numbers.extend(
      entry?
        .file_name()
        .to_str()
        .and_then(|name| name.parse::<RawFd>().ok()),
    );
  }
  let open = |number: RawFd| {
    // The folder's own is closed again.
    let target = std::fs::read_link(format!("{FOLDER}/{number}")).ok()?;
    // SAFETY: it is open, and stays so: nothing else runs in this process.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(descriptor).ok()?;
    Some(Open {
      number,
      target: target.to_string_lossy().into_owned(),
      closes_on_exec: flags.contains(FdFlags::CLOEXEC),
      // SAFETY: takes a descriptor.
      status: unsafe { libc::fcntl(number, libc::F_GETFL) },
    })
  };
  Ok(numbers.into_iter().filter_map(open).collect())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
  if result < 0 {
    Err(io::Error::last_os_error())
  } else {
    Ok(result)
  }
}

impl Open {
  /// Puts `new` in the place of what it was.
  fn replace(&self, new: &impl AsRawFd) -> io::Result<()> {
    let flags = if self.closes_on_exec {
      libc::O_CLOEXEC
    } else {
      0
    };
    // SAFETY: both are open; whoever owns this number goes on to own what is behind it.
    check(unsafe { libc::dup3(new.as_raw_fd(), self.number, flags) })?;
    if self.status & libc::O_NONBLOCK != 0 {
      // SAFETY: takes a descriptor and flags.
      check(unsafe { libc::fcntl(self.number, libc::F_SETFL, libc::O_NONBLOCK) })?;
    }
    Ok(())
  }
}

fn renew_pipe(ends: &[&Open]) -> io::Result<()> {
  let (read, write) = std::io::pipe()?;
  for end in ends {
    let reads = end.status & libc::O_ACCMODE == libc::O_RDONLY;
    match reads {
      true => end.replace(&read)?,
      false => end.replace(&write)?,
    }
  }
  Ok(())
}

/// All counters have the same name: which ones are one, `fdinfo` says.
fn renew_counters(all: &[&Open]) -> io::Result<()> {
  let mut made: HashMap<String, OwnedFd> = HashMap::new();
  for one in all {
    let info = info(one)?;
    let id = info
      .lines()
      .find_map(|line| line.strip_prefix("eventfd-id:"));
    let id = id.ok_or_else(|| io::Error::other("the system does not tell event counters apart"))?;
    if !made.contains_key(id) {
      let new = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
      made.insert(id.to_owned(), new);
    }
    one.replace(&made[id])?;
  }
  Ok(())
}

/// The one pair of sockets that an event loop has for signals. Each end is a socket of its own, so that the names do not
/// tell which belong together: there must be two.
fn renew_pair(mut ends: Vec<Vec<&Open>>) -> io::Result<()> {
  ends.sort_by_key(|end| end.iter().map(|one| one.number).min());
  let (first, second) = match ends.as_slice() {
    [] => return Ok(()),
    [first, second] => (first, second),
    more => {
      return Err(io::Error::other(format!(
        "{} sockets are open, not the two of a pair",
        more.len()
      )));
    }
  };
  let (one, other) = UnixStream::pair()?;
  first.iter().try_for_each(|it| it.replace(&one))?;
  second.iter().try_for_each(|it| it.replace(&other))
}

fn info(one: &Open) -> io::Result<String> {
  std::fs::read_to_string(format!("/proc/self/fdinfo/{}", one.number))
}

/// What a queue watches: a descriptor, for which events, and what it is told with them.
type Watched = (RawFd, u32, u64);

/// `tfd: 4 events: 80000019 data: 0 pos:0 …`
fn watched(line: &str) -> Option<Watched> {
  let mut words = line.strip_prefix("tfd:")?.split_whitespace();
  let descriptor = words.next()?.parse().ok()?;
  let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
  let data = u64::from_str_radix(words.nth(1)?, 16).ok()?;
  Some((descriptor, events, data))
}

fn renew_queues(all: &[&Open]) -> io::Result<()> {
  let infos = all
    .iter()
    .map(|one| info(one))
    .collect::<io::Result<Vec<_>>>()?;
  // Descriptors of one queue watch the same.
  let mut made: HashMap<Vec<Watched>, RawFd> = HashMap::new();
  for (one, info) in all.iter().zip(infos) {
    let watches: Vec<Watched> = info.lines().filter_map(watched).collect();
    if let Some(first) = made.get(&watches) {
      // SAFETY: made below, and kept.
      let first = unsafe { BorrowedFd::borrow_raw(*first) };
      one.replace(&first)?;
      continue;
    }
    // SAFETY: takes flags.
    let new = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: just made, and nobody else's.
    let new = unsafe { OwnedFd::from_raw_fd(new) };
    for &(descriptor, events, data) in &watches {
      let mut event = libc::epoll_event { events, u64: data };
      // SAFETY: all three are valid for the call.
      check(unsafe {
        libc::epoll_ctl(
          new.as_raw_fd(),
          libc::EPOLL_CTL_ADD,
          descriptor,
          &raw mut event,
        )
      })?;
    }
    one.replace(&new)?;
    made.insert(watches, one.number);
  }
  Ok(())
}
