//! The host's way out: replies and events, written to the socket in the order they happen, whichever
//! thread they come from.

use std::io;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use kernel_protocol::MAX_JSON_BYTES;
use kernel_protocol::MAX_REPLY_BYTES;
use kernel_protocol::MAX_TRACEBACK_LINES;
use kernel_protocol::ProgramEvent;
use kernel_protocol::Reply;

use crate::host::capture;
use crate::host::capture::CaptureReader;
use crate::host::fork;
use crate::sink::EventSink;
use crate::sink::ProcessOwner;

/// Longest text one stream event carries, in bytes; longer output becomes several events.
const MAX_STREAM_TEXT: usize = 1 << 20;
/// Longest text of an error or a prompt, in bytes.
const MAX_TEXT: usize = 256 << 10;
/// Exit code of a host that ends because it cannot go on (`EX_SOFTWARE`).
const FATAL_EXIT_CODE: i32 = 70;

/// What the end of a host takes with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
  Process,
  Thread,
}

pub(super) struct Outbox {
  channel: Mutex<Channel>,
  pub input: InputSlot,
  ending: Ending,
  ended: AtomicBool,
}

struct Channel {
  socket: Arc<UnixStream>,
  captured: CaptureReader,
  /// The execution that output belongs to: the running one, else the last.
  execution: Option<ExecutionId>,
}

impl Outbox {
  pub(super) fn new(socket: Arc<UnixStream>, captured: CaptureReader, ending: Ending) -> Self {
    Self {
      channel: Mutex::new(Channel {
        socket,
        captured,
        execution: None,
      }),
      input: InputSlot::default(),
      ending,
      ended: AtomicBool::new(false),
    }
  }

  /// Sends a reply, after everything printed before it.
  pub(super) fn send(&self, reply: &Reply) {
    if fork::in_child() {
      return;
    }
    let mut channel = self.lock();
    channel.flush_captured();
    channel.write(reply);
  }

  /// From here on output belongs to `execution_id`.
  pub(super) fn begin(&self, execution_id: ExecutionId) {
    let mut channel = self.lock();
    channel.flush_captured();
    channel.execution = Some(execution_id);
    channel.write(&Reply::Started { execution_id });
  }

  /// From here on output belongs to no execution: to the main program.
  pub(super) fn end_execution(&self) {
    let mut channel = self.lock();
    channel.flush_captured();
    channel.execution = None;
  }

  /// Ends the host, saying why: the process, or the thread at its next step.
  pub(super) fn end(&self, reason: &str) {
    if fork::in_child() {
      super::exit_now(FATAL_EXIT_CODE);
    }
    if self.ended.swap(true, Ordering::SeqCst) {
      return;
    }
    // The thread that fails may be inside a write; its frame would be cut, the reason lost with it.
    if let Ok(mut channel) = self.channel.try_lock() {
      channel.flush_captured();
      channel.write(&Reply::Fatal {
        reason: reason.to_owned(),
      });
    }
    match self.ending {
      Ending::Process => super::exit_now(FATAL_EXIT_CODE),
      Ending::Thread => self.close(),
    }
  }

  pub(super) fn process_owner(&self) -> ProcessOwner {
    match self.ending {
      Ending::Process => ProcessOwner::Kernel,
      Ending::Thread => ProcessOwner::Server,
    }
  }

  pub(super) fn has_ended(&self) -> bool {
    self.ended.load(Ordering::SeqCst)
  }

  /// Tells the server that nothing more will come.
  pub(super) fn close(&self) {
    let _ = self.lock().socket.shutdown(std::net::Shutdown::Both);
  }

