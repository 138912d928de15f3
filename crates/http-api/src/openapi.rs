//! The API's description, generated from the handlers, and a page to try it.

use axum::Router;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::Http;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::Face;
use crate::agents;
use crate::apps;
use crate::comms;
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
    description = "Runs TypeScript, JavaScript and Python in kernels and as apps, and finds documents by vectors."
  ),
  modifiers(&BearerToken),
  tags(
    (name = "kernels", description = "Create, list, restart, interrupt and delete kernels"),
    (name = "executions", description = "Run code in a kernel, and read or follow its output"),
    (name = "code intelligence", description = "Complete and inspect code, and answer prompts"),
    (name = "comms", description = "Talk with the widgets of a kernel, as Jupyter's comms do"),
    (name = "apps", description = "Programs that the engine starts and keeps running; requests to one go to `/apps/{id}/`"),
    (name = "agents", description = "Models that solve tasks by running code in kernels"),
    (name = "vector database", description = "Indices of documents, found by meaning, by words and by metadata"),
    (name = "engine", description = "Status and events of the engine")
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

/// Every route that is described, with what it takes and answers.
fn described() -> Vec<UtoipaMethodRouter<Face>> {
  vec![
    routes!(kernels::list, kernels::create),
    routes!(kernels::delete),
    routes!(kernels::info),
    routes!(kernels::ping),
    routes!(kernels::set_timeout),
    routes!(kernels::restart),
    routes!(kernels::interrupt),
    routes!(executions::execute),
    routes!(executions::execute_stream),
    routes!(executions::submit),
    routes!(executions::result),
    routes!(executions::follow),
    routes!(executions::complete),
    routes!(executions::inspect),
    routes!(executions::is_complete),
    routes!(executions::input_reply),
    routes!(comms::list, comms::send),
    routes!(
      files::get_of_kernel,
      files::put_to_kernel,
      files::delete_of_kernel
    ),
    routes!(files::list_of_kernel),
    routes!(
      files::get_lasting,
      files::put_lasting,
      files::delete_lasting
    ),
    routes!(files::list_lasting),
    routes!(apps::list, apps::create),
    routes!(apps::update_published),
    routes!(apps::info, apps::update, apps::delete),
    routes!(apps::start),
    routes!(apps::stop),
    routes!(apps::reload),
    routes!(apps::stats),
    routes!(apps::logs),
    routes!(apps::follow),
    routes!(apps::execute),
    routes!(apps::execute_stream),
    routes!(agents::list, agents::create),
    routes!(agents::events),
    routes!(agents::stats),
    routes!(
      agents::models::list,
      agents::models::add,
      agents::models::set_rules
    ),
    routes!(
      agents::models::info,
      agents::models::update,
      agents::models::remove
    ),
    routes!(agents::info, agents::update, agents::delete),
    routes!(agents::attach, agents::detach),
    routes!(agents::conversation, agents::clear_conversation),
    routes!(agents::set_conversation),
    routes!(agents::runs::chat),
    routes!(agents::runs::chat_stateless),
    routes!(agents::runs::list),
    routes!(agents::runs::info),
    routes!(agents::runs::follow),
    routes!(agents::runs::cancel),
    routes!(agents::runs::resume),
    routes!(providers::list, providers::add),
    routes!(providers::test),
    routes!(providers::info, providers::update, providers::remove),
    routes!(indices::list),
    routes!(indices::stats),
    routes!(indices::create),
    routes!(indices::delete),
    routes!(indices::info),
    routes!(indices::ping),
    routes!(indices::set_timeout),
    routes!(indices::offload),
    routes!(indices::save),
    routes!(indices::verify),
    routes!(indices::change_provider),
    routes!(indices::export),
    routes!(indices::import),
    routes!(indices::offloaded),
    routes!(indices::delete_offloaded),
    routes!(indices::events),
    routes!(documents::list, documents::add, documents::remove),
    routes!(documents::get),
    routes!(documents::query),
    routes!(documents::generate),
    routes!(engine_status::status),
    routes!(engine_status::events),
  ]
}

/// The routes, and their description.
pub(crate) fn api() -> OpenApiRouter<Face> {
  let empty = OpenApiRouter::with_openapi(Description::openapi());
  described().into_iter().fold(empty, OpenApiRouter::routes)
}

/// The description alone, which is the same for every server.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
  api().into_openapi()
}

/// `/api/openapi.json` and the page at `/api/docs`.
pub(crate) fn pages(document: utoipa::openapi::OpenApi) -> Router<Face> {
  SwaggerUi::new("/api/docs")
    .url("/api/openapi.json", document)
    .into()
}

#[cfg(test)]
mod tests {
  use std::collections::BTreeMap;
  use std::collections::BTreeSet;

  use serde_json::Value;

  use super::*;

  #[test]
  fn a_schema_has_one_meaning_whichever_route_names_it() {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    for (schemas, paths, _) in described() {
      for (name, schema) in schemas {
        let schema = serde_json::to_value(schema).expect("schemas are JSON");
        let paths: Vec<_> = paths.paths.keys().collect();
        let first = known.entry(name.clone()).or_insert_with(|| schema.clone());
        assert_eq!(
          *first, schema,
          "{name} of {paths:?}: another type of that name came before"
        );
      }
    }
    assert!(known.len() > 50, "{}", known.len());
  }

  #[test]
  fn every_reference_to_a_schema_finds_one() {
    let document = serde_json::to_value(document()).expect("a document is JSON");
    let mut wanted = BTreeSet::new();
    references(&document, &mut wanted);
    assert!(wanted.len() > 20, "{wanted:?}");
    for reference in wanted {
      let path = reference.trim_start_matches('#');
      assert!(document.pointer(path).is_some(), "{reference}");
    }
  }

  fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
      Value::Object(members) => {
        let reference = members.get("$ref").and_then(Value::as_str);
        found.extend(reference.map(str::to_owned));
        members.values().for_each(|it| references(it, found));
      }
      Value::Array(items) => items.iter().for_each(|it| references(it, found)),
      _ => {}
    }
  }

  #[test]
  fn every_route_of_the_router_is_described() {
    let (router, document) = api().split_for_parts();
    let described: BTreeSet<String> = document.paths.paths.keys().cloned().collect();
    assert_eq!(routed(&router), described);
  }

  /// The paths of a router, which it tells in no other way.
  fn routed(router: &Router<Face>) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let quoted = text.split('"').skip(1).step_by(2);
    quoted
      .filter(|it| it.starts_with("/api/"))
      .map(str::to_owned)
      .collect()
  }

  #[test]
  fn every_operation_says_what_it_does_and_how_it_answers() {
    let document = serde_json::to_value(document()).expect("a document is JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = 0;
    for (path, methods) in paths {
      for (method, operation) in methods.as_object().expect("methods") {
        operations += 1;
        let said = &operation["summary"];
        assert!(said.is_string(), "{method} {path} has no summary");
        let answers = operation["responses"].as_object().expect("answers");
        let good = answers.keys().any(|status| status.starts_with('2'));
        assert!(good, "{method} {path} has no good answer");
      }
    }
    assert!(operations >= 60, "{operations}");
    assert!(document["components"]["securitySchemes"]["token"].is_object());
  }
}
