//! The engine as a service of a real Hypha server, called by the official client.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::Hypha;
use crate::support::Kernel;
use crate::support::Server;
use crate::support::ServerBuilder;
use crate::support::eventually;
use crate::support::in_time;

pub(crate) const CLIENT: &str = "engine-under-test";

/// A server with both faces.
pub(crate) fn engine(hypha: &Hypha) -> Server {
  named(hypha, CLIENT)
}

fn named(hypha: &Hypha, client_id: &str) -> Server {
  builder(hypha, client_id).start()
}

pub(crate) fn builder(hypha: &Hypha, client_id: &str) -> ServerBuilder {
  Server::builder()
    .env("HYPHA_SERVICE", "true")
    .env("HYPHA_SERVER_URL", hypha.env("HYPHA_SERVER_URL"))
    .env("HYPHA_TOKEN", hypha.env("HYPHA_TOKEN"))
    .env("HYPHA_CLIENT_ID", client_id)
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true, "import": true}"#)
}

pub(crate) fn service(hypha: &Hypha) -> String {
  let workspace = hypha.env("HYPHA_WORKSPACE");
  format!("{workspace}/{CLIENT}:deno-app-engine")
}

pub(crate) async fn registered(server: &Server) {
  eventually("the service is registered", async || {
    server.log().contains("registered at Hypha as")
  })
  .await;
}

#[tokio::test]
async fn kernels_are_made_used_and_ended_over_hypha() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  hypha.service_calls(&[&service(&hypha), "kernels"]).await;
}

#[tokio::test]
async fn workspaces_see_nothing_of_each_other_over_hypha() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  hypha.service_calls(&[&service(&hypha), "tenants"]).await;
}

/// An engine whose kernels have tokens for some seconds only.
fn with_short_tokens(hypha: &Hypha) -> ServerBuilder {
  builder(hypha, CLIENT).env("HYPHA_KERNEL_TOKEN_SECONDS", "8")
}

#[tokio::test]
async fn kernels_have_tokens_of_their_callers_that_are_renewed() {
  let hypha = Hypha::shared().await;
  let server = with_short_tokens(&hypha).start();
  registered(&server).await;
  hypha.service_calls(&[&service(&hypha), "tokens"]).await;
  assert!(!server.log().contains("eyJ"), "a token is in the log");
}

/// Whether a file below a folder has these bytes.
fn has(folder: &Path, text: &[u8]) -> bool {
  let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
  entries.map(|entry| entry.path()).any(|path| {
    let bytes = || std::fs::read(&path).unwrap_or_default();
    has(&path, text) || bytes().windows(text.len()).any(|window| window == text)
  })
}

#[tokio::test]
async fn kernels_of_agents_have_tokens_too_which_are_not_kept() {
  let hypha = Hypha::shared().await;
  let folder = tempfile::tempdir().expect("a folder");
  let agents = folder.path().display().to_string();
  let engine = || with_short_tokens(&hypha).env("AGENT_DATA_DIRECTORY", &agents);
  let server = engine().start();
  registered(&server).await;
  hypha.service_calls(&[&service(&hypha), "agents"]).await;
  assert!(has(folder.path(), b"hypha:"), "whose it is, is kept");
  assert!(!has(folder.path(), b"eyJ"), "a token is kept");
  assert!(!server.log().contains("eyJ"), "a token is in the log");
}

