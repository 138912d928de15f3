//! Creating, listing, describing, restarting and deleting kernels.

use serde_json::Value;
use serde_json::json;

use crate::support::Server;
use crate::support::eventually;
use crate::support::kernel;
use crate::support::keys;
use crate::support::shared_server;
use crate::support::unique;

/// ISO 8601 in UTC with milliseconds, as JavaScript's `toISOString` writes it.
fn is_timestamp(value: &Value) -> bool {
  let text = value.as_str().unwrap_or_default();
  let pattern = "dddd-dd-ddTdd:dd:dd.dddZ";
  text.len() == pattern.len()
    && text
      .chars()
      .zip(pattern.chars())
      .all(|(c, p)| if p == 'd' { c.is_ascii_digit() } else { c == p })
}

#[tokio::test]
async fn creating_answers_with_the_kernel() {
  let id = unique("created");
  let kernel = shared_server()
    .client()
    .create(json!({"id": id, "lang": "typescript"}))
    .await;
  let created = &kernel.created;
  assert_eq!(
    keys(created),
    ["created", "id", "language", "mode", "name", "status"]
  );
  assert_eq!(created["id"], id);
  assert_eq!(created["name"], "Kernel-created-");
  assert_eq!(created["mode"], "worker");
  assert_eq!(created["language"], "typescript");
  assert_eq!(created["status"], "active");
  assert!(is_timestamp(&created["created"]), "{created}");
}

#[tokio::test]
async fn an_id_that_is_left_out_becomes_a_uuid() {
  let client = shared_server().client();
  let created = client.try_create(&json!({"lang": "ts"})).await.ok();
  let id = created["id"].as_str().expect("an id");
  assert_eq!(
    uuid::Uuid::parse_str(id).expect("a UUID").get_version_num(),
    4
  );
  assert_eq!(created["name"], format!("Kernel-{}", &id[..8]));
  assert_eq!(
    client.delete(&format!("/api/kernels/{id}")).await.status,
    200
  );
}

#[tokio::test]
async fn languages_have_short_names_in_any_case() {
  for (lang, language) in [
    ("ts", "typescript"),
    ("TypeScript", "typescript"),
    ("js", "javascript"),
  ] {
    let kernel = shared_server().client().create(json!({"lang": lang})).await;
    assert_eq!(kernel.created["language"], language);
    assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
  }
}

#[tokio::test]
async fn the_language_may_be_called_language() {
  let client = shared_server().client();
  let created = client
    .try_create(&json!({"language": "typescript"}))
    .await
    .ok();
  let id = created["id"].as_str().expect("an id");
  assert_eq!(
    client.delete(&format!("/api/kernels/{id}")).await.status,
    200
  );
}

#[tokio::test]
async fn the_list_shows_every_kernel_with_the_documented_fields() {
  let kernel = kernel().await;
  let list = kernel.client.list("").await;
  let entry = list
    .iter()
    .find(|e| e["id"] == kernel.id)
    .expect("is listed");
  assert_eq!(*entry, kernel.created);
}

