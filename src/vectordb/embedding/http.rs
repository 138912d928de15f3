//! Asking a provider over HTTP: again where that may help, and never for longer or for more than the
//! limits say.

use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header;
use reqwest::redirect;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Secret;

/// What is read of the answer that says why not.
const MAX_ERROR_BODY: usize = 4096;
/// Characters of it that are shown.
const MAX_DETAIL: usize = 300;

/// How long and how often a provider is asked.
#[derive(Debug, Clone)]
pub struct HttpLimits {
  /// Until a connection stands.
  pub connect: Duration,
  /// For one request, with its answer. A server may load its model first.
  pub request: Duration,
  /// Before each further attempt.
  pub waits: Vec<Duration>,
  /// The most that a provider may have us wait with `Retry-After`.
  pub longest_wait: Duration,
  /// Bytes of an answer.
  pub answer: usize,
}

impl Default for HttpLimits {
  fn default() -> Self {
    Self {
      connect: Duration::from_secs(5),
      request: Duration::from_secs(60),
      waits: [250, 1000, 4000].map(Duration::from_millis).into(),
      longest_wait: Duration::from_secs(20),
      answer: 64 << 20,
    }
  }
}

/// One address that is asked with POST.
pub(super) struct Endpoint {
  http: Client,
  url: Url,
  secret: Option<Secret>,
  limits: HttpLimits,
}

/// Why an attempt brought nothing.
struct Failure {
  reason: String,
  /// Whether asking again may help.
  may_pass: bool,
  /// What the provider asks us to wait.
  wait: Option<Duration>,
}

impl Failure {
  fn lasting(reason: String) -> Self {
    Self {
      reason,
      may_pass: false,
      wait: None,
    }
  }
}

impl Endpoint {
  /// # Errors
  /// When no connection could ever be made; the reason.
  pub fn new(
    base: &Url,
    segments: &[&str],
    secret: Option<Secret>,
    limits: HttpLimits,
    certificates: Option<&Path>,
  ) -> Result<Self, String> {
    let mut url = base.clone();
    // Every http URL has a path.
    if let Ok(mut path) = url.path_segments_mut() {
      path.pop_if_empty().extend(segments);
    }
    let mut builder = Client::builder()
      .user_agent(concat!(
        env!("CARGO_PKG_NAME"),
        "/",
        env!("CARGO_PKG_VERSION")
      ))
      .connect_timeout(limits.connect)
      .timeout(limits.request)
      // Neither texts nor keys go where nobody sent them.
      .redirect(redirect::Policy::none());
    if is_loopback(&url) {
      builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
      // Machines without any authorities can do without them here.
      builder = builder.tls_certs_only([]);
    } else if let Some(path) = certificates {
      builder = builder.tls_certs_merge(authorities(path)?);
    }
    let http = builder.build().map_err(|e| reason(&e))?;
    Ok(Self {
      http,
      url,
      secret,
      limits,
    })
  }

  /// # Errors
  /// Why there is no answer, without secrets.
  pub async fn ask<T: DeserializeOwned>(&self, body: &Value) -> Result<T, String> {
    let mut waits = self.limits.waits.iter();
    let answer = loop {
      let failure = match self.attempt(body).await {
        Ok(answer) => break answer,
        Err(failure) => failure,
      };
      let Some(wait) = waits.next().filter(|_| failure.may_pass) else {
        return Err(self.clean(&failure.reason));
      };
      let wait = failure.wait.map_or(*wait, |asked| asked.max(*wait));
      if wait > self.limits.longest_wait {
        return Err(self.clean(&format!(
          "{}; it asks to wait {} s",
          failure.reason,
          wait.as_secs()
        )));
      }
      tracing::debug!("{}; trying again in {wait:?}", self.clean(&failure.reason));
      tokio::time::sleep(wait).await;
    };
    serde_json::from_slice(&answer).map_err(|error| {
      self.clean(&format!(
        "{} answered no embeddings: {}",
        shown(&self.url),
        unreadable(&answer, &error)
      ))
    })
  }

