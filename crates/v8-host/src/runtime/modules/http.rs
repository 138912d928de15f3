//! Fetching modules and packages, inside what the kernel may import from.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use ::http::HeaderMap;
use ::http::HeaderValue;
use ::http::Request;
use ::http::StatusCode;
use ::http::header;
use async_trait::async_trait;
use deno_cache_dir::file_fetcher::HttpClient;
use deno_cache_dir::file_fetcher::SendError;
use deno_cache_dir::file_fetcher::SendResponse;
use deno_core::url::Url;
use deno_error::JsErrorBox;
use deno_npm_cache::DownloadError;
use deno_npm_cache::NpmCacheHttpClient;
use deno_npm_cache::NpmCacheHttpClientBytesResponse;
use deno_npm_cache::NpmCacheHttpClientResponse;
use deno_npmrc::RegistryConfig;
use deno_runtime::deno_fetch::Client;
use deno_runtime::deno_fetch::CreateHttpClientOptions;
use deno_runtime::deno_fetch::ReqBody;
use deno_runtime::deno_fetch::create_http_client;
use deno_runtime::deno_fetch::dns::ResolvedDenyCheckKind;
use deno_runtime::deno_tls::RootCertStoreProvider;
use http_body_util::BodyExt;
use kernel_protocol::RegistryAuth;
use outbound::shown;

use crate::runtime::certificates::TrustedRoots;
use crate::runtime::identity::user_agent;
use crate::runtime::modules::access::Access;
use crate::runtime::modules::access::Registries;

/// How long a server may stay silent.
const SILENCE: Duration = Duration::from_secs(30);
/// Largest module or package archive, in bytes.
const MAX_BYTES: usize = 256 << 20;
/// Waits before a request that found no server, or a failing one, is sent again.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// Redirects that a package download follows.
pub(super) const MAX_REDIRECTS: usize = 5;
/// npm's short form of a package's versions, where a registry has it.
const PACKAGE_INFORMATION: HeaderValue = HeaderValue::from_static(
  "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*",
);

#[derive(Debug, Clone)]
pub(super) struct RemoteModules(Arc<Inner>);

#[derive(Debug)]
struct Inner {
  access: Access,
  registries: Registries,
  roots: Arc<TrustedRoots>,
  /// What opens the registries.
  auth: Mutex<Vec<RegistryAuth>>,
  /// Refuses addresses that the kernel may not import from, also when a name leads to one.
  guarded: OnceLock<Client>,
  /// For the operator's registries.
  trusting: OnceLock<Client>,
}

struct Answer {
  status: StatusCode,
  headers: HeaderMap,
  body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
  #[error("{0}")]
  Connect(String),
  #[error("the server did not answer within {} s", SILENCE.as_secs())]
  Silent,
  #[error("the answer is larger than {} MiB", MAX_BYTES >> 20)]
  TooLarge,
  #[error("{0}")]
  Denied(JsErrorBox),
  #[error("{0}")]
  Other(String),
}

impl RemoteModules {
  pub(super) fn new(access: Access, registries: Registries, roots: Arc<TrustedRoots>) -> Self {
    Self(Arc::new(Inner {
      access,
      registries,
      roots,
      auth: Mutex::default(),
      guarded: OnceLock::new(),
      trusting: OnceLock::new(),
    }))
  }

  pub(super) fn open(&self, auth: &[RegistryAuth]) {
    *self.auth() = auth.to_vec();
  }

  fn authorization(&self, url: &Url) -> Option<HeaderValue> {
    let auth = self.auth();
    let opens = auth
      .iter()
      .find(|auth| url.as_str().starts_with(&auth.place))?;
    let mut value = HeaderValue::from_str(&opens.authorization).ok()?;
    value.set_sensitive(true);
    Some(value)
  }

