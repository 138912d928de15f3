//! What a client sends wrong is refused with a fitting status and a message that names it, and
//! changes nothing.

use std::fmt::Write;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::support::Client;
use crate::support::Server;
use crate::support::kernel;
use crate::support::shared_server;
use crate::support::unique;

fn client() -> Client {
  shared_server().client()
}

/// Every one of the fields that creation takes, wrong once. What is answered stands in
/// `snapshots/it__bad_input__{name}.snap`.
async fn refuses_creation(name: &str, cases: &[Value]) {
  let client = client();
  let mut answers = String::new();
  for wrong in cases {
    let id = unique("never");
    let mut body = json!({"id": id, "lang": "typescript"});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(wrong.as_object().expect("an object").clone());
    let made = fields["id"].clone();
    let answer = client.try_create(&body).await;
    let error = answer.error().replace(&id, "[ID]");
    let _ = writeln!(answers, "{wrong}\n  {} {error}", answer.status);
    assert!(
      client.list("").await.iter().all(|k| k["id"] != made),
      "{wrong} made a kernel"
    );
  }
  insta::assert_snapshot!(name, answers);
}

#[tokio::test]
async fn an_id_that_exists_is_a_conflict() {
  let kernel = kernel().await;
  let answer = kernel
    .client
    .try_create(&json!({"id": kernel.id, "lang": "ts"}))
    .await;
  assert_eq!(answer.status, 409);
  assert_eq!(
    answer.error(),
    format!("Kernel with ID {} already exists", kernel.id)
  );
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn an_id_with_a_colon_is_refused() {
  let answer = client()
    .try_create(&json!({"id": "a:b", "lang": "ts"}))
    .await;
  assert_eq!(
    (answer.status, answer.error().as_str()),
    (400, "Kernel ID cannot contain colons")
  );
}

#[tokio::test]
async fn an_id_that_cannot_be_addressed_is_refused() {
  refuses_creation(
    "an_id_that_cannot_be_addressed_is_refused",
    &[
      json!({"id": ""}),
      json!({"id": "a b"}),
      json!({"id": "a/b"}),
      json!({"id": "x".repeat(200)}),
      json!({"namespace": "a:b"}),
      json!({"namespace": "a/b"}),
    ],
  )
  .await;
}

#[tokio::test]
async fn fields_of_a_wrong_type_are_named() {
  refuses_creation(
    "fields_of_a_wrong_type_are_named",
    &[
      json!({"id": 5}),
      json!({"mode": true}),
      json!({"lang": ["ts"]}),
      json!({"namespace": {}}),
      json!({"env": "A=1"}),
      json!({"env": {"A": ["x"]}}),
      json!({"env": {"A=B": "x"}}),
      json!({"env": {"": "x"}}),
      json!({"env": {"A": "x\u{0}y"}}),
      json!({"inactivityTimeout": "5"}),
      json!({"inactivityTimeout": -1}),
      json!({"maxExecutionTime": 1.5}),
      json!({"maxExecutionTime": u64::MAX}),
      json!({"limits": 5}),
      json!({"limits": {"heapMb": "much"}}),
      json!({"permissions": []}),
      json!({"permissions": {"net": 5}}),
      json!({"permissions": {"read": [1]}}),
      json!({"filesystem": "/tmp"}),
      json!({"filesystem": {"root": 1}}),
      json!({"filesystem": {"enabled": true}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn fields_nobody_knows_are_named() {
  refuses_creation(
    "fields_nobody_knows_are_named",
    &[
      json!({"colour": "red"}),
      json!({"limits": {"cpus": 5}}),
      json!({"permissions": {"fly": true}}),
      json!({"filesystem": {"root": "/tmp", "extra": 1}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn modes_and_languages_nobody_knows_are_named() {
  refuses_creation(
    "modes_and_languages_nobody_knows_are_named",
    &[json!({"mode": "thread"}), json!({"lang": "cobol"})],
  )
  .await;
}

#[tokio::test]
async fn a_type_that_is_not_allowed_names_the_allowed_ones() {
  refuses_creation(
    "a_type_that_is_not_allowed_names_the_allowed_ones",
    &[json!({"mode": "main_thread"})],
  )
  .await;
}

#[tokio::test]
async fn limits_over_the_servers_are_refused() {
  refuses_creation(
    "limits_over_the_servers_are_refused",
    &[
      json!({"limits": {"heapMb": 100_000}}),
      json!({"limits": {"memoryMb": 1_000_000}}),
      json!({"limits": {"outputBytes": 1_u64 << 40}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn limits_nothing_could_live_in_are_refused() {
  refuses_creation(
    "limits_nothing_could_live_in_are_refused",
    &[
      json!({"limits": {"heapMb": 1}}),
      json!({"limits": {"memoryMb": 1}}),
      json!({"limits": {"outputBytes": 1}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn permissions_over_the_servers_are_refused() {
  refuses_creation(
    "permissions_over_the_servers_are_refused",
    &[
      json!({"permissions": {"run": true}}),
      json!({"permissions": {"run": ["git"]}}),
      json!({"permissions": {"read": true}}),
      json!({"permissions": {"write": ["/etc"]}}),
      json!({"permissions": {"ffi": true}}),
      json!({"permissions": {"sys": ["hostname"]}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_permission_entry_that_makes_no_sense_is_refused() {
  refuses_creation(
    "a_permission_entry_that_makes_no_sense_is_refused",
    &[
      json!({"permissions": {"net": ["http://a b"]}}),
      json!({"permissions": {"net": ["example.com:port"]}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn mounts_are_refused_unless_the_operator_names_folders() {
  refuses_creation(
    "mounts_are_refused_unless_the_operator_names_folders",
    &[
      json!({"filesystem": {"root": "/tmp"}}),
      // Whether it exists is not told.
      json!({"filesystem": {"root": "/no/such/folder"}}),
    ],
  )
  .await;
}

#[tokio::test]
async fn a_mount_that_is_switched_off_is_not_made() {
  let filesystem = json!({"filesystem": {"enabled": false, "root": "/no/such/folder"}});
  let kernel = client().create(filesystem).await;
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
  let kernel = kernel().await;
  let paths = [
    "/execute",
    "/execute/submit",
    "/execute/stream",
    "/complete",
    "/input-reply",
  ];
  let paths: Vec<String> = paths
    .iter()
    .map(|p| kernel.path(p))
    .chain(["/api/kernels".to_owned()])
    .collect();
  for path in &paths {
    for body in ["{", "{]", "no json", "[1,", "'single'"] {
      kernel
        .client
        .post_text(path, body)
        .await
        .refused(400, &["Invalid JSON"]);
    }
  }
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_explained() {
  let kernel = kernel().await;
  let mut answers = String::new();
  let bodies = [
    "",
    "{",
    "{]",
    "no json",
    "[1,",
    "'single'",
    r#"{"code": "1"} more"#,
    "[]",
    "null",
    "5",
    "\"code\"",
    "{}",
    r#"{"code": 5}"#,
    r#"{"code": "1", "extra": 1}"#,
    r#"{"code": "1", "code": "2"}"#,
  ];
  for body in bodies {
    let answer = kernel
      .client
      .post_text(&kernel.path("/execute"), body)
      .await;
    let _ = writeln!(answers, "{body}\n  {} {}", answer.status, answer.error());
  }
  insta::assert_snapshot!("bodies_that_cannot_be_read_are_explained", answers);
}

#[tokio::test]
async fn requests_that_are_wrong_are_explained() {
  let client = client();
  let code = json!({"code": "1"});
  let mut answers = String::new();
  for (method, path, body) in [
    ("GET", "/nowhere", None),
    ("GET", "/api/nowhere", None),
    ("PATCH", "/api/kernels", None),
    ("GET", "/api/kernels?colour=red", None),
    ("GET", "/api/kernels/nobody/info", None),
    ("DELETE", "/api/kernels/nobody", None),
    ("POST", "/api/kernels/nobody/execute", Some(&code)),
    ("GET", "/api/apps/nobody", None),
    ("GET", "/api/apps/nobody/logs?lines=many", None),
    ("POST", "/api/apps/nobody/start", None),
    ("POST", "/api/apps", Some(&code)),
    ("GET", "/apps/nobody/", None),
    ("GET", "/api/vectordb/indices/nobody/info", None),
    ("POST", "/api/vectordb/indices", Some(&code)),
    ("GET", "/api/vectordb/providers/nobody", None),
  ] {
    let method: Method = method.parse().expect("a method");
    let mut request = client.request(method.clone(), path);
    if let Some(body) = body {
      request = request.json(body);
    }
    let answer = client.read(request).await;
    let _ = writeln!(
      answers,
      "{method} {path}\n  {} {}",
      answer.status,
      answer.error()
    );
  }
  insta::assert_snapshot!("requests_that_are_wrong_are_explained", answers);
}

#[tokio::test]
async fn what_follows_the_json_is_refused() {
  let kernel = kernel().await;
  let answer = kernel
    .client
    .post_text(&kernel.path("/execute"), r#"{"code": "1"} more"#)
    .await;
  answer.refused(400, &["Invalid JSON", "trailing"]);
}

#[tokio::test]
async fn an_empty_body_is_refused() {
  let kernel = kernel().await;
  for path in [
    "/execute",
    "/execute/submit",
    "/execute/stream",
    "/complete",
    "/input-reply",
  ] {
    kernel
      .client
      .post_text(&kernel.path(path), "")
      .await
      .refused(400, &["empty"]);
  }
  kernel
    .client
    .post_text("/api/kernels", "")
    .await
    .refused(400, &["empty"]);
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
  let kernel = kernel().await;
  for body in ["[]", "null", "5", "\"code\""] {
    assert_eq!(
      kernel
        .client
        .post_text(&kernel.path("/execute"), body)
        .await
        .status,
      400,
      "{body}"
    );
    assert_eq!(
      kernel.client.post_text("/api/kernels", body).await.status,
      400,
      "{body}"
    );
  }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
  let kernel = kernel().await;
  let body = b"{\"code\": \"\xff\xfe\"}".to_vec();
  kernel
    .client
    .post_text(&kernel.path("/execute"), body)
    .await
    .refused(400, &["JSON"]);
}

#[tokio::test]
async fn json_is_read_whatever_the_content_type_says() {
  let kernel = kernel().await;
  let request = kernel
    .client
    .request(Method::POST, &kernel.path("/execute"));
  let request = request
    .header("content-type", "text/plain")
    .body(r#"{"code": "1 + 1"}"#);
  assert!(
    kernel
      .client
      .read(request)
      .await
      .text
      .contains("\"text/plain\":\"2\"")
  );
}

#[tokio::test]
async fn no_code_is_refused_in_the_literal_words() {
  let kernel = kernel().await;
  for path in ["/execute", "/execute/submit", "/execute/stream"] {
    for body in [json!({}), json!({"code": ""}), json!({"code": null})] {
      let answer = kernel.post(path, &body).await;
      assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "No code provided"),
        "{path} {body}"
      );
    }
  }
  assert_eq!(kernel.info().await["history"], json!([]));
}

#[tokio::test]
async fn code_is_checked_before_the_kernel() {
  let answer = client()
    .post("/api/kernels/nobody/execute", &json!({}))
    .await;
  assert_eq!(
    (answer.status, answer.error().as_str()),
    (400, "No code provided")
  );
}

#[tokio::test]
async fn code_of_a_wrong_type_is_named() {
  let kernel = kernel().await;
  for path in ["/execute", "/execute/submit", "/execute/stream"] {
    kernel
      .post(path, &json!({"code": 5}))
      .await
      .refused(400, &["code:", "string"]);
    kernel
      .post(path, &json!({"code": "1", "extra": 1}))
      .await
      .refused(400, &["extra"]);
  }
}

#[tokio::test]
async fn unknown_kernels_are_not_found_in_the_literal_words() {
  let client = client();
  let code = json!({"code": "1"});
  for rest in [
    "/execute",
    "/execute/submit",
    "/execute/stream",
    "/is-complete",
    "/complete",
    "/inspect",
  ] {
    let answer = client
      .post(&format!("/api/kernels/nobody{rest}"), &code)
      .await;
    assert_eq!(
      (answer.status, answer.error().as_str()),
      (404, "Kernel not found"),
      "{rest}"
    );
  }
  for rest in ["/ping", "/restart", "/interrupt"] {
    let answer = client
      .post_empty(&format!("/api/kernels/nobody{rest}"))
      .await;
    assert_eq!(
      (answer.status, answer.error().as_str()),
      (404, "Kernel not found"),
      "{rest}"
    );
  }
  for rest in ["/info", "/execute/result/x", "/execute/stream/x"] {
    let answer = client.get(&format!("/api/kernels/nobody{rest}")).await;
    assert_eq!(
      (answer.status, answer.error().as_str()),
      (404, "Kernel not found"),
      "{rest}"
    );
  }
  let answer = client
    .post("/api/kernels/nobody/input-reply", &json!({"value": "x"}))
    .await;
  assert_eq!(
    (answer.status, answer.error().as_str()),
    (404, "Kernel not found")
  );
  let answer = client.delete("/api/kernels/nobody").await;
  assert_eq!(
    (answer.status, answer.error().as_str()),
    (404, "Kernel with ID nobody not found")
  );
}

#[tokio::test]
async fn ids_that_no_kernel_can_have_are_not_found() {
  for id in [
    "a%20b",
    "a%2Fb",
    "%00",
    "%C3%A9",
    ":",
    "a:",
    ":b",
    &"x".repeat(4000),
  ] {
    let answer = client().get(&format!("/api/kernels/{id}/info")).await;
    assert_eq!(
      (answer.status, answer.error().as_str()),
      (404, "Kernel not found"),
      "{id}"
    );
  }
}

#[tokio::test]
async fn an_id_that_is_no_text_is_refused_with_json() {
  let answer = client().get("/api/kernels/%FF/info").await;
  assert!((400..500).contains(&answer.status), "{answer:?}");
  answer.error();
}

#[tokio::test]
async fn unknown_sessions_are_not_found_in_the_literal_words() {
  let kernel = kernel().await;
  let other = uuid::Uuid::new_v4().to_string();
  for session in ["x", other.as_str()] {
    for route in ["result", "stream"] {
      let answer = kernel
        .client
        .get(&kernel.path(&format!("/execute/{route}/{session}")))
        .await;
      assert_eq!(
        (answer.status, answer.error().as_str()),
        (404, "Session not found")
      );
    }
  }
}

#[tokio::test]
async fn a_last_event_id_that_is_no_number_is_refused() {
  let kernel = kernel().await;
  let session = kernel.submit("1").await;
  for wrong in ["first", "-1", "1.5"] {
    let path = kernel.path(&format!("/execute/stream/{session}"));
    let request = kernel
      .client
      .request(Method::GET, &path)
      .header("Last-Event-ID", wrong);
    kernel
      .client
      .read(request)
      .await
      .refused(400, &["Last-Event-ID"]);
  }
}

#[tokio::test]
async fn an_unknown_query_parameter_is_named() {
  client()
    .get("/api/kernels?colour=red")
    .await
    .refused(400, &["colour"]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large() {
  let server = Server::builder().env("MAX_BODY_BYTES", "10000").start();
  let kernel = server.client().typescript().await;
  let code = format!("'{}'.length", "x".repeat(20_000));
  let answer = kernel.post("/execute", &json!({"code": code})).await;
  answer.refused(413, &["10000", "MAX_BODY_BYTES"]);
  assert_eq!(kernel.info().await["history"], json!([]));
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_too_large() {
  let server = Server::builder().env("MAX_BODY_BYTES", "10000").start();
  let kernel = server.client().typescript().await;
  let chunks = (0..100).map(|_| Ok::<_, std::io::Error>("x".repeat(1000)));
  let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
  let answer = kernel
    .client
    .post_text(&kernel.path("/execute"), body)
    .await;
  answer.refused(413, &["10000"]);
}

#[tokio::test]
async fn a_large_cell_under_the_limit_runs() {
  let kernel = kernel().await;
  let code = format!("'{}'.length", "x".repeat(5_000_000));
  assert_eq!(kernel.execute(&code).await.result(), Some("5000000"));
}

#[tokio::test]
async fn unknown_paths_are_not_found_with_json() {
  for path in [
    "/api/nothing",
    "/nothing",
    "/api",
    "/api/kernels/x",
    "/api/kernels/x/y/z",
  ] {
    let answer = client().get(path).await;
    if path == "/api/kernels/x" {
      assert_eq!(answer.status, 405, "{path}");
    } else {
      assert_eq!(
        (answer.status, answer.text.as_str()),
        (404, r#"{"error":"Not found"}"#),
        "{path}"
      );
    }
  }
}

#[tokio::test]
async fn a_wrong_method_is_refused_with_json() {
  let answer = client()
    .read(client().request(Method::PUT, "/api/kernels"))
    .await;
  answer.refused(405, &["Method not allowed"]);
}

#[tokio::test]
async fn a_plain_options_request_answers_too() {
  let answer = client()
    .read(client().request(Method::OPTIONS, "/api/kernels"))
    .await;
  assert_eq!((answer.status, answer.text.as_str()), (200, ""));
  assert_eq!(answer.header("access-control-allow-origin"), None);
}
