//! Reloading: what changed takes effect, what is broken does not, and no request is lost.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::json;

use super::Folder;
use super::app;
use super::app_of;
use super::apps_server;
use crate::support::Frame;
use crate::support::WebSocket;
use crate::support::exists;
use crate::support::in_time;

const CLIENTS: usize = 50;

#[tokio::test]
async fn no_request_fails_while_an_app_is_reloaded_under_load() {
  let app = app(
    "Deno.serve(async (request) => {
       await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
       return new Response(request.body);
     });",
  )
  .await;
  app.ready().await;
  let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
  let clients = (0..CLIENTS).map(|i| {
    let (app, done, served) = (&app, &done, &served);
    async move {
      let client = apps_server().client();
      let mut failures = Vec::new();
      while !done.load(Ordering::Relaxed) {
        let text = format!("{i}");
        let request = client
          .request(Method::POST, &app.path("/"))
          .body(text.clone());
        match request.send().await {
          Ok(response) => {
            let status = response.status();
            let body = response.text().await;
            if status != 200 || body.as_deref().ok() != Some(&text) {
              failures.push(format!("{status}: {body:?}"));
            }
          }
          Err(error) => failures.push(format!("{error:?}")),
        }
        served.fetch_add(1, Ordering::Relaxed);
      }
      failures
    }
  });
  let reloads = async {
    for number in 2..=11 {
      let before = served.load(Ordering::Relaxed);
      let info = app.reload().await.ok();
      assert_eq!(
        (&info["instance"], &info["ready"]),
        (&json!(number), &json!(true))
      );
      // Some requests meet every instance.
      crate::support::eventually("more requests are served", || async {
        served.load(Ordering::Relaxed) > before + CLIENTS
      })
      .await;
    }
    done.store(true, Ordering::Relaxed);
  };
  let (failures, ()) = futures::join!(futures::future::join_all(clients), reloads);
  let failures = failures.concat();
  assert!(
    failures.is_empty(),
    "{} failed: {:#?}",
    failures.len(),
    &failures[..failures.len().min(5)]
  );
  assert_eq!(app.info().await["restarts"], 0);
}

#[tokio::test]
async fn requests_in_hand_are_finished_by_the_instance_that_took_them() {
  let app = app(
    "const encoder = new TextEncoder();
     Deno.serve((request) => {
       const { pathname } = new URL(request.url);
       if (pathname === '/pid') return new Response(String(Deno.pid));
       let listener;
       const body = new ReadableStream({
         start(controller) { controller.enqueue(encoder.encode(`begun by ${Deno.pid}`)); listener = controller; },
       });
       setTimeout(() => { listener.enqueue(encoder.encode(', ended')); listener.close(); }, 3_000);
       return new Response(body);
     });",
  )
  .await;
  app.ready().await;
  let old = app.pid().await;
  let mut response = app
    .client
    .send(app.client.request(Method::GET, &app.path("/long")))
    .await;
  let first = response.chunk().await.expect("goes on");
  assert_eq!(first.as_deref(), Some(format!("begun by {old}").as_bytes()));
  app.reload().await.ok();
  let new = app.pid().await;
  assert_ne!(new, old);
  assert_eq!(
    app.client.get(&app.path("/pid")).await.text,
    new.to_string()
  );
  assert!(exists(old), "it has a request in hand");
  let rest = in_time("the rest of the answer", response.text()).await;
  assert_eq!(rest.expect("is whole"), ", ended");
  crate::support::eventually("the old instance is gone", || async { !exists(old) }).await;
}

#[tokio::test]
async fn websockets_are_served_on_by_the_instance_that_took_them() {
  let app = app(
    "Deno.serve((request) => {
       const { socket, response } = Deno.upgradeWebSocket(request);
       socket.onmessage = () => socket.send(String(Deno.pid));
       return response;
     });",
  )
  .await;
  app.ready().await;
  let old = app.pid().await.to_string();
  let socket = WebSocket::open(apps_server().port(), &app.path("/"), "").await;
  let mut socket = socket.expect("is opened");
  socket.say("who?").await;
  assert_eq!(socket.frame().await, Frame::Text(old.clone()));
  app.reload().await.ok();
  socket.say("who?").await;
  assert_eq!(socket.frame().await, Frame::Text(old.clone()));
  let other = WebSocket::open(apps_server().port(), &app.path("/"), "").await;
  let mut other = other.expect("is opened");
  other.say("who?").await;
  assert_ne!(other.frame().await, Frame::Text(old));
}

