//! The layers under every kernel process, as the operating system shows them: what it has given up, what
//! it does not reach, and that nothing outlives it.

use std::fs::File;
use std::fs::Permissions;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::Client;
use crate::support::Kernel;
use crate::support::Server;
use crate::support::binary;
use crate::support::children_of;
use crate::support::cpython;
use crate::support::cpython_server;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;
use crate::support::kill;
use crate::support::zygotes_of;

fn proc(pid: u32, file: &str) -> String {
  std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("is readable")
}

/// A value of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
  let status = proc(pid, "status");
  let line = status.lines().find_map(|line| line.strip_prefix(name));
  line
    .expect("is there")
    .trim_matches([':', ' ', '\t'])
    .to_owned()
}

/// The soft and the hard limit of `/proc/PID/limits`.
fn limits(pid: u32, name: &str) -> (String, String) {
  let limits = proc(pid, "limits");
  let line = limits.lines().find_map(|line| line.strip_prefix(name));
  let mut values = line.expect("is there").split_ascii_whitespace();
  let mut next = || values.next().unwrap_or_default().to_owned();
  (next(), next())
}

fn is_confined(pid: u32, files: &str) {
  for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
    assert_eq!(status(pid, set), "0000000000000000", "{set}");
  }
  assert_eq!(status(pid, "NoNewPrivs"), "1");
  assert_eq!(status(pid, "Umask"), "0077");
  assert_eq!(status(pid, "NSsid"), pid.to_string(), "leads a session");
  assert_eq!(proc(pid, "oom_score_adj").trim(), "800");
  for (name, most) in [
    ("Max core file size", "0"),
    ("Max open files", files),
    ("Max locked memory", "65536"),
    ("Max msgqueue size", "0"),
    ("Max realtime priority", "0"),
    ("Max nice priority", "0"),
  ] {
    assert_eq!(
      limits(pid, name),
      (most.to_owned(), most.to_owned()),
      "{name}"
    );
  }
  assert_eq!(limits(pid, "Max stack size").0, (8 << 20).to_string());
}

/// The process of a kernel; a Pyodide kernel must be the only one of its server.
async fn process_of(kernel: &Kernel, server: &Server) -> u32 {
  match kernel.created["language"].as_str() {
    Some("cpython") => pid_of(kernel).await,
    Some("python") => {
      let mut hosts = hosts_of(server.pid()).into_iter();
      let found = hosts.find(|pid| proc(*pid, "cmdline").contains("\"Pyodide\""));
      found.expect("has a process")
    }
    _ => kernel.pid().await,
  }
}

/// The process of a CPython kernel.
async fn pid_of(kernel: &Kernel) -> u32 {
  let events = kernel.execute("import os; os.getpid()").await;
  let pid = events.result().and_then(|pid| pid.parse().ok());
  pid.expect("a process id")
}

async fn cpython_kernel(client: &Client) -> Kernel {
  client.create(json!({"lang": "cpython"})).await
}

#[tokio::test]
async fn every_kind_of_kernel_process_is_confined() {
  let server = Server::builder()
    .env(
      "ALLOWED_KERNEL_TYPES",
      "worker-typescript,worker-python,worker-cpython",
    )
    .env("CPYTHON_EXECUTABLE", cpython())
    .start();
  for lang in ["typescript", "python", "cpython"] {
    let kernel = server.client().create(json!({ "lang": lang })).await;
    is_confined(process_of(&kernel, &server).await, "1024");
  }
}

#[tokio::test]
async fn kernels_of_a_server_in_the_background_hear_an_interrupt() {
  // What a shell starts with `&` ignores these.
  let script = format!("trap '' INT QUIT HUP; exec {} run loop.ts", binary());
  let dir = TempDir::new().expect("a folder");
  std::fs::write(
    dir.path().join("loop.ts"),
    "console.log('up'); while (true);",
  )
  .expect("is written");
  let mut child = Command::new("sh")
    .args(["-c", &script])
    .current_dir(dir.path())
    .stdout(Stdio::piped())
    .spawn()
    .expect("runs");
  let mut line = String::new();
  let said = child.stdout.take().expect("is piped");
  BufReader::new(said)
    .read_line(&mut line)
    .expect("can be read");
  assert_eq!(line, "up\n");
  kill(child.id(), Signal::INT);
  eventually("it ends", || {
    let ended = child.try_wait().expect("can be waited for").is_some();
    std::future::ready(ended)
  })
  .await;
}