  async fn attempt(&self, body: &Value) -> Result<Vec<u8>, Failure> {
    let mut request = self.http.post(self.url.clone()).json(body);
    if let Some(secret) = &self.secret {
      request = request.bearer_auth(secret.expose());
    }
    let mut response = request.send().await.map_err(|e| self.failure(&e))?;
    let status = response.status();
    if !status.is_success() {
      let wait = retry_after(&response);
      let detail = detail(&mut response).await;
      return Err(Failure {
        reason: format!("{} answered {status}: {detail}", shown(&self.url)),
        may_pass: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        wait,
      });
    }
    let limit = self.limits.answer;
    let too_large = || {
      Failure::lasting(format!(
        "{}: the answer exceeds {limit} bytes",
        shown(&self.url)
      ))
    };
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |length| length > limit) {
      return Err(too_large());
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| self.failure(&e))? {
      if chunk.len() > limit - answer.len() {
        return Err(too_large());
      }
      answer.extend_from_slice(&chunk);
    }
    Ok(answer)
  }

  fn failure(&self, error: &reqwest::Error) -> Failure {
    let url = shown(&self.url);
    if error.is_timeout() && !error.is_connect() {
      let limit = self.limits.request;
      return Failure::lasting(format!("{url} did not answer within {limit:?}"));
    }
    let why = if error.is_timeout() {
      format!("none within {:?}", self.limits.connect)
    } else {
      reason(error)
    };
    Failure {
      reason: format!("no connection to {url}: {why}; does the provider run there?"),
      may_pass: true,
      wait: None,
    }
  }

  /// Without the key, should the provider repeat it.
  fn clean(&self, text: &str) -> String {
    match &self.secret {
      Some(secret) => text.replace(secret.expose(), "[secret]"),
      None => text.to_owned(),
    }
  }
}

fn retry_after(response: &Response) -> Option<Duration> {
  let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
  seconds.trim().parse().ok().map(Duration::from_secs)
}

/// What an error answer says: `error`, `error.message` or `detail`.
async fn detail(response: &mut Response) -> String {
  let mut body = Vec::new();
  while body.len() < MAX_ERROR_BODY
    && let Ok(Some(chunk)) = response.chunk().await
  {
    body.extend_from_slice(&chunk);
  }
  let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
  let text = [&said["error"]["message"], &said["error"], &said["detail"]]
    .into_iter()
    .find_map(Value::as_str)
    .unwrap_or("the answer says no more");
  let blank = |c: char| if c.is_control() { ' ' } else { c };
  text.chars().map(blank).take(MAX_DETAIL).collect()
}

fn unreadable(body: &[u8], error: &serde_json::Error) -> String {
  use serde_json::error::Category;
  let start = body.trim_ascii_start();
  if start.starts_with(b"<") {
    return "the answer is a web page, not JSON".into();
  }
  match error.classify() {
    Category::Eof if start.is_empty() => "the answer is empty".into(),
    Category::Eof => "the answer is cut short".into(),
    Category::Data => error.to_string(),
    Category::Syntax | Category::Io => format!("the answer is not JSON: {error}"),
  }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
  let wrong = |why: String| format!("DENO_CERT: `{}`: {why}", path.display());
  let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
  let mut found = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(reason(&e)))?;
  // Bundles of operating systems hold some that rustls cannot use.
  found.retain(|one| {
    let alone = Client::builder().tls_certs_only([one.clone()]);
    alone.build().is_ok()
  });
  if found.is_empty() {
    return Err(wrong("it holds no usable PEM certificate".into()));
  }
  Ok(found)
}

/// A proxy cannot reach this machine's own addresses.
fn is_loopback(url: &Url) -> bool {
  let host = url.host_str().unwrap_or_default();
  let address = host.trim_start_matches('[').trim_end_matches(']');
  host == "localhost" || address.parse().is_ok_and(|a: IpAddr| a.is_loopback())
}

/// A URL as messages show it.
pub(super) fn shown(url: &Url) -> String {
  let mut url = url.clone();
  url.set_query(None);
  url.set_fragment(None);
  // Cannot fail for http and https; other addresses have none.
  let _ = url.set_username("");
  let _ = url.set_password(None);
  url.into()
}

/// The innermost cause. The outer ones say only that a request failed.
fn reason(error: &reqwest::Error) -> String {
  let mut cause: &dyn Error = error;
  while let Some(inner) = cause.source() {
    cause = inner;
  }
  cause.to_string()
}
