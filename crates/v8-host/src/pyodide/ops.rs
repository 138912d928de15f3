//! What a Python kernel in V8 has besides the extension of every kernel: the files of Pyodide, its
//! packages, and the buffer that interrupts it.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deno_core::ExtensionFileSource;
use deno_core::OpState;
use deno_core::op2;
use deno_core::v8;
use deno_error::JsErrorBox;
use kernel_host::sink::SharedSink;
use kernel_protocol::launch::PythonFiles;
use memmap2::MmapOptions;
use serde::Deserialize;

use crate::pyodide::packages;

/// Names of the distribution's files that a kernel needs while it boots.
const ASSETS: [&str; 6] = [
  LOCK_FILE,
  "pyodide.asm.wasm",
  "python_stdlib.zip",
  "site-packages.zip",
  "snapshot.head",
  SNAPSHOT,
];
/// The memory that kernels start from; without it they start cold.
pub(super) const SNAPSHOT: &str = "snapshot.memory";
/// Names the packages of the distribution, and their sums.
const LOCK_FILE: &str = "pyodide-lock.json";

/// What a kernel may ask for of Python's files: everything while it boots, then packages.
struct Distribution {
  files: PythonFiles,
  booted: bool,
  /// By file name; read when the first package is asked for.
  sums: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct LockFile {
  packages: HashMap<String, LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
  file_name: String,
  sha256: String,
}

impl Distribution {
  fn new(files: PythonFiles) -> Self {
    Self {
      files,
      booted: false,
      sums: None,
    }
  }

  /// A file that is needed while Python boots. Code of the kernel could ask for others.
  fn asset(&self, name: &str) -> Result<PathBuf, JsErrorBox> {
    match !self.booted && ASSETS.contains(&name) {
      true => Ok(self.files.assets.join(name)),
      false => Err(JsErrorBox::new(
        "NotCapable",
        format!("{name} is not a file of Python's start"),
      )),
    }
  }

  /// The sum that the distribution has for a package.
  fn sum(&mut self, name: &str) -> Result<&str, String> {
    if self.sums.is_none() {
      let path = self.files.assets.join(LOCK_FILE);
      let text = std::fs::read(&path).map_err(|e| format!("{LOCK_FILE} cannot be read: {e}"))?;
      let locked: LockFile =
        serde_json::from_slice(&text).map_err(|e| format!("{LOCK_FILE}: {e}"))?;
      let packages = locked.packages.into_values();
      self.sums = Some(packages.map(|it| (it.file_name, it.sha256)).collect());
    }
    let sum = self.sums.as_ref().and_then(|sums| sums.get(name));
    sum
      .map(String::as_str)
      .ok_or_else(|| format!("{name} is not in {LOCK_FILE}"))
  }
}

deno_core::extension!(
  python,
  ops = [
    op_python_asset,
    op_python_booted,
    op_python_fatal,
    op_python_interrupt_buffer,
    op_python_keep_package,
    op_python_map_memory,
    op_python_package,
    op_python_package_places,
    op_python_sleep,
  ],
  esm_entry_point = "ext:python/python.js",
  options = { files: PythonFiles, interrupt: InterruptBuffer },
  // A worker is a whole Deno runtime, with everything that Python's own is without.
  middleware = |op| match op.name {
    "op_create_worker" => op_python_no_worker(),
    _ => op,
  },
  state = |state, options| {
    state.put(Distribution::new(options.files));
    state.put(options.interrupt);
  },
  // Given as text, not as a file name: a bare name would be read from the build machine's disk.
  customizer = |extension: &mut deno_core::Extension| {
    extension.esm_files.to_mut().extend([
      ExtensionFileSource::new(
        "ext:python/pyodide_boot.js",
        deno_core::ascii_str_include!("../../../../js/pyodide_boot.js"),
      ),
      ExtensionFileSource::new(
        "ext:python/python_mount.js",
        deno_core::ascii_str_include!("../../../../js/python_mount.js"),
      ),
      ExtensionFileSource::new(
        "ext:python/python_files.js",
        deno_core::ascii_str_include!("../../../../js/python_files.js"),
      ),
      ExtensionFileSource::new(
        "ext:python/python.js",
        deno_core::ascii_str_include!("../../../../js/python.js"),
      ),
    ]);
  },
);

pub(super) fn extension(files: PythonFiles, interrupt: InterruptBuffer) -> deno_core::Extension {
  python::init(files, interrupt)
}

/// A word that Pyodide looks at every few bytecodes; 2 (`SIGINT`) raises KeyboardInterrupt and sets it
/// back to 0. <https://pyodide.org/en/stable/usage/keyboard-interrupts.html>
#[derive(Clone, Default)]
pub(super) struct InterruptBuffer {
  word: Arc<AtomicI32>,
  /// Wakes a sleep, which looks at nothing.
  bell: Arc<(Mutex<()>, Condvar)>,
}

const SIGINT: i32 = 2;

impl InterruptBuffer {
  pub(super) fn raise(&self) {
    self.word.store(SIGINT, Ordering::SeqCst);
    let _held = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
    self.bell.1.notify_all();
  }

