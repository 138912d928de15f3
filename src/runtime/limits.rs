//! The JavaScript heap of a kernel.
//!
//! A blank isolate is made before its limit is known, and V8 fixes the limit at creation. So it is
//! made with a small one, and the near-heap-limit callback raises it step by step to what the
//! kernel was given. At the end of that, the sink is told why, and the process ends.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use deno_core::JsRuntime;
use deno_core::v8;

use super::SharedSink;

/// Heap an isolate starts with, in bytes.
const INITIAL_HEAP_BYTES: usize = 64 << 20;
/// Room for V8 to unwind with once the limit is passed, in bytes.
const HEADROOM_BYTES: usize = 32 << 20;

/// Shared with the near-heap-limit callback, so that a claim can set it.
#[derive(Clone)]
pub struct HeapLimit(Arc<AtomicUsize>);

impl Default for HeapLimit {
  fn default() -> Self {
    Self(Arc::new(AtomicUsize::new(INITIAL_HEAP_BYTES)))
  }
}

impl HeapLimit {
  pub fn set(&self, bytes: usize) {
    self.0.store(bytes, Ordering::Relaxed);
  }

  pub fn create_params() -> v8::CreateParams {
    v8::CreateParams::default().heap_limits(0, INITIAL_HEAP_BYTES)
  }

  /// Watches `runtime`; past the limit it tells `sink` and terminates what runs.
  pub fn watch(&self, runtime: &mut JsRuntime, sink: SharedSink) {
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
