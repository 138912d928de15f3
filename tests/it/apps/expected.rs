//! The misbehaving apps of `tests/apps` do what Deno lets them do: their output and exit code were
//! recorded from `deno run` (`scripts/expected_apps.py`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::JoinHandle;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use testing::deno_dir;

use super::Folder;
use super::copy;
use super::in_project;
use crate::support::App;
use crate::support::binary;
use crate::support::eventually;

/// What the web has not, and is not asked for.
const ABSENT: &str = "https://deno.land/std@0.208.0/http/absent.ts";
/// Heap of each app, as it was when the expectations were recorded.
const HEAP_MB: u64 = 64;

struct Expected {
  name: String,
  stdout: String,
  stderr: Vec<String>,
  /// Of those that end by themselves.
  exit_code: Option<i64>,
  /// What ports answer.
  answers: BTreeMap<u16, String>,
}

/// Every app with an expectation.
fn expectations() -> Vec<Expected> {
  let files = fs::read_dir(in_project("tests/apps/expected")).expect("can be listed");
  let mut all: Vec<Expected> = files
    .map(|file| read(&file.expect("can be listed").path()))
    .collect();
  all.sort_by(|a, b| a.name.cmp(&b.name));
  assert!(all.len() >= 23, "{} expectations", all.len());
  all
}

fn read(path: &Path) -> Expected {
  let text = fs::read_to_string(path).expect("can be read");
  let json: Value = serde_json::from_str(&text).expect("is JSON");
  let texts = |value: &Value| -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list
      .filter_map(|text| text.as_str().map(str::to_owned))
      .collect()
  };
  let answers = json["answers"].as_object().into_iter().flatten();
  Expected {
    name: path
      .file_stem()
      .expect("a name")
      .to_string_lossy()
      .into_owned(),
    stdout: json["stdout"].as_str().expect("a text").to_owned(),
    stderr: texts(&json["stderr_contains"]),
    exit_code: json["exit_code"].as_i64(),
    answers: answers
      .map(|(port, text)| {
        let port = port.parse().expect("a port");
        (port, text.as_str().expect("a text").to_owned())
      })
      .collect(),
  }
}

/// Where an app and its folder are.
fn source(name: &str) -> (PathBuf, String) {
  let apps = in_project("tests/apps");
  if apps.join(name).is_dir() {
    (apps.join(name), "main.ts".to_owned())
  } else {
    (apps, format!("{name}.ts"))
  }
}

impl Expected {
  /// What is not as expected.
  fn differences(&self, stdout: &str, stderr: &str) -> Vec<String> {
    let mut differences = Vec::new();
    if stdout != self.stdout {
      differences.push(format!(
        "stdout {:.300?} is not {:.300?}",
        stdout, self.stdout
      ));
    }
    let missing = self.stderr.iter().filter(|text| !stderr.contains(*text));
    differences.extend(missing.map(|text| format!("stderr lacks {text:?}: {stderr:.2000}")));
    differences
  }
}

// ------------------------------------------------------------ in the foreground

/// Free ports in place of those that the apps ask for, and so do their expectations: tests run side
/// by side, and on machines with much else.
struct Ports(Vec<(String, String)>, BTreeMap<u16, u16>);

impl Ports {
  fn new() -> Self {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let free = listeners.map(|listener| listener.local_addr().expect("is bound").port());
    let moved: BTreeMap<u16, u16> = [8000, 8123, 8124].into_iter().zip(free).collect();
    // Numbers elsewhere stay: an app counts to 10,000.
    let places = ["port: ", "localhost:", "0.0.0.0:", "on "];
    let mut texts: Vec<_> = moved
      .iter()
      .flat_map(|(old, new)| places.map(|place| (format!("{place}{old}"), format!("{place}{new}"))))
      .collect();
    let default = moved[&8000];
    // Where no port is named, it is.
    texts.push((
      "Deno.serve(() =>".into(),
      format!("Deno.serve({{ port: {default} }}, () =>"),
    ));
    Self(texts, moved)
  }

