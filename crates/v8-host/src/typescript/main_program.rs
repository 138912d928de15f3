//! The main module of an app, driven the way `deno run` does.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use deno_core::ModuleSpecifier;
use deno_core::error::CoreError;
use deno_core::error::CoreErrorKind;
use deno_core::error::JsError;
use kernel_host::sink::EventSink;
use kernel_protocol::KernelEvent;
use kernel_protocol::MainProgram;
use kernel_protocol::ProgramEvent;

use crate::runtime::JsWorker;
use crate::runtime::format_js_error;

/// How far the main module has come.
#[derive(Default)]
pub(super) enum Program {
  /// There is none: a kernel for cells.
  #[default]
  None,
  Evaluating(Pin<Box<dyn Future<Output = Result<(), CoreError>>>>),
  /// Its top level has ended; timers, servers and promises go on.
  Running,
  Finished,
}

impl Program {
  /// Loads the main module, with all it imports, and begins to evaluate it.
  pub(super) async fn start(js: &mut JsWorker, program: MainProgram, sink: &dyn EventSink) -> Self {
    let runtime = &mut js.worker.js_runtime;
    let loaded = match ModuleSpecifier::from_file_path(&program.path) {
      Ok(specifier) => {
        // What `Deno.mainModule` tells: a process that was forked has booted without one.
        runtime.op_state().borrow_mut().put(specifier.clone());
        runtime.load_main_es_module(&specifier).await
      }
      Err(()) => {
        sink.fatal(&format!(
          "{} is not an absolute path",
          program.path.display()
        ));
        return Self::Finished;
      }
    };
    match loaded {
      Ok(id) => {
        sink.program(ProgramEvent::Started);
        Self::Evaluating(Box::pin(runtime.mod_evaluate(id)))
      }
      Err(error) => {
        fail(sink, &error);
        Self::Finished
      }
    }
  }

  /// Takes the next step after the event loop was polled; `idle` when that has nothing left to do.
  /// `true` when it has something again.
  pub(super) fn advance(
    &mut self,
    js: &mut JsWorker,
    sink: &dyn EventSink,
    idle: bool,
    cx: &mut Context<'_>,
  ) -> bool {
    match self {
      Self::None | Self::Finished => false,
      Self::Evaluating(evaluation) => match evaluation.as_mut().poll(cx) {
        Poll::Pending => false,
        Poll::Ready(Ok(())) => {
          *self = Self::Running;
          report(sink, js.worker.dispatch_load_event());
          true
        }
        Poll::Ready(Err(error)) => {
          *self = Self::Finished;
          fail(sink, &error);
          false
        }
      },
      Self::Running if idle => {
        let goes_on = report(sink, js.worker.dispatch_beforeunload_event()).unwrap_or(false)
          || report(sink, js.worker.dispatch_process_beforeexit_event()).unwrap_or(false);
        if goes_on {
          return true;
        }
        *self = Self::Finished;
        report(sink, js.worker.dispatch_unload_event());
        report(sink, js.worker.dispatch_process_exit_event());
        sink.program(ProgramEvent::Finished {
          code: js.worker.exit_code(),
        });
        false
      }
      Self::Running => false,
    }
  }

  /// Whether an error that nobody caught ends the process, as it does in a program.
  pub(super) fn ends_with_errors(&self) -> bool {
    matches!(self, Self::Evaluating(_) | Self::Running)
  }
}

/// Prints an error as `deno run` does and ends the host.
pub(super) fn fail(sink: &dyn EventSink, error: &CoreError) {
  let text = match error.as_kind() {
    CoreErrorKind::Js(error) => format_js_error(error),
    _ => error.to_string(),
  };
  end(sink, &text);
}

fn end(sink: &dyn EventSink, text: &str) {
  sink.emit(KernelEvent::stderr(format!("error: {text}\n")));
  sink.fatal(text.lines().next().unwrap_or(text));
}

fn report<T>(sink: &dyn EventSink, result: Result<T, Box<JsError>>) -> Option<T> {
  result
    .inspect_err(|error| end(sink, &format_js_error(error)))
    .ok()
}
