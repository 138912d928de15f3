//! What hostile code and hostile pages try, a folder a case, and what must become of it. See
//! `../hostile/README.md`; the cases are there, this runs them.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures::future::join_all;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::support::Client;
use crate::support::Kernel;
use crate::support::PATIENCE;
use crate::support::Server;
use crate::support::cpython;
use crate::support::in_time;

/// How much more than at the start the server may hold once the kernel is gone.
const KEPT_MIB: u64 = 16;
/// How soon memory must be given back. The server returns what is free every five seconds.
const GIVEN_BACK_IN: Duration = Duration::from_secs(10);
/// How often memory is looked at.
const SAMPLED_EVERY: Duration = Duration::from_millis(20);
/// Size of the code in each question.
const QUESTION_BYTES: usize = 8_000_000;

macro_rules! cases {
  ($($name:ident: $folder:literal,)*) => {
    /// Every case that runs.
    const FOLDERS: &[&str] = &[$($folder),*];

    $(
      #[tokio::test]
      async fn $name() {
        run($folder).await;
      }
    )*
  };
}

cases! {
  c1_names_pointed_here: "c1-names-pointed-here",
  c1_pages_of_others: "c1-pages-of-others",
  c1_pages_of_others_with_tokens: "c1-pages-of-others-with-tokens",
  c3_descriptors_by_number: "c3-descriptors-by-number",
  c3_forged_garbage: "c3-forged-garbage",
  c3_forged_many_lines: "c3-forged-many-lines",
  c3_forged_too_long: "c3-forged-too-long",
  c4_mount_at_its_default: "c4-mount-at-its-default",
  c4_mount_at_mnt_data: "c4-mount-at-mnt-data",
  c4_mount_over_a_folder_of_the_host: "c4-mount-over-a-folder-of-the-host",
  c4_wasi_over_a_folder_of_the_host: "c4-wasi-over-a-folder-of-the-host",
  c5_empty_objects: "c5-empty-objects",
  c5_huge_completions: "c5-huge-completions",
  c5_huge_error: "c5-huge-error",
  c5_huge_string: "c5-huge-string",
  c5_long_history: "c5-long-history",
  c5_long_output: "c5-long-output",
  c5_tiny_events: "c5-tiny-events",
  h10_tokens_of_published_apps: "h10-tokens-of-published-apps",
  h11_tokens_of_the_server: "h11-tokens-of-the-server",
  h12_redirects_of_text: "h12-redirects-of-text",
  h13_passwords_of_registries: "h13-passwords-of-registries",
  h14_questions_to_a_stopped_kernel: "h14-questions-to-a-stopped-kernel",
  h14_signals: "h14-signals",
  h2_code_caches: "h2-code-caches",
  h2_flags_of_v8: "h2-flags-of-v8",
  h3_sockets_without_an_address: "h3-sockets-without-an-address",
  h4_addresses_that_are_listed: "h4-addresses-that-are-listed",
  h4_addresses_that_are_not_public: "h4-addresses-that-are-not-public",
  h5_answers_beyond_the_app: "h5-answers-beyond-the-app",
  h9_what_is_no_request: "h9-what-is-no-request",
  m1_deno_while_python_stats: "m1-deno-while-python-stats",
  m20_hosts_of_requests: "m20-hosts-of-requests",
  m2_workers_of_python: "m2-workers-of-python",
  m3_files_of_pythons_start: "m3-files-of-pythons-start",
  m4_packages_of_its_own_making: "m4-packages-of-its-own-making",
  m5_roots_that_exist_and_that_do_not: "m5-roots-that-exist-and-that-do-not",
}

#[test]
fn every_folder_is_a_case_that_runs() {
  let entries = std::fs::read_dir(home())
    .expect("the cases are there")
    .flatten();
  let mut folders: Vec<_> = entries
    .filter(|entry| entry.path().is_dir())
    .map(|entry| entry.file_name().to_string_lossy().into_owned())
    .collect();
  folders.sort_unstable();
  let mut listed = FOLDERS.to_vec();
  listed.sort_unstable();
  assert_eq!(folders, listed);
}

