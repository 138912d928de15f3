//! What kernel code may reach: its own folder, its mounts, the public network, nothing else.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::Kernel;
use crate::support::Server;
use crate::support::kernel;
use crate::support::shared_server;

/// A server whose kernels may mount a folder, and a kernel that has it at `/data`.
async fn mounted() -> (Server, TempDir, Kernel) {
  let dir = TempDir::new().expect("a folder");
  std::fs::create_dir(dir.path().join("root")).expect("is made");
  std::fs::write(dir.path().join("secret.txt"), "secret").expect("is written");
  std::fs::write(dir.path().join("root/hello.txt"), "hello").expect("is written");
  let server = Server::builder()
    .env("KERNEL_MOUNT_ROOTS", dir.path())
    .start();
  let filesystem = json!({"root": dir.path().join("root"), "mountPoint": "/data"});
  let kernel = server
    .client()
    .create(json!({"filesystem": filesystem}))
    .await;
  (server, dir, kernel)
}

async fn result(kernel: &Kernel, code: &str) -> String {
  let events = kernel.execute(code).await;
  events
    .result()
    .map_or_else(|| panic!("{code}: {events:?}"), str::to_owned)
}

/// The name of the error that an expression throws.
async fn refused(kernel: &Kernel, code: &str) -> String {
  let events = kernel.execute(code).await;
  events
    .ename()
    .map_or_else(|| panic!("{code}: {events:?}"), str::to_owned)
}

#[tokio::test]
async fn a_mount_is_read_and_written_by_deno_and_the_host_sees_it() {
  let (_server, dir, kernel) = mounted().await;
  assert_eq!(
    result(&kernel, "await Deno.readTextFile('/data/hello.txt')").await,
    "\"hello\""
  );
  assert_eq!(
    result(&kernel, "Deno.readTextFileSync('/data/hello.txt')").await,
    "\"hello\""
  );
  kernel
    .execute("await Deno.mkdir('/data/ä/b', { recursive: true })")
    .await;
  kernel
    .execute("await Deno.writeTextFile('/data/ä/b/new.txt', 'new')")
    .await;
  let path = dir.path().join("root/ä/b/new.txt");
  assert_eq!(
    std::fs::read_to_string(&path).expect("the host sees it"),
    "new"
  );
  kernel
    .execute("Deno.renameSync('/data/ä/b/new.txt', '/data/moved.txt')")
    .await;
  let names = "(await Array.fromAsync(Deno.readDir('/data'))).map(e => e.name).sort().join()";
  assert_eq!(result(&kernel, names).await, "\"hello.txt,moved.txt,ä\"");
  assert_eq!(
    result(&kernel, "(await Deno.stat('/data/moved.txt')).size").await,
    "3"
  );
  kernel
    .execute("await Deno.remove('/data/ä', { recursive: true })")
    .await;
  assert!(!dir.path().join("root/ä").exists());
  assert_eq!(
    refused(&kernel, "Deno.readTextFileSync('/data/none')").await,
    "NotFound"
  );
}

#[tokio::test]
async fn a_mount_is_read_and_written_by_node() {
  let (_server, dir, kernel) = mounted().await;
  kernel
    .execute("import fs from 'node:fs'; import { readFile } from 'node:fs/promises'")
    .await;
  assert_eq!(
    result(&kernel, "fs.readFileSync('/data/hello.txt', 'utf8')").await,
    "\"hello\""
  );
  assert_eq!(
    result(&kernel, "await readFile('/data/hello.txt', 'utf8')").await,
    "\"hello\""
  );
  kernel
    .execute("fs.writeFileSync('/data/n.txt', 'node')")
    .await;
  let text = std::fs::read_to_string(dir.path().join("root/n.txt"));
  assert_eq!(text.expect("the host sees it"), "node");
  assert_eq!(result(&kernel, "fs.readdirSync('/data').length").await, "2");
  assert_eq!(
    result(&kernel, "fs.existsSync('/data/none')").await,
    "false"
  );
}

#[tokio::test]
async fn nothing_leads_out_of_a_mount() {
  let (_server, dir, kernel) = mounted().await;
  let root = dir.path().join("root");
  symlink("/etc/passwd", root.join("absolute")).expect("a link");
  symlink("../secret.txt", root.join("relative")).expect("a link");
  symlink("..", root.join("folder")).expect("a link");
  for path in [
    "/data/../etc/passwd",
    "/data/absolute",
    "/data/relative",
    "/data/folder/secret.txt",
  ] {
    for read in ["Deno.readTextFileSync", "await Deno.readTextFile"] {
      let name = refused(&kernel, &format!("{read}('{path}')")).await;
      assert!(
        ["NotCapable", "NotFound", "PermissionDenied"].contains(&name.as_str()),
        "{path}: {name}"
      );
    }
  }
  // What the link names lies inside the mount for the kernel, and nowhere else.
  kernel
    .execute("Deno.writeTextFileSync('/data/relative', 'x')")
    .await;
  refused(
    &kernel,
    "Deno.symlinkSync('/etc/passwd', '/data/own'); Deno.readTextFileSync('/data/own')",
  )
  .await;
  let secret = std::fs::read_to_string(dir.path().join("secret.txt"));
  assert_eq!(secret.expect("is still there"), "secret");
}

