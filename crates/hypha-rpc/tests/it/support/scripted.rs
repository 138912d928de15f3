//! A WebSocket server that does what a test tells it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::SinkExt;
use futures::StreamExt;
use hypha_rpc::Client;
use hypha_rpc::Limits;
use hypha_rpc::Options;
use hypha_rpc::Service;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use super::soon;

/// A peer that calls the client.
pub(crate) const CALLER: &str = "elsewhere/caller";

/// A client with these options, and what the server says to it.
pub(crate) async fn connect(server: &Scripted, options: Options) -> (Client, Conversation) {
  let (client, conversation) = tokio::join!(Client::connect(options), server.client());
  (client.expect("a connection"), conversation)
}

/// Registers a service, which the server takes.
pub(crate) async fn register(client: &Client, conversation: &mut Conversation, service: Service) {
  let serve = async {
    let (main, _) = conversation.frame().await;
    conversation.resolve(&main, json!(null)).await;
  };
  let (registered, ()) = tokio::join!(client.register(service), serve);
  registered.expect("registered");
}

/// A server on a free port.
pub(crate) struct Scripted {
  listener: TcpListener,
  address: SocketAddr,
}

impl Scripted {
  pub(crate) async fn start() -> Self {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("the port has an address");
    Self { listener, address }
  }

  /// Options with short times, for a client with a token.
  pub(crate) fn options(&self) -> Options {
    let url = format!("http://{}", self.address);
    let mut options = Options::new(Url::parse(&url).expect("an address"));
    options.client_id = Some("me".into());
    options.token = Some(hypha_rpc::Token::new("s3cret-token"));
    options.limits = Limits {
      connect: Duration::from_secs(5),
      welcome: Duration::from_secs(5),
      reconnect: (Duration::from_millis(10), Duration::from_millis(100)),
      repair: Duration::ZERO,
      ..Limits::default()
    };
    options
  }

  /// The port's number.
  pub(crate) fn port(&self) -> u16 {
    self.address.port()
  }

  /// The next connection, before anything was said on it.
  pub(crate) async fn tcp(&self) -> TcpStream {
    let (stream, _) = soon(self.listener.accept()).await.expect("a client");
    stream
  }

  /// The next connection as a WebSocket, and what the client wants to be let in with.
  pub(crate) async fn socket(&self) -> (Conversation, Json) {
    let socket = accept_async(self.tcp().await).await;
    let mut conversation = Conversation {
      socket: socket.expect("a handshake"),
    };
    let Message::Text(text) = conversation.next().await else {
      panic!("the first message is a text")
    };
    let request = serde_json::from_str(text.as_str()).expect("JSON");
    (conversation, request)
  }

  /// The next connection, let in and with its services registered.
  pub(crate) async fn client(&self) -> Conversation {
    let (mut conversation, _) = self.socket().await;
    conversation.welcome().await;
    conversation
  }
}

/// A connection of a client.
pub(crate) struct Conversation<S = TcpStream> {
  pub(crate) socket: WebSocketStream<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
  pub(crate) async fn next(&mut self) -> Message {
    let message = soon(self.socket.next()).await;
    message.expect("the client is there").expect("a message")
  }

  pub(crate) async fn text(&mut self, message: Json) {
    self.send(Message::text(message.to_string())).await;
  }

  pub(crate) async fn send(&mut self, message: Message) {
    self.socket.send(message).await.expect("the client reads");
  }

  /// Lets the client in, and answers what it asks the workspace manager until it is registered.
  pub(crate) async fn welcome(&mut self) {
    self.welcome_as("me").await;
  }

  /// The same for a client with this id.
  pub(crate) async fn welcome_as(&mut self, client_id: &str) {
    self
      .text(json!({
        "type": "connection_info", "workspace": "ours", "client_id": client_id, "manager_id": "boss",
        "user": {"id": "u"}, "public_base_url": "http://server", "reconnection_token": "again",
      }))
      .await;
    loop {
      let (main, _) = self.frame().await;
      self.resolve(&main, json!(null)).await;
      if main["method"] == "services.default.subscribe" {
        return;
      }
    }
  }

  /// The next binary message: its two parts.
  pub(crate) async fn frame(&mut self) -> (Json, Json) {
    loop {
      if let Message::Binary(bytes) = self.next().await {
        return parts(&bytes);
      }
    }
  }

  /// Answers a call of the client, in the name of whom it called.
  pub(crate) async fn resolve(&mut self, call: &Json, value: Json) {
    let session = call["session"]
      .as_str()
      .expect("a call that wants an answer");
    let main = json!({
      "type": "method", "from": call["to"], "to": call["from"], "method": format!("{session}.resolve"),
    });
    self.frames(&main, &json!({"args": [value]})).await;
  }

  /// Calls the client as [`CALLER`].
  pub(crate) async fn call(&mut self, method: &str, session: &str, extra: Json) {
    let main = json!({
      "type": "method", "from": CALLER, "to": "ours/me", "ws": "elsewhere", "method": method,
      "session": session, "user": {"id": "stranger", "is_anonymous": true},
    });
    self.frames(&main, &extra).await;
  }

  pub(crate) async fn frames(&mut self, main: &Json, extra: &Json) {
    self.send(Message::Binary(packed(main, extra).into())).await;
  }

  /// Whether the client answers, and with that has read all that was sent before.
  pub(crate) async fn is_alive(&mut self) {
    let extra = json!({"args": ["ping"], "promise": "*", "t": 15});
    self.call("services.built-in.ping", "alive", extra).await;
    loop {
      let (main, extra) = self.frame().await;
      if main["method"] == "alive.resolve" {
        assert_eq!(extra["args"], json!(["pong"]));
        return;
      }
    }
  }
}

pub(crate) fn packed(main: &Json, extra: &Json) -> Vec<u8> {
  let part = |part: &Json| rmp_serde::to_vec_named(part).expect("MessagePack");
  [part(main), part(extra)].concat()
}

fn parts(bytes: &[u8]) -> (Json, Json) {
  let mut input = rmp_serde::Deserializer::new(bytes);
  let main = Json::deserialize(&mut input).expect("a map");
  let extra = Json::deserialize(&mut input).unwrap_or(Json::Null);
  (main, extra)
}
