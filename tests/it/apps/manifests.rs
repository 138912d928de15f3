//! Manifests that are posted: what is wrong with one is named.

use serde_json::Value;
use serde_json::json;

use super::app_of;
use super::apps_server;
use crate::support::unique;

/// A manifest with an id of its own, and these members.
fn manifest(members: &Value) -> Value {
  let mut manifest = json!({"id": unique("m"), "lang": "ts", "startup_script": "1"});
  for (name, value) in members.as_object().expect("an object") {
    manifest[name] = value.clone();
  }
  manifest
}

#[tokio::test]
async fn what_is_wrong_with_a_manifest_is_named() {
  let client = apps_server().client();
  for (members, words) in [
    (
      json!({"startup_script": null}),
      ["startup_script: missing", "entry"],
    ),
    (
      json!({"startup_script": " \n"}),
      ["startup_script", "empty"],
    ),
    (json!({"startup_script": 1}), ["startup_script", "string"]),
    (json!({"entry": "main.ts"}), ["entry", "startup_script"]),
    (
      json!({"startup_script": null, "entry": "main.ts"}),
      ["entry", "startup_script"],
    ),
    (json!({"lang": "cobol"}), ["lang", "cobol"]),
    (json!({"colour": "red"}), ["colour", "unknown field"]),
    (json!({"id": null}), ["id", "missing"]),
    (json!({"id": ""}), ["id", "A-Z"]),
    (json!({"id": "../up"}), ["id", "../up"]),
    (json!({"id": "a/b"}), ["id", "a/b"]),
    (json!({"id": ".."}), ["id", "dot"]),
    (json!({"id": ".hidden"}), ["id", "dot"]),
    (json!({"id": "a b"}), ["id", "a b"]),
    (json!({"id": 7}), ["id", "string"]),
    (json!({"id": "x".repeat(129)}), ["id", "128"]),
    (json!({"env": {"A": 1}}), ["env.A", "string"]),
    (json!({"env": {"A=B": "x"}}), ["env", "A=B"]),
    (json!({"env": {"A": "\0"}}), ["env", "NUL"]),
    (json!({"port": 0}), ["port", "0"]),
    (json!({"port": 70_000}), ["port", "70000"]),
    (json!({"port": "80"}), ["port", "invalid type"]),
    (json!({"restart": "sometimes"}), ["restart", "sometimes"]),
    (
      json!({"permissions": {"net": 1}}),
      ["permissions.net", "list"],
    ),
    (
      json!({"permissions": {"fly": true}}),
      ["permissions.fly", "unknown field"],
    ),
    (
      json!({"limits": {"heap": 64}}),
      ["limits.heap", "unknown field"],
    ),
    (json!({"limits": {"heapMb": 1}}), ["limits.heapMb", "64"]),
  ] {
    let answer = client.try_post_app(&manifest(&members)).await;
    assert_eq!(answer.status, 400, "{members}: {}", answer.text);
    answer.refused(400, &words);
  }
}

#[tokio::test]
async fn a_body_that_is_no_manifest_is_refused() {
  let client = apps_server().client();
  for body in ["", "{", "[]", "1", "\"text\"", "{\"id\": \"a\"} x"] {
    let request = client
      .request(reqwest::Method::POST, "/api/apps")
      .header("content-type", "application/json")
      .body(body);
    let answer = client.read(request).await;
    assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    assert!(!answer.error().is_empty());
  }
}

#[tokio::test]
async fn more_than_the_server_allows_is_forbidden_and_named() {
  let client = apps_server().client();
  for (members, words) in [
    (
      json!({"permissions": {"run": true}}),
      ["permissions.run", "KERNEL_PERMISSIONS_MAX"],
    ),
    (
      json!({"permissions": {"run": ["git"]}}),
      ["permissions.run", "git"],
    ),
    (
      json!({"permissions": {"read": ["/etc"]}}),
      ["permissions.read", "/etc"],
    ),
    (
      json!({"permissions": {"write": true}}),
      ["permissions.write", "everything"],
    ),
    (
      json!({"permissions": {"ffi": true}}),
      ["permissions.ffi", "everything"],
    ),
    (
      json!({"permissions": {"sys": ["hostname"]}}),
      ["permissions.sys", "hostname"],
    ),
    (
      json!({"limits": {"memoryMb": 1_000_000}}),
      ["limits.memoryMb", "1000000"],
    ),
    (
      json!({"limits": {"heapMb": 1_000_000}}),
      ["limits.heapMb", "1000000"],
    ),
  ] {
    let manifest = manifest(&members);
    let answer = client.try_post_app(&manifest).await;
    assert_eq!(answer.status, 403, "{members}: {}", answer.text);
    answer.refused(403, &words);
    let path = format!("/api/apps/{}", manifest["id"].as_str().expect("an id"));
    client.get(&path).await.refused(404, &["not found"]);
  }
}

