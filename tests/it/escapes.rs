//! Ways out that kernel code might try. None of them leads to the host, its files or its network.

use serde_json::json;

use crate::support::Kernel;
use crate::support::Server;
use crate::support::kernel;
use crate::support::shared_server;

/// Checks that code is refused for want of permission, and the kernel takes no harm.
async fn is_refused(kernel: &Kernel, code: &str) {
  let events = kernel.execute(code).await;
  let told = format!("{} {}", events.ename().unwrap_or_default(), events.evalue());
  let words = [
    "NotCapable",
    "Requires ",
    "not allowed",
    "NotSupported",
    "ERR_ACCESS_DENIED",
    "EACCES",
    "EPERM",
  ];
  assert!(words.iter().any(|w| told.contains(w)), "{code}: {events:?}");
}

#[tokio::test]
async fn files_of_the_host_cannot_be_read() {
  let kernel = kernel().await;
  for code in [
    "Deno.readTextFileSync('/etc/passwd')",
    "await Deno.readTextFile(new URL('file:///etc/passwd'))",
    "await Deno.open('/etc/passwd')",
    "(await import('node:fs')).readFileSync('/etc/passwd')",
    "await (await import('node:fs/promises')).readFile('/etc/passwd')",
    "await fetch('file:///etc/passwd')",
    "await import('file:///etc/passwd')",
    "Deno.readTextFileSync('/proc/self/environ')",
    "Deno.readTextFileSync('/proc/self/root/etc/passwd')",
    "Deno.readTextFileSync(Deno.cwd() + '/../../../../../../../../etc/passwd')",
    "Deno.statSync('/etc/passwd')",
    "Deno.realPathSync('/etc/passwd')",
    "[...Deno.readDirSync('/root')]",
    "Deno.copyFileSync('/etc/passwd', 'copy')",
    "Deno.chdir('/etc')",
    "new Worker('file:///etc/passwd', { type: 'module' }); await new Promise((_, no) => setTimeout(() => no(new Error('not allowed, it seems')), 500))",
  ] {
    is_refused(&kernel, code).await;
  }
}

#[tokio::test]
async fn files_of_the_host_cannot_be_written() {
  let kernel = kernel().await;
  for code in [
    "Deno.writeTextFileSync('/tmp/escape', 'x')",
    "(await import('node:fs')).writeFileSync('/tmp/escape', 'x')",
    "Deno.mkdirSync('/tmp/escape')",
    "Deno.renameSync('a', '/tmp/escape')",
    "Deno.removeSync('/tmp')",
    "Deno.writeTextFileSync(Deno.cwd() + '/../escape', 'x')",
    "Deno.makeTempDirSync()",
    "Deno.truncateSync('/etc/passwd')",
    "Deno.chmodSync('/etc/passwd', 0o777)",
  ] {
    is_refused(&kernel, code).await;
  }
  assert!(!std::path::Path::new("/tmp/escape").exists());
}

#[tokio::test]
async fn links_in_the_own_folder_do_not_lead_out() {
  let kernel = kernel().await;
  kernel
    .execute("await Deno.writeTextFile('file', 'x')")
    .await;
  for code in [
    "Deno.symlinkSync('/etc/passwd', 'link'); Deno.readTextFileSync('link')",
    "Deno.linkSync('/etc/passwd', 'hard'); Deno.readTextFileSync('hard')",
    "Deno.symlinkSync('/etc', 'folder'); Deno.readTextFileSync('folder/passwd')",
    "Deno.symlinkSync('..', 'up'); Deno.writeTextFileSync('up/escape', 'x')",
    "(await import('node:fs')).symlinkSync('/etc/passwd', 'nodelink'); Deno.readTextFileSync('nodelink')",
  ] {
    is_refused(&kernel, code).await;
  }
}

#[tokio::test]
async fn kernels_cannot_reach_each_others_folders() {
  let (one, other) = (kernel().await, kernel().await);
  one.execute("await Deno.writeTextFile('secret', 'x')").await;
  let folder = one.execute("console.log(Deno.cwd())").await.stdout();
  let folder = folder.trim();
  for code in [
    format!("Deno.readTextFileSync('{folder}/secret')"),
    format!("[...Deno.readDirSync('{folder}')]"),
    format!("[...Deno.readDirSync('{folder}/..')]"),
    format!("Deno.writeTextFileSync('{folder}/new', 'x')"),
  ] {
    is_refused(&other, &code).await;
  }
}

#[tokio::test]
async fn processes_cannot_be_started_or_ended() {
  let kernel = kernel().await;
  let server = shared_server().pid();
  for code in [
    "new Deno.Command('/bin/true').outputSync()".to_owned(),
    "new Deno.Command('/bin/ls').spawn()".to_owned(),
    format!("Deno.kill({server}, 'SIGKILL')"),
    format!("process.kill({server})"),
    "Deno.dlopen('/lib/x86_64-linux-gnu/libc.so.6', {})".to_owned(),
    "process.dlopen({ exports: {} }, '/tmp/x.node')".to_owned(),
  ] {
    is_refused(&kernel, &code).await;
  }
  assert_eq!(shared_server().client().get("/health").await.status, 200);
}

#[tokio::test]
async fn node_cannot_start_a_shell() {
  let kernel = kernel().await;
  kernel
    .execute("import child from 'node:child_process'")
    .await;
  for code in [
    "child.execSync('/bin/touch ran', { cwd: Deno.cwd() })",
    "child.spawnSync('/bin/touch', ['ran'], { cwd: Deno.cwd() })",
    "child.execFileSync('/bin/touch', ['ran'], { cwd: Deno.cwd() })",
    "await new Promise(r => child.exec('/bin/touch ran', { cwd: Deno.cwd() }, r))",
    "child.fork('data:text/javascript,1')",
  ] {
    kernel.execute(code).await;
    let files = kernel.execute("[...Deno.readDirSync('.')]").await;
    assert_eq!(files.result(), Some("[]"), "{code}");
  }
}

