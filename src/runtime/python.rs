//! What a Python kernel in V8 has besides the extension of every kernel: the files of Pyodide, its
//! packages, and the buffer that interrupts it.

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
use memmap2::MmapOptions;
use serde::Deserialize;
use serde::Serialize;

/// Files of Pyodide on this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PythonFiles {
  /// The distribution, unpacked.
  pub assets: PathBuf,
  pub packages: PackageFolders,
}

/// Packages of the distribution on this machine. Each is checked against the sum that
/// `pyodide-lock.json` has for it, every time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageFolders {
  /// The operator's own, never written to.
  pub local: Option<PathBuf>,
  /// What was downloaded before.
  pub cache: PathBuf,
}

impl PackageFolders {
  fn find(&self, name: &str, sha256: &str) -> Option<Vec<u8>> {
    let name = plain_name(name)?;
    let folders = self.local.iter().chain(std::iter::once(&self.cache));
    folders
      .filter_map(|folder| std::fs::read(folder.join(name)).ok())
      .find(|bytes| sha256_of(bytes) == sha256)
  }

  fn keep(&self, name: &str, sha256: &str, bytes: &[u8]) -> Result<(), String> {
    if sha256_of(bytes) != sha256 {
      return Err(format!(
        "{name} is not the file that pyodide-lock.json names: its sha256 is {}, not {sha256}",
        sha256_of(bytes)
      ));
    }
    let name = plain_name(name).ok_or_else(|| format!("not a file name: {name}"))?;
    // A cache that cannot be written is a slow one, nothing worse.
    let _ = std::fs::create_dir_all(&self.cache);
    let half = self
      .cache
      .join(format!("{}.{}.part", name.display(), std::process::id()));
    if std::fs::write(&half, bytes).is_ok() {
      let _ = std::fs::rename(&half, self.cache.join(name));
    }
    Ok(())
  }

  /// Where `name` was looked for without success, in words.
  fn places(&self, name: &str) -> String {
    let state = |folder: &Path| match plain_name(name).map(|name| folder.join(name)) {
      Some(path) if path.exists() => "it has another sha256 than pyodide-lock.json says",
      _ => "not there",
    };
    let local = match &self.local {
      Some(folder) => format!("{} ({})", folder.display(), state(folder)),
      None => "not set".to_owned(),
    };
    let cache = format!("{} ({})", self.cache.display(), state(&self.cache));
    format!("PYODIDE_PACKAGES_DIR: {local}, the cache {cache}")
  }
}

/// The name as a path of one component.
fn plain_name(name: &str) -> Option<&Path> {
  let path = Path::new(name);
  (path.file_name() == Some(path.as_os_str())).then_some(path)
}

fn sha256_of(bytes: &[u8]) -> String {
  use sha2::Digest;
  sha2::Sha256::digest(bytes)
    .iter()
    .map(|byte| format!("{byte:02x}"))
    .collect()
}

deno_core::extension!(
  python,
  ops = [
    op_python_asset,
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
  state = |state, options| {
    state.put(options.files);
    state.put(options.interrupt);
  },
  // Given as text, not as a file name: a bare name would be read from the build machine's disk.
  customizer = |extension: &mut deno_core::Extension| {
    extension.esm_files.to_mut().extend([
      ExtensionFileSource::new(
        "ext:python/pyodide_boot.js",
        deno_core::ascii_str_include!("../../js/pyodide_boot.js"),
      ),
      ExtensionFileSource::new(
        "ext:python/python_mount.js",
        deno_core::ascii_str_include!("../../js/python_mount.js"),
      ),
      ExtensionFileSource::new(
        "ext:python/python.js",
        deno_core::ascii_str_include!("../../js/python.js"),
      ),
    ]);
  },
);

pub fn extension(files: PythonFiles, interrupt: InterruptBuffer) -> deno_core::Extension {
  python::init(files, interrupt)
}

/// A word that Pyodide looks at every few bytecodes; 2 (`SIGINT`) raises KeyboardInterrupt and sets it
/// back to 0. <https://pyodide.org/en/stable/usage/keyboard-interrupts.html>
#[derive(Clone, Default)]
pub struct InterruptBuffer {
  word: Arc<AtomicI32>,
  /// Wakes a sleep, which looks at nothing.
  bell: Arc<(Mutex<()>, Condvar)>,
}

const SIGINT: i32 = 2;

impl InterruptBuffer {
  pub fn raise(&self) {
    self.word.store(SIGINT, Ordering::SeqCst);
    let _held = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
    self.bell.1.notify_all();
  }

  /// Takes a signal back; `false` when Python has seen it already, or there was none.
  pub fn withdraw(&self) -> bool {
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
  let path = state.borrow::<PythonFiles>().assets.join(name);
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
  let path = state.borrow::<PythonFiles>().assets.join(name);
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
  #[string] sha256: &str,
) -> Option<Vec<u8>> {
  state.borrow::<PythonFiles>().packages.find(name, sha256)
}

/// Keeps a package that was downloaded, for all kernels.
#[op2(fast)]
fn op_python_keep_package(
  state: &mut OpState,
  #[string] name: &str,
  #[string] sha256: &str,
  #[buffer] bytes: &[u8],
) -> Result<(), JsErrorBox> {
  let packages = &state.borrow::<PythonFiles>().packages;
  packages
    .keep(name, sha256, bytes)
    .map_err(JsErrorBox::generic)
}

/// Where packages were looked for, in words.
#[op2]
#[string]
fn op_python_package_places(state: &mut OpState, #[string] name: &str) -> String {
  state.borrow::<PythonFiles>().packages.places(name)
}

#[cfg(test)]
mod tests {
  use super::*;

  const SUM: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

  #[test]
  fn a_package_is_taken_only_with_its_own_sum() {
    let dir = tempfile::tempdir().expect("a folder");
    let folders = PackageFolders {
      local: Some(dir.path().join("local")),
      cache: dir.path().join("cache"),
    };
    assert_eq!(folders.find("a.whl", SUM), None);
    let error = folders
      .keep("a.whl", SUM, b"other")
      .expect_err("another sum");
    assert!(error.contains("a.whl") && error.contains(SUM), "{error}");
    folders.keep("a.whl", SUM, b"hello").expect("is kept");
    assert_eq!(folders.find("a.whl", SUM), Some(b"hello".to_vec()));
    std::fs::write(folders.cache.join("a.whl"), "changed").expect("is written");
    assert_eq!(folders.find("a.whl", SUM), None);
    std::fs::create_dir(dir.path().join("local")).expect("is made");
    std::fs::write(dir.path().join("local/a.whl"), "hello").expect("is written");
    assert_eq!(folders.find("a.whl", SUM), Some(b"hello".to_vec()));
  }

  #[test]
  fn a_package_name_is_no_path() {
    for name in ["../a.whl", "/etc/passwd", "a/b.whl", "", ".."] {
      assert_eq!(plain_name(name), None, "{name}");
    }
  }
}
