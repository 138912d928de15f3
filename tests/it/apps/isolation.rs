//! One app does no harm to another, nor to the server.

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use super::Folder;
use super::app;
use super::app_of;
use super::apps_server;
use crate::support::Loopback;
use crate::support::Reply;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;

const SERVES: &str = "Deno.serve(() => new Response('up'));";

#[tokio::test]
async fn apps_that_never_come_up_hold_up_neither_the_server_nor_others() {
  let hangs = Loopback::start(|_| Reply::Hang);
  let folder = Folder::new().with(&[
    ("a-loop.ts", "console.log('looping'); while (true);"),
    (
      "b-waits.ts",
      "console.log('waiting'); setInterval(() => {}, 1_000); await new Promise(() => {});",
    ),
    (
      "c-imports.ts",
      &format!("import {:?};", hangs.url("/never.ts")),
    ),
    ("d-good.ts", SERVES),
  ]);
  // Comes up, or panics.
  let server = folder
    .server()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"import": ["127.0.0.1"]}"#)
    .start();
  let client = server.client();
  client.app("d-good").answers("up").await;
  client.app("a-loop").says("looping").await;
  client.app("b-waits").says("waiting").await;
  eventually("the module is asked for", || async {
    hangs.requests("/never.ts") > 0
  })
  .await;
  for (id, status) in [
    ("a-loop", "running"),
    ("b-waits", "running"),
    ("c-imports", "starting"),
  ] {
    let app = client.app(id);
    let info = app.info().await;
    assert_eq!(
      (&info["status"], &info["ready"]),
      (&json!(status), &json!(false))
    );
    assert_eq!(info["restarts"], 0, "{info}");
  }
  let asked = ["a-loop", "b-waits", "c-imports"].map(|id| {
    let client = client.clone();
    async move { client.get(&format!("/apps/{id}/")).await }
  });
  let answers = join_all(asked).await;
  answers[0].refused(503, &["a-loop", "does not listen"]);
  answers[1].refused(503, &["b-waits", "does not listen"]);
  answers[2].refused(503, &["c-imports", "is starting"]);
  client.app("d-good").answers("up").await;
  assert_eq!(client.app("c-imports").stop().await["status"], "stopped");
}

#[tokio::test]
async fn twenty_apps_that_start_at_once_are_all_ready() {
  let folder = Folder::new();
  let ids: Vec<String> = (0..20).map(|i| format!("app-{i}")).collect();
  for id in &ids {
    let script = format!("Deno.serve(() => new Response({id:?}));");
    folder.write(&format!("{id}/main.ts"), script);
  }
  let server = folder.server().start();
  let client = server.client();
  join_all(ids.iter().map(|id| {
    let app = client.app(id);
    async move { app.answers(id).await }
  }))
  .await;
  assert_eq!(client.apps().await.len(), 20);
}

#[tokio::test]
async fn running_out_of_memory_ends_only_the_app() {
  let other = app(SERVES).await;
  other.ready().await;
  let pid = other.pid().await;
  let hungry = app_of(json!({
    "startup_script": "console.log('filling'); const kept = []; while (true) kept.push(new Array(100_000).fill(0.5));",
    "limits": {"heapMb": 64},
    "restart": "never",
  }))
  .await;
  let info = hungry.becomes("failed").await;
  let reason = info["reason"].as_str().expect("a reason");
  assert!(
    reason.contains("out of memory") && reason.contains("64"),
    "{reason}"
  );
  assert_eq!(hungry.lines("stdout").await, ["filling"]);
  other.answers("up").await;
  assert_eq!(other.pid().await, pid);
}

#[tokio::test]
async fn an_app_that_ran_out_of_memory_is_started_again() {
  let app = app_of(json!({
    "startup_script": "
      const file = `${Deno.env.get('APP_DATA_DIR')}/seen`;
      const seen = await Deno.readTextFile(file).catch(() => '');
      await Deno.writeTextFile(file, 'x');
      if (!seen) { const kept = []; while (true) kept.push(new Array(100_000).fill(0.5)); }
      Deno.serve(() => new Response('recovered'));",
    "limits": {"heapMb": 64},
  }))
  .await;
  app.answers("recovered").await;
  assert_eq!(app.info().await["restarts"], 1);
}

#[tokio::test]
async fn apps_read_and_write_nothing_outside_their_own_folders() {
  let other = app("Deno.serve(() => new Response(Deno.env.get('APP_DATA_DIR')));").await;
  let folder = other.get("/").await.text;
  let script = format!(
    "const tries = {{
       host: () => Deno.readTextFile('/etc/hostname'),
       other: () => [...Deno.readDirSync({folder:?})],
       above: () => [...Deno.readDirSync(Deno.env.get('APP_DATA_DIR') + '/..')],
       write: () => Deno.writeTextFile({folder:?} + '/mark', 'x'),
       run: () => new Deno.Command('/bin/true').output(),
     }};
     const seen = {{}};
     for (const [name, attempt] of Object.entries(tries)) {{
       seen[name] = await (async () => attempt())().then(() => 'done', (error) => error.name);
     }}
     Deno.serve(() => Response.json(seen));"
  );
  let app = app(&script).await;
  assert_eq!(
    app.get("/").await.json(),
    json!({"host": "NotCapable", "other": "NotCapable", "above": "NotCapable", "write": "NotCapable", "run": "NotCapable"})
  );
}

#[tokio::test]
async fn an_app_cannot_reach_the_server_or_another_app_by_itself() {
  let port = apps_server().port();
  let script = format!(
    "const name = await fetch('http://127.0.0.1:{port}/api/apps').then(() => 'done', (error) => error.name);
     Deno.serve(() => new Response(name));"
  );
  app(&script).await.answers("NotCapable").await;
}

#[tokio::test]
async fn no_process_outlives_a_server_that_is_killed() {
  let folder = Folder::new().with(&[
    ("serves.ts", SERVES),
    ("loops.ts", "console.log('looping'); while (true);"),
    ("crashes.ts", "throw new Error('again');"),
    (
      "ignores.ts",
      "Deno.addSignalListener('SIGTERM', () => {}); Deno.serve(() => new Response('up'));",
    ),
  ]);
  let mut server = folder.server().start();
  let client = server.client();
  client.app("serves").ready().await;
  client.app("ignores").ready().await;
  client.app("loops").says("looping").await;
  let processes = hosts_of(server.pid());
  assert!(processes.len() >= 3, "{processes:?}");
  server.signal(Signal::KILL);
  server.ended().await;
  eventually("no process is left", || async {
    !processes.iter().any(|pid| exists(*pid))
  })
  .await;
}

#[tokio::test]
async fn apps_are_asked_to_stop_when_the_server_does() {
  let data = tempfile::tempdir().expect("a folder");
  let folder = Folder::new().with(&[(
    "asked.ts",
    "Deno.addSignalListener('SIGTERM', () => {
       Deno.writeTextFileSync(Deno.env.get('APP_DATA_DIR') + '/bye', 'x');
       Deno.exit(0);
     });
     Deno.serve(() => new Response('up'));",
  )]);
  let mut server = folder.server().data_dir(data.path()).start();
  let app = server.client().app("asked");
  app.ready().await;
  let pid = app.pid().await;
  server.signal(Signal::TERM);
  let status = server.ended().await;
  assert!(status.success(), "{status}");
  assert!(!exists(pid));
  assert!(data.path().join("apps/data/asked/bye").is_file());
}