#[tokio::test]
async fn an_id_that_is_taken_is_a_conflict() {
  let app = app_of(json!({"startup_script": "1"})).await;
  let again = json!({"id": app.id, "lang": "ts", "startup_script": "2"});
  let answer = app.client.try_post_app(&again).await;
  answer.refused(409, &[&app.id, "already exists"]);
}

#[tokio::test]
async fn of_many_posts_with_one_id_one_wins() {
  let client = apps_server().client();
  let manifest = manifest(&json!({"startup_script": "Deno.serve(() => new Response('up'))"}));
  let posts = (0..6).map(|_| client.try_post_app(&manifest));
  let answers = futures::future::join_all(posts).await;
  let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
  statuses.sort_unstable();
  assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
  let app = client.app(manifest["id"].as_str().expect("an id"));
  app.answers("up").await;
  assert_eq!(app.delete().await.status, 200);
}

#[tokio::test]
async fn what_a_manifest_says_is_shown_but_for_the_values_of_its_environment() {
  let app = app_of(json!({
    "name": "Shop", "description": "Sells things", "version": "1.2.3",
    "startup_script": "Deno.serve(() => new Response(Deno.env.get('API_KEY')));",
    "env": {"API_KEY": "s3cret-value", "OTHER": "x"},
    "permissions": {"net": ["example.com"]},
    "limits": {"heapMb": 128},
    "restart": "always",
  }))
  .await;
  app.answers("s3cret-value").await;
  let info = app.info().await;
  assert_eq!(info["name"], "Shop");
  assert_eq!(info["description"], "Sells things");
  assert_eq!(info["version"], "1.2.3");
  assert_eq!(info["env"], json!(["API_KEY", "OTHER"]));
  assert_eq!(info["permissions"], json!({"net": ["example.com"]}));
  assert_eq!(info["limits"], json!({"heapMb": 128}));
  assert_eq!(info["restart"], "always");
  for path in ["", "/stats", "/logs"] {
    let text = app.client.get(&app.api(path)).await.text;
    assert!(!text.contains("s3cret-value"), "{path}: {text}");
  }
  let list = app.client.get("/api/apps").await.text;
  assert!(list.contains(&app.id) && !list.contains("s3cret-value"));
  assert!(!app.created.to_string().contains("s3cret-value"));
  assert!(!app.reload().await.text.contains("s3cret-value"));
  assert!(!apps_server().log().contains("s3cret-value"));
}

#[tokio::test]
async fn an_app_sees_the_environment_of_its_manifest_and_nothing_of_the_servers() {
  let app = app_of(json!({
    "startup_script": "Deno.serve(() => Response.json(Object.keys(Deno.env.toObject()).sort()));",
    "env": {"OWN": "1"},
  }))
  .await;
  let names = app.get("/").await.ok();
  for name in ["APP_DATA_DIR", "APP_ID", "OWN"] {
    assert!(
      names.as_array().is_some_and(|n| n.contains(&json!(name))),
      "{names}"
    );
  }
  let of_the_server = names.as_array().expect("an array").iter().any(|name| {
    let name = name.as_str().unwrap_or_default();
    name.starts_with("ENGINE_") || name.starts_with("KERNEL_") || name == "APPS_DIR"
  });
  assert!(!of_the_server, "{names}");
}

#[tokio::test]
async fn an_app_is_typescript_javascript_or_python_as_its_manifest_says() {
  for (lang, script, language) in [
    (
      "typescript",
      "const n: number = 1; console.log('ran', n)",
      "typescript",
    ),
    ("ts", "console.log('ran')", "typescript"),
    ("javascript", "console.log('ran')", "javascript"),
    ("js", "console.log('ran')", "javascript"),
    ("python", "print('ran')", "python"),
  ] {
    let app = app_of(json!({"lang": lang, "startup_script": script})).await;
    app.says("ran").await;
    assert_eq!(app.info().await["language"], language);
  }
}

#[tokio::test]
async fn a_language_that_the_server_does_not_allow_is_refused() {
  let client = apps_server().client();
  let manifest = manifest(&json!({"lang": "cpython", "startup_script": "print(1)"}));
  let answer = client.try_post_app(&manifest).await;
  answer.refused(403, &["cpython"]);
}
