//! `deno-app-engine run`: one app in the foreground.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::binary;
use crate::support::children_of;
use crate::support::exists;
use crate::support::kill;

struct Run {
  folder: TempDir,
  /// In front of the script.
  flags: Vec<String>,
  /// Behind it.
  args: Vec<String>,
}

struct Output {
  status: ExitStatus,
  stdout: String,
  stderr: String,
}

impl Run {
  fn of(script: &str) -> Self {
    Self::named("main.ts", script)
  }

  fn named(name: &str, script: &str) -> Self {
    let folder = TempDir::new().expect("a temporary directory");
    std::fs::write(folder.path().join(name), script).expect("can be written");
    Self {
      folder,
      flags: Vec::new(),
      args: vec![name.to_owned()],
    }
  }

  fn flags(mut self, flags: &[&str]) -> Self {
    self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
    self
  }

  fn args(mut self, args: &[&str]) -> Self {
    self.args.extend(args.iter().map(|&arg| arg.to_owned()));
    self
  }

  fn path(&self) -> &Path {
    self.folder.path()
  }

  fn command(&self) -> Command {
    let mut command = Command::new(binary());
    command
      .arg("run")
      .args(&self.flags)
      .args(&self.args)
      .current_dir(self.path())
      .env_clear()
      .env("ENGINE_DATA_DIR", self.path().join("data"))
      .env("SEEN", "by the program")
      .stdin(Stdio::null());
    command
  }

  fn output(&self) -> Output {
    let output = self.command().output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("is UTF-8");
    Output {
      status: output.status,
      stdout: text(output.stdout),
      stderr: text(output.stderr),
    }
  }

  /// Sends a signal once the program has written a line.
  fn signalled(&self, signal: Signal) -> Output {
    let mut child = self
      .command()
      .stdout(Stdio::piped())
      .stderr(Stdio::piped())
      .spawn()
      .expect("the binary runs");
    let mut reader = BufReader::new(child.stdout.take().expect("is piped"));
    let mut stdout = String::new();
    reader.read_line(&mut stdout).expect("can be read");
    let processes = children_of(child.id());
    assert!(
      !processes.is_empty(),
      "the program has a process of its own"
    );
    kill(child.id(), signal);
    reader.read_to_string(&mut stdout).expect("can be read");
    let mut stderr = String::new();
    let mut errors = child.stderr.take().expect("is piped");
    errors.read_to_string(&mut stderr).expect("can be read");
    let status = child.wait().expect("ends");
    // One that ends by itself may take a moment longer than who waits for it.
    let deadline = Instant::now() + PATIENCE;
    while processes.iter().any(|pid| exists(*pid)) {
      assert!(Instant::now() < deadline, "no process is left");
      std::thread::yield_now();
    }
    Output {
      status,
      stdout,
      stderr,
    }
  }
}

impl Output {
  #[track_caller]
  fn is(&self, code: i32, stdout: &str) {
    assert_eq!(
      (self.status.code(), self.stdout.as_str()),
      (Some(code), stdout),
      "{}",
      self.stderr
    );
  }
}

#[test]
fn the_exit_code_is_the_programs() {
  for (script, code) in [
    ("console.log('ran')", 0),
    ("Deno.exit(3)", 3),
    ("Deno.exitCode = 4", 4),
    ("import process from 'node:process'; process.exit(5)", 5),
    ("setTimeout(() => Deno.exit(6), 10)", 6),
    ("throw new Error('failed')", 1),
    (
      "Promise.reject(new Error('failed')); setTimeout(() => {}, 60_000)",
      1,
    ),
    ("await new Promise(() => {})", 1),
    ("const answer: number = ;", 1),
    ("import './absent.ts'", 1),
  ] {
    let output = Run::of(script).output();
    assert_eq!(
      output.status.code(),
      Some(code),
      "{script}: {}",
      output.stderr
    );
  }
}

#[test]
fn the_exit_code_of_a_python_program_is_its_own() {
  for (script, code) in [
    ("print('ran')", 0),
    ("import sys; sys.exit(5)", 5),
    ("import sys; sys.exit()", 0),
    ("raise SystemExit(7)", 7),
    ("raise ValueError('failed')", 1),
  ] {
    let run = Run::named("main.py", script);
    let output = run.output();
    assert_eq!(
      output.status.code(),
      Some(code),
      "{script}: {}",
      output.stderr
    );
  }
}

