use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::tests::support::Front;
use crate::tests::support::Listener;
use crate::tests::support::Wire;

const HANDSHAKE: &str = "GET /apps/hello/socket HTTP/1.1\r\nhost: example.org\r\n\
  connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
  sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Switches, sends back what it gets, and says goodbye when the client has ended its half.
async fn echo(mut request: Request) -> Response {
  assert_eq!(request.headers()[header::CONNECTION], "upgrade");
  assert_eq!(request.headers()[header::UPGRADE], "websocket");
  assert_eq!(request.headers()["sec-websocket-version"], "13");
  let upgrade = hyper::upgrade::on(&mut request);
  tokio::spawn(async move {
    let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
    let mut buffer = [0; 4096];
    loop {
      let read = stream.read(&mut buffer).await.expect("no error");
      if read == 0 {
        break;
      }
      stream.write_all(&buffer[..read]).await.expect("no error");
    }
    stream.write_all(b"goodbye").await.expect("no error");
    stream.shutdown().await.expect("no error");
  });
  let head = [
    (header::CONNECTION, "upgrade"),
    (header::UPGRADE, "websocket"),
    (header::SEC_WEBSOCKET_ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
  ];
  (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

async fn opened(front: &Front) -> Wire {
  let mut wire = front.connect().await;
  wire.write(HANDSHAKE).await;
  let head = wire.read_head().await;
  assert!(
    head.starts_with("http/1.1 101 switching protocols\r\n"),
    "{head}"
  );
  assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
  assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
  assert!(
    head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
    "{head}"
  );
  wire
}

#[tokio::test]
async fn a_websocket_carries_both_directions_and_each_half_ends_by_itself() {
  let front = Front::before(Router::new().fallback(echo)).await;
  let mut wire = opened(&front).await;
  for round in 0..100 {
    wire.write(format!("<{round}>")).await;
    assert_eq!(wire.read_to(">").await, format!("<{round}>"));
  }
  wire.end().await;
  assert_eq!(wire.read_rest().await, "goodbye");
}

#[tokio::test]
async fn what_a_client_sends_right_after_its_handshake_is_not_lost() {
  let front = Front::before(Router::new().fallback(echo)).await;
  let mut wire = front.connect().await;
  wire.write(format!("{HANDSHAKE}early.")).await;
  wire.read_head().await;
  wire.read_to("early.").await;
}

#[tokio::test]
async fn what_an_app_sends_right_after_its_handshake_is_not_lost() {
  let (listener, front) = Listener::with_front().await;
  let mut client = front.connect().await;
  client.write(HANDSHAKE).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  app
    .write("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly.")
    .await;
  client.read_head().await;
  client.read_to("early.").await;
  // The app's half ends first here.
  app.end().await;
  assert_eq!(client.read_rest().await, "");
  client.write("late.").await;
  app.read_to("late.").await;
  drop(client);
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_apps_side() {
  let (listener, front) = Listener::with_front().await;
  let mut client = front.connect().await;
  client.write(HANDSHAKE).await;
  let mut app = listener.accept().await;
  app.read_head().await;
  app
    .write("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    .await;
  client.read_head().await;
  drop(client);
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
  let app = Router::new().fallback(async |request: Request| {
    let asked = request.headers().contains_key(header::UPGRADE);
    (
      StatusCode::UPGRADE_REQUIRED,
      [(header::UPGRADE, "other")],
      format!("asked: {asked}."),
    )
  });
  let front = Front::before(app).await;
  let mut wire = front.connect().await;
  for _ in 0..2 {
    wire.write(HANDSHAKE).await;
    let head = wire.read_head().await;
    assert!(head.starts_with("http/1.1 426 "), "{head}");
    assert!(head.contains("\r\nupgrade: other\r\n"), "{head}");
    wire.read_to("asked: true.").await;
  }
}

#[tokio::test]
async fn a_client_cannot_leave_http_for_http_2() {
  let app = Router::new().fallback(async |request: Request| {
    format!(
      "asked: {}.",
      request.headers().contains_key(header::UPGRADE)
    )
  });
  let front = Front::before(app).await;
  let mut wire = front.connect().await;
  for protocol in ["h2c", "websocket, H2C"] {
    wire
      .write(HANDSHAKE.replace("websocket\r", &format!("{protocol}\r")))
      .await;
    wire.read_to("asked: false.").await;
  }
}

#[tokio::test]
async fn an_app_that_switches_unasked_is_an_error() {
  let plain = "GET /apps/hello/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned();
  for asked in [plain, HANDSHAKE.replace("websocket\r", "h2c\r")] {
    let (listener, front) = Listener::with_front().await;
    let mut client = front.connect().await;
    client.write(asked).await;
    let mut app = listener.accept().await;
    app.read_head().await;
    app
      .write("HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
      .await;
    assert_eq!(app.read_rest().await, "");
    assert!(client.read_head().await.starts_with("http/1.1 502 "));
    client
      .read_to("the app at /apps/hello switched to a protocol that nobody asked for; see its code")
      .await;
  }
}
