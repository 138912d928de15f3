//! Which pages may use the server, and under which names.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use reqwest::Method;
use serde_json::json;

use crate::support::Answer;
use crate::support::Client;
use crate::support::PATIENCE;
use crate::support::Server;
use crate::support::shared_server;

/// What the server answers to these bytes: the status, and all of it.
fn raw(port: u16, request: &str) -> (u16, String) {
  let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
  connection
    .set_read_timeout(Some(PATIENCE))
    .expect("can be set");
  connection
    .write_all(request.as_bytes())
    .expect("can be sent");
  let mut answer = String::new();
  connection.read_to_string(&mut answer).expect("is text");
  let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
  (status.unwrap_or_else(|| panic!("{answer:?}")), answer)
}

async fn asked(
  client: &Client,
  method: Method,
  path: &str,
  headers: &[(&str, &str)],
  body: Option<&str>,
) -> Answer {
  let mut request = client.request(method, path);
  for (name, value) in headers {
    request = request.header(*name, *value);
  }
  if let Some(body) = body {
    request = request.body(body.to_owned());
  }
  client.read(request).await
}

#[tokio::test]
async fn a_request_is_for_one_host() {
  let port = shared_server().port();
  let ask = |version: &str, target: &str, hosts: &str| {
    let request = format!("GET {target} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
    raw(port, &request).0
  };
  assert_eq!(ask("1.1", "/health", "Host: localhost\r\n"), 200);
  assert_eq!(ask("1.1", "/health", ""), 400);
  assert_eq!(ask("1.1", "/health", "Host:\r\n"), 400);
  let two = "Host: localhost\r\nHost: localhost\r\n";
  assert_eq!(ask("1.1", "/health", two), 400);
  assert_eq!(ask("1.0", "/health", ""), 200);
  let full = "http://localhost:8000/health";
  assert_eq!(ask("1.1", full, "Host: localhost:8000\r\n"), 200);
  assert_eq!(ask("1.1", full, "Host: localhost:9\r\n"), 400);
  assert_eq!(ask("1.1", full, ""), 400);
}

#[tokio::test]
async fn a_name_that_was_pointed_here_is_misdirected_on_every_route() {
  let port = shared_server().port();
  for path in [
    "/",
    "/health",
    "/api/kernels",
    "/api/docs/",
    "/apps/x/",
    "/nothing",
  ] {
    let head =
      format!("GET {path} HTTP/1.1\r\nHost: rebind.test:{port}\r\nConnection: close\r\n\r\n");
    let (status, text) = raw(port, &head);
    assert_eq!(status, 421, "{path}");
    assert!(text.contains("rebind.test") && text.contains("ENGINE_HOSTS"));
  }
  for host in ["localhost", "127.0.0.1:1", "[::1]:8000", "LOCALHOST.:80"] {
    let head = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(port, &head).0, 200, "{host}");
  }
}

#[tokio::test]
async fn a_server_goes_by_the_names_in_engine_hosts() {
  let server = Server::builder()
    .env("ENGINE_HOSTS", "Engine.Example, other.example:9000")
    .start();
  for (host, expected) in [
    ("engine.example", 200),
    ("engine.example:1", 200),
    ("other.example:9000", 200),
    ("other.example", 421),
    ("localhost", 200),
    ("third.example", 421),
  ] {
    let head = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(server.port(), &head).0, expected, "{host}");
  }
}

#[tokio::test]
async fn with_tokens_and_for_others_a_server_goes_by_any_name_until_some_are_listed() {
  let ask = |server: &Server, host: &str| {
    let head = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    raw(server.port(), &head).0
  };
  let guarded = || {
    Server::builder()
      .env("ENGINE_HOST", "0.0.0.0")
      .env("ENGINE_TOKENS", "all=*")
  };
  let server = guarded().start();
  assert_eq!(ask(&server, "any.example"), 200);
  let server = guarded().env("ENGINE_HOSTS", "engine.example").start();
  assert_eq!(ask(&server, "engine.example"), 200);
  assert_eq!(ask(&server, "any.example"), 421);
}