  fn put_into(&self, text: &str) -> String {
    let replaced = self.0.iter();
    replaced.fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
  }

  fn apply(&self, expected: Expected) -> Expected {
    Expected {
      stdout: self.put_into(&expected.stdout),
      stderr: expected
        .stderr
        .iter()
        .map(|text| self.put_into(text))
        .collect(),
      answers: expected
        .answers
        .into_iter()
        .map(|(port, text)| (self.1[&port], text))
        .collect(),
      ..expected
    }
  }
}

/// A stream that is read to its end, on a thread.
fn reader(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
  std::thread::spawn(move || {
    let mut text = String::new();
    // What was read before the program was killed counts.
    let _ = stream.read_to_string(&mut text);
    text
  })
}

fn foreground(name: &str, ports: &Ports) -> (TempDir, Child) {
  let scratch = TempDir::new().expect("a temporary directory");
  let (from, entry) = source(name);
  // The folder has the app's name: paths in errors say it.
  let folder = scratch.path().join(name);
  copy(&from, &folder);
  let script = fs::read_to_string(folder.join(&entry)).expect("can be read");
  fs::write(folder.join(&entry), ports.put_into(&script)).expect("can be written");
  let data = scratch.path().join("data");
  deno_dir::fill_not_found(&data.join("deno"), ABSENT);
  let child = Command::new(binary())
    .args(["run", "--allow-net", "--allow-read=.", "--allow-write=."])
    .arg(entry)
    .current_dir(folder)
    .env_clear()
    .env("ENGINE_DATA_DIR", data)
    .env("KERNEL_MAX_HEAP_MB", HEAP_MB.to_string())
    .env("NO_COLOR", "1")
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn();
  (scratch, child.expect("the binary runs"))
}

async fn run_one(expected: Expected) -> Vec<String> {
  let ports = Ports::new();
  let expected = ports.apply(expected);
  let (_scratch, mut child) = foreground(&expected.name, &ports);
  let mut stdout = child.stdout.take().expect("is piped");
  let stderr = reader(child.stderr.take().expect("is piped"));
  let mut first = String::new();
  let code = if expected.exit_code.is_none() {
    for (port, text) in &expected.answers {
      eventually("the app answers", || async {
        direct(*port).await.as_ref() == Some(text)
      })
      .await;
    }
    // It says what it has to say, and goes on.
    let mut bytes = vec![0; expected.stdout.len()];
    stdout.read_exact(&mut bytes).expect("can be read");
    first = String::from_utf8(bytes).expect("is UTF-8");
    let code = child.try_wait().expect("can be waited for");
    child.kill().expect("can be killed");
    code.and_then(|status| status.code())
  } else {
    None
  };
  let rest = reader(stdout);
  let status = child.wait().expect("ends");
  let code = if expected.exit_code.is_some() {
    status.code()
  } else {
    code
  };
  let stdout = first + rest.join().expect("is read").as_str();
  let stderr = stderr.join().expect("is read");
  let mut differences = if expected.name == "out-of-memory" {
    // The engine ends it before V8 aborts, and says so in its own words.
    let told = stderr.contains("out of memory") && code.is_some_and(|code| code != 0);
    let told = (!told).then(|| format!("{code:?}: {stderr}"));
    told.into_iter().collect()
  } else {
    let mut differences = expected.differences(&stdout, &stderr);
    if code.map(i64::from) != expected.exit_code {
      differences.push(format!(
        "exit code {code:?} is not {:?}",
        expected.exit_code
      ));
    }
    differences
  };
  for difference in &mut differences {
    *difference = format!("{}: {difference}", expected.name);
  }
  differences
}

async fn direct(port: u16) -> Option<String> {
  let http = reqwest::Client::builder().no_proxy().build().ok()?;
  let answer = http
    .get(format!("http://127.0.0.1:{port}/"))
    .send()
    .await
    .ok()?;
  answer.text().await.ok()
}

