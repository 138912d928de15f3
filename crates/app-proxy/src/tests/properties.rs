//! What holds for every header and address that a client or an app may send.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Version;
use axum::http::header;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::headers;
use crate::headers::EngineToken;
use crate::site;
use crate::site::ENGINE_COOKIE;
use crate::site::Site;
use crate::tests::support::PREFIX;

/// Names of headers with a meaning for a proxy, and of one without.
const NAMES: [&str; 25] = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "content-length",
  "upgrade",
  "expect",
  "host",
  "cookie",
  "set-cookie",
  "authorization",
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x_forwarded_host",
  "x-forwarded-prefix",
  "x-forwarded-user",
  "x-real-ip",
  "x_original_url",
  "location",
  "content-security-policy",
  "x-plain",
];

/// Parts of values that mean something in one of those headers.
const PARTS: [&str; 33] = [
  "deno_app_engine",
  "Deno_App_Engine_session",
  "__Host-",
  "__secure-",
  "a",
  "=",
  "==",
  ";",
  "; ",
  ",",
  " ",
  "\t",
  "/",
  "..",
  "%2e%2e",
  "/apps/hello",
  "/apps/hello2",
  "Path",
  "pAtH=/",
  "Path=/apps/hello/",
  "Path=",
  "Domain=",
  "localhost",
  "close",
  "upgrade",
  "websocket",
  "h2c",
  "te",
  "trailers",
  "chunked",
  "x-plain",
  "http://127.0.0.1:8000/",
  "\"",
];

fn any_value() -> impl Strategy<Value = HeaderValue> {
  let part = prop_oneof![
    4 => select(&PARTS[..]).prop_map(|part| part.as_bytes().to_vec()),
    1 => vec(any::<u8>(), 0..4),
  ];
  vec(part, 0..8).prop_filter_map("not a value", |parts| {
    HeaderValue::from_bytes(&parts.concat()).ok()
  })
}

/// A cookie as an app may set it, with attributes in any spelling.
fn cookie() -> impl Strategy<Value = HeaderValue> {
  let blank = || select(&["", " ", "\t"][..]);
  let name = select(
    &[
      "path", "Path", "PATH", "domain", "Domain", "DoMain", "secure", "max-age",
    ][..],
  );
  let value = prop_oneof![
    select(&PARTS[..]).prop_map(str::to_owned),
    "(/apps/hello|/apps)?[/a-z2.=]{0,4}",
  ];
  let attribute = (
    blank(),
    name,
    blank(),
    select(&["=", ""][..]),
    blank(),
    value,
  );
  let attribute =
    attribute.prop_map(|(a, name, b, is, c, value)| format!("{a}{name}{b}{is}{c}{value}"));
  let pair = prop_oneof![
    Just("a=1".to_owned()),
    "[ =]{0,2}(__Host-|__secure-)?[Dd]eno_app_engine[a-z]?(=1)?",
    vec(select(&PARTS[..]), 0..4).prop_map(|it| it.concat())
  ];
  let whole = (pair, vec(attribute, 0..5)).prop_map(|(pair, attributes)| {
    let text = [vec![pair], attributes].concat().join(";");
    HeaderValue::from_str(&text).expect("blanks and plain characters")
  });
  prop_oneof![whole, any_value()]
}

fn headers() -> impl Strategy<Value = HeaderMap> {
  let name = select(&NAMES[..]).prop_map(HeaderName::from_static);
  vec((name, any_value()), 0..10).prop_map(|headers| {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
      map.append(name, value);
    }
    map
  })
}

fn path() -> impl Strategy<Value = String> {
  prop_oneof![
    "(/[a-z0-9.%~_-]{0,8}){0,4}(\\?[ -~]{0,12})?",
    "\\PC{0,12}",
    vec(select(&PARTS[..]), 0..6).prop_map(|parts| parts.concat()),
  ]
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
  let values = headers.get_all(name).iter();
  values
    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    .collect()
}

/// A cookie as a browser stores it (RFC 6265 section 5.2).
#[derive(Debug)]
struct Stored {
  /// Of a cookie without a name, its value: that is what is sent.
  name: String,
  domain: Option<String>,
  /// `None`: the folder of the address that was asked for.
  path: Option<String>,
}

fn stored(cookie: &HeaderValue) -> Stored {
  let blank = |c: char| c == ' ' || c == '\t';
  let text = String::from_utf8_lossy(cookie.as_bytes()).into_owned();
  let mut parts = text.split(';');
  let pair = parts.next().unwrap_or_default();
  let (name, value) = pair.split_once('=').unwrap_or(("", pair));
  let name = match name.trim_matches(blank) {
    "" => value,
    name => name,
  };
  let mut cookie = Stored {
    name: name.trim_matches(blank).to_owned(),
    domain: None,
    path: None,
  };
  for part in parts {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    let value = value.trim_matches(blank);
    match name.trim_matches(blank).to_ascii_lowercase().as_str() {
      "domain" => cookie.domain = Some(value.to_owned()),
      "path" => cookie.path = Some(value.to_owned()).filter(|path| path.starts_with('/')),
      _ => {}
    }
  }
  cookie
}

