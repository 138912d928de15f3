//! CPython kernels, through the HTTP API. What cells print and return is in `cells`, how the process
//! behaves in the tests of `cpython-host`.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::Kernel;
use crate::support::Server;
use crate::support::cpython;
use crate::support::cpython_server;
use crate::support::eventually;
use crate::support::exists;

async fn kernel() -> Kernel {
  cpython_server()
    .client()
    .create(json!({"lang": "cpython"}))
    .await
}

async fn pid(kernel: &Kernel) -> u32 {
  let events = kernel.execute("import os; os.getpid()").await;
  events
    .result()
    .and_then(|pid| pid.parse().ok())
    .expect("a process id")
}

#[tokio::test]
async fn it_is_the_interpreter_that_was_named() {
  let kernel = kernel().await;
  assert_eq!(kernel.info().await["language"], "cpython");
  kernel
    .gives("import sys; sys.executable", &format!("'{}'", cpython()))
    .await;
}

#[tokio::test]
async fn arrays_frames_and_figures_are_shown() {
  let kernel = kernel().await;
  kernel
    .gives("import numpy as np; np.arange(3)", "array([0, 1, 2])")
    .await;
  let events = kernel
    .execute("import pandas as pd; pd.DataFrame({'a': [1, 2]})")
    .await;
  let html = events.result_bundle().and_then(|b| b["text/html"].as_str());
  assert!(
    html.is_some_and(|html| html.contains("<table")),
    "{events:?}"
  );
  let events = kernel
    .execute("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
    .await;
  let figures = events.of("display_data");
  let png = figures[0]["data"]["image/png"].as_str();
  assert!(png.is_some_and(|png| png.starts_with("iVBORw0KGgo") && !png.ends_with('\n')));
}

#[tokio::test]
async fn it_is_interrupted_three_times_with_its_state_kept() {
  for endless in [
    "while True: pass",
    "import time; time.sleep(1000)",
    "import asyncio; await asyncio.sleep(1000)",
  ] {
    let kernel = kernel().await;
    kernel.execute("kept = 0").await;
    for turn in 1..=3 {
      let code = format!("kept += 1; print('running')\n{endless}");
      let session = kernel.submit_running(&code).await;
      let done = kernel.interrupt().await.ok();
      assert!(done.get("restarted").is_none(), "{done}");
      let events = kernel.result(&session).await;
      assert_eq!(events.types(), ["stream", "error"], "{events:?}");
      assert_eq!(events.ename(), Some("KeyboardInterrupt"));
      kernel.gives("kept", &turn.to_string()).await;
    }
  }
}

#[tokio::test]
async fn native_code_that_never_looks_is_ended_with_its_process() {
  let kernel = kernel().await;
  // The first interrupt may come before the native code is reached.
  let code = "import hashlib\nwhile True:\n  try:\n    print('running')\n    hashlib.pbkdf2_hmac('sha256', b'', b'', 10 ** 9)\n  except KeyboardInterrupt: pass";
  kernel.submit_running(code).await;
  assert_eq!(kernel.interrupt().await.ok()["restarted"], true);
  kernel.gives("1 + 1", "2").await;
}

#[tokio::test]
async fn a_restart_and_a_deletion_end_the_process() {
  let kernel = kernel().await;
  let first = pid(&kernel).await;
  kernel.execute("x = 1").await;
  kernel.restart().await.ok();
  assert_eq!(kernel.execute("x").await.ename(), Some("NameError"));
  let second = pid(&kernel).await;
  eventually("the first process ends", || async { !exists(first) }).await;
  kernel.delete().await;
  eventually("the second process ends", || async { !exists(second) }).await;
}

#[tokio::test]
async fn a_process_that_ends_itself_is_reported() {
  let kernel = kernel().await;
  let events = kernel.execute("import os; os._exit(3)").await;
  assert_eq!(events.ename(), Some("KernelDied"), "{events:?}");
  assert!(events.evalue().contains("exited with code 3"), "{events:?}");
  kernel.restart().await.ok();
  kernel.gives("1 + 1", "2").await;
}

#[tokio::test]
async fn the_environment_is_the_kernels_own() {
  let kernel = cpython_server()
    .client()
    .create(json!({"lang": "cpython", "env": {"K": "v"}}))
    .await;
  let code = "import os; [os.environ.get(k) for k in ('K', 'ALLOWED_KERNEL_TYPES', 'LD_PRELOAD', 'MALLOC_ARENA_MAX')]";
  kernel.gives(code, "['v', None, None, None]").await;
}

#[tokio::test]
async fn it_is_not_allowed_unless_the_operator_says_so() {
  let answer = Server::builder()
    .start()
    .client()
    .try_create(&json!({"lang": "cpython"}))
    .await;
  answer.refused(403, &["worker-cpython", "not allowed"]);
}

#[tokio::test]
async fn another_interpreter_must_be_offered_by_the_operator() {
  let client = cpython_server().client();
  let body = json!({"lang": "cpython", "python": "/usr/bin/env"});
  client
    .try_create(&body)
    .await
    .refused(403, &["/usr/bin/env", "CPYTHON_OTHERS"]);
  let body = json!({"lang": "typescript", "python": cpython()});
  client
    .try_create(&body)
    .await
    .refused(400, &["python", "cpython"]);
}

#[tokio::test]
async fn an_interpreter_that_will_not_do_is_said_at_once_and_all_else_works() {
  let dir = TempDir::new().expect("a folder");
  let bare = dir.path().join("bare");
  let made = std::process::Command::new(cpython())
    .args(["-m", "venv", "--without-pip"])
    .arg(&bare)
    .status();
  assert!(made.expect("runs").success());
  let bare = bare.join("bin/python").display().to_string();
  let server = Server::builder()
    .env("ALLOWED_KERNEL_TYPES", "worker-cpython,worker-typescript")
    .env("CPYTHON_EXECUTABLE", "/no/such/python")
    .env("CPYTHON_OTHERS", &bare)
    .start();
  let client = server.client();
  client
    .try_create(&json!({"lang": "cpython"}))
    .await
    .refused(501, &["/no/such/python"]);
  client
    .try_create(&json!({"lang": "cpython", "python": bare}))
    .await
    .refused(501, &["IPython", "pip install"]);
  let kernel = client.typescript().await;
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn the_default_interpreter_is_looked_for_in_path() {
  let python = cpython();
  let bin = Path::new(&python).parent().expect("a folder");
  let allowed = |path: &Path| {
    Server::builder()
      .env("ALLOWED_KERNEL_TYPES", "worker-cpython")
      .env("PATH", path)
      .start()
  };
  let server = allowed(bin);
  let kernel = server.client().create(json!({"lang": "cpython"})).await;
  let here = format!("sys.prefix == {:?}", bin.parent().expect("a folder"));
  kernel.execute("import sys").await;
  kernel.gives(&here, "True").await;
  let nowhere = TempDir::new().expect("a folder");
  let server = allowed(nowhere.path());
  let refused = server
    .client()
    .try_create(&json!({"lang": "cpython"}))
    .await;
  refused.refused(500, &["CPYTHON_EXECUTABLE", "`python3`", "PATH"]);
}
