//! One server over HTTP: what is asked of it, and how long and how much of an answer is waited for.

use std::path::Path;
use std::time::Duration;

use access::Secret;
use outbound::Patience;
use outbound::Unread;
use outbound::printable;
use outbound::reason;
use outbound::shown;
use reqwest::Client;
use reqwest::Request;
use reqwest::Response;
use reqwest::Url;
use reqwest::header;
use serde_json::Value;

use crate::error::ArtifactsError;

/// Limits of time and size.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
  pub(crate) patience: Patience,
  pub(crate) listing: Duration,
  /// Pauses before the second and the third try.
  pub(crate) waits: [Duration; 2],
  pub(crate) page: usize,
  pub(crate) apps: usize,
  /// Most bytes of all pages of a listing together, and of any other answer.
  pub(crate) body: usize,
}

impl Default for Limits {
  fn default() -> Self {
    Self {
      patience: Patience {
        connect: Duration::from_secs(5),
        request: Duration::from_secs(30),
      },
      listing: Duration::from_secs(120),
      waits: [Duration::from_millis(250), Duration::from_secs(1)],
      page: 100,
      apps: 10_000,
      body: 64 << 20,
    }
  }
}

#[derive(Debug)]
pub(crate) struct Server {
  pub(crate) http: Client,
  /// It may have a path.
  pub(crate) address: Url,
  pub(crate) limits: Limits,
}

impl Server {
  /// # Errors
  /// When the address cannot work, or the certificates cannot be read.
  pub(crate) fn new(
    address: Url,
    certificates: Option<&Path>,
    limits: Limits,
  ) -> Result<Self, ArtifactsError> {
    let wrong = |text: &str| Err(ArtifactsError::Setting(text.into()));
    if !matches!(address.scheme(), "http" | "https") {
      return wrong("HYPHA_SERVER_URL: write http://host or https://host");
    }
    if !address.username().is_empty() || address.password().is_some() {
      return wrong("HYPHA_SERVER_URL: leave out user name and password, and set HYPHA_TOKEN");
    }
    if address.query().is_some() || address.fragment().is_some() {
      return wrong("HYPHA_SERVER_URL: leave out what follows `?` or `#`");
    }
    let http =
      outbound::client(&address, certificates, limits.patience).map_err(ArtifactsError::Setting)?;
    Ok(Self {
      http,
      address,
      limits,
    })
  }

  pub(crate) fn url(&self, segments: &[&str]) -> Url {
    outbound::below(&self.address, segments)
  }

  /// Sends a request with a token, again if that may help.
  pub(crate) async fn ask(
    &self,
    mut request: Request,
    token: Option<&Secret>,
    limit: usize,
  ) -> Result<Vec<u8>, ArtifactsError> {
    if let Some(token) = token {
      let bearer = format!("Bearer {}", token.expose());
      let mut bearer = header::HeaderValue::from_str(&bearer)
        .map_err(|_| ArtifactsError::Setting("the token is none: it has blanks".into()))?;
      bearer.set_sensitive(true);
      request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let mut waits = self.limits.waits.iter();
    loop {
      match (self.send(&request, token, limit).await, waits.next()) {
        (Err(error), Some(wait)) if error.may_pass() => {
          tracing::debug!("{error}; trying again in {wait:?}");
          tokio::time::sleep(*wait).await;
        }
        (outcome, _) => return outcome,
      }
    }
  }

  async fn send(
    &self,
    request: &Request,
    token: Option<&Secret>,
    limit: usize,
  ) -> Result<Vec<u8>, ArtifactsError> {
    let url = shown(request.url());
    let failed = |error: reqwest::Error| self.failure(&url, &error);
    let Some(request) = request.try_clone() else {
      // Only a request with a streamed body cannot be sent twice.
      return Err(ArtifactsError::Setting(
        "a request was not repeatable".into(),
      ));
    };
    let response = self.http.execute(request).await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
      let detail = detail(response, token).await;
      return Err(ArtifactsError::Status {
        url,
        status,
        detail,
      });
    }
    outbound::body(response, limit)
      .await
      .map_err(|unread| match unread {
        Unread::Failed(error) => failed(error),
        Unread::TooLarge => ArtifactsError::TooLarge {
          url: url.clone(),
          limit,
        },
      })
  }

  fn failure(&self, url: &str, error: &reqwest::Error) -> ArtifactsError {
    let url = url.to_owned();
    if error.is_timeout() && !error.is_connect() {
      let limit = self.limits.patience.request;
      return ArtifactsError::TimedOut { url, limit };
    }
    let reason = if error.is_timeout() {
      format!("none within {:?}", self.limits.patience.connect)
    } else {
      reason(error)
    };
    let remedy = if reason.contains("certificate") {
      "name a PEM file with its authority in DENO_CERT"
    } else {
      "does the Hypha server run, and is HYPHA_SERVER_URL its address?"
    };
    ArtifactsError::Connection {
      url,
      reason: format!("{reason}; {remedy}"),
    }
  }
}

/// Text of an error answer: the server's `detail`, or the target of a redirection.
async fn detail(response: Response, token: Option<&Secret>) -> String {
  if response.status().is_redirection() {
    let target = response.headers().get(header::LOCATION);
    let target = target.and_then(|value| response.url().join(value.to_str().ok()?).ok());
    return target.map_or_else(
      || "a redirection to nowhere".into(),
      |url| format!("a redirection to {}", shown(&url)),
    );
  }
  let mut detail = match outbound::error_body(response).await["detail"].take() {
    Value::Null => String::new(),
    Value::String(text) => printable(&text),
    other => printable(&other.to_string()),
  };
  if let Some(token) = token {
    detail = detail.replace(token.expose(), "[secret]");
  }
  if detail.is_empty() {
    detail = "the answer says no more".into();
  }
  detail
}