#[tokio::test]
async fn a_kernel_that_is_made_while_hypha_is_away_gets_its_token_later() {
  let mut hypha = Hypha::shared().await;
  let server = with_short_tokens(&hypha).start();
  registered(&server).await;
  // Leaves an agent behind.
  hypha.service_calls(&[&service(&hypha), "agents"]).await;
  hypha.kill();
  eventually("the loss is noticed", async || {
    server.log().contains("the connection to Hypha is lost")
  })
  .await;
  let (client, agent) = (
    server.client(),
    format!("{}:a", hypha.env("HYPHA_WORKSPACE")),
  );
  let path = format!("/api/agents/{agent}");
  let kernel = client.get(&path).await.ok()["kernelId"].clone();
  let kernel = kernel.as_str().expect("it has one");
  let deleted = client.delete(&format!("/api/kernels/{kernel}")).await;
  assert_eq!(deleted.status, 200, "{}", deleted.text);
  let language = json!({"kernelType": "TYPESCRIPT"});
  let attached = client.post(&format!("{path}/kernel"), &language).await;
  assert_eq!(attached.status, 200, "{}", attached.text);
  let kernel = client.get(&path).await.ok()["kernelId"].clone();
  let kernel = Kernel {
    client: client.clone(),
    id: kernel.as_str().expect("it has one").to_owned(),
    created: json!(null),
  };
  let token = "typeof Deno.env.get('HYPHA_TOKEN')";
  assert_eq!(kernel.execute(token).await.result(), Some("\"undefined\""));
  hypha.start_again();
  eventually("the token is there", async || {
    kernel.execute(token).await.result() == Some("\"string\"")
  })
  .await;
}

#[tokio::test]
async fn the_administrators_engine_gives_every_caller_a_token() {
  let hypha = Hypha::shared().await;
  let server = builder(&hypha, CLIENT)
    .env("HYPHA_TOKEN", hypha.root_token())
    .start();
  registered(&server).await;
  let log = server.log();
  let id = log.split("registered at Hypha as ").nth(1);
  let id = id.and_then(|rest| rest.split_whitespace().next());
  let id = id.expect("it says its name");
  hypha.service_calls(&[id, "administrator"]).await;
}

#[tokio::test]
async fn many_callers_are_served_at_once_and_one_that_leaves_ends_only_its_stream() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  hypha.service_calls(&[&service(&hypha), "crowd"]).await;
}

#[tokio::test]
async fn methods_are_called_through_hyphas_http_face() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  hypha.service_calls(&[&service(&hypha), "http"]).await;
}

#[tokio::test]
async fn of_two_engines_the_less_loaded_is_chosen() {
  let hypha = Hypha::shared().await;
  let (first, second) = (engine(&hypha), named(&hypha, "another-engine"));
  registered(&first).await;
  registered(&second).await;
  hypha.service_calls(&[&service(&hypha), "least"]).await;
}

#[tokio::test]
async fn the_javascript_client_calls_the_service() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  let permissions = json!({"net": true, "import": true});
  let kernel = server
    .client()
    .create(json!({"lang": "ts", "permissions": permissions}))
    .await;
  let (url, token) = (hypha.env("HYPHA_SERVER_URL"), hypha.env("HYPHA_TOKEN"));
  let id = service(&hypha);
  let code = format!(
    "const {{ connectToServer }} = await import('{url}/assets/hypha-rpc-websocket.mjs');
     const server = await connectToServer({{ server_url: '{url}', token: '{token}' }});
     const engine = await server.getService('{id}');
     const kernel = await engine.createKernel({{ mode: 'worker-typescript' }});
     const seen = [];
     for await (const event of await engine.streamExecution({{ kernelId: kernel.id, code: 'console.log(1); 6 * 7' }})) {{
       seen.push(event.type);
     }}
     seen.push((await engine.destroyKernel({{ kernelId: kernel.id }})).success);
     seen.push(await engine.destroyKernel({{ kernelId: kernel.id }}).catch((e) => String(e).includes('Kernel not found')));
     await server.disconnect();
     seen.join()"
  );
  let events = kernel.execute(&code).await;
  assert_eq!(
    events.result(),
    Some("\"stream,execute_result,complete,true,true\""),
    "{events:?}"
  );
}