/// Whether a server may take a cookie for one of the engine's.
fn is_engines(name: &str) -> bool {
  let name = name.to_ascii_lowercase();
  let name = name.trim_start_matches(['=', ' ', '\t']);
  let bare = name
    .strip_prefix("__host-")
    .or(name.strip_prefix("__secure-"));
  bare.unwrap_or(name).starts_with(ENGINE_COOKIE)
}

proptest! {
  #[test]
  fn no_answer_sets_a_cookie_for_others_than_its_app(cookies in vec(cookie(), 0..4), own: bool) {
    let site = if own { Site::own("hello") } else { Site::below(PREFIX) };
    let mut headers = HeaderMap::new();
    for cookie in cookies {
      headers.append(header::SET_COOKIE, cookie);
    }
    site.confine(&mut headers);
    for cookie in headers.get_all(header::SET_COOKIE) {
      let stored = stored(cookie);
      prop_assert!(!is_engines(&stored.name), "{cookie:?}: {stored:?}");
      prop_assert!(stored.domain.is_none(), "{cookie:?}: {stored:?}");
      if let Some(path) = stored.path.filter(|_| !own) {
        let below = path.strip_prefix(PREFIX);
        let below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        prop_assert!(below, "{cookie:?}: {path}");
      }
    }
  }

  #[test]
  fn no_app_sees_a_cookie_of_the_engine_and_every_other_in_its_order(cookies in vec(any_value(), 0..4)) {
    let pairs = |headers: &HeaderMap| -> Vec<String> {
      let values = values(headers, "cookie");
      let pairs = values.iter().flat_map(|value| value.split(';'));
      pairs.map(|pair| pair.trim().to_owned()).collect()
    };
    let mut headers = HeaderMap::new();
    for cookie in cookies {
      headers.append(header::COOKIE, cookie);
    }
    let mut expected = pairs(&headers);
    site::remove_engine_cookies(&mut headers);
    expected.retain(|pair| !is_engines(pair));
    prop_assert_eq!(pairs(&headers), expected);
  }

  #[test]
  fn an_app_gets_what_was_asked_of_it_and_nothing_that_is_for_the_engine(
    sent in headers(),
    path in path(),
    with_token: bool,
    old: bool,
  ) {
    let mut request = Request::new(Body::empty());
    *request.headers_mut() = sent.clone();
    *request.version_mut() = if old { Version::HTTP_10 } else { Version::HTTP_11 };
    let client = SocketAddr::from(([192, 0, 2, 1], 5000));
    request.extensions_mut().insert(ConnectInfo(client));
    if with_token {
      request.extensions_mut().insert(EngineToken);
    }
    let Some(upgrade) = headers::rewrite_request(&mut request, &Site::below(PREFIX), &path) else {
      return Ok(());
    };
    let uri = request.uri();
    prop_assert_eq!(uri.authority().map(axum::http::uri::Authority::as_str), Some("localhost"));
    let asked_path = path.split('#').next().unwrap_or_default();
    prop_assert_eq!(uri.path_and_query().map(axum::http::uri::PathAndQuery::as_str), Some(asked_path));
    let got = request.headers();
    prop_assert_eq!(values(got, "x-forwarded-prefix"), [PREFIX]);
    prop_assert_eq!(values(got, "x-forwarded-proto"), ["http"]);
    prop_assert_eq!(values(got, "x-forwarded-for").len(), 1);
    prop_assert!(values(got, "x-forwarded-for")[0].ends_with("192.0.2.1"));
    prop_assert!(got.get_all(header::HOST).iter().count() <= 1);
    for name in ["x_forwarded_host", "x-forwarded-user", "x-real-ip", "x_original_url", "forwarded"] {
      prop_assert!(!got.contains_key(name), "{name}");
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization"] {
      prop_assert!(!got.contains_key(name), "{name}");
    }
    let connection = values(got, "connection");
    let expected: &[&str] = match (upgrade, got.contains_key(header::TE)) {
      (true, _) => &["upgrade"],
      (false, true) => &["te"],
      (false, false) => &[],
    };
    prop_assert_eq!(connection, expected);
    prop_assert_eq!(got.contains_key(header::UPGRADE), upgrade);
    if with_token {
      prop_assert!(!got.contains_key(header::AUTHORIZATION));
    }
  }

  #[test]
  fn an_answer_says_nothing_of_the_connection_to_the_app(
    sent in headers(),
    status in select(&[StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS, StatusCode::UPGRADE_REQUIRED][..]),
  ) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = sent.clone();
    headers::rewrite_response(&mut response);
    let got = response.headers();
    let upgrades = status != StatusCode::OK && sent.contains_key(header::UPGRADE);
    prop_assert_eq!(got.contains_key(header::UPGRADE), upgrades);
    prop_assert_eq!(values(got, "connection"), if upgrades { vec!["upgrade"] } else { vec![] });
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"] {
      prop_assert!(!got.contains_key(name), "{name}");
    }
    if sent.contains_key(header::TRANSFER_ENCODING) {
      prop_assert!(!got.contains_key(header::CONTENT_LENGTH));
    }
  }
}
