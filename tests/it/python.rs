//! Python kernels in V8, through the HTTP API. What cells print and return is in `cells`.

use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use tempfile::TempDir;

use crate::support::Kernel;
use crate::support::Loopback;
use crate::support::Reply;
use crate::support::Server;
use crate::support::binary;
use crate::support::cpython;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;
use crate::support::in_time;
use crate::support::shared_server;

async fn python() -> Kernel {
  shared_server()
    .client()
    .create(json!({"lang": "python"}))
    .await
}

#[tokio::test]
async fn python_is_the_language_when_none_is_said() {
  let client = shared_server().client();
  let made = client.try_create(&json!({})).await.ok();
  assert_eq!(made["language"], "python");
  let id = made["id"].as_str().expect("an id");
  assert_eq!(
    client.delete(&format!("/api/kernels/{id}")).await.status,
    200
  );
}

#[tokio::test]
async fn a_print_is_one_event_and_comes_as_it_happens() {
  let kernel = python().await;
  let code = "import time\nprint('a', 'b')\nawait __import__('asyncio').sleep(30)";
  let mut sse = kernel.sse(code).await;
  let event = in_time("the print", sse.until("stream")).await;
  assert_eq!(event["data"], json!({"name": "stdout", "text": "a b\n"}));
  kernel.interrupt().await.ok();
}

// ------------------------------------------------------------ input

async fn ask(kernel: &Kernel, code: &str, answer: Value) -> (Value, Vec<Value>) {
  let mut sse = kernel.sse(code).await;
  let question = sse.until("input_request").await["data"].clone();
  kernel
    .post("/input-reply", &json!({ "value": answer }))
    .await
    .ok();
  (question, sse.rest().await)
}

fn result(events: &[Value]) -> &str {
  events
    .last()
    .and_then(|e| e["data"]["data"]["text/plain"].as_str())
    .unwrap_or_else(|| panic!("no result: {events:?}"))
}

#[tokio::test]
async fn input_and_getpass_are_answered() {
  let kernel = python().await;
  let (question, events) = ask(&kernel, "name = input('Name? '); name", json!("Ada")).await;
  assert_eq!(question, json!({"prompt": "Name? ", "password": false}));
  assert_eq!(result(&events), "'Ada'");
  let (question, events) = ask(
    &kernel,
    "import getpass; getpass.getpass('Key: ')",
    json!("x"),
  )
  .await;
  assert_eq!(question, json!({"prompt": "Key: ", "password": true}));
  assert_eq!(result(&events), "'x'");
}

#[tokio::test]
async fn an_input_may_be_awaited_as_older_clients_do() {
  let kernel = python().await;
  let (_, events) = ask(&kernel, "name = await input('Name? '); name", json!("Ada")).await;
  assert_eq!(result(&events), "'Ada'");
}

#[tokio::test]
async fn an_input_can_be_interrupted() {
  let kernel = python().await;
  let mut sse = kernel.sse("input('?')").await;
  sse.until("input_request").await;
  kernel.interrupt().await.ok();
  let last = sse.rest().await.pop().expect("an error");
  assert_eq!(last["data"]["ename"], "KeyboardInterrupt");
}

// ------------------------------------------------------------ interrupts

/// Interrupts code that never ends, three times, and checks that state is kept.
async fn is_interrupted(endless: &str) {
  let kernel = python().await;
  kernel.execute("kept = 0").await;
  for turn in 1..=3 {
    let session = kernel
      .submit_running(&format!("kept += 1; print('running')\n{endless}"))
      .await;
    let done = kernel.interrupt().await.ok();
    assert!(done.get("restarted").is_none(), "{done}");
    let events = kernel.result(&session).await;
    assert_eq!(events.types(), ["stream", "error"], "{events:?}");
    assert_eq!(events.ename(), Some("KeyboardInterrupt"));
    kernel.gives("kept", &turn.to_string()).await;
  }
}

#[tokio::test]
async fn a_loop_is_interrupted() {
  is_interrupted("while True: pass").await;
}

#[tokio::test]
async fn a_sleep_is_interrupted() {
  is_interrupted("import time\nwhile True: time.sleep(0.01)").await;
}

#[tokio::test]
async fn an_await_is_interrupted() {
  is_interrupted("import asyncio\nawait asyncio.sleep(1000)").await;
}

