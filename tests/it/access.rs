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
async fn a_token_for_a_namespace_counts_its_own_kernels() {
  let server = guarded();
  let all = server.client().with_token("all");
  let lab = server.client().with_token("lab-token");
  let _own = lab.create(json!({"id": "own"})).await;
  let _other = all.create(json!({"id": "other"})).await;
  let total = async |client: &crate::support::Client| {
    let status = client.get("/api/status").await.ok();
    status["kernels"]["total"].clone()
  };
  assert_eq!(total(&lab).await, 1);
  assert_eq!(total(&all).await, 2);
}

#[tokio::test]
async fn a_kernel_of_others_is_missing_on_every_route() {
  let server = guarded();
  let all = server.client().with_token("all");
  let lab = server.client().with_token("lab-token");
  let there = all
    .create(json!({"id": "there", "namespace": "elsewhere"}))
    .await;
  let session = there.submit("1").await;
  let asks = async |id: &str| -> Vec<String> {
    let path = |rest: &str| format!("/api/kernels/{id}{rest}");
    let code = json!({"code": "1"});
    let mut answers = Vec::new();
    for rest in [
      "/execute",
      "/execute/stream",
      "/execute/submit",
      "/complete",
    ] {
      answers.push(lab.post(&path(rest), &code).await);
    }
    for rest in ["/inspect", "/is-complete"] {
      answers.push(lab.post(&path(rest), &code).await);
    }
    answers.push(
      lab
        .post(&path("/input-reply"), &json!({"value": "x"}))
        .await,
    );
    for rest in ["/ping", "/restart", "/interrupt"] {
      answers.push(lab.post_empty(&path(rest)).await);
    }
    answers.push(lab.get(&path("/info")).await);
    answers.push(lab.get(&path(&format!("/execute/result/{session}"))).await);
    answers.push(lab.get(&path(&format!("/execute/stream/{session}"))).await);
    answers.push(lab.delete(&path("")).await);
    let shown = answers.iter().map(|answer| {
      assert_eq!(answer.status, 404, "{}", answer.text);
      answer.text.replace(id, "ID")
    });
    shown.collect()
  };
  let foreign = asks("elsewhere:there").await;
  assert_eq!(foreign, asks("elsewhere:nothing").await);
  assert_eq!(foreign, asks("lab:nothing").await);
  assert_eq!(there.execute("1").await.result(), Some("1"));
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
