//! Tokens and credentials: how a server comes by them, and who does not.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::json;
use tempfile::TempDir;

use crate::support::Loopback;
use crate::support::Reply;
use crate::support::Server;
use crate::support::binary;
use crate::support::hosts_of;

fn proc(pid: u32, file: &str) -> String {
  let read = std::fs::read(format!("/proc/{pid}/{file}")).expect("is readable");
  String::from_utf8_lossy(&read).replace('\0', "\n")
}

#[tokio::test]
async fn a_server_has_no_secret_in_its_environment_and_on_its_command_line() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "overridden=*")
    .env("HYPHA_TOKEN", "hypha-s3cret")
    .env("NPM_CONFIG_REGISTRY", "http://user:npm-s3cret@127.0.0.1:9/")
    .env("APPS_MAX_COUNT", "7")
    .arg("--tokens")
    .arg("0perator=*")
    .start();
  let client = server.client();
  assert_eq!(
    client
      .clone()
      .with_token("0perator")
      .get("/api/kernels")
      .await
      .status,
    200
  );
  assert_eq!(
    client
      .with_token("overridden")
      .get("/api/kernels")
      .await
      .status,
    401
  );
  let (environment, arguments) = (proc(server.pid(), "environ"), proc(server.pid(), "cmdline"));
  for secret in ["overridden", "0perator", "s3cret"] {
    assert!(!environment.contains(secret), "{environment}");
    assert!(!arguments.contains(secret), "{arguments}");
  }
  assert!(environment.contains("APPS_MAX_COUNT=7"), "{environment}");
  assert!(arguments.contains("serve\n") && arguments.contains("deno-app-engine"));
  assert_eq!(proc(server.pid(), "comm").trim(), "deno-app-engine");
  let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("can be listed");
  let links = open
    .flatten()
    .filter_map(|fd| std::fs::read_link(fd.path()).ok());
  let left: Vec<_> = links
    .filter(|link| link.to_string_lossy().contains("memfd"))
    .collect();
  assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn tokens_are_made_for_a_file_that_a_server_reads() {
  let dir = TempDir::new().expect("a folder");
  let file = dir.path().join("tokens.json");
  let make = |namespace: &str| {
    let output = Command::new(binary())
      .env_clear()
      .args(["tokens", "add", namespace, "--tokens-file"])
      .arg(&file)
      .output()
      .expect("runs");
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).expect("a text");
    token.trim().to_owned()
  };
  let (lab, all) = (make("lab"), make("*"));
  assert!(lab.len() >= 32 && lab != all);
  let text = std::fs::read_to_string(&file).expect("is there");
  assert!(!text.contains(&lab) && !text.contains(&all), "{text}");
  let server = Server::builder()
    .env("ENGINE_TOKENS", "named=elsewhere")
    .arg("--tokens-file")
    .arg(&file)
    .start();
  let client = server.client();
  assert_eq!(client.get("/api/kernels").await.status, 401);
  let own = client.clone().with_token(&lab);
  let kernel = own.create(json!({"lang": "typescript"})).await;
  assert!(kernel.id.starts_with("lab:"), "{}", kernel.id);
  assert_eq!(client.clone().with_token(&all).list("").await.len(), 1);
  assert_eq!(client.with_token("named").list("").await.len(), 0);
}

#[tokio::test]
async fn a_token_file_that_is_not_as_it_should_be_is_named() {
  let dir = TempDir::new().expect("a folder");
  let file = dir.path().join("tokens.json");
  std::fs::write(
    &file,
    r#"{"tokens": [{"token": "clear", "namespace": "a"}]}"#,
  )
  .expect("is written");
  let output = Command::new(binary())
    .env_clear()
    .args(["serve", "--port", "0", "--data-dir"])
    .arg(dir.path())
    .arg("--tokens-file")
    .arg(&file)
    .output()
    .expect("runs");
  assert!(!output.status.success());
  let said = String::from_utf8_lossy(&output.stderr);
  assert!(
    said.contains("ENGINE_TOKENS_FILE") && said.contains("unknown field `token`"),
    "{said}"
  );
}

#[tokio::test]
async fn a_registry_with_a_password_is_opened_and_the_password_is_nowhere() {
  let opened = Arc::new(AtomicBool::new(false));
  let seen = opened.clone();
  let registry = Loopback::start(move |request| {
    // user:npm-s3cret
    let expected = "Basic dXNlcjpucG0tczNjcmV0";
    if request.authorization.as_deref() == Some(expected) {
      seen.store(true, Ordering::SeqCst);
    }
    Reply::Status(500)
  });
  let address = registry
    .url("/")
    .replace("http://", "http://user:npm-s3cret@");
  let server = Server::builder()
    .env("NPM_CONFIG_REGISTRY", &address)
    .start();
  let kernel = server.client().typescript().await;
  let events = kernel.execute("await import('npm:left-pad@1')").await;
  let told = format!("{} {}", events.evalue(), events.traceback());
  assert!(told.contains("left-pad"), "{told}");
  assert!(opened.load(Ordering::SeqCst), "{told}");
  let kernels = hosts_of(server.pid());
  assert!(!kernels.is_empty());
  let environments: String = kernels.iter().map(|pid| proc(*pid, "environ")).collect();
  assert!(
    environments.contains("NPM_CONFIG_REGISTRY"),
    "{environments}"
  );
  let arguments: String = kernels.iter().map(|pid| proc(*pid, "cmdline")).collect();
  for text in [&told, &server.log(), &environments, &arguments] {
    assert!(
      !text.contains("s3cret") && !text.contains("dXNlcjpucG0"),
      "{text}"
    );
  }
}