#[tokio::test]
async fn native_code_that_never_looks_is_ended_with_its_process() {
  let kernel = python().await;
  // The first interrupt may come before the native code is reached.
  let code = "while True:\n  try:\n    print('running')\n    sum(range(10 ** 13))\n  except KeyboardInterrupt: pass";
  kernel.submit_running(code).await;
  assert_eq!(kernel.interrupt().await.ok()["restarted"], true);
  kernel.gives("1 + 1", "2").await;
}

#[tokio::test]
async fn an_interrupt_that_comes_late_does_not_hit_the_next_cell() {
  let kernel = python().await;
  for _ in 0..3 {
    kernel.interrupt().await.ok();
    kernel.gives("sum(range(1000))", "499500").await;
  }
}

#[tokio::test]
async fn a_cell_that_takes_too_long_is_stopped() {
  let client = shared_server().client();
  let kernel = client
    .create(json!({"lang": "python", "maxExecutionTime": 500}))
    .await;
  let events = kernel.execute("kept = 1\nwhile True: pass").await;
  assert_eq!(events.ename(), Some("ExecutionStalledError"), "{events:?}");
  kernel.gives("kept", "1").await;
}

// ------------------------------------------------------------ environment and files

#[tokio::test]
async fn the_environment_is_the_kernels_own() {
  let kernel = shared_server()
    .client()
    .create(json!({"lang": "python", "env": {"K": "v", "NOTHING": null}}))
    .await;
  let code = "import os; [os.environ.get(k) for k in ('K', 'NOTHING', 'HOME', 'PATH')]";
  kernel.gives(code, "['v', '', None, None]").await;
}

#[tokio::test]
async fn a_mounted_folder_is_read_and_written() {
  let dir = TempDir::new().expect("a folder");
  std::fs::write(dir.path().join("hello.txt"), "hello").expect("is written");
  let server = Server::builder()
    .env("KERNEL_MOUNT_ROOTS", dir.path())
    .start();
  let filesystem = json!({"enabled": true, "root": dir.path()});
  let kernel = server
    .client()
    .create(json!({"lang": "python", "filesystem": filesystem}))
    .await;
  kernel
    .gives("open('/home/pyodide/hello.txt').read()", "'hello'")
    .await;
  kernel
    .gives("import os; os.getcwd()", "'/home/pyodide'")
    .await;
  kernel.gives("with open('wörter 日本.txt', 'w') as f: f.write('ä' * 1_000_000)\nos.path.getsize('wörter 日本.txt')",
    "2000000",
  )
  .await;
  let written = std::fs::read_to_string(dir.path().join("wörter 日本.txt")).expect("is there");
  assert_eq!(written.chars().count(), 1_000_000);
  kernel
    .gives(
      "os.makedirs('a/b'); os.rename('hello.txt', 'a/b/moved'); open('a/b/moved', 'a').write('!')\n\
     [sorted(os.listdir()), open('a/b/moved').read(), os.path.exists('hello.txt')]",
      "[['a', 'wörter 日本.txt'], 'hello!', False]",
    )
    .await;
  kernel
    .gives(
      "import shutil; shutil.rmtree('a'); os.listdir()",
      "['wörter 日本.txt']",
    )
    .await;
  for (code, error) in [
    ("open('/home/pyodide/none')", "FileNotFoundError"),
    ("os.mkdir('wörter 日本.txt')", "FileExistsError"),
    (
      "open('/home/pyodide/../../etc/passwd')",
      "FileNotFoundError",
    ),
  ] {
    assert_eq!(kernel.execute(code).await.ename(), Some(error), "{code}");
  }
  kernel
    .gives(
      "f = open('seek', 'wb+'); f.write(b'abc'); f.flush(); [f.seek(-1, 2), f.read()]",
      "[2, b'c']",
    )
    .await;
  std::os::unix::fs::symlink("/etc", dir.path().join("out")).expect("is made");
  let escape = kernel
    .execute("open('/home/pyodide/out/passwd').read()")
    .await;
  assert!(escape.error().is_some(), "{escape:?}");
}

// ------------------------------------------------------------ the bridge to JavaScript

