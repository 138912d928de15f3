//! Apps that are published on a Hypha server.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::Hypha;
use crate::support::PATIENCE;
use crate::support::Server;
use crate::support::ServerBuilder;

/// A server that runs what the Hypha server publishes, and may reach it: it is on this machine.
fn engine(hypha: &Hypha) -> Server {
  builder(hypha)
    .env("HYPHA_WORKSPACE", hypha.env("HYPHA_WORKSPACE"))
    .start()
}

/// One whose apps have no workspace.
fn builder(hypha: &Hypha) -> ServerBuilder {
  Server::builder()
    .env("LOAD_APPS", "true")
    .env("HYPHA_SERVER_URL", hypha.env("HYPHA_SERVER_URL"))
    .env("HYPHA_TOKEN", hypha.env("HYPHA_TOKEN"))
    .env("APPS_UPDATE_SECONDS", "3600")
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true, "import": true}"#)
}

async fn get(server: &Server, path: &str) -> Value {
  server.client().get(path).await.ok()
}

/// The listed app, once `done` says that it is as expected.
async fn app(server: &Server, id: &str, done: impl Fn(&Value) -> bool) -> Value {
  let mut last = Value::Null;
  let reached = async {
    loop {
      let apps = get(server, "/api/apps").await;
      let found = apps
        .as_array()
        .and_then(|apps| apps.iter().find(|app| app["id"] == id));
      last = found.cloned().unwrap_or(apps);
      if done(&last) {
        return;
      }
      tokio::time::sleep(Duration::from_millis(50)).await;
    }
  };
  let reached = tokio::time::timeout(PATIENCE, reached).await;
  assert!(reached.is_ok(), "{id} never became so: {last}");
  last
}

/// What an app has said so far; nothing while it is not known yet.
async fn log(server: &Server, id: &str) -> String {
  let path = format!("/api/apps/{id}/logs?lines=1000");
  let answer = server.client().get(&path).await;
  if answer.status == 404 {
    return String::new();
  }
  let entries = answer.ok();
  let entries = entries.as_array().into_iter().flatten();
  let texts = entries.filter_map(|entry| entry["text"].as_str());
  texts.collect::<Vec<_>>().join("\n")
}

/// Waits until the log of an app has a text.
async fn says(server: &Server, id: &str, text: &str) {
  let said = async {
    while !log(server, id).await.contains(text) {
      tokio::time::sleep(Duration::from_millis(50)).await;
    }
  };
  let said = tokio::time::timeout(PATIENCE, said).await;
  assert!(
    said.is_ok(),
    "{id} never said {text:?}: {}",
    log(server, id).await
  );
}

#[tokio::test]
async fn the_published_apps_do_what_their_manifests_say() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  for (id, status, text) in [
    ("hello-app", "exited", "hello-app started number"),
    ("ticker-app", "running", "ticker-app armed"),
    ("js-app", "exited", "js-app up"),
    ("python-app", "exited", "python-app up"),
    ("service-app", "running", "for hypha-agents"),
  ] {
    app(&server, id, |app| app["status"] == status).await;
    says(&server, id, text).await;
  }
  for (id, reason) in [
    ("failing-app", "boom at start"),
    ("syntax-error-app", "SyntaxError"),
  ] {
    let failed = |app: &Value| {
      app["reason"]
        .as_str()
        .is_some_and(|why| why.contains(reason))
    };
    app(&server, id, failed).await;
  }
  let refused = app(&server, "no-script-app", |app| app["source"] == "refused").await;
  let reason = refused["reason"].as_str().unwrap_or_default();
  assert!(reason.contains("startup_script"), "{reason}");
  let apps = get(&server, "/api/apps").await;
  assert_eq!(
    apps.as_array().map(Vec::len),
    Some(8),
    "no draft, no agent: {apps}"
  );
}

#[tokio::test]
async fn code_is_executed_in_a_published_app() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  app(&server, "hello-app", |app| app["status"] == "exited").await;
  let answer = server
    .client()
    .post(
      "/api/apps/hypha-agents%2Fhello-app/execute",
      &json!({"code": "greet('you')"}),
    )
    .await;
  assert!(answer.text.contains("hello you"), "{}", answer.text);
}

#[tokio::test]
async fn an_app_registers_services_with_a_token_of_its_own() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  says(&server, "service-app", "registered hypha-agents/").await;
  let code = "Deno.env.get('HYPHA_TOKEN').length > 20";
  let answer = server
    .client()
    .post("/api/apps/service-app/execute", &json!({ "code": code }))
    .await;
  assert!(answer.text.contains("true"), "{}", answer.text);
  let own = format!(
    "Deno.env.get('HYPHA_TOKEN') === '{}'",
    hypha.env("HYPHA_TOKEN")
  );
  let answer = server
    .client()
    .post("/api/apps/service-app/execute", &json!({ "code": own }))
    .await;
  assert!(answer.text.contains("false"), "not the engine's token");
}

