//! Where an app's clients see it, and the parts of its answers that would reach beyond that.

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;

/// Prefix of the names of the engine's own cookies. Apps neither get nor set these.
pub const ENGINE_COOKIE: &str = "deno_app_engine";

/// Where an app's clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
  /// The app, as messages name it.
  pub app: String,
  /// The path that the app is below, such as `/apps/hello`; `None` where its origin is its own.
  pub prefix: Option<String>,
  /// Whether its pages share an origin with others, and are therefore denied any.
  pub sandboxed: bool,
}

/// Policy for pages that are denied an origin: they may show and ask anything, and keep nothing.
const SANDBOX: HeaderValue = HeaderValue::from_static(
  "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts",
);

/// Headers that reach beyond an app's own origin: to other ports and protocols of its host, or to hosts
/// beside it.
const FAR_REACHING: [HeaderName; 8] = [
  header::STRICT_TRANSPORT_SECURITY,
  header::PUBLIC_KEY_PINS,
  header::PUBLIC_KEY_PINS_REPORT_ONLY,
  header::ALT_SVC,
  HeaderName::from_static("clear-site-data"),
  HeaderName::from_static("nel"),
  HeaderName::from_static("report-to"),
  HeaderName::from_static("set-cookie2"),
];

/// Headers that hold for a whole origin.
const ORIGIN_WIDE: [HeaderName; 2] = [
  HeaderName::from_static("service-worker-allowed"),
  HeaderName::from_static("use-as-dictionary"),
];

impl Site {
  /// An app below a path of an origin that it shares.
  pub fn below(prefix: impl Into<String>) -> Self {
    let prefix = prefix.into();
    Self {
      app: prefix.clone(),
      prefix: Some(prefix),
      sandboxed: false,
    }
  }

  /// An app with an origin of its own.
  pub fn own(app: impl Into<String>) -> Self {
    Self {
      app: app.into(),
      prefix: None,
      sandboxed: false,
    }
  }

  /// Restricts an answer to this app.
  pub fn confine(&self, headers: &mut HeaderMap) {
    for name in FAR_REACHING {
      headers.remove(name);
    }
    if self.prefix.is_some() {
      for name in ORIGIN_WIDE {
        headers.remove(name);
      }
    }
    let cookies: Vec<HeaderValue> = headers
      .get_all(header::SET_COOKIE)
      .iter()
      .filter_map(|cookie| self.cookie(cookie.as_bytes()))
      .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
      headers.append(header::SET_COOKIE, cookie);
    }
    if self.sandboxed {
      // A second policy: the app's own holds as well.
      headers.append(header::CONTENT_SECURITY_POLICY, SANDBOX);
    }
  }

  /// A cookie as this app may set it: for its own host and below its own path (RFC 6265 section 5.2).
  fn cookie(&self, cookie: &[u8]) -> Option<HeaderValue> {
    let mut parts = cookie.split(|byte| *byte == b';');
    let pair = parts.next()?;
    if is_engines(pair) {
      return None;
    }
    let mut confined = vec![pair.to_vec()];
    let mut path = None;
    for part in parts {
      let (name, value) = attribute(part);
      if name.eq_ignore_ascii_case(b"domain") {
        continue;
      }
      match name.eq_ignore_ascii_case(b"path") {
        true => path = Some(value),
        false => confined.push(part.to_vec()),
      }
    }
    // A cookie without a path is for the path of the request, which is the app's.
    if let Some(path) = path.filter(|path| path.starts_with(b"/")) {
      let mut below = b" Path=".to_vec();
      if let Some(prefix) = &self.prefix
        && !is_below(path, prefix.as_bytes())
      {
        below.extend_from_slice(prefix.as_bytes());
      }
      below.extend_from_slice(path);
      confined.push(below);
    }
    HeaderValue::from_bytes(&confined.join(b";".as_slice())).ok()
  }
}

/// Removes the engine's own cookies from a request.
pub fn remove_engine_cookies(headers: &mut HeaderMap) {
  let is_one = |value: &&HeaderValue| value.as_bytes().split(|byte| *byte == b';').any(is_engines);
  if !headers
    .get_all(header::COOKIE)
    .iter()
    .any(|value| is_one(&value))
  {
    return;
  }
  let kept: Vec<HeaderValue> = headers
    .get_all(header::COOKIE)
    .iter()
    .filter_map(|value| {
      let pairs = value.as_bytes().split(|byte| *byte == b';');
      let pairs: Vec<&[u8]> = pairs
        .filter(|pair| !is_engines(pair))
        .map(<[u8]>::trim_ascii)
        .collect();
      let value = HeaderValue::from_bytes(&pairs.join(b"; ".as_slice()));
      value.ok().filter(|_| !pairs.is_empty())
    })
    .collect();
  headers.remove(header::COOKIE);
  for value in kept {
    headers.append(header::COOKIE, value);
  }
}

