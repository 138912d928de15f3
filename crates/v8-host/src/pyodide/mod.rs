//! Python cells on Pyodide: CPython compiled to WebAssembly, in an isolate of the kernel's own. The
//! shell is the Python package `engine_kernel`; `js/python.js` stands between.

mod interrupt;
mod ops;
mod packages;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use async_trait::async_trait;
use deno_core::error::JsError;
use deno_core::v8;
use kernel_host::host::Surroundings;
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
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileReply;
use kernel_protocol::files::FileRequest;
use kernel_protocol::files::MAX_CHUNK_BYTES;
use kernel_protocol::files::MAX_ENTRIES;
use kernel_protocol::launch::ModuleCache;
use kernel_protocol::launch::PythonFiles;
use serde_json::Value;
use serde_json::json;

use self::interrupt::Interrupter;
use self::ops::InterruptBuffer;
use crate::environment::NewVariables;
use crate::event_loop;
use crate::runtime::JsWorker;
use crate::runtime::forking;
use crate::runtime::repl;
use crate::runtime::repl::Settled;

/// Pyodide's two modules, evaluated once the global object looks as they expect it.
const MODULES: [&str; 2] = ["pyodide.mjs", "pyodide.asm.mjs"];

/// In memory, unless a folder is mounted there, which is the default of mounts.
const WORKING_DIRECTORY: &str = "/home/pyodide";

/// Cells that do what most kernels do.
const WARMING: [&str; 3] = [
  "1 + 1",
  "import asyncio, json\nprint('a', [1])\nawait asyncio.sleep(0)\n{'a': [1]}",
  "1 / 0",
];

pub(crate) struct Pyodide {
  js: JsWorker,
  /// The object of `js/python.js`.
  python: v8::Global<v8::Object>,
  interrupter: Arc<Interrupter>,
  environment: Arc<NewVariables>,
  sink: SharedSink,
  /// The main program, until it has ended; its value is the exit code.
  program: Option<Running>,
}

type Running = Pin<Box<dyn Future<Output = Result<v8::Global<v8::Value>, Box<JsError>>>>>;

impl Pyodide {
  /// Boots Python, from the memory snapshot when there is one.
  ///
  /// # Errors
  /// When the files are not there or do not fit together.
  pub(crate) async fn boot(
    options: Surroundings,
    files: PythonFiles,
    modules: &ModuleCache,
  ) -> io::Result<Self> {
    let sink = options.sink.clone();
    let buffer = InterruptBuffer::default();
    let assets = files.assets.clone();
    let extension = ops::extension(files, buffer.clone());
    let mut js = JsWorker::boot_with(options, modules, vec![extension])?;
    let python = js
      .worker
      .js_runtime
      .execute_script("ext:python/start.js", "Deno[Deno.internal].python")
      .map_err(io::Error::other)?;
    let python = {
      deno_core::scope!(scope, &mut js.worker.js_runtime);
      let python = v8::Local::new(scope, python);
      let python = v8::Local::<v8::Object>::try_from(python).map_err(io::Error::other)?;
      v8::Global::new(scope, python)
    };
    let mut pyodide = Self {
      js,
      python,
      interrupter: Arc::new(Interrupter::new(buffer)),
      environment: Arc::default(),
      sink,
      program: None,
    };
    pyodide
      .call_now("becomeBrowserWorker", &[])
      .map_err(io::Error::other)?;
    let mut arguments = Vec::new();
    for name in MODULES {
      let code = std::fs::read_to_string(assets.join(name))?;
      let module = pyodide
        .js
        .worker
        .js_runtime
        .lazy_load_es_module_with_code(format!("ext:python/{name}"), code)
        .map_err(io::Error::other)?;
      arguments.push(module);
    }
    let snapshot = assets.join(ops::SNAPSHOT).exists();
    arguments.push(pyodide.v8_value(&json!(snapshot)));
    pyodide
      .call("boot", &arguments)
      .await
      .map_err(io::Error::other)?;
    pyodide.js.allow_web_modules_only();
    Ok(pyodide)
  }

