//! V8's REPL mode, and calls into the isolate, without the JSON of the inspector between.

use std::ffi::c_int;
use std::ffi::c_void;
use std::ptr::NonNull;

use deno_core::JsRuntime;
use deno_core::serde_v8;
use deno_core::v8;
use serde_json::Value;

// Of V8 as it is linked here, as its inspector calls it. An upgrade that has it no longer does not link; cells of tests
// notice one that means something else by it.
unsafe extern "C" {
  #[link_name = "_ZN2v85debug14EvaluateGlobalEPNS_7IsolateENS_5LocalINS_6StringEEENS0_18EvaluateGlobalModeEb"]
  fn evaluate_global(
    isolate: *mut c_void,
    source: NonNull<v8::String>,
    mode: c_int,
    repl: bool,
  ) -> Option<NonNull<v8::Value>>;
}

/// `EvaluateGlobalMode::kDefault`.
const DEFAULT_MODE: c_int = 0;
/// The member of what a script in REPL mode resolves to that is its value, which may itself be a promise.
const VALUE: &str = ".repl_result";

/// What came of running code.
pub(crate) enum Called {
  Returned(v8::Global<v8::Value>),
  Threw(v8::Global<v8::Value>),
  /// It was stopped from outside.
  Terminated,
}

/// What a promise came to.
pub(crate) enum Settled {
  Fulfilled(v8::Global<v8::Value>),
  Rejected(v8::Global<v8::Value>),
}

/// Runs a script in REPL mode, until it ends or waits. It returns a promise, see [`value_of_script`]; it throws when it
/// cannot be compiled.
pub(crate) fn evaluate(runtime: &mut JsRuntime, script: &str) -> Called {
  // SAFETY: the isolate lives as long as the runtime. The pointer is what V8 itself means by one.
  let isolate = unsafe {
    let isolate = runtime.v8_isolate().as_raw_isolate_ptr();
    std::mem::transmute::<v8::UnsafeRawIsolatePtr, *mut c_void>(isolate)
  };
  deno_core::scope!(scope, runtime);
  v8::tc_scope!(let scope, scope);
  let Some(source) = v8::String::new(scope, script) else {
    let message =
      v8::String::new_from_utf8(scope, b"the cell is too long", v8::NewStringType::Normal);
    let message = message.unwrap_or_else(|| v8::String::empty(scope));
    let error = v8::Exception::range_error(scope, message);
    return Called::Threw(v8::Global::new(scope, error));
  };
  // SAFETY: the isolate is entered and in a context, by the scope, which also owns both handles. A handle is a pointer,
  // passed and returned as such; an empty one is null.
  let value = unsafe {
    let value = evaluate_global(isolate, NonNull::from(&*source), DEFAULT_MODE, true);
    std::mem::transmute::<Option<NonNull<v8::Value>>, Option<v8::Local<'_, v8::Value>>>(value)
  };
  match (value, scope.exception()) {
    (Some(value), _) => Called::Returned(v8::Global::new(scope, value)),
    (None, Some(error)) if !scope.has_terminated() => Called::Threw(v8::Global::new(scope, error)),
    (None, _) => Called::Terminated,
  }
}

/// The value of a script, of what its promise was fulfilled with. `None` when it was terminated.
pub(crate) fn value_of_script(
  runtime: &mut JsRuntime,
  fulfilled: &v8::Global<v8::Value>,
) -> Option<v8::Global<v8::Value>> {
  deno_core::scope!(scope, runtime);
  let object = v8::Local::<v8::Object>::try_from(v8::Local::new(scope, fulfilled)).ok()?;
  let name = v8::String::new(scope, VALUE)?;
  let value = object.get(scope, name.into())?;
  Some(v8::Global::new(scope, value))
}

/// Calls a method of an object of ours.
pub(crate) fn call(
  runtime: &mut JsRuntime,
  object: &v8::Global<v8::Object>,
  method: &str,
  arguments: &[v8::Global<v8::Value>],
) -> Called {
  deno_core::scope!(scope, runtime);
  v8::tc_scope!(let scope, scope);
  let object = v8::Local::new(scope, object);
  let function = v8::String::new(scope, method)
    .and_then(|name| object.get(scope, name.into()))
    .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok());
  let arguments: Vec<_> = arguments
    .iter()
    .map(|it| v8::Local::new(scope, it))
    .collect();
  let value = function.and_then(|it| it.call(scope, object.into(), &arguments));
  match (value, scope.exception()) {
    (Some(value), _) => Called::Returned(v8::Global::new(scope, value)),
    (None, Some(error)) if !scope.has_terminated() => Called::Threw(v8::Global::new(scope, error)),
    (None, _) => Called::Terminated,
  }
}

/// A value of JSON in the isolate; `undefined` where it cannot be made.
pub(crate) fn value_of_json(runtime: &mut JsRuntime, json: &Value) -> v8::Global<v8::Value> {
  deno_core::scope!(scope, runtime);
  let local = serde_v8::to_v8(scope, json).unwrap_or_else(|_| v8::undefined(scope).into());
  v8::Global::new(scope, local)
}

/// What has become of a value that may be a promise; `None` while that is pending. What is no promise is its own value.
pub(crate) fn settled(runtime: &mut JsRuntime, value: &v8::Global<v8::Value>) -> Option<Settled> {
  deno_core::scope!(scope, runtime);
  let Ok(promise) = v8::Local::<v8::Promise>::try_from(v8::Local::new(scope, value)) else {
    return Some(Settled::Fulfilled(value.clone()));
  };
  match promise.state() {
    v8::PromiseState::Pending => None,
    v8::PromiseState::Fulfilled => {
      let value = promise.result(scope);
      Some(Settled::Fulfilled(v8::Global::new(scope, value)))
    }
    v8::PromiseState::Rejected => {
      let error = promise.result(scope);
      Some(Settled::Rejected(v8::Global::new(scope, error)))
    }
  }
}

/// Says that somebody takes care of the rejection of a promise, so that nobody reports it.
pub(crate) fn handle_rejection(runtime: &mut JsRuntime, promise: &v8::Global<v8::Value>) {
  deno_core::scope!(scope, runtime);
  let nothing = |_: &mut v8::PinScope<'_, '_>,
                 _: v8::FunctionCallbackArguments<'_>,
                 _: v8::ReturnValue<'_, v8::Value>| {};
  if let Ok(promise) = v8::Local::<v8::Promise>::try_from(v8::Local::new(scope, promise))
    && let Some(nothing) = v8::Function::new(scope, nothing)
  {
    promise.then2(scope, nothing, nothing);
  }
}
