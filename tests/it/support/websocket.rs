//! A WebSocket client, as much of RFC 6455 as the tests need: whole frames, no extensions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha1::Digest;
use sha1::Sha1;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufStream;
use tokio::net::TcpStream;

use super::in_time;

/// What the RFC puts after the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Any 16 bytes will do; they only show that the answer is for this request.
const KEY: &[u8; 16] = b"sixteen bytes...";
/// Any mask will do, too.
const MASK: [u8; 4] = [0x1d, 0x2e, 0x3f, 0x40];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
  Text(String),
  Binary(Vec<u8>),
  Close {
    code: u16,
    reason: String,
  },
  Ping(Vec<u8>),
  Pong(Vec<u8>),
  /// The connection ended without a frame that says so.
  Gone,
}

pub(crate) struct WebSocket(BufStream<TcpStream>);

impl WebSocket {
  /// Opens one on this machine; the head of the answer when it is refused. Headers are lines, each
  /// with its end.
  ///
  /// # Panics
  /// When there is no answer, or the server does not know the protocol.
  pub(crate) async fn open(port: u16, path: &str, headers: &str) -> Result<Self, String> {
    let connection = TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = BufStream::new(connection.expect("somebody listens"));
    let key = STANDARD.encode(KEY);
    let head = format!(
      "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
    );
    stream
      .write_all(head.as_bytes())
      .await
      .expect("can be sent");
    stream.flush().await.expect("can be sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
      let byte = in_time("the head of an answer", stream.read_u8()).await;
      answer.push(byte.expect("the head is complete"));
    }
    let answer = String::from_utf8(answer).expect("a head is text");
    if !answer.starts_with("HTTP/1.1 101 ") {
      return Err(answer);
    }
    let accept = STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
    let found = answer.lines().find_map(|line| {
      let (name, value) = line.split_once(':')?;
      name
        .eq_ignore_ascii_case("sec-websocket-accept")
        .then(|| value.trim().to_owned())
    });
    assert_eq!(found, Some(accept), "{answer}");
    Ok(Self(stream))
  }

  pub(crate) async fn send(&mut self, frame: &Frame) {
    let (opcode, payload) = match frame {
      Frame::Text(text) => (1, text.clone().into_bytes()),
      Frame::Binary(bytes) => (2, bytes.clone()),
      Frame::Close { code, reason } => (8, [&code.to_be_bytes(), reason.as_bytes()].concat()),
      Frame::Ping(bytes) => (9, bytes.clone()),
      Frame::Pong(bytes) => (10, bytes.clone()),
      Frame::Gone => panic!("nothing to send"),
    };
    let mut bytes = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
      Ok(short) if short < 126 => bytes.push(0x80 | payload.len().to_le_bytes()[0]),
      Ok(medium) => {
        bytes.push(0x80 | 0x7e);
        bytes.extend(medium.to_be_bytes());
      }
      Err(_) => {
        bytes.push(0x80 | 0x7f);
        bytes.extend((payload.len() as u64).to_be_bytes());
      }
    }
    bytes.extend(MASK);
    bytes.extend(
      payload
        .iter()
        .zip(MASK.iter().cycle())
        .map(|(byte, mask)| byte ^ mask),
    );
    self.0.write_all(&bytes).await.expect("can be sent");
    self.0.flush().await.expect("can be sent");
  }

  pub(crate) async fn say(&mut self, text: &str) {
    self.send(&Frame::Text(text.to_owned())).await;
  }

  /// The next frame.
  ///
  /// # Panics
  /// When the server sends what it must not.
  pub(crate) async fn frame(&mut self) -> Frame {
    match in_time("a WebSocket frame", self.read()).await {
      Ok(frame) => frame,
      Err(_) => Frame::Gone,
    }
  }

  async fn read(&mut self) -> std::io::Result<Frame> {
    let first = self.0.read_u8().await?;
    assert_eq!(first & 0xf0, 0x80, "whole frames without extensions");
    let second = self.0.read_u8().await?;
    assert_eq!(second & 0x80, 0, "servers do not mask");
    let length = match second {
      126 => self.0.read_u16().await?.into(),
      127 => self.0.read_u64().await?,
      short => short.into(),
    };
    let mut payload = vec![0; usize::try_from(length).expect("fits into memory")];
    self.0.read_exact(&mut payload).await?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("is UTF-8");
    Ok(match first & 0x0f {
      1 => Frame::Text(text(&payload)),
      2 => Frame::Binary(payload),
      8 => match payload.split_first_chunk() {
        Some((code, reason)) => Frame::Close {
          code: u16::from_be_bytes(*code),
          reason: text(reason),
        },
        None => Frame::Close {
          code: 1005,
          reason: String::new(),
        },
      },
      9 => Frame::Ping(payload),
      10 => Frame::Pong(payload),
      opcode => panic!("an unknown frame: {opcode}"),
    })
  }

  /// The JSON of the next text.
  ///
  /// # Panics
  /// When something else comes.
  pub(crate) async fn json(&mut self) -> Value {
    match self.frame().await {
      Frame::Text(text) => serde_json::from_str(&text).expect("is JSON"),
      other => panic!("no text: {other:?}"),
    }
  }
}