#[test]
fn what_goes_to_each_stream_stays_there() {
  let output = Run::of("console.log('out'); console.error('err'); console.log('again');").output();
  output.is(0, "out\nagain\n");
  assert_eq!(output.stderr, "err\n");
  let output = Run::named(
    "main.py",
    "import sys\nprint('out')\nprint('err', file=sys.stderr)\n",
  )
  .output();
  output.is(0, "out\n");
  assert!(output.stderr.ends_with("err\n"), "{}", output.stderr);
}

#[test]
fn all_that_is_printed_arrives_also_at_the_very_end() {
  let script = "const line = 'x'.repeat(99); for (let i = 0; i < 20_000; i++) console.log(line); Deno.exit(0);";
  let output = Run::of(script).output();
  assert_eq!(output.stdout.len(), 2_000_000);
  assert!(output.status.success());
}

#[test]
fn arguments_behind_the_script_are_its_own() {
  let script = "console.log(JSON.stringify(Deno.args), import.meta.main)";
  Run::of(script)
    .args(&["one", "--two", "-A", "--", "three"])
    .output()
    .is(0, "[\"one\",\"--two\",\"-A\",\"--\",\"three\"] true\n");
  Run::named("main.py", "import sys\nprint(sys.argv[1:], __name__)")
    .args(&["one", "--two"])
    .output()
    .is(0, "['one', '--two'] __main__\n");
}

#[test]
fn nothing_is_permitted_unless_it_is_allowed() {
  for (script, words, flag) in [
    (
      "Deno.readTextFileSync('/etc/hostname')",
      "read access",
      "--allow-read=/etc/hostname",
    ),
    (
      "Deno.writeTextFileSync('out.txt', 'x')",
      "write access",
      "--allow-write=.",
    ),
    (
      "Deno.env.get('SEEN') === 'by the program' || Deno.exit(9)",
      "env access",
      "--allow-env=SEEN",
    ),
    (
      "Deno.listen({ port: 0, hostname: '127.0.0.1' }).close()",
      "net access",
      "--allow-net=127.0.0.1",
    ),
    (
      "new Deno.Command('/bin/true').outputSync()",
      "run access",
      "--allow-run=/bin/true",
    ),
    ("Deno.hostname()", "sys access", "--allow-sys=hostname"),
  ] {
    let run = Run::of(script);
    let denied = run.output();
    assert_eq!(denied.status.code(), Some(1), "{script}");
    assert!(
      denied.stderr.contains("NotCapable") && denied.stderr.contains(words),
      "{script}: {}",
      denied.stderr
    );
    let run = run.flags(&[flag]);
    let allowed = run.output();
    assert_eq!(allowed.status.code(), Some(0), "{flag}: {}", allowed.stderr);
    let run = Run::of(script).flags(&["-A"]);
    assert_eq!(run.output().status.code(), Some(0), "{script}");
  }
}

#[test]
fn files_beside_the_script_can_be_read_and_imported() {
  let run = Run::of(
    "import { name } from './name.ts';
     console.log(name, Deno.readTextFileSync(new URL('name.ts', import.meta.url)).length);",
  );
  std::fs::write(run.path().join("name.ts"), "export const name = 'beside';")
    .expect("can be written");
  run.output().is(0, "beside 29\n");
}

#[test]
fn the_load_event_comes_before_a_timer_that_is_due() {
  let script = "addEventListener('load', () => console.log('load'));
    setTimeout(() => Deno.exit(4), 0);
    const end = Date.now() + 100;
    while (Date.now() < end);";
  Run::of(script).output().is(4, "load\n");
}

#[test]
fn an_error_is_shown_with_its_place() {
  let output = Run::of("\nfunction fails() { throw new TypeError('here'); }\nfails();").output();
  output.is(1, "");
  for words in [
    "error: Uncaught (in promise) TypeError: here",
    "main.ts:2:26",
    "main.ts:3:1",
  ] {
    assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
  }
}