  fn lock(&self) -> MutexGuard<'_, Channel> {
    self.channel.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Channel {
  fn write(&mut self, reply: &Reply) {
    // The server has gone: the control thread sees the same and ends the host.
    let _ = (&*self.socket).write_all(&kernel_protocol::encode(reply));
  }

  fn event(&mut self, event: KernelEvent) {
    let execution_id = self.execution;
    match event {
      KernelEvent::Stream { name, text } if text.len() > MAX_STREAM_TEXT => {
        let mut rest = text.as_str();
        while !rest.is_empty() {
          let (part, tail) = rest.split_at(rest.floor_char_boundary(MAX_STREAM_TEXT));
          let event = KernelEvent::Stream {
            name,
            text: part.to_owned(),
          };
          self.write(&Reply::Event {
            execution_id,
            event,
          });
          rest = tail;
        }
      }
      KernelEvent::DisplayData(json)
      | KernelEvent::UpdateDisplayData(json)
      | KernelEvent::ExecuteResult(json)
      | KernelEvent::CommOpen(json)
      | KernelEvent::CommMsg(json)
      | KernelEvent::CommClose(json)
        if json.as_str().len() > MAX_JSON_BYTES =>
      {
        let event = KernelEvent::stderr(format!(
          "[an output of {} MiB was dropped: the limit is {} MiB]\n",
          json.as_str().len() >> 20,
          MAX_REPLY_BYTES >> 20
        ));
        self.write(&Reply::Event {
          execution_id,
          event,
        });
      }
      event => self.write(&Reply::Event {
        execution_id,
        event: shortened(event),
      }),
    }
  }

  fn flush_captured(&mut self) {
    let mut texts = Vec::new();
    self
      .captured
      .drain(|name, text| texts.push(KernelEvent::Stream { name, text }));
    for event in texts {
      self.event(event);
    }
  }
}

/// Cuts the texts that a program chooses to what the server takes.
fn shortened(mut event: KernelEvent) -> KernelEvent {
  match &mut event {
    KernelEvent::ExecuteError(report) | KernelEvent::Error(report) => {
      cut(&mut report.ename, MAX_TEXT);
      cut(&mut report.evalue, MAX_TEXT);
      report.traceback.truncate(MAX_TRACEBACK_LINES);
      let mut left = 4 * MAX_TEXT;
      for line in &mut report.traceback {
        cut(line, MAX_TEXT.min(left));
        left = left.saturating_sub(line.len());
      }
    }
    KernelEvent::InputRequest { prompt, .. } => cut(prompt, MAX_TEXT),
    _ => {}
  }
  event
}

fn cut(text: &mut String, most: usize) {
  if text.len() > most {
    text.truncate(text.floor_char_boundary(most));
    text.push('…');
  }
}

impl EventSink for Outbox {
  fn emit(&self, event: KernelEvent) {
    if fork::in_child() {
      return;
    }
    let mut channel = self.lock();
    channel.flush_captured();
    channel.event(event);
  }

  fn ask(&self, prompt: String, password: bool) -> Option<String> {
    if fork::in_child() {
      return None;
    }
    self.input.open();
    self.emit(KernelEvent::InputRequest { prompt, password });
    self.input.wait()
  }

  fn program(&self, event: ProgramEvent) {
    self.send(&Reply::Program(event));
  }

  fn fatal(&self, reason: &str) {
    self.end(reason);
  }
}

/// Forwards captured output as it comes, also while no event is sent.
pub(super) fn pump_captured_output(outbox: &Arc<Outbox>) -> io::Result<()> {
  let watched = outbox.lock().captured.watch()?;
  let outbox = outbox.clone();
  std::thread::Builder::new()
    .name("kernel-stdio".into())
    .spawn(move || {
      while capture::wait(&watched) && !outbox.has_ended() {
        outbox.lock().flush_captured();
      }
    })?;
  Ok(())
}

/// One prompt at a time, answered from the control thread.
#[derive(Default)]
pub(super) struct InputSlot {
  state: Mutex<Input>,
  changed: Condvar,
}

#[derive(Default)]
enum Input {
  #[default]
  Closed,
  Waiting,
  Answered(Option<String>),
}

impl InputSlot {
  fn open(&self) {
    *self.lock() = Input::Waiting;
  }

  fn wait(&self) -> Option<String> {
    let mut state = self.lock();
    loop {
      match std::mem::take(&mut *state) {
        Input::Answered(value) => return value,
        Input::Closed => return None,
        Input::Waiting => {
          *state = Input::Waiting;
          state = self
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        }
      }
    }
  }

  /// Answers the open prompt; without one it does nothing.
  pub(super) fn answer(&self, value: Option<String>) {
    let mut state = self.lock();
    if matches!(*state, Input::Waiting) {
      *state = Input::Answered(value);
      self.changed.notify_all();
    }
  }

  pub(super) fn cancel(&self) {
    self.answer(None);
  }

  fn lock(&self) -> MutexGuard<'_, Input> {
    self.state.lock().unwrap_or_else(PoisonError::into_inner)
  }
}