#[tokio::test]
async fn the_program_of_an_app_is_confined_and_may_open_more_files() {
  let server = Server::builder()
    .env("ALLOWED_KERNEL_TYPES", "worker-typescript,worker-cpython")
    .env("CPYTHON_EXECUTABLE", cpython())
    .start();
  let client = server.client();
  for (lang, script) in [
    ("typescript", "setInterval(() => {}, 1000)"),
    ("cpython", "import time; time.sleep(1000)"),
  ] {
    let app = client
      .post_app(json!({"lang": lang, "startup_script": script}))
      .await;
    app.becomes("running").await;
    is_confined(app.pid().await, "4096");
  }
}

#[tokio::test]
async fn a_kernel_inherits_no_descriptor_by_mistake() {
  let file = tempfile::NamedTempFile::new().expect("a file");
  // Without the flag that would close it.
  let open = rustix::io::dup(File::open(file.path()).expect("is open")).expect("is open");
  let server = Server::builder()
    .env(
      "ALLOWED_KERNEL_TYPES",
      "worker-typescript,worker-python,worker-cpython",
    )
    .env("CPYTHON_EXECUTABLE", cpython())
    .start();
  drop(open);
  let has_it = |pid: u32| {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("is listed");
    let mut targets = open
      .flatten()
      .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    targets.any(|target| target == file.path())
  };
  assert!(has_it(server.pid()));
  for lang in ["typescript", "python", "cpython"] {
    let kernel = server.client().create(json!({ "lang": lang })).await;
    assert!(!has_it(process_of(&kernel, &server).await), "{lang}");
  }
}

#[tokio::test]
async fn a_kernel_reads_no_memory_and_no_environment_of_the_server_or_its_zygote() {
  let server = Server::builder()
    .env("ALLOWED_KERNEL_TYPES", "worker-cpython")
    .env("CPYTHON_EXECUTABLE", cpython())
    .env("ENGINE_TOKENS", "a1ice=alice,r00t=*")
    .start();
  let kernel = cpython_kernel(&server.client().with_token("a1ice")).await;
  let server = server.pid();
  let code = format!(
    "import os\n\
     def denied(path):\n  \
       try: open(path, 'rb').read(1)\n  \
       except PermissionError: return True\n  \
       return False\n\
     zygote = os.getppid()\n\
     [denied(f'/proc/{{pid}}/{{file}}') for pid in ({server}, zygote) for file in ('environ', 'mem', 'maps')]"
  );
  kernel
    .gives(&code, &format!("[{}]", ["True"; 6].join(", ")))
    .await;
  // The kernel itself is none of these secrets.
  kernel.gives("denied('/proc/self/environ')", "False").await;
}

/// Every way in which a cell may leave a process behind: in the shell's group, in a session of its own,
/// and as a daemon. What it prints are their ids.
const LEAVES_PROCESSES: &str = "
import os, subprocess, sys
!sleep 1000 & echo $! > pids
children = [subprocess.Popen(['sleep', '1000'], start_new_session=own).pid for own in (False, True)]
daemon = 'import os, time; os.setsid(); pid = os.fork(); (os._exit(0) if pid else time.sleep(1000))'
subprocess.run([sys.executable, '-c', daemon])
def below(pid):
  found = []
  for task in os.listdir(f'/proc/{pid}/task'):
    for child in open(f'/proc/{pid}/task/{task}/children').read().split():
      found += [int(child), *below(child)]
  return found
assert len(below(os.getpid())) >= 4
print(*below(os.getpid()))
";

async fn left_behind(kernel: &Kernel) -> Vec<u32> {
  let events = kernel.execute(LEAVES_PROCESSES).await;
  let stdout = events.stdout();
  let pids: Vec<u32> = stdout
    .split_ascii_whitespace()
    .filter_map(|pid| pid.parse().ok())
    .collect();
  assert!(pids.len() >= 4, "{events:?}");
  assert!(pids.iter().all(|pid| exists(*pid)));
  pids
}

async fn all_end(pids: &[u32]) {
  eventually("all that the kernel started has ended", || async {
    !pids.iter().any(|pid| exists(*pid))
  })
  .await;
}

#[tokio::test]
async fn nothing_that_a_cpython_kernel_started_outlives_it() {
  let client = cpython_server().client();
  let bystander = cpython_kernel(&client).await;
  let theirs = left_behind(&bystander).await;

  let kernel = cpython_kernel(&client).await;
  let deleted = left_behind(&kernel).await;
  kernel.delete().await;
  all_end(&deleted).await;

  let kernel = cpython_kernel(&client).await;
  let restarted = left_behind(&kernel).await;
  kernel.restart().await.ok();
  all_end(&restarted).await;

  let crashed = left_behind(&kernel).await;
  kill(pid_of(&kernel).await, Signal::KILL);
  all_end(&crashed).await;

  // While its kernel lives, a process lives too.
  assert!(theirs.iter().all(|pid| exists(*pid)));
  bystander.gives("1 + 1", "2").await;
}