  /// Takes a signal back; `false` when Python has seen it already, or there was none.
  pub(super) fn withdraw(&self) -> bool {
    self.word.swap(0, Ordering::SeqCst) == SIGINT
  }

  /// Blocks the thread until `duration` has passed or a signal comes; whether one came.
  fn sleep(&self, duration: Duration) -> bool {
    let held = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
    let signalled = || self.word.load(Ordering::SeqCst) != 0;
    drop(
      self
        .bell
        .1
        .wait_timeout_while(held, duration, |()| !signalled()),
    );
    signalled()
  }

  /// The word as memory that JavaScript shares.
  fn backing_store(&self) -> v8::UniqueRef<v8::BackingStore> {
    unsafe extern "C" fn release(
      _data: *mut std::ffi::c_void,
      _length: usize,
      word: *mut std::ffi::c_void,
    ) {
      // SAFETY: `word` is the reference leaked below, released once.
      drop(unsafe { Arc::from_raw(word.cast::<AtomicI32>()) });
    }
    let word = Arc::into_raw(self.word.clone()).cast_mut();
    // SAFETY: the memory lives until `release` drops the reference that keeps it; both sides only
    // use it atomically.
    unsafe {
      v8::SharedArrayBuffer::new_backing_store_from_ptr(
        word.cast(),
        std::mem::size_of::<AtomicI32>(),
        release,
        word.cast(),
      )
    }
  }
}

#[op2]
fn op_python_interrupt_buffer<'s>(
  state: &mut OpState,
  scope: &mut v8::PinScope<'s, '_>,
) -> v8::Local<'s, v8::SharedArrayBuffer> {
  let store = state.borrow::<InterruptBuffer>().backing_store();
  v8::SharedArrayBuffer::with_backing_store(scope, &store.make_shared())
}

/// Far beyond the life of a kernel, and within what the clock can count to.
const LONGEST_SLEEP: Duration = Duration::from_secs(1 << 32);

/// `time.sleep`; whether a signal ended it. Nothing else of the kernel runs meanwhile, as in any Python.
#[op2(fast)]
fn op_python_sleep(state: &mut OpState, seconds: f64) -> bool {
  let duration = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_SLEEP);
  let buffer = state.borrow::<InterruptBuffer>().clone();
  buffer.sleep(duration.min(LONGEST_SLEEP))
}

/// Python cannot go on: it has ended itself, or has failed.
#[op2(fast)]
fn op_python_fatal(state: &mut OpState, #[string] reason: &str) {
  let sink = state.borrow::<SharedSink>().clone();
  sink.fatal(reason);
}

/// A file of the distribution, mapped: kernels share its pages.
#[op2]
fn op_python_asset<'s>(
  state: &mut OpState,
  scope: &mut v8::PinScope<'s, '_>,
  #[string] name: &str,
) -> Result<v8::Local<'s, v8::Uint8Array>, JsErrorBox> {
  let path = state.borrow::<Distribution>().asset(name)?;
  let unreadable =
    |e: std::io::Error| JsErrorBox::generic(format!("{} cannot be read: {e}", path.display()));
  let file = File::open(&path).map_err(unreadable)?;
  // SAFETY: the engine unpacked the file for itself and never changes it; writes of JavaScript stay
  // in this process.
  let map = unsafe { MmapOptions::new().map_copy(&file) }.map_err(unreadable)?;
  let length = map.len();
  let store = v8::ArrayBuffer::new_backing_store_from_bytes(Box::new(map)).make_shared();
  let buffer = v8::ArrayBuffer::with_backing_store(scope, &store);
  v8::Uint8Array::new(scope, buffer, 0, length)
    .ok_or_else(|| JsErrorBox::generic(format!("{} is too large", path.display())))
}

