//! Execution logs as response bodies: newline-delimited JSON and server-sent events.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::header;
use bytes::Bytes;
use bytes::BytesMut;
use engine::apps::LogFollower;
use engine::apps::LogItem;
use engine::kernels::Execution;
use engine::kernels::LogReader;
use futures::Stream;
use futures::StreamExt;
use futures::ready;
use kernel_protocol::KernelEvent;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::error::ApiResult;

/// Names the session of a streamed execution, so that its reader can come back.
pub(crate) const SESSION_HEADER: &str = "x-session-id";
/// Bytes of parts that leave together.
const GATHERED: usize = 64 << 10;
/// How long the answer to a cell waits for its end, so that a short one leaves whole.
const SHORT_CELL: Duration = Duration::from_millis(1);
/// How often a silent stream says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// An event as clients see it.
#[derive(Serialize)]
struct WireEvent<'a> {
  #[serde(flatten)]
  event: &'a KernelEvent,
  #[serde(rename = "executionId")]
  execution_id: String,
}

/// The JSON of one event of `execution`.
pub(crate) fn event_json(execution: &Execution, event: &KernelEvent) -> String {
  let wire = WireEvent {
    event,
    execution_id: execution.id.to_string(),
  };
  serde_json::to_string(&wire).unwrap_or_else(|e| {
    json!({ "type": "error", "data": { "message": e.to_string() } }).to_string()
  })
}

/// The whole log as one JSON array, written as it is read: as text it can be several times as large.
pub(crate) fn json_log(execution: &Arc<Execution>) -> Response<Body> {
  let (execution, events) = (execution.clone(), execution.events());
  let parts = async_stream::stream! {
    let mut separator = "[";
    for event in events {
      let json = event_json(&execution, &event);
      yield Ok::<_, Infallible>(Bytes::from(format!("{separator}{json}")));
      separator = ",";
    }
    yield Ok(Bytes::from_static(if separator == "[" { b"[]" } else { b"]" }));
  };
  json_of(parts)
}

/// A JSON object and one more member, `history`, written as it is read.
///
/// # Errors
/// When the object cannot be written as JSON.
pub(crate) fn json_with_history(
  object: &impl Serialize,
  history: Vec<Arc<Execution>>,
) -> serde_json::Result<Response<Body>> {
  let object = serde_json::to_string(object)?;
  let start = object.strip_suffix('}').unwrap_or(&object).to_owned();
  let parts = async_stream::stream! {
    yield Ok::<_, Infallible>(Bytes::from(start + ",\"history\":["));
    for (number, execution) in history.into_iter().enumerate() {
      let entry = json!({ "id": execution.id.session(), "script": &*execution.code() }).to_string();
      let comma = if number == 0 { "" } else { "," };
      let entry = entry.strip_suffix('}').unwrap_or(&entry);
      yield Ok(Bytes::from(format!("{comma}{entry},\"outputs\":[")));
      let mut comma = "";
      for event in execution.events() {
        let json = event_json(&execution, &event);
        yield Ok(Bytes::from(format!("{comma}{json}")));
        comma = ",";
      }
      yield Ok(Bytes::from_static(b"]}"));
    }
    yield Ok(Bytes::from_static(b"]}"));
  };
  Ok(json_of(parts))
}

fn json_of(
  parts: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response<Body> {
  let mut response = Response::new(Body::from_stream(gathered(parts)));
  let json = HeaderValue::from_static("application/json");
  response.headers_mut().insert(header::CONTENT_TYPE, json);
  response
}

/// Waits a moment for the end of an execution, unless others run before it.
pub(crate) async fn unless_long(execution: &Execution) {
  if execution.runtime().is_some() {
    let _ = tokio::time::timeout(SHORT_CELL, execution.ended()).await;
  }
}

/// One line an event, between a line that starts and a line that completes.
pub(crate) fn ndjson(execution: Arc<Execution>) -> Response<Body> {
  let session = execution.id.session();
  let lines = async_stream::stream! {
    let start = json!({ "type": "stream_start", "data": { "message": "Execution started" } });
    yield Ok::<_, Infallible>(Bytes::from(format!("{start}\n")));
    let mut reader = execution.reader(0);
    let mut count = 0_usize;
    while let Some((_, event)) = reader.next().await {
      count += 1;
      yield Ok(Bytes::from(event_json(&execution, &event) + "\n"));
    }
    let data = json!({ "message": "Execution completed", "outputCount": count });
    yield Ok(Bytes::from(format!("{}\n", json!({ "type": "stream_complete", "data": data }))));
  };
  streaming("application/x-ndjson", &session, lines)
}

/// Events that have positions, of a log that is replayed and followed.
pub(crate) trait Numbered {
  /// The next event as JSON, and its position.
  fn next(&mut self) -> impl Future<Output = Option<(usize, Bytes)>> + Send;
}

impl Numbered for LogReader {
  async fn next(&mut self) -> Option<(usize, Bytes)> {
    let (position, event) = LogReader::next(self).await?;
    Some((position, event_json(self.execution(), &event).into()))
  }
}

/// The events of an execution as server-sent events.
pub(crate) fn sse(reader: LogReader) -> Response<Body> {
  let session = reader.execution().id.session();
  let mut response = numbered(reader);
  if let Ok(session) = HeaderValue::from_str(&session) {
    let name = HeaderName::from_static(SESSION_HEADER);
    response.headers_mut().insert(name, session);
  }
  response
}

/// Server-sent events: the event, then its position in a block of its own, which resuming clients
/// send back as `Last-Event-ID` and others ignore.
pub(crate) fn numbered(mut events: impl Numbered + Send + 'static) -> Response<Body> {
  let blocks = async_stream::stream! {
    // Headers and the news that the stream is open leave at once.
    yield Ok::<_, Infallible>(Bytes::from_static(b": open\n\n"));
    loop {
      match tokio::time::timeout(HEARTBEAT, events.next()).await {
        Ok(Some((position, event))) => {
          let mut block = BytesMut::with_capacity(event.len() + 32);
          block.extend_from_slice(b"data: ");
          block.extend_from_slice(&event);
          block.extend_from_slice(format!("\n\nid: {position}\n\n").as_bytes());
          yield Ok(block.freeze());
        }
        Ok(None) => break,
        Err(_) => yield Ok(Bytes::from_static(b": still running\n\n")),
      }
    }
  };
  streaming("text/event-stream", "", blocks)
}

/// Where a reader goes on that has sent `Last-Event-ID`; 0 for one that has not.
///
/// # Errors
/// When it is no number.
pub(crate) fn position_after(headers: &HeaderMap) -> ApiResult<usize> {
  let last = headers
    .get("last-event-id")
    .map(|v| v.to_str().unwrap_or(""));
  match last {
    None | Some("") => Ok(0),
    Some(last) => last
      .parse::<usize>()
      .ok()
      .and_then(|last| last.checked_add(1))
      .ok_or_else(|| ApiError::bad_request("Last-Event-ID: must be the number of an event")),
  }
}

/// Events as they happen, as server-sent events.
pub(crate) fn sse_events<W: Serialize + Send + 'static>(
  events: impl Stream<Item = W> + Send + 'static,
) -> Response<Body> {
  let blocks = async_stream::stream! {
    let mut events = pin!(events);
    yield Ok::<_, Infallible>(Bytes::from_static(b": open\n\n"));
    let mut heartbeat = Instant::now() + HEARTBEAT;
    loop {
      match tokio::time::timeout_at(heartbeat, events.next()).await {
        Ok(Some(event)) => {
          if let Ok(json) = serde_json::to_string(&event) {
            yield Ok(Bytes::from(format!("data: {json}\n\n")));
            heartbeat = Instant::now() + HEARTBEAT;
          }
        }
        Ok(None) => break,
        Err(_) => {
          yield Ok(Bytes::from_static(b": still here\n\n"));
          heartbeat = Instant::now() + HEARTBEAT;
        }
      }
    }
  };
  streaming("text/event-stream", "", blocks)
}