#[test]
fn a_wrong_entry_stops_the_start_and_is_named() {
  for (name, value, entry) in [
    (
      "ENGINE_HOSTS",
      "fine.example,http://wrong",
      "`http://wrong`",
    ),
    ("ENGINE_ORIGINS", "https://fine.example,*", "`*`"),
    (
      "ENGINE_ORIGINS",
      "https://wrong.example/",
      "`https://wrong.example/`",
    ),
    ("ENGINE_MAX_CONNECTIONS", "0", "0"),
  ] {
    let output = std::process::Command::new(crate::support::binary())
      .env_clear()
      .env(name, value)
      .args(["serve", "--port", "0", "--data-dir", "/nonexistent/x"])
      .output()
      .expect("can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(entry), "{said}");
  }
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_read_kernels() {
  let client = shared_server().client();
  for origin in ["http://evil.test", "http://127.0.0.1:1", "null"] {
    for path in ["/api/kernels", "/health", "/api/docs/", "/apps/x/", "/"] {
      for method in [Method::GET, Method::OPTIONS, Method::POST] {
        let headers = [("origin", origin)];
        let answer = asked(&client, method, path, &headers, None).await;
        answer.refused(403, &[origin, "ENGINE_ORIGINS"]);
        assert_eq!(answer.header("access-control-allow-origin"), None);
      }
    }
  }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_make_kernels_and_people_can_come_from_one() {
  let client = shared_server().client();
  let body = Some(r#"{"id": "of-a-page", "lang": "ts"}"#);
  for site in ["cross-site", "same-site"] {
    let headers = [
      ("sec-fetch-site", site),
      ("sec-fetch-mode", "no-cors"),
      ("sec-fetch-dest", "empty"),
      ("content-type", "text/plain"),
    ];
    let answer = asked(&client, Method::POST, "/api/kernels", &headers, body).await;
    answer.refused(403, &["ENGINE_ORIGINS"]);
    let visit = [
      ("sec-fetch-site", site),
      ("sec-fetch-mode", "navigate"),
      ("sec-fetch-dest", "document"),
    ];
    let answer = asked(&client, Method::GET, "/api/docs/", &visit, None).await;
    assert_eq!(answer.status, 200);
  }
  let known = client.list("").await;
  assert!(known.iter().all(|kernel| kernel["id"] != "of-a-page"));
}

#[tokio::test]
async fn a_listed_origin_reads_and_writes() {
  let server = Server::builder()
    .env("ENGINE_ORIGINS", "https://ui.example")
    .start();
  let client = server.client();
  let origin = ("origin", "https://ui.example");
  let preflight = [
    origin,
    ("access-control-request-method", "POST"),
    (
      "access-control-request-headers",
      "content-type,authorization,x-namespace",
    ),
    ("sec-fetch-site", "cross-site"),
  ];
  for path in ["/api/kernels", "/api/kernels/x/execute", "/nothing"] {
    let answer = asked(&client, Method::OPTIONS, path, &preflight, None).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
    assert_eq!(
      answer.header("access-control-allow-origin"),
      Some("https://ui.example")
    );
    let list = |name: &str| answer.header(name).expect("a list").to_lowercase();
    for method in ["get", "post", "put", "delete"] {
      assert!(list("access-control-allow-methods").contains(method));
    }
    for header in ["content-type", "authorization", "x-namespace"] {
      assert!(list("access-control-allow-headers").contains(header));
    }
    assert!(list("vary").contains("origin"));
  }
  let headers = [
    origin,
    ("sec-fetch-site", "cross-site"),
    ("content-type", "application/json"),
  ];
  let body = Some(r#"{"id": "of-the-page", "lang": "ts"}"#);
  let answer = asked(&client, Method::POST, "/api/kernels", &headers, body).await;
  assert_eq!(answer.ok()["id"], "of-the-page");
  let exposed = answer
    .header("access-control-expose-headers")
    .expect("a list");
  assert!(exposed.to_lowercase().contains("x-session-id"), "{exposed}");
  // Without an origin nothing is said about one.
  let plain = client.get("/api/kernels").await;
  assert_eq!(plain.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn the_servers_own_pages_use_it() {
  let server = shared_server();
  let own = format!("http://127.0.0.1:{}", server.port());
  let headers = [
    ("origin", own.as_str()),
    ("sec-fetch-site", "same-origin"),
    ("content-type", "application/json"),
  ];
  let body = Some(r#"{"count": 1}"#);
  let path = "/api/vectordb/generate-documents";
  let answer = asked(&server.client(), Method::POST, path, &headers, body).await;
  assert_eq!(answer.ok()["count"], 1);
}

#[tokio::test]
async fn bodies_of_pages_are_json_and_those_of_programs_are_what_they_say() {
  let server = shared_server();
  let own = format!("http://127.0.0.1:{}", server.port());
  let client = server.client();
  let path = "/api/vectordb/generate-documents";
  let body = Some(r#"{"count": 1}"#);
  let post =
    async |headers: &[(&str, &str)]| asked(&client, Method::POST, path, headers, body).await;
  let page = [
    &[("origin", own.as_str())][..],
    &[("sec-fetch-site", "same-origin")],
    &[("sec-fetch-site", "none")],
  ];
  for headers in page {
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
      let headers = [headers, &[("content-type", kind)]].concat();
      post(&headers).await.refused(415, &["application/json"]);
    }
    post(headers).await.refused(415, &["application/json"]);
    for kind in ["application/json; charset=utf-8", "application/x-ndjson"] {
      let headers = [headers, &[("content-type", kind)]].concat();
      post(&headers).await.ok();
    }
  }
  // curl, and the fetch of Node.js.
  for headers in [
    &[("content-type", "application/x-www-form-urlencoded")][..],
    &[("content-type", "text/plain"), ("sec-fetch-mode", "cors")],
    &[],
  ] {
    post(headers).await.ok();
  }
}

#[tokio::test]
async fn public_apps_are_for_pages_of_any_origin() {
  let script = json!({"startup_script": "Deno.serve(() => new Response('hello'))"});
  let headers = [
    ("origin", "http://evil.test"),
    ("sec-fetch-site", "cross-site"),
  ];
  for (public, expected) in [("true", 200), ("false", 403)] {
    let server = Server::builder().env("APPS_PUBLIC", public).start();
    let client = server.client();
    let app = client.post_app(script.clone()).await;
    app.ready().await;
    let answer = asked(&client, Method::GET, &app.path("/"), &headers, None).await;
    assert_eq!(answer.status, expected, "{}", answer.text);
    // That of the app as it is, without what protects the engine's own.
    let plain = client.get(&app.path("/")).await;
    assert_eq!(plain.header("x-frame-options"), None);
    let answer = asked(&client, Method::GET, "/api/apps", &headers, None).await;
    answer.refused(403, &["evil.test"]);
  }
}

#[tokio::test]
async fn the_engines_own_answers_are_for_its_own_pages() {
  let client = shared_server().client();
  for path in [
    "/api/kernels",
    "/api/docs/",
    "/health",
    "/nothing",
    "/apps/none/",
  ] {
    let answer = client.get(path).await;
    for (name, value) in [
      ("x-content-type-options", "nosniff"),
      ("x-frame-options", "DENY"),
      ("cross-origin-resource-policy", "same-origin"),
    ] {
      assert_eq!(answer.header(name), Some(value), "{path}");
    }
  }
}
