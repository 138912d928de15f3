//! Logging in at a Hypha server, in a browser.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hypha_service::Token;
use outbound::Patience;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

/// How long somebody may take to log in; the server forgets it then.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_secs(1);
const ONE_REQUEST: Patience = Patience {
  connect: Duration::from_secs(10),
  request: Duration::from_secs(15),
};

#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
  #[error(
    "there is no token for {0}: set HYPHA_TOKEN, or start this in a terminal to log in with a browser"
  )]
  NoTerminal(String),
  #[error("logging in at {0}: {1}")]
  Failed(String, String),
  #[error("nobody logged in within {} minutes", PATIENCE.as_secs() / 60)]
  TimedOut,
}

#[derive(Deserialize)]
struct Started {
  login_url: String,
  key: String,
}

/// Prints an address, and waits until somebody has logged in there.
///
/// # Errors
/// When there is no terminal, the server offers no login, or nobody logs in.
pub(super) async fn log_in(
  server: &Url,
  workspace: Option<&str>,
  certificates: Option<&Path>,
) -> Result<Token, LoginError> {
  if !io::stderr().is_terminal() {
    return Err(LoginError::NoTerminal(outbound::shown(server)));
  }
  let failed = |reason: String| LoginError::Failed(outbound::shown(server), reason);
  let client = outbound::client(server, certificates, ONE_REQUEST).map_err(failed)?;
  let service = |method: &str| {
    let base = server.as_str().trim_end_matches('/');
    format!("{base}/public/services/hypha-login/{method}")
  };
  let body = match workspace {
    Some(workspace) => serde_json::json!({ "workspace": workspace }),
    None => serde_json::json!({}),
  };
  let request = client.post(service("start")).json(&body);
  let started: Started = answer(request).await.map_err(&failed)?;
  // Some servers leave out what they cannot know: their own name.
  let address = server
    .join(&started.login_url)
    .map_err(|e| failed(format!("its login page has no address: {e}")))?;
  let _ = writeln!(io::stderr(), "Log in with a browser: {address}");
  let wait = async {
    loop {
      let query = [("key", started.key.as_str()), ("timeout", "0")];
      let request = client.get(service("check")).query(&query);
      match answer(request).await? {
        Value::String(token) => return Ok(Token::new(token)),
        _ => tokio::time::sleep(PAUSE).await,
      }
    }
  };
  match tokio::time::timeout(PATIENCE, wait).await {
    Ok(token) => token.map_err(failed),
    Err(_) => Err(LoginError::TimedOut),
  }
}

async fn answer<T: serde::de::DeserializeOwned>(
  request: reqwest::RequestBuilder,
) -> Result<T, String> {
  let response = request.send().await.map_err(|e| outbound::reason(&e))?;
  let response = response
    .error_for_status()
    .map_err(|e| outbound::reason(&e))?;
  response.json().await.map_err(|e| outbound::reason(&e))
}