const TYPESCRIPT_SERVICE: &str = r#"
import { connectToServer } from "hypha-rpc";
import type { Whatever } from "hypha-rpc";
const server_url = Deno.env.get("HYPHA_SERVER_URL"), token = Deno.env.get("HYPHA_TOKEN");
const server = await connectToServer({ server_url, token });
const greeter = { id: "greeter-ts", config: { visibility: "public" }, hello: (name: string) => `hello ${name}` };
console.log("greets as", (await server.registerService(greeter)).id);
"#;

const PYTHON_SERVICE: &str = r#"
import asyncio
import os

from hypha_rpc import connect_to_server

server = await connect_to_server({"server_url": os.environ["HYPHA_SERVER_URL"], "token": os.environ["HYPHA_TOKEN"]})
greeter = {"id": "greeter-py", "config": {"visibility": "public"}, "hello": lambda name: f"hello {name}"}
print("greets as", (await server.register_service(greeter)).id)
await asyncio.Event().wait()
"#;

#[tokio::test]
async fn apps_serve_the_official_client_with_the_clients_that_the_engine_has() {
  let hypha = Hypha::shared().await;
  for (alias, script, lang) in [
    ("greeter-ts", TYPESCRIPT_SERVICE, "typescript"),
    ("greeter-py", PYTHON_SERVICE, "python"),
  ] {
    let publish = ["publish", alias, script, "--lang", lang];
    hypha.seed(&publish).await;
  }
  let server = engine(&hypha);
  for alias in ["greeter-ts", "greeter-py"] {
    says(&server, alias, "greets as hypha-agents/").await;
    let log = log(&server, alias).await;
    let service = log.split("greets as ").nth(1).unwrap_or_default();
    let service = service.lines().next().unwrap_or_default();
    assert_eq!(hypha.call(service, "hello", "you").await, "hello you");
    hypha.seed(&["delete", alias]).await;
  }
}

#[tokio::test]
async fn an_app_that_runs_finds_its_next_token_before_the_first_ends() {
  let hypha = Hypha::shared().await;
  let script = "let token; setInterval(() => {
    const next = Deno.env.get('HYPHA_TOKEN');
    if (token && next !== token) console.log('another token');
    token = next;
  }, 20)";
  hypha
    .seed(&["publish", "renewed", script, "--lang", "typescript"])
    .await;
  let server = builder(&hypha)
    .env("HYPHA_WORKSPACE", hypha.env("HYPHA_WORKSPACE"))
    .env("HYPHA_KERNEL_TOKEN_SECONDS", "4")
    .start();
  says(&server, "renewed", "another token").await;
  hypha.seed(&["delete", "renewed"]).await;
}

#[tokio::test]
async fn without_a_workspace_of_their_own_apps_get_no_token() {
  let hypha = Hypha::shared().await;
  let server = builder(&hypha).start();
  app(&server, "service-app", |app| app["instance"] != 0).await;
  let reached = async {
    while !log(&server, "service-app")
      .await
      .contains("HYPHA_WORKSPACE is not set")
    {
      tokio::time::sleep(Duration::from_millis(50)).await;
    }
  };
  let told = tokio::time::timeout(PATIENCE, reached).await;
  assert!(told.is_ok(), "{}", log(&server, "service-app").await);
  assert!(!server.log().contains("may publish others"));
  let shared = engine(&hypha);
  assert!(
    shared.log().contains("may publish others"),
    "{}",
    shared.log()
  );
}

#[tokio::test]
async fn a_new_version_is_picked_up_and_what_is_no_longer_published_ends() {
  let hypha = Hypha::shared().await;
  hypha
    .seed(&[
      "publish",
      "short-lived",
      "setInterval(() => {}, 1000); console.log('first')",
      "--lang",
      "typescript",
    ])
    .await;
  let server = engine(&hypha);
  says(&server, "short-lived", "first").await;
  hypha
    .seed(&[
      "edit",
      "short-lived",
      "setInterval(() => {}, 1000); console.log('second')",
    ])
    .await;
  let report = server.client().post("/api/apps/update", &json!({})).await;
  assert_eq!(report.ok()["reloaded"], json!(["short-lived"]));
  says(&server, "short-lived", "second").await;
  let report = server.client().post("/api/apps/update", &json!({})).await;
  assert_eq!(
    report.ok()["reloaded"],
    json!([]),
    "nothing has changed since"
  );
  hypha.seed(&["delete", "short-lived"]).await;
  let report = server.client().post("/api/apps/update", &json!({})).await;
  assert_eq!(report.ok()["removed"], json!(["short-lived"]));
  let gone = server.client().get("/api/apps/short-lived").await;
  assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_hypha_server_that_is_not_there_keeps_nothing_else_from_running() {
  let server = Server::builder()
    .env("LOAD_APPS", "true")
    .env("HYPHA_SERVER_URL", "http://127.0.0.1:9")
    .start();
  let manifest =
    json!({"id": "here", "lang": "ts", "startup_script": "Deno.serve(() => new Response('here'))"});
  let posted = server.client().post("/api/apps", &manifest).await;
  assert_eq!(posted.status, 201, "{}", posted.text);
  app(&server, "here", |app| app["ready"] == true).await;
  let report = server.client().post("/api/apps/update", &json!({})).await;
  report.refused(502, &["http://127.0.0.1:9"]);
}
