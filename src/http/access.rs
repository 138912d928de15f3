//! Who may call, and which kernels they see.

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

use super::AppState;
use super::error::ApiError;
use crate::kernel::KernelId;
use crate::settings::Access;
use crate::settings::Scope;

/// Checks the bearer token and leaves what it may see with the request.
pub async fn guard(
  State(engine): State<AppState>,
  mut request: Request<Body>,
  next: Next,
) -> Response<Body> {
  let scope = match &engine.settings.access {
    Access::Open => Scope::Everything,
    Access::Tokens(_) if request.method() == Method::OPTIONS => Scope::Everything,
    Access::Tokens(tokens) => {
      let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
      match token.and_then(|token| tokens.scope(token.trim())) {
        Some(scope) => scope.clone(),
        None => {
          let message = "A valid token is needed: send it as `Authorization: Bearer <token>`";
          return ApiError::new(StatusCode::UNAUTHORIZED, message).into_response();
        }
      }
    }
  };
  request.extensions_mut().insert(Visible(scope));
  next.run(request).await
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

impl FromRequestParts<AppState> for Visible {
  type Rejection = ApiError;

  async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
    // Set by `guard`, which every route of the API runs through.
    parts.extensions.get::<Self>().cloned().ok_or_else(|| {
      ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the request was not checked",
      )
    })
  }
}
