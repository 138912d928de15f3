//! The whole of the file API on a mounted folder; see `permissions` for what stays out.

use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::support::Kernel;
use crate::support::Server;

struct Mounted {
  kernel: Kernel,
  root: PathBuf,
  _server: Server,
  _dir: TempDir,
}

/// A kernel that has a folder of the host at `/data`.
async fn mounted(permissions: Value) -> Mounted {
  let dir = TempDir::new().expect("a folder");
  let root = dir.path().join("root");
  std::fs::create_dir(&root).expect("is made");
  std::fs::write(root.join("hello.txt"), "hello").expect("is written");
  let server = Server::builder()
    .env("KERNEL_MOUNT_ROOTS", dir.path())
    .start();
  let filesystem = json!({"enabled": true, "root": root, "mountPoint": "/data"});
  let body = json!({"filesystem": filesystem, "permissions": permissions});
  let kernel = server.client().create(body).await;
  Mounted {
    kernel,
    root,
    _server: server,
    _dir: dir,
  }
}

/// Runs each expression and compares what it gives.
async fn gives(kernel: &Kernel, cases: &[(&str, &str)]) {
  let mut wrong = Vec::new();
  for (code, expected) in cases {
    let events = kernel.execute(code).await;
    if events.result() != Some(expected) {
      wrong.push(format!(
        "{code}\n    expected {expected}, got {:?} {:?}",
        events.result(),
        events.error()
      ));
    }
  }
  assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn deno_reads_and_writes_in_every_way() {
  let m = mounted(json!({})).await;
  gives(
    &m.kernel,
    &[
      ("new TextDecoder().decode(await Deno.readFile('/data/hello.txt'))", "\"hello\""),
      ("await Deno.writeFile('/data/b', new Uint8Array([104, 105])); Deno.readTextFileSync('/data/b')", "\"hi\""),
      ("await Deno.writeTextFile('/data/b', '!', { append: true }); Deno.readTextFileSync('/data/b')", "\"hi!\""),
      ("Deno.writeTextFileSync('/data/new', 'x', { createNew: true }); Deno.statSync('/data/new').isFile", "true"),
      ("await Deno.copyFile('/data/b', '/data/c'); Deno.readTextFileSync('/data/c')", "\"hi!\""),
      ("Deno.truncateSync('/data/c', 2); Deno.statSync('/data/c').size", "2"),
      ("Deno.mkdirSync('/data/d/e', { recursive: true }); Deno.statSync('/data/d').isDirectory", "true"),
      ("await Deno.rename('/data/c', '/data/d/e/c'); [...Deno.readDirSync('/data/d/e')].map(e => e.name)", "[ \"c\" ]"),
      ("Deno.realPathSync('/data/d/../hello.txt')", "\"/data/hello.txt\""),
      ("Deno.lstatSync('/data/hello.txt').isSymlink", "false"),
      ("await Deno.utime('/data/b', 1, 2); Deno.statSync('/data/b').mtime.getTime()", "2000"),
      ("await Deno.chmod('/data/b', 0o600); Deno.statSync('/data/b').mode & 0o777", "384"),
      ("const t = await Deno.makeTempFile({ dir: '/data' }); t.startsWith('/data/')", "true"),
      ("await Deno.remove(t); await Deno.remove('/data/d', { recursive: true }); [...Deno.readDirSync('/data')].map(e => e.name).sort()", "[ \"b\", \"hello.txt\", \"new\" ]"),
      ("[...Deno.readDirSync('/data')].find(e => e.name === 'b').isFile", "true"),
    ],
  )
  .await;
  assert_eq!(
    std::fs::read_to_string(m.root.join("b")).expect("on the host"),
    "hi!"
  );
}

#[tokio::test]
async fn open_files_seek_read_and_write() {
  let m = mounted(json!({})).await;
  gives(
    &m.kernel,
    &[
      ("const f = await Deno.open('/data/f', { read: true, write: true, create: true }); await f.write(new TextEncoder().encode('0123456789'))", "10"),
      ("await f.seek(3, Deno.SeekMode.Start)", "3"),
      ("const b = new Uint8Array(4); await f.read(b); new TextDecoder().decode(b)", "\"3456\""),
      ("f.truncateSync(5); (await f.stat()).size", "5"),
      ("f.close(); Deno.readTextFileSync('/data/f')", "\"01234\""),
      ("using g = Deno.openSync('/data/f'); (await new Response(g.readable).text())", "\"01234\""),
      ("await Deno.writeTextFile('/data/s', new Response('streamed').body.pipeThrough(new TextDecoderStream())); Deno.readTextFileSync('/data/s')", "\"streamed\""),
    ],
  )
  .await;
}

#[tokio::test]
async fn node_reads_and_writes_in_every_way() {
  let m = mounted(json!({})).await;
  m.kernel
    .execute("import fs from 'node:fs'; import fsp from 'node:fs/promises'")
    .await;
  gives(
    &m.kernel,
    &[
      ("fs.readFileSync('/data/hello.txt', 'utf8')", "\"hello\""),
      ("await fsp.readFile('/data/hello.txt', 'utf8')", "\"hello\""),
      ("await new Promise(r => fs.readFile('/data/hello.txt', 'utf8', (e, t) => r(t)))", "\"hello\""),
      ("await fsp.writeFile('/data/n', 'node'); fs.appendFileSync('/data/n', '!'); fs.readFileSync('/data/n', 'utf8')", "\"node!\""),
      ("fs.existsSync('/data/n') && fs.statSync('/data/n').size", "5"),
      ("await fsp.mkdir('/data/x/y', { recursive: true }); fs.renameSync('/data/n', '/data/x/y/n'); await fsp.readdir('/data/x/y')", "[ \"n\" ]"),
      ("fs.copyFileSync('/data/x/y/n', '/data/copy'); fs.readFileSync('/data/copy', 'utf8')", "\"node!\""),
      ("const fd = fs.openSync('/data/copy', 'r'); const b = Buffer.alloc(2); fs.readSync(fd, b, 0, 2, 1); fs.closeSync(fd); b.toString()", "\"od\""),
      ("const chunks = []; for await (const c of fs.createReadStream('/data/copy')) chunks.push(c); Buffer.concat(chunks).toString()", "\"node!\""),
      ("await fsp.rm('/data/x', { recursive: true }); fs.unlinkSync('/data/copy'); fs.readdirSync('/data')", "[ \"hello.txt\" ]"),
      ("await fsp.access('/data/none').catch(e => e.code)", "\"ENOENT\""),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_link_inside_a_mount_works_inside_it() {
  let m = mounted(json!({})).await;
  std::os::unix::fs::symlink("hello.txt", m.root.join("link")).expect("a link");
  gives(
    &m.kernel,
    &[
      ("Deno.readTextFileSync('/data/link')", "\"hello\""),
      ("Deno.readLinkSync('/data/link')", "\"hello.txt\""),
      ("Deno.lstatSync('/data/link').isSymlink", "true"),
    ],
  )
  .await;
}

#[tokio::test]
async fn the_host_and_the_kernel_see_each_others_changes() {
  let m = mounted(json!({})).await;
  std::fs::write(m.root.join("later"), "from the host").expect("is written");
  gives(
    &m.kernel,
    &[("Deno.readTextFileSync('/data/later')", "\"from the host\"")],
  )
  .await;
  m.kernel
    .execute("Deno.writeTextFileSync('/data/back', 'from the kernel')")
    .await;
  assert_eq!(
    std::fs::read_to_string(m.root.join("back")).expect("is there"),
    "from the kernel"
  );
}

#[tokio::test]
async fn a_module_can_be_imported_from_a_mount() {
  let m = mounted(json!({})).await;
  std::fs::write(m.root.join("dep.ts"), "export const n: number = 20;").expect("is written");
  std::fs::write(
    m.root.join("mod.ts"),
    "import { n } from './dep.ts'; export const twice: number = n * 2;",
  )
  .expect("is written");
  gives(
    &m.kernel,
    &[("(await import('file:///data/mod.ts')).twice", "40")],
  )
  .await;
}

#[tokio::test]
async fn a_kernel_can_go_into_its_mount() {
  let m = mounted(json!({})).await;
  gives(
    &m.kernel,
    &[
      ("Deno.chdir('/data'); Deno.cwd()", "\"/data\""),
      ("Deno.readTextFileSync('hello.txt')", "\"hello\""),
      ("Deno.readTextFileSync('./../data/hello.txt')", "\"hello\""),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_mount_can_be_made_read_only() {
  let m = mounted(json!({"write": false})).await;
  gives(
    &m.kernel,
    &[("Deno.readTextFileSync('/data/hello.txt')", "\"hello\"")],
  )
  .await;
  for code in [
    "Deno.writeTextFileSync('/data/hello.txt', 'x')",
    "Deno.removeSync('/data/hello.txt')",
    "Deno.mkdirSync('/data/new')",
  ] {
    assert_eq!(
      m.kernel.execute(code).await.ename(),
      Some("NotCapable"),
      "{code}"
    );
  }
  assert_eq!(
    std::fs::read_to_string(m.root.join("hello.txt")).expect("is there"),
    "hello"
  );
}

#[tokio::test]
async fn the_mount_point_has_a_default() {
  let dir = TempDir::new().expect("a folder");
  std::fs::write(dir.path().join("f"), "x").expect("is written");
  let server = Server::builder()
    .env("KERNEL_MOUNT_ROOTS", dir.path())
    .start();
  let kernel = server
    .client()
    .create(json!({"filesystem": {"root": dir.path()}}))
    .await;
  gives(
    &kernel,
    &[("Deno.readTextFileSync('/home/pyodide/f')", "\"x\"")],
  )
  .await;
}

#[tokio::test]
async fn deleting_the_kernel_leaves_the_mounted_folder_alone() {
  let m = mounted(json!({})).await;
  m.kernel
    .execute("Deno.writeTextFileSync('/data/kept', 'x')")
    .await;
  m.kernel.delete().await;
  assert!(m.root.join("kept").exists());
}

#[tokio::test]
async fn errors_name_the_path_the_kernel_knows() {
  let m = mounted(json!({})).await;
  let events = m
    .kernel
    .execute("Deno.readTextFileSync('/data/none.txt')")
    .await;
  assert_eq!(events.ename(), Some("NotFound"));
  assert!(
    events.evalue().contains("/data/none.txt"),
    "{}",
    events.evalue()
  );
  let traceback = events.traceback();
  assert!(
    !traceback.contains("/proc/self/fd") && !traceback.contains(m.root.to_str().expect("a path")),
    "{traceback}"
  );
}