  fn auth(&self) -> MutexGuard<'_, Vec<RegistryAuth>> {
    self.0.auth.lock().unwrap_or_else(PoisonError::into_inner)
  }

  /// `registry`: what is asked for is the operator's choice.
  fn client(&self, registry: bool) -> Result<Client, FetchError> {
    let guarded = !registry;
    let slot = if guarded {
      &self.0.guarded
    } else {
      &self.0.trusting
    };
    if let Some(client) = slot.get() {
      return Ok(client.clone());
    }
    let roots = self.0.roots.get_or_try_init();
    let options = CreateHttpClientOptions {
      root_cert_store: Some(roots.map_err(|e| FetchError::Other(e.to_string()))?.clone()),
      permissions: guarded.then(|| self.0.access.permissions()),
      resolved_deny_check_kind: ResolvedDenyCheckKind::Import,
      ..Default::default()
    };
    let client =
      create_http_client(&user_agent(), options).map_err(|e| FetchError::Other(e.to_string()))?;
    Ok(slot.get_or_init(|| client).clone())
  }

  /// One GET, sent again while there is hope. Redirects are not followed.
  async fn get(
    &self,
    url: &Url,
    headers: &HeaderMap,
    registry: bool,
  ) -> Result<Answer, FetchError> {
    let access = self.0.access.check(url, registry);
    access.map_err(FetchError::Denied)?;
    let mut waits = RETRY_AFTER.into_iter();
    loop {
      let result = self.get_once(url, headers, registry).await;
      let hopeful = match &result {
        Ok(answer) => answer.status.is_server_error(),
        Err(error) => matches!(error, FetchError::Connect(_)),
      };
      match waits.next() {
        Some(wait) if hopeful => tokio::time::sleep(wait).await,
        _ => return result,
      }
    }
  }

  async fn get_once(
    &self,
    url: &Url,
    headers: &HeaderMap,
    registry: bool,
  ) -> Result<Answer, FetchError> {
    let mut request = Request::get(url.as_str())
      .body(ReqBody::empty())
      .map_err(|e| FetchError::Other(e.to_string()))?;
    *request.headers_mut() = headers.clone();
    if let Some(authorization) = self.authorization(url) {
      let headers = request.headers_mut();
      headers
        .entry(header::AUTHORIZATION)
        .or_insert(authorization);
    }
    let sent = self.client(registry)?.send(request);
    let response = tokio::time::timeout(SILENCE, sent)
      .await
      .map_err(|_| FetchError::Silent)?
      .map_err(|e| match e.is_connect_error() {
        true => FetchError::Connect(e.to_string()),
        false => FetchError::Other(e.to_string()),
      })?;
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = tokio::time::timeout(SILENCE, stream.frame())
      .await
      .map_err(|_| FetchError::Silent)?
    {
      let frame = frame.map_err(|e| FetchError::Other(e.to_string()))?;
      if let Ok(data) = frame.into_data() {
        if body.len() + data.len() > MAX_BYTES {
          return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&data);
      }
    }
    Ok(Answer {
      status: head.status,
      headers: head.headers,
      body,
    })
  }

  /// A GET that follows redirects; credentials stay with the host they are for.
  async fn download(&self, mut url: Url, mut headers: HeaderMap) -> Result<Answer, FetchError> {
    for _ in 0..=MAX_REDIRECTS {
      let registry = self.0.registries.have_packages(&url);
      let answer = self.get(&url, &headers, registry).await?;
      if !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
        return Ok(answer);
      }
      let location = answer.headers.get(header::LOCATION);
      let next = location
        .and_then(|l| l.to_str().ok())
        .and_then(|l| url.join(l).ok())
        .ok_or_else(|| FetchError::Other(format!("{} redirects to nowhere", shown(&url))))?;
      if next.origin() != url.origin() {
        headers.remove(header::AUTHORIZATION);
      }
      url = next;
    }
    Err(FetchError::Other(format!(
      "{}: more than {MAX_REDIRECTS} redirects",
      shown(&url)
    )))
  }
}

#[async_trait(?Send)]
impl HttpClient for RemoteModules {
  async fn send_no_follow(&self, url: &Url, headers: HeaderMap) -> Result<SendResponse, SendError> {
    let registry = self.0.registries.have_modules(url);
    let answer = self
      .get(url, &headers, registry)
      .await
      .map_err(|e| SendError::Failed(Box::new(e)))?;
    match answer.status {
      StatusCode::NOT_MODIFIED => Ok(SendResponse::NotModified),
      StatusCode::NOT_FOUND => Err(SendError::NotFound),
      status if status.is_redirection() => Ok(SendResponse::Redirect(answer.headers)),
      status if status.is_success() => Ok(SendResponse::Success(answer.headers, answer.body)),
      status => Err(SendError::StatusCode(status)),
    }
  }
}

#[async_trait(?Send)]
impl NpmCacheHttpClient for RemoteModules {
  async fn download_with_retries_on_any_tokio_runtime(
    &self,
    url: Url,
    auth: Option<String>,
    etag: Option<String>,
    _: Option<&RegistryConfig>,
  ) -> Result<NpmCacheHttpClientResponse, DownloadError> {
    let failed = |status_code: Option<StatusCode>, message: String| DownloadError {
      status_code: status_code.map(|s| s.as_u16()),
      error: JsErrorBox::generic(message),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, PACKAGE_INFORMATION);
    for (name, value) in [(header::AUTHORIZATION, auth), (header::IF_NONE_MATCH, etag)] {
      if let Some(value) = value {
        let value = HeaderValue::try_from(value)
          .map_err(|_| failed(None, format!("{name}: not a header value")))?;
        headers.insert(name, value);
      }
    }
    let answer = self
      .download(url.clone(), headers)
      .await
      .map_err(|e| match e {
        FetchError::Denied(error) => DownloadError {
          status_code: None,
          error,
        },
        other => failed(None, format!("{}: {other}", shown(&url))),
      })?;
    match answer.status {
      StatusCode::NOT_FOUND => Ok(NpmCacheHttpClientResponse::NotFound),
      StatusCode::NOT_MODIFIED => Ok(NpmCacheHttpClientResponse::NotModified),
      status if status.is_success() => {
        let etag = answer.headers.get(header::ETAG);
        Ok(NpmCacheHttpClientResponse::Bytes(
          NpmCacheHttpClientBytesResponse {
            etag: etag.and_then(|e| e.to_str().ok()).map(str::to_owned),
            bytes: answer.body,
          },
        ))
      }
      status => Err(failed(Some(status), format!("{}: {status}", shown(&url)))),
    }
  }
}
