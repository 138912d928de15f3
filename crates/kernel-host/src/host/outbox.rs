//! The host's way out: replies and events, written to the socket in the order they happen, whichever
//! thread they come from.

use std::io;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use kernel_protocol::MAX_JSON_BYTES;
use kernel_protocol::MAX_REPLY_BYTES;
use kernel_protocol::MAX_TRACEBACK_LINES;
use kernel_protocol::ProgramEvent;
use kernel_protocol::Reply;

use crate::host::alarm::Alarm;
use crate::host::capture;
use crate::host::capture::CaptureReader;
use crate::host::fork;
use crate::sink::EventSink;
use crate::sink::ProcessOwner;

/// Longest text one stream event carries, in bytes; longer output becomes several events.
const MAX_STREAM_TEXT: usize = 1 << 20;
/// Longest text of an error or a prompt, in bytes.
const MAX_TEXT: usize = 256 << 10;
/// How long an event may wait for more.
const HOLD: Duration = Duration::from_millis(1);
/// How much waits, in bytes.
const MAX_HELD: usize = 64 << 10;
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
  /// Frames that wait for more.
  held: Vec<u8>,
  /// Wakes the thread that sends them if nothing else does. Without one nothing waits.
  alarm: Option<Alarm>,
  written: Instant,
  captured: CaptureReader,
  /// The execution that output belongs to: the running one, else the last.
  execution: Option<ExecutionId>,
}

