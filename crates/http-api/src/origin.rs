//! Which pages may use this server, and under which names it may be asked for. Looked at before
//! anything else, on every route: a browser lets any page send requests to this machine, and a page
//! whose name was pointed here (DNS rebinding) read the answers.

use std::net::IpAddr;
use std::sync::Arc;

use access::Access;
use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::Version;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use tower_http::cors::AllowOrigin;
use tower_http::cors::CorsLayer;

use crate::HttpOptions;
use crate::app_origins::AppOrigins;
use crate::authority::Authority;
use crate::authority::Hosts;
use crate::authority::Origin;
use crate::authority::Origins;
use crate::error::ApiError;
use crate::protection;
use crate::stream;

const SEC_FETCH_SITE: &str = "sec-fetch-site";
pub(crate) const SEC_FETCH_MODE: &str = "sec-fetch-mode";
const SEC_FETCH_DEST: &str = "sec-fetch-dest";
/// Nobody's name is longer.
const MAX_SHOWN: usize = 300;

/// What is asked of those who come.
pub(crate) struct Policy {
  bound: IpAddr,
  /// Whether names that this server is not known by are refused.
  known_names_only: bool,
  hosts: Hosts,
  origins: Origins,
  app_origins: AppOrigins,
  /// Whether pages of any origin may use apps.
  apps_public: bool,
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq)]
enum Place {
  Api,
  /// An app by its path.
  Apps,
  /// The app with this label, at a host of its own, where every path is the app's.
  App(String),
  Other,
}

/// What a request was found to be for; left with it.
#[derive(Clone)]
pub(crate) struct Asked {
  /// `None` where its protocol knows none.
  pub host: Option<Authority>,
  place: Place,
}

impl Asked {
  /// The label of the app whose own host was asked.
  pub(crate) fn app(&self) -> Option<&str> {
    match &self.place {
      Place::App(label) => Some(label),
      _ => None,
    }
  }
}

impl Policy {
  pub(crate) fn of(options: &HttpOptions) -> Arc<Self> {
    let open = options.access == Access::Open;
    Arc::new(Self {
      bound: options.bound,
      known_names_only: open || options.bound.is_loopback() || !options.hosts.is_empty(),
      hosts: options.hosts.clone(),
      origins: options.origins.clone(),
      app_origins: options.app_origins.clone(),
      apps_public: options.apps_public,
    })
  }

  /// What listed origins are told, so that their pages can read answers.
  pub(crate) fn cors(&self) -> CorsLayer {
    let listed = self.origins.iter();
    let listed = listed.filter_map(|origin| HeaderValue::from_str(&origin.to_string()).ok());
    CorsLayer::new()
      .allow_origin(AllowOrigin::list(listed))
      .allow_methods([
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
      ])
      .allow_headers([
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        HeaderName::from_static("x-namespace"),
        HeaderName::from_static("last-event-id"),
      ])
      .expose_headers([HeaderName::from_static(stream::SESSION_HEADER)])
  }

  fn asked(&self, request: &Request) -> Result<Asked, ApiError> {
    let host = asked_host(request)?;
    let of_an_app = host.as_ref().filter(|host| !self.hosts.has(host));
    let place = match of_an_app.and_then(|host| self.app_origins.label(host)) {
      Some(label) => Place::App(label.to_owned()),
      None => Place::of(request.uri().path()),
    };
    Ok(Asked { host, place })
  }

