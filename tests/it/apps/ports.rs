//! Ports of apps: the engine's choice, or one of their own where the operator allows it.

use std::net::TcpListener;

use serde_json::json;

use super::Folder;
use super::app_of;
use super::apps_server;
use crate::support::App;
use crate::support::Server;
use crate::support::eventually;

/// A server whose apps may listen where they like.
fn open_server() -> Server {
  Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true}"#)
    .start()
}

/// A port that nobody listens on, for now.
fn free_port() -> u16 {
  let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
  listener.local_addr().expect("is bound").port()
}

fn listens_on(port: u16) -> String {
  format!("Deno.serve({{ port: {port}, hostname: '127.0.0.1' }}, () => new Response('own port'));")
}

/// What a port answers to the world.
async fn directly(port: u16) -> String {
  let http = reqwest::Client::builder()
    .no_proxy()
    .build()
    .expect("a client");
  let answer = http.get(format!("http://127.0.0.1:{port}/")).send().await;
  answer
    .expect("somebody listens")
    .text()
    .await
    .expect("is whole")
}

/// An error of the app's log that names the port and who has it.
async fn is_told(app: &App, port: u16, holder: &str) {
  let mut log = app.follow(None).await;
  loop {
    let entry = log.until(&port.to_string()).await;
    let text = entry["text"].as_str().unwrap_or_default();
    if entry["stream"] == "engine" && text.contains(holder) {
      assert_eq!(entry["level"], "error", "{entry}");
      return;
    }
  }
}

#[tokio::test]
async fn a_port_of_its_own_is_reached_directly_and_through_the_engine() {
  let server = open_server();
  let client = server.client();
  let port = free_port();
  let app = client
    .post_app(json!({"startup_script": listens_on(port)}))
    .await;
  app.answers("own port").await;
  assert_eq!(directly(port).await, "own port");
  assert_eq!(app.info().await["port"], port);
  app.stop().await;
  assert!(
    TcpListener::bind(("127.0.0.1", port)).is_ok(),
    "the port is free again"
  );
}

#[tokio::test]
async fn a_port_that_an_app_may_not_have_is_replaced_by_one_of_the_engines() {
  let port = free_port();
  let app = app_of(json!({"startup_script": format!(
    "Deno.serve({{ port: {port}, onListen: ({{ port }}) => console.log('on', port) }}, () => new Response('up'));"
  )}))
  .await;
  app.answers("up").await;
  assert!(app.info().await["port"].is_null());
  assert_eq!(app.lines("stdout").await, [format!("on {port}")]);
  let listener = TcpListener::bind(("127.0.0.1", port));
  assert!(
    listener.is_ok(),
    "nobody else's port was taken: {listener:?}"
  );
}

#[tokio::test]
async fn a_second_app_on_a_port_fails_and_its_log_names_the_first() {
  let server = open_server();
  let client = server.client();
  let port = free_port();
  let first = client
    .post_app(json!({"id": "first-one", "startup_script": listens_on(port)}))
    .await;
  first.answers("own port").await;
  let second = client
    .post_app(json!({"id": "second-one", "startup_script": listens_on(port), "restart": "never"}))
    .await;
  let info = second.becomes("failed").await;
  assert!(
    info["reason"]
      .as_str()
      .is_some_and(|reason| reason.contains("AddrInUse")),
    "{info}"
  );
  is_told(&second, port, "first-one").await;
  first.answers("own port").await;
}

#[tokio::test]
async fn a_port_that_another_program_has_is_told_as_such() {
  let server = open_server();
  let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
  let port = taken.local_addr().expect("is bound").port();
  let app = server
    .client()
    .post_app(json!({"startup_script": listens_on(port)}))
    .await;
  is_told(&app, port, "another program").await;
  // It comes up once the port is free.
  drop(taken);
  app.answers("own port").await;
}

#[tokio::test]
async fn two_manifests_cannot_declare_one_port() {
  let server = open_server();
  let client = server.client();
  let port = free_port();
  let manifest = json!({"lang": "ts", "startup_script": "1", "port": port});
  let app = client.post_app(manifest.clone()).await;
  let mut other = manifest.clone();
  other["id"] = json!("other-port");
  let answer = client.try_post_app(&other).await;
  answer.refused(409, &["port", &port.to_string(), &app.id]);
  let third = client.post_app(json!({"startup_script": "1"})).await;
  let answer = third.put(&manifest).await;
  answer.refused(409, &["port", &port.to_string(), &app.id]);
  // The port is free again with the app.
  app.delete().await;
  client.post_app(manifest).await;
}

#[tokio::test]
async fn a_port_in_a_manifest_needs_the_permission_and_is_not_the_engines() {
  let port = free_port();
  let manifest =
    |port: u16| json!({"id": "wants-a-port", "lang": "ts", "startup_script": "1", "port": port});
  let client = super::apps_server().client();
  let answer = client.try_post_app(&manifest(port)).await;
  answer.refused(403, &["port", &port.to_string(), "net"]);
  // Listing it in the manifest does not help: the operator grants this machine's network, or nobody.
  let mut listed = manifest(port);
  listed["permissions"] = json!({"net": [format!("127.0.0.1:{port}")]});
  client.try_post_app(&listed).await.refused(403, &["port"]);

  let engine_port = free_port();
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true}"#)
    .env("ENGINE_PORT", engine_port.to_string())
    .start();
  let answer = server.client().try_post_app(&manifest(engine_port)).await;
  answer.refused(403, &["engine's own"]);
}

