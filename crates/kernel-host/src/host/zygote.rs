//! A host that boots a language and then, instead of being a kernel, forks kernels from the thread that owns it.

use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use forkable::descriptors::Inherited;
use kernel_protocol::zygote::ZygoteReply;
use rustix::process::Pid;

use crate::host::Capture;
use crate::host::Control;
use crate::host::Ending;
use crate::host::Owner;
use crate::host::fork_server;

/// What a kernel that comes to be by a fork needs besides its owner.
pub(super) struct Zygote {
  /// To the server, which asks for kernels.
  control: UnixStream,
  /// The half of the kernel that reads requests. It begins in the child.
  half: Control,
  /// The socket of `half` stands for the kernel's until there is one; this is its other end.
  other_end: UnixStream,
}

/// An owner that forks kernels for whoever asks on `control`. Nothing else may run in the process by then.
///
/// # Errors
/// When descriptors run out.
pub fn owner(control: UnixStream, capture: Capture) -> io::Result<Owner> {
  let (ours, other_end) = UnixStream::pair()?;
  let (half, mut owner) = super::halves(ours, capture, Ending::Process)?;
  owner.zygote = Some(Zygote {
    control,
    half,
    other_end,
  });
  Ok(owner)
}

impl Zygote {
  /// Tells the server why there is no zygote.
  pub(super) fn fail(mut self, reason: &str) {
    let reason = reason.to_owned();
    let _ = self
      .control
      .write_all(&kernel_protocol::encode(&ZygoteReply::Failed { reason }));
  }

  /// What kernels inherit and must have for themselves.
  ///
  /// # Errors
  /// When something is open that they cannot have.
  pub(super) fn inherited(&self) -> io::Result<Inherited> {
    Inherited::find(&[
      self.control.as_fd(),
      self.half.socket.as_fd(),
      self.other_end.as_fd(),
    ])
  }

  /// Forks kernels until the server has gone, and ends the process then. Returns in each kernel, with the half that reads
  /// its requests.
  ///
  /// # Errors
  /// When the system fails it.
  pub(super) fn serve(self, inherited: &Inherited) -> io::Result<Control> {
    let Self {
      control,
      half,
      other_end,
    } = self;
    let Some(socket) = fork_server::serve(control, fork)? else {
      super::exit_now(0);
    };
    drop(other_end);
    put_over(&socket, half.socket.as_raw_fd())?;
    inherited.renew()?;
    Ok(half)
  }
}

fn fork() -> io::Result<Option<Pid>> {
  // SAFETY: this thread alone does anything in this process, so that the child lacks nothing that is in use. It is the C
  // library's function, whose handlers make random numbers of the child's own.
  match unsafe { libc::fork() } {
    -1 => Err(io::Error::last_os_error()),
    pid => Ok(Pid::from_raw(pid)),
  }
}

/// Puts a descriptor in the place of another.
fn put_over(new: &UnixStream, old: libc::c_int) -> io::Result<()> {
  // SAFETY: both are open; the owner of the old number owns what is there from now on.
  match unsafe { libc::dup3(new.as_raw_fd(), old, libc::O_CLOEXEC) } {
    -1 => Err(io::Error::last_os_error()),
    _ => Ok(()),
  }
}
