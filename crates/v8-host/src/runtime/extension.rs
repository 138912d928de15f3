//! The one extension kernels add to Deno's own: their output, their prompts, their environment.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use deno_core::ExtensionFileSource;
use deno_core::OpState;
use deno_core::op2;
use deno_core::v8;
use deno_error::JsErrorBox;
use deno_runtime::WorkerLogLevel;
use deno_runtime::deno_os::ProcessEnvGuard;
use deno_runtime::deno_permissions::PermissionCheckError;
use deno_runtime::deno_permissions::PermissionState;
use deno_runtime::deno_permissions::PermissionsContainer;
use kernel_host::sink::ProcessOwner;
use kernel_host::sink::SharedSink;
use kernel_protocol::KernelEvent;
use kernel_protocol::StreamName;
use rustix::fs::OFlags;

use crate::runtime::fs::KernelFs;
use crate::runtime::vm;

/// The kernel's own environment. What the server was started with is never in it: a kernel on a
/// thread of the server would read the server's secrets, and two such kernels would share one.
#[derive(Clone, Debug)]
pub(super) struct KernelEnv {
  vars: Arc<Mutex<BTreeMap<String, String>>>,
  owner: ProcessOwner,
}

impl KernelEnv {
  pub(super) fn new(owner: ProcessOwner) -> Self {
    Self {
      vars: Arc::default(),
      owner,
    }
  }

  /// Makes `env` the whole environment.
  pub(super) fn replace(&self, env: BTreeMap<String, String>, isolate: &mut v8::Isolate) {
    if let Some(process) = self.process() {
      for (name, _) in process.vars_os() {
        process.remove_var(name);
      }
      for (name, value) in &env {
        process.set_var_and_notify_timezone(name, value, || time_zone_changed(isolate));
      }
    }
    *self.lock() = env;
  }

  /// Sets variables, and leaves others.
  pub(super) fn extend(&self, variables: &BTreeMap<String, String>, isolate: &mut v8::Isolate) {
    for (name, value) in variables {
      self.set(name, value, isolate);
    }
  }

  pub(super) fn get(&self, name: &str) -> Option<String> {
    self.lock().get(name).cloned()
  }

  fn set(&self, name: &str, value: &str, isolate: &mut v8::Isolate) {
    if let Some(process) = self.process() {
      process.set_var_and_notify_timezone(name, value, || time_zone_changed(isolate));
    }
    self.lock().insert(name.to_owned(), value.to_owned());
  }

  fn remove(&self, name: &str, isolate: &mut v8::Isolate) {
    if let Some(process) = self.process() {
      process.remove_var_and_notify_timezone(name, || time_zone_changed(isolate));
    }
    self.lock().remove(name);
  }

  /// The environment that child processes and the C library see, when it is the kernel's to change.
  fn process(&self) -> Option<ProcessEnvGuard> {
    (self.owner == ProcessOwner::Kernel).then(ProcessEnvGuard::lock)
  }

  fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
    self.vars.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

fn time_zone_changed(isolate: &mut v8::Isolate) {
  isolate.date_time_configuration_change_notification(v8::TimeZoneDetection::Redetect);
}

/// The number of the cell that runs, 0 between cells. Kept in the op state of the main isolate.
pub(super) struct RunningCell(pub u32);

deno_core::extension!(
  kernel,
  ops = [
    op_kernel_cell,
    op_kernel_emit,
    op_kernel_flush,
    op_kernel_has_mounts,
    op_kernel_input,
    op_kernel_may_adopt,
    vm::op_kernel_vm_original_function,
    vm::op_kernel_vm_original_script,
    vm::op_kernel_vm_originals
  ],
  esm_entry_point = "ext:kernel/kernel.js",
  options = { sink: SharedSink, env: KernelEnv, fs: Arc<KernelFs> },
  middleware = |op| match op.name {
    "op_print" => op_kernel_print(),
    "op_internal_log" => op_kernel_internal_log(),
    "op_env" => op_kernel_env(),
    "op_get_env" => op_kernel_get_env(),
    "op_get_env_no_permission_check" => op_kernel_get_env_unchecked(),
    "op_set_env" => op_kernel_set_env(),
    "op_delete_env" => op_kernel_delete_env(),
    "op_kill" => op_kernel_kill(),
    "op_node_process_kill" => op_kernel_node_kill(),
    "op_process_abort" => op_kernel_abort(),
    "op_node_udp_open" => op_kernel_udp_open(),
    "op_node_fd_set_blocking" => op_kernel_fd_set_blocking(),
    "op_v8_set_flags_from_string" => op_kernel_no_flags(),
    "op_vm_compile_function" => vm::op_kernel_vm_compile_function(),
    "op_vm_create_script" => vm::op_kernel_vm_create_script(),
    _ => op,
  },
  state = |state, options| {
    state.put::<SharedSink>(options.sink);
    state.put::<KernelEnv>(options.env);
    state.put::<Arc<KernelFs>>(options.fs);
    state.put(RunningCell(0));
  },
  // Given as text, not as a file name: a bare name would be read from the build machine's disk.
  customizer = |extension: &mut deno_core::Extension| {
    extension.esm_files.to_mut().push(ExtensionFileSource::new(
      "ext:kernel/kernel.js",
      deno_core::ascii_str_include!("../../../../js/kernel.js"),
    ));
  },
);

/// The extension, for a kernel in a process of its own or on a thread of the server.
pub(super) fn extension(
  sink: SharedSink,
  env: KernelEnv,
  fs: Arc<KernelFs>,
  owner: ProcessOwner,
) -> deno_core::Extension {
  let mut extension = kernel::init(sink, env, fs);
  if owner == ProcessOwner::Server
    && let Some(inner) = extension.middleware_fn.take()
  {
    extension.middleware_fn = Some(Box::new(move |op| match op.name {
      "op_kill"
      | "op_node_process_kill"
      | "op_process_abort"
      | "op_node_process_set_title"
      | "op_signal_bind"
      // A child process would inherit the server's environment.
      | "op_run"
      | "op_spawn_child"
      | "op_node_spawn_child"
      | "op_spawn_wait"
      | "op_spawn_sync" => op_kernel_not_here(),
      _ => inner(op),
    }));
  }
  extension
}

#[op2(fast)]
fn op_kernel_has_mounts(state: &mut OpState) -> bool {
  state.borrow::<Arc<KernelFs>>().has_mounts()
}

/// Whether `node:net` may take a descriptor by its number: one of the three that programs know, or, for
/// a kernel that may start programs, those of its children. Any other is the engine's own.
#[op2(fast)]
fn op_kernel_may_adopt(state: &mut OpState, #[smi] fd: i32) -> bool {
  let may_run = || {
    let run = state.borrow::<PermissionsContainer>().query_run(None);
    matches!(
      run,
      Ok(PermissionState::Granted | PermissionState::GrantedPartial)
    )
  };
  (0..=2).contains(&fd) || may_run()
}

/// Flags are the engine's: it counts on some, and others make V8 unsafe.
#[op2(fast)]
fn op_kernel_no_flags(#[string] flags: &str) -> Result<(), JsErrorBox> {
  Err(JsErrorBox::new(
    "NotSupported",
    format!("V8's flags cannot be set in a kernel: {flags}"),
  ))
}

/// Descriptors of sockets come from nowhere: no kernel receives any.
#[op2(fast)]
fn op_kernel_udp_open(#[smi] fd: i32) -> Result<(), JsErrorBox> {
  Err(not_adopted(fd))
}

#[op2(fast)]
fn op_kernel_fd_set_blocking(#[smi] fd: i32, blocking: bool) -> i32 {
  let set = || -> rustix::io::Result<()> {
    if !(0..=2).contains(&fd) {
      return Err(rustix::io::Errno::BADF);
    }
    // SAFETY: the three standard descriptors are open for as long as the process lives.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::NONBLOCK, !blocking);
    rustix::fs::fcntl_setfl(fd, flags)
  };
  set().map_or_else(|error| -error.raw_os_error(), |()| 0)
}

fn not_adopted(fd: i32) -> JsErrorBox {
  JsErrorBox::new(
    "NotCapable",
    format!("Descriptor {fd} is not one of this program's own"),
  )
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Signal {
  Name(String),
  Number(i32),
}

/// Signals need `run`, those to the kernel itself too: one that is stopped reads nothing, and the
/// server would hold what it is sent.
#[op2(stack_trace)]
#[allow(
  clippy::needless_pass_by_value,
  reason = "operations own their strings"
)]
fn op_kernel_kill(
  state: &mut OpState,
  #[smi] pid: i32,
  #[serde] signal: Signal,
  #[string] api_name: String,
) -> Result<(), JsErrorBox> {
  let permissions = state.borrow_mut::<PermissionsContainer>();
  permissions
    .check_run_all(&api_name)
    .map_err(JsErrorBox::from_err)?;
  let signal = match signal {
    Signal::Number(number) => number,
    Signal::Name(name) => deno_signals::signal_str_to_int(&name)
      .map_err(|_| JsErrorBox::type_error(format!("Invalid signal: {name}")))?,
  };
  state.borrow::<SharedSink>().flush();
  send_signal(pid, signal).map_err(JsErrorBox::from_err)
}

