//! An isolate that is forked: what has to be so before V8 is there, and what a child must not share with its siblings.

use std::cell::RefCell;
use std::ffi::c_void;
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use deno_core::InspectorMsgKind;
use deno_core::JsRuntime;
use deno_core::v8;
use deno_runtime::deno_web::StartTime;
use deno_runtime::worker::MainWorker;
use serde_json::Value;
use serde_json::json;

static WILL_FORK: AtomicBool = AtomicBool::new(false);

/// Flags of an isolate that is forked, and of its children. V8 collects garbage by itself half a minute after an isolate was
/// used last: every child would, whatever it did, and have for itself all that it marks; languages collect what has grown
/// when they relax. Code that is to be compiled by workers would be compiled once more in every child.
const FOR_GOOD: &str = "--no-memory-reducer --no-concurrent-sparkplug";

/// Flags until a child is forked: nothing waits for a worker, for there is none yet, and nothing is left for the workers of
/// every child to do once more. V8 freezes its flags when it is initialised, in these processes only each child does.
const ALONE: &str = "--no-concurrent-sweeping --no-wasm-async-compilation --wasm-sync-tier-up --no-freeze-flags-after-init";
const WITH_WORKERS: &str = "--concurrent-sweeping --wasm-async-compilation --no-wasm-sync-tier-up";

/// Says, before V8 is initialised, that this process will be forked.
pub(crate) fn will_fork() {
  WILL_FORK.store(true, Ordering::Relaxed);
  v8::V8::set_flags_from_string(FOR_GOOD);
  v8::V8::set_flags_from_string(ALONE);
  forkable::memory::keep_for_children();
}

/// Initialises V8. In a process that will be forked its workers start in each child.
pub(super) fn init_platform() {
  let init = || JsRuntime::init_platform(None);
  if WILL_FORK.load(Ordering::Relaxed) {
    forkable::threads::hold(init);
  } else {
    init();
  }
}

/// Collects all garbage, and sweeps it up: pages that are left to be swept later are in each child, which would have them for
/// itself then. V8 sweeps at once before it looks through a heap for objects, as it does here for none.
///
/// # Errors
/// When the inspector does not answer as it should.
pub(crate) fn collect_garbage(worker: &mut MainWorker) -> io::Result<()> {
  let answers = Rc::<RefCell<Vec<String>>>::default();
  let heard = answers.clone();
  let mut inspector = worker.create_inspector_session(Box::new(move |message| {
    if let InspectorMsgKind::Message(_) = message.kind {
      heard.borrow_mut().push(message.content);
    }
  }));
  let mut ask = |id, method, params: Value| {
    inspector.post_message(id, method, Some(params));
    let answer = answers.borrow_mut().pop().unwrap_or_default();
    let mut answer: Value = serde_json::from_str(&answer)?;
    match answer.get_mut("result") {
      Some(result) => Ok(result.take()),
      None => Err(io::Error::other(format!("{method}: {answer}"))),
    }
  };
  let none = json!({ "expression": "(class {}).prototype" });
  let prototype = ask(1, "Runtime.evaluate", none)?["result"]["objectId"].take();
  let objects = json!({ "prototypeObjectId": prototype });
  ask(2, "Runtime.queryObjects", objects).map(drop)
}

/// Threads of this process: the first, which waits for ever, the one that V8 was initialised on, which waits for isolates
/// to be asked for, and the isolate's own, which forks.
const THREADS: usize = 3;

/// Checks that no thread does anything but the one that forks.
///
/// # Errors
/// When there are more threads than are known to be idle: an upgrade may have brought one.
pub(crate) fn check_threads() -> io::Result<()> {
  let threads = std::fs::read_dir("/proc/self/task")
    .map_err(|e| io::Error::other(format!("/proc/self/task cannot be read: {e}")))?;
  match threads.count() {
    THREADS => Ok(()),
    threads => Err(io::Error::other(format!(
      "{threads} threads run where {THREADS} are known: forked kernels would lack some"
    ))),
  }
}

// Of V8 as it is linked here; a test forks, so that an upgrade that has them no longer is noticed.
unsafe extern "C" {
  #[link_name = "_ZN2v88internal7Isolate23random_number_generatorEv"]
  fn random_number_generator(isolate: *mut c_void) -> *mut c_void;
  #[link_name = "_ZN2v84base21RandomNumberGenerator7SetSeedEl"]
  fn set_seed(generator: *mut c_void, seed: i64);
  #[link_name = "_ZN2v88internal8FlagList11FreezeFlagsEv"]
  fn freeze_flags();
  #[link_name = "_ZN2v88internal10MathRandom12ResetContextENS0_6TaggedINS0_7ContextEEE"]
  fn reset_context(context: usize);
}

/// Makes anew in a forked child what it must have for itself: random numbers, and the time of its start. V8's flags
/// stay as they are from here on.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn forked(runtime: &mut JsRuntime) -> io::Result<()> {
  let mut seed = [0_u8; 8];
  // SAFETY: writes as many bytes as there are. So few come whole.
  if unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) } != 8 {
    return Err(io::Error::last_os_error());
  }
  // SAFETY: the isolate is alive, this is its thread, and both functions take what they are given here.
  unsafe {
    let isolate = runtime.v8_isolate().as_raw_isolate_ptr();
    let isolate = std::mem::transmute::<v8::UnsafeRawIsolatePtr, *mut c_void>(isolate);
    set_seed(random_number_generator(isolate), i64::from_ne_bytes(seed));
  }
  let context = runtime.main_context();
  {
    deno_core::scope!(scope, runtime);
    let context = v8::Local::new(scope, context);
    // SAFETY: a handle points to the address, with its tag, of what it is a handle of. `Math.random` draws from the
    // isolate's generator again.
    unsafe { reset_context(*std::ptr::from_ref::<v8::Context>(&context).cast::<usize>()) };
  }
  runtime.op_state().borrow_mut().put(StartTime::default());
  v8::V8::set_flags_from_string(WITH_WORKERS);
  // SAFETY: nothing in this process changes a flag from here on: what `node:v8` offers for it does nothing in a kernel.
  unsafe { freeze_flags() };
  Ok(())
}

/// Starts V8's workers in a forked child.
///
/// # Errors
/// When the system has no more threads.
pub(crate) fn start_workers() -> io::Result<()> {
  forkable::threads::start_held()
}
