//! The command line answers as a good one does.

use std::process::Command;
use std::process::Output;

use crate::support::binary;
use crate::support::shared_server;

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
  let mut command = Command::new(binary());
  command.args(args).env_clear().envs(env.iter().copied());
  command.output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
  String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_teaches() {
  let output = run(&["--help"], &[]);
  assert!(output.status.success());
  let text = String::from_utf8_lossy(&output.stdout);
  for word in [
    "serve",
    "--port",
    "ENGINE_PORT",
    "KERNEL_POOL_SIZE",
    "Examples:",
  ] {
    assert!(text.contains(word), "{word}");
  }
  assert!(!text.contains("kernel-host"));
  assert!(run(&["--version"], &[]).status.success());
}

#[test]
fn a_wrong_flag_is_named() {
  let output = run(&["serve", "--prot", "1"], &[]);
  assert_eq!(output.status.code(), Some(2));
  assert!(stderr(&output).contains("--prot") && stderr(&output).contains("--port"));
}

#[test]
fn a_wrong_variable_is_named_with_its_value() {
  for (name, value) in [
    ("ENGINE_PORT", "abc"),
    ("KERNEL_POOL_SIZE", "many"),
    ("KERNEL_POOL_ENABLED", "maybe"),
    ("ALLOWED_KERNEL_TYPES", "worker-cobol"),
    ("KERNEL_PERMISSIONS_MAX", "{"),
    ("KERNEL_MAX_HEAP_MB", "1"),
  ] {
    let output = run(&["serve"], &[(name, value)]);
    assert_eq!(output.status.code(), Some(2), "{name}");
    let text = stderr(&output);
    assert!(
      text.contains(name) && text.contains(value),
      "{name}: {text}"
    );
  }
}

#[test]
fn a_wrong_token_list_is_named_without_its_value() {
  let output = run(&["serve"], &[("ENGINE_TOKENS", "s3cret")]);
  assert_eq!(output.status.code(), Some(2));
  assert!(
    stderr(&output).contains("ENGINE_TOKENS"),
    "{}",
    stderr(&output)
  );
}

#[test]
fn a_port_in_use_is_one_clear_line() {
  let port = shared_server().port().to_string();
  let dir = tempfile::tempdir().expect("a folder");
  let data = dir.path().to_str().expect("a path");
  let output = run(&["serve", "--port", &port, "--data-dir", data], &[]);
  assert_eq!(output.status.code(), Some(1));
  assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
  assert!(stderr(&output).contains(&format!("port {port}")));
}

#[test]
fn an_address_others_can_reach_needs_tokens_or_a_word() {
  let output = run(&["serve", "--host", "0.0.0.0", "--port", "0"], &[]);
  assert_eq!(output.status.code(), Some(1));
  let text = stderr(&output);
  assert!(
    text.contains("ENGINE_TOKENS") && text.contains("--no-auth"),
    "{text}"
  );
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
  let output = run(&["serve", "--port", "0", "--data-dir", "/proc/none"], &[]);
  assert_eq!(output.status.code(), Some(1));
  assert!(
    stderr(&output).contains("/proc/none"),
    "{}",
    stderr(&output)
  );
}

#[test]
fn a_flag_wins_over_its_variable() {
  let port = shared_server().port().to_string();
  let dir = tempfile::tempdir().expect("a folder");
  let data = dir.path().to_str().expect("a path");
  let env = [("ENGINE_PORT", "1"), ("ENGINE_HOST", "192.0.2.1")];
  let output = run(
    &[
      "serve",
      "--port",
      &port,
      "--host",
      "127.0.0.1",
      "--data-dir",
      data,
    ],
    &env,
  );
  let text = stderr(&output);
  assert!(
    text.contains(&format!("port {port} of 127.0.0.1")),
    "{text}"
  );
}

#[test]
fn variables_and_the_bare_port_of_the_original_are_understood() {
  let port = shared_server().port().to_string();
  let dir = tempfile::tempdir().expect("a folder");
  let data = dir.path().to_str().expect("a path");
  for (args, env) in [
    (
      &["serve"][..],
      &[("ENGINE_PORT", port.as_str()), ("ENGINE_DATA_DIR", data)][..],
    ),
    (&["serve", &port], &[("ENGINE_DATA_DIR", data)]),
    (&[&port], &[("ENGINE_DATA_DIR", data)]),
    (&["--port", &port], &[("ENGINE_DATA_DIR", data)]),
  ] {
    let output = run(args, env);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    assert!(text.contains(&format!("port {port}")), "{args:?}: {text}");
  }
}

#[test]
fn an_address_that_is_not_of_this_machine_is_named() {
  let dir = tempfile::tempdir().expect("a folder");
  let data = dir.path().to_str().expect("a path");
  let args = [
    "serve",
    "--host",
    "192.0.2.1",
    "--port",
    "0",
    "--no-auth",
    "--data-dir",
    data,
  ];
  let output = run(&args, &[]);
  assert_eq!(output.status.code(), Some(1));
  assert!(stderr(&output).contains("192.0.2.1"), "{}", stderr(&output));
  assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn a_mount_root_that_does_not_exist_is_named() {
  let output = run(
    &["serve", "--port", "0", "--data-dir", "/tmp"],
    &[("KERNEL_MOUNT_ROOTS", "/no/such/folder")],
  );
  assert_ne!(output.status.code(), Some(0));
  let text = stderr(&output);
  assert!(
    text.contains("KERNEL_MOUNT_ROOTS") && text.contains("/no/such/folder"),
    "{text}"
  );
}