fn home() -> PathBuf {
  Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

/// `case.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
  /// The finding of the security review that it is about.
  finding: String,
  /// What is tried and must not succeed, in a sentence.
  what: String,
  /// Settings of the server.
  #[serde(default)]
  env: BTreeMap<String, String>,
  /// Fields of the request that makes the kernel.
  #[serde(default)]
  kernel: serde_json::Map<String, Value>,
  /// Files of the host, by their path in `{dir}`.
  #[serde(default)]
  files: BTreeMap<String, String>,
  /// Most that the server may grow while it runs, in MiB.
  rss_mib: Option<u64>,
  /// What the client shows the server.
  token: Option<String>,
  /// How often the script runs.
  #[serde(default = "once")]
  executions: usize,
  /// Code to ask completions for, after the script. Whatever the answer is, it has a bound.
  #[serde(default)]
  completions: Vec<String>,
  /// How many questions about much code are asked at once while the script runs. None is answered.
  #[serde(default)]
  questions: usize,
  /// Whether the kernel may die of it.
  #[serde(default)]
  kernel_may_die: bool,
}

fn once() -> usize {
  1
}

/// One request of `requests.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
  raw: String,
  status: u16,
  /// Words that the answer must have.
  #[serde(default)]
  says: Vec<String>,
  /// Words that the answer must not have.
  #[serde(default)]
  without: Vec<String>,
}

struct Run {
  folder: &'static str,
  case: Case,
  server: Server,
  dir: TempDir,
}

async fn run(folder: &'static str) {
  let case: Case = json_file(&home().join(folder).join("case.json"));
  let title = format!("{}-", case.finding.to_lowercase());
  assert!(
    folder.starts_with(&title) && case.what.ends_with('.'),
    "{folder}"
  );
  let dir = TempDir::new().expect("a folder");
  for (path, text) in &case.files {
    let path = dir.path().join(path);
    let parent = path.parent().expect("is in the folder");
    std::fs::create_dir_all(parent).expect("is made");
    std::fs::write(path, text).expect("is written");
  }
  let types = "worker-typescript,worker-javascript,worker-python,worker-cpython";
  let mut server = Server::builder()
    .env("ALLOWED_KERNEL_TYPES", types)
    .env("CPYTHON_EXECUTABLE", cpython());
  let place = dir
    .path()
    .to_str()
    .expect("temporary folders have plain names");
  for (name, value) in &case.env {
    server = server.env(name, value.replace("{dir}", place));
  }
  let run = Run {
    folder,
    case,
    server: server.start(),
    dir,
  };
  let before = run.files_of_the_host();
  let requests = home().join(folder).join("requests.json");
  if requests.exists() {
    run.requests(&json_file::<Vec<Request>>(&requests));
  }
  let languages = [
    ("ts.ts", "typescript"),
    ("js.js", "javascript"),
    ("python.py", "python"),
    ("cpython.py", "cpython"),
  ];
  let scripts: Vec<_> = languages
    .into_iter()
    .filter(|(script, _)| home().join(folder).join(script).exists())
    .collect();
  assert!(
    requests.exists() == scripts.is_empty(),
    "{folder} has requests or scripts"
  );
  for (script, language) in scripts {
    run.script(script, language).await;
    let health = run.client().get("/health").await.status;
    assert_eq!(health, 200, "{folder}, {script}: the server answers");
  }
  assert_eq!(
    run.files_of_the_host(),
    before,
    "{folder}: files of the host"
  );
}

