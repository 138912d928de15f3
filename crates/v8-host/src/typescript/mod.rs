//! TypeScript and JavaScript cells on a Deno worker, evaluated in V8's REPL mode: declarations persist and may be repeated, `await` works at the top level, and the value of
//! the last expression is known without evaluating it twice.

mod inspector;
mod intelligence;
mod interrupt;
mod main_program;
mod plain;
pub(crate) mod rewrite;
pub(crate) mod transpile;

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use deno_core::PollEventLoopOptions;
use deno_core::v8;
use kernel_host::host::Surroundings;
use kernel_host::language::Cell;
use kernel_host::language::Environment;
use kernel_host::language::Interrupt;
use kernel_host::language::Language;
use kernel_host::sink::SharedSink;
use kernel_protocol::ErrorReport;
use kernel_protocol::ExecutionId;
use kernel_protocol::HostConfig;
use kernel_protocol::KernelEvent;
use kernel_protocol::MainProgram;
use kernel_protocol::Outcome;
use kernel_protocol::Question;
use kernel_protocol::comm::CommKind;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::launch::ModuleCache;
use serde_json::Value;
use serde_json::json;

use self::inspector::Evaluation;
use self::inspector::Inspector;
use self::inspector::RemoteObject;
use self::interrupt::Interrupter;
use self::main_program::Program;
use crate::environment::NewVariables;
use crate::event_loop;
use crate::runtime::JsWorker;
use crate::runtime::forking;
use crate::runtime::repl;
use crate::runtime::repl::Called;
use crate::runtime::repl::Settled;

pub(crate) struct TypeScript {
  // Declared before the worker: the session must be dropped before its isolate.
  inspector: Inspector,
  /// The object of `js/kernel.js` that shows results and errors.
  host: v8::Global<v8::Object>,
  /// The same, as the inspector knows it.
  remote_host: RemoteObject,
  js: JsWorker,
  interrupter: Arc<Interrupter>,
  environment: Arc<NewVariables>,
  sink: SharedSink,
  /// Cells run so far, the running one included.
  cells: u64,
  /// Size of the heap when memory was last given back, in bytes.
  relaxed_heap: usize,
  /// Names they declared.
  declared: rewrite::Declared,
  /// Whether it booted for a main program.
  is_program: bool,
  program: Program,
}

/// How much the heap must have grown for a collection between cells, in bytes.
const RELAX_BYTES: usize = 1 << 20;

/// Cells that declare nothing and do what most kernels do.
const WARMING: [&str; 5] = [
  "1 + 1",
  "console.log('a', { b: [1] }); await 0; [1, 'a']",
  "throw new Error('a')",
  // Modules that load `node:process` are left out: it keeps the process id that it finds.
  "await Promise.all(['assert', 'buffer', 'events', 'os', 'path', 'url', 'util'].map((name) => import('node:' + name))); 0",
  "new URLPattern({ pathname: '/:a' }); await new Response(new Request('http://a/', { method: 'POST', body: 'a' }).body).text()",
];

/// How long user code that a question meets may run.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Why a call into the isolate has no answer.
#[derive(Debug)]
enum CallError {
  Interrupted,
  /// What the inspector said, or what else went wrong.
  Protocol(String),
}

impl CallError {
  fn terminated() -> Self {
    Self::Protocol("the execution was terminated".into())
  }
}

/// The prelude's host object, until it hides itself.
const HOST: &str = "Deno[Deno.internal].kernel";

fn host_object(js: &mut JsWorker) -> io::Result<v8::Global<v8::Object>> {
  let runtime = &mut js.worker.js_runtime;
  let host = runtime
    .execute_script("ext:kernel/start.js", HOST)
    .map_err(io::Error::other)?;
  deno_core::scope!(scope, runtime);
  let host = v8::Local::<v8::Object>::try_from(v8::Local::new(scope, host));
  Ok(v8::Global::new(scope, host.map_err(io::Error::other)?))
}

