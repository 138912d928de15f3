//! The kernel host: what runs in a kernel process, or, for `main_thread` kernels, on a thread of
//! the server. One thread reads requests, so that an interrupt arrives while code runs; another
//! owns the language.

mod capture;
mod outbox;
mod spec;

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::mpsc;

use self::capture::Capture;
use self::outbox::Ending;
use self::outbox::Outbox;
pub use self::spec::HostSpec;
use crate::lang::Cell;
use crate::lang::Interrupt;
use crate::lang::Language;
use crate::protocol;
use crate::protocol::ExecutionId;
use crate::protocol::HostConfig;
use crate::protocol::Question;
use crate::protocol::Reply;
use crate::protocol::Request;
use crate::runtime::JsWorkerOptions;

/// How long a kernel has nothing to do before it gives memory back.
const QUIET: Duration = Duration::from_millis(400);

/// Work for the thread that owns the language, in the order it arrived.
enum Job {
  Configure(Box<HostConfig>),
  Execute {
    execution_id: ExecutionId,
    code: String,
  },
  Ask {
    id: u64,
    question: Question,
  },
}

/// Boots a language on its own thread.
trait Boot<L: Language>: AsyncFnOnce(JsWorkerOptions) -> io::Result<L> + Send + 'static {}
impl<L: Language, F: AsyncFnOnce(JsWorkerOptions) -> io::Result<L> + Send + 'static> Boot<L> for F {}

/// The body of the hidden `kernel-host` command: the socket to the server is file descriptor 0.
fn run_process<L: Language>(boot: impl Boot<L>) -> ExitCode {
  let run = |(socket, capture)| serve(socket, capture, Ending::Process, boot);
  match process_socket().and_then(run) {
    // Other threads may still run user code: nothing of theirs may run on the way out.
    Ok(()) => exit_now(0),
    Err(error) => {
      use std::io::Write;
      let _ = writeln!(io::stderr(), "kernel host: {error}");
      ExitCode::FAILURE
    }
  }
}

/// Runs a host on threads of this process; returns once the host is up.
///
/// # Errors
/// When the threads or pipes cannot be made.
fn run_thread<L: Language>(socket: UnixStream, boot: impl Boot<L>) -> io::Result<()> {
  let capture = Capture::pipes()?;
  std::thread::Builder::new()
    .name("kernel-control".into())
    .spawn(move || {
      if let Err(error) = serve(socket, capture, Ending::Thread, boot) {
        tracing::error!("kernel host: {error}");
      }
    })?;
  Ok(())
}

/// Takes the socket off descriptor 0, so that user code finds an empty stdin there, and puts the
/// capturing pipes on 1 and 2.
fn process_socket() -> io::Result<(UnixStream, Capture)> {
  use rustix::stdio;
  die_with_the_server()?;
  let socket = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
  let null = std::fs::File::open("/dev/null")?;
  stdio::dup2_stdin(&null)?;
  let capture = Capture::pipes()?;
  stdio::dup2_stdout(&capture.stdout)?;
  stdio::dup2_stderr(&capture.stderr)?;
  Ok((UnixStream::from(socket), capture))
}

/// The closed socket tells a living host that the server has gone; this also ends one that is stuck.
fn die_with_the_server() -> io::Result<()> {
  #[cfg(target_os = "linux")]
  {
    use rustix::process;
    process::set_parent_process_death_signal(Some(process::Signal::KILL))?;
    // A crash of user code is reported, not dumped.
    let none = process::Rlimit {
      current: Some(0),
      maximum: Some(0),
    };
    process::setrlimit(process::Resource::Core, none)?;
  }
  Ok(())
}

/// Returns what glibc keeps of freed memory.
fn give_free_memory_back() {
  // SAFETY: takes no pointers and is thread-safe.
  #[cfg(all(target_os = "linux", target_env = "gnu"))]
  unsafe {
    libc::malloc_trim(0);
  }
}

fn exit_now(code: i32) -> ! {
  // SAFETY: `_exit` takes any integer and does not return.
  unsafe { libc::_exit(code) }
}

