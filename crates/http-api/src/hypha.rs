//! `/{workspace}/services/deno-app-engine/…`: the methods of the engine's Hypha service, where Hypha's own HTTP face has
//! them, for clients of it that have no Hypha server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

use ::access::Right;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::any;
use axum::routing::get;
use bytes::Bytes;
use engine::Engine;
use engine::access::Caller;
use futures::StreamExt;
use hypha_service::Answer;
use hypha_service::Asker;
use hypha_service::Method;
use hypha_service::SERVICE_ID;
use hypha_service::Service;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::Face;
use crate::access::By;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::origin::SEC_FETCH_MODE;
use crate::path::Path;
use crate::query::parameters;

static METHODS: LazyLock<BTreeMap<&'static str, Method>> = LazyLock::new(|| {
  let methods = hypha_service::methods();
  methods.into_iter().map(|it| (it.name, it)).collect()
});

/// Where the original's embedded server had its pages.
const PLAYGROUND: &str = "/{workspace}/apps/playground-service";

/// The routes; they are Hypha's and described there, so the document of the API does not have them.
pub(crate) fn routes() -> Router<Face> {
  let service = format!("/{{workspace}}/services/{SERVICE_ID}");
  Router::new()
    .route("/{workspace}/services", get(list))
    .route(&service, get(describe))
    .route(&format!("{service}/{{method}}"), get(ask).post(call))
    .route("/ws", any(no_socket))
    .route(PLAYGROUND, any(no_playground))
    .route(&format!("{PLAYGROUND}/{{*page}}"), any(no_playground))
}

/// Who asks: a token of a namespace is of the workspace of that name; the operator is of any.
fn asker(caller: &Caller, workspace: &str) -> ApiResult<Asker> {
  caller.require(Right::Manage)?;
  caller.work_in(Some(workspace))?;
  Ok(Asker {
    workspace: workspace.to_owned(),
    is_own: caller.namespace().is_none(),
    is_anonymous: false,
  })
}

fn summary(workspace: &str) -> Value {
  json!({
    "id": format!("{workspace}/root:{SERVICE_ID}"),
    "name": "Deno App Engine",
    "type": SERVICE_ID,
    "config": { "visibility": "public", "require_context": true, "workspace": workspace },
  })
}

async fn list(By(caller): By, Path(workspace): Path<String>) -> ApiResult<Json<Value>> {
  asker(&caller, &workspace)?;
  Ok(Json(json!([summary(&workspace)])))
}

async fn describe(By(caller): By, Path(workspace): Path<String>) -> ApiResult<Json<Value>> {
  asker(&caller, &workspace)?;
  let schemas: Map<String, Value> = METHODS
    .values()
    .map(|method| {
      let function = json!({
        "name": method.name,
        "description": method.description,
        "parameters": method.parameters,
      });
      (
        method.name.to_owned(),
        json!({ "type": "function", "function": function }),
      )
    })
    .collect();
  let mut summary = summary(&workspace);
  summary["service_schema"] = schemas.into();
  Ok(Json(summary))
}

type Called = Path<(String, String)>;

/// A call with its arguments in the query. Browsers may not navigate to one, for it may do something.
async fn ask(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path((workspace, method)): Called,
  headers: HeaderMap,
  query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> ApiResult<Response<Body>> {
  if headers
    .get(SEC_FETCH_MODE)
    .is_some_and(|it| it == "navigate")
  {
    return Err(ApiError::new(
      StatusCode::FORBIDDEN,
      "A method is not a page: call it with POST",
    ));
  }
  let given = parameters(query)?
    .into_iter()
    .map(|(name, text)| (name, value_of(text)));
  run(engine, &caller, &workspace, &method, given.collect()).await
}

/// A call with its arguments in the body: an object of them, or one in `params` or `options`.
async fn call(
  State(engine): State<Arc<Engine>>,
  By(caller): By,
  Path((workspace, method)): Called,
  JsonBody(mut given): JsonBody<Map<String, Value>>,
) -> ApiResult<Response<Body>> {
  let wrapped = given.len() == 1;
  for name in ["params", "options"] {
    if wrapped && let Some(Value::Object(inner)) = given.remove(name) {
      given = inner;
    }
  }
  run(engine, &caller, &workspace, &method, given).await
}

/// What a text in a query means: numbers, booleans and JSON where it is some, as in Hypha.
fn value_of(text: String) -> Value {
  match serde_json::from_str(&text) {
    Ok(Value::String(_)) | Err(_) => Value::String(text),
    Ok(value) => value,
  }
}

async fn run(
  engine: Arc<Engine>,
  caller: &Caller,
  workspace: &str,
  method: &str,
  given: Map<String, Value>,
) -> ApiResult<Response<Body>> {
  let asker = asker(caller, workspace)?;
  let Some(method) = METHODS.get(method) else {
    return Ok(failed(
      StatusCode::NOT_FOUND,
      &format!("{SERVICE_ID} has no method {method}"),
    ));
  };
  let service = Arc::new(Service::new(engine, workspace.to_owned()));
  match method.call(service, asker, given).await {
    Ok(Answer::Value(value)) => Ok(Json(value).into_response()),
    Ok(Answer::Stream(items)) => {
      let lines =
        items.map(|item| Ok::<_, std::convert::Infallible>(Bytes::from(format!("{item}\n"))));
      let mut response = Response::new(Body::from_stream(lines));
      let ndjson = HeaderValue::from_static("application/x-ndjson");
      response.headers_mut().insert(header::CONTENT_TYPE, ndjson);
      Ok(response)
    }
    Err(failure) => Ok(failed(StatusCode::BAD_REQUEST, &failure.to_string())),
  }
}

/// Clients of the wire protocol look here for a server.
async fn no_socket() -> Response<Body> {
  failed(
    StatusCode::NOT_IMPLEMENTED,
    "There is no Hypha server inside the engine, and no WebSocket of one: call the methods over HTTP, at \
     /{workspace}/services/deno-app-engine/{method}, or start the engine with --hypha as the service of a Hypha server",
  )
}

async fn no_playground() -> Response<Body> {
  failed(
    StatusCode::NOT_IMPLEMENTED,
    "The playground of the original's embedded Hypha server is not here; the methods are described at \
     /{workspace}/services/deno-app-engine",
  )
}

/// A failure in Hypha's form.
fn failed(status: StatusCode, detail: &str) -> Response<Body> {
  (status, Json(json!({ "success": false, "detail": detail }))).into_response()
}
