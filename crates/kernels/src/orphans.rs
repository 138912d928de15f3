//! What kernels leave running when they end comes to the server, whose children it then is. It is ended
//! here, and nothing else is: not what the server started, nor what was never a kernel's.

#![expect(clippy::disallowed_methods, reason = "files of /proc wait for no disk")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use rustix::process;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;

/// Kernels that others started, the zygotes: they are the server's children once their zygote has ended.
static KERNELS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A process that is a kernel for as long as this lives, whoever started it.
#[derive(Debug)]
pub(crate) struct KnownKernel(u32);

impl KnownKernel {
  pub(crate) fn new(pid: u32) -> Self {
    kernels().insert(pid);
    Self(pid)
  }
}

impl Drop for KnownKernel {
  fn drop(&mut self) {
    kernels().remove(&self.0);
  }
}

fn kernels() -> MutexGuard<'static, BTreeSet<u32>> {
  KERNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children of this process, as the one thread sees them that starts all others.
#[derive(Default)]
pub(crate) struct Orphans {
  /// Whether this process takes orphans over at all.
  adopted: bool,
  /// Whether everything of this process is confined as kernels are: then that tells nothing.
  all_confined: bool,
  started: Vec<Started>,
}

/// A child that somebody else waits for.
struct Started {
  pid: u32,
  /// Tells it from a later process of that number.
  since: u64,
}

impl Orphans {
  /// Takes over, from now on, what kernels leave behind. Children that are there already are not that.
  ///
  /// # Errors
  /// When the system refuses.
  pub(crate) fn adopt(&mut self) -> io::Result<()> {
    process::set_child_subreaper(Some(process::getpid()))?;
    self.all_confined = Status::of(process::getpid()).is_some_and(|status| status.confined);
    for child in children() {
      self.remember(number(child));
    }
    self.adopted = true;
    Ok(())
  }

  /// A child that is none of an ended kernel's.
  pub(crate) fn remember(&mut self, pid: u32) {
    if let Some(since) = start_time(pid) {
      self.started.push(Started { pid, since });
    }
  }

  /// Kills and buries every orphan; how many are not gone yet. Their own children come next.
  pub(crate) fn end(&mut self) -> usize {
    if !self.adopted {
      return 0;
    }
    let children = children();
    // One that was waited for is a child no more.
    self.started.retain(|known| {
      children.iter().any(|child| number(*child) == known.pid)
        && start_time(known.pid) == Some(known.since)
    });
    children
      .into_iter()
      .filter(|child| !self.is_known(number(*child)) && self.end_one(*child))
      .count()
  }

  fn is_known(&self, pid: u32) -> bool {
    self.started.iter().any(|known| known.pid == pid) || kernels().contains(&pid)
  }

  /// `true` while it is still there.
  fn end_one(&self, pid: Pid) -> bool {
    let Some(status) = Status::of(pid) else {
      return false;
    };
    if !status.ended {
      // As process 1 of a container the server inherits from all others in there. What a kernel starts
      // cannot leave its confinement.
      if !status.confined && !self.all_confined {
        return false;
      }
      let _ = process::kill_process(pid, Signal::KILL);
    }
    // Nobody else waits for it, so that the number is still its own.
    matches!(process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
  }
}

/// What `/proc/PID/status` says.
struct Status {
  ended: bool,
  confined: bool,
}

impl Status {
  /// `None` when there is no such process.
  fn of(pid: Pid) -> Option<Self> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| {
      let line = text.lines().find_map(|line| line.strip_prefix(name));
      line.map(str::trim)
    };
    Some(Self {
      ended: value("State:").is_some_and(|state| state.starts_with('Z')),
      confined: value("NoNewPrivs:") != Some("0"),
    })
  }
}

/// In ticks since the machine started.
fn start_time(pid: u32) -> Option<u64> {
  stat_field(pid, 22)?.parse().ok()
}

/// A field of `/proc/PID/stat` behind the name, counted as in proc(5).
fn stat_field(pid: u32, number: usize) -> Option<String> {
  let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
  // The name may hold anything, blanks and brackets too.
  let (_, fields) = stat.rsplit_once(')')?;
  fields
    .split_ascii_whitespace()
    .nth(number - 3)
    .map(str::to_owned)
}

fn number(pid: Pid) -> u32 {
  pid.as_raw_nonzero().get().unsigned_abs()
}

/// Every child of this process, those that have ended and wait to be buried too.
fn children() -> Vec<Pid> {
  listed_children().unwrap_or_else(|_| searched_children())
}

/// # Errors
/// When this system keeps no such lists.
fn listed_children() -> io::Result<Vec<Pid>> {
  let mut children = Vec::new();
  for task in fs::read_dir("/proc/self/task")? {
    let text = match fs::read_to_string(task?.path().join("children")) {
      Ok(text) => text,
      // The thread has ended, unless it is the first, of which there is always one.
      Err(_) if fs::exists(format!("/proc/self/task/{}/children", process::getpid()))? => continue,
      Err(error) => return Err(error),
    };
    let pids = text.split_ascii_whitespace();
    children.extend(pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
  }
  Ok(children)
}

fn searched_children() -> Vec<Pid> {
  let own = process::getpid().to_string();
  let Ok(processes) = fs::read_dir("/proc") else {
    return Vec::new();
  };
  processes
    .flatten()
    .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    .filter(|pid| stat_field(*pid, 4).is_some_and(|parent| parent == own))
    .filter_map(|pid| Pid::from_raw(pid.try_into().ok()?))
    .collect()
}

#[cfg(test)]
mod tests {
  use std::process::Command;
  use std::process::Stdio;

  use super::*;

  #[test]
  fn children_are_found_in_both_ways() {
    let mut child = Command::new("sleep")
      .arg("1000")
      .stdin(Stdio::null())
      .spawn()
      .expect("sleeps");
    let pid = Pid::from_child(&child);
    assert!(searched_children().contains(&pid));
    assert!(listed_children().is_ok_and(|children| children.contains(&pid)));
    assert!(start_time(child.id()).is_some_and(|since| since > 0));
    assert!(Status::of(pid).is_some_and(|status| !status.ended));
    child.kill().expect("is killed");
    child.wait().expect("is waited for");
    assert!(!children().contains(&pid));
  }

  #[test]
  fn who_adopts_nothing_ends_nothing() {
    let mut child = Command::new("sleep").arg("1000").spawn().expect("sleeps");
    assert_eq!(Orphans::default().end(), 0);
    assert!(child.try_wait().is_ok_and(|status| status.is_none()));
    child.kill().expect("is killed");
    child.wait().expect("is waited for");
  }
}