fn json_file<T: DeserializeOwned>(path: &Path) -> T {
  let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
  serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Run {
  fn client(&self) -> Client {
    let client = self.server.client();
    match &self.case.token {
      Some(token) => client.with_token(token),
      None => client,
    }
  }

  /// Puts what is only known now into a text.
  fn filled(&self, text: &str) -> String {
    let own = netif::up().expect("interfaces can be listed");
    let own = own.map(|interface| interface.address().to_string());
    let own: Vec<_> = own.filter(|address| !address.contains("::1")).collect();
    text
      .replace("{dir}", self.dir.path().to_str().expect("a plain name"))
      .replace("{port}", &self.server.port().to_string())
      .replace("{server_pid}", &self.server.pid().to_string())
      .replace("{own_addresses}", &own.join(","))
  }

  /// Every file of the host that no kernel may change, with what is in it.
  fn files_of_the_host(&self) -> BTreeMap<PathBuf, Vec<u8>> {
    let roots = self.dir.path().join("roots");
    let (mut files, mut folders) = (BTreeMap::new(), vec![self.dir.path().to_owned()]);
    while let Some(folder) = folders.pop() {
      for entry in std::fs::read_dir(folder).expect("can be listed").flatten() {
        match entry.file_type().expect("is known") {
          kind if kind.is_dir() && entry.path() != roots => folders.push(entry.path()),
          kind if kind.is_dir() => {}
          _ => {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            files.insert(entry.path(), content);
          }
        }
      }
    }
    files
  }

  async fn kernel(&self, language: &str) -> Kernel {
    let body = Value::Object(self.case.kernel.clone()).to_string();
    let mut body: Value = serde_json::from_str(&self.filled(&body)).expect("stays JSON");
    body["lang"] = json!(language);
    self.client().create(body).await
  }

  async fn script(&self, script: &str, language: &str) {
    let title = format!("{}, {script}", self.folder);
    let home = home().join(self.folder);
    let read = |name: &str| std::fs::read_to_string(home.join(name));
    let code = read(script).expect("a script");
    let short = script.split('.').next().unwrap_or_default();
    let expected = read(&format!("expected.{short}.txt"))
      .or_else(|_| read("expected.txt"))
      .unwrap_or_else(|e| panic!("{title}: expected.txt: {e}"));

    let kernel = self.kernel(language).await;
    kernel.gives("1 + 1", "2").await;
    let memory = Memory::watch(self.server.pid());
    for _ in 0..self.case.executions {
      let stdout = match self.case.questions {
        0 => self.executed(&title, &kernel, &code).await,
        questions => asked_meanwhile(&title, &kernel, &code, questions).await,
      };
      same_lines(&title, &expected, &stdout);
    }
    for code in &self.case.completions {
      let question = json!({"code": code, "cursor_pos": code.len()});
      in_time(&title, kernel.post("/complete", &question)).await;
    }
    let lives = match self.case.questions {
      0 => lives(&title, &kernel).await,
      _ => false,
    };
    assert!(
      lives || self.case.kernel_may_die,
      "{title}: the kernel died of it"
    );
    drop(kernel);
    if let Some(most) = self.case.rss_mib {
      memory.assert_bounded(&title, most).await;
    }
    if !lives {
      self.kernel(language).await.gives("1 + 1", "2").await;
    }
  }

  async fn executed(&self, title: &str, kernel: &Kernel, code: &str) -> String {
    let events = in_time(title, kernel.execute(code)).await;
    // What is forged would name another execution, or none.
    events.execution_id();
    events.stdout()
  }

  fn requests(&self, requests: &[Request]) {
    for request in requests {
      let raw = self.filled(&request.raw);
      let answer = answer(self.server.port(), &raw);
      let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
      assert_eq!(
        status,
        Some(request.status),
        "{}: {raw}\n{answer}",
        self.folder
      );
      let missing = request.says.iter().find(|word| !answer.contains(*word));
      let found = request.without.iter().find(|word| answer.contains(*word));
      assert!(
        missing.is_none() && found.is_none(),
        "{}: {raw}\n{answer}",
        self.folder
      );
    }
  }
}

/// Whether a kernel runs another cell. One that died is refused.
async fn lives(title: &str, kernel: &Kernel) -> bool {
  let body = json!({"code": "1 + 1"});
  let answer = in_time(title, kernel.post("/execute", &body)).await;
  answer.status == 200 && answer.text.contains("execute_result")
}

/// What the server says to these bytes, until it closes the connection.
fn answer(port: u16, raw: &str) -> String {
  let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
  connection
    .set_read_timeout(Some(PATIENCE))
    .expect("can be set");
  connection.write_all(raw.as_bytes()).expect("can be sent");
  let mut answer = Vec::new();
  connection.read_to_end(&mut answer).expect("is closed");
  String::from_utf8_lossy(&answer).into_owned()
}

/// Starts a script, waits for what it says first, and asks much while it does not answer.
async fn asked_meanwhile(title: &str, kernel: &Kernel, code: &str, questions: usize) -> String {
  let session = kernel.submit(code).await;
  let mut events = kernel.follow(&session, None).await;
  let first = in_time(title, events.event())
    .await
    .expect("the script says something");
  let body = json!({"code": "x".repeat(QUESTION_BYTES), "cursor_pos": 1}).to_string();
  let body: &'static [u8] = body.leak().as_bytes();
  let answers = (0..questions).map(|_| {
    let request = kernel
      .client
      .request(Method::POST, &kernel.path("/complete"));
    let request = request.header(CONTENT_TYPE, "application/json").body(body);
    kernel.client.read(request)
  });
  for answer in join_all(answers).await {
    let status = answer.status;
    assert!(status >= 400, "{title}: a question was answered: {status}");
    assert_ne!(status, 413, "{title}: {}", answer.text);
  }
  first["data"]["text"]
    .as_str()
    .unwrap_or_default()
    .to_owned()
}

fn same_lines(title: &str, expected: &str, stdout: &str) {
  let (expected, lines): (Vec<_>, Vec<_>) = (expected.lines().collect(), stdout.lines().collect());
  let wrong = (0..expected.len().max(lines.len())).filter(|n| expected.get(*n) != lines.get(*n));
  let wrong: Vec<_> = wrong
    .map(|n| {
      let line = |lines: &[&str]| lines.get(n).copied().unwrap_or("(nothing)").to_owned();
      format!(
        "line {}: {}\n  expected: {}",
        n + 1,
        line(&lines),
        line(&expected)
      )
    })
    .collect();
  assert!(wrong.is_empty(), "{title}:\n{}", wrong.join("\n"));
}

/// Resident memory of a process, watched on a thread of its own: the tests' runtime may be busy.
struct Memory {
  pid: u32,
  start: u64,
  most: Arc<AtomicU64>,
  ended: Arc<AtomicBool>,
}

impl Memory {
  fn watch(pid: u32) -> Self {
    let start = resident(pid);
    let (most, ended) = (
      Arc::new(AtomicU64::new(start)),
      Arc::new(AtomicBool::new(false)),
    );
    let (seen, stop) = (most.clone(), ended.clone());
    std::thread::spawn(move || {
      while !stop.load(Ordering::Relaxed) {
        seen.fetch_max(resident(pid), Ordering::Relaxed);
        #[expect(
          clippy::disallowed_methods,
          reason = "this thread has nothing else to do"
        )]
        std::thread::sleep(SAMPLED_EVERY);
      }
    });
    Self {
      pid,
      start,
      most,
      ended,
    }
  }

  fn growth(&self, now: u64) -> u64 {
    now.saturating_sub(self.start) >> 20
  }

  /// Checks what was seen so far, and that it is given back.
  #[expect(
    clippy::print_stderr,
    reason = "the numbers are for whoever asks to see them"
  )]
  async fn assert_bounded(&self, title: &str, most: u64) {
    let grown = self.growth(self.most.load(Ordering::Relaxed));
    let deadline = Instant::now() + GIVEN_BACK_IN;
    while self.growth(resident(self.pid)) > KEPT_MIB && Instant::now() < deadline {
      tokio::time::sleep(SAMPLED_EVERY).await;
    }
    let kept = self.growth(resident(self.pid));
    eprintln!("{title}: +{grown} MiB of at most {most}, +{kept} MiB kept");
    assert!(grown <= most, "{title}: the server grew by {grown} MiB");
    assert!(kept <= KEPT_MIB, "{title}: the server keeps {kept} MiB");
  }
}

impl Drop for Memory {
  fn drop(&mut self) {
    self.ended.store(true, Ordering::Relaxed);
  }
}

/// Bytes of a process that are in memory; 0 once it is gone.
fn resident(pid: u32) -> u64 {
  let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
  let pages = statm
    .split(' ')
    .nth(1)
    .and_then(|pages| pages.parse::<u64>().ok());
  pages.unwrap_or(0) * rustix::param::page_size() as u64
}
