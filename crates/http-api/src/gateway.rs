//! Forwards requests to apps: `/apps/{id}/…`, and every request to an app's own host.

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::routing::any;
use engine::app_proxy::site::Site;
use engine::apps::AppId;
use engine::apps::ForwardError;
use tower_service::Service;

use crate::Face;
use crate::HttpOptions;
use crate::access;
use crate::authority::Authority;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::origin::Asked;
use crate::origin::SEC_FETCH_MODE;
use crate::path::Path;
use crate::patience;

/// Port that a request came to, which decides what other pages share its origin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
  /// The engine's, with its own pages.
  Engine,
  /// The port for apps only.
  Apps,
}

/// Routes of apps below `/apps/`.
pub(crate) fn router(face: &Face, door: Door) -> Router<Face> {
  let routes = Router::new()
    .route("/apps/{id}", any(add_slash))
    .route("/apps/{id}/", any(by_path))
    .route("/apps/{id}/{*path}", any(by_path))
    .layer(Extension(door));
  guarded(routes, face)
}

/// Routes of apps at their own hosts, where every path is theirs.
pub(crate) fn by_hosts(face: &Face) -> Router {
  let routes = Router::new().fallback(by_host);
  guarded(routes, face).with_state(face.clone())
}

/// Sends requests to an app's own host to [`by_hosts`], and all others on.
pub(crate) async fn own_hosts(
  State(mut apps): State<Router>,
  request: Request,
  next: Next,
) -> Response<Body> {
  let asked = request.extensions().get::<Asked>();
  match asked.and_then(Asked::app) {
    Some(_) => apps.call(request).await.into_response(),
    None => next.run(request).await,
  }
}

fn guarded(routes: Router<Face>, face: &Face) -> Router<Face> {
  routes
    .layer(middleware::from_fn_with_state(
      patience::APPS,
      patience::for_bodies,
    ))
    .layer(middleware::from_fn_with_state(
      face.clone(),
      access::guard_apps,
    ))
}

/// Adds the slash after an app's id, without which relative addresses in its pages would be wrong.
async fn add_slash(
  State(face): State<Face>,
  Extension(door): Extension<Door>,
  Path(id): Path<String>,
  request: Request,
) -> ApiResult<Response<Body>> {
  let id = AppId::new(&id)?;
  let query = request.uri().query().map(|query| format!("?{query}"));
  let path = format!("/{}", query.unwrap_or_default());
  if is_navigation(&request)
    && let Some(home) = home(&face.options, door, &id, &request, &path)
  {
    return Ok(gone_home(&home));
  }
  let location = format!("/apps/{id}{path}");
  Ok(
    (
      StatusCode::PERMANENT_REDIRECT,
      [(header::LOCATION, location)],
    )
      .into_response(),
  )
}

async fn by_path(
  State(face): State<Face>,
  Extension(door): Extension<Door>,
  request: Request,
) -> ApiResult<Response<Body>> {
  // As it was sent: decoding and encoding it again would change what the app sees.
  let target = request.uri().path_and_query();
  let target = target.map_or("/", |target| target.as_str()).to_owned();
  let rest = target.strip_prefix("/apps/").unwrap_or_default();
  let (id, path) = rest
    .split_once('/')
    .ok_or_else(|| ApiError::not_found("Not found"))?;
  let id = AppId::new(id)?;
  let app = face.engine.apps.endpoint(&id)?;
  let path = format!("/{path}");
  let mut site = Site::below(format!("/apps/{id}"));
  if is_navigation(&request)
    && let Some(home) = home(&face.options, door, &id, &request, &path)
  {
    return Ok(gone_home(&home));
  }
  let origins = &face.options.app_origins;
  let host = asked_host(&request);
  site.sandboxed = door == Door::Engine && !host.is_some_and(|host| origins.apart(host));
  let proxy = &face.engine.proxy;
  let answer = proxy.forward_to(&app, &site, &path, request).await;
  answer.map_err(failed)
}

async fn by_host(State(face): State<Face>, request: Request) -> ApiResult<Response<Body>> {
  let asked = request.extensions().get::<Asked>();
  let label = asked.and_then(Asked::app).unwrap_or_default();
  let app = face.engine.apps.endpoint_at(label).ok_or_else(|| {
    ApiError::not_found(format!(
      "There is no app at `{label}.`: it may have been deleted"
    ))
  })?;
  let path = request.uri().path_and_query();
  let path = path.map_or("/", |path| path.as_str()).to_owned();
  let site = Site::own(app.id().as_str());
  let proxy = &face.engine.proxy;
  let answer = proxy.forward_to(&app, &site, &path, request).await;
  answer.map_err(failed)
}

/// The address at the app's own origin that a browser should use; `None` if it may stay.
fn home(
  options: &HttpOptions,
  door: Door,
  id: &AppId,
  request: &Request,
  path: &str,
) -> Option<String> {
  if door == Door::Apps {
    return None;
  }
  let host = asked_host(request)?;
  options.app_origins.location(id, host, path)
}

fn asked_host(request: &Request) -> Option<&Authority> {
  request.extensions().get::<Asked>()?.host.as_ref()
}

/// Whether the answer becomes a page. Browsers send `Sec-Fetch-Mode` only to servers with TLS or of this
/// machine; to others, `Accept` has to do.
fn is_navigation(request: &Request) -> bool {
  let headers = request.headers();
  if let Some(mode) = headers.get(SEC_FETCH_MODE) {
    return mode == "navigate";
  }
  let accepts_pages = |value: &HeaderValue| {
    let value = value.to_str().unwrap_or_default();
    value.to_ascii_lowercase().contains("text/html")
  };
  headers.get_all(header::ACCEPT).iter().any(accepts_pages)
    && !headers.contains_key(header::AUTHORIZATION)
    && !headers.contains_key(header::UPGRADE)
}

/// Redirects a browser to the app's own origin; forms keep what they send.
fn gone_home(location: &str) -> Response<Body> {
  let headers = [
    (header::LOCATION, location),
    (header::CACHE_CONTROL, "no-store"),
  ];
  (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
}

fn failed(error: ForwardError) -> ApiError {
  match error {
    ForwardError::App(error) => error.into(),
    ForwardError::Proxy(error) => ApiError::new(error.status(), error.to_string()),
  }
}