#[tokio::test]
async fn nothing_about_the_machine_is_told() {
  let kernel = kernel().await;
  for code in [
    "Deno.hostname()",
    "Deno.networkInterfaces()",
    "Deno.systemMemoryInfo()",
    "Deno.uid()",
    "Deno.osRelease()",
    "(await import('node:os')).networkInterfaces()",
    "(await import('node:os')).userInfo()",
  ] {
    is_refused(&kernel, code).await;
  }
}

#[tokio::test]
async fn this_machine_cannot_be_reached_by_any_spelling_or_protocol() {
  let kernel = kernel().await;
  let port = shared_server().port();
  for code in [
    format!("await fetch('http://2130706433:{port}/health')"),
    format!("await fetch('http://0x7f.1:{port}/health')"),
    format!("await fetch('http://0177.0.0.1:{port}/health')"),
    format!("await fetch('http://127.1:{port}/health')"),
    format!("await fetch('http://[::ffff:127.0.0.1]:{port}/health')"),
    format!("await fetch('http://[::]:{port}/health')"),
    format!("await fetch('http://LOCALHOST:{port}/health')"),
    format!("await fetch('http://localhost.:{port}/health')"),
    format!("await Deno.connect({{ hostname: '127.0.0.1', port: {port} }})"),
    format!("await Deno.connect({{ hostname: 'localhost', port: {port} }})"),
    format!("await Deno.connectTls({{ hostname: '127.0.0.1', port: {port} }})"),
    format!("new WebSocket('ws://127.0.0.1:{port}/')"),
    format!(
      "await new Promise((_, no) => import('node:net').then(net => net.connect({port}, '127.0.0.1').on('error', no)))"
    ),
    format!(
      "await new Promise((yes, no) => import('node:http').then(http => http.get('http://127.0.0.1:{port}/health', yes).on('error', no)))"
    ),
    format!("await import('http://127.0.0.1:{port}/module.js')"),
    "Deno.listen({ port: 0, hostname: '127.0.0.1' })".to_owned(),
    "Deno.serve({ port: 0, hostname: '127.0.0.1' }, () => new Response('x'))".to_owned(),
    "await Deno.connect({ transport: 'unix', path: '/run/x.sock' })".to_owned(),
  ] {
    let events = kernel.execute(&code).await;
    assert!(events.error().is_some(), "{code}: {events:?}");
    let told = format!("{:?}", events.error());
    // Modules are not loaded over HTTP at all; everything else is a matter of permission.
    let refused = [
      "NotCapable",
      "Requires ",
      "ERR_ACCESS_DENIED",
      "cannot be loaded",
    ];
    assert!(refused.iter().any(|w| told.contains(w)), "{code}: {told}");
  }
}

#[tokio::test]
async fn permissions_cannot_be_asked_for_or_taken_back_later() {
  let kernel = kernel().await;
  let state = kernel
    .execute("(await Deno.permissions.request({ name: 'run' })).state")
    .await;
  assert_eq!(state.result(), Some("\"denied\""), "{state:?}");
  let state = kernel
    .execute("(await Deno.permissions.request({ name: 'read', path: '/etc' })).state")
    .await;
  assert_eq!(state.result(), Some("\"denied\""), "{state:?}");
  is_refused(&kernel, "Deno.readTextFileSync('/etc/passwd')").await;
}

#[tokio::test]
async fn what_the_runtime_hides_cannot_be_reached_through_prototypes() {
  let kernel = kernel().await;
  let code = "const found = []; for (const o of [globalThis, Deno, Deno[Deno.internal] ?? {}]) \
    for (const name of Reflect.ownKeys(o)) if (/^op_/.test(String(name))) found.push(name); found";
  assert_eq!(kernel.execute(code).await.result(), Some("[]"));
  assert_eq!(
    kernel
      .execute("typeof Deno[Deno.internal]?.core?.ops?.op_kernel_emit")
      .await
      .result(),
    Some("\"undefined\"")
  );
}

#[tokio::test]
async fn a_narrower_request_is_kept_to() {
  let client = shared_server().client();
  let kernel = client
    .create(json!({"permissions": {"read": false, "write": false, "net": false, "import": false}}))
    .await;
  for code in [
    "Deno.readTextFileSync('file')",
    "Deno.writeTextFileSync('file', 'x')",
    "await fetch('https://example.com')",
    "await import('https://example.com/x.js')",
  ] {
    let events = kernel.execute(code).await;
    assert!(events.error().is_some(), "{code}: {events:?}");
  }
  is_refused(&kernel, "Deno.writeTextFileSync('file', 'x')").await;
  is_refused(&kernel, "await fetch('https://example.com')").await;
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn what_a_kernel_starts_ends_with_it() {
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"run": true}"#)
    .start();
  let kernel = server.client().typescript().await;
  let code = "const child = new Deno.Command('/bin/sleep', { args: ['1000'] }).spawn(); child.pid";
  let pid: u32 = kernel
    .execute(code)
    .await
    .result()
    .and_then(|p| p.parse().ok())
    .expect("a process");
  assert!(crate::support::exists(pid));
  kernel.delete().await;
  crate::support::eventually("the child process ends", || async {
    !crate::support::exists(pid)
  })
  .await;
}
