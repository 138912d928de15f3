//! Tokens, and what each may see.

use serde_json::json;

use crate::support::Server;

fn guarded() -> Server {
  Server::builder()
    .env("ENGINE_TOKENS", "all=*, lab-token=lab")
    .start()
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_shown() {
  let server = guarded();
  let client = server.client();
  for path in [
    "/api/kernels",
    "/api/status",
    "/api/events",
    "/api/kernels/x/info",
  ] {
    client
      .get(path)
      .await
      .refused(401, &["Authorization: Bearer"]);
    client
      .clone()
      .with_token("wrong")
      .get(path)
      .await
      .refused(401, &["token"]);
  }
  assert_eq!(client.get("/health").await.ok(), json!({"status": "ok"}));
}

#[tokio::test]
async fn a_token_for_a_namespace_sees_only_that() {
  let server = guarded();
  let all = server.client().with_token("all");
  let lab = server.client().with_token("lab-token");
  let own = lab.create(json!({"id": "own"})).await;
  assert_eq!(own.id, "lab:own");
  let other = all
    .create(json!({"id": "other", "namespace": "elsewhere"}))
    .await;
  let plain = all.create(json!({"id": "plain"})).await;
  assert_eq!(all.list("").await.len(), 3);
  let seen = lab.list("").await;
  assert_eq!(seen.len(), 1);
  assert_eq!(seen[0]["id"], "lab:own");
  assert_eq!(own.execute("1").await.result(), Some("1"));
  assert_eq!(lab.get("/api/kernels/own/info").await.status, 200);
  for id in [&other.id, &plain.id] {
    lab
      .get(&format!("/api/kernels/{id}/info"))
      .await
      .refused(404, &["Kernel not found"]);
  }
  lab
    .get("/api/kernels?namespace=elsewhere")
    .await
    .refused(403, &["lab", "elsewhere"]);
  let body = json!({"lang": "ts", "namespace": "elsewhere"});
  lab.try_create(&body).await.refused(403, &["lab"]);
}

#[tokio::test]
async fn tokens_are_not_logged() {
  let server = guarded();
  server.client().with_token("all").typescript().await;
  server
    .client()
    .with_token("guess-me")
    .get("/api/kernels")
    .await;
  for secret in ["lab-token", "guess-me"] {
    assert!(!server.log().contains(secret));
  }
}
