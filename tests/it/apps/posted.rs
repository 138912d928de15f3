//! Apps that are posted: kept over restarts of the server, replaced and deleted.

use rustix::process::Signal;
use serde_json::json;

use super::app_of;
use super::apps_server;
use crate::support::Server;
use crate::support::unique;

#[tokio::test]
async fn posted_apps_are_there_again_after_a_restart_of_the_server() {
  let data = tempfile::tempdir().expect("a folder");
  let mut server = Server::builder().data_dir(data.path()).start();
  let client = server.client();
  let manifest = json!({
    "id": "kept", "name": "Kept", "lang": "typescript", "version": "2",
    "startup_script": "Deno.serve(() => new Response(`grüße ${Deno.env.get('WHO')}`));",
    "env": {"WHO": "you"}, "permissions": {"net": ["example.com"]},
    "limits": {"heapMb": 128}, "restart": "always",
  });
  let kept = client.post_app(manifest).await.kept();
  kept.answers("grüße you").await;
  let deleted = client
    .post_app(json!({"id": "deleted", "startup_script": "1"}))
    .await;
  assert_eq!(deleted.delete().await.status, 200);
  let changed = client
    .post_app(json!({"id": "changed", "startup_script": "Deno.serve(() => new Response('old'))"}))
    .await
    .kept();
  changed.answers("old").await;
  let new = json!({"lang": "ts", "startup_script": "Deno.serve(() => new Response('new'))"});
  changed.put(&new).await.ok();
  let mut before = kept.info().await;
  server.signal(Signal::TERM);
  server.ended().await;

  let server = Server::builder().data_dir(data.path()).start();
  let client = server.client();
  let ids: Vec<_> = client
    .apps()
    .await
    .iter()
    .map(|app| app["id"].clone())
    .collect();
  assert_eq!(ids, ["changed", "kept"]);
  let kept = client.app("kept");
  kept.answers("grüße you").await;
  let mut after = kept.info().await;
  for changing in ["created", "since", "pid", "instance"] {
    before[changing] = json!(null);
    after[changing] = json!(null);
  }
  assert_eq!(after, before);
  client.app("changed").answers("new").await;
}

#[tokio::test]
async fn posted_apps_survive_a_server_that_is_killed() {
  let data = tempfile::tempdir().expect("a folder");
  let mut server = Server::builder().data_dir(data.path()).start();
  let manifest = json!({"id": "kept", "startup_script": "Deno.serve(() => new Response('up'))"});
  server
    .client()
    .post_app(manifest)
    .await
    .kept()
    .ready()
    .await;
  server.signal(Signal::KILL);
  server.ended().await;
  let server = Server::builder().data_dir(data.path()).start();
  server.client().app("kept").answers("up").await;
}

#[tokio::test]
async fn a_manifest_is_replaced_and_the_app_reloaded() {
  let app =
    app_of(json!({"startup_script": "Deno.serve(() => new Response('old'))", "name": "Old"})).await;
  app.answers("old").await;
  let new = json!({"lang": "js", "startup_script": "Deno.serve(() => new Response('new'))", "restart": "never"});
  let info = app.put(&new).await.ok();
  assert_eq!(
    (&info["instance"], &info["ready"]),
    (&json!(2), &json!(true))
  );
  assert_eq!(
    (&info["language"], &info["restart"]),
    (&json!("javascript"), &json!("never"))
  );
  assert!(info["name"].is_null(), "{info}");
  app.answers("new").await;
}

#[tokio::test]
async fn a_replacement_that_does_not_come_up_leaves_the_app_as_it_was() {
  let app =
    app_of(json!({"startup_script": "Deno.serve(() => new Response('good'))", "name": "Good"}))
      .await;
  app.answers("good").await;
  let bad = json!({"lang": "ts", "startup_script": "throw new Error('bad')", "name": "Bad"});
  let answer = app.put(&bad).await;
  assert_eq!(answer.status, 500, "{}", answer.text);
  let message = answer.error();
  assert!(
    message.contains("Error: bad") && message.contains("goes on"),
    "{message}"
  );
  app.answers("good").await;
  let info = app.info().await;
  assert_eq!(
    (&info["name"], &info["status"]),
    (&json!("Good"), &json!("running"))
  );
  // Nor when it is started again.
  app.stop().await;
  app.start().await;
  app.answers("good").await;
}

#[tokio::test]
async fn a_replacement_that_is_wrong_is_refused() {
  let app = app_of(json!({"startup_script": "Deno.serve(() => new Response('good'))"})).await;
  app.ready().await;
  let pid = app.pid().await;
  for (manifest, status, words) in [
    (json!({"lang": "ts"}), 400, ["startup_script", "missing"]),
    (
      json!({"lang": "ts", "startup_script": "1", "id": "other"}),
      400,
      ["id", "other"],
    ),
    (
      json!({"lang": "ts", "startup_script": "1", "colour": 1}),
      400,
      ["colour", "unknown"],
    ),
    (
      json!({"lang": "ts", "startup_script": "1", "permissions": {"run": true}}),
      403,
      ["permissions.run", "KERNEL_PERMISSIONS_MAX"],
    ),
  ] {
    app.put(&manifest).await.refused(status, &words);
  }
  app.answers("good").await;
  assert_eq!(app.pid().await, pid);
  let nobody = format!("/api/apps/{}", unique("nobody"));
  let manifest = json!({"lang": "ts", "startup_script": "1"});
  let client = apps_server().client();
  client
    .put(&nobody, &manifest)
    .await
    .refused(404, &["not found"]);
}

#[tokio::test]
async fn the_number_of_apps_is_limited() {
  let server = Server::builder().env("APPS_MAX_COUNT", "2").start();
  let client = server.client();
  let post = |id: &str| json!({"id": id, "lang": "ts", "startup_script": "1"});
  for id in ["a", "b"] {
    assert_eq!(client.try_post_app(&post(id)).await.status, 201);
  }
  let answer = client.try_post_app(&post("c")).await;
  answer.refused(429, &["2 apps", "APPS_MAX_COUNT"]);
  assert_eq!(client.app("a").delete().await.status, 200);
  assert_eq!(client.try_post_app(&post("c")).await.status, 201);
}

#[tokio::test]
async fn apps_are_no_kernels() {
  let app = app_of(json!({"startup_script": "Deno.serve(() => new Response('up'))"})).await;
  app.ready().await;
  let kernels = app.client.list("").await;
  assert!(
    kernels.iter().all(|kernel| kernel["id"] != app.id),
    "{kernels:?}"
  );
  let answer = app
    .client
    .get(&format!("/api/kernels/{}/info", app.id))
    .await;
  assert_eq!(answer.status, 404);
}
