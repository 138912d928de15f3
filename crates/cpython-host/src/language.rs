//! Python cells, on an asyncio loop that the host drives between them.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel_host::host;
use kernel_host::host::Surroundings;
use kernel_host::host::fork;
use kernel_host::language::Cell;
use kernel_host::language::Environment;
use kernel_host::language::Interrupt;
use kernel_host::language::Language;
use kernel_host::sink::SharedSink;
use kernel_protocol::ExecutionId;
use kernel_protocol::HostConfig;
use kernel_protocol::KernelEvent;
use kernel_protocol::MainProgram;
use kernel_protocol::Outcome;
use kernel_protocol::ProgramEvent;
use kernel_protocol::Question;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::descriptors::watch;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::exceptions::PyValueError;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use serde_json::Value;
use serde_json::json;
use tokio::io::unix::AsyncFd;

use crate::environment::RunningEnvironment;
use crate::interrupt::Begin;
use crate::interrupt::Interrupter;

/// How long a question may take: jedi's first answer takes seconds, and user code may hang.
const ANSWER_TIME: Duration = Duration::from_secs(8);
/// Longest wait between looks at the loop's timers; far timers need no exact sleep.
const MAX_WAIT: Duration = Duration::from_hours(1);

pub(crate) struct CPython {
  /// The `Runner` of `runner.py`.
  runner: Py<PyAny>,
  kernel: Py<PyAny>,
  interrupter: Arc<Interrupter>,
  environment: Arc<RunningEnvironment>,
  sink: SharedSink,
  /// Readable when the loop has an event to handle.
  events: AsyncFd<OwnedFd>,
}

/// When there is more background work to do.
enum Next {
  Now,
  After(Duration),
}

impl CPython {
  /// Makes a kernel of `kernel` (an object of `engine_kernel`), on Python's main thread.
  ///
  /// # Errors
  /// When the event loop cannot be made.
  pub(crate) fn boot(kernel: &Py<PyAny>, surroundings: Surroundings) -> io::Result<Self> {
    let sink = surroundings.sink;
    let interrupter = Interrupter::of_this_thread();
    Python::attach(|py| {
      let host = KernelHost { sink: sink.clone() };
      let module = PyModule::from_code(
        py,
        c_str!(include_str!("runner.py")),
        c_str!("<engine>/runner.py"),
        c_str!("_engine_runner"),
      )?;
      let runner = module
        .getattr("Runner")?
        .call1((kernel.bind(py), Py::new(py, host)?))?;
      let epoll = runner.call_method0("fileno")?.extract()?;
      // SAFETY: the selector keeps it open for as long as the runner lives, which holds it.
      let epoll = unsafe { BorrowedFd::borrow_raw(epoll) }.try_clone_to_owned()?;
      Ok(Self {
        runner: runner.unbind(),
        kernel: kernel.clone_ref(py),
        interrupter,
        environment: Arc::new(RunningEnvironment::new(kernel.clone_ref(py), sink.clone())),
        sink,
        events: watch(epoll)?,
      })
    })
    .map_err(|error: PyErr| io::Error::other(error))
  }

  /// Runs background work of user code for a moment.
  fn step(&self) -> Next {
    let wait = Python::attach(|py| {
      let wait = self
        .runner
        .bind(py)
        .call_method0("step")
        .and_then(|wait| wait.extract());
      // What a signal handler of the user's raised before the loop ran. There is no cell to end.
      wait.unwrap_or_else(|error| {
        if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
          let text = format!("a signal handler failed: {error}\n");
          self.sink.emit(KernelEvent::stderr(text));
        }
        Some(0.0)
      })
    });
    leave_if_child(Outcome::Ok);
    match wait {
      Some(seconds) if seconds <= 0.0 => Next::Now,
      wait => Next::After(
        wait
          .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
          .map_or(MAX_WAIT, |wait| wait.min(MAX_WAIT)),
      ),
    }
  }

  /// Calls the runner as the execution that an interrupt may name.
  fn run(
    &self,
    execution_id: ExecutionId,
    call: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
  ) -> Outcome {
    Python::attach(|py| {
      if self.interrupter.begin(py, execution_id) == Begin::Interrupted {
        return self.interrupted();
      }
      let result = call(self.runner.bind(py)).and_then(|outcome| outcome.extract());
      let outcome = self.outcome(py, &result);
      leave_if_child(outcome);
      self.interrupter.end(py);
      outcome
    })
  }

  fn interrupted(&self) -> Outcome {
    self.sink.emit(KernelEvent::python_error(
      "KeyboardInterrupt",
      "Execution interrupted by user",
    ));
    Outcome::Interrupted
  }

  /// How a cell ended, for which the kernel has said all there is to say unless it failed itself.
  fn outcome(&self, py: Python<'_>, result: &PyResult<String>) -> Outcome {
    match result.as_deref() {
      Ok("ok") => Outcome::Ok,
      Ok("interrupted") => Outcome::Interrupted,
      Ok(_) => Outcome::Error,
      Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => self.interrupted(),
      Err(error) => {
        let name = error.get_type(py).name().map(|n| n.to_string());
        self.sink.emit(KernelEvent::python_error(
          name.as_deref().unwrap_or("Error"),
          error.value(py).to_string(),
        ));
        Outcome::Error
      }
    }
  }
}

#[async_trait(?Send)]
impl Language for CPython {
  fn interrupter(&self) -> Arc<dyn Interrupt> {
    self.interrupter.clone()
  }

  fn environment(&self) -> Arc<dyn Environment> {
    self.environment.clone()
  }

