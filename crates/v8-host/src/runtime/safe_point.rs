//! Where an isolate is, asked from another thread.
//!
//! Deno loads much of itself when it is first used. A termination in the middle of that leaves the
//! half-loaded part broken for good, so whoever terminates must know.

use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use deno_core::JsRuntime;
use deno_core::v8;

/// Frames looked at; loading is near the top of the stack.
const MAX_FRAMES: usize = 200;
/// The functions of `ext:core/01_core.js` that load Deno's own code, and that script.
const LOADERS: [&str; 2] = ["loadExtScript", "lazyLoad"];
const CORE_SCRIPT: &str = "ext:core/01_core.js";

/// Scripts of Deno's own.
const OWN_SCHEMES: [&str; 2] = ["ext:", "node:"];

/// What an isolate does at a safe point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SafePoint {
  /// User code.
  RunsCode,
  /// Deno's own, which soon returns or calls user code.
  LoadsItself,
  /// No JavaScript: native code between two calls, of microtasks or of Deno while it loads.
  BetweenCalls,
}

type Answer = Box<dyn FnOnce(SafePoint) + Send>;

/// Calls `answer` on the isolate's thread when it next looks for interrupts. JavaScript does that
/// often; a regular expression, a wait or native code may not, and an idle isolate does it only when
/// it runs again.
pub(crate) fn at_safe_point(
  isolate: &v8::IsolateHandle,
  answer: impl FnOnce(SafePoint) + Send + 'static,
) {
  let answer: Box<Answer> = Box::new(Box::new(answer));
  let data = Box::into_raw(answer);
  if !isolate.request_interrupt(interrupted, data.cast::<c_void>()) {
    // SAFETY: the isolate is gone, so the callback never takes the pointer made above.
    drop(unsafe { Box::from_raw(data) });
  }
}

unsafe extern "C" fn interrupted(isolate: v8::UnsafeRawIsolatePtr, data: *mut c_void) {
  // SAFETY: `data` is the box that `at_safe_point` leaked; V8 calls back once.
  let answer = unsafe { Box::from_raw(data.cast::<Answer>()) };
  // SAFETY: V8 passes the isolate it has interrupted, on that isolate's thread.
  let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
  answer(look(&mut isolate));
}

/// When a module of Deno's own last began to load. `import("node:http")` loads such modules from
/// within native code, right below the user's frame: the stack does not tell.
#[derive(Clone, Default)]
pub(super) struct LoadMark(Rc<Cell<Option<Instant>>>);

/// How long one module of Deno's own may take, its dependencies not counted.
const LOAD_TIME: Duration = Duration::from_millis(250);

impl LoadMark {
  pub(super) fn set(&self) {
    self.0.set(Some(Instant::now()));
  }

  fn is_recent(&self) -> bool {
    self.0.get().is_some_and(|at| at.elapsed() < LOAD_TIME)
  }
}

/// What is looked at; kept with the isolate.
struct Watched {
  context: v8::Global<v8::Context>,
  load_mark: LoadMark,
}

/// Must have been called on an isolate before [`at_safe_point`] is.
pub(super) fn install(runtime: &mut JsRuntime, load_mark: LoadMark) {
  let context = runtime.main_context();
  runtime
    .v8_isolate()
    .set_slot(Watched { context, load_mark });
}

fn look(isolate: &mut v8::Isolate) -> SafePoint {
  let Some(Watched { context, load_mark }) = isolate.get_slot() else {
    return SafePoint::RunsCode;
  };
  if load_mark.is_recent() {
    return SafePoint::LoadsItself;
  }
  let context = context.clone();
  // SAFETY: called from a V8 callback, where the isolate is entered.
  v8::callback_scope!(unsafe scope, isolate);
  let context = v8::Local::new(scope, context);
  let scope = &mut v8::ContextScope::new(scope, context);
  let Some(trace) = v8::StackTrace::current_stack_trace(scope, MAX_FRAMES) else {
    return SafePoint::RunsCode;
  };
  if trace.get_frame_count() == 0 {
    return SafePoint::BetweenCalls;
  }
  let loads_itself = (0..trace.get_frame_count())
    .filter_map(|i| Some((i, trace.get_frame(scope, i)?)))
    .any(|(i, frame)| {
      let script = frame
        .get_script_name(scope)
        .map(|name| name.to_rust_string_lossy(scope));
      let name = frame
        .get_function_name(scope)
        .map(|name| name.to_rust_string_lossy(scope));
      let script = script.as_deref().unwrap_or_default();
      let on_top = i == 0 && OWN_SCHEMES.iter().any(|scheme| script.starts_with(scheme));
      let loader = name.is_some_and(|name| LOADERS.contains(&name.as_str()));
      on_top || (loader && script == CORE_SCRIPT)
    });
  if loads_itself {
    SafePoint::LoadsItself
  } else {
    SafePoint::RunsCode
  }
}