#[tokio::test]
async fn the_js_module_shows_a_page_and_nothing_of_the_host() {
  let kernel = python().await;
  kernel.gives("import js; [hasattr(js, n) for n in ('fetch', 'WebSocket', 'setTimeout', 'URL', 'crypto', 'console')]",
    "[True, True, True, True, True, True]",
  )
  .await;
  kernel.gives("[n for n in ('Deno', 'process', 'require', 'eval', 'Worker', 'global', '__bootstrap') if hasattr(js, n)]",
    "[]",
  )
  .await;
  // Every function leads to the real global object; there, too, the host is gone.
  kernel
    .gives(
      "js.Function.new('return [typeof Deno, typeof process, typeof require].join()')()",
      "'undefined,undefined,undefined'",
    )
    .await;
  let module = "await js.Function.new('return import(\"node:fs\").then(() => 0, (e) => e.name)')()";
  kernel.gives(module, "'TypeError'").await;
}

#[tokio::test]
async fn the_network_is_what_the_kernel_may_use() {
  let kernel = shared_server()
    .client()
    .create(json!({"lang": "python", "permissions": {"net": false}}))
    .await;
  let events = kernel
    .execute("import js\nawait js.fetch('http://example.com/')")
    .await;
  assert!(events.evalue().contains("net access"), "{events:?}");
  let events = kernel.execute("await js.fetch('data:,x')").await;
  assert!(events.error().is_none(), "{events:?}");
}

// ------------------------------------------------------------ packages

#[tokio::test]
async fn a_package_that_cannot_be_had_names_every_place_that_was_tried() {
  let dir = TempDir::new().expect("a folder");
  let name = "numpy-2.4.6-cp314-cp314-pyemscripten_2026_0_wasm32.whl";
  std::fs::write(dir.path().join(name), "not the wheel").expect("is written");
  let server = Server::builder()
    .env("PYODIDE_PACKAGES_DIR", dir.path())
    .start();
  let kernel = server
    .client()
    .create(json!({"lang": "python", "permissions": {"net": false}}))
    .await;
  let events = kernel.execute("import numpy").await;
  assert_eq!(events.ename(), Some("ModuleNotFoundError"), "{events:?}");
  let told = events.stderr();
  for part in [
    name,
    "PYODIDE_PACKAGES_DIR",
    "another sha256",
    "the cache",
    "cdn",
  ] {
    assert!(told.contains(part), "{part}: {told}");
  }
  kernel.gives("1 + 1", "2").await;
}

// ------------------------------------------------------------ what kernels survive

#[tokio::test]
async fn faults_leave_a_usable_kernel() {
  let kernel = python().await;
  kernel.execute("kept = 1").await;
  for (code, name) in [
    ("def f(): return f()\nf()", "RecursionError"),
    ("import sys; sys.exit(3)", "SystemExit"),
    ("import os; os.fork()", "OSError"),
    ("import does_not_exist", "ModuleNotFoundError"),
    ("1 +", "SyntaxError"),
    ("raise BaseException('b')", "BaseException"),
    ("!ls", "OSError"),
  ] {
    let events = kernel.execute(code).await;
    let ename = events.ename().unwrap_or_default();
    assert!(
      ename == name || (name == "OSError" && ename == "AttributeError"),
      "{code}: {events:?}"
    );
  }
  kernel.gives("kept", "1").await;
}

#[tokio::test]
async fn a_process_that_ends_itself_is_reported_and_can_be_restarted() {
  let kernel = python().await;
  for code in ["os._exit(1)", "os.kill(os.getpid(), 9)", "os.abort()"] {
    let events = kernel.execute(&format!("import os; {code}")).await;
    assert_eq!(events.ename(), Some("KernelDied"), "{code}: {events:?}");
    kernel.restart().await.ok();
    kernel.gives("1 + 1", "2").await;
  }
}

#[tokio::test]
async fn a_hundred_thousand_prints_arrive() {
  let kernel = python().await;
  let events = kernel.execute("for i in range(100_000): print(i)").await;
  assert!(events.stdout().ends_with("99999\n"));
}

#[tokio::test]
async fn a_cell_of_ten_megabytes_runs() {
  let kernel = python().await;
  let code = format!("len('''{}''')", "x".repeat(10_000_000));
  kernel.gives(&code, "10000000").await;
}