impl TypeScript {
  /// For cells, or for a main program that comes later.
  ///
  /// # Errors
  /// When the runtime cannot be booted.
  #[expect(clippy::unused_async, reason = "other languages wait while they boot")]
  pub(crate) async fn boot(
    options: Surroundings,
    modules: &ModuleCache,
    main: Option<&MainProgram>,
  ) -> io::Result<Self> {
    let sink = options.sink.clone();
    let mut js = match main {
      Some(main) => JsWorker::boot_program(options, modules, main)?,
      None => JsWorker::boot(options, modules)?,
    };
    let host = host_object(&mut js)?;
    let inspector = Inspector::connect(&mut js.worker);
    let interrupter = Arc::new(Interrupter::new(js.isolate_handle()));
    let mut typescript = Self {
      inspector,
      host,
      remote_host: RemoteObject::default(),
      js,
      interrupter,
      environment: Arc::default(),
      sink,
      cells: 0,
      relaxed_heap: 0,
      declared: rewrite::Declared::default(),
      is_program: main.is_some(),
      program: Program::None,
    };
    let failed = |e| io::Error::other(format!("the kernel prelude failed: {e:?}"));
    typescript.remote_host = typescript.evaluate_now(HOST).map_err(failed)?;
    let start = if main.is_some() {
      "startProgram"
    } else {
      "start"
    };
    typescript.call_now(start, &[]).map_err(failed)?;
    Ok(typescript)
  }

  /// Evaluates an expression of ours that neither waits nor takes long.
  fn evaluate_now(&mut self, expression: &str) -> Result<RemoteObject, CallError> {
    let id = self
      .inspector
      .post("Runtime.evaluate", &json!({ "expression": expression }));
    let response = self
      .inspector
      .take(id)
      .unwrap_or_else(|| Err("no answer".into()));
    response
      .and_then(Evaluation::parse)
      .map_err(CallError::Protocol)?
      .returned()
  }

  /// Posts a message to the inspector and drives the event loop until its answer is there.
  async fn call(&mut self, method: &str, params: &Value) -> Result<Value, CallError> {
    let id = self.inspector.post(method, params);
    self.run_microtasks();
    poll_fn(|cx| {
      self.interrupter.register(cx.waker());
      loop {
        if self.interrupter.take() {
          self.inspector.abandon(id);
          return Poll::Ready(Err(CallError::Interrupted));
        }
        if let Some(response) = self.inspector.take(id) {
          return Poll::Ready(response.map_err(CallError::Protocol));
        }
        match self.poll_event_loop(cx) {
          // Nothing left that could settle the cell: it waits for ever, or for an interrupt.
          Poll::Ready(true) | Poll::Pending if !self.inspector.has(id) => return Poll::Pending,
          _ => {}
        }
      }
    })
    .await
  }

  fn poll_event_loop(&mut self, cx: &mut std::task::Context<'_>) -> Poll<bool> {
    if let Some(variables) = self.environment.take(cx.waker()) {
      self.js.set_environment(&variables);
      let variables = self.v8_value(&json!(variables));
      let _ = self.call_now("environ", &[variables]);
    }
    let muted = self.interrupter.is_pending();
    if !self.program.ends_with_errors() || muted {
      let runtime = &mut self.js.worker.js_runtime;
      return event_loop::poll(runtime, &*self.sink, muted, cx);
    }
    // Like `deno run`, which looks at the evaluation before anything of what it left runs.
    self.program.advance(&mut self.js, &*self.sink, false, cx);
    let runtime = &mut self.js.worker.js_runtime;
    let polled = runtime.poll_event_loop(cx, PollEventLoopOptions::default());
    if let Poll::Ready(Err(error)) = &polled {
      main_program::fail(&*self.sink, error);
    }
    let idle = polled.is_ready();
    if self.program.advance(&mut self.js, &*self.sink, idle, cx) {
      Poll::Ready(false)
    } else {
      polled.map(|_| true)
    }
  }

  fn run_microtasks(&mut self) {
    let isolate = self.js.worker.js_runtime.v8_isolate();
    isolate.perform_microtask_checkpoint();
  }

  /// Calls a method of the prelude's host object through the inspector, for what the inspector knows.
  async fn call_host(
    &mut self,
    method: &str,
    arguments: &[Value],
  ) -> Result<RemoteObject, CallError> {
    let params = json!({
      "objectId": self.remote_host.object_id,
      "functionDeclaration": format!("function(...a){{return this.{method}(...a)}}"),
      "arguments": arguments,
      "objectGroup": inspector::CELL_GROUP,
      "returnByValue": true,
    });
    let response = self.call("Runtime.callFunctionOn", &params).await?;
    Evaluation::parse(response)
      .map_err(CallError::Protocol)?
      .returned()
  }

  /// Calls a method of the prelude's host object that neither throws nor waits.
  fn call_now(
    &mut self,
    method: &str,
    arguments: &[v8::Global<v8::Value>],
  ) -> Result<(), CallError> {
    match self.call_method(method, arguments) {
      Called::Returned(_) => Ok(()),
      Called::Threw(_) => Err(CallError::Protocol(format!("{method} failed"))),
      Called::Terminated => Err(CallError::terminated()),
    }
  }

  fn v8_value(&mut self, value: &Value) -> v8::Global<v8::Value> {
    repl::value_of_json(&mut self.js.worker.js_runtime, value)
  }

