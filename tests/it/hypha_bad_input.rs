//! Tokens and workspaces with which the engine cannot be a service: it ends, and says why and what to do.

use serde_json::json;

use crate::support::Hypha;
use crate::support::eventually;
use crate::support::in_time;

/// What the command `hypha` says before it ends with an error.
async fn refusal(url: &str, token: &str, workspace: Option<&str>) -> String {
  let data = tempfile::tempdir().expect("a folder");
  let mut command = tokio::process::Command::new(crate::support::binary());
  command
    .env_clear()
    .args(["hypha", "--data-dir"])
    .arg(data.path())
    .env("HYPHA_SERVER_URL", url)
    .env("HYPHA_TOKEN", token)
    .env("KERNEL_POOL_ENABLED", "false")
    .kill_on_drop(true);
  if let Some(workspace) = workspace {
    command.env("HYPHA_WORKSPACE", workspace);
  }
  let ended = in_time("the command ends", command.output()).await;
  let output = ended.expect("is started");
  let said = String::from_utf8_lossy(&output.stderr);
  assert_eq!(output.status.code(), Some(1), "{said}");
  assert!(!said.contains(token), "the token is in: {said}");
  let error = said.lines().find(|line| line.starts_with("error: "));
  error
    .unwrap_or_else(|| panic!("no error in: {said}"))
    .to_owned()
}

/// Makes a token through Hypha's HTTP face.
async fn token(hypha: &Hypha, of: &str, workspace: &str, config: serde_json::Value) -> String {
  let url = hypha.env("HYPHA_SERVER_URL");
  let answer = reqwest::Client::new()
    .post(format!("{url}/{workspace}/services/ws/generate_token"))
    .bearer_auth(of)
    .json(&json!({ "config": config }))
    .send();
  let answer = answer.await.expect("Hypha answers");
  answer.json().await.expect("a token")
}

#[tokio::test]
async fn a_token_that_has_expired_ends_the_engine() {
  let hypha = Hypha::shared().await;
  let workspace = hypha.env("HYPHA_WORKSPACE");
  let config = json!({ "expires_in": 1 });
  let token = token(&hypha, hypha.env("HYPHA_TOKEN"), workspace, config).await;
  let (url, client) = (hypha.env("HYPHA_SERVER_URL"), reqwest::Client::new());
  eventually("the token has expired", async || {
    let asked = client.get(format!("{url}/{workspace}/info"));
    let answer = asked.bearer_auth(&token).send().await;
    answer.is_ok_and(|answer| answer.status() == 401)
  })
  .await;
  let said = refusal(hypha.env("HYPHA_SERVER_URL"), &token, None).await;
  for words in ["has expired", "HYPHA_TOKEN"] {
    assert!(said.contains(words), "{said}");
  }
}

#[tokio::test]
async fn a_token_of_another_workspace_ends_the_engine() {
  let hypha = Hypha::shared().await;
  let (workspace, token) = (hypha.env("HYPHA_WORKSPACE"), hypha.env("HYPHA_USER_TOKEN"));
  let said = refusal(hypha.env("HYPHA_SERVER_URL"), token, Some(workspace)).await;
  for words in ["user-ws", workspace, "HYPHA_WORKSPACE"] {
    assert!(said.contains(words), "{said}");
  }
}

#[tokio::test]
async fn a_workspace_that_does_not_exist_ends_the_engine() {
  let hypha = Hypha::shared().await;
  let config = json!({ "workspace": "never-made", "expires_in": 600 });
  let token = token(&hypha, &hypha.root_token(), "ws-user-root", config).await;
  for workspace in [None, Some("never-made")] {
    let said = refusal(hypha.env("HYPHA_SERVER_URL"), &token, workspace).await;
    for words in ["never-made does not exist", "HYPHA_WORKSPACE"] {
      assert!(said.contains(words), "{said}");
    }
  }
}

#[tokio::test]
async fn what_speaks_garbage_or_closes_at_once_is_no_hypha_server() {
  for words in [&b"SSH-2.0-server\r\n"[..], b""] {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serve = async {
      loop {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, words).await;
      }
    };
    let said = tokio::select! {
      said = refusal(&url, "a-token", None) => said,
      () = serve => unreachable!(),
    };
    assert!(said.contains("not a Hypha server"), "{said}");
  }
}
