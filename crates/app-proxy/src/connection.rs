//! Connections to upstreams.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use axum::http::Extensions;
use axum::http::Uri;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::Connected;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::upstream::Upstream;

/// How long an app may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to one upstream, whatever the address of a request says.
#[derive(Debug, Clone)]
pub(crate) struct Connector(Upstream);

impl Connector {
  pub(crate) fn new(upstream: Upstream) -> Self {
    Self(upstream)
  }
}

impl Service<Uri> for Connector {
  type Response = TokioIo<Link>;
  type Error = io::Error;
  type Future = BoxFuture<'static, io::Result<TokioIo<Link>>>;

  fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
    Poll::Ready(Ok(()))
  }

  fn call(&mut self, _: Uri) -> Self::Future {
    let upstream = self.0.clone();
    async move {
      let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect(upstream)).await;
      let stream = stream.map_err(|_| {
        io::Error::new(
          io::ErrorKind::TimedOut,
          format!("it accepted no connection within {CONNECT_TIMEOUT:?}"),
        )
      })??;
      let answered = Answered::default();
      Ok(TokioIo::new(Link { stream, answered }))
    }
    .boxed()
  }
}

async fn connect(upstream: Upstream) -> io::Result<TcpStream> {
  let stream = match &upstream.gate {
    None => TcpStream::connect(upstream.address).await?,
    Some(gate) => gate.connect().await?,
  };
  // Events are small, and each has to be sent at once.
  stream.set_nodelay(true)?;
  Ok(stream)
}

/// Whether a connection has carried an answer yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered(Arc<AtomicBool>);

impl Answered {
  pub(crate) fn set(&self) {
    self.0.store(true, Ordering::Relaxed);
  }

  /// Whether this connection has carried one.
  pub(crate) fn on(connection: &Connected) -> bool {
    let mut extras = Extensions::new();
    connection.get_extras(&mut extras);
    let answered = extras.get::<Self>();
    answered.is_some_and(|answered| answered.0.load(Ordering::Relaxed))
  }
}

/// A connection to an upstream.
pub(crate) struct Link {
  stream: TcpStream,
  answered: Answered,
}

impl Connection for Link {
  fn connected(&self) -> Connected {
    Connected::new().extra(self.answered.clone())
  }
}

impl AsyncRead for Link {
  fn poll_read(
    mut self: Pin<&mut Self>,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
  ) -> Poll<io::Result<()>> {
    Pin::new(&mut self.stream).poll_read(context, buffer)
  }
}

impl AsyncWrite for Link {
  fn poll_write(
    mut self: Pin<&mut Self>,
    context: &mut Context<'_>,
    bytes: &[u8],
  ) -> Poll<io::Result<usize>> {
    Pin::new(&mut self.stream).poll_write(context, bytes)
  }

  fn poll_write_vectored(
    mut self: Pin<&mut Self>,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
  ) -> Poll<io::Result<usize>> {
    Pin::new(&mut self.stream).poll_write_vectored(context, slices)
  }

  fn is_write_vectored(&self) -> bool {
    self.stream.is_write_vectored()
  }

  fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(&mut self.stream).poll_flush(context)
  }

  fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(&mut self.stream).poll_shutdown(context)
  }
}
