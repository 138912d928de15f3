//! The first layers under every process of a kernel. They take a handful of system calls and nothing
//! of the system's that could be missing: no namespaces, no groups of processes. Whatever native code
//! does there later, it has no privilege, inherits nothing it was not given, and is ended first when
//! memory runs out.
//!
//! A process enters them itself, while it has one thread, before anything of user code is near it.

pub mod folders;
mod user;

use std::fs;
use std::io;
use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process;
use rustix::process::DumpableBehavior;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use rustix::thread;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use serde::Deserialize;
use serde::Serialize;

pub use self::user::KernelUser;

/// Ended before the server and whatever else the machine does: half of that is 500.
const OOM_SCORE: i32 = 800;
/// Files and sockets that a kernel may have open.
const KERNEL_FILES: u64 = 1024;
/// The same for the program of an app, and for a zygote, whose kernels may run one.
const PROGRAM_FILES: u64 = 4096;
const STACK_BYTES: u64 = 8 << 20;
const LOCKED_BYTES: u64 = 64 << 10;

/// What the server decides about the processes of its kernels; each is told in an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
  /// Whom they run as, when not as the server does.
  pub user: Option<KernelUser>,
  /// Whether the files they make are for others too, as far as the server's umask goes: what a person
  /// runs in the foreground makes that person's files.
  pub shared_files: bool,
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
  Kernel,
  /// A kernel with the main program of an app.
  Program,
  /// Forks kernels, each of which goes on with [`enter_forked`].
  Zygote,
}

impl Role {
  const ALL: [(Self, &'static str, u8); 3] = [
    (Self::Kernel, "kernel", 1),
    (Self::Program, "program", 2),
    (Self::Zygote, "zygote", 3),
  ];

  /// For the command line of the process.
  pub fn to_argument(self) -> &'static str {
    Self::ALL
      .iter()
      .find(|(role, ..)| *role == self)
      .map_or("", |(_, name, _)| name)
  }

  /// `None` when it is not the server's.
  pub fn from_argument(argument: &str) -> Option<Self> {
    Self::ALL
      .iter()
      .find(|(_, name, _)| *name == argument)
      .map(|(role, ..)| *role)
  }

  /// For a zygote that is asked for such a process.
  pub fn to_byte(self) -> u8 {
    Self::ALL
      .iter()
      .find(|(role, ..)| *role == self)
      .map_or(0, |(.., byte)| *byte)
  }

  /// What a zygote was asked for.
  pub fn from_byte(asked: u8) -> Self {
    Self::ALL
      .iter()
      .find(|(.., byte)| *byte == asked)
      .map_or(Self::Kernel, |(role, ..)| *role)
  }
}

impl Confinement {
  /// For the command line of the process.
  pub fn to_argument(&self) -> String {
    serde_json::to_string(self).unwrap_or_default()
  }

  /// `None` when it is not the server's.
  pub fn from_argument(argument: &str) -> Option<Self> {
    serde_json::from_str(argument).ok()
  }

  /// Enters the layers. The socket to the server is descriptor 0; of those above 2 only `passed` stay
  /// open.
  ///
  /// # Errors
  /// When the system refuses a layer, or the server has gone.
  pub fn enter(&self, role: Role, passed: &[RawFd]) -> io::Result<()> {
    close_inherited(passed)?;
    hear_signals();
    give_memory_up_first();
    limit(role)?;
    lead_session()?;
    drop_privileges(self.user)?;
    // A process that changed its user is taken for a secret; a kernel is none to its server.
    set_dumpable(role != Role::Zygote)?;
    told("no new privileges", thread::set_no_new_privs(true))?;
    // Late: a change of the user would take it back.
    die_with_parent()?;
    if role != Role::Zygote {
      keep_orphans()?;
    }
    if !self.shared_files {
      process::umask(Mode::RWXG | Mode::RWXO);
    }
    Ok(())
  }
}

/// Goes on where a zygote is already: what a forked kernel has for itself.
///
/// # Errors
/// When the system refuses a layer.
pub fn enter_forked(role: Role) -> io::Result<()> {
  limit_files(role)?;
  lead_session()?;
  set_dumpable(true)?;
  keep_orphans()
}

/// Keeps this process's memory and environment from others of its account, kernels above all.
///
/// # Errors
/// When the system refuses.
pub fn keep_secrets() -> io::Result<()> {
  set_dumpable(false)
}

/// An error that names the layer.
fn told<T>(layer: &str, result: Result<T, Errno>) -> io::Result<T> {
  result.map_err(|error| {
    let error = io::Error::from(error);
    io::Error::new(
      error.kind(),
      format!("the process cannot be confined ({layer}): {error}"),
    )
  })
}

/// Closes what the server's start, or whoever started the server, left open by mistake.
fn close_inherited(passed: &[RawFd]) -> io::Result<()> {
  let mut passed: Vec<u32> = passed
    .iter()
    .filter_map(|fd| (*fd).try_into().ok())
    .collect();
  passed.sort_unstable();
  let mut first = 3;
  for fd in passed.into_iter().filter(|fd| *fd >= 3) {
    if fd > first {
      close_range(first, fd - 1)?;
    }
    first = fd + 1;
  }
  close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
  // SAFETY: nothing of this process owns a descriptor above 2 yet but those that are left out.
  if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
    return Ok(());
  }
  // Linux before 5.9. The folder's own descriptor is in the list, and closed by then.
  let open: Vec<u32> = fs::read_dir("/proc/self/fd")?
    .flatten()
    .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    .collect();
  for fd in open.into_iter().filter(|fd| (first..=last).contains(fd)) {
    // SAFETY: as above; one that is closed already is an error that changes nothing.
    unsafe { libc::close(fd.cast_signed()) };
  }
  Ok(())
}