  fn check(&self, request: &Request, asked: &Asked) -> Result<(), ApiError> {
    let Asked { host, place } = asked;
    if let Some(host) = host
      && self.known_names_only
      && asked.app().is_none()
      && !host.host.means(self.bound)
      && !self.hosts.has(host)
    {
      return Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        format!(
          "This server does not go by the name `{host}`: if it should, add the name to ENGINE_HOSTS (--hosts)"
        ),
      ));
    }
    if self.apps_public && matches!(place, Place::Apps | Place::App(_)) {
      return Ok(());
    }
    let headers = request.headers();
    let mut listed = false;
    for value in headers.get_all(header::ORIGIN) {
      let origin: Option<Origin> = value.to_str().ok().and_then(|text| text.parse().ok());
      listed = origin.as_ref().is_some_and(|o| self.origins.has(o));
      let own = origin
        .zip(host.as_ref())
        .is_some_and(|(o, host)| o.is_of(host));
      if !listed && !own {
        return Err(foreign_origin(value));
      }
    }
    if listed || is_visit(request) {
      return Ok(());
    }
    for site in headers.get_all(SEC_FETCH_SITE) {
      let fine = match site.as_bytes() {
        b"same-origin" | b"none" => true,
        b"same-site" => match place {
          Place::Api | Place::App(_) => false,
          Place::Apps => !self.app_origins.may_be_beside_the_engine(),
          Place::Other => true,
        },
        _ => false,
      };
      if !fine {
        return Err(ApiError::new(
          StatusCode::FORBIDDEN,
          "Pages of other sites may not use this server: if this one should, add its origin to \
           ENGINE_ORIGINS (--origins) and have it ask with CORS",
        ));
      }
    }
    Ok(())
  }
}

