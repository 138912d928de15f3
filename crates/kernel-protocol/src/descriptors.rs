//! Descriptors beside frames: a frame that brings some carries them with its first byte.

use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most descriptors one frame brings.
pub const MAX_DESCRIPTORS: usize = 16;

/// Watches a descriptor for something to read, on the current tokio runtime.
///
/// # Errors
/// When the system refuses.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
  // SAFETY: the descriptor is open and stays so while the `AsyncFd`, which owns it, lives.
  Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Sends the start of `frame` and the descriptors that go with it; returns how many bytes were sent.
///
/// # Errors
/// When there are too many, or the socket takes nothing: `WouldBlock` where it does not block.
pub fn send_with_descriptors(
  socket: impl AsFd,
  frame: &[u8],
  descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
  let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
  let mut ancillary = SendAncillaryBuffer::new(&mut space);
  if descriptors.len() > MAX_DESCRIPTORS
    || !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
  {
    return Err(io::Error::new(
      io::ErrorKind::InvalidInput,
      format!("a frame brings at most {MAX_DESCRIPTORS} descriptors"),
    ));
  }
  let sent = rustix::net::sendmsg(
    socket,
    &[IoSlice::new(frame)],
    &mut ancillary,
    SendFlags::NOSIGNAL,
  )?;
  Ok(sent)
}

/// Reads a socket, blocking, and keeps the descriptors that come over it.
pub struct DescriptorReader<'a> {
  socket: &'a UnixStream,
  received: Vec<OwnedFd>,
}

impl<'a> DescriptorReader<'a> {
  pub fn new(socket: &'a UnixStream) -> Self {
    Self {
      socket,
      received: Vec::new(),
    }
  }

  /// What has come with the frame that was read last.
  pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
    std::mem::take(&mut self.received)
  }
}

impl Read for DescriptorReader<'_> {
  fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
      self.socket,
      &mut [IoSliceMut::new(bytes)],
      &mut ancillary,
      RecvFlags::CMSG_CLOEXEC,
    )?;
    for part in ancillary.drain() {
      if let RecvAncillaryMessage::ScmRights(descriptors) = part {
        self.received.extend(descriptors);
      }
    }
    Ok(message.bytes)
  }
}

#[cfg(test)]
mod tests {
  use std::fs::File;
  use std::io::Write;

  use super::*;
  use crate::Request;

  #[test]
  fn descriptors_arrive_with_their_frame() -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    (&ours).write_all(&crate::encode(&Request::Ping))?;
    let file = File::open("/dev/null")?;
    let frame = crate::encode(&Request::Shutdown);
    assert_eq!(
      send_with_descriptors(&ours, &frame, &[file.as_fd(), file.as_fd()])?,
      frame.len()
    );
    (&ours).write_all(&crate::encode(&Request::Ping))?;
    let mut reader = DescriptorReader::new(&theirs);
    for expected in [0, 2, 0] {
      crate::read_frame::<Request>(&mut reader)?.expect("a frame");
      assert_eq!(reader.take_descriptors().len(), expected);
    }
    Ok(())
  }
}