  fn v8_value(&mut self, value: &Value) -> v8::Global<v8::Value> {
    repl::value_of_json(&mut self.js.worker.js_runtime, value)
  }

  /// Calls a method of the host object; what it returns, a promise maybe.
  fn call_now(
    &mut self,
    method: &str,
    arguments: &[v8::Global<v8::Value>],
  ) -> Result<v8::Global<v8::Value>, String> {
    deno_core::scope!(scope, &mut self.js.worker.js_runtime);
    v8::tc_scope!(let scope, scope);
    let python = v8::Local::new(scope, &self.python);
    let function = v8::String::new(scope, method)
      .and_then(|name| python.get(scope, name.into()))
      .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok())
      .ok_or_else(|| format!("no method {method}"))?;
    let arguments: Vec<_> = arguments.iter().map(|a| v8::Local::new(scope, a)).collect();
    match function.call(scope, python.into(), &arguments) {
      Some(value) => Ok(v8::Global::new(scope, value)),
      None => Err(match scope.exception() {
        Some(error) => error.to_rust_string_lossy(scope),
        None => "the call was interrupted".to_owned(),
      }),
    }
  }

  /// Calls a method and waits for its promise; an interrupt meanwhile cancels the cell that waits.
  async fn call(
    &mut self,
    method: &str,
    arguments: &[v8::Global<v8::Value>],
  ) -> Result<v8::Global<v8::Value>, String> {
    let promise = self.call_now(method, arguments)?;
    if let Some(Settled::Fulfilled(value)) = repl::settled(&mut self.js.worker.js_runtime, &promise)
    {
      return Ok(value);
    }
    let mut resolved = pin!(self.js.worker.js_runtime.resolve(promise));
    std::future::poll_fn(|cx| {
      self.interrupter.register(cx.waker());
      loop {
        if self.interrupter.take_unseen() {
          let _ = self.call_now("cancel", &[]);
        }
        let more = self.poll(cx);
        if let Poll::Ready(result) = resolved.as_mut().poll(cx) {
          return Poll::Ready(result.map_err(|e| e.to_string()));
        }
        if more != Poll::Ready(false) {
          return Poll::Pending;
        }
      }
    })
    .await
  }

  /// Calls a method of the kernel as the execution that an interrupt may name.
  async fn run(&mut self, method: &str, execution_id: ExecutionId, arguments: &[Value]) -> Outcome {
    self.interrupter.begin(execution_id);
    let arguments: Vec<_> = arguments.iter().map(|it| self.v8_value(it)).collect();
    let result = self.call(method, &arguments).await;
    self.interrupter.end();
    match result.map(|value| self.text_of(&value)) {
      Ok(outcome) if outcome == "ok" => Outcome::Ok,
      Ok(outcome) if outcome == "interrupted" => Outcome::Interrupted,
      Ok(_) => Outcome::Error,
      // Pyodide itself has failed and cannot go on.
      Err(message) => {
        let error = KernelEvent::python_error("FatalError", message.clone());
        self.sink.emit(error);
        self.sink.fatal(&format!("failed: {message}"));
        Outcome::Error
      }
    }
  }

  /// Runs cells that touch what most cells do, so that kernels which are forked find it done and share its memory.
  async fn warm_up(&mut self) -> io::Result<()> {
    self.call_now("rehearse", &[]).map_err(io::Error::other)?;
    for code in WARMING {
      let code = json!(code);
      self.run("execute", ExecutionId::random(), &[code]).await;
    }
    self.call_now("forget", &[]).map_err(io::Error::other)?;
    Ok(())
  }

  /// Drives the event loop, and the main program on it.
  fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
    if let Some(variables) = self.environment.take(cx.waker()) {
      self.js.set_environment(&variables);
      if self
        .call_with("setEnvironment", &[json!(variables)])
        .is_err()
      {
        // An interrupt came in between.
        self.environment.put_back(variables);
      }
    }
    let polled = event_loop::poll(&mut self.js.worker.js_runtime, &*self.sink, false, cx);
    let ended = self
      .program
      .as_mut()
      .map(|program| program.as_mut().poll(cx));
    if let Some(Poll::Ready(result)) = ended {
      self.program = None;
      self.program_ended(result.map_err(|e| e.to_string()));
    }
    polled
  }

  fn program_ended(&mut self, result: Result<v8::Global<v8::Value>, String>) {
    match result.map(|value| self.text_of(&value).parse::<i32>()) {
      Ok(Ok(0)) => self.sink.program(ProgramEvent::Finished { code: 0 }),
      Ok(Ok(code)) => kernel_host::host::end_program(&*self.sink, code),
      Ok(Err(_)) => self.sink.fatal("ended without an exit code"),
      Err(message) => self.sink.fatal(&format!("failed: {message}")),
    }
  }

  fn v8_bytes(&mut self, bytes: &[u8]) -> v8::Global<v8::Value> {
    deno_core::scope!(scope, &mut self.js.worker.js_runtime);
    let store = v8::ArrayBuffer::new_backing_store_from_vec(bytes.to_vec()).make_shared();
    let buffer = v8::ArrayBuffer::with_backing_store(scope, &store);
    let array = v8::Uint8Array::new(scope, buffer, 0, bytes.len());
    let value: v8::Local<v8::Value> = match array {
      Some(array) => array.into(),
      None => v8::undefined(scope).into(),
    };
    v8::Global::new(scope, value)
  }

  fn call_with(
    &mut self,
    method: &str,
    arguments: &[Value],
  ) -> Result<v8::Global<v8::Value>, String> {
    let arguments: Vec<_> = arguments.iter().map(|it| self.v8_value(it)).collect();
    self.call_now(method, &arguments)
  }

  /// What a method for files answers: bytes, or the JSON of a reply.
  fn file_reply(&mut self, answer: &v8::Global<v8::Value>) -> Result<FileReply, String> {
    {
      deno_core::scope!(scope, &mut self.js.worker.js_runtime);
      let value = v8::Local::new(scope, answer);
      if let Ok(view) = v8::Local::<v8::ArrayBufferView>::try_from(value) {
        if view.byte_length() > MAX_CHUNK_BYTES {
          return Err("more bytes than were asked for".into());
        }
        let mut bytes = vec![0; view.byte_length()];
        view.copy_contents(&mut bytes);
        return Ok(FileReply::Chunk(bytes.into()));
      }
    }
    serde_json::from_str(&self.text_of(answer)).map_err(|e| e.to_string())
  }

  fn text_of(&mut self, value: &v8::Global<v8::Value>) -> String {
    deno_core::scope!(scope, &mut self.js.worker.js_runtime);
    v8::Local::new(scope, value).to_rust_string_lossy(scope)
  }
}

