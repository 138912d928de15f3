//! Threads that start late. A thread that exists when a process forks is missing in the child, and what waits for it waits
//! for ever; one that has not begun yet can begin in the child.

use std::ffi::c_void;
use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
  *mut libc::pthread_t,
  *const libc::pthread_attr_t,
  Start,
  *mut c_void,
) -> libc::c_int;

/// A thread that was asked for and has not begun.
struct Held {
  /// Where whoever asked keeps the thread's name.
  thread: *mut libc::pthread_t,
  start: Start,
  argument: *mut c_void,
}

// SAFETY: the pointers are for the new thread and for whoever joins it, on whichever thread it is started.
unsafe impl Send for Held {}

#[derive(Default)]
struct Threads {
  /// The thread whose requests are held back.
  holding: Option<libc::pthread_t>,
  held: Vec<Held>,
}

/// Whether some thread's requests are held back. Others take no lock: a process may fork while one of its threads is here,
/// and the child would find it locked for ever.
static HOLDING: AtomicBool = AtomicBool::new(false);

static THREADS: Mutex<Threads> = Mutex::new(Threads {
  holding: None,
  held: Vec::new(),
});

fn threads() -> MutexGuard<'static, Threads> {
  THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work`; threads that this thread asks for meanwhile are made by [`start_held`]. Until then whoever asked must
/// neither join nor signal them.
pub fn hold<T>(work: impl FnOnce() -> T) -> T {
  // SAFETY: takes nothing and always succeeds.
  threads().holding = Some(unsafe { libc::pthread_self() });
  HOLDING.store(true, Ordering::SeqCst);
  let done = work();
  HOLDING.store(false, Ordering::SeqCst);
  threads().holding = None;
  done
}

/// How many threads are held back.
pub fn held() -> usize {
  threads().held.len()
}

/// Starts what was held back.
///
/// # Errors
/// When the system has no more threads.
pub fn start_held() -> io::Result<()> {
  let held = std::mem::take(&mut threads().held);
  for Held {
    thread,
    start,
    argument,
  } in held
  {
    // SAFETY: what was asked for, except for attributes: a stack of the usual size serves.
    let failed = unsafe { library()(thread, std::ptr::null(), start, argument) };
    if failed != 0 {
      return Err(io::Error::from_raw_os_error(failed));
    }
  }
  Ok(())
}

/// The C library's own function.
fn library() -> Create {
  static CREATE: OnceLock<Create> = OnceLock::new();
  *CREATE.get_or_init(|| {
    // SAFETY: looks for a name that the C library has.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) };
    assert!(!found.is_null(), "the C library has no pthread_create");
    // SAFETY: POSIX says what is under that name.
    unsafe { std::mem::transmute::<*mut c_void, Create>(found) }
  })
}

/// In the place of the C library's function of this name.
///
/// # Safety
/// As POSIX has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
  thread: *mut libc::pthread_t,
  attributes: *const libc::pthread_attr_t,
  start: Start,
  argument: *mut c_void,
) -> libc::c_int {
  if HOLDING.load(Ordering::SeqCst) {
    let mut threads = threads();
    // SAFETY: takes nothing and always succeeds.
    let asking = unsafe { libc::pthread_self() };
    if threads.holding == Some(asking) {
      // SAFETY: the caller's own place for the name. Any name will do until the thread is there.
      unsafe { *thread = asking };
      threads.held.push(Held {
        thread,
        start,
        argument,
      });
      return 0;
    }
  }
  // SAFETY: as the caller promises.
  unsafe { library()(thread, attributes, start, argument) }
}
