//! Settings of a client.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use url::Url;

use crate::transport;

/// Where to connect, as whom, and with which limits.
#[derive(Clone)]
pub struct Options {
  /// Address of the server, with `http`, `https`, `ws` or `wss`; it may have a path.
  pub server_url: Url,
  /// Name of the client in its workspace; `None` for a random one. A fixed one lets a restarted program
  /// replace its own services.
  pub client_id: Option<String>,
  /// `None` for the workspace that the token is for.
  pub workspace: Option<String>,
  /// `None` to connect as an anonymous user, who has a workspace alone.
  pub token: Option<Token>,
  /// Certificate authorities (PEM) to trust besides those of the platform.
  pub authorities: Option<Vec<u8>>,
  pub limits: Limits,
  /// Whether streams may be given on a second connection while the first has more to say than the server takes. Its client has
  /// the same token, and an id with `-streams` behind.
  pub may_overflow: bool,
}

impl Options {
  /// Options with which an anonymous client with a random id connects.
  pub fn new(server_url: Url) -> Self {
    Self {
      server_url,
      client_id: None,
      workspace: None,
      token: None,
      authorities: None,
      limits: Limits::default(),
      may_overflow: false,
    }
  }
}

impl fmt::Debug for Options {
  /// Shows all but secrets: an address may have a password in it, though no client takes it.
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct("Options")
      .field("server_url", &transport::shown(&self.server_url))
      .field("client_id", &self.client_id)
      .field("workspace", &self.workspace)
      .field("token", &self.token)
      .field("limits", &self.limits)
      .finish_non_exhaustive()
  }
}

/// A token of a Hypha server. Neither logs nor errors show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
  pub fn new(text: impl Into<String>) -> Self {
    Self(text.into())
  }

  /// The text itself.
  pub fn expose(&self) -> &str {
    &self.0
  }

  /// Whether it administers the whole server. Tokens inherit the roles of the token that makes them, and one with
  /// the role `admin` opens every workspace, whatever its scope. `false` if it is no JSON web token.
  pub fn administers_server(&self) -> bool {
    let Some(payload) = self.0.split('.').nth(1) else {
      return false;
    };
    let claims = BASE64_URL_SAFE_NO_PAD
      .decode(payload.trim_end_matches('='))
      .ok()
      .and_then(|json| serde_json::from_slice::<serde_json::Map<String, Value>>(&json).ok());
    // The name of the claim has a prefix that differs between servers.
    claims.unwrap_or_default().iter().any(|(name, value)| {
      let roles = value.as_array().filter(|_| name.ends_with("roles"));
      roles.is_some_and(|roles| roles.iter().any(|role| role == "admin"))
    })
  }
}

impl fmt::Debug for Token {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("[token]")
  }
}

/// Limits of time, size and rate.
#[derive(Debug, Clone)]
pub struct Limits {
  /// Most time until a connection is there, with its encryption.
  pub connect: Duration,
  /// Most time until the server has let the client in. It asks a client with the same id for a sign of
  /// life meanwhile, and makes others wait when many connect at once.
  pub welcome: Duration,
  /// Most time without a sign of life of a peer that is called.
  pub call: Duration,
  /// Time without use after which a stream or a function that a peer was given is dropped.
  pub idle: Duration,
  /// Pause between two pings. A connection on which nothing came for twice as long is lost.
  pub ping: Duration,
  /// Pause between two renewals of the token for reconnections.
  pub renewal: Duration,
  /// Pause between two looks at whether the server still lists the services; zero for none.
  pub repair: Duration,
  /// Shortest and longest pause before a reconnection.
  pub reconnect: (Duration, Duration),
  /// How long the answer of a handler waits for a lost connection to come back.
  pub outage: Duration,
  /// Most bytes of one message, in either direction.
  pub message_bytes: usize,
  /// Most lists and maps inside each other, in what is received.
  pub depth: usize,
  /// Most values in one received message; the sender of a longer one gets an error.
  pub values: usize,
  /// Binary messages a second, on average. The server cuts connections with more than 200.
  pub rate: f64,
  /// Binary messages that may be sent at once after a pause. The server cuts connections with more than
  /// 2000; a part is kept for signs of life.
  pub burst: f64,
  /// Messages that wait to be sent. Whoever has a further one waits.
  pub queue: usize,
  /// Calls of peers that run at the same time. Further ones are refused.
  pub calls_in_progress: usize,
}

impl Default for Limits {
  fn default() -> Self {
    Self {
      connect: Duration::from_secs(10),
      welcome: Duration::from_secs(30),
      call: Duration::from_secs(30),
      idle: Duration::from_secs(300),
      ping: Duration::from_secs(25),
      renewal: Duration::from_secs(2 * 3600),
      repair: Duration::from_secs(60),
      reconnect: (Duration::from_millis(100), Duration::from_secs(30)),
      outage: Duration::from_secs(60),
      message_bytes: 64 << 20,
      depth: 64,
      values: 1 << 20,
      rate: 180.0,
      burst: 1800.0,
      queue: 64,
      calls_in_progress: 4096,
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn a_token_of_an_administrator_is_known_by_its_roles() {
    let token = |claims: &str| {
      let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims);
      Token::new(format!("e30.{payload}.sig"))
    };
    assert!(token(r#"{"https://x/roles": ["user", "admin"]}"#).administers_server());
    for claims in [
      r#"{"https://x/roles": []}"#,
      r#"{"https://x/roles": ["administrator?>"], "scope": "ws:a#a"}"#,
      r#"{"scope": "admin"}"#,
      "[]",
    ] {
      assert!(!token(claims).administers_server(), "{claims}");
    }
    assert!(!Token::new("not.a-web.token").administers_server());
  }
}