#[tokio::test]
async fn in_the_foreground_they_do_what_deno_lets_them_do() {
  let mut differences = Vec::new();
  for expected in expectations() {
    differences.extend(run_one(expected).await);
  }
  assert!(differences.is_empty(), "{differences:#?}");
}

// ------------------------------------------------------------ as apps

#[tokio::test]
async fn as_apps_they_do_what_deno_lets_them_do() {
  let folder = Folder::new();
  for Expected { name, .. } in expectations() {
    let (from, entry) = source(&name);
    let target = folder.path().join(&name);
    if from.ends_with(&name) {
      copy(&from, &target);
    } else {
      folder.write(
        &format!("{name}/{entry}"),
        fs::read(from.join(&entry)).expect("can be read"),
      );
    }
    // None is started again: what it said is all there is.
    let manifest = json!({"entry": entry, "restart": "never", "limits": {"heapMb": HEAP_MB}});
    folder.write(&format!("{name}/app.json"), manifest.to_string());
  }
  let data = TempDir::new().expect("a temporary directory");
  deno_dir::fill_not_found(&data.path().join("deno"), ABSENT);
  // Reading its own folder is every app's right; writing is this one's, as it was in Deno.
  let own = json!([folder.path().join("writes-data")]);
  let server = folder
    .server()
    .data_dir(data.path())
    .env("KERNEL_PERMISSIONS_MAX", json!({"write": own}).to_string())
    .start();
  let client = server.client();
  let mut differences = Vec::new();
  for expected in expectations() {
    let app = client.app(&expected.name);
    let found = as_app(&app, &expected).await;
    differences.extend(found.into_iter().map(|text| format!("{}: {text}", app.id)));
    app.stop().await;
  }
  assert!(differences.is_empty(), "{differences:#?}");
}

async fn as_app(app: &App, expected: &Expected) -> Vec<String> {
  if app.id == "same-port-twice" {
    // Each server has a port of the engine's: none is taken. The first one is the app.
    let answer = app.get("/").await;
    return (answer.text != "first")
      .then_some(answer.text)
      .into_iter()
      .collect();
  }
  let Some(code) = expected.exit_code else {
    // It goes on: what it must have said by now, it has.
    if let Some(text) = expected.answers.values().next() {
      app.answers(text).await;
    }
    if let Some(line) = expected.stdout.lines().next_back() {
      app.says(line).await;
    }
    let info = app.info().await;
    let differences = expected.differences(&text(app, "stdout").await, &text(app, "stderr").await);
    let runs = info["status"] == "running";
    return differences
      .into_iter()
      .chain((!runs).then(|| info.to_string()))
      .collect();
  };
  let settled = |info: &Value| {
    let ended = info["status"] == "exited" || info["status"] == "failed";
    ended && (code == 0 || info["pid"].is_null())
  };
  let info = app.shows("ended", settled).await;
  let (stdout, stderr) = (text(app, "stdout").await, text(app, "stderr").await);
  if app.id == "out-of-memory" {
    let told = info["reason"]
      .as_str()
      .is_some_and(|reason| reason.contains("out of memory"));
    let right = told && stdout == expected.stdout;
    return (!right).then(|| info.to_string()).into_iter().collect();
  }
  let mut differences = if app.id == "prints-much" {
    // The log keeps 10,000 entries, and some are not of the program.
    let kept = expected.stdout.ends_with(&stdout) && stdout.lines().count() > 9_990;
    (!kept)
      .then(|| format!("{stdout:.300}"))
      .into_iter()
      .collect()
  } else {
    expected.differences(&stdout, &stderr)
  };
  if info["exitCode"] != code {
    differences.push(format!("exit code {code} is not told: {info}"));
  }
  let status = if code == 0 { "exited" } else { "failed" };
  if info["status"] != status {
    differences.push(format!("it has not {status}: {info}"));
  }
  differences
}

async fn text(app: &App, stream: &str) -> String {
  let lines = app.lines(stream).await;
  lines.iter().map(|line| format!("{line}\n")).collect()
}
