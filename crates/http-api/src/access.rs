//! Who calls: the bearer token becomes a [`Caller`].

use access::Access;
use access::Caller;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use engine::app_proxy::EngineToken;

use crate::Face;
use crate::error;
use crate::error::ApiError;

/// Checks the bearer token and leaves its caller with the request.
pub(crate) async fn guard(
  State(face): State<Face>,
  mut request: Request<Body>,
  next: Next,
) -> Response<Body> {
  let caller = match request.method() {
    // Preflight requests bring no token; their answers tell nothing.
    &Method::OPTIONS => Some(Caller::operator()),
    _ => face.options.access.caller(bearer(&request)),
  };
  let Some(caller) = caller else {
    return token_needed();
  };
  let outsider = caller.namespace().is_some();
  request.extensions_mut().insert(By(caller));
  let response = next.run(request).await;
  if outsider {
    return error::for_outsiders(response);
  }
  response
}

/// Lets those with a token use apps, whatever namespace it is for; everybody, where apps are public.
pub(crate) async fn guard_apps(
  State(face): State<Face>,
  mut request: Request<Body>,
  next: Next,
) -> Response<Body> {
  if let Access::Tokens(tokens) = &face.options.access {
    if bearer(&request).is_some_and(|token| tokens.scope(token).is_some()) {
      // Not for the app to see.
      request.extensions_mut().insert(EngineToken);
    } else if !face.options.apps_public {
      return token_needed();
    }
  }
  next.run(request).await
}

fn bearer(request: &Request<Body>) -> Option<&str> {
  let value = request.headers().get(header::AUTHORIZATION)?;
  value.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn token_needed() -> Response<Body> {
  let message = "A valid token is needed: send it as `Authorization: Bearer <token>`";
  ApiError::new(StatusCode::UNAUTHORIZED, message).into_response()
}

/// Whoever sent the request.
#[derive(Clone)]
pub(crate) struct By(pub Caller);

impl FromRequestParts<Face> for By {
  type Rejection = ApiError;

  async fn from_request_parts(parts: &mut Parts, _: &Face) -> Result<Self, ApiError> {
    // Set by `guard`, which every route of the API runs through.
    parts.extensions.get::<Self>().cloned().ok_or_else(|| {
      ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the request was not checked",
      )
    })
  }
}
