//! Starts all processes of the server from one thread that never ends: a kernel's death signal is bound
//! to the thread that started it, and the runtime's threads come and go. The same thread ends what
//! kernels leave behind, so that it never takes a process for that which it is just starting.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::oneshot;

use crate::orphans::Orphans;

/// How often orphans are looked for without a kernel's end.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long after a look that found none another is taken: the system's lists may miss one that comes
/// while they are read.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// Pauses between looks while there are orphans: what they had started comes next. Kernels are started
/// meanwhile.
const QUICK: (u32, Duration) = (50, Duration::from_millis(2));
const PATIENT: (u32, Duration) = (100, Duration::from_millis(20));
/// When they are more than can be ended, or stuck in the system.
const SLOW: Duration = Duration::from_secs(1);

enum Job {
  Spawn {
    command: Box<Command>,
    runtime: tokio::runtime::Handle,
    done: oneshot::Sender<io::Result<Child>>,
  },
  Adopt(oneshot::Sender<io::Result<()>>),
  Look(Option<oneshot::Sender<()>>),
}

/// # Errors
/// When the process, or the thread that starts it, cannot be started.
pub async fn spawn(command: Command) -> io::Result<Child> {
  let (done, spawned) = oneshot::channel();
  send(Job::Spawn {
    command: Box::new(command),
    runtime: tokio::runtime::Handle::current(),
    done,
  })?;
  spawned.await.map_err(|_| gone())?
}

/// From now on what kernels leave running when they end is this process's, and ended.
///
/// # Errors
/// When the system refuses.
pub async fn adopt_orphans() -> io::Result<()> {
  let (done, adopted) = oneshot::channel();
  send(Job::Adopt(done))?;
  adopted.await.map_err(|_| gone())?
}

/// A kernel has ended, or is about to.
pub fn kernel_ended() {
  let _ = send(Job::Look(None));
}

/// Returns once no orphan is left, or some cannot be ended.
pub async fn end_orphans() {
  let (done, ended) = oneshot::channel();
  if send(Job::Look(Some(done))).is_ok() {
    let _ = ended.await;
  }
}

fn send(job: Job) -> io::Result<()> {
  static SPAWNER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
  let spawner = SPAWNER.get_or_init(|| {
    let (tx, jobs) = mpsc::channel();
    let thread = std::thread::Builder::new().name("kernel-spawner".into());
    thread.spawn(move || work(&jobs)).ok().map(|_| tx)
  });
  spawner
    .as_ref()
    .ok_or_else(gone)?
    .send(job)
    .map_err(|_| gone())
}

fn gone() -> io::Error {
  io::Error::other("the thread that starts processes is gone")
}

fn work(jobs: &mpsc::Receiver<Job>) {
  let mut orphans = Orphans::default();
  let mut looks = Looks {
    next: Instant::now() + INTERVAL,
    with_orphans: 0,
    clean: 0,
    waiting: Vec::new(),
  };
  loop {
    match jobs.recv_timeout(looks.next.saturating_duration_since(Instant::now())) {
      Ok(Job::Spawn {
        mut command,
        runtime,
        done,
      }) => {
        let _entered = runtime.enter();
        let child = command.spawn();
        if let Some(pid) = child.as_ref().ok().and_then(Child::id) {
          orphans.remember(pid);
        }
        let _ = done.send(child);
      }
      Ok(Job::Adopt(done)) => {
        let _ = done.send(orphans.adopt());
      }
      Ok(Job::Look(waiting)) => looks.begin(waiting),
      Err(RecvTimeoutError::Timeout) => {}
      Err(RecvTimeoutError::Disconnected) => return,
    }
    if Instant::now() >= looks.next {
      looks.took(orphans.end());
    }
  }
}

/// When the next look at the children of this process is due.
struct Looks {
  next: Instant,
  /// One after the other that found some, and that found none.
  with_orphans: u32,
  clean: u32,
  waiting: Vec<oneshot::Sender<()>>,
}

impl Looks {
  fn begin(&mut self, waiting: Option<oneshot::Sender<()>>) {
    self.next = Instant::now();
    self.with_orphans = 0;
    self.clean = 0;
    self.waiting.extend(waiting);
  }

  fn took(&mut self, found: usize) {
    let pause = if found == 0 {
      self.with_orphans = 0;
      self.clean = self.clean.saturating_add(1);
      if self.clean == 1 {
        SECOND_LOOK
      } else {
        INTERVAL
      }
    } else {
      self.clean = 0;
      self.with_orphans = self.with_orphans.saturating_add(1);
      match self.with_orphans {
        n if n <= QUICK.0 => QUICK.1,
        n if n <= QUICK.0 + PATIENT.0 => PATIENT.1,
        _ => SLOW,
      }
    };
    if found == 0 || pause == SLOW {
      for waiting in self.waiting.drain(..) {
        let _ = waiting.send(());
      }
    }
    self.next = Instant::now() + pause;
  }
}
