//! The kernel host: what runs in a kernel process, or, for `main_thread` kernels, on threads of
//! the server. Its control half reads requests, so that an interrupt arrives while code runs; the
//! other owns the language. Which threads they run on is for the language's starter to say: V8
//! wants one it knows, Python the one it was initialised on.

mod alarm;
mod capture;
pub mod fork;
pub mod fork_server;
mod memory;
mod outbox;
pub mod zygote;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use kernel_protocol::ExecutionId;
use kernel_protocol::HostConfig;
use kernel_protocol::MAX_JSON_BYTES;
use kernel_protocol::MainProgram;
use kernel_protocol::ProgramEvent;
use kernel_protocol::Question;
use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::VERSION;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::descriptors::DescriptorReader;
use kernel_protocol::files::FileRequest;
use kernel_protocol::json::JsonText;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::outbox::Outbox;
use self::zygote::Zygote;
use crate::files::DiskFiles;
use crate::language::Cell;
use crate::language::Environment;
use crate::language::Interrupt;
use crate::language::Language;
use crate::listings::ListingWatches;
use crate::sink::EventSink;
use crate::sink::ProcessOwner;
use crate::sink::SharedSink;

pub use self::capture::Capture;
pub use self::memory::give_free_memory_back;
pub use self::memory::let_go_of_code;
pub use self::outbox::Ending;

/// How long a kernel has nothing to do before it gives memory back.
const QUIET: Duration = Duration::from_millis(400);

/// Work for the thread that owns the language, in the order it arrived.
enum Job {
  Configure(Box<HostConfig>, Vec<OwnedFd>),
  Execute {
    execution_id: ExecutionId,
    code: String,
  },
  Comm {
    execution_id: ExecutionId,
    message: CommMessage,
  },
  Run(MainProgram),
  Ask {
    id: u64,
    question: Question,
  },
  File {
    id: u64,
    request: FileRequest,
  },
  Watch {
    id: u64,
    path: String,
  },
  Unwatch {
    id: u64,
  },
}

/// What a language boots with.
pub struct Surroundings {
  pub sink: SharedSink,
  /// Write ends of the pipes that stand for the kernel's stdout and stderr.
  pub stdout: File,
  pub stderr: File,
  pub owner: ProcessOwner,
}

/// The half that reads requests.
pub struct Control {
  socket: Arc<UnixStream>,
  outbox: Arc<Outbox>,
  jobs: mpsc::UnboundedSender<Job>,
  booted: SharedBooted,
  /// The files of a configured kernel that keeps them on disk.
  files: Option<DiskFiles>,
  ending: Ending,
}

/// The half that owns the language.
pub struct Owner {
  outbox: Arc<Outbox>,
  queue: mpsc::UnboundedReceiver<Job>,
  booted: SharedBooted,
  stdout: File,
  stderr: File,
  /// In a process that forks kernels.
  zygote: Option<Zygote>,
}

/// What the control half knows of a language that has booted.
struct Booted {
  interrupt: Arc<dyn Interrupt>,
  environment: Arc<dyn Environment>,
  keeps_files_on_disk: bool,
}

/// Empty until the language has booted.
type SharedBooted = Arc<OnceLock<Booted>>;

/// Takes the socket off descriptor 0, so that user code finds an empty stdin there.
///
/// # Errors
/// When descriptors run out.
pub fn take_socket() -> io::Result<UnixStream> {
  let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
  rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
  Ok(UnixStream::from(socket))
}

/// Puts the capturing pipes on descriptors 1 and 2.
///
/// # Errors
/// When descriptors run out.
pub fn capture_stdio() -> io::Result<Capture> {
  let capture = Capture::pipes()?;
  rustix::stdio::dup2_stdout(&capture.stdout)?;
  rustix::stdio::dup2_stderr(&capture.stderr)?;
  Ok(capture)
}

/// Ends the process at once: other threads may still run user code, and nothing of theirs may run
/// on the way out.
pub fn exit_now(code: i32) -> ! {
  // SAFETY: `_exit` takes any integer and does not return.
  unsafe { libc::_exit(code) }
}

/// Ends the process as its main program wants it to.
pub fn end_program(sink: &dyn EventSink, code: i32) -> ! {
  sink.program(ProgramEvent::Finished { code });
  exit_now(code)
}

/// The two halves of a host that talks over `socket`.
///
/// # Errors
/// When threads or descriptors run out.
pub fn halves(
  socket: UnixStream,
  capture: Capture,
  ending: Ending,
) -> io::Result<(Control, Owner)> {
  let socket = Arc::new(socket);
  let outbox = Arc::new(Outbox::new(socket.clone(), capture.reader, ending));
  if ending == Ending::Process {
    outbox::flush_at_exit(&outbox);
  }
  let (jobs, queue) = mpsc::unbounded_channel();
  let booted = SharedBooted::default();
  let control = Control {
    socket,
    outbox: outbox.clone(),
    jobs,
    booted: booted.clone(),
    files: None,
    ending,
  };
  let owner = Owner {
    outbox,
    queue,
    booted,
    stdout: capture.stdout,
    stderr: capture.stderr,
    zygote: None,
  };
  Ok((control, owner))
}

