//! The server's end of a kernel host: starting it, talking to it, and learning how it ended.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use futures::StreamExt;
use kernel_protocol::HostConfig;
use kernel_protocol::MAX_REPLY_BYTES;
use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::VERSION;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::Notify;
use tokio_util::codec::FramedRead;
use tokio_util::codec::LengthDelimitedCodec;

use crate::Mode;
use crate::environment::Renewal;
use crate::launch::HostProcess;
use crate::launch::Hosts;
use crate::launch::LaunchSpec;
use crate::launch::Tenant;
use crate::outgoing::Outgoing;
use crate::outgoing::Unread;

/// Longest a host may take to boot, on a machine with much else to do.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const CONFIGURE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a host that has closed its socket is given to end by itself.
const EXIT_GRACE: Duration = Duration::from_millis(50);
/// A frame that takes a while to decode, in bytes.
const LONG_FRAME: usize = 64 << 10;
/// Longest reason for its end that a host is believed, in bytes.
const MAX_LAST_WORDS: usize = 4096;

/// A host that is up. Dropping it ends the host.
pub struct HostConnection {
  pub handle: HostHandle,
  replies: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
  child: Option<Box<dyn HostProcess>>,
  /// What the host said before it ended.
  last_words: Option<String>,
  killed: bool,
  /// Keeps its environment fresh.
  pub renewal: Option<Renewal>,
}

/// What steers a host from any task.
#[derive(Clone)]
pub struct HostHandle {
  outgoing: Outgoing,
  health: Arc<Mutex<Health>>,
  kill: Arc<Notify>,
  /// The process, when it has one of its own.
  pub pid: Option<u32>,
}

/// Whether a host reads and answers.
#[derive(Default)]
struct Health {
  /// Whether its replies are waited for.
  listening: bool,
  /// When it was asked for the sign of life that it still owes.
  asked: Option<Instant>,
}

impl HostHandle {
  /// Sends what is sent once at a time: its caller bounds it. A host that is gone is noticed by whoever
  /// reads its replies.
  pub fn send(&self, request: &Request) {
    self
      .outgoing
      .put(kernel_protocol::encode(request), Vec::new());
  }

  /// Sends what clients may send any number of.
  ///
  /// # Errors
  /// When too much waits already.
  pub fn try_send(&self, request: &Request) -> Result<(), Unread> {
    self.outgoing.try_put(kernel_protocol::encode(request))
  }

  /// Asks for a sign of life, unless one is owed already; returns for how long it is.
  pub fn ping(&self) -> Duration {
    let owed = {
      let mut health = self.health();
      if !health.listening {
        // Whoever hears its replies is slow: it may have answered.
        health.asked = None;
        return Duration::ZERO;
      }
      let owed = health.asked;
      health.asked = owed.or_else(|| Some(Instant::now()));
      owed
    };
    match owed {
      Some(asked) => asked.elapsed(),
      None => {
        // Where too much waits already, the answer stays away as well.
        let _ = self.try_send(&Request::Ping);
        Duration::ZERO
      }
    }
  }

  /// Ends the host at once, whatever it does.
  pub fn kill(&self) {
    self.kill.notify_one();
  }

  fn health(&self) -> MutexGuard<'_, Health> {
    self.health.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl HostConnection {
  /// Starts a blank host and waits until it is up.
  ///
  /// # Errors
  /// When it cannot be started or does not come up in time.
  pub async fn launch(
    hosts: &dyn Hosts,
    mode: Mode,
    spec: &LaunchSpec,
    tenant: &Tenant,
  ) -> io::Result<Self> {
    match Self::start(hosts, mode, spec, tenant).await {
      Err(_) if mode == Mode::Worker && hosts.distrust(spec, tenant) => {
        Self::start(hosts, mode, spec, tenant).await
      }
      started => started,
    }
  }

  async fn start(
    hosts: &dyn Hosts,
    mode: Mode,
    spec: &LaunchSpec,
    tenant: &Tenant,
  ) -> io::Result<Self> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = match mode {
      Mode::Worker => Some(hosts.start(spec, tenant, theirs).await?),
      Mode::MainThread => {
        hosts.start_on_thread(spec, theirs).await?;
        None
      }
    };
    let (read, write) = UnixStream::from_std(ours)?.into_split();
    let mut connection = Self {
      handle: HostHandle {
        outgoing: Outgoing::new(write),
        health: Arc::default(),
        kill: Arc::default(),
        pid: child.as_ref().and_then(|child| child.id()),
      },
      replies: LengthDelimitedCodec::builder()
        .max_frame_length(MAX_REPLY_BYTES)
        .new_read(read),
      child,
      last_words: None,
      killed: false,
      renewal: None,
    };
    match tokio::time::timeout(BOOT_TIMEOUT, connection.next()).await {
      Ok(Some(Reply::Ready { version: VERSION })) => Ok(connection),
      Ok(Some(Reply::Ready { version })) => Err(io::Error::other(format!(
        "the kernel host speaks version {version} of the protocol and this server version {VERSION}: \
         install the programs of one release"
      ))),
      Ok(_) => Err(io::Error::other(format!(
        "the kernel host {}",
        connection.end().await
      ))),
      Err(_) => Err(io::Error::other("the kernel host did not start in time")),
    }
  }

