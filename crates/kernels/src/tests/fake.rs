//! Hosts that are threads of the test: they speak the protocol and run no code. What a cell that begins
//! with [`TELL`] says of files is told to every watch.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use kernel_protocol::KernelEvent;
use kernel_protocol::Outcome;
use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::StreamName;
use kernel_protocol::VERSION;
use kernel_protocol::encode;
use kernel_protocol::files::ChangeKind;
use kernel_protocol::files::FileChange;
use kernel_protocol::files::FileChanges;
use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileKind;
use kernel_protocol::files::FileReply;
use kernel_protocol::read_frame;

use crate::launch::HostProcess;
use crate::launch::Hosts;
use crate::launch::LaunchSpec;
use crate::launch::Tenant;

/// A variable of a kernel's environment that makes its host refuse to be configured.
pub(super) const REFUSE: &str = "REFUSE";
/// A cell that goes on until it is interrupted.
pub(super) const ENDLESS: &str = "endless";
/// Begins a cell that lists names: each is told as created, or, `!` for a name, that there were too many.
pub(super) const TELL: &str = "tell ";
/// Begins a cell that prints a variable of the environment.
pub(super) const SHOW: &str = "show ";
/// A path that is not there.
pub(super) const MISSING: &str = "missing";
/// Begins the output of a cell: the watches that are open.
pub(super) const WATCHES: &str = "watches ";
/// A cell that nothing stops but the end of its host.
pub(super) const STUBBORN: &str = "stubborn";

/// Starts hosts on threads.
pub(super) struct FakeHosts {
  version: u32,
  pub started: AtomicUsize,
}

impl FakeHosts {
  pub(super) fn new() -> Arc<Self> {
    Self::of_version(VERSION)
  }

  /// Hosts that say they are of another release.
  pub(super) fn of_version(version: u32) -> Arc<Self> {
    Arc::new(Self {
      version,
      started: AtomicUsize::new(0),
    })
  }
}

#[async_trait]
impl Hosts for FakeHosts {
  async fn check(&self, _: &LaunchSpec) -> Result<(), String> {
    Ok(())
  }

  async fn start(
    &self,
    _: &LaunchSpec,
    _: &Tenant,
    socket: UnixStream,
  ) -> io::Result<Box<dyn HostProcess>> {
    self.started.fetch_add(1, Ordering::Relaxed);
    let ended = Arc::new(AtomicBool::new(false));
    let process = FakeProcess {
      socket: socket.try_clone()?,
      ended: ended.clone(),
    };
    let version = self.version;
    std::thread::spawn(move || {
      // The server has gone, or ended the host.
      let _ = serve(&socket, version);
      ended.store(true, Ordering::Relaxed);
    });
    Ok(Box::new(process))
  }

  async fn start_on_thread(&self, spec: &LaunchSpec, socket: UnixStream) -> io::Result<()> {
    self
      .start(spec, &Tenant::Anyone, socket)
      .await
      .map(std::mem::forget)
  }

  fn close(&self) {}
}

fn serve(socket: &UnixStream, version: u32) -> io::Result<()> {
  let send = |reply: &Reply| {
    let mut out = socket;
    out.write_all(&encode(reply))
  };
  send(&Reply::Ready { version })?;
  let mut running = None;
  let mut watches = BTreeSet::new();
  let mut env = BTreeMap::new();
  let mut requests = socket;
  while let Some(request) = read_frame::<Request>(&mut requests)? {
    match request {
      Request::Configure(config) => {
        let error = config.env.contains_key(REFUSE).then(|| "refused".into());
        env = config.env;
        send(&Reply::Configured { error })?;
      }
      Request::Execute { execution_id, code } => {
        if code == ENDLESS || code == STUBBORN {
          running = Some((execution_id, code));
          continue;
        }
        let text = match code.strip_prefix(TELL) {
          Some(told) => {
            // One watch is of nobody.
            for watch in watches.iter().copied().chain([u64::MAX]) {
              let changes = told_of(told);
              send(&Reply::FilesChanged { watch, changes })?;
            }
            format!("{WATCHES}{}", watches.len())
          }
          None => match code.strip_prefix(SHOW) {
            Some(name) => env.get(name).cloned().unwrap_or_default(),
            None => code,
          },
        };
        send(&Reply::Event {
          execution_id: Some(execution_id),
          event: KernelEvent::Stream {
            name: StreamName::Stdout,
            text,
          },
        })?;
        send(&Reply::Done {
          execution_id,
          outcome: Outcome::Ok,
        })?;
      }
      Request::Comm {
        execution_id,
        message,
      } => {
        send(&Reply::Event {
          execution_id: Some(execution_id),
          event: KernelEvent::CommMsg(message.body),
        })?;
        send(&Reply::Done {
          execution_id,
          outcome: Outcome::Ok,
        })?;
      }
      Request::Interrupt { .. } => {
        if let Some((execution_id, _)) = running.take_if(|(_, code)| code == ENDLESS) {
          send(&Reply::Done {
            execution_id,
            outcome: Outcome::Interrupted,
          })?;
        }
      }
      Request::Ping => send(&Reply::Alive)?,
      Request::Shutdown => return Ok(()),
      Request::Watch { id, path } => {
        let reply = if path == MISSING {
          FileReply::Failed(FileError::NotFound)
        } else {
          watches.insert(id);
          FileReply::Entry(FileEntry {
            name: path,
            kind: FileKind::Directory,
            size: 0,
            modified: None,
          })
        };
        send(&Reply::File { id, reply })?;
      }
      Request::Unwatch { id } => {
        watches.remove(&id);
      }
      Request::SetEnvironment { variables } => env.extend(variables),
      Request::Run(_) | Request::Ask { .. } | Request::File { .. } | Request::InputReply { .. } => {
      }
    }
  }
  Ok(())
}

fn told_of(names: &str) -> FileChanges {
  if names == "!" {
    return FileChanges::TooMany;
  }
  let changes = names.split_whitespace().map(|name| FileChange {
    name: name.into(),
    change: ChangeKind::Created,
  });
  FileChanges::Names(changes.collect())
}

struct FakeProcess {
  socket: UnixStream,
  ended: Arc<AtomicBool>,
}

#[async_trait]
impl HostProcess for FakeProcess {
  fn id(&self) -> Option<u32> {
    None
  }

  fn has_exited(&self) -> bool {
    self.ended.load(Ordering::Relaxed)
  }

  fn kill_group(&mut self) {
    let _ = self.socket.shutdown(Shutdown::Both);
  }

  async fn wait(&mut self) -> Option<ExitStatus> {
    None
  }
}

impl Drop for FakeProcess {
  fn drop(&mut self) {
    self.kill_group();
  }
}