impl Outbox {
  pub(super) fn new(socket: Arc<UnixStream>, captured: CaptureReader, ending: Ending) -> Self {
    Self {
      channel: Mutex::new(Channel {
        socket,
        held: Vec::new(),
        alarm: None,
        written: Instant::now(),
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
    channel.flush();
    channel.execution = Some(execution_id);
  }

  /// From here on output belongs to no execution: to the main program.
  pub(super) fn end_execution(&self) {
    let mut channel = self.lock();
    channel.flush_captured();
    channel.flush();
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
  /// Sends a reply, and what waits before it.
  fn write(&mut self, reply: &Reply) {
    kernel_protocol::encode_into(&mut self.held, reply);
    self.flush();
  }

  /// Sends what waits.
  fn flush(&mut self) {
    if let Some(alarm) = &mut self.alarm {
      alarm.clear();
    }
    if self.held.is_empty() {
      return;
    }
    // The server has gone: the control thread sees the same and ends the host.
    let _ = (&*self.socket).write_all(&self.held);
    self.held.clear();
    self.held.shrink_to(MAX_HELD);
    self.written = Instant::now();
  }

  /// Sends what came without a reply: what was captured, and what has waited for long enough.
  fn catch_up(&mut self) {
    self.flush_captured();
    self.flush();
  }

  /// Sends what waits, unless more may come within the time that it may wait.
  fn flush_soon(&mut self) {
    let waits = self.held.len() < MAX_HELD && self.alarm.as_mut().is_some_and(|it| it.set(HOLD));
    if !waits {
      self.flush();
    }
  }

  /// Puts an event behind what waits. A flood does not wait.
  fn hold(&mut self, event: KernelEvent) {
    let execution_id = self.execution;
    let reply = Reply::Event {
      execution_id,
      event,
    };
    kernel_protocol::encode_into(&mut self.held, &reply);
    if self.held.len() >= MAX_HELD {
      self.flush();
    }
  }

  fn event(&mut self, event: KernelEvent) {
    match event {
      KernelEvent::Stream { name, text } if text.len() > MAX_STREAM_TEXT => {
        let mut rest = text.as_str();
        while !rest.is_empty() {
          let (part, tail) = rest.split_at(rest.floor_char_boundary(MAX_STREAM_TEXT));
          let text = part.to_owned();
          self.hold(KernelEvent::Stream { name, text });
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
        self.hold(KernelEvent::stderr(format!(
          "[an output of {} MiB was dropped: the limit is {} MiB]\n",
          json.as_str().len() >> 20,
          MAX_REPLY_BYTES >> 20
        )));
      }
      event => self.hold(shortened(event)),
    }
  }

  /// Puts what was captured behind what waits.
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
    channel.flush();
  }

  fn emit_soon(&self, event: KernelEvent) {
    if fork::in_child() {
      return;
    }
    let mut channel = self.lock();
    // What is printed after a pause is shown at once.
    let after_pause =
      matches!(event, KernelEvent::Stream { .. }) && channel.written.elapsed() > HOLD;
    channel.flush_captured();
    channel.event(event);
    if after_pause {
      channel.flush();
    } else {
      channel.flush_soon();
    }
  }

  fn emit_last(&self, event: KernelEvent) {
    if fork::in_child() {
      return;
    }
    let mut channel = self.lock();
    channel.flush_captured();
    channel.event(event);
  }

  fn flush(&self) {
    // The thread that ends may be inside a write.
    if !fork::in_child()
      && let Ok(mut channel) = self.channel.try_lock()
    {
      channel.flush_captured();
      channel.flush();
    }
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

/// Forwards captured output as it comes, also while no event is sent, and what has waited for more.
pub(super) fn pump_captured_output(outbox: &Arc<Outbox>) -> io::Result<()> {
  let alarm = Alarm::new()?;
  let watched = outbox.lock().captured.watch(alarm.watch()?)?;
  outbox.lock().alarm = Some(alarm);
  let outbox = outbox.clone();
  std::thread::Builder::new()
    .name("kernel-stdio".into())
    .spawn(move || {
      while capture::wait(&watched) && !outbox.has_ended() {
        outbox.lock().catch_up();
      }
      let mut channel = outbox.lock();
      channel.alarm = None;
      channel.flush();
    })?;
  Ok(())
}

/// Where a process that ends by the C library's `exit` has what still waits to be sent.
static LAST_WORDS: OnceLock<Weak<Outbox>> = OnceLock::new();

/// Sends what waits before this process ends by `exit`.
pub(super) fn flush_at_exit(outbox: &Arc<Outbox>) {
  extern "C" fn flush() {
    if let Some(outbox) = LAST_WORDS.get().and_then(Weak::upgrade) {
      EventSink::flush(&*outbox);
    }
  }
  if LAST_WORDS.set(Arc::downgrade(outbox)).is_ok() {
    // SAFETY: the function may be called at any time. Without it, as it were, what waits is lost.
    unsafe { libc::atexit(flush) };
  }
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

#[cfg(test)]
mod tests {
  use std::fs::File;
  use std::io::Read;

  use kernel_protocol::Outcome;
  use kernel_protocol::StreamName;
  use kernel_protocol::json::JsonText;

  use super::*;
  use crate::host::Capture;

  /// An outbox, its other end, and the stdout that it captures.
  fn outbox() -> (Arc<Outbox>, UnixStream, [File; 2]) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let capture = Capture::pipes().expect("pipes");
    let outbox = Outbox::new(Arc::new(ours), capture.reader, Ending::Thread);
    let outbox = Arc::new(outbox);
    pump_captured_output(&outbox).expect("a thread");
    (outbox, theirs, [capture.stdout, capture.stderr])
  }

  fn printed(text: &str) -> KernelEvent {
    KernelEvent::Stream {
      name: StreamName::Stdout,
      text: text.into(),
    }
  }

  fn result() -> KernelEvent {
    KernelEvent::ExecuteResult(JsonText::new("{}".into()).expect("is JSON"))
  }

  fn event(mut socket: &UnixStream) -> KernelEvent {
    match kernel_protocol::read_frame(&mut socket) {
      Ok(Some(Reply::Event { event, .. })) => event,
      other => panic!("{other:?}"),
    }
  }

  fn has_come(mut socket: &UnixStream) -> bool {
    socket.set_nonblocking(true).expect("does not block");
    let come = socket.read(&mut [0; 4096]).is_ok();
    socket.set_nonblocking(false).expect("blocks");
    come
  }

  #[test]
  fn what_is_printed_after_a_pause_leaves_at_once() {
    let (outbox, socket, _open) = outbox();
    outbox.lock().written -= 2 * HOLD;
    outbox.emit_soon(printed("a"));
    assert!(has_come(&socket));
  }

  #[test]
  fn what_waits_leaves_by_itself() {
    let (outbox, socket, _open) = outbox();
    for text in ["a", "b"] {
      outbox.lock().written = Instant::now();
      outbox.emit_soon(printed(text));
      assert_eq!(event(&socket), printed(text));
    }
    outbox.emit_soon(KernelEvent::ClearOutput { wait: false });
    assert_eq!(event(&socket), KernelEvent::ClearOutput { wait: false });
  }

  #[test]
  fn the_last_event_of_a_cell_leaves_with_its_end() {
    let (outbox, socket, _open) = outbox();
    outbox.emit_last(result());
    assert!(!has_come(&socket));
    let execution_id = ExecutionId::random();
    outbox.send(&Reply::Done {
      execution_id,
      outcome: Outcome::Ok,
    });
    assert_eq!(event(&socket), result());
    let end = kernel_protocol::read_frame::<Reply>(&mut &socket);
    assert!(matches!(end, Ok(Some(Reply::Done { .. }))), "{end:?}");
  }

  #[test]
  fn what_waits_and_what_is_captured_keep_their_order() {
    let (outbox, socket, [mut stdout, _stderr]) = outbox();
    let mut wanted = String::new();
    for number in 0..100 {
      let text = format!("{number},");
      match number % 2 {
        0 => outbox.emit_soon(printed(&text)),
        _ => stdout.write_all(text.as_bytes()).expect("is open"),
      }
      wanted.push_str(&text);
    }
    outbox.emit_last(result());
    outbox.flush();
    let mut seen = String::new();
    loop {
      match event(&socket) {
        KernelEvent::Stream { text, .. } => seen.push_str(&text),
        other => break assert_eq!(other, result()),
      }
    }
    assert_eq!(seen, wanted);
  }
}
