//! The operator's folder: what is an app in it, and why something is none.

use serde_json::Value;
use serde_json::json;

use super::Folder;
use crate::support::Client;
use crate::support::Server;
use crate::support::eventually;
use crate::support::in_time;

const SERVES: &str = "Deno.serve(() => new Response('up'));";

fn entry<'a>(list: &'a [Value], id: &str) -> &'a Value {
  let found = list.iter().find(|app| app["id"] == id);
  found.unwrap_or_else(|| panic!("{id} is not listed: {list:#?}"))
}

/// What is listed once the folder is read: so many apps.
async fn listed(client: &Client, count: usize) -> Vec<Value> {
  eventually("all apps are listed", || async {
    client.apps().await.len() == count
  })
  .await;
  client.apps().await
}

/// Checks that something is listed as an app that failed, with these words as the reason.
async fn refused(client: &Client, id: &str, words: &[&str]) {
  let list = client.apps().await;
  let app = entry(&list, id);
  assert_eq!(app["status"], "failed", "{app}");
  let reason = app["reason"].as_str().unwrap_or_default();
  for word in words {
    assert!(
      reason.contains(word),
      "{id}: `{word}` is missing in `{reason}`"
    );
  }
}

#[tokio::test]
async fn folders_and_program_files_are_apps_and_nothing_else_is() {
  let folder = Folder::new().with(&[
    ("with-manifest/app.json", r#"{"name": "Named", "entry": "src/start.ts"}"#),
    ("with-manifest/src/start.ts", SERVES),
    ("other-manifest/manifest.json", r#"{"id": "renamed", "lang": "ts", "startup_script": "Deno.serve(() => new Response('up'));"}"#),
    ("without-manifest/main.ts", SERVES),
    ("with-index/index.js", SERVES),
    ("single.ts", SERVES),
    ("plain.js", SERVES),
    ("module.mjs", SERVES),
    ("report.py", "print('up')\nimport asyncio\nasync def stay():\n  while True: await asyncio.sleep(9)\nt = asyncio.create_task(stay())"),
    ("README.md", "no app"),
    (".hidden.ts", SERVES),
    (".git/main.ts", SERVES),
    ("node_modules/main.ts", SERVES),
    ("data/notes.txt", "no app"),
  ]);
  let server = folder.server().start();
  let client = server.client();
  let list = listed(&client, 8).await;
  let mut ids: Vec<&str> = list.iter().filter_map(|app| app["id"].as_str()).collect();
  ids.sort_unstable();
  assert_eq!(
    ids,
    [
      "module",
      "plain",
      "renamed",
      "report",
      "single",
      "with-index",
      "with-manifest",
      "without-manifest"
    ]
  );
  for (id, language, source) in [
    ("module", "javascript", "file"),
    ("plain", "javascript", "file"),
    ("renamed", "typescript", "folder"),
    ("report", "python", "file"),
    ("single", "typescript", "file"),
    ("with-index", "javascript", "folder"),
    ("with-manifest", "typescript", "folder"),
    ("without-manifest", "typescript", "folder"),
  ] {
    let app = entry(&list, id);
    assert_eq!(
      (&app["language"], &app["source"]),
      (&json!(language), &json!(source)),
      "{id}"
    );
    if language == "python" {
      client.app(id).says("up").await;
    } else {
      client.app(id).answers("up").await;
    }
  }
  assert_eq!(entry(&list, "with-manifest")["name"], "Named");
}

#[tokio::test]
async fn what_cannot_be_an_app_is_listed_with_the_reason() {
  let folder = Folder::new().with(&[
    ("good/main.ts", SERVES),
    ("no-program/app.json", r#"{"name": "Nothing to run"}"#),
    (
      "two-programs/app.json",
      r#"{"entry": "main.ts", "startup_script": "1"}"#,
    ),
    ("no-such-file/app.json", r#"{"entry": "absent.ts"}"#),
    ("leads-out/app.json", r#"{"entry": "../good/main.ts"}"#),
    (
      "absolute/app.json",
      r#"{"entry": "/etc/hostname", "lang": "ts"}"#,
    ),
    ("empty-program/app.json", r#"{"entry": "main.ts"}"#),
    ("empty-program/main.ts", ""),
    (
      "language/app.json",
      r#"{"lang": "cobol", "startup_script": "1"}"#,
    ),
    (
      "field/app.json",
      r#"{"startup_script": "1", "colour": "red"}"#,
    ),
    ("json/app.json", "{\"entry\": "),
    ("array/app.json", "[]"),
    (
      "id-up/app.json",
      r#"{"id": "../up", "startup_script": "1"}"#,
    ),
    (
      "id-slash/app.json",
      r#"{"id": "a/b", "startup_script": "1"}"#,
    ),
    ("bad name.ts", SERVES),
    (
      "env/app.json",
      r#"{"startup_script": "1", "env": {"A": 1}}"#,
    ),
    ("port/app.json", r#"{"startup_script": "1", "port": 99999}"#),
  ]);
  std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link.ts")).expect("a link");
  folder.write("linked/app.json", r#"{"entry": "main.ts"}"#);
  std::os::unix::fs::symlink("/etc/hostname", folder.path().join("linked/main.ts"))
    .expect("a link");
  let server = folder.server().start();
  let client = server.client();
  // Two links more than files.
  listed(&client, 18).await;
  client.app("good").answers("up").await;
  for (id, words) in [
    ("no-program", ["startup_script", "entry"]),
    ("two-programs", ["startup_script", "entry"]),
    ("no-such-file", ["entry", "absent.ts"]),
    ("leads-out", ["entry", "../good/main.ts"]),
    ("absolute", ["entry", "/etc/hostname"]),
    ("empty-program", ["main.ts", "empty"]),
    ("language", ["lang", "cobol"]),
    ("field", ["colour", "unknown field"]),
    ("json", ["app.json", "not JSON"]),
    ("array", ["app.json", "object"]),
    ("id-up", ["id", "../up"]),
    ("id-slash", ["id", "a/b"]),
    ("bad name", ["bad name", "rename"]),
    ("env", ["env.A", "string"]),
    ("port", ["port", "99999"]),
    ("linked", ["main.ts", "link"]),
  ] {
    refused(&client, id, &words).await;
  }
}

#[tokio::test]
async fn of_two_folders_with_one_id_the_first_has_it() {
  let folder = Folder::new().with(&[
    ("first/app.json", r#"{"id": "shared", "entry": "main.ts"}"#),
    ("first/main.ts", "Deno.serve(() => new Response('first'));"),
    ("second/app.json", r#"{"id": "shared", "entry": "main.ts"}"#),
    (
      "second/main.ts",
      "Deno.serve(() => new Response('second'));",
    ),
  ]);
  let server = folder.server().start();
  let client = server.client();
  let list = listed(&client, 2).await;
  client.app("shared").answers("first").await;
  let second = list
    .iter()
    .find(|app| app["id"] != "shared")
    .expect("is listed");
  assert_eq!(second["status"], "failed");
  let reason = second["reason"].as_str().unwrap_or_default();
  for word in ["shared", "first", "second"] {
    assert!(reason.contains(word), "{reason}");
  }
}

#[tokio::test]
async fn the_operators_folder_goes_before_what_was_posted() {
  let data = tempfile::tempdir().expect("a folder");
  let mut server = Server::builder().data_dir(data.path()).start();
  let manifest =
    json!({"id": "taken", "startup_script": "Deno.serve(() => new Response('posted'))"});
  server
    .client()
    .post_app(manifest)
    .await
    .kept()
    .answers("posted")
    .await;
  server.signal(rustix::process::Signal::TERM);
  server.ended().await;
  let folder = Folder::new().with(&[("taken.ts", "Deno.serve(() => new Response('folder'));")]);
  let server = folder.server().data_dir(data.path()).start();
  let client = server.client();
  client.app("taken").answers("folder").await;
  let list = listed(&client, 2).await;
  let other = list
    .iter()
    .find(|app| app["source"] == "refused")
    .expect("is told");
  assert_eq!(other["id"], "taken");
  assert!(
    other["reason"]
      .as_str()
      .is_some_and(|reason| reason.contains("already exists")),
    "{other}"
  );
}

#[tokio::test]
async fn more_permissions_than_the_ceiling_fail_an_app_of_the_folder() {
  let folder = Folder::new().with(&[
    (
      "greedy/app.json",
      r#"{"entry": "main.ts", "permissions": {"run": ["git"]}}"#,
    ),
    ("greedy/main.ts", SERVES),
    (
      "large/app.json",
      r#"{"entry": "main.ts", "limits": {"heapMb": 100000}}"#,
    ),
    ("large/main.ts", SERVES),
  ]);
  let server = folder.server().start();
  let client = server.client();
  listed(&client, 2).await;
  for (id, words) in [
    ("greedy", ["permissions.run", "git"]),
    ("large", ["limits.heapMb", "100000"]),
  ] {
    client.app(id).becomes("failed").await;
    refused(&client, id, &words).await;
    let answer = client.get(&format!("/apps/{id}/")).await;
    answer.refused(409, &[id, words[0]]);
  }
}

#[tokio::test]
async fn modules_that_import_each_other_are_fine_and_a_missing_one_is_named() {
  let folder = Folder::new().with(&[
    ("cycle/main.ts", "import { even } from './even.ts'; Deno.serve(() => new Response(String(even(10))));"),
    ("cycle/even.ts", "import { odd } from './odd.ts'; export const even = (n: number): boolean => n === 0 || odd(n - 1);"),
    ("cycle/odd.ts", "import { even } from './even.ts'; export const odd = (n: number): boolean => n !== 0 && even(n - 1);"),
    ("missing/main.ts", "import './absent.ts';"),
  ]);
  let server = folder.server().start();
  let client = server.client();
  client.app("cycle").answers("true").await;
  let app = client.app("missing");
  let entry = app.says("error: Module not found").await;
  assert!(
    entry["text"]
      .as_str()
      .is_some_and(|text| text.contains("absent.ts")),
    "{entry}"
  );
  app.says("main.ts:1:8").await;
}

#[tokio::test]
async fn a_single_file_that_imports_a_missing_one_is_told_which() {
  let folder = Folder::new().with(&[("single.ts", "import './absent.ts';")]);
  let server = folder.server().start();
  let app = server.client().app("single");
  let info = app.becomes("restarting").await;
  let reason = info["reason"].as_str().unwrap_or_default();
  assert!(reason.contains("absent.ts"), "{reason}");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
  let output = std::process::Command::new(crate::support::binary())
    .args(["serve", "--port", "0", "--apps-dir", "/no/such/folder"])
    .env_clear()
    .env("ENGINE_DATA_DIR", std::env::temp_dir())
    .output();
  let output = output.expect("the binary runs");
  assert!(!output.status.success());
  let text = String::from_utf8_lossy(&output.stderr);
  assert!(
    text.contains("/no/such/folder") && text.contains("APPS_DIR"),
    "{text}"
  );
}

#[tokio::test]
async fn an_app_reads_its_own_folder_and_works_in_it() {
  let folder = Folder::new().with(&[
    ("pages/app.json", r#"{"entry": "src/main.ts"}"#),
    (
      "pages/src/main.ts",
      "const beside = await Deno.readTextFile(new URL('../page.txt', import.meta.url));
       const relative = await Deno.readTextFile('page.txt');
       const written = await Deno.writeTextFile('page.txt', 'x').then(() => 'done', (error) => error.name);
       Deno.serve(() => Response.json({ beside, relative, written }));",
    ),
    ("pages/page.txt", "hello"),
  ]);
  let server = folder.server().start();
  let app = server.client().app("pages");
  let seen = in_time("an answer", app.get("/")).await.ok();
  assert_eq!(
    seen,
    json!({"beside": "hello", "relative": "hello", "written": "NotCapable"})
  );
}

#[tokio::test]
async fn an_app_of_the_folder_is_not_replaced_by_a_post() {
  let folder = Folder::new().with(&[("own.ts", SERVES)]);
  let server = folder.server().start();
  let client = server.client();
  let app = client.app("own");
  app.answers("up").await;
  let manifest = json!({"lang": "ts", "startup_script": "Deno.serve(() => new Response('other'))"});
  app
    .put(&manifest)
    .await
    .refused(409, &["own", "not posted"]);
  app.answers("up").await;
  assert_eq!(app.delete().await.status, 200);
  assert_eq!(client.get("/apps/own/").await.status, 404);
  assert!(folder.path().join("own.ts").is_file());
}