// ------------------------------------------------------------ life

#[tokio::test]
async fn a_restart_forgets_everything() {
  let kernel = python().await;
  kernel.execute("x = 1").await;
  kernel.restart().await.ok();
  let events = kernel.execute("x").await;
  assert_eq!(events.ename(), Some("NameError"), "{events:?}");
}

#[tokio::test]
async fn two_kernels_share_neither_state_nor_random_numbers() {
  let (one, two) = tokio::join!(python(), python());
  one.execute("x = 1").await;
  assert_eq!(two.execute("x").await.ename(), Some("NameError"));
  let code = "import random; random.random(), hash('a'), __import__('uuid').uuid4()";
  let (a, b) = tokio::join!(one.execute(code), two.execute(code));
  assert_ne!(a.result(), b.result());
}

#[tokio::test]
async fn python_kernels_are_preloaded_by_default_and_take_any_options() {
  let server = Server::builder()
    .env("KERNEL_POOL_ENABLED", "true")
    .env("KERNEL_POOL_SIZE", "1")
    .start();
  let client = server.client();
  eventually("a blank kernel waits", || async {
    client.get("/api/status").await.json()["pool"]["available"] == 1
  })
  .await;
  let blank = hosts_of(server.pid());
  let body = json!({"lang": "python", "env": {"K": "v"}});
  let kernel = client.create(body).await;
  assert!(hosts_of(server.pid()).contains(&blank[0]));
  kernel.gives("import os; os.environ['K']", "'v'").await;
}

#[tokio::test]
async fn a_deleted_kernel_takes_its_process_along() {
  let server = Server::builder().start();
  let kernel = server.client().create(json!({"lang": "python"})).await;
  let processes = hosts_of(server.pid());
  kernel
    .submit_running("print('running')\nwhile True: pass")
    .await;
  kernel.delete().await;
  eventually("the process ends", || async {
    !processes.iter().any(|pid| exists(*pid))
  })
  .await;
}

// ------------------------------------------------------------ code intelligence

#[tokio::test]
async fn code_is_completed_inspected_and_judged() {
  let kernel = python().await;
  kernel.execute("import os; value_one = 1").await;
  let reply = kernel
    .post("/complete", &json!({"code": "value_o", "cursor_pos": 7}))
    .await
    .ok();
  assert_eq!(reply["matches"], json!(["value_one"]), "{reply}");
  assert_eq!(
    (&reply["cursor_start"], &reply["cursor_end"]),
    (&json!(0), &json!(7))
  );
  let reply = kernel
    .post("/inspect", &json!({"code": "os.getcwd", "cursor_pos": 9}))
    .await
    .ok();
  assert_eq!(reply["found"], true, "{reply}");
  for (code, status) in [
    ("1", "complete"),
    ("for i in x:", "incomplete"),
    ("1 +* 2", "invalid"),
  ] {
    let reply = kernel
      .post("/is-complete", &json!({ "code": code }))
      .await
      .ok();
    assert_eq!(reply["status"], status, "{code}");
  }
}

#[tokio::test]
async fn work_in_the_background_goes_on_between_cells() {
  let kernel = python().await;
  let code = "import asyncio\nticks = 0\nasync def tick():\n    global ticks\n    while True:\n        ticks += 1\n        await asyncio.sleep(0.01)\ntask = asyncio.ensure_future(tick())";
  kernel.execute(code).await;
  eventually("it ticks", || async {
    kernel.execute("ticks > 5").await.result() == Some("True")
  })
  .await;
}

