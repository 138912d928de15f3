//! V8 is initialised once a process, on a thread that then starts every isolate's thread: V8
//! protects its code pages with a key that only that thread's descendants hold.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;

use super::forking;

/// V8 assumes about 1 MB for JavaScript; the rest is room for native frames (swc recurses deeply).
const ISOLATE_STACK_BYTES: usize = 16 << 20;

type Job = (String, Box<dyn FnOnce() + Send>);

/// Runs `job` on a new thread that may own an isolate.
///
/// # Errors
/// When the thread that owns V8 could not be started.
pub(crate) fn spawn_isolate_thread(
  name: &str,
  job: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
  static SPAWNER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
  let sender = SPAWNER.get_or_init(|| {
    let (tx, rx) = mpsc::channel::<Job>();
    thread::Builder::new()
      .name("v8".into())
      .spawn(move || own_v8(&rx))
      .ok()
      .map(|_| tx)
  });
  let gone = || io::Error::other("the thread that owns V8 could not be started");
  sender
    .as_ref()
    .ok_or_else(gone)?
    .send((name.to_owned(), Box::new(job)))
    .map_err(|_| gone())
}

/// Lets WebAssembly run longer before V8 optimises it. The interpreter loop of Python would be
/// optimised while the first cell waits, for which it is far too large. Before the first isolate.
pub(crate) fn optimise_wasm_late() {
  // Fifteen times V8's own; a loop that is worth it still gets there within its first second.
  deno_core::v8::V8::set_flags_from_string("--wasm-tiering-budget=200000000");
}

fn own_v8(jobs: &mpsc::Receiver<Job>) {
  // Not fatal when a provider is installed already.
  let _ = deno_runtime::deno_tls::rustls::crypto::aws_lc_rs::default_provider().install_default();
  // Kernel output goes to programs, not to a terminal.
  deno_runtime::colors::set_use_color(false);
  forking::init_platform();
  for (name, job) in jobs {
    if let Err(error) = thread::Builder::new()
      .name(name)
      .stack_size(ISOLATE_STACK_BYTES)
      .spawn(job)
    {
      tracing::error!("an isolate thread could not be started: {error}");
    }
  }
}