#[tokio::test]
async fn the_command_hypha_opens_no_port_and_takes_its_settings_from_a_file() {
  let hypha = Hypha::shared().await;
  let folder = tempfile::tempdir().expect("a folder");
  let lines = ["HYPHA_SERVER_URL", "HYPHA_WORKSPACE", "HYPHA_TOKEN"]
    .map(|name| format!("{name}={}\n", hypha.env(name)));
  let lines = format!("{}HYPHA_CLIENT_ID={CLIENT}\n", lines.concat());
  std::fs::write(folder.path().join(".env"), lines).expect("is written");
  let mut process = tokio::process::Command::new(crate::support::binary())
    .args(["hypha", "--data-dir"])
    .arg(folder.path())
    .current_dir(folder.path())
    .stdout(std::process::Stdio::null())
    .stderr(std::process::Stdio::piped())
    .kill_on_drop(true)
    .spawn()
    .expect("is started");
  let stderr = process.stderr.take().expect("is piped");
  let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stderr));
  let mut said = String::new();
  let up = async {
    while let Some(line) = lines.next_line().await.expect("text") {
      said.push_str(&line);
      if line.contains("registered at Hypha as") {
        return;
      }
    }
    panic!("it ended: {said}");
  };
  in_time("it is registered", up).await;
  assert!(!said.contains("listening on"), "{said}");
  assert!(
    !said.contains(hypha.env("HYPHA_TOKEN")),
    "the token is in the log"
  );
  hypha.service_calls(&[&service(&hypha), "tenants"]).await;
}

#[tokio::test]
async fn the_service_comes_back_when_hypha_was_away_and_kernels_are_untouched() {
  let mut hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  let kernel = server.client().typescript().await;
  kernel.execute("globalThis.kept = 1").await;
  hypha.kill();
  eventually("the loss is noticed", async || {
    server.log().contains("the connection to Hypha is lost")
  })
  .await;
  hypha.start_again();
  let back = async || {
    let log = server.log();
    log.matches("the service is registered at Hypha").count() > 1
  };
  let begun = std::time::Instant::now();
  eventually("the service is back", back).await;
  assert!(
    begun.elapsed() < Duration::from_secs(10),
    "{:?}",
    begun.elapsed()
  );
  hypha.service_calls(&[&service(&hypha), "tenants"]).await;
  let events = kernel.execute("kept").await;
  assert_eq!(events.result(), Some("1"));
}

#[tokio::test]
async fn a_token_that_is_none_ends_the_server_with_the_reason() {
  let hypha = Hypha::shared().await;
  let output = tokio::process::Command::new(crate::support::binary())
    .args(["hypha", "--data-dir"])
    .arg(tempfile::tempdir().expect("a folder").path())
    .env("HYPHA_SERVER_URL", hypha.env("HYPHA_SERVER_URL"))
    .env("HYPHA_TOKEN", "hunter2")
    .output()
    .await
    .expect("is started");
  let said = String::from_utf8_lossy(&output.stderr);
  assert!(!output.status.success(), "{said}");
  assert!(
    said.contains("error:") && !said.contains("hunter2"),
    "{said}"
  );
  let output = tokio::process::Command::new(crate::support::binary())
    .args(["hypha", "--data-dir"])
    .arg(tempfile::tempdir().expect("a folder").path())
    .env("HYPHA_SERVER_URL", hypha.env("HYPHA_SERVER_URL"))
    .env_remove("HYPHA_TOKEN")
    .output()
    .await
    .expect("is started");
  let said = String::from_utf8_lossy(&output.stderr);
  assert!(!output.status.success(), "{said}");
  assert!(said.contains("set HYPHA_TOKEN"), "{said}");
}

#[tokio::test]
async fn an_engine_that_was_killed_is_replaced_by_the_next_with_its_name() {
  let hypha = Hypha::shared().await;
  let mut first = engine(&hypha);
  registered(&first).await;
  first.signal(rustix::process::Signal::KILL);
  first.ended().await;
  let begun = std::time::Instant::now();
  let second = engine(&hypha);
  registered(&second).await;
  assert!(
    begun.elapsed() < Duration::from_secs(5),
    "{:?}",
    begun.elapsed()
  );
  hypha.service_calls(&[&service(&hypha), "http"]).await;
}

#[tokio::test]
async fn who_starts_it_in_a_terminal_without_a_token_logs_in_with_a_browser() {
  let hypha = Hypha::shared().await;
  let folder = tempfile::tempdir().expect("a folder");
  hypha.log_in(crate::support::binary(), folder.path()).await;
}
