//! The API's description, generated from the handlers, and a page to try it.

use axum::Router;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::Http;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::Face;
use crate::apps;
use crate::engine_status;
use crate::executions;
use crate::files;
use crate::kernels;
use crate::vectordb::documents;
use crate::vectordb::indices;
use crate::vectordb::providers;

#[derive(OpenApi)]
#[openapi(
  info(
    title = "Deno App Engine",
    description = "Runs TypeScript and JavaScript in kernels: create one, run cells in it, follow their output."
  ),
  modifiers(&BearerToken),
  tags(
    (name = "kernels", description = "Their lives"),
    (name = "executions", description = "Running code"),
    (name = "code intelligence", description = "Completion, inspection"),
    (name = "apps", description = "Programs that the engine keeps alive; requests to one go to `/apps/{id}/`"),
    (name = "vector database", description = "Documents found by meaning, by words and by metadata"),
    (name = "engine", description = "How it is")
  )
)]
struct Description;

/// The token that a server started with ENGINE_TOKENS asks for.
struct BearerToken;

impl Modify for BearerToken {
  fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document
      .components
      .get_or_insert_default()
      .add_security_scheme("token", scheme);
    // Optional: a server without tokens takes every request.
    let either = [
      SecurityRequirement::default(),
      SecurityRequirement::new("token", [""; 0]),
    ];
    document.security = Some(either.into());
  }
}

/// Every route that is described.
pub fn api() -> OpenApiRouter<Face> {
  OpenApiRouter::with_openapi(Description::openapi())
    .routes(routes!(kernels::list, kernels::create))
    .routes(routes!(kernels::delete))
    .routes(routes!(kernels::info))
    .routes(routes!(kernels::ping))
    .routes(routes!(kernels::restart))
    .routes(routes!(kernels::interrupt))
    .routes(routes!(executions::execute))
    .routes(routes!(executions::execute_stream))
    .routes(routes!(executions::submit))
    .routes(routes!(executions::result))
    .routes(routes!(executions::follow))
    .routes(routes!(executions::complete))
    .routes(routes!(executions::inspect))
    .routes(routes!(executions::is_complete))
    .routes(routes!(executions::input_reply))
    .routes(routes!(
      files::get_of_kernel,
      files::put_to_kernel,
      files::delete_of_kernel
    ))
    .routes(routes!(files::list_of_kernel))
    .routes(routes!(
      files::get_lasting,
      files::put_lasting,
      files::delete_lasting
    ))
    .routes(routes!(files::list_lasting))
    .routes(routes!(apps::list, apps::create))
    .routes(routes!(apps::update_published))
    .routes(routes!(apps::info, apps::update, apps::delete))
    .routes(routes!(apps::start))
    .routes(routes!(apps::stop))
    .routes(routes!(apps::reload))
    .routes(routes!(apps::stats))
    .routes(routes!(apps::logs))
    .routes(routes!(apps::follow))
    .routes(routes!(apps::execute))
    .routes(routes!(apps::execute_stream))
    .routes(routes!(providers::list, providers::add))
    .routes(routes!(providers::test))
    .routes(routes!(
      providers::info,
      providers::update,
      providers::remove
    ))
    .routes(routes!(indices::list))
    .routes(routes!(indices::stats))
    .routes(routes!(indices::create))
    .routes(routes!(indices::delete))
    .routes(routes!(indices::info))
    .routes(routes!(indices::ping))
    .routes(routes!(indices::set_timeout))
    .routes(routes!(indices::offload))
    .routes(routes!(indices::save))
    .routes(routes!(indices::verify))
    .routes(routes!(indices::change_provider))
    .routes(routes!(indices::export))
    .routes(routes!(indices::import))
    .routes(routes!(indices::offloaded))
    .routes(routes!(indices::delete_offloaded))
    .routes(routes!(indices::events))
    .routes(routes!(documents::list, documents::add, documents::remove))
    .routes(routes!(documents::get))
    .routes(routes!(documents::query))
    .routes(routes!(documents::generate))
    .routes(routes!(engine_status::status))
    .routes(routes!(engine_status::events))
}

/// `/api/openapi.json` and the page at `/api/docs`.
pub fn pages(document: utoipa::openapi::OpenApi) -> Router<Face> {
  SwaggerUi::new("/api/docs")
    .url("/api/openapi.json", document)
    .into()
}