#[op2(fast, stack_trace)]
#[smi]
fn op_kernel_node_kill(
  state: &mut OpState,
  #[smi] pid: i32,
  #[smi] signal: i32,
) -> Result<i32, PermissionCheckError> {
  let permissions = state.borrow_mut::<PermissionsContainer>();
  permissions.check_run_all("process.kill")?;
  state.borrow::<SharedSink>().flush();
  Ok(match send_signal(pid, signal) {
    Ok(()) => 0,
    Err(error) => -error.raw_os_error().unwrap_or(libc::EINVAL),
  })
}

fn send_signal(pid: i32, signal: i32) -> std::io::Result<()> {
  // SAFETY: takes any numbers.
  match unsafe { libc::kill(pid, signal) } {
    0 => Ok(()),
    _ => Err(std::io::Error::last_os_error()),
  }
}

/// Ends the process with a signal, as Deno's own operation does.
#[op2(fast)]
fn op_kernel_abort(state: &mut OpState) {
  state.borrow::<SharedSink>().flush();
  std::process::abort();
}

/// Stands for operations on the whole process.
#[op2(fast)]
fn op_kernel_not_here() -> Result<(), JsErrorBox> {
  Err(JsErrorBox::new(
    "NotSupported",
    "this kernel shares its process with the server",
  ))
}

#[op2(fast)]
fn op_kernel_cell(state: &mut OpState) -> u32 {
  state.borrow::<RunningCell>().0
}

/// Emits an event built by `kernel.js`; `data` is the JSON of its `data` member. Nothing of a cell runs after its last.
#[op2(fast)]
fn op_kernel_emit(
  state: &mut OpState,
  #[string] kind: &str,
  #[string] data: &str,
  last: bool,
) -> Result<(), JsErrorBox> {
  let event = KernelEvent::from_parts(kind, data).map_err(JsErrorBox::type_error)?;
  let sink = state.borrow::<SharedSink>();
  match last {
    true => sink.emit_last(event),
    false => sink.emit_soon(event),
  }
  Ok(())
}

/// Sends what waits for more to follow.
#[op2(fast)]
fn op_kernel_flush(state: &mut OpState) {
  state.borrow::<SharedSink>().flush();
}

