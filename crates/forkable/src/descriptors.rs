//! Descriptors of a child's own. A fork copies numbers and shares what is behind them: epoll queues, event counters, pipes
//! and sockets. A child that keeps them hears its siblings' events and steals their output.

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

/// What a queue watches: a descriptor, for which events, and what it is told with them.
type Watched = (RawFd, u32, u64);

/// What a child gives itself anew, found out before the fork: the child then does no more than it must.
pub struct Inherited {
  pipes: Vec<Vec<Open>>,
  /// Each with all the descriptors of one counter.
  counters: Vec<Vec<Open>>,
  /// Both ends of the one pair of sockets that an event loop has for signals.
  pair: Option<[Vec<Open>; 2]>,
  queues: Vec<(Vec<Watched>, Vec<Open>)>,
}

impl Inherited {
  /// Everything that is open in this process and is not a file. `kept` stay as they are in children, and so do their
  /// duplicates.
  ///
  /// # Errors
  /// When /proc is not there, or something is open of a kind that no child can have for itself.
  pub fn find(kept: &[BorrowedFd<'_>]) -> io::Result<Self> {
    let is_kept = |one: &Open| kept.iter().any(|kept| kept.as_raw_fd() == one.number);
    let mut inherited = Self {
      pipes: Vec::new(),
      counters: Vec::new(),
      pair: None,
      queues: Vec::new(),
    };
    let mut sockets = Vec::new();
    for (target, ends) in grouped(open_descriptors()?, |one| Ok(one.target.clone()))? {
      match target.as_str() {
        _ if target.starts_with('/') || ends.iter().any(is_kept) => {}
        _ if target.starts_with("pipe:") => inherited.pipes.push(ends),
        _ if target.starts_with("socket:") => sockets.push(ends),
        // All counters have the same name, and all queues have.
        "anon_inode:[eventfd]" => {
          let counters = grouped(ends, counter)?;
          inherited.counters = counters.into_iter().map(|(_, ends)| ends).collect();
        }
        "anon_inode:[eventpoll]" => inherited.queues = grouped(ends, watches)?,
        other => {
          return Err(io::Error::other(format!(
            "{other} is open, which no child can have for itself"
          )));
        }
      }
    }
    inherited.pair = pair(sockets)?;
    Ok(inherited)
  }

  /// Gives this process, a child, its own of everything: call it before anything else is done with a descriptor.
  ///
  /// Nothing may be in a pipe, a socket or a counter: it is not copied.
  ///
  /// # Errors
  /// When descriptors run out.
  pub fn renew(&self) -> io::Result<()> {
    for ends in &self.pipes {
      let (read, write) = std::io::pipe()?;
      for end in ends {
        match end.status & libc::O_ACCMODE == libc::O_RDONLY {
          true => end.replace(&read)?,
          false => end.replace(&write)?,
        }
      }
    }
    for ends in &self.counters {
      let new = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
      ends.iter().try_for_each(|it| it.replace(&new))?;
    }
    if let Some([first, second]) = &self.pair {
      let (one, other) = UnixStream::pair()?;
      first.iter().try_for_each(|it| it.replace(&one))?;
      second.iter().try_for_each(|it| it.replace(&other))?;
    }
    // Last, for they name the others.
    for (watches, ends) in &self.queues {
      let new = new_queue(watches)?;
      ends.iter().try_for_each(|it| it.replace(&new))?;
    }
    Ok(())
  }
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

/// Puts descriptors together of which the same is told.
fn grouped<T: PartialEq>(
  all: Vec<Open>,
  tell: impl Fn(&Open) -> io::Result<T>,
) -> io::Result<Vec<(T, Vec<Open>)>> {
  let mut groups: Vec<(T, Vec<Open>)> = Vec::new();
  for one in all {
    let told = tell(&one)?;
    match groups.iter_mut().find(|(same, _)| *same == told) {
      Some((_, group)) => group.push(one),
      None => groups.push((told, vec![one])),
    }
  }
  Ok(groups)
}

fn counter(one: &Open) -> io::Result<String> {
  let info = info(one)?;
  let id = info
    .lines()
    .find_map(|line| line.strip_prefix("eventfd-id:"));
  id.map(|id| id.trim().to_owned())
    .ok_or_else(|| io::Error::other("the system does not tell event counters apart"))
}

/// Each end is a socket of its own, so that the names do not tell which belong together: there must be two.
fn pair(mut ends: Vec<Vec<Open>>) -> io::Result<Option<[Vec<Open>; 2]>> {
  ends.sort_by_key(|end| end.iter().map(|one| one.number).min());
  match <[Vec<Open>; 2]>::try_from(ends) {
    Ok(both) => Ok(Some(both)),
    Err(none) if none.is_empty() => Ok(None),
    Err(more) => Err(io::Error::other(format!(
      "{} sockets are open, not the two of a pair",
      more.len()
    ))),
  }
}

fn info(one: &Open) -> io::Result<String> {
  std::fs::read_to_string(format!("/proc/self/fdinfo/{}", one.number))
}

/// Descriptors of one queue watch the same.
fn watches(queue: &Open) -> io::Result<Vec<Watched>> {
  Ok(info(queue)?.lines().filter_map(watched).collect())
}

/// `tfd: 4 events: 80000019 data: 0 pos:0 …`
fn watched(line: &str) -> Option<Watched> {
  let mut words = line.strip_prefix("tfd:")?.split_whitespace();
  let descriptor = words.next()?.parse().ok()?;
  let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
  let data = u64::from_str_radix(words.nth(1)?, 16).ok()?;
  Some((descriptor, events, data))
}

fn new_queue(watches: &[Watched]) -> io::Result<OwnedFd> {
  // SAFETY: takes flags.
  let new = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
  // SAFETY: just made, and nobody else's.
  let new = unsafe { OwnedFd::from_raw_fd(new) };
  for &(descriptor, events, data) in watches {
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
  Ok(new)
}