impl Control {
  /// Reads requests until the server closes the socket, then ends the host: the process, or, on
  /// threads, the language at its next step.
  pub fn run(mut self) {
    let socket = self.socket.clone();
    let mut reader = DescriptorReader::new(&socket);
    while let Ok(Some(request)) = kernel_protocol::read_frame::<Request>(&mut reader) {
      let descriptors = reader.take_descriptors();
      let job = match request {
        Request::Configure(config) => {
          if self.booted.get().is_some_and(|it| it.keeps_files_on_disk) {
            let outbox = self.outbox.clone();
            let tell = move |watch, changes| outbox.send(&Reply::FilesChanged { watch, changes });
            self.files = Some(DiskFiles::new(&config, &descriptors, Arc::new(tell)));
          }
          Job::Configure(config, descriptors)
        }
        Request::Execute { execution_id, code } => Job::Execute { execution_id, code },
        Request::Comm {
          execution_id,
          message,
        } => Job::Comm {
          execution_id,
          message,
        },
        Request::Run(program) => Job::Run(program),
        Request::Ask { id, question } => Job::Ask { id, question },
        Request::File { id, request } => match &self.files {
          Some(files) => {
            let reply = files.answer(&request);
            self.outbox.send(&Reply::File { id, reply });
            continue;
          }
          None => Job::File { id, request },
        },
        Request::Watch { id, path } => match &self.files {
          Some(files) => {
            let reply = files.watch(id, path);
            self.outbox.send(&Reply::File { id, reply });
            continue;
          }
          None => Job::Watch { id, path },
        },
        Request::Unwatch { id } => match &self.files {
          Some(files) => {
            files.unwatch(id);
            continue;
          }
          None => Job::Unwatch { id },
        },
        Request::SetEnvironment { variables } => {
          if let Some(booted) = self.booted.get() {
            booted.environment.set(variables);
          }
          continue;
        }
        Request::InputReply { value } => {
          self.outbox.input.answer(value);
          continue;
        }
        Request::Interrupt { execution_id } => {
          stop(&self.booted, &self.outbox, execution_id);
          continue;
        }
        Request::Ping => {
          self.outbox.send(&Reply::Alive);
          continue;
        }
        Request::Shutdown => break,
      };
      if self.jobs.send(job).is_err() {
        break;
      }
    }
    if self.ending == Ending::Process {
      exit_now(0);
    }
    let Self {
      outbox,
      jobs,
      booted,
      ..
    } = self;
    // The language sees its queue closed once nothing runs.
    drop(jobs);
    stop(&booted, &outbox, None);
  }

  /// Keeps children that user code forks off away from the server.
  ///
  /// # Errors
  /// When the process has no memory left for it.
  pub fn guard_forks(&self) -> io::Result<()> {
    fork::guard(&self.socket)
  }

  /// Runs on a thread of its own.
  ///
  /// # Errors
  /// When there can be no more threads.
  pub fn spawn(self) -> io::Result<()> {
    std::thread::Builder::new()
      .name("kernel-control".into())
      .spawn(move || self.run())?;
    Ok(())
  }
}

fn stop(booted: &SharedBooted, outbox: &Outbox, execution_id: Option<ExecutionId>) {
  if let Some(booted) = booted.get() {
    let interrupt = &booted.interrupt;
    interrupt.interrupt(execution_id, &|| outbox.input.cancel());
  }
}

impl Owner {
  /// Boots the language on this thread and works until the server has closed the socket.
  pub fn run<L: Language>(self, boot: impl AsyncFnOnce(Surroundings) -> io::Result<L>) {
    let outbox = self.outbox.clone();
    match catch_unwind(AssertUnwindSafe(|| self.work(boot))) {
      Ok(Ok(())) => outbox.close(),
      Ok(Err(error)) => outbox.end(&format!("the kernel could not start: {error}")),
      Err(panic) => outbox.end(&format!(
        "the kernel host panicked: {}",
        panic_message(&*panic)
      )),
    }
  }