#[tokio::test]
async fn nothing_that_a_typescript_kernel_started_outlives_it() {
  let server = Server::builder()
    .env("KERNEL_PERMISSIONS_MAX", r#"{"run": true}"#)
    .start();
  let client = server.client();
  let body = json!({"permissions": {"run": true}});
  let code = "const { pid } = new Deno.Command('/usr/bin/setsid', { args: ['/bin/sleep', '1000'] }).spawn(); pid";
  let start = async |kernel: &Kernel| -> u32 {
    let events = kernel.execute(code).await;
    let pid = events.result().and_then(|pid| pid.parse().ok());
    pid.unwrap_or_else(|| panic!("{events:?}"))
  };
  let bystander = client.create(body.clone()).await;
  let theirs = start(&bystander).await;

  let kernel = client.create(body.clone()).await;
  let deleted = start(&kernel).await;
  kernel.delete().await;
  all_end(&[deleted]).await;

  let kernel = client.create(body).await;
  let restarted = start(&kernel).await;
  kernel.restart().await.ok();
  all_end(&[restarted]).await;

  let crashed = start(&kernel).await;
  kill(kernel.pid().await, Signal::KILL);
  all_end(&[crashed]).await;
  assert!(exists(theirs));
}

#[tokio::test]
async fn a_server_that_stops_leaves_nothing_of_its_kernels() {
  let mut server = Server::builder()
    .env("ALLOWED_KERNEL_TYPES", "worker-cpython")
    .env("CPYTHON_EXECUTABLE", cpython())
    .start();
  let kernel = cpython_kernel(&server.client()).await;
  let pids = left_behind(&kernel).await;
  server.signal(Signal::TERM);
  assert!(server.ended().await.success());
  assert!(!pids.iter().any(|pid| exists(*pid)));
}

#[tokio::test]
async fn kernels_live_on_without_their_zygote_though_the_server_takes_them_over() {
  let server = Server::builder()
    .env("ALLOWED_KERNEL_TYPES", "worker-cpython")
    .env("CPYTHON_EXECUTABLE", cpython())
    .start();
  let client = server.client();
  let kernel = cpython_kernel(&client).await;
  let pid = pid_of(&kernel).await;
  let zygotes = zygotes_of(server.pid());
  assert_eq!(zygotes.len(), 1);
  kill(zygotes[0], Signal::KILL);
  eventually("the server has taken it over", || async {
    children_of(server.pid()).contains(&pid)
  })
  .await;
  // Each end of another makes the server look for orphans.
  for _ in 0..3 {
    let other = cpython_kernel(&client).await;
    let left = left_behind(&other).await;
    other.delete().await;
    all_end(&left).await;
  }
  kernel.gives("1 + 1", "2").await;
  kernel.delete().await;
  eventually("it ends", || async { !exists(pid) }).await;
}

// ------------------------------------------------------------ a user of their own

/// A user without privileges, whom no file belongs to.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
  rustix::process::geteuid().is_root()
}

fn folder(mode: u32) -> TempDir {
  let dir = TempDir::new().expect("a folder");
  std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).expect("has the mode");
  dir
}

