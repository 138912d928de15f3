//! The example does what it says.

use std::process::Command;

fn example() -> Command {
  Command::new(env!("CARGO_BIN_EXE_embed-example"))
}

#[test]
fn a_program_has_kernels_apps_and_vectors_without_http() {
  let output = example().output().expect("runs");
  let (said, error) = (
    String::from_utf8_lossy(&output.stdout),
    String::from_utf8_lossy(&output.stderr),
  );
  assert!(output.status.success(), "{said}{error}");
  for expected in [
    r#"typescript: {"type":"stream","data":{"name":"stdout","text":"computing…\n"}}"#,
    r#""text/plain":"42""#,
    r#"python: {"type":"stream","data":{"name":"stdout","text":"computing…\n"}}"#,
    r#""text/plain":"45""#,
    "app: hello is Running",
    "found: kernels run code with 1.00",
  ] {
    assert!(
      said.contains(expected),
      "{expected} is not in {said}{error}"
    );
  }
}

#[test]
fn a_process_that_is_none_of_the_engines_is_told_so() {
  let output = example()
    .args(["kernel-host", "nonsense"])
    .output()
    .expect("runs");
  assert_eq!(output.status.code(), Some(2));
  let error = String::from_utf8_lossy(&output.stderr);
  assert!(error.contains("the server starts kernel hosts"), "{error}");
}
