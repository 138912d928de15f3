//! Memory that children get. V8, as its crate builds it, asks the system to leave all of its mappings out of children, for a
//! child of Node's or Deno's does nothing but begin another program.

use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

static KEPT: AtomicBool = AtomicBool::new(false);

/// From here on no memory is left out of children. Call it before V8 is initialised.
pub fn keep_for_children() {
  KEPT.store(true, Ordering::Relaxed);
}

/// In the place of the C library's function of this name.
///
/// # Safety
/// As Linux has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn madvise(
  address: *mut c_void,
  length: libc::size_t,
  advice: libc::c_int,
) -> libc::c_int {
  if advice == libc::MADV_DONTFORK && KEPT.load(Ordering::Relaxed) {
    return 0;
  }
  // SAFETY: as the caller promises; sets `errno` as the library's function does.
  let done = unsafe { libc::syscall(libc::SYS_madvise, address, length, advice) };
  if done == 0 { 0 } else { -1 }
}
