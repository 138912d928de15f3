//! From an address to a WebSocket on which the server has let the client in.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use futures::StreamExt;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Host;
use url::Url;

use crate::error::ConnectError;
use crate::error::Refusal;
use crate::options::Options;
use crate::options::Token;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Io>>;

/// Most frames that are skipped while the server's welcome is awaited.
const SKIPPED: usize = 10_000;

/// With what a client asks to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
  pub(crate) client_id: String,
  pub(crate) workspace: Option<String>,
  pub(crate) token: Option<Token>,
  pub(crate) reconnection: Option<Token>,
}

/// What the server says to a client that it lets in.
#[derive(Deserialize)]
pub(crate) struct Welcome {
  pub(crate) workspace: String,
  pub(crate) client_id: String,
  pub(crate) manager_id: String,
  #[serde(default)]
  pub(crate) user: serde_json::Value,
  pub(crate) public_base_url: Option<String>,
  pub(crate) reconnection_token: Option<String>,
  pub(crate) reconnection_token_life_time: Option<f64>,
}

/// Where a server is, and how it is reached.
pub(crate) struct Transport {
  /// `ws://host:port/base/ws`, for the handshake and for messages.
  address: String,
  host: Host<String>,
  port: u16,
  tls: Option<(TlsConnector, ServerName<'static>)>,
  connect: Duration,
  welcome: Duration,
  config: WebSocketConfig,
}

impl Transport {
  /// # Errors
  /// When the address or the certificates cannot work.
  pub(crate) fn new(options: &Options) -> Result<Self, ConnectError> {
    let url = &options.server_url;
    let invalid = |text: &str| Err(ConnectError::Invalid(format!("server_url: {text}")));
    let (scheme, encrypted) = match url.scheme() {
      "http" | "ws" => ("ws", false),
      "https" | "wss" => ("wss", true),
      _ => return invalid("write http, https, ws or wss before the host"),
    };
    if !url.username().is_empty() || url.password().is_some() {
      return invalid("leave out user name and password, and set the token");
    }
    if url.query().is_some() || url.fragment().is_some() {
      return invalid("leave out what follows `?` or `#`");
    }
    let Some(host) = url.host() else {
      return invalid("it names no host");
    };
    let host = host.to_owned();
    // Known for these schemes: `Url` knows no others' ports.
    let port = url.port_or_known_default().unwrap_or(80);
    let base = url.path().trim_end_matches('/');
    let tls = match encrypted {
      true => Some((
        connector(options.authorities.as_deref())?,
        server_name(&host)?,
      )),
      false => None,
    };
    let limit = options.limits.message_bytes;
    Ok(Self {
      address: format!("{scheme}://{host}:{port}{base}/ws"),
      host,
      port,
      tls,
      connect: options.limits.connect,
      welcome: options.limits.welcome,
      config: WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit)),
    })
  }

  pub(crate) fn address(&self) -> &str {
    &self.address
  }

  /// Connects and waits until the server lets the client in.
  pub(crate) async fn open(
    &self,
    credentials: &Credentials,
  ) -> Result<(Socket, Welcome), ConnectError> {
    let stream = match timeout(self.connect, self.stream()).await {
      Ok(stream) => stream.map_err(|error| self.unreachable(error))?,
      Err(_) => return Err(self.unreachable(format!("none within {:?}", self.connect))),
    };
    match timeout(self.welcome, self.enter(stream, credentials)).await {
      Ok(outcome) => outcome.map_err(|error| without_tokens(error, credentials)),
      Err(_) => Err(self.not_hypha(format!("no answer within {:?}", self.welcome))),
    }
  }

  async fn stream(&self) -> Result<Box<dyn Io>, String> {
    let tcp = match &self.host {
      Host::Domain(name) => TcpStream::connect((name.as_str(), self.port)).await,
      Host::Ipv4(address) => TcpStream::connect((*address, self.port)).await,
      Host::Ipv6(address) => TcpStream::connect((*address, self.port)).await,
    };
    let tcp = tcp.map_err(|error| error.to_string())?;
    // Answers are small, and someone waits for each.
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    match &self.tls {
      None => Ok(Box::new(tcp)),
      Some((connector, name)) => {
        let stream = connector.connect(name.clone(), tcp).await;
        Ok(Box::new(stream.map_err(|error| error.to_string())?))
      }
    }
  }

  async fn enter(
    &self,
    stream: Box<dyn Io>,
    credentials: &Credentials,
  ) -> Result<(Socket, Welcome), ConnectError> {
    let handshake = client_async_with_config(self.address.as_str(), stream, Some(self.config));
    let (mut socket, _) = handshake.await.map_err(|error| self.failed(error))?;
    let exposed = |token: &Option<Token>| token.as_ref().map(|token| token.expose().to_owned());
    let request = json!({
      "client_id": credentials.client_id,
      "workspace": credentials.workspace,
      "token": exposed(&credentials.token),
      "reconnection_token": exposed(&credentials.reconnection),
    });
    let sent = socket.send(Message::text(request.to_string())).await;
    sent.map_err(|error| self.failed(error))?;
    for _ in 0..SKIPPED {
      let message = match socket.next().await {
        None => return Err(self.not_hypha("it closes the connection at once")),
        Some(message) => message.map_err(|error| self.failed(error))?,
      };
      match message {
        Message::Text(text) => {
          let welcome = self.welcome(text.as_str(), credentials)?;
          return Ok((socket, welcome));
        }
        Message::Close(frame) => {
          let reason = frame.map(|it| it.reason.to_string()).unwrap_or_default();
          return Err(if reason.is_empty() {
            self.not_hypha("it closes the connection at once")
          } else {
            self.refused(&reason)
          });
        }
        // After a reconnection the server may send what it has kept before it greets.
        _ => {}
      }
    }
    Err(self.not_hypha("it sends much, but no answer"))
  }

  fn welcome(&self, text: &str, credentials: &Credentials) -> Result<Welcome, ConnectError> {
    let garbage = || self.not_hypha("its answer is none of Hypha's");
    let message: serde_json::Value = serde_json::from_str(text).map_err(|_| garbage())?;
    match message["type"].as_str() {
      Some("connection_info") => {}
      Some("error") => {
        return Err(self.refused(message["message"].as_str().unwrap_or("it says no more")));
      }
      _ => return Err(garbage()),
    }
    let welcome: Welcome = serde_json::from_value(message).map_err(|_| garbage())?;
    let names = [&welcome.workspace, &welcome.client_id, &welcome.manager_id];
    if names.iter().any(|it| it.is_empty() || it.contains('/')) {
      return Err(garbage());
    }
    match &credentials.workspace {
      Some(workspace) if *workspace != welcome.workspace => Err(ConnectError::Refused {
        address: self.address.clone(),
        kind: Refusal::Workspace,
        message: format!("the server chose another workspace than `{workspace}`"),
      }),
      _ => Ok(welcome),
    }
  }

  fn refused(&self, message: &str) -> ConnectError {
    let message: String = message.chars().filter(|it| !it.is_control()).collect();
    if message.contains("Server busy") {
      return self.unreachable(message);
    }
    ConnectError::Refused {
      address: self.address.clone(),
      kind: Refusal::of(&message),
      message: message.chars().take(500).collect(),
    }
  }

  fn failed(&self, error: WsError) -> ConnectError {
    match error {
      WsError::Http(response) => {
        let status = response.status();
        let text = format!("the answer is {status}");
        // A proxy whose server is away, or that has enough for now.
        if matches!(status.as_u16(), 429 | 502..=504) {
          self.unreachable(text)
        } else {
          self.not_hypha(text)
        }
      }
      WsError::ConnectionClosed | WsError::AlreadyClosed => {
        self.not_hypha("it closes the connection at once")
      }
      other => self.not_hypha(other.to_string()),
    }
  }

  fn unreachable(&self, reason: impl Into<String>) -> ConnectError {
    ConnectError::Unreachable {
      address: self.address.clone(),
      reason: reason.into(),
    }
  }

  fn not_hypha(&self, reason: impl Into<String>) -> ConnectError {
    ConnectError::NotHypha {
      address: self.address.clone(),
      reason: reason.into(),
    }
  }
}