  async fn configure(&mut self, config: &HostConfig, _: Vec<OwnedFd>) -> Result<(), String> {
    if let Some(mount) = config.mounts.first() {
      return Err(format!(
        "a worker-cpython kernel sees the host's own folders: use the folder for `{}` under its own \
         path instead of mounting it",
        mount.mount_point.display()
      ));
    }
    Python::attach(|py| {
      let cwd = config.scratch.to_string_lossy();
      let env = crate::environment::complete(py, &config.env, &cwd)?;
      self
        .kernel
        .bind(py)
        .call_method1("configure", (env, cwd))
        .map(|_| ())
    })
    .map_err(|e: PyErr| format!("the kernel could not be configured: {e}"))
  }

  async fn execute(&mut self, cell: Cell) -> Outcome {
    self.run(cell.execution_id, |runner| {
      runner.call_method1("execute", (cell.code,))
    })
  }

  async fn comm(&mut self, execution_id: ExecutionId, message: CommMessage) -> Outcome {
    let arguments = (message.kind.as_str(), message.body.as_str());
    self.run(execution_id, |runner| {
      runner.call_method1("comm", arguments)
    })
  }

  async fn run_program(&mut self, program: MainProgram) {
    let path = program.path.display().to_string();
    let source = match std::fs::read_to_string(&program.path) {
      Ok(source) => source,
      Err(error) => return self.sink.fatal(&format!("{path} cannot be read: {error}")),
    };
    self.sink.program(ProgramEvent::Started);
    let started = Python::attach(|py| {
      let ended = Py::new(
        py,
        ProgramEnd {
          sink: self.sink.clone(),
        },
      )?;
      let runner = self.runner.bind(py);
      runner.call_method1("run_program", (source, path, program.args, ended))?;
      Ok(())
    });
    if let Err(error) = started.map_err(|e: PyErr| e.to_string()) {
      self.sink.fatal(&format!("failed: {error}"));
    }
  }

  async fn answer(&mut self, question: Question) -> Value {
    // Properties and `__getattr__` run user code even here.
    let limit = self.interrupter.time_limit(ANSWER_TIME);
    Python::attach(|py| {
      let kernel = self.kernel.bind(py);
      let answer = match &question {
        Question::Complete { code, cursor } => kernel.call_method1("complete", (code, cursor)),
        Question::Inspect { code, cursor } => kernel.call_method1("inspect", (code, cursor)),
        Question::IsComplete { code } => kernel.call_method1("is_complete", (code,)),
        Question::Check { name, code } => kernel.call_method1("check", (name, code)),
        Question::CommInfo { target_name } => kernel.call_method1("comm_info", (target_name,)),
      };
      leave_if_child(Outcome::Ok);
      drop(limit);
      self.interrupter.end(py);
      answer
        .and_then(|answer| answer.extract::<String>())
        .ok()
        .and_then(|answer| serde_json::from_str(&answer).ok())
        .unwrap_or_else(|| no_answer(&question))
    })
  }

  async fn idle(&mut self) {
    loop {
      match self.step() {
        Next::Now => tokio::task::yield_now().await,
        Next::After(wait) => {
          tokio::select! {
            // Cleared before the step, which looks itself: what comes after that is a new edge.
            ready = self.events.readable() => {
              if let Ok(mut ready) = ready {
                ready.clear_ready();
              }
            }
            () = tokio::time::sleep(wait) => {}
          }
        }
      }
    }
  }

  /// Objects go when nothing refers to them; a collection of cycles could take seconds here.
  fn relax(&mut self) {}
}

/// What is known when the code that was asked about cannot tell.
fn no_answer(question: &Question) -> Value {
  match question {
    Question::Complete { cursor, .. } => json!({
      "status": "ok", "matches": [], "cursor_start": cursor, "cursor_end": cursor, "metadata": {},
    }),
    Question::Inspect { .. } => json!({
      "status": "ok", "found": false, "data": {}, "metadata": {},
    }),
    Question::IsComplete { .. } => json!({ "status": "unknown" }),
    Question::Check { .. } => json!({ "status": "error", "message": "it cannot be read" }),
    Question::CommInfo { .. } => json!({ "status": "ok", "comms": {} }),
  }
}

/// A child that user code forked off and that came to the end of its cell has nothing more to do.
fn leave_if_child(outcome: Outcome) {
  if fork::in_child() {
    host::exit_now(i32::from(outcome != Outcome::Ok));
  }
}

/// What the Python half calls.
#[pyclass(frozen, module = "_cpython_host")]
struct KernelHost {
  sink: SharedSink,
}

#[pymethods]
impl KernelHost {
  /// Sends an event; `data` is the JSON text of what clients see under that name.
  fn emit(&self, py: Python<'_>, kind: &str, data: &str) -> PyResult<()> {
    let event = KernelEvent::from_parts(kind, data).map_err(PyValueError::new_err)?;
    py.detach(|| self.sink.emit_soon(event));
    Ok(())
  }

  /// Sends what waits for more to follow.
  fn flush(&self, py: Python<'_>) {
    py.detach(|| self.sink.flush());
  }

  /// Asks the client for a line; `None` when it refuses.
  fn input(&self, py: Python<'_>, prompt: String, password: bool) -> PyResult<Option<String>> {
    let answer = py.detach(|| self.sink.ask(prompt, password));
    if answer.is_none() {
      // An interrupt that cancelled it was sent before.
      py.check_signals()?;
    }
    Ok(answer)
  }
}

/// Called with the exit code of the main program.
#[pyclass(frozen, module = "_cpython_host")]
struct ProgramEnd {
  sink: SharedSink,
}

#[pymethods]
impl ProgramEnd {
  fn __call__(&self, py: Python<'_>, code: i32) {
    py.detach(|| match code {
      0 => self.sink.program(ProgramEvent::Finished { code }),
      _ => host::end_program(&*self.sink, code),
    });
  }
}
