//! Watches of files of kernels and of lasting ones, over HTTP.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::support::Answer;
use crate::support::Client;
use crate::support::Kernel;
use crate::support::Server;
use crate::support::Sse;
use crate::support::cpython_server;
use crate::support::eventually;
use crate::support::shared_server;

/// Kinds of kernels; each keeps its files another way, or runs in another process.
const LANGUAGES: [&str; 3] = ["typescript", "python", "cpython"];

async fn kernel(language: &str) -> Kernel {
  let server = match language {
    "cpython" => cpython_server(),
    _ => shared_server(),
  };
  server.client().create(json!({"lang": language})).await
}

/// The code that writes, in a language.
fn write_in(language: &str, path: &str, text: &str) -> String {
  match language {
    "typescript" => format!("Deno.writeTextFileSync({path:?}, {text:?})"),
    _ => format!("with open({path:?}, 'w') as f: _ = f.write({text:?})"),
  }
}

async fn put(client: &Client, path: &str, content: &'static str) -> Answer {
  let request = client.request(Method::PUT, path).body(content);
  client.read(request).await
}

/// A watch that stands.
async fn watch(client: &Client, path: &str) -> Sse {
  let path = format!(
    "{path}{}watch=true",
    if path.contains('?') { '&' } else { '?' }
  );
  let response = client.send(client.request(Method::GET, &path)).await;
  assert_eq!(response.status(), 200, "{path}");
  assert_eq!(response.headers()["content-type"], "text/event-stream");
  let mut events = Sse::new(response);
  let first = events.event().await.expect("a first event");
  assert_eq!(first["type"], "watching", "{first}");
  events
}

/// The next event that is not about a file that is still being received.
async fn next(events: &mut Sse) -> Value {
  loop {
    let event = events.event().await.expect("the stream goes on");
    if !event["path"]
      .as_str()
      .is_some_and(|it| it.ends_with(".part"))
    {
      return event;
    }
  }
}

/// Waits until that is told. A file that is written in two steps may be told as modified besides.
///
/// # Panics
/// When something else is told.
async fn told(events: &mut Sse, kind: &str, path: &str) {
  let expected = json!({"type": kind, "path": path});
  loop {
    let event = next(events).await;
    if event == expected {
      return;
    }
    assert_eq!(event["type"], "modified", "{event} instead of {expected}");
  }
}

#[tokio::test]
async fn what_a_cell_or_a_client_makes_changes_and_deletes_is_told() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let path = kernel.path("/files/in/data.csv");
    put(&kernel.client, &kernel.path("/files/in/old"), "x")
      .await
      .ok();
    let mut folder = watch(&kernel.client, &kernel.path("/files/in")).await;
    put(&kernel.client, &path, "1").await.ok();
    told(&mut folder, "created", "in/data.csv").await;
    let mut file = watch(&kernel.client, &path).await;
    let written = kernel
      .execute(&write_in(language, "in/data.csv", "longer"))
      .await;
    assert_eq!(written.error(), None, "{language}");
    for events in [&mut folder, &mut file] {
      told(events, "modified", "in/data.csv").await;
    }
    kernel.execute(&write_in(language, "in/new", "x")).await;
    told(&mut folder, "created", "in/new").await;
    kernel.client.delete(&path).await.ok();
    for events in [&mut folder, &mut file] {
      told(events, "removed", "in/data.csv").await;
    }
    kernel
      .client
      .delete(&kernel.path("/files/in?recursive=true"))
      .await
      .ok();
    let ended = folder.until("ended").await;
    assert!(
      ended["reason"]
        .as_str()
        .is_some_and(|it| it.contains("deleted")),
      "{ended}"
    );
    assert_eq!(folder.event().await, None, "{language}");
  }
}

#[tokio::test]
async fn the_working_directory_is_watched_while_a_cell_runs() {
  let kernel = kernel("typescript").await;
  let mut events = watch(&kernel.client, &kernel.path("/files")).await;
  let session = kernel
    .submit(
      "Deno.writeTextFileSync('a', 'x'); await new Promise(() => { setInterval(() => {}, 1000); })",
    )
    .await;
  told(&mut events, "created", "a").await;
  kernel.interrupt().await.ok();
  kernel.result(&session).await;
}

#[tokio::test]
async fn tasks_that_a_python_cell_left_behind_are_seen_too() {
  let kernel = kernel("python").await;
  let mut events = watch(&kernel.client, &kernel.path("/files")).await;
  let events_of_cell = kernel
    .execute(
      "import asyncio, pathlib\n\
       async def later():\n    await asyncio.sleep(0.3)\n    pathlib.Path('late').write_text('x')\n\
       task = asyncio.ensure_future(later())",
    )
    .await;
  assert_eq!(events_of_cell.error(), None);
  told(&mut events, "created", "late").await;
}