  /// Makes a kernel of a blank host. `roots` are the directories of its mounts.
  ///
  /// # Errors
  /// `Err(Some(reason))` when the host refuses the configuration, `Err(None)` when it is gone.
  pub async fn configure(
    &mut self,
    config: HostConfig,
    roots: Vec<OwnedFd>,
  ) -> Result<(), Option<String>> {
    let request = Request::Configure(Box::new(config));
    let frame = kernel_protocol::encode(&request);
    self.handle.outgoing.put(frame, roots);
    match tokio::time::timeout(CONFIGURE_TIMEOUT, self.next()).await {
      Ok(Some(Reply::Configured { error: None })) => Ok(()),
      Ok(Some(Reply::Configured { error })) => Err(error),
      _ => Err(None),
    }
  }

  /// The next reply, or `None` when the host has ended or was killed. Call [`Self::end`] then.
  pub async fn next(&mut self) -> Option<Reply> {
    loop {
      self.handle.health().listening = true;
      let frame = tokio::select! {
        frame = self.replies.next() => frame?,
        () = self.handle.kill.notified() => {
          self.killed = true;
          return None;
        }
      };
      {
        let mut health = self.handle.health();
        health.listening = false;
        health.asked = None;
      }
      let decoded = match frame {
        // Other tasks of this thread do not wait for it.
        Ok(frame) if frame.len() > LONG_FRAME => {
          let decoding =
            tokio::task::spawn_blocking(move || kernel_protocol::decode::<Reply>(&frame));
          decoding.await.unwrap_or_else(|e| Err(io::Error::other(e)))
        }
        frame => frame.and_then(|frame| kernel_protocol::decode::<Reply>(&frame)),
      };
      match decoded {
        Ok(Reply::Fatal { mut reason }) => {
          reason.truncate(reason.floor_char_boundary(MAX_LAST_WORDS));
          self.last_words = Some(reason);
        }
        Ok(Reply::Alive) => {}
        Ok(reply) => return Some(reply),
        // It has ended before it read all that it was sent.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
        Err(error) => {
          self.last_words = Some(format!("broke the kernel protocol: {error}"));
          return None;
        }
      }
    }
  }

  /// Ends the host, waits until it is gone, and says how it ended.
  pub async fn end(&mut self) -> HostEnd {
    let status = match &mut self.child {
      Some(child) => {
        // A host that ends by itself has a status of its own; one that still runs gets SIGKILL.
        let asked = Instant::now();
        while !self.killed && !child.has_exited() && asked.elapsed() < EXIT_GRACE {
          tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill_group();
        child.wait().await
      }
      None => None,
    };
    let code = status.and_then(|status| {
      let signal = status.signal().map(|signal| SIGNAL_CODE + signal);
      status.code().or(signal)
    });
    match (self.last_words.take(), status) {
      (Some(reason), _) => HostEnd {
        reason,
        code: Some(1),
      },
      (None, Some(status)) => HostEnd {
        reason: describe(status),
        code,
      },
      (None, None) => HostEnd {
        reason: "ended".into(),
        code,
      },
    }
  }
}

/// How a host ended.
#[derive(Debug, Clone)]
pub struct HostEnd {
  /// In words that go on after "the kernel".
  pub reason: String,
  /// As a shell gives it: the exit code, or 128 and the signal. 1 for a host that said why it ends.
  pub code: Option<i32>,
}

impl HostEnd {
  /// Whether something ended it, rather than the program itself with an exit code or somebody who
  /// asked it to.
  pub fn died(&self) -> bool {
    let asked = [Signal::INT, Signal::TERM].map(|signal| SIGNAL_CODE + signal.as_raw());
    !self.reason.starts_with(EXITED) && !self.code.is_some_and(|code| asked.contains(&code))
  }
}

impl fmt::Display for HostEnd {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&self.reason)
  }
}

const EXITED: &str = "exited with code ";
/// What shells add to the number of a signal that ended a process.
const SIGNAL_CODE: i32 = 128;

fn describe(status: ExitStatus) -> String {
  match (status.signal(), status.code()) {
    (Some(signal), _) => format!("was killed by signal {signal}{}", signal_name(signal)),
    (None, Some(code)) => format!("{EXITED}{code}"),
    (None, None) => "ended".into(),
  }
}

fn signal_name(signal: i32) -> &'static str {
  match signal {
    4 => " (SIGILL)",
    5 => " (SIGTRAP)",
    6 => " (SIGABRT)",
    7 => " (SIGBUS)",
    8 => " (SIGFPE)",
    9 => " (SIGKILL)",
    11 => " (SIGSEGV)",
    13 => " (SIGPIPE)",
    15 => " (SIGTERM)",
    24 => " (SIGXCPU)",
    _ => "",
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[tokio::test]
  async fn a_host_that_ends_with_requests_unread_has_not_broken_the_protocol() {
    let (ours, theirs) = StdUnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("does not block");
    std::io::Write::write_all(&mut &ours, b"a request").expect("is sent");
    drop(theirs);
    let (read, write) = UnixStream::from_std(ours).expect("a stream").into_split();
    let mut connection = HostConnection {
      handle: HostHandle {
        outgoing: Outgoing::new(write),
        health: Arc::default(),
        kill: Arc::default(),
        pid: None,
      },
      replies: LengthDelimitedCodec::builder().new_read(read),
      child: None,
      last_words: None,
      killed: false,
      renewal: None,
    };
    assert!(connection.next().await.is_none());
    assert_eq!(connection.last_words, None);
  }

  #[test]
  fn an_end_is_told_by_code_or_signal() {
    assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exited with code 3");
    assert_eq!(
      describe(ExitStatus::from_raw(9)),
      "was killed by signal 9 (SIGKILL)"
    );
  }
}
