//! Asking a provider over HTTP: again where that may help, and never for longer or for more than the
//! limits say.

use std::path::Path;
use std::time::Duration;

use access::Secret;
use outbound::Patience;
use outbound::Unread;
use outbound::printable;
use outbound::reason;
use outbound::shown;
use outbound::unreadable;
use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Time limits and retries of requests to a provider.
#[derive(Debug, Clone)]
pub struct HttpLimits {
  pub patience: Patience,
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
      patience: Patience {
        connect: Duration::from_secs(5),
        // A server may load its model first.
        request: Duration::from_secs(60),
      },
      waits: [250, 1000, 4000].map(Duration::from_millis).into(),
      longest_wait: Duration::from_secs(20),
      answer: 64 << 20,
    }
  }
}

/// A URL for POST requests.
pub(crate) struct Endpoint {
  http: Client,
  url: Url,
  secret: Option<Secret>,
  limits: HttpLimits,
}

/// Why an attempt failed.
struct Failure {
  reason: String,
  /// Whether asking again may help.
  may_pass: bool,
  /// The pause that the provider asks for.
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
  /// When no connection can be made; the reason.
  pub(super) fn new(
    base: &Url,
    segments: &[&str],
    secret: Option<Secret>,
    limits: HttpLimits,
    certificates: Option<&Path>,
  ) -> Result<Self, String> {
    let url = outbound::below(base, segments);
    let http = outbound::client(&url, certificates, limits.patience)?;
    Ok(Self {
      http,
      url,
      secret,
      limits,
    })
  }

  /// # Errors
  /// Why there is no answer, without secrets.
  pub(super) async fn ask<T: DeserializeOwned>(&self, body: &Value) -> Result<T, String> {
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
    let response = request.send().await.map_err(|e| self.failure(&e))?;
    let status = response.status();
    if !status.is_success() {
      let wait = retry_after(&response);
      let detail = detail(response).await;
      return Err(Failure {
        reason: format!("{} answered {status}: {detail}", shown(&self.url)),
        may_pass: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        wait,
      });
    }
    let limit = self.limits.answer;
    outbound::body(response, limit)
      .await
      .map_err(|unread| match unread {
        Unread::Failed(error) => self.failure(&error),
        Unread::TooLarge => Failure::lasting(format!(
          "{}: the answer exceeds {limit} bytes",
          shown(&self.url)
        )),
      })
  }

  fn failure(&self, error: &reqwest::Error) -> Failure {
    let url = shown(&self.url);
    if error.is_timeout() && !error.is_connect() {
      let limit = self.limits.patience.request;
      return Failure::lasting(format!("{url} did not answer within {limit:?}"));
    }
    let why = if error.is_timeout() {
      format!("none within {:?}", self.limits.patience.connect)
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

/// The message of an error answer: `error`, `error.message` or `detail`.
async fn detail(response: Response) -> String {
  let said = outbound::error_body(response).await;
  let text = [&said["error"]["message"], &said["error"], &said["detail"]]
    .into_iter()
    .find_map(Value::as_str)
    .unwrap_or("the answer says no more");
  printable(text)
}