#[tokio::test]
async fn the_list_is_json_without_a_charset() {
  let answer = shared_server().client().get("/api/kernels").await;
  assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn info_tells_all_about_a_kernel() {
  let kernel = kernel().await;
  let info = kernel.info().await;
  assert_eq!(
    keys(&info),
    [
      "created",
      "executions",
      "history",
      "id",
      "language",
      "lastActivityTime",
      "mode",
      "name",
      "status"
    ]
  );
  assert_eq!(info["history"], json!([]));
  assert_eq!(
    info["executions"],
    json!({"count": 0, "isStuck": false, "executionIds": []})
  );
  for field in ["id", "name", "mode", "language", "status", "created"] {
    assert_eq!(info[field], kernel.created[field], "{field}");
  }
}

#[tokio::test]
async fn info_tells_the_timeouts() {
  let timeouts = json!({"inactivityTimeout": 600_000, "maxExecutionTime": 500_000});
  let kernel = shared_server().client().create(timeouts).await;
  let info = kernel.info().await;
  assert_eq!(info["inactivityTimeout"], 600_000);
  assert_eq!(info["maxExecutionTime"], 500_000);
  let left = info["timeUntilShutdown"].as_u64().expect("a number");
  assert!((400_000..=600_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_timeout_of_zero_means_never() {
  let timeouts = json!({"inactivityTimeout": 0, "maxExecutionTime": 0});
  let kernel = shared_server().client().create(timeouts).await;
  let info = kernel.info().await;
  assert!(info.get("inactivityTimeout").is_none(), "{info}");
  assert!(info.get("maxExecutionTime").is_none(), "{info}");
}

#[tokio::test]
async fn the_status_is_busy_while_a_cell_runs() {
  let kernel = kernel().await;
  let session = kernel
    .submit_running("console.log('running'); await new Promise(() => {})")
    .await;
  assert_eq!(kernel.status().await, "busy");
  let info = kernel.info().await;
  assert_eq!(info["executions"]["count"], 1);
  assert_eq!(
    info["executions"]["executionIds"],
    json!([format!("exec-{session}")])
  );
  assert!(info["executions"]["longestRunningTime"].is_u64(), "{info}");
  kernel.interrupt().await.ok();
  assert_eq!(kernel.status().await, "active");
}

#[tokio::test]
async fn deleting_answers_with_nothing_and_the_kernel_is_gone() {
  let kernel = kernel().await;
  let answer = kernel.delete().await;
  assert_eq!((answer.status, answer.text.as_str()), (200, ""));
  kernel
    .client
    .get(&kernel.path("/info"))
    .await
    .refused(404, &["Kernel not found"]);
  let list = kernel.client.list("").await;
  assert!(list.iter().all(|e| e["id"] != kernel.id));
}

#[tokio::test]
async fn deleting_twice_is_not_found() {
  let kernel = kernel().await;
  kernel.delete().await;
  let answer = kernel.delete().await;
  assert_eq!(answer.status, 404);
  assert_eq!(
    answer.error(),
    format!("Kernel with ID {} not found", kernel.id)
  );
}

#[tokio::test]
async fn a_deleted_id_is_free_again_with_new_state() {
  let first = kernel().await;
  first.execute("globalThis.old = 1").await;
  first.delete().await;
  let second = first.client.create(json!({"id": first.id})).await;
  assert_eq!(
    second.execute("typeof old").await.result(),
    Some("\"undefined\"")
  );
}

#[tokio::test]
async fn kernels_do_not_see_each_other() {
  let (one, other) = (kernel().await, kernel().await);
  one
    .execute("globalThis.secret = 1; Deno.env.set('SECRET_OF_ONE', 'x')")
    .await;
  let seen = other
    .execute("[typeof secret, Deno.env.get('SECRET_OF_ONE'), Deno.pid]")
    .await;
  let seen = seen.result().expect("a result").to_owned();
  assert!(seen.starts_with("[ \"undefined\", undefined, "), "{seen}");
  assert_ne!(one.pid().await, other.pid().await);
}

#[tokio::test]
async fn ping_answers_with_the_literal_message() {
  let kernel = kernel().await;
  let pong = kernel.client.post_empty(&kernel.path("/ping")).await.ok();
  assert_eq!(keys(&pong), ["message", "success", "timestamp"]);
  assert_eq!(pong["success"], true);
  assert_eq!(pong["message"], "Kernel activity timer reset");
  assert!(is_timestamp(&pong["timestamp"]), "{pong}");
}

#[tokio::test]
async fn a_restart_loses_state_and_keeps_the_kernel() {
  let kernel = shared_server()
    .client()
    .create(json!({"env": {"KEPT": "yes"}}))
    .await;
  kernel
    .execute("globalThis.old = 1; await Deno.writeTextFile('old.txt', 'x')")
    .await;
  let done = kernel.restart().await.ok();
  assert_eq!(keys(&done), ["message", "success", "timestamp"]);
  assert_eq!(done["message"], "Kernel restarted successfully");
  let after = kernel
    .execute("[typeof old, Deno.env.get('KEPT'), [...Deno.readDirSync('.')]]")
    .await;
  assert_eq!(after.result(), Some("[ \"undefined\", \"yes\", [] ]"));
  let info = kernel.info().await;
  for field in ["id", "name", "mode", "language", "created", "status"] {
    assert_eq!(info[field], kernel.created[field], "{field}");
  }
}

#[tokio::test]
async fn a_restart_starts_counting_cells_again() {
  let kernel = kernel().await;
  kernel.execute("1").await;
  kernel.restart().await.ok();
  assert_eq!(
    kernel.execute("2").await.of("execute_result")[0]["execution_count"],
    1
  );
}

#[tokio::test]
async fn a_restart_ends_what_runs_with_an_error_that_says_so() {
  let kernel = kernel().await;
  let mut running = kernel.sse("console.log('running'); while (true) {}").await;
  running.until("stream").await;
  kernel.restart().await.ok();
  let error = running.until("execute_error").await;
  assert_eq!(error["data"]["ename"], "KernelRestarted");
  assert_eq!(running.event().await, None);
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn several_restarts_at_once_leave_a_working_kernel() {
  let kernel = kernel().await;
  let restarts = futures::future::join_all((0..4).map(|_| kernel.restart())).await;
  assert!(restarts.iter().any(|r| r.status == 200));
  eventually("the kernel is active", || async {
    kernel.status().await == "active"
  })
  .await;
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn of_many_creations_with_one_id_one_wins() {
  let client = shared_server().client();
  let body = json!({"id": unique("race"), "lang": "ts"});
  let answers = futures::future::join_all((0..6).map(|_| client.try_create(&body))).await;
  let mut statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
  statuses.sort_unstable();
  assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
  let path = format!("/api/kernels/{}", body["id"].as_str().expect("an id"));
  assert_eq!(client.delete(&path).await.status, 200);
}

#[tokio::test]
async fn the_number_of_kernels_is_limited() {
  let server = Server::builder().env("KERNEL_MAX_COUNT", "2").start();
  let client = server.client();
  let (first, _second) = (client.typescript().await, client.typescript().await);
  let third = client.try_create(&json!({"lang": "ts"})).await;
  third.refused(429, &["2 kernels", "KERNEL_MAX_COUNT"]);
  assert_eq!(client.list("").await.len(), 2);
  first.delete().await;
  client.typescript().await;
}

#[tokio::test]
async fn the_status_page_counts_kernels() {
  let server = Server::builder().start();
  let client = server.client();
  let kernel = client.typescript().await;
  kernel
    .submit_running("console.log('running'); await new Promise(() => {})")
    .await;
  let status = client.get("/api/status").await.ok();
  assert_eq!(
    keys(&status),
    [
      "allowedKernelTypes",
      "kernels",
      "pool",
      "status",
      "uptimeSeconds",
      "version"
    ]
  );
  assert_eq!(status["status"], "ok");
  assert_eq!(
    status["kernels"],
    json!({"total": 1, "busy": 1, "dead": 0, "max": 200})
  );
  assert_eq!(
    status["allowedKernelTypes"],
    json!(["worker-python", "worker-typescript", "worker-javascript"])
  );
}
