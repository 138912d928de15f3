//! Who may manage apps, and who may use them.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::json;

use crate::support::Server;
use crate::support::ServerBuilder;
use crate::support::WebSocket;

const ECHO: &str = "Deno.serve((request) => {
  if (request.headers.get('upgrade')) return Deno.upgradeWebSocket(request).response;
  return Response.json({ authorization: request.headers.get('authorization') });
});";

fn guarded() -> ServerBuilder {
  Server::builder().env("ENGINE_TOKENS", "all=*, lab-token=lab")
}

fn guarded_server() -> &'static Server {
  static SERVER: LazyLock<Server> = LazyLock::new(|| guarded().start());
  &SERVER
}

#[tokio::test]
async fn without_a_token_nobody_learns_of_apps_nor_uses_them() {
  let server = guarded_server();
  let all = server.client().with_token("all");
  let app = all.post_app(json!({"startup_script": ECHO})).await;
  app.ready().await;
  for client in [server.client(), server.client().with_token("wrong")] {
    let manifest = json!({"id": "x", "lang": "ts", "startup_script": "1"});
    for answer in [
      client.get("/api/apps").await,
      client.try_post_app(&manifest).await,
      client.get(&app.api("")).await,
      client.get(&app.api("/logs")).await,
      client.get(&app.api("/logs/stream")).await,
      client.get(&app.api("/stats")).await,
      client.put(&app.api(""), &manifest).await,
      client.delete(&app.api("")).await,
      client.post_empty(&app.api("/start")).await,
      client.post_empty(&app.api("/stop")).await,
      client.post_empty(&app.api("/reload")).await,
      client
        .post(&app.api("/execute"), &json!({"code": "1"}))
        .await,
      client
        .post(&app.api("/execute/stream"), &json!({"code": "1"}))
        .await,
      client.post_empty("/api/apps/update").await,
      client.get(&app.path("/")).await,
      // Nor is it told which apps there are.
      client.get("/apps/nobody/").await,
    ] {
      answer.refused(401, &["Authorization: Bearer"]);
    }
  }
  assert_eq!(app.get("/").await.status, 200);
  assert_eq!(app.info().await["instance"], 1);
}

#[tokio::test]
async fn a_token_for_a_namespace_uses_apps_but_does_not_manage_them() {
  let server = guarded_server();
  let app = server
    .client()
    .with_token("all")
    .post_app(json!({"startup_script": ECHO}))
    .await;
  app.ready().await;
  let lab = server.client().with_token("lab-token");
  let manifest = json!({"id": "x", "lang": "ts", "startup_script": "1"});
  for answer in [
    lab.get("/api/apps").await,
    lab.try_post_app(&manifest).await,
    lab.get(&app.api("")).await,
    lab.get(&app.api("/logs")).await,
    lab.get(&app.api("/logs/stream")).await,
    lab.get(&app.api("/stats")).await,
    lab.put(&app.api(""), &manifest).await,
    lab.delete(&app.api("")).await,
    lab.post_empty(&app.api("/stop")).await,
    lab.post_empty(&app.api("/reload")).await,
    lab.post(&app.api("/execute"), &json!({"code": "1"})).await,
    lab.post_empty("/api/apps/update").await,
    lab.get("/api/apps/nobody").await,
  ] {
    answer.refused(403, &["operator", "lab"]);
  }
  assert_eq!(lab.get(&app.path("/")).await.status, 200);
  assert_eq!(app.info().await["instance"], 1);
}

#[tokio::test]
async fn the_engines_token_is_not_passed_on_and_others_are() {
  let server = guarded().env("APPS_PUBLIC", "true").start();
  let all = server.client().with_token("all");
  let app = all.post_app(json!({"startup_script": ECHO})).await;
  app.ready().await;
  for token in ["all", "lab-token"] {
    let seen = server
      .client()
      .with_token(token)
      .get(&app.path("/"))
      .await
      .ok();
    assert_eq!(seen, json!({"authorization": null}));
  }
  for value in ["Bearer of-the-app", "Basic eDp5"] {
    let client = server.client();
    let request = client
      .request(Method::GET, &app.path("/"))
      .header("authorization", value);
    assert_eq!(
      client.read(request).await.ok(),
      json!({"authorization": value})
    );
  }
  let seen = server.client().get(&app.path("/")).await.ok();
  assert_eq!(seen, json!({"authorization": null}));
  // Public are the apps, not the API.
  server
    .client()
    .get("/api/apps")
    .await
    .refused(401, &["token"]);
}

#[tokio::test]
async fn a_websocket_needs_a_token_as_well() {
  let server = guarded_server();
  let app = server
    .client()
    .with_token("all")
    .post_app(json!({"startup_script": ECHO}))
    .await;
  app.ready().await;
  let refused = WebSocket::open(server.port(), &app.path("/"), "").await;
  let head = refused.err().expect("is refused");
  assert!(head.starts_with("HTTP/1.1 401"), "{head}");
  let token = "Authorization: Bearer all\r\n";
  assert!(
    WebSocket::open(server.port(), &app.path("/"), token)
      .await
      .is_ok()
  );
}

#[tokio::test]
async fn where_there_are_no_tokens_every_authorization_is_the_apps() {
  let app = super::app(ECHO).await;
  app.ready().await;
  let request = app
    .client
    .request(Method::GET, &app.path("/"))
    .bearer_auth("anything");
  let seen = app.client.read(request).await.ok();
  assert_eq!(seen, json!({"authorization": "Bearer anything"}));
}

#[tokio::test]
async fn an_app_does_not_learn_the_tokens_of_the_engine() {
  let server = guarded_server();
  let script = "
    const texts = [JSON.stringify(Deno.env.toObject())];
    for (const file of ['/proc/self/environ', `/proc/${Deno.ppid}/environ`, `/proc/${Deno.ppid}/cmdline`]) {
      texts.push(await Deno.readTextFile(file).catch((error) => error.name));
    }
    Deno.serve(() => Response.json(texts));";
  let app = server
    .client()
    .with_token("all")
    .post_app(json!({"startup_script": script}))
    .await;
  let seen = app.get("/").await.text;
  assert!(!seen.contains("lab-token"), "{seen}");
}
