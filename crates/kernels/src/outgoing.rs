//! What is sent to a host: at once where its socket takes it, else by a task, in order, as fast as the host reads.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use kernel_protocol::descriptors;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

/// What may wait to be read by a host, in frames and bytes, before more is refused.
const MAX_UNREAD_FRAMES: usize = 256;
const MAX_UNREAD_BYTES: usize = 16 << 20;

/// Too much waits for a host that reads nothing.
#[derive(Debug)]
pub struct Unread;

/// One socket to a host.
#[derive(Clone)]
pub(crate) struct Outgoing {
  socket: Arc<OwnedWriteHalf>,
  queue: mpsc::UnboundedSender<Frame>,
  waiting: Arc<Mutex<Waiting>>,
}

/// Bytes that the socket has not taken, and the descriptors that go with them.
struct Frame {
  rest: Vec<u8>,
  descriptors: Vec<OwnedFd>,
}

/// How much the queue holds, with what is being written.
#[derive(Default)]
struct Waiting {
  frames: usize,
  bytes: usize,
}

impl Outgoing {
  /// Writes on the current tokio runtime.
  pub(crate) fn new(socket: OwnedWriteHalf) -> Self {
    let (queue, frames) = mpsc::unbounded_channel();
    let outgoing = Self {
      socket: Arc::new(socket),
      queue,
      waiting: Arc::default(),
    };
    let socket = outgoing.socket.clone();
    tokio::spawn(write_frames(socket, frames, outgoing.waiting.clone()));
    outgoing
  }

  /// Sends a frame. A host that is gone is noticed by whoever reads its replies.
  pub(crate) fn put(&self, mut frame: Vec<u8>, descriptors: Vec<OwnedFd>) {
    let mut waiting = self.waiting();
    if waiting.frames == 0 && descriptors.is_empty() {
      match self.socket.try_write(&frame) {
        Ok(written) if written == frame.len() => return,
        Ok(written) => drop(frame.drain(..written)),
        // Full, or gone, which the task will find out as well.
        Err(_) => {}
      }
    }
    waiting.frames += 1;
    waiting.bytes += frame.len();
    let _ = self.queue.send(Frame {
      rest: frame,
      descriptors,
    });
  }

  /// Sends a frame, unless too much waits already.
  ///
  /// # Errors
  /// When it does.
  pub(crate) fn try_put(&self, frame: Vec<u8>) -> Result<(), Unread> {
    {
      let waiting = self.waiting();
      let full =
        waiting.frames >= MAX_UNREAD_FRAMES || waiting.bytes + frame.len() > MAX_UNREAD_BYTES;
      // A large one alone is fine: bodies are bounded.
      if full && waiting.frames > 0 {
        return Err(Unread);
      }
    }
    self.put(frame, Vec::new());
    Ok(())
  }

  fn waiting(&self) -> MutexGuard<'_, Waiting> {
    self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

async fn write_frames(
  socket: Arc<OwnedWriteHalf>,
  mut queue: mpsc::UnboundedReceiver<Frame>,
  waiting: Arc<Mutex<Waiting>>,
) {
  while let Some(frame) = queue.recv().await {
    let written = write_frame(&socket, &frame).await;
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.frames -= 1;
    waiting.bytes -= frame.rest.len();
    if written.is_err() {
      break;
    }
  }
}

async fn write_frame(socket: &OwnedWriteHalf, frame: &Frame) -> io::Result<()> {
  let mut rest = frame.rest.as_slice();
  if !frame.descriptors.is_empty() {
    let descriptors: Vec<BorrowedFd<'_>> = frame.descriptors.iter().map(AsFd::as_fd).collect();
    let stream: &UnixStream = socket.as_ref();
    let sent = stream
      .async_io(Interest::WRITABLE, || {
        descriptors::send_with_descriptors(stream, rest, &descriptors)
      })
      .await?;
    rest = &rest[sent..];
  }
  while !rest.is_empty() {
    socket.writable().await?;
    match socket.try_write(rest) {
      Ok(written) => rest = &rest[written..],
      Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
      Err(error) => return Err(error),
    }
  }
  Ok(())
}

#[cfg(test)]
mod tests {
  use tokio::io::AsyncReadExt;

  use super::*;

  #[tokio::test]
  async fn what_a_socket_does_not_take_follows_in_order() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let (_read, write) = ours.into_split();
    let outgoing = Outgoing::new(write);
    let frames: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 30_000]).collect();
    for frame in &frames {
      outgoing.put(frame.clone(), Vec::new());
    }
    assert!(outgoing.waiting().frames > 0, "all was taken at once");
    assert!(outgoing.try_put(vec![0; MAX_UNREAD_BYTES]).is_err());
    let wanted = frames.concat();
    let mut read = vec![0; wanted.len()];
    theirs.read_exact(&mut read).await.expect("reads");
    assert!(read == wanted, "the order is another");
    assert_eq!(outgoing.waiting().bytes, 0);
  }
}