#[tokio::test]
async fn packages_are_fetched_for_machines_without_a_network() {
  let dir = TempDir::new().expect("a folder");
  let mirror = Loopback::start(|_| Reply::content("application/zip", "not the wheel"));
  let fetch = |names: &[&str]| {
    std::process::Command::new(binary())
      .env_clear()
      // The index, too, is out of reach.
      .env("HTTPS_PROXY", "http://127.0.0.1:9")
      .args(["packages", "fetch"])
      .args(names)
      .args(["--from", &mirror.url("/full"), "--pyodide-packages-dir"])
      .arg(dir.path())
      .output()
      .expect("runs")
  };
  let unknown = fetch(&["no-such-package-xyz"]);
  let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
  assert!(
    !unknown.status.success() && said.contains("`no-such-package-xyz` is not a package"),
    "{said}"
  );
  let forged = fetch(&["pandas"]);
  let said = String::from_utf8_lossy(&forged.stderr).into_owned();
  assert!(!forged.status.success(), "{said}");
  for expected in [
    "[1/",
    "numpy-",
    "not the file whose sha256",
    "packages could not be fetched",
  ] {
    assert!(said.contains(expected), "{expected}: {said}");
  }
  assert!(
    std::fs::read_dir(dir.path())
      .expect("is there")
      .next()
      .is_none()
  );
  let paths = mirror.requests("/full/numpy-2.4.6-cp314-cp314-pyemscripten_2026_0_wasm32.whl");
  assert_eq!(paths, 1, "{said}");
}

/// A wheel without code.
fn wheel(name: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
  let info = format!("{name}-{version}.dist-info");
  let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
  let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
  let mut script = String::from("import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\n");
  let own = [
    (format!("{info}/METADATA"), metadata.as_str()),
    (format!("{info}/WHEEL"), tags),
    (format!("{info}/RECORD"), ""),
  ];
  let files = files.iter().map(|(path, text)| ((*path).to_owned(), *text));
  for (path, text) in own.into_iter().chain(files) {
    script.push_str(&format!("z.writestr({path:?}, {text:?})\n"));
  }
  script.push_str("z.close()\n");
  let dir = TempDir::new().expect("a folder");
  let path = dir.path().join("it.whl");
  let made = std::process::Command::new(cpython())
    .args(["-c", &script])
    .arg(&path)
    .status()
    .expect("Python can be run");
  assert!(made.success());
  std::fs::read(path).expect("is there")
}

#[tokio::test]
async fn what_the_distribution_does_not_give_comes_from_the_package_index_with_its_sums() {
  // The distribution has another version, which is out of reach.
  let good = wheel(
    "annotated_types",
    "9.9",
    &[("annotated_types/__init__.py", "origin = 'the index'\n")],
  );
  let sum: String = Sha256::digest(&good)
    .iter()
    .map(|byte| format!("{byte:02x}"))
    .collect();
  let other = wheel("tomli", "9.9", &[]);
  let index = Loopback::start(move |request| {
    let files = |project: &str, sum: &str| {
      let name = format!("{}-9.9-py3-none-any.whl", project.replace('-', "_"));
      json!({
        "meta": {"api-version": "1.0"}, "name": project, "versions": ["9.9"],
        "files": [{"filename": name, "url": format!("{}/files/{name}", request.origin), "hashes": {"sha256": sum}}],
      })
    };
    let simple = |project: &str, sum: &str| {
      Reply::content(
        "application/vnd.pypi.simple.v1+json",
        files(project, sum).to_string(),
      )
    };
    match request.path.as_str() {
      "/simple/annotated-types/" => simple("annotated-types", &sum),
      "/simple/tomli/" => simple("tomli", &"0".repeat(64)),
      path if path.starts_with("/files/tomli") => Reply::content("application/zip", other.clone()),
      path if path.starts_with("/files/") => Reply::content("application/zip", good.clone()),
      _ => Reply::Status(404),
    }
  });
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": ["127.0.0.1"]}"#)
    .start();
  let kernel = server.client().create(json!({"lang": "python"})).await;
  let first = format!(
    "import engine_kernel.distribution as d\nd._INDEX_FIRST = {:?}",
    index.url("/simple/{package_name}/")
  );
  kernel.execute(&first).await;
  let installed = kernel.execute("%pip install annotated-types").await;
  let told = installed.stderr();
  assert!(
    told.contains("looking for annotated-types in the index"),
    "{told}"
  );
  assert!(
    installed
      .stdout()
      .contains("Successfully installed annotated-types-9.9"),
    "{installed:?}"
  );
  kernel.execute("import annotated_types").await;
  kernel.gives("annotated_types.origin", "'the index'").await;
  let forged = kernel.execute("%pip install tomli").await;
  assert!(forged.evalue().contains("Invalid checksum"), "{forged:?}");
  let neither = kernel.execute("%pip install attrs").await;
  assert!(neither.evalue().contains("attrs"), "{neither:?}");
}
