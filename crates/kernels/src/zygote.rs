//! The server's end of a zygote: a process that has booted a language and forks kernels from there, in a fraction of the
//! time and memory of a start.
//!
//! Kernels are the zygote's children. It reports how they ended; when it ends itself, they live on,
//! and only how they end stays unknown.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use futures::StreamExt;
use kernel_protocol::descriptors;
use kernel_protocol::zygote::ZygoteReply;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use sandbox::Role;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::codec::FramedRead;
use tokio_util::codec::LengthDelimitedCodec;

use crate::orphans::KnownKernel;
use crate::spawner;

/// Longest a zygote may take to boot, on a machine with much else to do.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the report of a kernel's end may lag behind the end.
const REPORT_GRACE: Duration = Duration::from_millis(500);

/// How many may be asked for at once: what is asked must fit into the socket.
const MOST_ASKED: usize = 64;
/// How long a zygote may answer nobody before whoever waits gives up, and how long anybody waits at most.
const STUCK: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(20);

/// A running zygote. The process ends when this was dropped and the last of its kernels has ended.
pub struct Zygote {
  control: Arc<Control>,
  state: Arc<Mutex<State>>,
  asking: Semaphore,
}

/// The server's end of the control socket. Dropping it ends the process.
struct Control(OwnedFd);

struct State {
  /// No more will be heard of it.
  gone: bool,
  /// When it last answered.
  answered: Instant,
  asked: VecDeque<oneshot::Sender<io::Result<ForkedKernel>>>,
  kernels: HashMap<u32, oneshot::Sender<ExitStatus>>,
}

impl Zygote {
  /// Starts one; `spawn` is given the zygote's end of the control socket.
  ///
  /// # Errors
  /// When it does not come up, with what it said.
  pub async fn start<F>(spawn: impl FnOnce(OwnedFd) -> F) -> io::Result<Self>
  where
    F: Future<Output = io::Result<Child>>,
  {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let control = Arc::new(Control(ours.try_clone()?.into()));
    let mut child = spawn(theirs.into()).await?;
    let mut told = LengthDelimitedCodec::builder().new_read(UnixStream::from_std(ours)?);
    match tokio::time::timeout(BOOT_TIMEOUT, next(&mut told)).await {
      Ok(Some(ZygoteReply::Ready)) => {}
      Ok(Some(ZygoteReply::Failed { reason })) => return Err(io::Error::other(reason)),
      Ok(_) => {
        let status = child.wait().await?;
        return Err(io::Error::other(format!(
          "the zygote ended while it started ({status})"
        )));
      }
      Err(_) => return Err(io::Error::other("the zygote did not start in time")),
    }
    let state = Arc::new(Mutex::new(State {
      gone: false,
      answered: Instant::now(),
      asked: VecDeque::new(),
      kernels: HashMap::new(),
    }));
    tokio::spawn(listen(child, told, state.clone(), Arc::downgrade(&control)));
    Ok(Self {
      control,
      state,
      asking: Semaphore::new(MOST_ASKED),
    })
  }

  pub fn is_gone(&self) -> bool {
    lock(&self.state).gone
  }

  /// Ends the process; its kernels live on.
  pub fn end(&self) {
    self.control.end();
  }

  /// Forks a kernel for `role` that talks over `socket`.
  ///
  /// # Errors
  /// When the zygote has gone, is stuck or cannot fork.
  pub async fn fork(&self, role: Role, socket: BorrowedFd<'_>) -> io::Result<ForkedKernel> {
    let forking = async {
      let _turn = self.asking.acquire().await.map_err(|_| gone())?;
      self.ask(role, socket)?.await.map_err(|_| gone())?
    };
    tokio::select! {
      forked = forking => forked,
      () = self.stuck() => Err(io::Error::other("the kernel zygote does not answer")),
    }
  }

  /// Ends once the zygote has answered nobody for a while. One that works through much has.
  async fn stuck(&self) {
    let asked = Instant::now();
    loop {
      let heard = lock(&self.state).answered.max(asked);
      let until = (heard + STUCK).min(asked + PATIENCE);
      if until <= Instant::now() {
        return;
      }
      tokio::time::sleep_until(until).await;
    }
  }

  /// Asks for a kernel. What it comes to is received, in the order in which was asked.
  fn ask(
    &self,
    role: Role,
    socket: BorrowedFd<'_>,
  ) -> io::Result<oneshot::Receiver<io::Result<ForkedKernel>>> {
    let mut state = lock(&self.state);
    if state.gone {
      return Err(gone());
    }
    if let Err(error) = self.control.ask(role, socket) {
      // Its end is felt here before it is heard of.
      state.gone = true;
      return Err(error);
    }
    let (tell, answer) = oneshot::channel();
    state.asked.push_back(tell);
    Ok(answer)
  }
}

