//! The client against a real Hypha server.

use std::time::Duration;

use access::Secret;
use testing::hypha::Hypha;

use crate::artifact::Artifact;
use crate::client::Artifacts;
use crate::client::HyphaConfig;
use crate::error::ArtifactsError;
use crate::server::Limits;

const APPS: [&str; 8] = [
  "hello-app",
  "ticker-app",
  "service-app",
  "js-app",
  "failing-app",
  "syntax-error-app",
  "no-script-app",
  "python-app",
];

fn config(hypha: &Hypha, token: &str) -> HyphaConfig {
  HyphaConfig {
    server_url: hypha.env("HYPHA_SERVER_URL").parse().expect("a URL"),
    workspace: Some(hypha.env("HYPHA_WORKSPACE").into()),
    collection: "hypha-agents/agents".into(),
    token: Some(token.to_owned())
      .filter(|token| !token.is_empty())
      .map(Secret::new),
    certificates: None,
    powerful_tokens: false,
  }
}

fn client(hypha: &Hypha) -> Artifacts {
  client_with(hypha, hypha.env("HYPHA_TOKEN"))
}

/// With the empty token it is anonymous.
fn client_with(hypha: &Hypha, token: &str) -> Artifacts {
  Artifacts::new(config(hypha, token)).expect("good settings")
}

async fn list(client: &Artifacts) -> Vec<Artifact> {
  client.list().await.expect("a listing")
}

fn aliases(apps: &[Artifact]) -> Vec<&str> {
  apps.iter().map(|app| app.alias.as_str()).collect()
}

async fn version(client: &Artifacts, id: &str) -> String {
  client.read(id).await.expect("an app").version
}

#[tokio::test]
async fn the_published_apps_are_listed_and_no_draft_and_no_agent() {
  let hypha = Hypha::shared().await;
  let apps = list(&client(&hypha)).await;
  assert_eq!(aliases(&apps), APPS);
  assert_eq!(apps[0].id, "hypha-agents/hello-app");
  let script = apps[0].manifest["startup_script"].as_str();
  assert!(
    script.is_some_and(|script| script.contains("greet")),
    "{script:?}"
  );
}

#[tokio::test]
async fn anyone_may_list_an_open_collection() {
  let hypha = Hypha::shared().await;
  for token in ["", hypha.env("HYPHA_USER_TOKEN")] {
    assert_eq!(aliases(&list(&client_with(&hypha, token)).await), APPS);
  }
}

#[tokio::test]
async fn small_pages_make_the_same_listing() {
  let hypha = Hypha::shared().await;
  let limits = Limits {
    page: 3,
    ..Limits::default()
  };
  let paged = Artifacts::with_limits(config(&hypha, ""), limits).expect("good settings");
  assert_eq!(list(&paged).await, list(&client(&hypha)).await);
}

#[tokio::test]
async fn an_app_reads_as_it_is_listed() {
  let hypha = Hypha::shared().await;
  let client = client(&hypha);
  for app in list(&client).await {
    assert_eq!(client.read(&app.id).await.expect("an app"), app);
  }
}

#[tokio::test]
async fn drafts_agents_and_what_does_not_exist_are_not_read() {
  let hypha = Hypha::shared().await;
  let client = client(&hypha);
  for alias in ["draft-app", "some-agent", "agents"] {
    let error = client.read(&format!("hypha-agents/{alias}")).await;
    assert!(
      matches!(error, Err(ArtifactsError::NotPublished { .. })),
      "{alias}: {error:?}"
    );
  }
  let error = client
    .read("hypha-agents/nothing")
    .await
    .expect_err("missing");
  assert!(
    error
      .to_string()
      .contains("404 Not Found: Artifact not found"),
    "{error}"
  );
}

#[tokio::test]
async fn apps_come_change_and_go() {
  let hypha = Hypha::shared().await;
  let client = client(&hypha);
  let id = "hypha-agents/changing";
  hypha.seed(&["publish", "changing", "console.log(1)"]).await;
  let apps = list(&client).await;
  assert_eq!(aliases(&apps), [&APPS[..], &["changing"]].concat());
  let first = version(&client, id).await;

  hypha
    .seed(&["edit", "changing", "console.log(2)", "--draft"])
    .await;
  assert_eq!(
    version(&client, id).await,
    first,
    "a draft of an edit changes nothing"
  );
  assert_eq!(list(&client).await, apps);

  hypha.seed(&["edit", "changing", "console.log(2)"]).await;
  let second = client.read(id).await.expect("an app");
  assert_ne!(second.version, first);
  assert_eq!(second.manifest["startup_script"], "console.log(2)");
  let edited = list(&client).await;
  assert_eq!((&edited[..8], &edited[8]), (&apps[..8], &second));

  hypha.seed(&["delete", "changing"]).await;
  assert_eq!(aliases(&list(&client).await), APPS);
}