/// Makes `memory`, that of WebAssembly, what `name` holds: mapped, so that only pages that change take
/// memory of this kernel.
#[op2(fast)]
fn op_python_map_memory(
  state: &mut OpState,
  #[string] name: &str,
  #[buffer] memory: &mut [u8],
) -> Result<(), JsErrorBox> {
  let path = state.borrow::<Distribution>().asset(name)?;
  map_over(&path, memory)
    .map_err(|e| JsErrorBox::generic(format!("{} cannot be mapped: {e}", path.display())))
}

fn map_over(path: &Path, memory: &mut [u8]) -> std::io::Result<()> {
  let file = File::open(path)?;
  let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
  if length > memory.len() {
    return Err(std::io::Error::other("it is larger than the memory"));
  }
  // SAFETY: WebAssembly memory begins at a page of its own, and `length` bytes of it are ours to
  // overwrite. V8 unmaps it by address, whatever it is mapped to.
  let mapped = unsafe {
    libc::mmap(
      memory.as_mut_ptr().cast(),
      length,
      libc::PROT_READ | libc::PROT_WRITE,
      libc::MAP_PRIVATE | libc::MAP_FIXED,
      file.as_raw_fd(),
      0,
    )
  };
  if mapped == libc::MAP_FAILED {
    return Err(std::io::Error::last_os_error());
  }
  Ok(())
}

/// A package of the distribution, when it is on this machine.
#[op2]
#[buffer]
fn op_python_package(
  state: &mut OpState,
  #[string] name: &str,
) -> Result<Option<Vec<u8>>, JsErrorBox> {
  let distribution = state.borrow_mut::<Distribution>();
  let files = distribution.files.clone();
  let sum = distribution.sum(name).map_err(JsErrorBox::generic)?;
  Ok(packages::find(&files, name, sum))
}

/// Keeps a package that was downloaded, for all kernels.
#[op2(fast)]
fn op_python_keep_package(
  state: &mut OpState,
  #[string] name: &str,
  #[buffer] bytes: &[u8],
) -> Result<(), JsErrorBox> {
  let distribution = state.borrow_mut::<Distribution>();
  let packages = distribution.files.packages.clone();
  let sum = distribution.sum(name).map_err(JsErrorBox::generic)?;
  packages::keep(&packages, name, sum, bytes).map_err(JsErrorBox::generic)
}

/// Nothing of Python's start is needed any more.
#[op2(fast)]
fn op_python_booted(state: &mut OpState) {
  state.borrow_mut::<Distribution>().booted = true;
}

/// Takes the place of `op_create_worker`.
#[op2(fast)]
fn op_python_no_worker() -> Result<(), JsErrorBox> {
  Err(JsErrorBox::new(
    "NotSupported",
    "workers are not available in Python kernels",
  ))
}

/// Where packages were looked for, in words.
#[op2]
#[string]
fn op_python_package_places(state: &mut OpState, #[string] name: &str) -> String {
  packages::places(&state.borrow::<Distribution>().files.packages, name)
}

#[cfg(test)]
mod tests {
  use kernel_protocol::launch::PackageFolders;

  use super::*;

  #[test]
  fn only_the_files_of_the_start_are_there_and_only_then() {
    let mut distribution = Distribution::new(PythonFiles {
      assets: "/assets".into(),
      packages: PackageFolders {
        local: None,
        cache: "/cache".into(),
      },
    });
    assert!(distribution.asset("snapshot.memory").is_ok());
    for name in ["/etc/passwd", "../x", "pyodide.mjs", ""] {
      assert!(distribution.asset(name).is_err(), "{name}");
    }
    distribution.booted = true;
    assert!(distribution.asset("snapshot.memory").is_err());
  }
}
