//! The bytes of a connection. It fails when its client takes nothing for too long, also after it has
//! switched to another protocol.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::connections::places::Seat;

pub(super) struct Wire {
  stream: TcpStream,
  /// What was read already.
  start: Bytes,
  /// The place goes when the socket goes.
  seat: Seat,
  patience: Duration,
  /// Runs while the client takes nothing.
  stalled: Option<Pin<Box<Sleep>>>,
}

impl Wire {
  pub(super) fn new(stream: TcpStream, start: Bytes, seat: Seat, patience: Duration) -> Self {
    Self {
      stream,
      start,
      seat,
      patience,
      stalled: None,
    }
  }

  fn watch(
    &mut self,
    cx: &mut Context<'_>,
    written: Poll<io::Result<usize>>,
  ) -> Poll<io::Result<usize>> {
    self.seat.guest().set_blocked(written.is_pending());
    if written.is_ready() {
      self.stalled = None;
      return written;
    }
    let patience = self.patience;
    let stalled = self
      .stalled
      .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
    match stalled.as_mut().poll(cx) {
      Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the client takes nothing",
      ))),
      Poll::Pending => Poll::Pending,
    }
  }
}

impl AsyncRead for Wire {
  fn poll_read(
    mut self: Pin<&mut Self>,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
  ) -> Poll<io::Result<()>> {
    if self.start.is_empty() {
      return Pin::new(&mut self.stream).poll_read(cx, buffer);
    }
    let length = self.start.len().min(buffer.remaining());
    buffer.put_slice(&self.start[..length]);
    self.start.advance(length);
    Poll::Ready(Ok(()))
  }
}

impl AsyncWrite for Wire {
  fn poll_write(
    mut self: Pin<&mut Self>,
    cx: &mut Context<'_>,
    bytes: &[u8],
  ) -> Poll<io::Result<usize>> {
    let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
    self.watch(cx, written)
  }

  fn poll_write_vectored(
    mut self: Pin<&mut Self>,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
  ) -> Poll<io::Result<usize>> {
    let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
    self.watch(cx, written)
  }

  fn is_write_vectored(&self) -> bool {
    self.stream.is_write_vectored()
  }

  fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(&mut self.stream).poll_flush(cx)
  }

  fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(&mut self.stream).poll_shutdown(cx)
  }
}