#[tokio::test]
async fn a_service_of_somebody_else_on_a_manifests_port_is_not_the_apps() {
  let server = open_server();
  let somebody = TcpListener::bind("127.0.0.1:0").expect("a free port");
  let port = somebody.local_addr().expect("is bound").port();
  let app = server
    .client()
    .post_app(json!({"startup_script": "setInterval(() => {}, 1000)", "port": port}))
    .await;
  app.becomes("running").await;
  let answer = app.client.get(&app.path("/")).await;
  assert_eq!(answer.status, 503, "{}", answer.text);
  somebody.set_nonblocking(true).expect("a socket");
  assert!(somebody.accept().is_err(), "the engine connected to it");
}

#[tokio::test]
async fn nothing_on_this_machine_gets_past_the_engine_to_an_app() {
  let app = app_of(json!({"startup_script": "
    Deno.serve((request, info) => new Response(request.url + ' ' + info.remoteAddr.hostname));"}))
  .await;
  let answer = app.get("/inside").await;
  assert_eq!(answer.status, 200);
  // Where it listens, as anybody on this machine can look up.
  let pid = app.pid().await;
  let listener = crate::support::listeners_of(pid);
  let [address] = listener[..] else {
    panic!("{listener:?}");
  };
  let connected = tokio::time::timeout(
    std::time::Duration::from_millis(500),
    tokio::net::TcpStream::connect(address),
  );
  assert!(connected.await.is_err(), "somebody got in to {address}");
  assert_eq!(app.get("/again").await.status, 200);
}

#[tokio::test]
async fn of_two_folders_that_declare_one_port_the_first_has_it() {
  let port = free_port();
  let manifest = format!(r#"{{"entry": "main.ts", "port": {port}}}"#);
  let folder = Folder::new().with(&[
    ("first/app.json", &manifest),
    ("first/main.ts", &listens_on(port)),
    ("second/app.json", &manifest),
    ("second/main.ts", &listens_on(port)),
  ]);
  let server = folder
    .server()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true}"#)
    .start();
  let client = server.client();
  client.app("first").answers("own port").await;
  eventually("both are listed", || async {
    client.apps().await.len() == 2
  })
  .await;
  let list = client.apps().await;
  let second = list
    .iter()
    .find(|app| app["id"] == "second")
    .expect("is listed");
  assert_eq!(second["status"], "failed");
  let reason = second["reason"].as_str().unwrap_or_default();
  assert!(
    reason.contains(&port.to_string()) && reason.contains("first"),
    "{reason}"
  );
}

#[tokio::test]
async fn an_app_with_a_port_of_its_own_is_reloaded_one_after_the_other() {
  let server = open_server();
  let client = server.client();
  let port = free_port();
  let app = client
    .post_app(json!({"startup_script": listens_on(port), "port": port}))
    .await;
  app.answers("own port").await;
  let pid = app.pid().await;
  let info = app.reload().await.ok();
  assert_eq!(info["instance"], 2);
  app.answers("own port").await;
  assert_ne!(app.pid().await, pid);
  assert_eq!(app.info().await["restarts"], 0);
}

#[tokio::test]
async fn of_two_servers_in_an_app_the_first_is_behind_its_address() {
  let app = app_of(json!({"startup_script": "
    Deno.serve({ port: 8123 }, () => new Response('first'));
    Deno.serve({ port: 8124 }, () => new Response('second'));"}))
  .await;
  app.answers("first").await;
  app.reload().await.ok();
  app.answers("first").await;
}

#[tokio::test]
async fn the_engine_finds_a_server_that_listens_by_itself() {
  let app = app_of(json!({"startup_script": "
    const listener = Deno.listen({ port: 8080 });
    for await (const connection of listener) {
      (async () => {
        for await (const { respondWith } of (Deno as any).serveHttp?.(connection) ?? []) respondWith(new Response('old way'));
        await connection.read(new Uint8Array(4096));
        await connection.write(new TextEncoder().encode('HTTP/1.1 200 OK\\r\\ncontent-length: 8\\r\\nconnection: close\\r\\n\\r\\nby hand.'));
        connection.close();
      })().catch(() => {});
    }"}))
  .await;
  let answer = app.get("/").await;
  assert!(
    ["by hand.", "old way"].contains(&answer.text.as_str()),
    "{answer:?}"
  );
}

#[tokio::test]
async fn an_app_that_listens_late_is_ready_then() {
  let app = app_of(json!({"startup_script": "
    console.log('idle');
    Deno.serve === undefined;
    setTimeout(() => Deno.serve(() => new Response('late')), 300);"}))
  .await;
  app.answers("late").await;
  assert_eq!(apps_server().client().get("/health").await.status, 200);
}