/// Signals that a server was started deaf to, as shells start what they put into the background, mean to
/// kernels what they mean to other programs.
fn hear_signals() {
  for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
    // SAFETY: the default is no handler that could do anything wrong.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
  }
}

/// Best effort: without /proc the machine decides by size, as it always did.
fn give_memory_up_first() {
  const FILE: &str = "/proc/self/oom_score_adj";
  let now = fs::read_to_string(FILE)
    .ok()
    .and_then(|text| text.trim().parse::<i32>().ok());
  if now.is_some_and(|now| now < OOM_SCORE) {
    let _ = fs::write(FILE, OOM_SCORE.to_string());
  }
}

/// What no kernel needs more of. How much memory, time, disk and how many processes it may have is not
/// for here: these are counted by user, or would end what is allowed.
fn limit(role: Role) -> io::Result<()> {
  // A crash of user code is reported, not dumped.
  lower(Resource::Core, 0)?;
  lower(Resource::Memlock, LOCKED_BYTES)?;
  lower(Resource::Msgqueue, 0)?;
  lower(Resource::Rtprio, 0)?;
  lower(Resource::Nice, 0)?;
  let stack = process::getrlimit(Resource::Stack);
  let soft = stack
    .current
    .map_or(STACK_BYTES, |now| now.min(STACK_BYTES));
  let stack = Rlimit {
    current: Some(soft),
    ..stack
  };
  told("stack", process::setrlimit(Resource::Stack, stack))?;
  limit_files(role)
}

fn limit_files(role: Role) -> io::Result<()> {
  let files = match role {
    Role::Kernel => KERNEL_FILES,
    Role::Program | Role::Zygote => PROGRAM_FILES,
  };
  lower(Resource::Nofile, files)
}

/// For good: what is below `most` already stays there.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
  let hard = process::getrlimit(resource)
    .maximum
    .map_or(most, |now| now.min(most));
  let limit = Rlimit {
    current: Some(hard),
    maximum: Some(hard),
  };
  told("limits", process::setrlimit(resource, limit))
}

/// Leaves the server's terminal, and makes a group that can be killed as a whole.
fn lead_session() -> io::Result<()> {
  match process::setsid() {
    // It does already.
    Err(Errno::PERM) if process::getsid(None) == Ok(process::getpid()) => Ok(()),
    other => told("session", other).map(drop),
  }
}

/// Every capability, also those that a program it starts would gain, and the groups. The user 0 is then
/// one like any other, which owns its files and overrides nothing.
fn drop_privileges(user: Option<KernelUser>) -> io::Result<()> {
  let held = told("capabilities", thread::capabilities(None))?.effective;
  if held.contains(CapabilitySet::SETPCAP) {
    for bit in 0..u64::BITS {
      let capability = CapabilitySet::from_bits_retain(1 << bit);
      match thread::remove_capability_from_bounding_set(capability) {
        // This system knows no more.
        Err(Errno::INVAL) => break,
        other => told("capabilities", other)?,
      }
    }
  }
  // One thread: what is said of threads holds for the process.
  if held.contains(CapabilitySet::SETGID) {
    told("groups", thread::set_thread_groups(&[]))?;
  }
  if let Some(user) = user {
    let (uid, gid) = (user.uid(), user.gid());
    told("group", thread::set_thread_res_gid(gid, gid, gid))?;
    told("user", thread::set_thread_res_uid(uid, uid, uid))?;
  }
  let none = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
  };
  told("capabilities", thread::set_capabilities(None, none))?;
  // Empty by now on every Linux that has it.
  let _ = thread::clear_ambient_capability_set();
  Ok(())
}

fn set_dumpable(dumpable: bool) -> io::Result<()> {
  let behavior = if dumpable {
    DumpableBehavior::Dumpable
  } else {
    DumpableBehavior::NotDumpable
  };
  told("dumpable", process::set_dumpable_behavior(behavior))
}

/// The closed socket tells a living host that the server has gone; this also ends one that is stuck.
fn die_with_parent() -> io::Result<()> {
  told(
    "death signal",
    process::set_parent_process_death_signal(Some(Signal::KILL)),
  )?;
  // A server that went before that sent no signal. Who made the socket is the server, whatever its
  // number: in a container it may be 1, as the process is that takes over orphans.
  let server = told(
    "server",
    rustix::net::sockopt::socket_peercred(rustix::stdio::stdin()),
  )?
  .pid;
  if process::getppid() == Some(server) {
    Ok(())
  } else {
    Err(io::Error::other("the server has gone"))
  }
}

/// What it starts and leaves alone stays below it, and comes to the server when it ends.
fn keep_orphans() -> io::Result<()> {
  told(
    "subreaper",
    process::set_child_subreaper(Some(process::getpid())),
  )
}
