//! The methods of the Hypha service over HTTP, without a Hypha server.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::support::Client;
use crate::support::Server;
use crate::support::shared_server;

const SERVICE: &str = "/default/services/deno-app-engine";

async fn call(client: &Client, method: &str, given: &Value) -> Value {
  client
    .post(&format!("{SERVICE}/{method}"), given)
    .await
    .ok()
}

#[tokio::test]
async fn methods_take_objects_and_queries() {
  let client = shared_server().client();
  let made = call(
    &client,
    "createKernel",
    &json!({"mode": "worker-typescript", "id": "gateway"}),
  )
  .await;
  assert_eq!(made["id"], "default:gateway");
  let wrapped = json!({"params": {"mode": "worker-typescript"}});
  let wrapped = call(&client, "createKernel", &wrapped).await;
  assert_eq!(wrapped["language"], "typescript");
  let by_query = format!("{SERVICE}/createKernel?mode=worker-typescript&inactivity_timeout=5000");
  let timed = client.get(&by_query).await.ok();
  let timer = format!(
    "{SERVICE}/getInactivityTimerStatus?kernelId={}",
    timed["id"].as_str().expect("an id")
  );
  assert_eq!(client.get(&timer).await.ok()["inactivityTimeout"], 5000);
  let started = call(
    &client,
    "executeCode",
    &json!({"kernelId": "gateway", "code": "6 * 7"}),
  )
  .await;
  assert!(started["execution_id"].is_string(), "{started}");
  for kernel in [&wrapped, &timed] {
    let ended = call(&client, "destroyKernel", &json!({"kernelId": kernel["id"]})).await;
    assert_eq!(ended, json!({"success": true}));
  }
  let given = json!({"kernelId": "gateway", "code": "console.log('a'); await 0; 42"});
  let request = client
    .request(Method::POST, &format!("{SERVICE}/streamExecution"))
    .json(&given);
  let response = client.send(request).await;
  assert_eq!(response.headers()["content-type"], "application/x-ndjson");
  let text = response.text().await.expect("text");
  let lines: Vec<Value> = text
    .lines()
    .map(|line| serde_json::from_str(line).expect("JSON"))
    .collect();
  assert_eq!(lines[0]["data"]["text"], "a\n");
  assert_eq!(lines[2], json!({"type": "complete", "status": "success"}));
  assert!(
    client
      .get(&format!("{SERVICE}/getEngineLoad"))
      .await
      .ok()
      .is_u64()
  );
  call(&client, "destroyKernel", &json!({"kernelId": "gateway"})).await;
}

#[tokio::test]
async fn failures_have_the_form_that_hypha_gives_them() {
  let client = shared_server().client();
  let refused = async |path: &str, given: Value| {
    let answer = client.post(path, &given).await;
    (answer.status, answer.json())
  };
  let (status, body) = refused(
    &format!("{SERVICE}/destroyKernel"),
    json!({"kernelId": "none"}),
  )
  .await;
  assert_eq!(
    (status, body),
    (
      400,
      json!({"success": false, "detail": "Kernel not found or access denied"})
    )
  );
  let (status, body) = refused(&format!("{SERVICE}/noSuchMethod"), json!({})).await;
  assert_eq!((status, &body["success"]), (404, &json!(false)));
  let (status, _) = refused(&format!("{SERVICE}/getKernelInfo"), json!([1])).await;
  assert_eq!(status, 400);
}

#[tokio::test]
async fn the_service_describes_its_methods() {
  let client = shared_server().client();
  let services = client.get("/default/services").await.ok();
  assert_eq!(services[0]["id"], "default/root:deno-app-engine");
  let service = client.get(SERVICE).await.ok();
  let function = &service["service_schema"]["executeCode"]["function"];
  assert_eq!(
    function["parameters"]["properties"]["code"]["type"],
    json!(["string", "null"])
  );
}

#[tokio::test]
async fn a_token_is_of_its_workspace_only() {
  let server = Server::builder().env("ENGINE_TOKENS", "op=*,l=lab").start();
  let lab = server.client().with_token("l");
  let in_lab = "/lab/services/deno-app-engine";
  let given = json!({"mode": "worker-typescript", "id": "k"});
  let made = lab
    .post(&format!("{in_lab}/createKernel"), &given)
    .await
    .ok();
  assert_eq!(made["id"], "lab:k");
  lab
    .post(&format!("{SERVICE}/listKernels"), &json!({}))
    .await
    .refused(403, &["lab"]);
  let answer = lab
    .post(&format!("{in_lab}/notifyAppUpdates"), &json!({}))
    .await;
  assert_eq!(answer.status, 400);
  let nobody = server
    .client()
    .post(&format!("{in_lab}/listKernels"), &json!({}))
    .await;
  assert_eq!(nobody.status, 401);
}

#[tokio::test]
async fn pages_do_not_call_methods_by_leading_to_them() {
  let client = shared_server().client();
  let request = client
    .request(Method::GET, &format!("{SERVICE}/getEngineLoad"))
    .header("sec-fetch-mode", "navigate")
    .header("sec-fetch-dest", "document")
    .header("sec-fetch-site", "cross-site");
  assert_eq!(client.send(request).await.status(), 403);
  let beside = client
    .request(Method::POST, &format!("{SERVICE}/getEngineLoad"))
    .header("sec-fetch-site", "same-site")
    .json(&json!({}));
  assert_eq!(client.send(beside).await.status(), 403);
}

#[tokio::test]
async fn what_the_embedded_server_of_the_original_had_besides_is_declined_by_name() {
  let client = shared_server().client();
  for (path, words) in [
    ("/ws", "--hypha"),
    ("/default/apps/playground-service", "playground"),
    (
      "/default/apps/playground-service/kernels.html",
      "playground",
    ),
  ] {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 501, "{path}");
    let told = answer.json();
    assert_eq!(told["success"], false, "{told}");
    let detail = told["detail"].as_str().expect("a text");
    assert!(detail.contains(words), "{detail}");
  }
}
