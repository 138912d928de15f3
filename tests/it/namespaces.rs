//! Kernels in namespaces.

use serde_json::Value;
use serde_json::json;

use crate::support::shared_server;
use crate::support::unique;

#[tokio::test]
async fn a_namespace_becomes_part_of_the_id() {
  let (namespace, name) = (unique("ns"), unique("k"));
  let body = json!({"id": name, "namespace": namespace});
  let kernel = shared_server().client().create(body).await;
  assert_eq!(kernel.id, format!("{namespace}:{name}"));
  assert_eq!(kernel.created["namespace"], namespace);
}

#[tokio::test]
async fn the_same_name_can_live_in_two_namespaces() {
  let client = shared_server().client();
  let name = unique("k");
  let one = client
    .create(json!({"id": name, "namespace": unique("ns")}))
    .await;
  let other = client
    .create(json!({"id": name, "namespace": unique("ns")}))
    .await;
  one.execute("globalThis.mine = 1").await;
  assert_eq!(
    other.execute("typeof mine").await.result(),
    Some("\"undefined\"")
  );
}

#[tokio::test]
async fn a_name_that_is_taken_in_its_namespace_is_a_conflict() {
  let kernel = shared_server()
    .client()
    .create(json!({"namespace": unique("ns")}))
    .await;
  let (namespace, name) = kernel.id.split_once(':').expect("namespaced");
  let answer = kernel
    .client
    .try_create(&json!({"id": name, "namespace": namespace, "lang": "ts"}))
    .await;
  assert_eq!(answer.status, 409);
  assert_eq!(
    answer.error(),
    format!("Kernel with ID {} already exists", kernel.id)
  );
}

#[tokio::test]
async fn the_list_can_be_narrowed_to_a_namespace() {
  let client = shared_server().client();
  let namespace = unique("ns");
  let first = client.create(json!({"namespace": namespace})).await;
  let second = client.create(json!({"namespace": namespace})).await;
  let elsewhere = client.create(json!({"namespace": unique("ns")})).await;
  let ids = |list: Vec<Value>| -> Vec<String> {
    list
      .iter()
      .map(|k| k["id"].as_str().expect("an id").to_owned())
      .collect()
  };
  let mine = ids(client.list(&format!("?namespace={namespace}")).await);
  assert_eq!(mine, [first.id.clone(), second.id.clone()]);
  assert_eq!(client.list("?namespace=nobody").await, Vec::<Value>::new());
  let all = ids(client.list("").await);
  assert!(
    [&first.id, &second.id, &elsewhere.id]
      .iter()
      .all(|id| all.contains(id))
  );
  let all = ids(client.list("?namespace=").await);
  assert!(all.contains(&elsewhere.id), "an empty namespace is none");
}

#[tokio::test]
async fn a_namespaced_kernel_is_addressed_raw_and_encoded() {
  let kernel = shared_server()
    .client()
    .create(json!({"namespace": unique("ns")}))
    .await;
  let encoded = kernel.id.replace(':', "%3A");
  for id in [kernel.id.as_str(), &encoded, &encoded.to_lowercase()] {
    let base = format!("/api/kernels/{id}");
    assert_eq!(
      kernel.client.get(&format!("{base}/info")).await.ok()["id"],
      kernel.id
    );
    let code = json!({"code": "6 * 7"});
    let submitted = kernel
      .client
      .post(&format!("{base}/execute/submit"), &code)
      .await
      .ok();
    let session = submitted["session_id"].as_str().expect("a session");
    let result = kernel
      .client
      .get(&format!("{base}/execute/result/{session}"))
      .await
      .ok();
    assert_eq!(result[0]["data"]["data"]["text/plain"], "42");
  }
  let answer = kernel
    .client
    .delete(&format!("/api/kernels/{encoded}"))
    .await;
  assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn without_its_namespace_a_kernel_is_not_found() {
  let kernel = shared_server()
    .client()
    .create(json!({"namespace": unique("ns")}))
    .await;
  let (_, name) = kernel.id.split_once(':').expect("namespaced");
  kernel
    .client
    .get(&format!("/api/kernels/{name}/info"))
    .await
    .refused(404, &["Kernel not found"]);
}

#[tokio::test]
async fn the_namespace_may_come_as_a_header() {
  let client = shared_server().client();
  let namespace = unique("ns");
  let request = client.request(reqwest::Method::POST, "/api/kernels");
  let request = request
    .header("X-Namespace", &namespace)
    .json(&json!({"lang": "ts"}));
  let created = client.read(request).await.ok();
  assert_eq!(created["namespace"], namespace);
  let id = created["id"].as_str().expect("an id");
  assert_eq!(
    client.delete(&format!("/api/kernels/{id}")).await.status,
    200
  );
}

#[tokio::test]
async fn a_restart_keeps_the_namespace() {
  let kernel = shared_server()
    .client()
    .create(json!({"namespace": unique("ns")}))
    .await;
  kernel.restart().await.ok();
  assert_eq!(
    kernel.info().await["namespace"],
    kernel.created["namespace"]
  );
}