#[async_trait(?Send)]
impl Language for Pyodide {
  const FILES_ON_DISK: bool = false;

  fn interrupter(&self) -> Arc<dyn Interrupt> {
    self.interrupter.clone()
  }

  fn environment(&self) -> Arc<dyn Environment> {
    self.environment.clone()
  }

  async fn configure(&mut self, config: &HostConfig, roots: Vec<OwnedFd>) -> Result<(), String> {
    self.js.configure(config, roots)?;
    let env = self.v8_value(&json!(config.env));
    let cwd = self.v8_value(&json!(WORKING_DIRECTORY));
    let mount_points: Vec<_> = config.mounts.iter().map(|m| &m.mount_point).collect();
    let mount_points = self.v8_value(&json!(mount_points));
    self
      .call_now("configure", &[env, cwd, mount_points])
      .map(|_| ())
  }

  async fn execute(&mut self, cell: Cell) -> Outcome {
    self
      .run("execute", cell.execution_id, &[json!(cell.code)])
      .await
  }

  async fn comm(&mut self, execution_id: ExecutionId, message: CommMessage) -> Outcome {
    let arguments = [json!(message.kind), json!(message.body.as_str())];
    self.run("comm", execution_id, &arguments).await
  }

  async fn run_program(&mut self, program: MainProgram) {
    let path = program.path.display().to_string();
    let source = match std::fs::read_to_string(&program.path) {
      Ok(source) => source,
      Err(error) => return self.sink.fatal(&format!("{path} cannot be read: {error}")),
    };
    self.sink.program(ProgramEvent::Started);
    let arguments = [json!(source), json!(path), json!(program.args)].map(|a| self.v8_value(&a));
    match self.call_now("runProgram", &arguments) {
      Ok(promise) => self.program = Some(Box::pin(self.js.worker.js_runtime.resolve(promise))),
      Err(message) => self.sink.fatal(&format!("failed: {message}")),
    }
  }