impl Control {
  /// One byte, the role, that carries the socket. Never waits: few are asked for at once.
  fn ask(&self, role: Role, socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
      return Err(io::Error::other("no room for the kernel's socket"));
    }
    rustix::net::sendmsg(
      &self.0,
      &[IoSlice::new(&[role.to_byte()])],
      &mut ancillary,
      SendFlags::NOSIGNAL,
    )?;
    Ok(())
  }

  fn end(&self) {
    // The listening task holds the socket open as well.
    let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
  }
}

impl Drop for Control {
  fn drop(&mut self) {
    self.end();
  }
}

fn gone() -> io::Error {
  io::Error::new(
    io::ErrorKind::BrokenPipe,
    "the kernel zygote has ended".to_owned(),
  )
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
  state.lock().unwrap_or_else(PoisonError::into_inner)
}

type Ears = FramedRead<UnixStream, LengthDelimitedCodec>;

async fn next(told: &mut Ears) -> Option<ZygoteReply> {
  let frame = told.next().await?.ok()?;
  kernel_protocol::decode(&frame).ok()
}

/// Passes on what the zygote tells until it has gone.
async fn listen(
  mut child: Child,
  mut told: Ears,
  state: Arc<Mutex<State>>,
  control: Weak<Control>,
) {
  while let Some(told) = next(&mut told).await {
    let mut state = lock(&state);
    state.answered = Instant::now();
    match told {
      ZygoteReply::Forked { pid } => {
        let (tell, exit) = oneshot::channel();
        state.kernels.insert(pid, tell);
        // Who asked may have gone: the kernel is dropped then, which ends it.
        if let Some(asked) = state.asked.pop_front() {
          let _ = asked.send(ForkedKernel::new(pid, exit, control.upgrade()));
        }
      }
      ZygoteReply::Refused { reason } => {
        if let Some(asked) = state.asked.pop_front() {
          let _ = asked.send(Err(io::Error::other(reason)));
        }
      }
      ZygoteReply::Exited { pid, status } => {
        if let Some(kernel) = state.kernels.remove(&pid) {
          let _ = kernel.send(ExitStatus::from_raw(status));
        }
      }
      ZygoteReply::Ready | ZygoteReply::Failed { .. } => {}
    }
  }
  {
    let mut state = lock(&state);
    state.gone = true;
    state.asked.clear();
    state.kernels.clear();
  }
  // It has closed its socket, or talks nonsense.
  let _ = child.start_kill();
  if let Ok(status) = child.wait().await {
    tracing::info!("a kernel zygote ended ({status})");
  }
  spawner::kernel_ended();
}

/// A kernel's process. Dropping it ends the kernel.
pub struct ForkedKernel {
  pid: u32,
  /// Names this very process, also when another has its number; readable once it has ended.
  process: AsyncFd<OwnedFd>,
  exit: oneshot::Receiver<ExitStatus>,
  /// When its zygote has ended it is the server's child, but nothing that a kernel left behind.
  _known: KnownKernel,
  /// Keeps the zygote, which is to say how it ended.
  _parent: Option<Arc<Control>>,
}

impl ForkedKernel {
  fn new(
    pid: u32,
    exit: oneshot::Receiver<ExitStatus>,
    parent: Option<Arc<Control>>,
  ) -> io::Result<Self> {
    let known = KnownKernel::new(pid);
    // A kernel that has ended within this moment may be gone already; its number cannot have come
    // round to another process yet.
    let process = rustix::process::pidfd_open(raw(pid)?, PidfdFlags::NONBLOCK)?;
    Ok(Self {
      pid,
      process: descriptors::watch(process)?,
      exit,
      _known: known,
      _parent: parent,
    })
  }

  pub fn id(&self) -> u32 {
    self.pid
  }

  pub fn has_exited(&self) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(
      self.process.get_ref().as_fd(),
      PollFlags::IN,
    )];
    let now = rustix::event::Timespec::default();
    !matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(0))
  }

  /// Kills the kernel; the zygote then kills what it started.
  pub fn kill(&self) {
    let _ = rustix::process::pidfd_send_signal(self.process.get_ref(), Signal::KILL);
  }

  /// Waits until it has ended; `None` when nobody was left to learn how.
  pub async fn wait(&mut self) -> Option<ExitStatus> {
    tokio::select! {
      biased;
      status = &mut self.exit => if let Ok(status) = status {
        return Some(status);
      },
      _ = self.process.readable() => {
        let report = tokio::time::timeout(REPORT_GRACE, &mut self.exit).await;
        if let Ok(Ok(status)) = report {
          return Some(status);
        }
      }
    }
    // The zygote is gone, and with it who kills what the kernel left running.
    let _ = self.process.readable().await;
    if let Ok(pid) = raw(self.pid) {
      let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    None
  }
}

impl Drop for ForkedKernel {
  fn drop(&mut self) {
    self.kill();
  }
}

impl fmt::Debug for ForkedKernel {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "ForkedKernel({})", self.pid)
  }
}

fn raw(pid: u32) -> io::Result<Pid> {
  i32::try_from(pid)
    .ok()
    .and_then(Pid::from_raw)
    .ok_or_else(|| io::Error::other(format!("{pid} is not a process id")))
}