#[tokio::test]
async fn a_reload_applies_what_changed_on_disk() {
  let folder = Folder::new().with(&[
    (
      "shop/app.json",
      r#"{"entry": "main.ts", "env": {"PRICE": "1"}, "permissions": {"env": true}}"#,
    ),
    (
      "shop/main.ts",
      "import { name } from './name.ts';
       Deno.serve(() => new Response(`${name} ${Deno.env.get('PRICE')}`));",
    ),
    ("shop/name.ts", "export const name = 'old';"),
  ]);
  let server = folder.server().start();
  let app = server.client().app("shop");
  app.answers("old 1").await;
  // A module that is imported.
  folder.write("shop/name.ts", "export const name = 'new';");
  app.reload().await.ok();
  app.answers("new 1").await;
  // The environment.
  folder.write(
    "shop/app.json",
    r#"{"entry": "main.ts", "name": "The shop", "env": {"PRICE": "2"}, "permissions": {"env": true}}"#,
  );
  let info = app.reload().await.ok();
  assert_eq!(info["name"], "The shop");
  app.answers("new 2").await;
  // Permissions.
  folder.write(
    "shop/app.json",
    r#"{"entry": "main.ts", "env": {"PRICE": "2"}, "permissions": {"env": ["OTHER"]}}"#,
  );
  let info = app.reload().await.ok();
  assert_eq!(info["permissions"], json!({"env": ["OTHER"]}));
  assert_eq!(app.get("/").await.status, 500);
  // The script, and with it the language.
  folder.write(
    "shop/other.js",
    "Deno.serve(() => new Response('rewritten'));",
  );
  folder.write("shop/app.json", r#"{"entry": "other.js"}"#);
  let info = app.reload().await.ok();
  assert_eq!(info["language"], "javascript");
  app.answers("rewritten").await;
  assert_eq!(app.info().await["instance"], 5);
}

#[tokio::test]
async fn a_broken_new_version_leaves_the_old_one_serving_and_the_answer_says_why() {
  let folder = Folder::new().with(&[
    ("shop/app.json", r#"{"entry": "main.ts"}"#),
    ("shop/main.ts", "Deno.serve(() => new Response('good'));"),
  ]);
  let server = folder.server().start();
  let app = server.client().app("shop");
  app.answers("good").await;
  let pid = app.pid().await;
  for (script, words) in [
    ("const answer: number = ;", "SyntaxError"),
    ("throw new Error('no configuration');", "no configuration"),
    ("import './absent.ts';", "absent.ts"),
    ("Deno.exit(3);", "code 3"),
    (
      "Deno.readTextFileSync('/etc/hostname'); Deno.serve(() => new Response('bad'));",
      "NotCapable",
    ),
  ] {
    folder.write("shop/main.ts", script);
    let answer = app.reload().await;
    assert!(answer.status >= 400, "{script}: {}", answer.text);
    let message = answer.error();
    assert!(
      message.contains("shop") && message.contains(words),
      "{script}: {message}"
    );
    app.answers("good").await;
    let info = app.info().await;
    assert_eq!(
      (&info["pid"], &info["status"]),
      (&json!(pid), &json!("running")),
      "{script}: {info}"
    );
  }
  for (manifest, words) in [
    ("{", "not JSON"),
    (r#"{"entry": "main.ts", "colour": 1}"#, "colour"),
    (r#"{"entry": "other.ts"}"#, "other.ts"),
    (r#"{"entry": "main.ts", "id": "other"}"#, "other"),
    (
      r#"{"entry": "main.ts", "permissions": {"run": true}}"#,
      "permissions.run",
    ),
  ] {
    folder.write("shop/main.ts", "Deno.serve(() => new Response('bad'));");
    folder.write("shop/app.json", manifest);
    let answer = app.reload().await;
    assert!(
      (400..500).contains(&answer.status),
      "{manifest}: {} {}",
      answer.status,
      answer.text
    );
    let message = answer.error();
    assert!(message.contains(words), "{manifest}: {message}");
    app.answers("good").await;
    assert_eq!(app.info().await["pid"], pid);
  }
  folder.write("shop/app.json", r#"{"entry": "main.ts"}"#);
  folder.write(
    "shop/main.ts",
    "Deno.serve(() => new Response('repaired'));",
  );
  app.reload().await.ok();
  app.answers("repaired").await;
}

#[tokio::test]
async fn an_app_whose_files_are_gone_is_told_so_and_serves_on() {
  let folder = Folder::new().with(&[("alone.ts", "Deno.serve(() => new Response('up'));")]);
  let server = folder.server().start();
  let app = server.client().app("alone");
  app.answers("up").await;
  std::fs::remove_file(folder.path().join("alone.ts")).expect("can be removed");
  let answer = app.reload().await;
  assert!((400..500).contains(&answer.status), "{}", answer.text);
  assert!(answer.error().contains("alone.ts"), "{}", answer.text);
  app.answers("up").await;
}

#[tokio::test]
async fn an_app_that_does_not_serve_is_reloaded_too() {
  let app = app_of(json!({"startup_script": "console.log('ran')", "restart": "never"})).await;
  app.becomes("exited").await;
  app.reload().await.ok();
  app
    .shows("ran again", |info| {
      info["instance"] == 2 && info["status"] == "exited"
    })
    .await;
  assert_eq!(app.lines("stdout").await, ["ran", "ran"]);
}

#[tokio::test]
async fn a_stopped_app_runs_after_a_reload() {
  let app = app("Deno.serve(() => new Response('up'));").await;
  app.ready().await;
  app.stop().await;
  app.reload().await.ok();
  app.answers("up").await;
}

#[tokio::test]
async fn a_reload_that_is_overtaken_by_another_says_so() {
  let app = app(
    "if (Deno.env.get('APP_DATA_DIR') && await Deno.stat(Deno.env.get('APP_DATA_DIR') + '/slow').catch(() => null)) {
       console.log('slow'); setInterval(() => {}, 1_000); await new Promise(() => {});
     }
     Deno.serve(async () => { await Deno.writeTextFile(Deno.env.get('APP_DATA_DIR') + '/slow', ''); return new Response('up'); });",
  )
  .await;
  app.answers("up").await;
  let first = tokio::spawn({
    let (client, path) = (app.client.clone(), app.api("/reload"));
    async move { client.post_empty(&path).await }
  });
  app.says("slow").await;
  app.stop().await;
  let answer = in_time("the first reload ends", first).await.expect("ends");
  answer.refused(409, &[&app.id, "not reloaded", "stopped"]);
}
