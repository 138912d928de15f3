//! How many connections there may be, and who makes room.

use std::io::Read;
use std::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::Server;

#[tokio::test]
async fn connections_that_say_nothing_make_room_and_streams_go_on() {
  let server = Server::builder().env("ENGINE_MAX_CONNECTIONS", "8").start();
  let client = server.client();
  let mut events = client.events().await;
  let silent: Vec<TcpStream> = (0..50)
    .map(|_| {
      let connection = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
      connection
        .set_read_timeout(Some(PATIENCE))
        .expect("can be set");
      connection
    })
    .collect();
  // Those that came first have made room.
  for mut connection in silent.iter().take(40) {
    let ended = connection.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
  }
  let kernel = client.typescript().await;
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
  let event = events.until("kernel_ready").await;
  assert_eq!(event["kernelId"], kernel.id);
}

#[tokio::test]
async fn http2_is_spoken_without_tls() {
  use std::io::Write;
  let server = Server::builder().start();
  let mut connection = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
  connection
    .set_read_timeout(Some(PATIENCE))
    .expect("can be set");
  // The preface, and empty settings.
  connection
    .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
    .expect("is sent");
  let mut head = [0; 9];
  connection.read_exact(&mut head).expect("answers");
  assert_eq!(head[3], 4, "settings come first: {head:?}");
}