/// An app's log, each entry with its number.
pub(crate) fn app_log(mut follower: LogFollower) -> Response<Body> {
  let blocks = async_stream::stream! {
    yield Ok::<_, Infallible>(Bytes::from_static(b": open\n\n"));
    loop {
      match tokio::time::timeout(HEARTBEAT, follower.next()).await {
        Ok(Some(LogItem::Entry(entry))) => {
          let json = serde_json::to_string(&*entry).unwrap_or_default();
          yield Ok(Bytes::from(format!("id: {}\ndata: {json}\n\n", entry.seq)));
        }
        Ok(Some(LogItem::Gap { missed })) => {
          yield Ok(Bytes::from(format!("data: {}\n\n", json!({ "missed": missed }))));
        }
        Ok(None) => break,
        Err(_) => yield Ok(Bytes::from_static(b": still here\n\n")),
      }
    }
  };
  streaming("text/event-stream", "", blocks)
}

/// Parts that are there at the same time, as one: each that leaves by itself costs a system call.
fn gathered(
  parts: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
  let mut parts = Box::pin(parts.fuse());
  futures::stream::poll_fn(move |cx| {
    let Some(Ok(first)) = ready!(parts.poll_next_unpin(cx)) else {
      return Poll::Ready(None);
    };
    if first.len() >= GATHERED {
      return Poll::Ready(Some(Ok(first)));
    }
    let mut all = BytesMut::from(first);
    while all.len() < GATHERED
      && let Poll::Ready(Some(Ok(part))) = parts.poll_next_unpin(cx)
    {
      all.extend_from_slice(&part);
    }
    Poll::Ready(Some(Ok(all.freeze())))
  })
}

fn streaming(
  content_type: &'static str,
  session: &str,
  body: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response<Body> {
  let mut response = Response::new(Body::from_stream(gathered(body)));
  let headers = response.headers_mut();
  headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
  headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
  headers.insert(
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
  );
  if let Ok(session) = HeaderValue::from_str(session)
    && !session.is_empty()
  {
    headers.insert(HeaderName::from_static(SESSION_HEADER), session);
  }
  response
}

#[cfg(test)]
mod tests {
  use super::*;

  #[tokio::test]
  async fn parts_that_are_there_leave_together_and_wait_for_no_others() {
    let (sender, parts) = tokio::sync::mpsc::unbounded_channel();
    let send = |text: &'static str| sender.send(text).expect("it is read");
    let parts = futures::stream::unfold(parts, |mut parts| async {
      let part: &str = parts.recv().await?;
      Some((Ok(Bytes::from(part)), parts))
    });
    let mut gathered = std::pin::pin!(gathered(parts));
    send("a");
    send("b");
    assert_eq!(gathered.next().await, Some(Ok(Bytes::from("ab"))));
    send("c");
    assert_eq!(gathered.next().await, Some(Ok(Bytes::from("c"))));
    drop(sender);
    assert_eq!(gathered.next().await, None);
  }

  #[tokio::test]
  async fn what_leaves_together_is_bounded() {
    let parts = futures::stream::repeat(Ok(Bytes::from(vec![b'x'; 10 << 10]))).take(20);
    let lengths: Vec<usize> = gathered(parts)
      .map(|part| part.map_or(0, |part| part.len()))
      .collect()
      .await;
    assert_eq!(lengths, [70 << 10, 70 << 10, 60 << 10]);
  }
}
