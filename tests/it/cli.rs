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

/// What a command printed, and how it ended.
fn transcript(args: &[&str], env: &[(&str, &str)]) -> String {
  let output = run(args, env);
  let variables = env.iter().map(|(name, value)| format!("{name}={value} "));
  format!(
    "$ {}deno-app-engine {}\n{}{}[{}]\n",
    variables.collect::<String>(),
    args.join(" "),
    String::from_utf8_lossy(&output.stdout),
    stderr(&output),
    output.status,
  )
}

#[test]
fn the_help_of_every_command_is_as_reviewed() {
  for (name, args) in [
    ("help", &["--help"][..]),
    ("help_serve", &["serve", "--help"]),
    ("help_serve_short", &["serve", "-h"]),
    ("help_run", &["run", "--help"]),
    ("help_apps", &["apps", "--help"]),
    ("help_apps_list", &["apps", "list", "--help"]),
    ("help_apps_logs", &["apps", "logs", "--help"]),
    ("help_apps_start", &["apps", "start", "--help"]),
    ("help_apps_stop", &["apps", "stop", "--help"]),
    ("help_apps_reload", &["apps", "reload", "--help"]),
    ("help_packages", &["packages", "--help"]),
    ("help_packages_fetch", &["packages", "fetch", "--help"]),
    ("help_tokens", &["tokens", "--help"]),
    ("help_tokens_add", &["tokens", "add", "--help"]),
  ] {
    let text = transcript(args, &[]);
    assert!(text.ends_with("[exit status: 0]\n"), "{text}");
    assert!(!text.contains("kernel-host"), "{text}");
    insta::assert_snapshot!(name, text);
  }
}

#[test]
fn the_version_is_told() {
  let output = run(&["--version"], &[]);
  let version = format!("deno-app-engine {}\n", env!("CARGO_PKG_VERSION"));
  assert!(output.status.success());
  assert_eq!(String::from_utf8_lossy(&output.stdout), version);
}

#[test]
fn a_wrong_command_line_is_explained() {
  let mut text = String::new();
  for args in [
    &["serve", "--prot", "1"][..],
    &["--tokens", "s3cret"],
    &["serve", "--tokens=s3cret"],
    &["apps", "list", "--token"],
    &["serve", "--port", "70000"],
    &["serve", "--host", "localhost"],
    &["serve", "1000", "--port", "1"],
    &["serv"],
    &["run"],
    &["run", "nowhere.ts"],
    &["apps"],
    &["apps", "logs"],
    &["apps", "list", "--server", "here"],
    &["packages", "fetch"],
    &["tokens", "add"],
    &["serve", "--apps-port", "0"],
    &["serve", "--apps-domain", "a b"],
    &["serve", "--kernel-user", "nobody-of-that-name"],
    &["serve", "--cert", "/no/such/file"],
    &["serve", "--apps-dir", "/no/such/folder"],
    &["serve", "--tokens-file", "/no/such/file"],
    &["serve", "--host", "0.0.0.0"],
    &["serve", "--port", "9000", "--apps-port", "9000"],
  ] {
    text.push_str(&transcript(args, &[("HOME", "/home/of-nobody")]));
    text.push('\n');
  }
  insta::assert_snapshot!("a_wrong_command_line_is_explained", text);
}

#[test]
fn a_wrong_variable_is_named_with_its_value() {
  let mut text = String::new();
  for (name, value) in [
    ("ENGINE_PORT", "abc"),
    ("KERNEL_POOL_SIZE", "many"),
    ("KERNEL_POOL_ENABLED", "maybe"),
    ("ALLOWED_KERNEL_TYPES", "worker-cobol"),
    ("KERNEL_PERMISSIONS_MAX", "{"),
    ("KERNEL_MAX_HEAP_MB", "1"),
    ("ENGINE_HOSTS", "a b"),
    ("ENGINE_ORIGINS", "example.com"),
    ("ENGINE_MAX_CONNECTIONS", "0"),
    ("DENO_TLS_CA_STORE", "windows"),
    ("HYPHA_SERVER_URL", "hypha"),
    ("LOGS_MEMORY_BYTES", "1"),
    ("VECTORDB_MEMORY_BYTES", "-1"),
  ] {
    let told = transcript(&["serve"], &[(name, value)]);
    assert!(told.contains("[exit status: 2]"), "{told}");
    let (_, message) = told.split_once('\n').expect("a message");
    assert!(message.contains(name) && message.contains(value), "{told}");
    text.push_str(&told);
    text.push('\n');
  }
  insta::assert_snapshot!("a_wrong_variable_is_named_with_its_value", text);
}

#[test]
fn a_wrong_token_list_is_named_without_its_value() {
  let output = run(&["serve"], &[("ENGINE_TOKENS", "s3cret")]);
  assert_eq!(output.status.code(), Some(2));
  assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
  insta::assert_snapshot!(
    "a_wrong_token_list_is_named_without_its_value",
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
