//! The body of an answer on its way. Its request is in progress until it is dropped.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use axum::body::Body;
use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::Frame;
use hyper::body::SizeHint;

use crate::connections::places::Busy;

/// Larger parts are cut, so that a client that takes nothing is noticed in the middle of one.
const PART: usize = 256 << 10;

pub(super) struct Answer {
  body: Body,
  /// Of a part that was cut.
  rest: Bytes,
  busy: Busy,
}

impl Answer {
  pub(super) fn new(body: Body, busy: Busy) -> Self {
    Self {
      body,
      rest: Bytes::new(),
      busy,
    }
  }

  fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    if self.rest.is_empty() {
      let frame = match Pin::new(&mut self.body).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => frame,
        other => return other,
      };
      match frame.into_data() {
        Ok(data) => self.rest = data,
        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
      }
    }
    let part = self.rest.split_to(self.rest.len().min(PART));
    Poll::Ready(Some(Ok(Frame::data(part))))
  }
}

impl HttpBody for Answer {
  type Data = Bytes;
  type Error = axum::Error;

  fn poll_frame(
    mut self: Pin<&mut Self>,
    cx: &mut Context<'_>,
  ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    self.busy.wants_more();
    let next = self.next(cx);
    if let Poll::Ready(Some(_)) = next {
      self.busy.got_some();
    }
    next
  }

  fn is_end_stream(&self) -> bool {
    self.rest.is_empty() && self.body.is_end_stream()
  }

  fn size_hint(&self) -> SizeHint {
    let rest = self.rest.len() as u64;
    let hint = self.body.size_hint();
    let mut whole = SizeHint::new();
    whole.set_lower(hint.lower() + rest);
    if let Some(upper) = hint.upper() {
      whole.set_upper(upper + rest);
    }
    whole
  }
}