impl Place {
  fn of(path: &str) -> Self {
    let below = |root: &str| {
      let rest = path.strip_prefix(root);
      rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match () {
      () if below("/api") || is_of_services(path) => Self::Api,
      () if below("/apps") => Self::Apps,
      () => Self::Other,
    }
  }
}

/// Whether a path is `/{workspace}/services/…`, which is another way into the API.
fn is_of_services(path: &str) -> bool {
  path.split('/').nth(2) == Some("services")
}

/// Lets through what [`Policy`] has nothing against.
pub(crate) async fn guard(
  State(policy): State<Arc<Policy>>,
  mut request: Request,
  next: Next,
) -> Response<Body> {
  let asked = match policy.asked(&request) {
    Ok(asked) => asked,
    Err(refusal) => return refusal.into_response(),
  };
  if let Err(refusal) = policy.check(&request, &asked) {
    return refusal.into_response();
  }
  let of_apps = matches!(asked.place, Place::Apps | Place::App(_));
  request.extensions_mut().insert(asked);
  let mut response = next.run(request).await;
  // What apps answer is theirs.
  if !of_apps {
    protection::protect(response.headers_mut());
  }
  response
}

/// Refuses bodies that a page can send without asking first, such as forms. Programs may go on to call
/// their JSON whatever they like: only browsers send `Sec-Fetch-Site` (the `fetch` of Node.js has
/// another one of these headers).
pub(crate) async fn typed_bodies(request: Request, next: Next) -> Response<Body> {
  let headers = request.headers();
  let of_a_page = headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
  // Neither a form nor a page without leave sends PUT; files have any type.
  let may_be_a_form = *request.method() != Method::PUT;
  if of_a_page && may_be_a_form && !request.body().is_end_stream() && !is_json(headers) {
    let message = "Pages must send bodies to this API as JSON: with `Content-Type: application/json`, \
                   or `application/x-ndjson` for JSON lines";
    return ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
  }
  next.run(request).await
}

fn is_json(headers: &HeaderMap) -> bool {
  let value = headers.get(header::CONTENT_TYPE);
  let Some(text) = value.and_then(|value| value.to_str().ok()) else {
    return false;
  };
  let essence = text.split(';').next().unwrap_or_default().trim();
  let essence = essence.to_ascii_lowercase();
  match essence.strip_prefix("application/") {
    Some("json" | "x-ndjson" | "jsonl") => true,
    Some(rest) => rest.ends_with("+json"),
    None => false,
  }
}

/// The host that a request is for; `None` where its protocol knows none.
fn asked_host(request: &Request) -> Result<Option<Authority>, ApiError> {
  let wrong = |text: &[u8]| {
    let text = String::from_utf8_lossy(text);
    let text: String = text.chars().take(MAX_SHOWN).collect();
    ApiError::bad_request(format!("Host: `{text}` is not a host"))
  };
  let parse = |text: &[u8]| {
    let host = std::str::from_utf8(text)
      .ok()
      .and_then(|text| text.parse().ok());
    host.ok_or_else(|| wrong(text))
  };
  let mut named = request.headers().get_all(header::HOST).iter();
  let host = named
    .next()
    .map(|value| parse(value.as_bytes()))
    .transpose()?;
  if named.next().is_some() {
    return Err(ApiError::bad_request("Host: there must be one"));
  }
  let target = request.uri().authority();
  let target: Option<Authority> = target
    .map(|authority| parse(authority.as_str().as_bytes()))
    .transpose()?;
  match (target, host) {
    (Some(target), Some(host)) if target != host => Err(ApiError::bad_request(format!(
      "Host: `{host}` is not the one that the request is for, `{target}`"
    ))),
    (None, None) if request.version() > Version::HTTP_10 => {
      Err(ApiError::bad_request("Host: there must be one"))
    }
    // HTTP/1.1 asks for both, HTTP/2 for one.
    (Some(_), None) if request.version() == Version::HTTP_11 => {
      Err(ApiError::bad_request("Host: there must be one"))
    }
    (target, host) => Ok(host.or(target)),
  }
}

/// Whether somebody goes to a page, which the page that they come from does not see.
fn is_visit(request: &Request) -> bool {
  let is = |name: &str, value: &str| {
    let values = request.headers().get_all(name);
    let mut values = values.into_iter().map(HeaderValue::as_bytes);
    values.next() == Some(value.as_bytes()) && values.next().is_none()
  };
  (request.method() == Method::GET || request.method() == Method::HEAD)
    && is(SEC_FETCH_MODE, "navigate")
    && is(SEC_FETCH_DEST, "document")
}

fn foreign_origin(origin: &HeaderValue) -> ApiError {
  let message = match origin.as_bytes() {
    b"null" => {
      "Pages without an origin (`null`) may not use this server: have it come from a server \
                and add that to ENGINE_ORIGINS (--origins)"
        .to_owned()
    }
    other => {
      let text = String::from_utf8_lossy(other);
      let text: String = text.chars().take(MAX_SHOWN).collect();
      format!(
        "Pages of `{text}` may not use this server: if they should, add the origin to ENGINE_ORIGINS \
         (--origins)"
      )
    }
  };
  ApiError::new(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
  use super::*;

  fn policy(bound: &str, hosts: &str, strict: bool) -> Policy {
    Policy {
      bound: bound.parse().expect("an address"),
      known_names_only: strict,
      hosts: hosts.parse().expect("hosts"),
      origins: "https://ui.example".parse().expect("origins"),
      app_origins: AppOrigins::default(),
      apps_public: false,
    }
  }

  fn checked(policy: &Policy, request: &Request) -> Result<(), ApiError> {
    policy.check(request, &policy.asked(request)?)
  }

  /// The status that a request with these headers gets; 200 when it may pass.
  fn status(policy: &Policy, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
      request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    match checked(policy, &request) {
      Ok(()) => 200,
      Err(refusal) => refusal.into_response().status().as_u16(),
    }
  }

  #[test]
  fn a_name_that_is_not_the_servers_is_misdirected() {
    let local = policy("127.0.0.1", "engine.example", true);
    for (host, expected) in [
      ("localhost:8000", 200),
      ("127.0.0.1:1", 200),
      ("[::1]:8000", 200),
      ("LOCALHOST.", 200),
      ("engine.example:444", 200),
      ("rebind.test:8000", 421),
      ("localhost.rebind.test", 421),
      ("10.0.0.1:8000", 421),
      ("", 400),
      ("a b", 400),
      ("user@localhost", 400),
    ] {
      for path in ["/", "/api/status", "/apps/x/", "/health"] {
        assert_eq!(
          status(&local, "GET", path, &[("host", host)]),
          expected,
          "{host}"
        );
      }
    }
    let guarded = policy("0.0.0.0", "", false);
    assert_eq!(
      status(&guarded, "GET", "/", &[("host", "any.example")]),
      200
    );
    let open = policy("0.0.0.0", "", true);
    assert_eq!(status(&open, "GET", "/", &[("host", "192.0.2.7:80")]), 200);
    assert_eq!(status(&open, "GET", "/", &[("host", "any.example")]), 421);
  }

  #[test]
  fn there_is_one_host() {
    let policy = policy("127.0.0.1", "", true);
    let two = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(status(&policy, "GET", "/", &two), 400);
    assert_eq!(status(&policy, "GET", "/", &[]), 400);
    let target = "http://localhost:8000/";
    let ask = |host: &str| status(&policy, "GET", target, &[("host", host)]);
    assert_eq!(ask("LOCALHOST:8000"), 200);
    assert_eq!(ask("localhost:8001"), 400);
    assert_eq!(
      status(
        &policy,
        "GET",
        "http://rebind.test/",
        &[("host", "rebind.test")]
      ),
      421
    );
    let old = Request::builder()
      .version(Version::HTTP_10)
      .body(Body::empty());
    assert!(checked(&policy, &old.expect("a request")).is_ok());
    let new = Request::builder()
      .version(Version::HTTP_2)
      .uri(target)
      .body(Body::empty());
    assert!(checked(&policy, &new.expect("a request")).is_ok());
  }

  #[test]
  fn pages_of_other_origins_are_refused_whatever_they_ask() {
    let policy = policy("127.0.0.1", "", true);
    for (origin, expected) in [
      ("http://localhost:8000", 200),
      ("https://localhost:8000", 200),
      ("https://ui.example", 200),
      ("https://ui.example:443", 200),
      ("http://ui.example", 403),
      ("http://localhost:3000", 403),
      ("http://127.0.0.1:8000", 403),
      ("http://evil.test", 403),
      ("null", 403),
      ("", 403),
    ] {
      for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
        for path in ["/", "/api/kernels", "/apps/x/", "/api/docs/", "/health"] {
          let headers = [("host", "localhost:8000"), ("origin", origin)];
          assert_eq!(
            status(&policy, method, path, &headers),
            expected,
            "{method} {origin}"
          );
        }
      }
    }
    let two = [
      ("host", "localhost:8000"),
      ("origin", "https://ui.example"),
      ("origin", "http://evil.test"),
    ];
    assert_eq!(status(&policy, "GET", "/", &two), 403);
  }

  #[test]
  fn what_a_page_of_another_site_embeds_is_refused_and_a_visit_is_not() {
    let policy = policy("127.0.0.1", "", true);
    let ask = |method: &str, path: &str, site: &str, mode: &str, dest: &str| {
      let headers = [
        ("host", "localhost"),
        ("sec-fetch-site", site),
        ("sec-fetch-mode", mode),
        ("sec-fetch-dest", dest),
      ];
      status(&policy, method, path, &headers)
    };
    for path in ["/api/docs/", "/apps/x/", "/", "/health"] {
      assert_eq!(
        ask("GET", path, "cross-site", "no-cors", "image"),
        403,
        "{path}"
      );
      assert_eq!(
        ask("GET", path, "cross-site", "navigate", "iframe"),
        403,
        "{path}"
      );
      assert_eq!(
        ask("POST", path, "cross-site", "navigate", "document"),
        403,
        "{path}"
      );
      assert_eq!(
        ask("GET", path, "cross-site", "navigate", "document"),
        200,
        "{path}"
      );
      assert_eq!(
        ask("POST", path, "same-origin", "cors", "empty"),
        200,
        "{path}"
      );
      assert_eq!(
        ask("GET", path, "none", "navigate", "document"),
        200,
        "{path}"
      );
      assert_eq!(ask("GET", path, "odd", "cors", "empty"), 403, "{path}");
    }
    assert_eq!(
      ask("GET", "/api/kernels", "same-site", "no-cors", "script"),
      403
    );
    assert_eq!(
      ask("GET", "/api/docs/", "same-site", "navigate", "document"),
      200
    );
    assert_eq!(ask("GET", "/apps/x/", "same-site", "no-cors", "image"), 200);
  }

  #[test]
  fn public_apps_are_for_pages_of_any_origin_under_the_servers_own_name() {
    let policy = Policy {
      apps_public: true,
      ..policy("127.0.0.1", "", true)
    };
    let evil = [("host", "localhost"), ("origin", "http://evil.test")];
    assert_eq!(status(&policy, "POST", "/apps/x/", &evil), 200);
    assert_eq!(status(&policy, "POST", "/apps", &evil), 200);
    assert_eq!(status(&policy, "POST", "/api/apps", &evil), 403);
    assert_eq!(status(&policy, "POST", "/appsx", &evil), 403);
    assert_eq!(
      status(&policy, "GET", "/apps/x/", &[("host", "rebind.test")]),
      421
    );
  }

  #[test]
  fn the_own_host_of_an_app_is_for_its_own_pages() {
    let local = policy("127.0.0.1", "engine.localhost", true);
    let beside = Policy {
      app_origins: AppOrigins::new(Some("apps.example".parse().expect("a domain")), None)
        .expect("origins"),
      ..policy("0.0.0.0", "engine.apps.example", false)
    };
    for (policy, host) in [(&local, "a.localhost:8000"), (&beside, "a.apps.example")] {
      let ask = |method: &str, name: &str, value: &str| {
        status(
          policy,
          method,
          "/api/kernels",
          &[("host", host), (name, value)],
        )
      };
      assert_eq!(ask("POST", "origin", &format!("http://{host}")), 200);
      for other in [
        "localhost:8000",
        "b.localhost:8000",
        "b.apps.example",
        "apps.example",
      ] {
        assert_eq!(
          ask("POST", "origin", &format!("http://{other}")),
          403,
          "{other}"
        );
      }
      assert_eq!(ask("GET", "sec-fetch-site", "same-origin"), 200);
      assert_eq!(ask("GET", "sec-fetch-site", "same-site"), 403);
      let engine = [("host", "localhost"), ("origin", &format!("http://{host}"))];
      assert_eq!(status(&local, "GET", "/apps/a/", &engine), 403);
    }
    let place = |policy: &Policy, host: &str| {
      let request = Request::builder()
        .uri("/")
        .header("host", host)
        .body(Body::empty());
      let asked = policy.asked(&request.expect("a request")).expect("a host");
      asked.app().map(str::to_owned)
    };
    assert_eq!(place(&local, "a.localhost").as_deref(), Some("a"));
    assert_eq!(place(&local, "engine.localhost:1"), None);
    assert_eq!(place(&beside, "a.apps.example").as_deref(), Some("a"));
    assert_eq!(place(&beside, "engine.apps.example"), None);
    let image = [
      ("host", "engine.apps.example"),
      ("sec-fetch-site", "same-site"),
    ];
    assert_eq!(status(&beside, "GET", "/apps/x/", &image), 403);
  }

  #[test]
  fn json_goes_by_several_names() {
    let is = |value: &str| {
      let mut headers = HeaderMap::new();
      headers.insert(header::CONTENT_TYPE, value.parse().expect("a value"));
      is_json(&headers)
    };
    for json in [
      "application/json",
      "Application/JSON; charset=utf-8",
      "application/merge-patch+json",
      "application/x-ndjson",
      "application/jsonl",
    ] {
      assert!(is(json), "{json}");
    }
    for other in [
      "text/plain",
      "text/plain;application/json",
      "application/jsonp",
      "",
      "text/json",
    ] {
      assert!(!is(other), "{other}");
    }
    assert!(!is_json(&HeaderMap::new()));
  }
}