/// What a server says that does not start.
fn refusal(args: &[&str]) -> String {
  let output = Command::new(binary())
    .env_clear()
    .args(["serve", "--port", "0"])
    .args(args)
    .output()
    .expect("runs");
  assert!(!output.status.success());
  String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn another_user_needs_a_server_that_may_give_one() {
  let dir = folder(0o755);
  let data = dir.path().to_string_lossy().into_owned();
  let asked = ["--data-dir", &data, "--kernel-user", "no-such-user"];
  assert!(refusal(&asked).contains("no-such-user"));
  assert!(refusal(&["--data-dir", &data, "--kernel-user", "root"]).contains("root"));
  let shut = folder(0o700);
  let data = shut.path().join("data").to_string_lossy().into_owned();
  let said = refusal(&["--data-dir", &data, "--kernel-user", "65534"]);
  if is_root() {
    let shut = shut.path().to_string_lossy();
    assert!(
      said.contains(&*shut) && said.contains("--data-dir"),
      "{said}"
    );
    assert!(!Path::new(&data).exists());
  } else {
    assert!(
      said.contains("ENGINE_KERNEL_USER") && said.contains("root"),
      "{said}"
    );
  }
}

/// An interpreter with IPython that every user can run; `None` when this machine's are all out of reach.
fn python_for_everybody(dir: &Path) -> Option<String> {
  let ask = |python: &str, user: Option<u32>, code: &str| {
    let mut command = Command::new(python);
    command.args(["-c", code]).env_clear().current_dir("/");
    if let Some(user) = user {
      command.uid(user).gid(user);
    }
    let output = command
      .output()
      .ok()
      .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
  };
  const VERSION: &str = "import sys; print(sys.version_info[:2])";
  let tests = cpython();
  let base = ask(&tests, None, "import sys; print(sys._base_executable)")?;
  let version = ask(&tests, None, VERSION)?;
  let suits = |python: &&str| ask(python, Some(NOBODY), VERSION).as_ref() == Some(&version);
  let base = [base.as_str(), "/usr/bin/python3"]
    .into_iter()
    .find(suits)?;
  let packages = "import sysconfig; print(sysconfig.get_path('purelib'))";
  let made = Command::new(base)
    .args(["-m", "venv", "--without-pip"])
    .arg(dir)
    .status();
  assert!(made.expect("runs").success());
  let python = dir.join("bin/python").display().to_string();
  let (from, to) = (ask(&tests, None, packages)?, ask(&python, None, packages)?);
  // IPython is small; all else would take its time.
  let large = [
    "numpy",
    "pandas",
    "matplotlib",
    "mpl_toolkits",
    "PIL",
    "pillow",
    "font",
    "kiwi",
    "contour",
    "pip",
    "setuptools",
  ];
  for package in std::fs::read_dir(from).expect("is listed").flatten() {
    let name = package.file_name().to_string_lossy().into_owned();
    if !large.iter().any(|large| name.starts_with(large)) {
      let copied = Command::new("cp")
        .arg("-a")
        .arg(package.path())
        .arg(&to)
        .status();
      assert!(copied.expect("runs").success());
    }
  }
  Some(python)
}

#[tokio::test]
async fn kernels_and_apps_run_as_a_user_of_their_own() {
  if !is_root() {
    // Said by the test above.
    return;
  }
  let (dir, pythons) = (folder(0o755), folder(0o755));
  let python = python_for_everybody(&pythons.path().join("python"));
  let server = Server::builder()
    .data_dir(dir.path())
    .env("ENGINE_KERNEL_USER", NOBODY.to_string())
    .env(
      "ALLOWED_KERNEL_TYPES",
      "worker-typescript,worker-python,worker-cpython",
    )
    .env("CPYTHON_EXECUTABLE", python.clone().unwrap_or_else(cpython))
    .start();
  let client = server.client();
  let is_nobodys = |pid: u32| {
    let nobody = vec![NOBODY.to_string(); 4].join("\t");
    assert_eq!(status(pid, "Uid"), nobody);
    assert_eq!(status(pid, "Gid"), nobody);
    assert_eq!(status(pid, "Groups"), "");
    is_confined(pid, &limits(pid, "Max open files").0);
  };

  let kernel = client.typescript().await;
  is_nobodys(kernel.pid().await);
  let code = "await Deno.writeTextFile('own.txt', 'own'); await Deno.readTextFile('own.txt')";
  kernel.gives(code, "\"own\"").await;

  let kernel = client.create(json!({"lang": "python"})).await;
  is_nobodys(process_of(&kernel, &server).await);
  let code = "_ = open('own.txt', 'w').write('own'); open('own.txt').read()";
  kernel.gives(code, "'own'").await;

  let app = client
    .post_app(json!({
      "lang": "typescript",
      "startup_script": "await Deno.writeTextFile(Deno.env.get('APP_DATA_DIR') + '/kept.txt', 'kept');\n\
                         Deno.serve(() => new Response('up'));",
    }))
    .await;
  app.answers("up").await;
  is_nobodys(app.pid().await);
  let data = dir.path().join("apps/data").join(&app.id);
  let kept = std::fs::metadata(data.join("kept.txt")).expect("is kept");
  assert_eq!((kept.uid(), kept.gid()), (NOBODY, NOBODY));

  let Some(_) = python else {
    let body = json!({"lang": "cpython"});
    client
      .try_create(&body)
      .await
      .refused(501, &["cannot be run"]);
    return;
  };
  let kernel = cpython_kernel(&client).await;
  is_nobodys(pid_of(&kernel).await);
  kernel.gives(code, "'own'").await;
  let data = dir.path().display();
  let server = server.pid();
  let code = format!(
    "import os\n\
     def denied(what, *arguments):\n  \
       try: what(*arguments)\n  \
       except PermissionError: return True\n  \
       return False\n\
     [denied(os.listdir, '{data}/vectordb'), denied(os.listdir, '{data}/apps/posted'),\n \
      denied(os.listdir, '{data}/scratch'), denied(os.kill, {server}, 0),\n \
      denied(open, '{data}/new', 'w')]"
  );
  kernel
    .gives(&code, &format!("[{}]", ["True"; 5].join(", ")))
    .await;
}