#[tokio::test]
async fn a_mount_outlives_a_restart() {
  let (_server, _dir, kernel) = mounted().await;
  kernel.restart().await.ok();
  assert_eq!(
    result(&kernel, "Deno.readTextFileSync('/data/hello.txt')").await,
    "\"hello\""
  );
}

#[tokio::test]
async fn only_folders_the_operator_named_can_be_mounted() {
  let (server, dir, _kernel) = mounted().await;
  symlink("/etc", dir.path().join("root/etc")).expect("a link");
  for root in [Path::new("/etc"), &dir.path().join("root/etc")] {
    let body = json!({"lang": "ts", "filesystem": {"root": root, "mountPoint": "/x"}});
    server
      .client()
      .try_create(&body)
      .await
      .refused(403, &["filesystem.root", "KERNEL_MOUNT_ROOTS"]);
  }
  let body = json!({"lang": "ts", "filesystem": {"root": dir.path(), "mountPoint": "x"}});
  server
    .client()
    .try_create(&body)
    .await
    .refused(400, &["filesystem.mountPoint"]);
}

#[tokio::test]
async fn a_kernel_works_in_a_folder_of_its_own_that_goes_with_it() {
  let server = Server::builder().start();
  let kernel = server.client().typescript().await;
  assert_eq!(
    result(
      &kernel,
      "await Deno.writeTextFile('a.txt', 'x'); Deno.readTextFileSync('a.txt')"
    )
    .await,
    "\"x\""
  );
  let folders = server.scratch_folders();
  assert_eq!(folders.len(), 1);
  assert!(folders[0].join("a.txt").exists());
  kernel.delete().await;
  crate::support::eventually("the folder is removed", || async { !folders[0].exists() }).await;
}

#[tokio::test]
async fn the_host_is_out_of_reach_by_default() {
  let kernel = kernel().await;
  for code in [
    "Deno.readTextFileSync('/etc/passwd')",
    "Deno.writeTextFileSync('/tmp/deno-app-engine-escape', 'x')",
    "Deno.readDirSync('/').next()",
    "new Deno.Command('/bin/true').outputSync()",
    "Deno.hostname()",
    "Deno.dlopen('/lib/x86_64-linux-gnu/libc.so.6', {})",
    "Deno.kill(1)",
  ] {
    assert_eq!(refused(&kernel, code).await, "NotCapable", "{code}");
  }
  let import = kernel.execute("await import('/etc/hostname')").await;
  assert!(
    import.evalue().contains("Requires read access"),
    "{import:?}"
  );
}

#[tokio::test]
async fn this_machine_and_private_networks_are_out_of_reach_by_default() {
  let kernel = kernel().await;
  let port = shared_server().port();
  for host in [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "10.1.2.3",
    "192.168.1.1",
    "169.254.169.254",
    "[fd00::1]",
    "0.0.0.0",
  ] {
    let name = refused(
      &kernel,
      &format!("await fetch('http://{host}:{port}/health')"),
    )
    .await;
    assert_eq!(name, "NotCapable", "{host}");
  }
}

#[tokio::test]
async fn the_operator_can_open_the_network_and_a_request_can_close_it() {
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true}"#)
    .start();
  let client = server.client();
  let fetch = format!(
    "(await fetch('http://127.0.0.1:{}/health')).status",
    server.port()
  );
  assert_eq!(result(&client.typescript().await, &fetch).await, "200");
  let closed = client.create(json!({"permissions": {"net": false}})).await;
  assert_eq!(refused(&closed, &fetch).await, "NotCapable");
}

#[tokio::test]
async fn what_a_child_process_prints_belongs_to_the_cell_in_order() {
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"run": ["/bin/echo"]}"#)
    .start();
  let kernel = server.client().typescript().await;
  let code = "console.log('a'); \
    new Deno.Command('/bin/echo', { args: ['b'], stdout: 'inherit' }).outputSync(); console.log('c')";
  assert_eq!(kernel.execute(code).await.stdout(), "a\nb\nc\n");
  assert_eq!(
    refused(&kernel, "new Deno.Command('/bin/ls').outputSync()").await,
    "NotCapable"
  );
}
