//! The API's description, and the page to try it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::binary;
use crate::support::shared_server;

#[tokio::test]
async fn the_server_describes_itself_as_docs_openapi_json_does() {
  let served = shared_server().client().get("/api/openapi.json").await.ok();
  let checked_in: Value = serde_json::from_str(&document("openapi.json")).expect("JSON");
  // Path by path first: the whole is too long to read.
  for (path, operations) in served["paths"].as_object().expect("paths") {
    assert_eq!(operations, &checked_in["paths"][path], "{path}: {STALE}");
  }
  let schemas = "/components/schemas";
  for (name, schema) in served
    .pointer(schemas)
    .and_then(Value::as_object)
    .expect("schemas")
  {
    let known = checked_in.pointer(schemas).map(|schemas| &schemas[name]);
    assert_eq!(Some(schema), known, "{name}: {STALE}");
  }
  assert!(served == checked_in, "{STALE}");
}

#[test]
fn what_is_generated_is_checked_in() {
  for (name, file) in [
    ("openapi", "openapi.json"),
    ("configuration", "configuration.md"),
  ] {
    let output = Command::new(binary()).args(["generate", name]).output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    for (printed, checked_in) in printed.lines().zip(document(file).lines()) {
      assert_eq!(printed, checked_in, "docs/{file}: {STALE}");
    }
    assert!(printed == document(file), "docs/{file}: {STALE}");
  }
}

const STALE: &str = "run `cargo xtask generate`, and look at what changed for clients";

fn document(name: &str) -> String {
  let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
  std::fs::read_to_string(docs.join(name)).expect("the document is there")
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
