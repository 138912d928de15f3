//! Bodies that stream both ways, server-sent events and WebSockets, through to apps.

use bytes::Bytes;
use futures::StreamExt;
use reqwest::Method;
use serde_json::json;
use tokio::sync::mpsc;

use super::app;
use super::apps_server;
use crate::support::Frame;
use crate::support::WebSocket;
use crate::support::in_time;

#[tokio::test]
async fn bodies_stream_both_ways_at_the_same_time() {
  let app = app("Deno.serve((request) => new Response(request.body));").await;
  app.ready().await;
  let (parts, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
  let body = futures::stream::unfold(body, |mut body| async {
    body.recv().await.map(|part| (part, body))
  });
  let request = app
    .client
    .request(Method::POST, &app.path("/"))
    .body(reqwest::Body::wrap_stream(body));
  let send = |text: &'static str| parts.send(Ok(Bytes::from_static(text.as_bytes())));
  send("first").await.expect("is taken");
  let response = in_time("the head of the answer", app.client.send(request)).await;
  let mut answer = response.bytes_stream();
  // Each part comes back before the next one is sent.
  for text in ["first", "second", "third"] {
    if text != "first" {
      send(text).await.expect("is taken");
    }
    let part = in_time("a part of the body", answer.next()).await;
    assert_eq!(part.expect("a part").expect("is whole"), text);
  }
  drop(parts);
  assert!(in_time("the end", answer.next()).await.is_none());
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
  let app = app(
    "Deno.serve(async (request) => {
       let bytes = 0;
       for await (const part of request.body) bytes += part.length;
       return new Response(new Uint8Array(bytes));
     });",
  )
  .await;
  app.ready().await;
  let size = 12 << 20;
  let request = app
    .client
    .request(Method::POST, &app.path("/"))
    .body(vec![7; size]);
  let response = app.client.send(request).await;
  assert_eq!(response.status(), 200);
  assert_eq!(response.bytes().await.expect("is whole").len(), size);
}

#[tokio::test]
async fn server_sent_events_come_one_by_one() {
  let app = app(
    "const encoder = new TextEncoder();
     let listener;
     Deno.serve((request) => {
       const { pathname, searchParams } = new URL(request.url);
       if (pathname === '/say') {
         listener.enqueue(encoder.encode(`data: ${searchParams.get('text')}\\n\\n`));
         return new Response('said');
       }
       const body = new ReadableStream({
         start(controller) { listener = controller; controller.enqueue(encoder.encode('data: open\\n\\n')); },
         cancel() { console.log('the client is gone'); },
       });
       return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
     });",
  )
  .await;
  app.ready().await;
  let response = app
    .client
    .send(app.client.request(Method::GET, &app.path("/events")))
    .await;
  assert_eq!(response.headers()["content-type"], "text/event-stream");
  let mut events = response.bytes_stream();
  let mut next = async || {
    let part = in_time("an event", events.next()).await;
    part.expect("an event").expect("is whole")
  };
  assert_eq!(next().await, "data: open\n\n");
  for text in ["one", "two"] {
    let said = app
      .client
      .get(&app.path(&format!("/say?text={text}")))
      .await;
    assert_eq!(said.text, "said");
    assert_eq!(next().await, format!("data: {text}\n\n"));
  }
  drop(events);
  app.says("the client is gone").await;
}

/// Answers each frame with itself.
const ECHO: &str = "
  Deno.serve((request) => {
    if (request.headers.get('upgrade') !== 'websocket') return new Response('no socket', { status: 400 });
    const { socket, response } = Deno.upgradeWebSocket(request, { protocol: 'own' });
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => {
      if (data === 'close') socket.close(4001, 'as asked');
      else socket.send(data);
    };
    socket.onclose = ({ code, reason }) => console.log('closed', code, reason);
    return response;
  });";

#[tokio::test]
async fn websockets_carry_texts_and_bytes_of_any_length() {
  let app = app(ECHO).await;
  app.ready().await;
  let own = "Sec-WebSocket-Protocol: own\r\n";
  let socket = WebSocket::open(apps_server().port(), &app.path("/ws?a=b"), own).await;
  let mut socket = socket.expect("is opened");
  for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
    let text = Frame::Text("x".repeat(length));
    socket.send(&text).await;
    assert_eq!(socket.frame().await, text);
    let bytes = Frame::Binary(vec![200; length]);
    socket.send(&bytes).await;
    assert_eq!(socket.frame().await, bytes);
  }
  socket.send(&Frame::Ping(b"still there?".to_vec())).await;
  assert_eq!(socket.frame().await, Frame::Pong(b"still there?".to_vec()));
}

#[tokio::test]
async fn either_side_closes_a_websocket_with_its_code_and_reason() {
  let app = app(ECHO).await;
  app.ready().await;
  let own = "Sec-WebSocket-Protocol: own\r\n";
  let open = || async {
    let socket = WebSocket::open(apps_server().port(), &app.path("/"), own).await;
    socket.expect("is opened")
  };
  let mut socket = open().await;
  socket.say("close").await;
  let close = Frame::Close {
    code: 4001,
    reason: "as asked".into(),
  };
  assert_eq!(socket.frame().await, close);
  let mut socket = open().await;
  let close = Frame::Close {
    code: 4002,
    reason: "enough".into(),
  };
  socket.send(&close).await;
  let mut log = app.follow(None).await;
  log.until("closed 4002 enough").await;
  // One that just goes is noticed, too.
  drop(open().await);
  log.until("closed").await;
}

#[tokio::test]
async fn an_app_may_refuse_a_websocket() {
  let app = app("Deno.serve(() => new Response('not here', { status: 418 }));").await;
  app.ready().await;
  let head = WebSocket::open(apps_server().port(), &app.path("/"), "").await;
  let head = head.err().expect("is refused");
  assert!(head.starts_with("HTTP/1.1 418"), "{head}");
}

#[tokio::test]
async fn a_websocket_ends_with_the_process_of_its_app() {
  let app = app(ECHO).await;
  app.ready().await;
  let own = "Sec-WebSocket-Protocol: own\r\n";
  let socket = WebSocket::open(apps_server().port(), &app.path("/"), own).await;
  let mut socket = socket.expect("is opened");
  socket.say("hello").await;
  assert_eq!(socket.frame().await, Frame::Text("hello".into()));
  app.stop().await;
  assert!(matches!(
    socket.frame().await,
    Frame::Gone | Frame::Close { .. }
  ));
}

#[tokio::test]
async fn a_client_that_goes_away_aborts_its_request() {
  let app = app(
    "Deno.serve((request) => {
       request.signal.addEventListener('abort', () => console.log('aborted'));
       console.log('asked');
       return new Promise(() => {});
     });",
  )
  .await;
  app.ready().await;
  let asked = tokio::spawn({
    let (client, path) = (app.client.clone(), app.path("/"));
    async move { client.get(&path).await }
  });
  app.says("asked").await;
  asked.abort();
  app.says("aborted").await;
  assert_eq!(app.info().await["status"], json!("running"));
}
