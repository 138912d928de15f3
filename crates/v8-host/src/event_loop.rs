//! Driving the event loop of an isolate for cells that may fail in the background.

use std::task::Context;
use std::task::Poll;

use deno_core::JsRuntime;
use deno_core::PollEventLoopOptions;
use deno_core::error::CoreError;
use deno_core::error::CoreErrorKind;
use kernel_host::sink::EventSink;
use kernel_protocol::KernelEvent;

/// Polls once and reports what is thrown, unless `muted`. `Ready(true)` when nothing is left to do,
/// `Ready(false)` when something was thrown and more may follow.
pub(crate) fn poll(
  runtime: &mut JsRuntime,
  sink: &dyn EventSink,
  muted: bool,
  cx: &mut Context<'_>,
) -> Poll<bool> {
  match runtime.poll_event_loop(cx, PollEventLoopOptions::default()) {
    Poll::Pending => Poll::Pending,
    Poll::Ready(Ok(())) => Poll::Ready(true),
    Poll::Ready(Err(error)) => {
      if !muted {
        sink.emit(KernelEvent::stderr(uncaught_text(&error)));
        // An uncaught error leaves the isolate terminating; the kernel goes on.
        runtime.v8_isolate().cancel_terminate_execution();
      }
      Poll::Ready(false)
    }
  }
}

fn uncaught_text(error: &CoreError) -> String {
  match error.as_kind() {
    CoreErrorKind::Js(error) => {
      let stack = error.stack.as_deref().unwrap_or_default();
      let frames: String = stack
        .lines()
        .filter(|l| l.trim_start().starts_with("at "))
        .fold(String::new(), |mut text, line| {
          text.push('\n');
          text.push_str(line);
          text
        });
      format!("{}{frames}\n", error.exception_message)
    }
    _ => format!("Uncaught {error}\n"),
  }
}
