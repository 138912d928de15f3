//! How long a server waits for the next part of a request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use hyper::body::Frame;
use hyper::body::SizeHint;
use tokio::time::Sleep;

use crate::error::ApiError;

/// For requests to the API.
pub(crate) const API: Duration = Duration::from_secs(30);
/// For requests to apps: what their clients send may take its time.
pub(crate) const APPS: Duration = Duration::from_secs(300);

/// Gives a request up when its body stops coming.
pub(crate) async fn for_bodies(
  State(patience): State<Duration>,
  request: Request,
  next: Next,
) -> Response<Body> {
  if request.body().is_end_stream() {
    return next.run(request).await;
  }
  let late = Arc::new(AtomicBool::new(false));
  let flag = late.clone();
  let request = request.map(|body| {
    Body::new(PatientBody {
      body,
      patience,
      waiting: None,
      late: flag,
    })
  });
  let response = next.run(request).await;
  let failed = response.status().is_client_error() || response.status().is_server_error();
  if failed && late.load(Ordering::Acquire) {
    return took_too_long(patience);
  }
  response
}

fn took_too_long(patience: Duration) -> Response<Body> {
  let message =
    format!("Nothing of the request body came for {patience:?}: send it without a pause");
  let mut response = ApiError::new(StatusCode::REQUEST_TIMEOUT, message).into_response();
  // The rest of the body may still come.
  let close = HeaderValue::from_static("close");
  response.headers_mut().insert(header::CONNECTION, close);
  response
}

struct PatientBody {
  body: Body,
  patience: Duration,
  /// Runs while the next part is waited for.
  waiting: Option<Pin<Box<Sleep>>>,
  late: Arc<AtomicBool>,
}

impl HttpBody for PatientBody {
  type Data = Bytes;
  type Error = axum::Error;

  fn poll_frame(
    mut self: Pin<&mut Self>,
    cx: &mut Context<'_>,
  ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    let frame = Pin::new(&mut self.body).poll_frame(cx);
    if frame.is_ready() {
      self.waiting = None;
      return frame;
    }
    let patience = self.patience;
    let waiting = self
      .waiting
      .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
    match waiting.as_mut().poll(cx) {
      Poll::Pending => Poll::Pending,
      Poll::Ready(()) => {
        self.late.store(true, Ordering::Release);
        Poll::Ready(Some(Err(axum::Error::new(format!(
          "nothing came for {patience:?}"
        )))))
      }
    }
  }

  fn is_end_stream(&self) -> bool {
    self.body.is_end_stream()
  }

  fn size_hint(&self) -> SizeHint {
    self.body.size_hint()
  }
}

#[cfg(test)]
mod tests {
  use axum::Router;
  use axum::middleware;
  use axum::routing::post;
  use futures::StreamExt;
  use tower_service::Service;

  use super::*;

  const SHORT: Duration = Duration::from_millis(50);

  fn app() -> Router {
    let read = |body: Body| async move {
      let read = axum::body::to_bytes(body, usize::MAX).await;
      read.map_err(|e| ApiError::bad_request(e.to_string()))
    };
    Router::new()
      .route("/", post(read))
      .layer(middleware::from_fn_with_state(SHORT, for_bodies))
  }

  async fn posted(body: Body) -> Response<Body> {
    let request = Request::post("/").body(body).expect("a request");
    app().call(request).await.expect("an answer")
  }

  #[tokio::test]
  async fn a_body_that_stops_coming_is_given_up() {
    let start = futures::stream::iter([Ok::<_, std::io::Error>("start")]);
    let body = Body::from_stream(start.chain(futures::stream::pending()));
    let response = posted(body).await;
    assert_eq!(response.status(), 408);
    assert_eq!(response.headers()["connection"], "close");
    let text = axum::body::to_bytes(response.into_body(), 1000)
      .await
      .expect("a text");
    assert!(String::from_utf8_lossy(&text).contains("50ms"), "{text:?}");
  }

  #[tokio::test]
  async fn a_slow_body_is_read_to_its_end() {
    let parts = futures::stream::iter(0..5).then(|_| async {
      tokio::time::sleep(SHORT / 3).await;
      Ok::<_, std::io::Error>("part ")
    });
    let response = posted(Body::from_stream(parts)).await;
    assert_eq!(response.status(), 200);
    let text = axum::body::to_bytes(response.into_body(), 1000)
      .await
      .expect("a text");
    assert_eq!(text.len(), 25);
  }
}