  /// Waits for what code came to, and drives the event loop meanwhile.
  async fn settle(&mut self, called: Called) -> Result<Settled, CallError> {
    // Also of a cell that was interrupted: else what it has queued would run with the next.
    self.run_microtasks();
    // Before its error is looked at: Deno's native code makes one of a termination that passes through it.
    if self.interrupter.take() {
      return Err(CallError::Interrupted);
    }
    let promise = match called {
      Called::Returned(value) => value,
      Called::Threw(error) => return Ok(Settled::Rejected(error)),
      Called::Terminated => return Err(CallError::terminated()),
    };
    if let Some(settled @ Settled::Fulfilled(_)) = self.settled(&promise) {
      return Ok(settled);
    }
    repl::handle_rejection(&mut self.js.worker.js_runtime, &promise);
    poll_fn(|cx| {
      self.interrupter.register(cx.waker());
      loop {
        if self.interrupter.take() {
          return Poll::Ready(Err(CallError::Interrupted));
        }
        if let Some(settled) = self.settled(&promise) {
          return Poll::Ready(Ok(settled));
        }
        match self.poll_event_loop(cx) {
          // Nothing left that could settle the cell: it waits for ever, or for an interrupt.
          Poll::Ready(true) | Poll::Pending if self.settled(&promise).is_none() => {
            return Poll::Pending;
          }
          _ => {}
        }
      }
    })
    .await
  }

  fn settled(&mut self, promise: &v8::Global<v8::Value>) -> Option<Settled> {
    repl::settled(&mut self.js.worker.js_runtime, promise)
  }

  async fn run(&mut self, code: &str) -> Result<Outcome, CallError> {
    let name = format!("{}{}.ts", crate::runtime::CELL_URL_PREFIX, self.cells);
    let cell = match transpile::prepare(code, &name, &mut self.declared) {
      Ok(cell) => cell,
      Err(report) => {
        self.sink.emit_last(KernelEvent::ExecuteError(report));
        return Ok(Outcome::Error);
      }
    };
    self.js.source_maps.insert(name, cell.map);
    let called = repl::evaluate(&mut self.js.worker.js_runtime, &cell.javascript);
    let ended = match self.settle(called).await? {
      Settled::Fulfilled(ended) => ended,
      Settled::Rejected(thrown) => return self.report(thrown),
    };
    if !cell.shows_value {
      return Ok(Outcome::Ok);
    }
    let runtime = &mut self.js.worker.js_runtime;
    let value = repl::value_of_script(runtime, &ended).ok_or_else(CallError::terminated)?;
    let count = self.cell_number();
    let shown = self.call_method("result", &[value, count]);
    match self.settle(shown).await? {
      Settled::Fulfilled(_) => Ok(Outcome::Ok),
      Settled::Rejected(thrown) => self.report(thrown),
    }
  }

  fn cell_number(&mut self) -> v8::Global<v8::Value> {
    let number = self.cells as f64;
    deno_core::scope!(scope, &mut self.js.worker.js_runtime);
    let number: v8::Local<'_, v8::Value> = v8::Number::new(scope, number).into();
    v8::Global::new(scope, number)
  }

  fn call_method(&mut self, method: &str, arguments: &[v8::Global<v8::Value>]) -> Called {
    repl::call(
      &mut self.js.worker.js_runtime,
      &self.host,
      method,
      arguments,
    )
  }

  fn report(&mut self, thrown: v8::Global<v8::Value>) -> Result<Outcome, CallError> {
    // `Deno.exit` that does not end the process throws as well, before it terminates.
    if self.js.exited().is_some() {
      return Err(CallError::terminated());
    }
    self.call_now("error", &[thrown])?;
    Ok(Outcome::Error)
  }

  /// Mends what a termination in the wrong place leaves behind.
  fn recover(&mut self) {
    // A termination that comes now comes to nothing: what it was meant for has ended.
    let _ = self.call_now("recover", &[]);
  }

  /// Runs cells that touch what most cells do, so that kernels which are forked find it done and share its memory.
  async fn warm_up(&mut self) -> io::Result<()> {
    let failed = |e| io::Error::other(format!("the kernel could not be warmed up: {e:?}"));
    let nothing = self.v8_value(&json!({}));
    self.call_now("configure", &[nothing]).map_err(failed)?;
    // A program's globals and its main module are its own from the start.
    if !self.is_program {
      for code in WARMING {
        let execution_id = ExecutionId::random();
        let code = code.to_owned();
        self.execute(Cell { execution_id, code }).await;
      }
      self.call_now("forget", &[]).map_err(failed)?;
      self.cells = 0;
      self.declared = rewrite::Declared::default();
    }
    forking::collect_garbage(&mut self.js.worker)?;
    let isolate = self.js.worker.js_runtime.v8_isolate();
    self.relaxed_heap = isolate.get_heap_statistics().total_physical_size();
    Ok(())
  }

