//! Rewrites the heads of messages on their way through.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::Version;
use axum::http::header;
use axum::http::uri::PathAndQuery;

use crate::site;
use crate::site::Site;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that hold for one connection only (RFC 9110 section 7.6.1 and its predecessors).
const HOP_BY_HOP: [HeaderName; 8] = [
  header::CONNECTION,
  HeaderName::from_static("keep-alive"),
  HeaderName::from_static("proxy-connection"),
  header::PROXY_AUTHENTICATE,
  header::PROXY_AUTHORIZATION,
  header::TE,
  header::TRANSFER_ENCODING,
  header::UPGRADE,
];

/// A request extension: the `Authorization` header was meant for the engine, so the app does not
/// get it.
#[derive(Debug, Clone, Copy)]
pub struct EngineToken;

/// Rewrites a client's request to the one that the app gets. Returns whether it asks to switch
/// protocols; `None` if the path cannot be sent.
pub(crate) fn rewrite_request(
  request: &mut Request,
  site: &Site,
  path_and_query: &str,
) -> Option<bool> {
  if !path_and_query.starts_with('/') {
    return None;
  }
  let target: PathAndQuery = path_and_query.parse().ok()?;
  // The authority does not matter: a connector knows where its app is.
  let uri = Uri::builder().scheme("http").authority("localhost");
  let uri = uri.path_and_query(target).build().ok()?;
  let prefix = site.prefix.as_deref().map(HeaderValue::from_str);
  let prefix = prefix.transpose().ok()?;

  let client_uri = std::mem::replace(request.uri_mut(), uri);
  let client_version = std::mem::replace(request.version_mut(), Version::HTTP_11);
  let extensions = std::mem::take(request.extensions_mut());
  let headers = request.headers_mut();

  // A request that was addressed in full is meant for that host (RFC 9112 section 3.2.2).
  let host = match client_uri.authority() {
    Some(authority) => {
      let host = authority.as_str().rsplit('@').next();
      host.and_then(|host| HeaderValue::from_str(host).ok())
    }
    None => headers.get(header::HOST).cloned(),
  };
  let upgrade = remove_connection_headers(headers);
  if client_version < Version::HTTP_11 {
    headers.remove(header::EXPECT);
  }
  if extensions.get::<EngineToken>().is_some() {
    headers.remove(header::AUTHORIZATION);
  }
  site::remove_engine_cookies(headers);
  let client = extensions.get().map(|ConnectInfo(client)| *client);
  add_forwarded(headers, client, host, prefix);
  Some(upgrade)
}

/// Rewrites an app's response to the one that the client gets.
pub(crate) fn rewrite_response<B>(response: &mut Response<B>) {
  let status = response.status();
  let protocol = response.headers().get(header::UPGRADE).cloned();
  let headers = response.headers_mut();
  if headers.contains_key(header::TRANSFER_ENCODING) {
    // The two together are ambiguous, and the other is removed below.
    headers.remove(header::CONTENT_LENGTH);
  }
  remove_hop_by_hop(headers);
  if let Some(protocol) = protocol
    && (status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::UPGRADE_REQUIRED)
  {
    set_upgrade(headers, protocol);
  }
  *response.version_mut() = Version::HTTP_11;
  response.extensions_mut().clear();
}

/// Removes what holds for the client's connection only, but asks the app for the upgrade, the trailers
/// and the coding that the client asked for. Returns whether it asks to switch protocols.
fn remove_connection_headers(headers: &mut HeaderMap) -> bool {
  let coding = headers.get(header::TRANSFER_ENCODING).cloned();
  let trailers = has_token(headers, &header::TE, "trailers");
  // Requests over h2c would pass unchecked.
  let asks = has_token(headers, &header::CONNECTION, "upgrade");
  let protocol = headers.get(header::UPGRADE).cloned();
  let protocol = protocol.filter(|_| asks && !has_token(headers, &header::UPGRADE, "h2c"));
  remove_hop_by_hop(headers);
  if let Some(coding) = coding {
    headers.insert(header::TRANSFER_ENCODING, coding);
  }
  let upgrade = protocol.is_some();
  if let Some(protocol) = protocol {
    set_upgrade(headers, protocol);
  } else if trailers {
    headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
  }
  upgrade
}

/// Adds `X-Forwarded-*`: the client and the address that it asked for.
fn add_forwarded(
  headers: &mut HeaderMap,
  client: Option<SocketAddr>,
  host: Option<HeaderValue>,
  prefix: Option<HeaderValue>,
) {
  remove_look_alikes(headers);
  remove_claims(headers);
  headers.remove(header::FORWARDED);
  if let Some(client) = client {
    let client = client.ip().to_canonical().to_string();
    let mut chain: Vec<&[u8]> = headers
      .get_all(FORWARDED_FOR)
      .iter()
      .map(HeaderValue::as_bytes)
      .collect();
    chain.push(client.as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain.join(b", ".as_slice())) {
      headers.insert(FORWARDED_FOR, chain);
    }
  }
  headers.remove(header::HOST);
  headers.remove(FORWARDED_HOST);
  if let Some(host) = host {
    headers.insert(header::HOST, host.clone());
    headers.insert(FORWARDED_HOST, host);
  }
  // The server speaks no TLS itself.
  headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
  headers.remove(FORWARDED_PREFIX);
  if let Some(prefix) = prefix {
    headers.insert(FORWARDED_PREFIX, prefix);
  }
}

/// Removes headers that only a proxy may set and this one does not: an app would believe the client.
fn remove_claims(headers: &mut HeaderMap) {
  let is_one = |name: &&HeaderName| {
    let said_here = [
      FORWARDED_FOR,
      FORWARDED_HOST,
      FORWARDED_PREFIX,
      FORWARDED_PROTO,
    ];
    let name = name.as_str().replace('_', "-");
    let others = [
      "x-real-ip",
      "x-original-url",
      "x-original-host",
      "x-rewrite-url",
    ];
    others.contains(&name.as_str())
      || (name.starts_with("x-forwarded-") && !said_here.iter().any(|it| *it == name.as_str()))
  };
  let claims: Vec<HeaderName> = headers.keys().filter(is_one).cloned().collect();
  for name in claims {
    headers.remove(name);
  }
}

/// Removes headers such as `X_Forwarded_Host`: to CGI and WSGI that is `X-Forwarded-Host`.
fn remove_look_alikes(headers: &mut HeaderMap) {
  let is_one = |name: &&HeaderName| {
    name.as_str().contains('_') && name.as_str().replace('_', "-").starts_with("x-forwarded-")
  };
  let look_alikes: Vec<HeaderName> = headers.keys().filter(is_one).cloned().collect();
  for name in look_alikes {
    headers.remove(name);
  }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
  let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
    .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
    .collect();
  for name in named.iter().chain(&HOP_BY_HOP) {
    headers.remove(name);
  }
}

fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
  headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
  headers.insert(header::UPGRADE, protocol);
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
  tokens(headers, name).any(|it| it.eq_ignore_ascii_case(token))
}

/// The members of a header that is a comma-separated list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
  let values = headers.get_all(name).into_iter();
  values
    .filter_map(|value| value.to_str().ok())
    .flat_map(|value| value.split(','))
    .map(str::trim)
}