#[tokio::test]
async fn what_may_not_be_read_may_not_be_watched() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let answer = kernel
      .client
      .get(&kernel.path("/files//etc/passwd?watch=true"))
      .await;
    match language {
      // In Python's own file system there is nothing of the machine's.
      "python" => answer.refused(404, &["File not found"]),
      _ => answer.refused(403, &["outside"]),
    }
    kernel
      .client
      .get(&kernel.path("/files/missing?watch=true"))
      .await
      .refused(404, &["File not found: missing"]);
    kernel
      .client
      .get(&kernel.path("/files/x?wach=true"))
      .await
      .refused(400, &["wach"]);
  }
  let client = shared_server().client();
  let narrow = json!({"lang": "typescript", "permissions": {"read": false}});
  let narrow = client.create(narrow).await;
  client
    .get(&narrow.path("/files?watch=true"))
    .await
    .refused(403, &["permission"]);
}

#[tokio::test]
async fn a_restart_and_a_deletion_end_a_watch_with_a_reason() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let mut events = watch(&kernel.client, &kernel.path("/files")).await;
    kernel.restart().await.ok();
    let ended = events.until("ended").await;
    assert_eq!(ended["reason"], "the kernel was restarted", "{language}");
    assert_eq!(events.event().await, None, "{language}");
    let mut events = watch(&kernel.client, &kernel.path("/files")).await;
    put(&kernel.client, &kernel.path("/files/x"), "x")
      .await
      .ok();
    told(&mut events, "created", "x").await;
    assert!(kernel.delete().await.status < 300, "{language}");
    let ended = events.until("ended").await;
    assert_eq!(
      ended["reason"], "the kernel was ended: deleted",
      "{language}"
    );
    assert_eq!(events.event().await, None, "{language}");
  }
}

#[tokio::test]
async fn a_kernel_has_sixteen_watches_and_a_reader_who_leaves_makes_room() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let mut open = Vec::new();
    for _ in 0..16 {
      open.push(watch(&kernel.client, &kernel.path("/files")).await);
    }
    let path = kernel.path("/files?watch=true");
    kernel.client.get(&path).await.refused(429, &["16 watches"]);
    open.pop();
    eventually("there is room", || async {
      let response = kernel
        .client
        .send(kernel.client.request(Method::GET, &path))
        .await;
      response.status() == 200
    })
    .await;
  }
}

#[tokio::test]
async fn five_thousand_files_at_once_are_told_or_too_many() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    put(&kernel.client, &kernel.path("/files/many/first"), "")
      .await
      .ok();
    let mut events = watch(&kernel.client, &kernel.path("/files/many")).await;
    let code = match language {
      "typescript" => "for (let i = 0; i < 5000; i++) Deno.writeTextFileSync(`many/${i}`, 'x')",
      _ => "for i in range(5000):\n    with open(f'many/{i}', 'w') as f: _ = f.write('x')",
    };
    assert_eq!(kernel.execute(code).await.error(), None, "{language}");
    let mut created = BTreeSet::new();
    while created.len() < 5000 {
      let event = next(&mut events).await;
      if event["type"] == "overflow" {
        break;
      }
      // One that was seen before it had its content.
      if event["type"] != "modified" {
        assert_eq!(event["type"], "created", "{language}: {event}");
        created.insert(event["path"].as_str().expect("a path").to_owned());
      }
    }
    // The watch goes on. What came before its end may still be on its way.
    kernel.execute(&write_in(language, "many/last", "x")).await;
    loop {
      let event = next(&mut events).await;
      if event["path"] == "many/last" || event["type"] == "overflow" {
        break;
      }
    }
  }
}

#[tokio::test]
async fn lasting_files_are_watched_within_their_namespace_and_through_mounts() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "lab-token=lab,other-token=other")
    .start();
  let lab = server.client().with_token("lab-token");
  let other = server.client().with_token("other-token");
  let mut of_lab = watch(&lab, "/api/files").await;
  let mut of_other = watch(&other, "/api/files?namespace=other").await;
  put(&lab, "/api/files/a.txt", "x").await.ok();
  told(&mut of_lab, "created", "a.txt").await;
  put(&other, "/api/files/b.txt", "x").await.ok();
  // Nothing of the lab's.
  told(&mut of_other, "created", "b.txt").await;
  put(&lab, "/api/files/a.txt", "again").await.ok();
  told(&mut of_lab, "modified", "a.txt").await;
  other
    .get("/api/files?namespace=lab&watch=true")
    .await
    .refused(403, &["namespace `other`, not `lab`"]);
  lab
    .get("/api/files/..%2fother?watch=true")
    .await
    .refused(403, &["outside"]);
  for language in ["typescript", "python"] {
    let mount = json!({"files": "", "mountPoint": "/data"});
    let kernel = lab
      .create(json!({"lang": language, "filesystem": mount}))
      .await;
    // What a kernel writes to its mount, the namespace sees, and the other way round.
    let path = format!("/data/{language}");
    let written = kernel.execute(&write_in(language, &path, "x")).await;
    assert_eq!(written.error(), None, "{language}");
    told(&mut of_lab, "created", language).await;
    let mut of_kernel = watch(&lab, &kernel.path("/files//data")).await;
    lab.delete(&format!("/api/files/{language}")).await.ok();
    told(&mut of_lab, "removed", language).await;
    told(&mut of_kernel, "removed", &path).await;
  }
}
