//! Children that user code forks off (`os.fork`, `multiprocessing`, native code) inherit all of the
//! host. They must not speak for the kernel, nor keep its socket open once it has ended.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;

static IN_CHILD: AtomicBool = AtomicBool::new(false);
static SOCKET: AtomicI32 = AtomicI32::new(-1);

/// From here on a forked child finds `socket` closed, and [`in_child`] true.
///
/// # Errors
/// When the process has no memory left for it.
#[expect(clippy::mem_forget, reason = "the descriptor is kept for ever")]
pub fn guard(socket: &Arc<UnixStream>) -> io::Result<()> {
  SOCKET.store(socket.as_raw_fd(), Ordering::SeqCst);
  // Kept for ever: the number must not come to mean another file.
  std::mem::forget(Arc::clone(socket));
  // SAFETY: the handler only stores an atomic and closes a descriptor, which is allowed between a
  // fork in a threaded process and an exec.
  match unsafe { libc::pthread_atfork(None, None, Some(become_child)) } {
    0 => Ok(()),
    error => Err(io::Error::from_raw_os_error(error)),
  }
}

extern "C" fn become_child() {
  IN_CHILD.store(true, Ordering::SeqCst);
  // SAFETY: the descriptor is the socket's, and in a child nothing uses the socket again: whoever
  // would asks `in_child` first, and the child ends without dropping it.
  unsafe { libc::close(SOCKET.load(Ordering::SeqCst)) };
}

/// Whether this process is such a child.
pub fn in_child() -> bool {
  IN_CHILD.load(Ordering::Relaxed)
}