#[tokio::test]
async fn a_bad_token_is_refused_and_not_taken_for_nobody() {
  let hypha = Hypha::shared().await;
  let client = client_with(&hypha, "n0t-a-token");
  for error in [
    client.list().await.expect_err("refused").to_string(),
    client
      .read("hypha-agents/hello-app")
      .await
      .expect_err("refused")
      .to_string(),
    client
      .token_for("x", Duration::from_secs(60))
      .await
      .expect_err("refused")
      .to_string(),
  ] {
    assert!(
      error.contains("401 Unauthorized: Error decoding token headers."),
      "{error}"
    );
    assert!(
      error.contains("HYPHA_TOKEN is not valid") && !error.contains("n0t-a-token"),
      "{error}"
    );
  }
}

#[tokio::test]
async fn a_collection_that_does_not_exist_is_said() {
  let hypha = Hypha::shared().await;
  let config = HyphaConfig {
    collection: "hypha-agents/nothing".into(),
    ..config(&hypha, "")
  };
  let client = Artifacts::new(config).expect("good settings");
  let error = client.list().await.expect_err("missing").to_string();
  assert!(
    error.contains("/hypha-agents/artifacts/nothing/children: 404"),
    "{error}"
  );
  assert!(error.contains("Parent artifact not found"), "{error}");
}

#[tokio::test]
async fn an_apps_token_registers_services_in_the_workspace_only() {
  let hypha = Hypha::shared().await;
  let token = client(&hypha)
    .token_for("hello-app", Duration::from_secs(60))
    .await;
  let token = token.expect("a token");
  let own = hypha.env("HYPHA_WORKSPACE");
  for workspace in [None, Some(own)] {
    let service = hypha.register_service(token.expose(), workspace).await;
    let service = service.expect("permitted");
    assert!(
      service.starts_with("hypha-agents/") && service.ends_with(":echo"),
      "{service}"
    );
  }
  let other = hypha.env("HYPHA_USER_WORKSPACE");
  let refused = hypha.register_service(token.expose(), Some(other)).await;
  let refused = refused.expect_err("another workspace");
  assert!(
    refused.contains("does not match the specified workspace (user-ws)"),
    "{refused}"
  );
}

#[tokio::test]
async fn an_apps_token_makes_no_tokens_and_expires() {
  let hypha = Hypha::shared().await;
  let client = client(&hypha);
  let token = client
    .token_for("hello-app", Duration::from_secs(60))
    .await
    .expect("a token");
  let error = client_with(&hypha, token.expose())
    .token_for("x", Duration::from_secs(60))
    .await;
  let error = error.expect_err("refused").to_string();
  assert!(
    error.contains("403 Forbidden") && error.contains("Only admin"),
    "{error}"
  );

  let token = client
    .token_for("hello-app", Duration::ZERO)
    .await
    .expect("a token");
  let late = client_with(&hypha, token.expose());
  let deadline = std::time::Instant::now() + Duration::from_secs(30);
  let error = loop {
    match late.list().await {
      Err(error) => break error.to_string(),
      Ok(_) => assert!(
        std::time::Instant::now() < deadline,
        "the token does not expire"
      ),
    }
  };
  assert!(
    error.contains("401 Unauthorized") && error.contains("has expired"),
    "{error}"
  );
}

#[tokio::test]
async fn who_does_not_administer_the_workspace_gets_no_tokens_for_it() {
  let hypha = Hypha::shared().await;
  let client = client_with(&hypha, hypha.env("HYPHA_USER_TOKEN"));
  let error = client.token_for("hello-app", Duration::from_secs(60)).await;
  let error = error.expect_err("refused").to_string();
  assert!(
    error.contains("/hypha-agents/services/ws/generate_token: 403 Forbidden"),
    "{error}"
  );
  assert!(
    error.contains("any permission for workspace: hypha-agents"),
    "{error}"
  );
}

#[tokio::test]
async fn the_servers_own_administrator_makes_no_tokens_for_apps() {
  let hypha = Hypha::shared().await;
  let client = client_with(&hypha, &hypha.root_token());
  assert_eq!(aliases(&list(&client).await), APPS);
  let error = client.token_for("hello-app", Duration::from_secs(60)).await;
  assert!(
    matches!(error, Err(ArtifactsError::TooPowerful)),
    "{error:?}"
  );
}

#[tokio::test]
async fn a_server_that_was_away_is_asked_again() {
  let mut hypha = Hypha::shared().await;
  let client = client(&hypha);
  assert_eq!(aliases(&list(&client).await), APPS);
  hypha.kill();
  let error = client.list().await.expect_err("away");
  assert!(
    matches!(error, ArtifactsError::Connection { .. }),
    "{error}"
  );
  hypha.start_again();
  assert_eq!(aliases(&list(&client).await), APPS);
}