/// Boots the language and reads requests until the server closes the socket.
fn serve<L: Language>(
  mut socket: UnixStream,
  capture: Capture,
  ending: Ending,
  boot: impl Boot<L>,
) -> io::Result<()> {
  let (stdout, stderr) = (capture.stdout.try_clone()?, capture.stderr.try_clone()?);
  let outbox = Arc::new(Outbox::new(socket.try_clone()?, capture.reader, ending));
  outbox::pump_captured_output(&outbox)?;
  let (jobs, queue) = mpsc::unbounded_channel();
  let interrupt = Arc::<OnceLock<Arc<dyn Interrupt>>>::default();

  let owner = (outbox.clone(), interrupt.clone());
  crate::runtime::spawn_isolate_thread("kernel", move || {
    let (outbox, interrupt) = owner;
    let run = AssertUnwindSafe(|| own_language(&outbox, stdout, stderr, &interrupt, queue, boot));
    match catch_unwind(run) {
      Ok(Ok(())) => outbox.close(),
      Ok(Err(error)) => outbox.end(&format!("the kernel could not start: {error}")),
      Err(panic) => outbox.end(&format!(
        "the kernel host panicked: {}",
        panic_message(&*panic)
      )),
    }
  })?;

  while let Ok(Some(request)) = protocol::read_frame::<Request>(&mut socket) {
    let job = match request {
      Request::Configure(config) => Job::Configure(config),
      Request::Execute { execution_id, code } => Job::Execute { execution_id, code },
      Request::Ask { id, question } => Job::Ask { id, question },
      Request::InputReply { value } => {
        outbox.input.answer(value);
        continue;
      }
      Request::Interrupt { execution_id } => {
        outbox.input.cancel();
        if let Some(interrupt) = interrupt.get() {
          interrupt.interrupt(execution_id);
        }
        continue;
      }
      Request::Shutdown => break,
    };
    if jobs.send(job).is_err() {
      break;
    }
  }
  // On a thread, the language must end too; it sees its queue closed once nothing runs.
  drop(jobs);
  outbox.input.cancel();
  if let Some(interrupt) = interrupt.get() {
    interrupt.interrupt(None);
  }
  Ok(())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
  panic
    .downcast_ref::<&str>()
    .copied()
    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
    .unwrap_or("no message")
}

/// The isolate's thread: boots, then works through the queue; background work of user code goes on
/// between the jobs.
fn own_language<L: Language>(
  outbox: &Arc<Outbox>,
  stdout: std::fs::File,
  stderr: std::fs::File,
  interrupt: &OnceLock<Arc<dyn Interrupt>>,
  mut queue: mpsc::UnboundedReceiver<Job>,
  boot: impl Boot<L>,
) -> io::Result<()> {
  let runtime = tokio::runtime::Builder::new_current_thread()
    .enable_all()
    // Async file and DNS operations of one kernel; the default of 512 is for a whole server.
    .max_blocking_threads(16)
    .build()?;
  runtime.block_on(async {
    let mut language = boot(JsWorkerOptions {
      sink: outbox.clone(),
      stdout,
      stderr,
      owner: outbox.process_owner(),
    })
    .await?;
    let _ = interrupt.set(language.interrupter());
    outbox.send(&Reply::Ready);
    let mut worked = true;
    loop {
      let job = tokio::select! {
        biased;
        job = queue.recv() => job,
        () = language.idle() => continue,
        () = tokio::time::sleep(QUIET), if worked => {
          worked = false;
          language.relax();
          give_free_memory_back();
          continue;
        }
      };
      worked = true;
      match job {
        None => return Ok(()),
        Some(Job::Configure(config)) => {
          let error = language.configure(&config).await.err();
          outbox.send(&Reply::Configured { error });
        }
        Some(Job::Execute { execution_id, code }) => {
          outbox.begin(execution_id);
          let outcome = language.execute(Cell { execution_id, code }).await;
          outbox.send(&Reply::Done {
            execution_id,
            outcome,
          });
        }
        Some(Job::Ask { id, question }) => {
          let answer = language.answer(question).await;
          outbox.send(&Reply::Answer { id, answer });
        }
      }
      if outbox.has_ended() {
        return Ok(());
      }
    }
  })
}