#[test]
fn a_program_that_runs_out_of_memory_says_so() {
  let run = Run::of("const kept = []; while (true) kept.push(new Array(100_000).fill(0.5));");
  let output = run.command().env("KERNEL_MAX_HEAP_MB", "64").output();
  let output = output.expect("the binary runs");
  assert!(!output.status.success());
  let text = String::from_utf8_lossy(&output.stderr);
  assert!(text.contains("out of memory"), "{text:?}");
}

#[test]
fn a_commonjs_program_can_be_run() {
  let run = Run::of("");
  let script = "const { basename } = require('node:path'); console.log(basename(__filename));";
  std::fs::write(run.path().join("x.cjs"), script).expect("can be written");
  let output = Command::new(binary())
    .args(["run", "x.cjs"])
    .current_dir(run.path())
    .env_clear()
    .env("ENGINE_DATA_DIR", run.path().join("data"))
    .output()
    .expect("the binary runs");
  let errors = String::from_utf8_lossy(&output.stderr);
  assert_eq!(
    String::from_utf8_lossy(&output.stdout),
    "x.cjs\n",
    "{errors}"
  );
}

#[test]
fn what_cannot_be_run_is_named() {
  let run = Run::of("");
  for (script, words) in [("absent.ts", "absent.ts"), ("data.txt", "data.txt")] {
    std::fs::write(run.path().join("data.txt"), "x").expect("can be written");
    let output = Command::new(binary())
      .args(["run", script])
      .current_dir(run.path())
      .env_clear()
      .env("ENGINE_DATA_DIR", run.path().join("data"))
      .output()
      .expect("the binary runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
      text.starts_with("error: ") && text.contains(words),
      "{text}"
    );
  }
  let output = Run::of("1").flags(&["--alow-net"]).output();
  assert_eq!(output.status.code(), Some(2));
  assert!(output.stderr.contains("--allow-net"), "{}", output.stderr);
}

#[test]
fn an_interrupt_ends_a_program_even_in_an_endless_loop() {
  for script in [
    "console.log('up'); setInterval(() => {}, 1_000);",
    "console.log('up'); while (true);",
    "console.log('up'); await new Promise((resolve) => setTimeout(resolve, 60_000));",
  ] {
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15)] {
      let output = Run::of(script).signalled(signal);
      assert_eq!(output.stdout, "up\n");
      let ended =
        output.status.code() == Some(128 + number) || output.status.signal() == Some(number);
      assert!(ended, "{script}: {:?}", output.status);
    }
  }
}

#[test]
fn an_interrupt_can_be_handled() {
  for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
    let script = format!(
      "Deno.addSignalListener('{name}', () => {{ console.log('bye'); Deno.exit(7); }});
       console.log('up');
       setInterval(() => {{}}, 1_000);"
    );
    Run::of(&script).signalled(signal).is(7, "up\nbye\n");
  }
}

#[test]
fn an_interrupt_ends_a_python_program() {
  let run = Run::named("main.py", "print('up', flush=True)\nwhile True: pass\n");
  let output = run.signalled(Signal::INT);
  assert!(output.stdout.starts_with("up\n"));
  assert!(!output.status.success());
}

#[test]
fn a_program_that_does_not_care_for_its_output_being_read_ends() {
  let run = Run::of(
    "console.log('up'); const line = 'x'.repeat(1000); while (true) { console.log(line); await 0; }",
  );
  let mut child = run
    .command()
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("the binary runs");
  let mut reader = BufReader::new(child.stdout.take().expect("is piped"));
  let mut line = String::new();
  reader.read_line(&mut line).expect("can be read");
  assert_eq!(line, "up\n");
  drop(reader);
  kill(child.id(), Signal::INT);
  let status = child.wait().expect("ends");
  assert!(!status.success());
}

#[test]
fn what_comes_in_is_the_programs_to_read() {
  let run = Run::of(
    "for await (const part of Deno.stdin.readable) console.log(new TextDecoder().decode(part).trim());",
  );
  let input = run.path().join("input.txt");
  std::fs::write(&input, "hello\n").expect("can be written");
  let output = run
    .command()
    .stdin(std::fs::File::open(&input).expect("can be opened"))
    .output()
    .expect("the binary runs");
  assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
}