  async fn answer(&mut self, question: Question) -> Value {
    let (method, arguments) = match question {
      Question::Complete { code, cursor } => ("complete", vec![json!(code), json!(cursor)]),
      Question::Inspect { code, cursor } => ("inspect", vec![json!(code), json!(cursor)]),
      Question::IsComplete { code } => ("isComplete", vec![json!(code)]),
      Question::Check { name, code } => ("check", vec![json!(name), json!(code)]),
      Question::CommInfo { target_name } => ("commInfo", vec![json!(target_name)]),
    };
    let arguments: Vec<_> = arguments.iter().map(|a| self.v8_value(a)).collect();
    match self.call_now(method, &arguments) {
      Ok(answer) => serde_json::from_str(&self.text_of(&answer)).unwrap_or_default(),
      Err(message) => json!({ "status": "error", "ename": "Error", "evalue": message }),
    }
  }

  async fn file(&mut self, request: FileRequest) -> FileReply {
    let answered = match &request {
      FileRequest::Read {
        path,
        offset,
        length,
      } => {
        let length = MAX_CHUNK_BYTES.min(usize::try_from(*length).unwrap_or(usize::MAX));
        self.call_with("readFile", &[json!(path), json!(offset), json!(length)])
      }
      FileRequest::Write { path, offset, data } => {
        let data = self.v8_bytes(data);
        let place = [json!(path), json!(offset)].map(|it| self.v8_value(&it));
        let arguments = [place.as_slice(), &[data]].concat();
        self.call_now("writeFile", &arguments)
      }
      FileRequest::Stat { path } => self.call_with("statFile", &[json!(path)]),
      FileRequest::List { path } => self.call_with("listFiles", &[json!(path), json!(MAX_ENTRIES)]),
      FileRequest::Rename { from, to } => self.call_with("renameFile", &[json!(from), json!(to)]),
      FileRequest::Delete { path, recursive } => {
        self.call_with("deleteFile", &[json!(path), json!(recursive)])
      }
    };
    let other = |reason: String| FileReply::Failed(FileError::Other(reason));
    match answered {
      Ok(answer) => self.file_reply(&answer).unwrap_or_else(other),
      Err(message) => other(message),
    }
  }

  async fn idle(&mut self) {
    std::future::poll_fn(|cx| {
      self.interrupter.register(cx.waker());
      // Nothing runs that it could be meant for.
      self.interrupter.take_unseen();
      loop {
        match self.poll(cx) {
          Poll::Ready(false) => {}
          Poll::Ready(true) | Poll::Pending => return Poll::<()>::Pending,
        }
      }
    })
    .await;
  }

  /// Nothing: what V8 would give back, mostly compiled code, it needs again for the next cell.
  fn relax(&mut self) {}

  async fn prepare_to_fork(&mut self) -> io::Result<()> {
    self.warm_up().await?;
    // It takes compiled code along, which is made again.
    forking::collect_garbage(&mut self.js.worker)?;
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