/// Whether a cookie has a name of the engine's, or may look so to a server: a cookie without a name is
/// sent as its value alone.
fn is_engines(pair: &[u8]) -> bool {
  let text = String::from_utf8_lossy(pair).to_ascii_lowercase();
  let text = text.trim_start_matches(|c: char| c == '=' || c.is_ascii_whitespace());
  let text = ["__host-", "__secure-"]
    .iter()
    .find_map(|prefix| text.strip_prefix(prefix))
    .unwrap_or(text);
  text.starts_with(ENGINE_COOKIE)
}

fn attribute(part: &[u8]) -> (&[u8], &[u8]) {
  let end = part.iter().position(|byte| *byte == b'=');
  match end {
    Some(end) => (part[..end].trim_ascii(), part[end + 1..].trim_ascii()),
    None => (part.trim_ascii(), b""),
  }
}

fn is_below(path: &[u8], prefix: &[u8]) -> bool {
  let rest = path.strip_prefix(prefix);
  rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
  use super::*;

  fn confined(site: &Site, cookie: &str) -> Option<String> {
    let cookie = site.cookie(cookie.as_bytes())?;
    Some(cookie.to_str().expect("a text").to_owned())
  }

  #[test]
  fn a_cookie_is_for_its_app_only() {
    let (below, own) = (Site::below("/apps/hello"), Site::own("hello"));
    for (cookie, at_path, at_origin) in [
      ("a=1", "a=1", "a=1"),
      ("a=1; Path=/", "a=1; Path=/apps/hello/", "a=1; Path=/"),
      (
        "a=1;path = /x ; Secure; HttpOnly",
        "a=1; Secure; HttpOnly; Path=/apps/hello/x",
        "a=1; Secure; HttpOnly; Path=/x",
      ),
      (
        "a=1; Path=/apps/hello/y",
        "a=1; Path=/apps/hello/y",
        "a=1; Path=/apps/hello/y",
      ),
      (
        "a=1; Path=/apps/hello2",
        "a=1; Path=/apps/hello/apps/hello2",
        "a=1; Path=/apps/hello2",
      ),
      (
        "a=1; Path=/x; Path=/y",
        "a=1; Path=/apps/hello/y",
        "a=1; Path=/y",
      ),
      ("a=1; Path=/x; Path", "a=1", "a=1"),
      ("a=1; DOMAIN=localhost; domain", "a=1", "a=1"),
    ] {
      assert_eq!(
        confined(&below, cookie).as_deref(),
        Some(at_path),
        "{cookie}"
      );
      assert_eq!(
        confined(&own, cookie).as_deref(),
        Some(at_origin),
        "{cookie}"
      );
    }
  }

  #[test]
  fn the_engines_cookies_are_neither_set_nor_shown() {
    for cookie in [
      "deno_app_engine=1",
      "Deno_App_Engine_session=1; Path=/",
      "__Host-deno_app_engine=1",
      "__HOST-deno_app_engine=1",
      " = deno_app_engine=1",
      "deno_app_engine",
      "=__Secure-deno_app_engine=1",
    ] {
      assert_eq!(confined(&Site::own("hello"), cookie), None, "{cookie}");
    }
    let mut headers = HeaderMap::new();
    for value in [
      "a=1; deno_app_engine=secret;b=2",
      "__Host-deno_app_engine=secret",
      "c=3",
    ] {
      headers.append(header::COOKIE, HeaderValue::from_static(value));
    }
    remove_engine_cookies(&mut headers);
    let left: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
    assert_eq!(left, ["a=1; b=2", "c=3"]);
  }

  #[test]
  fn what_reaches_beyond_an_app_is_taken_out() {
    let all = || {
      let names = FAR_REACHING.into_iter().chain(ORIGIN_WIDE);
      let mut headers: HeaderMap = names
        .map(|name| (name, HeaderValue::from_static("x")))
        .collect();
      headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("img-src *"),
      );
      headers
    };
    let (mut below, mut own, mut sandboxed) = (all(), all(), all());
    Site::below("/apps/hello").confine(&mut below);
    assert_eq!(below.len(), 1, "{below:?}");
    Site::own("hello").confine(&mut own);
    assert_eq!(own.len(), 1 + ORIGIN_WIDE.len(), "{own:?}");
    let site = Site {
      sandboxed: true,
      ..Site::below("/apps/hello")
    };
    site.confine(&mut sandboxed);
    let policies = sandboxed.get_all(header::CONTENT_SECURITY_POLICY);
    assert_eq!(policies.iter().count(), 2);
  }
}
