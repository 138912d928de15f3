//! The API's description, and the page to try it.

use crate::support::shared_server;

#[tokio::test]
async fn the_description_lists_every_route_with_its_answers() {
  let document = shared_server().client().get("/api/openapi.json").await.ok();
  let paths = document["paths"].as_object().expect("paths");
  for (path, methods) in [
    ("/api/kernels", &["get", "post"][..]),
    ("/api/kernels/{id}", &["delete"]),
    ("/api/kernels/{id}/info", &["get"]),
    ("/api/kernels/{id}/ping", &["post"]),
    ("/api/kernels/{id}/restart", &["post"]),
    ("/api/kernels/{id}/interrupt", &["post"]),
    ("/api/kernels/{id}/execute", &["post"]),
    ("/api/kernels/{id}/execute/stream", &["post"]),
    ("/api/kernels/{id}/execute/submit", &["post"]),
    ("/api/kernels/{id}/execute/result/{session}", &["get"]),
    ("/api/kernels/{id}/execute/stream/{session}", &["get"]),
    ("/api/kernels/{id}/complete", &["post"]),
    ("/api/kernels/{id}/inspect", &["post"]),
    ("/api/kernels/{id}/is-complete", &["post"]),
    ("/api/kernels/{id}/input-reply", &["post"]),
    ("/api/status", &["get"]),
    ("/api/events", &["get"]),
  ] {
    for method in methods {
      let operation = &paths[path][method];
      assert!(operation["responses"]["200"].is_object(), "{method} {path}");
      assert!(operation["summary"].is_string() || operation["description"].is_string());
    }
  }
  assert!(document["components"]["securitySchemes"]["token"].is_object());
}

#[tokio::test]
async fn there_is_a_page_to_try_it() {
  let client = shared_server().client();
  let page = client.get("/api/docs/").await;
  assert_eq!(page.status, 200);
  assert!(
    page
      .header("content-type")
      .is_some_and(|t| t.starts_with("text/html"))
  );
  assert!(page.text.contains("swagger"));
  // The start page leads there.
  assert_eq!(client.get("/").await.text, page.text);
}
