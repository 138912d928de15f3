//! The engine as a worker of a real Hypha server, which installs, starts and stops apps on it by its own interface.

use crate::support::Hypha;
use crate::support::Server;
use crate::support::eventually;

async fn engine(hypha: &Hypha) -> Server {
  let server = Server::builder()
    .env("HYPHA_SERVICE", "true")
    .env("HYPHA_SERVER_URL", hypha.env("HYPHA_SERVER_URL"))
    .env("HYPHA_TOKEN", hypha.env("HYPHA_TOKEN"))
    // When a client has ended, the server forgets what its id has registered, a while later: also by the next of that id.
    .env("HYPHA_CLIENT_ID", crate::support::unique("worker"))
    .env("KERNEL_PERMISSIONS_MAX", r#"{"net": true, "import": true}"#)
    .start();
  eventually("the worker is registered", async || {
    server.log().contains("runs apps for Hypha as")
  })
  .await;
  server
}

#[tokio::test]
async fn apps_are_installed_started_read_executed_in_and_stopped_by_hypha() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "life").await;
}

#[tokio::test]
async fn published_apps_are_installed_and_run_and_wrong_ones_are_refused_with_the_reason() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "seeded").await;
}

#[tokio::test]
async fn an_app_is_scaled_to_three_with_a_token_and_a_name_each() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "scale").await;
}

#[tokio::test]
async fn an_app_that_was_killed_is_there_again_in_the_same_session() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "killed").await;
}

#[tokio::test]
async fn an_app_that_registers_itself_is_left_to_do_so() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "own").await;
}

#[tokio::test]
async fn sessions_of_another_workspace_are_neither_started_nor_stopped_nor_read() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "tenants").await;
}

#[tokio::test]
async fn an_app_that_hypha_has_forgotten_ends() {
  let mut hypha = Hypha::shared().await;
  let server = engine(&hypha).await;
  hypha.worker_calls(server.port(), "left").await;
  hypha.kill();
  hypha.start_again();
  eventually("the app has ended", async || {
    let apps = server.client().get("/api/apps").await.ok();
    apps.as_array().is_some_and(Vec::is_empty)
  })
  .await;
  assert!(server.log().contains("Hypha has forgotten an app"));
}
