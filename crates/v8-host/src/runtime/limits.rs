//! The JavaScript heap of a kernel.
//!
//! A blank isolate is made before its limit is known, and V8 fixes the limit at creation. So it is
//! made with a small one, and the near-heap-limit callback raises it step by step to what the
//! kernel was given. At the end of that, the sink is told why, and the process ends.

use std::cell::Cell;
use std::ffi::c_char;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use deno_core::JsRuntime;
use deno_core::v8;
use kernel_host::sink::SharedSink;

/// Heap an isolate starts with, in bytes.
const INITIAL_HEAP_BYTES: usize = 64 << 20;
/// Room for V8 to unwind with once the limit is passed, in bytes.
const HEADROOM_BYTES: usize = 32 << 20;

thread_local! {
  /// Whom the isolate of this thread tells that it is out of memory.
  static LAST_WORDS: Cell<Option<SharedSink>> = const { Cell::new(None) };
}

/// V8 cannot go on and ends the process when this returns. A single large allocation comes here
/// without passing the near-heap-limit callback.
unsafe extern "C" fn out_of_memory(_location: *const c_char, details: &v8::OomDetails) {
  let Some(sink) = LAST_WORDS.take() else {
    return;
  };
  let what = if details.is_heap_oom {
    "the JavaScript heap is full"
  } else {
    "an allocation failed"
  };
  sink.fatal(&format!("ran out of memory: {what}"));
  // Here only on a thread of the server, which must live on: this one cannot.
  loop {
    std::thread::park();
  }
}

/// Shared with the near-heap-limit callback, so that a claim can set it.
#[derive(Clone)]
pub(crate) struct HeapLimit(Arc<AtomicUsize>);

impl Default for HeapLimit {
  fn default() -> Self {
    Self(Arc::new(AtomicUsize::new(INITIAL_HEAP_BYTES)))
  }
}

impl HeapLimit {
  pub(crate) fn set(&self, bytes: usize) {
    self.0.store(bytes, Ordering::Relaxed);
  }

  pub(crate) fn create_params() -> v8::CreateParams {
    v8::CreateParams::default().heap_limits(0, INITIAL_HEAP_BYTES)
  }

  /// Watches `runtime`; past the limit it tells `sink` and terminates what runs.
  pub(crate) fn watch(&self, runtime: &mut JsRuntime, sink: SharedSink) {
    LAST_WORDS.set(Some(sink.clone()));
    runtime.v8_isolate().set_oom_error_handler(out_of_memory);
    let limit = self.clone();
    let isolate = runtime.v8_isolate().thread_safe_handle();
    runtime.add_near_heap_limit_callback(move |current, _initial| {
      let allowed = limit.0.load(Ordering::Relaxed);
      if current < allowed {
        return (current * 2).min(allowed);
      }
      sink.fatal(&format!(
        "ran out of memory: the JavaScript heap reached its limit of {} MiB",
        allowed >> 20
      ));
      isolate.terminate_execution();
      current + HEADROOM_BYTES
    });
  }
}
