//! What the server itself asks of others over HTTP: connections with limits, answers of a bounded
//! size, and what messages say of both.

pub mod network;

use std::error::Error;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::Client;
use reqwest::ClientBuilder;
use reqwest::Response;
use reqwest::Url;
use reqwest::redirect;
use serde_json::Value;
use url::Host;

/// Most of an error's body that is read, in bytes, and of its text that is told, in characters.
const MAX_ERROR_BODY: usize = 64 << 10;
const MAX_DETAIL: usize = 300;

/// A client with this many idle connections to one host, and this long, spares handshakes and holds
/// no crowd of sockets.
const MAX_IDLE: usize = 4;
const IDLE: Duration = Duration::from_secs(30);

/// Until a connection stands, and from connecting to the end of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
  pub connect: Duration,
  pub request: Duration,
}

/// A client for the server at `url`. It follows no redirection: neither tokens nor texts go where
/// nobody sent them. `certificates` is a PEM file with authorities to trust besides the platform's.
///
/// # Errors
/// When no connection could ever be made; the reason.
pub fn client(
  url: &Url,
  certificates: Option<&Path>,
  patience: Patience,
) -> Result<Client, String> {
  built(builder(url, certificates, patience.connect)?.timeout(patience.request))
}

/// Where a client may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
  /// Wherever this machine can.
  Anywhere,
  /// The public network: see [`network`].
  PublicNetwork,
}

/// A client for answers that arrive piece by piece: as [`client()`], but the caller bounds the time of
/// an answer, and what is compressed stays so, for a small answer may unpack to a huge one.
///
/// With [`Reach::PublicNetwork`] the caller checks every URL with [`network::check_literal`]; names are
/// judged by the addresses that they resolve to. No proxy is used then: it would resolve names by itself.
///
/// # Errors
/// When no connection could ever be made; the reason.
pub fn streaming_client(
  url: &Url,
  certificates: Option<&Path>,
  connect: Duration,
  reach: Reach,
) -> Result<Client, String> {
  let mut builder = builder(url, certificates, connect)?
    .no_gzip()
    .no_brotli()
    .no_zstd()
    .no_deflate()
    .pool_idle_timeout(IDLE)
    .pool_max_idle_per_host(MAX_IDLE);
  if reach == Reach::PublicNetwork {
    builder = builder.no_proxy().dns_resolver(network::PublicResolver);
  }
  built(builder)
}

fn builder(
  url: &Url,
  certificates: Option<&Path>,
  connect: Duration,
) -> Result<ClientBuilder, String> {
  let mut builder = Client::builder()
    .user_agent(concat!("deno-app-engine/", env!("CARGO_PKG_VERSION")))
    .connect_timeout(connect)
    .redirect(redirect::Policy::none());
  // A proxy cannot reach this machine's own addresses.
  if is_loopback(url) {
    builder = builder.no_proxy();
  }
  if url.scheme() == "http" {
    // Machines without any authorities can do without them here.
    builder = builder.tls_certs_only([]);
  } else if let Some(path) = certificates {
    builder = builder.tls_certs_merge(authorities(path)?);
  }
  Ok(builder)
}

fn built(builder: ClientBuilder) -> Result<Client, String> {
  builder
    .build()
    .map_err(|error| format!("no HTTPS connection can be made: {}", reason(&error)))
}

#[expect(
  clippy::disallowed_methods,
  reason = "one small file, when a client is made"
)]
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

/// Why a body was not read to its end.
pub enum Unread {
  TooLarge,
  Failed(reqwest::Error),
}

/// The body of an answer, of at most `limit` bytes.
///
/// # Errors
/// When it is longer, or the connection breaks.
pub async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, Unread> {
  let announced = response.content_length().unwrap_or(0);
  if usize::try_from(announced).map_or(true, |length| length > limit) {
    return Err(Unread::TooLarge);
  }
  let mut body = Vec::new();
  while let Some(chunk) = response.chunk().await.map_err(Unread::Failed)? {
    if chunk.len() > limit - body.len() {
      return Err(Unread::TooLarge);
    }
    body.extend_from_slice(&chunk);
  }
  Ok(body)
}

/// The JSON of an answer that says why not; null when it is none, or too long.
pub async fn error_body(response: Response) -> Value {
  serde_json::from_slice(&error_bytes(response).await).unwrap_or_default()
}

/// The body of an answer that says why not: its beginning, when it is long or breaks off.
pub async fn error_bytes(mut response: Response) -> Vec<u8> {
  let mut body = Vec::new();
  while body.len() < MAX_ERROR_BODY
    && let Ok(Some(chunk)) = response.chunk().await
  {
    body.extend_from_slice(&chunk);
  }
  body
}

/// Whether an address is this machine's own.
pub fn is_loopback(url: &Url) -> bool {
  match url.host() {
    Some(Host::Domain(name)) => name == "localhost",
    Some(Host::Ipv4(ip)) => Ipv4Addr::is_loopback(&ip),
    Some(Host::Ipv6(ip)) => Ipv6Addr::is_loopback(&ip),
    None => false,
  }
}

/// The address of `segments` below `base`, which is an http URL and may have a path.
pub fn below(base: &Url, segments: &[&str]) -> Url {
  let mut url = base.clone();
  // Every http URL has a path.
  if let Ok(mut path) = url.path_segments_mut() {
    path.pop_if_empty().extend(segments);
  }
  url
}

/// A URL as messages show it.
pub fn shown(url: &Url) -> String {
  let mut url = url.clone();
  url.set_query(None);
  url.set_fragment(None);
  // Cannot fail for http and https; other addresses have none.
  let _ = url.set_username("");
  let _ = url.set_password(None);
  url.into()
}

/// The innermost cause. The outer ones say only that a request failed.
pub fn reason(error: &reqwest::Error) -> String {
  let mut cause: &dyn Error = error;
  while let Some(inner) = cause.source() {
    cause = inner;
  }
  cause.to_string()
}

/// Why `body` could not be read as the JSON that was expected.
pub fn unreadable(body: &[u8], error: &serde_json::Error) -> String {
  use serde_json::error::Category;
  let start = body.trim_ascii_start();
  if start.starts_with(b"<") {
    return "the answer is a web page, not JSON".into();
  }
  match error.classify() {
    Category::Eof if start.is_empty() => "the answer is empty".into(),
    Category::Eof => "the answer is cut short".into(),
    Category::Data => format!("the answer is other JSON than expected: {error}"),
    Category::Syntax | Category::Io => format!("the answer is not JSON: {error}"),
  }
}

/// What another server says, on one line, and not too much of it.
pub fn printable(text: &str) -> String {
  let blank = |c: char| if c.is_control() { ' ' } else { c };
  text.chars().map(blank).take(MAX_DETAIL).collect()
}
