//! The zygote: a process that has booted a language and forks a kernel whenever the server asks. Only the thread that forks
//! lives on in the child, so that no other may do anything.

use std::io;
use std::io::IoSliceMut;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use kernel_protocol::zygote::ZygoteReply;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use sandbox::Role;

/// A kernel that was forked and has not been waited for.
struct Child {
  pid: Pid,
  /// Readable once it has ended.
  pidfd: OwnedFd,
}

/// Forks kernels until the server has gone: `None` then. In each child, which has entered its layers, this returns the
/// kernel's socket. `fork` returns the child's id, and `None` in the child.
///
/// # Errors
/// When the system fails it; the server starts another.
pub fn serve(
  control: UnixStream,
  fork: impl FnMut() -> io::Result<Option<Pid>>,
) -> io::Result<Option<UnixStream>> {
  use io::ErrorKind::BrokenPipe;
  use io::ErrorKind::ConnectionReset;
  match serve_while_asked(control, fork) {
    Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => Ok(None),
    ended => ended,
  }
}

fn serve_while_asked(
  mut control: UnixStream,
  mut fork: impl FnMut() -> io::Result<Option<Pid>>,
) -> io::Result<Option<UnixStream>> {
  let mut children = Vec::new();
  tell(&mut control, &ZygoteReply::Ready)?;
  loop {
    let asked = wait(&control, &children)?;
    for ended in (0..children.len()).rev() {
      if has_ended(&children[ended])? {
        let told = bury(&children.swap_remove(ended))?;
        tell(&mut control, &told)?;
      }
    }
    if !asked {
      continue;
    }
    let Some((role, socket)) = receive_socket(&control)? else {
      return Ok(None);
    };
    let told = match fork() {
      Ok(None) => {
        // What the zygote holds open is dropped with `control` and `children`.
        sandbox::enter_forked(role)?;
        return Ok(Some(socket));
      }
      Ok(Some(pid)) => match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
          children.push(Child { pid, pidfd });
          ZygoteReply::Forked {
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
          }
        }
        Err(error) => {
          // Nobody could tell how it ends.
          let _ = rustix::process::kill_process(pid, Signal::KILL);
          rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
          ZygoteReply::Refused {
            reason: error.to_string(),
          }
        }
      },
      Err(error) => ZygoteReply::Refused {
        reason: error.to_string(),
      },
    };
    tell(&mut control, &told)?;
  }
}

fn tell(control: &mut UnixStream, told: &ZygoteReply) -> io::Result<()> {
  control.write_all(&kernel_protocol::encode(told))
}

/// Blocks until something is to be done. Whether the server has something to say.
fn wait(control: &UnixStream, children: &[Child]) -> io::Result<bool> {
  let mut fds = vec![PollFd::new(control, PollFlags::IN)];
  fds.extend(
    children
      .iter()
      .map(|child| PollFd::new(&child.pidfd, PollFlags::IN)),
  );
  match rustix::event::poll(&mut fds, None) {
    Ok(_) => Ok(!fds[0].revents().is_empty()),
    Err(Errno::INTR) => Ok(false),
    Err(error) => Err(error.into()),
  }
}

fn has_ended(child: &Child) -> io::Result<bool> {
  let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
  let now = rustix::event::Timespec::default();
  Ok(rustix::event::poll(&mut fds, Some(&now))? > 0)
}

/// Ends what the kernel left running in its group, while its process id, and so the group's, is still its own.
fn bury(child: &Child) -> io::Result<ZygoteReply> {
  let _ = rustix::process::kill_process_group(child.pid, Signal::KILL);
  let status = rustix::process::waitpid(Some(child.pid), WaitOptions::empty())?
    .map_or(0, |(_, status)| status.as_raw());
  Ok(ZygoteReply::Exited {
    pid: child.pid.as_raw_nonzero().get().unsigned_abs(),
    status,
  })
}

/// Role and socket of the kernel that is wanted; `None` when the server has gone.
fn receive_socket(control: &UnixStream) -> io::Result<Option<(Role, UnixStream)>> {
  let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
  let mut ancillary = RecvAncillaryBuffer::new(&mut space);
  let mut byte = [0];
  let message = rustix::net::recvmsg(
    control,
    &mut [IoSliceMut::new(&mut byte)],
    &mut ancillary,
    RecvFlags::CMSG_CLOEXEC,
  )?;
  if message.bytes == 0 {
    return Ok(None);
  }
  let socket = ancillary
    .drain()
    .find_map(|message| match message {
      RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
      _ => None,
    })
    .ok_or_else(|| io::Error::other("a kernel was asked for without its socket"))?;
  Ok(Some((Role::from_byte(byte[0]), UnixStream::from(socket))))
}
