//! Hosts that are played: threads that speak the protocol and understand a few words, each beside a process that does
//! nothing but be there, so that a kernel can be signalled and measured.

#![expect(
  clippy::disallowed_methods,
  reason = "the thread of a host waits for nobody else"
)]

use std::io;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use ::engine::kernel_protocol::ExecutionId;
use ::engine::kernel_protocol::KernelEvent;
use ::engine::kernel_protocol::Outcome;
use ::engine::kernel_protocol::ProgramEvent;
use ::engine::kernel_protocol::Reply;
use ::engine::kernel_protocol::Request;
use ::engine::kernel_protocol::StreamName;
use ::engine::kernel_protocol::VERSION;
use ::engine::kernel_protocol::encode;
use ::engine::kernel_protocol::read_frame;
use ::engine::kernels::launch::HostProcess;
use ::engine::kernels::launch::Hosts;
use ::engine::kernels::launch::LaunchSpec;
use ::engine::kernels::launch::Tenant;
use async_trait::async_trait;

pub(crate) struct PlayedHosts;

#[async_trait]
impl Hosts for PlayedHosts {
  async fn check(&self, _: &LaunchSpec) -> Result<(), String> {
    Ok(())
  }

  async fn start(
    &self,
    _: &LaunchSpec,
    _: &Tenant,
    socket: UnixStream,
  ) -> io::Result<Box<dyn HostProcess>> {
    let mut child = Command::new("cat")
      .stdin(Stdio::piped())
      .stdout(Stdio::null())
      .spawn()?;
    let process = PlayedProcess {
      pid: child.id(),
      // It ends with its input.
      input: child.stdin.take(),
      ended: Arc::default(),
    };
    let (ended, closed) = (process.ended.clone(), socket.try_clone()?);
    std::thread::spawn(move || {
      let _ = child.wait();
      ended.store(true, Ordering::Relaxed);
      let _ = closed.shutdown(Shutdown::Both);
    });
    // It fails when the server has gone, or ended the host.
    std::thread::spawn(move || serve(&socket));
    Ok(Box::new(process))
  }

  async fn start_on_thread(&self, _: &LaunchSpec, _: UnixStream) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
  }

  fn close(&self) {}
}

fn serve(socket: &UnixStream) -> io::Result<()> {
  let host = Host(socket);
  host.send(&Reply::Ready { version: VERSION })?;
  let mut requests = socket;
  while let Some(request) = read_frame::<Request>(&mut requests)? {
    match request {
      Request::Configure(_) => host.send(&Reply::Configured { error: None })?,
      Request::Run(program) => {
        host.send(&Reply::Program(ProgramEvent::Started))?;
        for line in std::fs::read_to_string(program.path)?.lines() {
          match line {
            "end" => host.send(&Reply::Program(ProgramEvent::Finished { code: 0 }))?,
            "crash" => host.send(&Reply::Program(ProgramEvent::Finished { code: 3 }))?,
            line => host.say(None, line)?,
          }
        }
      }
      Request::Execute { execution_id, code } => {
        for line in code.lines() {
          host.say(Some(execution_id), line)?;
        }
        host.send(&Reply::Done {
          execution_id,
          outcome: Outcome::Ok,
        })?;
      }
      Request::Ping => host.send(&Reply::Alive)?,
      Request::Shutdown => break,
      _ => {}
    }
  }
  Ok(())
}

struct Host<'a>(&'a UnixStream);

impl Host<'_> {
  fn send(&self, reply: &Reply) -> io::Result<()> {
    let mut socket = self.0;
    socket.write_all(&encode(reply))
  }

  /// What a line does that is neither the end nor a crash: `print …`, `warn …`, `show …` and `raise …`.
  fn say(&self, execution_id: Option<ExecutionId>, line: &str) -> io::Result<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let stream = |name| KernelEvent::Stream {
      name,
      text: format!("{rest}\n"),
    };
    let event = match word {
      "print" => stream(StreamName::Stdout),
      "warn" => stream(StreamName::Stderr),
      "show" => {
        let data = format!(r#"{{"execution_count":1,"data":{{"text/plain":"{rest}"}}}}"#);
        KernelEvent::from_parts("execute_result", &data).map_err(io::Error::other)?
      }
      "raise" => KernelEvent::python_error("ValueError", rest),
      _ => return Ok(()),
    };
    self.send(&Reply::Event {
      execution_id,
      event,
    })
  }
}

struct PlayedProcess {
  pid: u32,
  input: Option<std::process::ChildStdin>,
  ended: Arc<AtomicBool>,
}

#[async_trait]
impl HostProcess for PlayedProcess {
  fn id(&self) -> Option<u32> {
    Some(self.pid)
  }

  fn has_exited(&self) -> bool {
    self.ended.load(Ordering::Relaxed)
  }

  fn kill_group(&mut self) {
    self.input = None;
  }

  async fn wait(&mut self) -> Option<ExitStatus> {
    None
  }
}