  fn interrupted(&mut self) -> Outcome {
    self.js.cancel_imports();
    self.recover();
    self.sink.emit(KernelEvent::ExecuteError(ErrorReport::new(
      "KeyboardInterrupt",
      "Execution interrupted by user",
    )));
    Outcome::Interrupted
  }
}

#[async_trait(?Send)]
impl Language for TypeScript {
  fn interrupter(&self) -> Arc<dyn Interrupt> {
    self.interrupter.clone()
  }

  fn environment(&self) -> Arc<dyn Environment> {
    self.environment.clone()
  }

  async fn configure(&mut self, config: &HostConfig, roots: Vec<OwnedFd>) -> Result<(), String> {
    self.js.configure(config, roots)?;
    let env = self.v8_value(&json!(config.env));
    self
      .call_now("configure", &[env])
      .map_err(|e| format!("the kernel could not be configured: {e:?}"))
  }

  async fn execute(&mut self, cell: Cell) -> Outcome {
    self.cells += 1;
    self.interrupter.begin(cell.execution_id);
    // Wraps only after four billion cells, and then harmlessly.
    self
      .js
      .set_running_cell(u32::try_from(self.cells).unwrap_or(1));
    let result = self.run(&cell.code).await;
    let outcome = match result {
      Ok(outcome) => outcome,
      Err(_) if self.js.exited().is_some() => Outcome::Error,
      Err(CallError::Interrupted) => self.interrupted(),
      Err(CallError::Protocol(_)) if self.interrupter.take() => self.interrupted(),
      Err(CallError::Protocol(message)) => {
        self.sink.emit(KernelEvent::ExecuteError(ErrorReport::new(
          "Error", message,
        )));
        Outcome::Error
      }
    };
    if let Some(code) = self.js.exited() {
      self.sink.fatal(&format!("exited with code {code}"));
    }
    self.js.set_running_cell(0);
    self.interrupter.end();
    outcome
  }

  /// Cells can send comm messages; there is nothing that they could listen with.
  async fn comm(&mut self, _: ExecutionId, message: CommMessage) -> Outcome {
    if message.kind == CommKind::Open {
      self.sink.emit(KernelEvent::CommClose(message.body));
    }
    Outcome::Ok
  }

  async fn run_program(&mut self, program: MainProgram) {
    self.program = Program::start(&mut self.js, program, &*self.sink).await;
  }

  async fn answer(&mut self, question: Question) -> Value {
    // Proxies and getters run user code even here.
    let limit = self.interrupter.time_limit(ANSWER_TIME);
    let answer = match question {
      Question::Complete { code, cursor } => self.complete(&code, cursor).await,
      Question::Inspect { code, cursor } => self.inspect(&code, cursor).await,
      Question::IsComplete { code } => transpile::is_complete(&code),
      Question::Check { name, code } => json!(transpile::check(&name, &code)),
      Question::CommInfo { .. } => json!({ "status": "ok", "comms": {} }),
    };
    drop(limit);
    self.interrupter.end();
    self.inspector.release_cell_objects();
    answer
  }

  async fn idle(&mut self) {
    poll_fn(|cx| {
      self.interrupter.register(cx.waker());
      loop {
        // Stops a loop in a timer or a server that a cell left behind.
        if self.interrupter.take() {
          self.recover();
        }
        match self.poll_event_loop(cx) {
          Poll::Ready(false) => {}
          // New work can only come from the next cell.
          Poll::Ready(true) | Poll::Pending => return Poll::<()>::Pending,
        }
      }
    })
    .await;
  }

  fn relax(&mut self) {
    let isolate = self.js.worker.js_runtime.v8_isolate();
    let heap = isolate.get_heap_statistics().total_physical_size();
    // A full collection is worth its time only when there is something to find.
    if heap > self.relaxed_heap + RELAX_BYTES {
      isolate.low_memory_notification();
      self.relaxed_heap = isolate.get_heap_statistics().total_physical_size();
    }
  }

  async fn prepare_to_fork(&mut self) -> io::Result<()> {
    self.warm_up().await?;
    forking::check_threads()
  }

  fn forked(&mut self) -> io::Result<()> {
    forking::forked(&mut self.js.worker.js_runtime)
  }

  fn start_threads(&mut self) -> io::Result<()> {
    forking::start_workers()
  }
}
