//! Who may call, and which kernels they see.

use access::Access;
use access::Caller;
use access::Scope;
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
use engine::kernels::KernelId;

use crate::Face;
use crate::error;
use crate::error::ApiError;
use crate::gateway;

/// Checks the bearer token and leaves what it may see with the request.
pub async fn guard(
  State(face): State<Face>,
  mut request: Request<Body>,
  next: Next,
) -> Response<Body> {
  let scope = match &face.options.access {
    Access::Open => Scope::Everything,
    Access::Tokens(_) if request.method() == Method::OPTIONS => Scope::Everything,
    Access::Tokens(tokens) => match bearer(&request).and_then(|token| tokens.scope(token)) {
      Some(scope) => scope.clone(),
      None => return token_needed(),
    },
  };
  let outsider = scope != Scope::Everything;
  request.extensions_mut().insert(Visible(scope));
  let response = next.run(request).await;
  if outsider {
    return error::for_outsiders(response);
  }
  response
}

/// Lets those with a token use apps, whatever namespace it is for; all, where apps are public.
pub async fn guard_apps(
  State(face): State<Face>,
  mut request: Request<Body>,
  next: Next,
) -> Response<Body> {
  if let Access::Tokens(tokens) = &face.options.access {
    if bearer(&request)
      .and_then(|token| tokens.scope(token))
      .is_some()
    {
      // Not for the app to see.
      gateway::mark_token(&mut request);
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
pub struct By(pub Caller);

impl FromRequestParts<Face> for By {
  type Rejection = ApiError;

  async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, ApiError> {
    let Visible(scope) = Visible::from_request_parts(parts, face).await?;
    Ok(Self(Caller::of(scope)))
  }
}

/// A caller who may see everything.
pub struct Operator;

impl FromRequestParts<Face> for Operator {
  type Rejection = ApiError;

  async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, ApiError> {
    match Visible::from_request_parts(parts, face).await?.0 {
      Scope::Everything => Ok(Self),
      Scope::Namespace(own) => Err(ApiError::new(
        StatusCode::FORBIDDEN,
        format!("This is the operator's to do: the token is for the namespace `{own}` only"),
      )),
    }
  }
}

/// What this caller may see.
#[derive(Clone)]
pub struct Visible(Scope);

impl Visible {
  /// The namespace to work in: the caller's own, else the one asked for.
  ///
  /// # Errors
  /// When another namespace than the caller's is asked for.
  pub fn namespace(&self, asked: Option<String>) -> Result<Option<String>, ApiError> {
    match (&self.0, asked) {
      (Scope::Everything, asked) => Ok(asked),
      (Scope::Namespace(own), Some(asked)) if *own != asked => Err(ApiError::new(
        StatusCode::FORBIDDEN,
        format!("This token is for the namespace `{own}`, not `{asked}`"),
      )),
      (Scope::Namespace(own), _) => Ok(Some(own.clone())),
    }
  }

  /// The kernel id that a path names. A caller bound to a namespace may leave it out; what lies
  /// outside is not found, so that nobody learns what exists.
  pub fn kernel_id(&self, id: &str) -> Result<KernelId, ApiError> {
    match &self.0 {
      Scope::Everything => Ok(KernelId::addressed(id)),
      Scope::Namespace(own) => match id.split_once(':') {
        None => Ok(KernelId::addressed(&format!("{own}:{id}"))),
        Some((namespace, _)) if namespace == own => Ok(KernelId::addressed(id)),
        Some(_) => Err(ApiError::not_found("Kernel not found")),
      },
    }
  }
}

impl FromRequestParts<Face> for Visible {
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