/// Replaces tokens in what the server said: it may quote one that it does not like.
fn without_tokens(error: ConnectError, credentials: &Credentials) -> ConnectError {
  match error {
    ConnectError::Refused {
      address,
      kind,
      mut message,
    } => {
      let tokens = [&credentials.token, &credentials.reconnection];
      for token in tokens.into_iter().flatten() {
        if !token.expose().is_empty() {
          message = message.replace(token.expose(), "[token]");
        }
      }
      ConnectError::Refused {
        address,
        kind,
        message,
      }
    }
    other => other,
  }
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, ConnectError> {
  match host {
    Host::Domain(name) => ServerName::try_from(name.clone())
      .map_err(|error| ConnectError::Invalid(format!("server_url: {error}"))),
    Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::from(*address))),
    Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::from(*address))),
  }
}

/// Encryption with the certificate authorities of the platform and `more` (PEM).
fn connector(more: Option<&[u8]>) -> Result<TlsConnector, ConnectError> {
  let invalid = |error: String| ConnectError::Invalid(format!("authorities: {error}"));
  let more: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(more.unwrap_or_default())
    .collect::<Result<_, _>>()
    .map_err(|error| invalid(error.to_string()))?;
  // Named, for a program may have installed another one, or none.
  let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
  let verifier =
    rustls_platform_verifier::Verifier::new_with_extra_roots(more, Arc::clone(&provider))
      .map_err(|error| invalid(error.to_string()))?;
  let config = ClientConfig::builder_with_provider(provider)
    .with_safe_default_protocol_versions()
    .map_err(|error| invalid(error.to_string()))?
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(verifier))
    .with_no_client_auth();
  Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether a text can be the name of a client.
pub(crate) fn check_client_id(id: &str) -> Result<(), ConnectError> {
  let wrong = id.is_empty() || id.contains(['/', ':', '*']) || id.contains(char::is_whitespace);
  if wrong {
    let text = "client_id: it is empty or has `/`, `:`, `*` or blanks";
    return Err(ConnectError::Invalid(text.into()));
  }
  Ok(())
}

/// The address as options have it, without what is secret in it, for `Debug` of a client.
pub(crate) fn shown(url: &Url) -> String {
  let mut url = url.clone();
  url.set_query(None);
  // Both fail only for addresses without a host, which have neither.
  let _ = url.set_username("");
  let _ = url.set_password(None);
  url.to_string()
}