/// Blocks the isolate until the client answers, as `prompt()` must.
#[op2]
#[string]
fn op_kernel_input(
  state: &mut OpState,
  #[string] prompt: String,
  password: bool,
) -> Option<String> {
  let sink = state.borrow::<SharedSink>().clone();
  sink.ask(prompt, password)
}

/// `console.*` and `Deno.core.print`: one call, one event.
#[op2(fast)]
#[allow(
  clippy::unnecessary_wraps,
  reason = "Deno's own operation is declared so"
)]
fn op_kernel_print(
  state: &mut OpState,
  #[string] text: &str,
  is_err: bool,
) -> Result<(), JsErrorBox> {
  let name = if is_err {
    StreamName::Stderr
  } else {
    StreamName::Stdout
  };
  state.borrow::<SharedSink>().emit_soon(KernelEvent::Stream {
    name,
    text: text.to_owned(),
  });
  Ok(())
}

/// What Deno itself has to say, such as where a server listens or how a request handler failed.
#[op2(fast)]
fn op_kernel_internal_log(
  state: &mut OpState,
  #[string] _url: &str,
  #[smi] level: u32,
  #[string] message: &str,
) {
  if level <= WorkerLogLevel::Info as u32 {
    let event = KernelEvent::stderr(format!("{message}\n"));
    state.borrow::<SharedSink>().emit(event);
  }
}

#[op2(stack_trace)]
#[serde]
fn op_kernel_env(state: &mut OpState) -> Result<HashMap<String, String>, PermissionCheckError> {
  state.borrow_mut::<PermissionsContainer>().check_env_all()?;
  Ok(
    state
      .borrow::<KernelEnv>()
      .lock()
      .clone()
      .into_iter()
      .collect(),
  )
}

/// What Deno's `node:` modules ask for whatever is permitted, as in `deno_os`.
const NODES_OWN_VARIABLES: [&str; 4] = ["FORCE_COLOR", "NODE_DEBUG", "NODE_OPTIONS", "NO_COLOR"];

#[op2(stack_trace)]
#[string]
fn op_kernel_get_env(
  state: &mut OpState,
  #[string] key: &str,
) -> Result<Option<String>, PermissionCheckError> {
  if !NODES_OWN_VARIABLES.contains(&key) {
    state.borrow_mut::<PermissionsContainer>().check_env(key)?;
  }
  Ok(state.borrow::<KernelEnv>().get(key))
}

#[op2]
#[string]
fn op_kernel_get_env_unchecked(state: &mut OpState, #[string] key: &str) -> Option<String> {
  state.borrow::<KernelEnv>().get(key)
}

#[op2(fast, stack_trace)]
fn op_kernel_set_env(
  state: &mut OpState,
  scope: &mut v8::PinScope<'_, '_>,
  #[string] key: &str,
  #[string] value: &str,
) -> Result<(), JsErrorBox> {
  check_env_write(state, key)?;
  if value.contains('\0') {
    return Err(JsErrorBox::type_error(format!(
      "Value contains invalid characters: {value:?}"
    )));
  }
  state.borrow::<KernelEnv>().set(key, value, scope);
  Ok(())
}

#[op2(fast, stack_trace)]
fn op_kernel_delete_env(
  state: &mut OpState,
  scope: &mut v8::PinScope<'_, '_>,
  #[string] key: &str,
) -> Result<(), JsErrorBox> {
  check_env_write(state, key)?;
  state.borrow::<KernelEnv>().remove(key, scope);
  Ok(())
}

fn check_env_write(state: &mut OpState, key: &str) -> Result<(), JsErrorBox> {
  state
    .borrow_mut::<PermissionsContainer>()
    .check_env(key)
    .map_err(JsErrorBox::from_err)?;
  if key.is_empty() {
    return Err(JsErrorBox::type_error("Key is an empty string."));
  }
  if key.contains(['=', '\0']) {
    return Err(JsErrorBox::type_error(format!(
      "Key contains invalid characters: {key:?}"
    )));
  }
  Ok(())
}