  /// Works through the queue; background work of user code goes on between the jobs.
  fn work<L: Language>(
    mut self,
    boot: impl AsyncFnOnce(Surroundings) -> io::Result<L>,
  ) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
      .enable_all()
      // Async file and DNS operations of one kernel; the default of 512 is for a whole server.
      .max_blocking_threads(16)
      .build()?;
    runtime.block_on(async {
      let outbox = &self.outbox;
      let zygote = self.zygote.take();
      let mut forked = None;
      if zygote.is_none() {
        outbox::pump_captured_output(outbox)?;
      }
      let booted = boot(Surroundings {
        sink: outbox.clone(),
        stdout: self.stdout,
        stderr: self.stderr,
        owner: outbox.process_owner(),
      });
      let mut language = match (booted.await, zygote) {
        (Ok(language), None) => language,
        (Ok(mut language), Some(zygote)) => {
          forked = Some(fork_kernels(outbox, &mut language, zygote).await?);
          language
        }
        (Err(error), None) => return Err(error),
        (Err(error), Some(zygote)) => {
          zygote.fail(&error.to_string());
          exit_now(1);
        }
      };
      let _ = self.booted.set(Booted {
        interrupt: language.interrupter(),
        environment: language.environment(),
        keeps_files_on_disk: L::FILES_ON_DISK,
      });
      outbox.send(&Reply::Ready { version: VERSION });
      // While the server reads that.
      if let Some(control) = forked {
        language.start_threads()?;
        outbox::pump_captured_output(outbox)?;
        control.spawn()?;
      }
      let mut quiet = Some(Instant::now() + QUIET);
      let mut has_program = false;
      let mut watches = ListingWatches::default();
      let tell = |watch, changes| outbox.send(&Reply::FilesChanged { watch, changes });
      loop {
        let due = watches.due();
        let job = tokio::select! {
          biased;
          job = self.queue.recv() => job,
          () = language.idle() => continue,
          () = at(quiet) => {
            quiet = None;
            language.relax();
            give_free_memory_back();
            continue;
          }
          () = at(due) => {
            watches.look(&mut language, tell).await;
            continue;
          }
        };
        match job {
          None => return Ok(()),
          Some(job) => {
            has_program |= matches!(job, Job::Run(_));
            outbox.work_off(job, &mut language, &mut watches).await;
            if has_program {
              outbox.end_execution();
            }
          }
        }
        // Jobs that wait one behind the other do not keep a watch silent.
        if watches.due().is_some_and(|due| due <= Instant::now()) {
          watches.look(&mut language, tell).await;
        }
        quiet = Some(Instant::now() + QUIET);
        if outbox.has_ended() {
          return Ok(());
        }
      }
    })
  }
}

/// Forks kernels from a language that has booted. Returns in each, whose threads are still to be started.
async fn fork_kernels(
  outbox: &Outbox,
  language: &mut impl Language,
  zygote: Zygote,
) -> io::Result<Control> {
  let prepared = language.prepare_to_fork().await;
  let inherited = match prepared.and_then(|()| zygote.inherited()) {
    Ok(inherited) => inherited,
    Err(error) => {
      zygote.fail(&error.to_string());
      exit_now(1);
    }
  };
  // What the language said until now is nobody's to hear.
  outbox.flush();
  // Else every child would, and have that memory for itself.
  give_free_memory_back();
  let_go_of_code();
  let control = zygote.serve(&inherited)?;
  language.forked()?;
  Ok(control)
}

/// Waits until then; without a time for ever.
async fn at(time: Option<Instant>) {
  match time {
    Some(time) => tokio::time::sleep_until(time).await,
    None => std::future::pending().await,
  }
}

impl Outbox {
  async fn work_off(&self, job: Job, language: &mut impl Language, watches: &mut ListingWatches) {
    match job {
      Job::Configure(config, roots) => {
        let error = language.configure(&config, roots).await.err();
        self.send(&Reply::Configured { error });
      }
      Job::Execute { execution_id, code } => {
        self.begin(execution_id);
        let outcome = language.execute(Cell { execution_id, code }).await;
        self.send(&Reply::Done {
          execution_id,
          outcome,
        });
      }
      Job::Comm {
        execution_id,
        message,
      } => {
        self.begin(execution_id);
        let outcome = language.comm(execution_id, message).await;
        self.send(&Reply::Done {
          execution_id,
          outcome,
        });
      }
      Job::Run(program) => language.run_program(program).await,
      Job::Ask { id, question } => {
        let answer = bounded(&language.answer(question).await);
        self.send(&Reply::Answer { id, answer });
      }
      Job::File { id, request } => {
        let reply = language.file(request).await;
        self.send(&Reply::File { id, reply });
      }
      Job::Watch { id, path } => {
        let reply = watches.open(id, path, language).await;
        self.send(&Reply::File { id, reply });
      }
      Job::Unwatch { id } => watches.close(id),
    }
  }
}

/// The JSON of an answer, or of an error where that is too long to be sent.
fn bounded(answer: &Value) -> JsonText {
  let text = answer.to_string();
  let text = if text.len() > MAX_JSON_BYTES {
    json!({
      "status": "error",
      "ename": "TooLarge",
      "evalue": format!("the answer is larger than {MAX_JSON_BYTES} bytes"),
      "traceback": [],
    })
    .to_string()
  } else {
    text
  };
  JsonText::new(text).expect("a value is JSON")
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
  panic
    .downcast_ref::<&str>()
    .copied()
    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    .unwrap_or("no message")
}
