//! The client against servers of this process that misbehave as told.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use access::Secret;
use outbound::Patience;
use reqwest::Url;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::artifact::Artifact;
use crate::client::Artifacts;
use crate::client::HyphaConfig;
use crate::error::ArtifactsError;
use crate::server::Limits;

const TOKEN: &str = "s3cret-token";

/// What a server does with a request.
enum Act {
  /// Sends this and closes the connection.
  Send(Vec<u8>),
  /// Sends this, and then more of it until the client leaves.
  SendForever(Vec<u8>),
  /// Sends this, and then nothing; keeps the connection.
  Hold(&'static str),
}

/// A server on loopback; ends with this value.
struct Server {
  url: Url,
  requests: Arc<Mutex<Vec<String>>>,
  task: JoinHandle<()>,
}

impl Server {
  /// `act` is given the number of the request and its text.
  async fn start(act: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let seen = requests.clone();
    let act = Arc::new(act);
    let task = tokio::spawn(async move {
      while let Ok((stream, _)) = listener.accept().await {
        let (act, seen) = (act.clone(), seen.clone());
        tokio::spawn(async move { serve(stream, &*act, &seen).await });
      }
    });
    Self {
      url: address_url("http", address),
      requests,
      task,
    }
  }

  /// Answers everything with this.
  async fn answering(status: &'static str, body: impl Into<String>) -> Self {
    let body = body.into();
    Self::start(move |_, _| answer(status, &body)).await
  }

  fn requests(&self) -> Vec<String> {
    let requests = self.requests.lock();
    requests.unwrap_or_else(PoisonError::into_inner).clone()
  }

  fn client(&self) -> Artifacts {
    self.client_with(limits())
  }

  fn client_with(&self, limits: Limits) -> Artifacts {
    Artifacts::with_limits(config(self.url.clone()), limits).expect("good settings")
  }

  async fn list(&self) -> Result<Vec<Artifact>, ArtifactsError> {
    self.client().list().await
  }

  async fn list_error(&self) -> ArtifactsError {
    self.list().await.expect_err("it misbehaves")
  }
}

impl Drop for Server {
  fn drop(&mut self) {
    self.task.abort();
  }
}

async fn serve(
  mut stream: TcpStream,
  act: &(impl Fn(usize, &str) -> Act + Sync),
  seen: &Mutex<Vec<String>>,
) {
  let mut request = Vec::new();
  while !is_whole(&request) {
    if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
      return;
    }
  }
  let request = String::from_utf8_lossy(&request).into_owned();
  let number = {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push(request.clone());
    seen.len()
  };
  match act(number, &request) {
    Act::Send(bytes) => {
      let _ = stream.write_all(&bytes).await;
      let _ = stream.shutdown().await;
    }
    Act::SendForever(bytes) => while stream.write_all(&bytes).await.is_ok() {},
    Act::Hold(text) => {
      let _ = stream.write_all(text.as_bytes()).await;
      std::future::pending::<()>().await;
    }
  }
}

fn is_whole(request: &[u8]) -> bool {
  let text = String::from_utf8_lossy(request).to_ascii_lowercase();
  let Some((head, body)) = text.split_once("\r\n\r\n") else {
    return false;
  };
  let length = head.split("content-length: ").nth(1);
  let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
  body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, body: &str) -> Act {
  let length = body.len();
  Act::Send(
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
      .into_bytes(),
  )
}

fn ok(body: &Value) -> Act {
  answer("200 OK", &body.to_string())
}

fn address_url(scheme: &str, address: std::net::SocketAddr) -> Url {
  format!("{scheme}://{address}")
    .parse()
    .expect("an address is a URL")
}

fn config(server_url: Url) -> HyphaConfig {
  HyphaConfig {
    server_url,
    workspace: Some("lab".into()),
    collection: "lab/agents".into(),
    token: Some(Secret::new(TOKEN)),
    certificates: None,
    powerful_tokens: false,
  }
}

fn limits() -> Limits {
  Limits {
    waits: [Duration::from_millis(1), Duration::from_millis(1)],
    ..Limits::default()
  }
}

fn app(id: &str) -> Value {
  json!({
    "id": id,
    "type": "deno-app",
    "parent_id": "lab/agents",
    "manifest": {"name": id, "startup_script": "1"},
    "versions": [{"version": "v0"}],
    "last_modified": 1_795_406_432,
  })
}

fn page(items: &[Value], total: usize) -> Value {
  json!({"items": items, "total": total})
}

/// A parameter of the request's query.
fn parameter(request: &str, name: &str) -> usize {
  let query = request
    .split(' ')
    .nth(1)
    .and_then(|target| target.split_once('?'));
  let (_, query) = query.expect("a query");
  let value = query
    .split('&')
    .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
  let value = value.expect("the parameter").parse();
  value.expect("a number")
}

/// What a server with these apps says.
fn page_of(apps: &[Value], request: &str) -> Value {
  let (offset, limit) = (parameter(request, "offset"), parameter(request, "limit"));
  let rest = apps.get(offset..).unwrap_or_default();
  page(&rest[..limit.min(rest.len())], apps.len())
}

fn ids(apps: &[Artifact]) -> Vec<&str> {
  apps.iter().map(|app| app.id.as_str()).collect()
}

/// A JSON web token with these claims, unsigned.
fn web_token(claims: &Value) -> String {
  const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  let mut text = String::from("e30.");
  for group in claims.to_string().as_bytes().chunks(3) {
    let bits = group
      .iter()
      .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let bits = bits << (8 * (3 - group.len()));
    for i in 0..=group.len() {
      text.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]));
    }
  }
  text + ".c2lnbmVk"
}

#[tokio::test]
async fn all_pages_are_listed_in_the_servers_order() {
  let apps: Vec<Value> = (0..250)
    .map(|i| app(&format!("lab/app-{}", 999 - i)))
    .collect();
  let expected: Vec<String> = (0..250).map(|i| format!("lab/app-{}", 999 - i)).collect();
  let server = Server::start(move |_, request| ok(&page_of(&apps, request))).await;
  let listed = server.list().await.expect("a listing");
  assert_eq!(ids(&listed), expected);
  let requests = server.requests();
  assert_eq!(requests.len(), 3);
  for (request, offset) in requests
    .iter()
    .zip(["offset=0&", "offset=100&", "offset=200&"])
  {
    assert!(
      request.starts_with("GET /lab/artifacts/agents/children?"),
      "{request}"
    );
    for part in [
      "filters=%7B%22type%22%3A%22deno-app%22%7D",
      "no_cache=true",
      offset,
    ] {
      assert!(request.contains(part), "{part}: {request}");
    }
  }
}

#[tokio::test]
async fn an_app_is_told_with_workspace_alias_and_manifest() {
  let server = Server::answering("200 OK", page(&[app("other/a b")], 1).to_string()).await;
  let listed = server.list().await.expect("a listing");
  assert_eq!(listed.len(), 1);
  let app = &listed[0];
  assert_eq!(
    (app.id.as_str(), app.workspace.as_str(), app.alias.as_str()),
    ("other/a b", "other", "a b")
  );
  assert_eq!(app.manifest["startup_script"], "1");
}

#[tokio::test]
async fn only_published_apps_are_listed() {
  let with = |id: &str, name: &str, value: Value| {
    let mut app = app(id);
    app[name] = value;
    app
  };
  let items = [
    with("lab/draft", "versions", json!([])),
    with("lab/no-versions", "versions", Value::Null),
    with("lab/agent", "type", json!("agent")),
    with("lab/no-type", "type", Value::Null),
    app("lab/.."),
    app("lab/a/b"),
    app("no-alias"),
    with("lab/edited", "staging", json!([{"_intent": "new_version"}])),
    with("lab/no-manifest", "manifest", Value::Null),
  ];
  let total = items.len();
  let server = Server::answering("200 OK", page(&items, total).to_string()).await;
  let listed = server.list().await.expect("a listing");
  assert_eq!(ids(&listed), ["lab/edited", "lab/no-manifest"]);
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_hides_no_other_app() {
  let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
  let body = page(&[app("lab/deep"), app("lab/a")], 2).to_string();
  let body = body.replacen(r#""1""#, &deep, 1);
  let server = Server::answering("200 OK", body).await;
  assert_eq!(ids(&server.list().await.expect("a listing")), ["lab/a"]);
}

#[tokio::test]
async fn an_empty_collection_has_no_apps() {
  let server = Server::answering("200 OK", page(&[], 0).to_string()).await;
  assert_eq!(server.list().await.expect("a listing"), []);
}

#[tokio::test]
async fn the_version_follows_what_is_published_and_nothing_else() {
  let version_with = async |name: &str, value: Value| {
    let mut app = app("lab/x");
    app[name] = value;
    let server = Server::answering("200 OK", app.to_string()).await;
    server.client().read("lab/x").await.expect("an app").version
  };
  let first = version_with("download_count", json!(0)).await;
  assert_eq!(version_with("last_modified", json!(1)).await, first);
  assert_eq!(version_with("staging", json!([{}])).await, first);
  let versions = json!([{"version": "v0"}, {"version": "v1"}]);
  assert_ne!(version_with("versions", versions).await, first);
  let manifest = json!({"name": "lab/x", "startup_script": "2"});
  assert_ne!(version_with("manifest", manifest).await, first);
}

#[tokio::test]
async fn the_token_is_sent_to_the_server_and_nobody_is_anonymous_by_mistake() {
  let server = Server::answering("200 OK", page(&[], 0).to_string()).await;
  server.list().await.expect("a listing");
  let anonymous = HyphaConfig {
    token: None,
    ..config(server.url.clone())
  };
  let anonymous = Artifacts::new(anonymous).expect("good settings");
  anonymous.list().await.expect("a listing");
  let requests = server.requests();
  assert!(
    requests[0].contains(&format!("authorization: Bearer {TOKEN}\r\n")),
    "{}",
    requests[0]
  );
  assert!(!requests[1].contains("authorization"), "{}", requests[1]);
}

#[tokio::test]
async fn a_server_below_a_path_is_asked_there() {
  let server = Server::answering("200 OK", page(&[], 0).to_string()).await;
  for path in ["/hypha", "/hypha/"] {
    let url = server.url.join(path).expect("a path");
    let client = Artifacts::new(config(url)).expect("good settings");
    client.list().await.expect("a listing");
  }
  for request in server.requests() {
    assert!(
      request.starts_with("GET /hypha/lab/artifacts/agents/children?"),
      "{request}"
    );
  }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_not_asked_again() {
  for sent in [
    "",
    "HTTP/1.1 200 OK\r\ncontent-le",
    "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"items\": [",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
  ] {
    let server = Server::start(move |_, _| Act::Hold(sent)).await;
    let limits = Limits {
      patience: Patience {
        request: Duration::from_millis(200),
        ..limits().patience
      },
      ..limits()
    };
    let error = server.client_with(limits).list().await.expect_err("hangs");
    assert!(
      matches!(error, ArtifactsError::TimedOut { .. }),
      "{sent}: {error}"
    );
    assert!(
      error
        .to_string()
        .contains("no complete answer within 200ms"),
      "{error}"
    );
    assert_eq!(server.requests().len(), 1, "{sent}");
  }
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
  let head = b"HTTP/1.1 200 OK\r\n";
  let server = Server::start(|_, _| Act::SendForever(head.repeat(1000))).await;
  let error = server.list_error().await;
  assert!(
    matches!(error, ArtifactsError::Connection { .. }),
    "{error}"
  );
}

#[tokio::test]
async fn a_listing_as_a_whole_is_given_up_too() {
  let server = Server::start(|_, _| Act::Hold("")).await;
  let limits = Limits {
    listing: Duration::from_millis(200),
    ..limits()
  };
  let error = server.client_with(limits).list().await.expect_err("hangs");
  assert!(error.to_string().contains("200ms"), "{error}");
}

#[tokio::test]
async fn a_tls_server_that_hangs_while_connecting_is_given_up() {
  let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
  let url = address_url("https", listener.local_addr().expect("bound"));
  let limits = Limits {
    patience: Patience {
      connect: Duration::from_millis(200),
      ..limits().patience
    },
    ..limits()
  };
  let client = Artifacts::with_limits(config(url), limits).expect("good settings");
  let error = client.list().await.expect_err("nobody speaks");
  assert!(
    matches!(error, ArtifactsError::Connection { .. }),
    "{error}"
  );
  assert!(error.to_string().contains("none within 200ms"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_said_after_three_tries() {
  let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
  let url = address_url("http", listener.local_addr().expect("bound"));
  drop(listener);
  let client = Artifacts::with_limits(config(url.clone()), limits()).expect("good settings");
  let error = client.list().await.expect_err("nobody listens").to_string();
  assert!(
    error.starts_with(&format!(
      "{url}lab/artifacts/agents/children: no connection"
    )),
    "{error}"
  );
  assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn what_is_no_answer_of_the_artifact_manager_is_said() {
  let cases = [
    ("", "the answer is empty"),
    ("\u{0}\u{1}garbage", "not JSON"),
    ("<!doctype html><h1>Hello</h1>", "a web page, not JSON"),
    (r#"{"items": [{"id": "lab/a", "ty"#, "cut short"),
    ("[]", "other JSON than expected"),
    (r#""text""#, "other JSON than expected"),
    (r#"{"items": {}, "total": 1}"#, "other JSON than expected"),
    (r#"{"items": [1], "total": 1}"#, "other JSON than expected"),
    (
      r#"{"items": [{"id": 7}], "total": 1}"#,
      "other JSON than expected",
    ),
    (
      r#"{"items": [{"id": "lab/a", "versions": "v0"}], "total": 1}"#,
      "other JSON than expected",
    ),
    (r#"{"items": [], "total": -1}"#, "other JSON than expected"),
    (
      r#"{"items": [], "total": "many"}"#,
      "other JSON than expected",
    ),
    (r#"{"items": []}"#, "missing field `total`"),
  ];
  for (body, expected) in cases {
    let server = Server::answering("200 OK", body).await;
    let error = server.list_error().await;
    assert!(matches!(error, ArtifactsError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains(expected), "{expected}: {error}");
    assert_eq!(server.requests().len(), 1, "{expected}");
  }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
  let cut = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"items\": [";
  for bytes in [cut, "", "HTTP/1.1 2", "not HTTP at all\r\n\r\n"] {
    let server = Server::start(move |_, _| Act::Send(bytes.into())).await;
    let error = server.list_error().await;
    assert!(
      matches!(error, ArtifactsError::Connection { .. }),
      "{bytes}: {error}"
    );
    assert_eq!(server.requests().len(), 3, "{bytes}");
  }
  let server = Server::start(move |n, _| match n {
    1 | 2 => Act::Send(cut.into()),
    _ => ok(&page(&[app("lab/a")], 1)),
  })
  .await;
  assert_eq!(
    ids(&server.list().await.expect("third time lucky")),
    ["lab/a"]
  );
}

#[tokio::test]
async fn an_error_of_the_server_is_waited_out_for_three_tries() {
  let server = Server::answering("503 Service Unavailable", "<h1>starting</h1>").await;
  let error = server.list_error().await.to_string();
  assert!(
    error.contains("503 Service Unavailable: the answer says no more"),
    "{error}"
  );
  assert_eq!(server.requests().len(), 3);

  let server = Server::start(|n, _| match n {
    1 | 2 => answer(
      "500 Internal Server Error",
      r#"{"detail": "database is locked"}"#,
    ),
    _ => ok(&page(&[app("lab/a")], 1)),
  })
  .await;
  assert_eq!(
    ids(&server.list().await.expect("third time lucky")),
    ["lab/a"]
  );
}

#[tokio::test]
async fn a_refusal_is_told_at_once_with_its_detail_and_a_remedy() {
  let cases = [
    (
      "401 Unauthorized",
      r#"{"detail": "Error decoding token headers."}"#,
      "Error decoding token headers.",
      "HYPHA_TOKEN is not valid",
    ),
    (
      "403 Forbidden",
      r#"{"success": false, "detail": "Permission denied"}"#,
      "Permission denied",
      "a user who may do this",
    ),
    (
      "404 Not Found",
      r#"{"detail": "Parent artifact not found"}"#,
      "Parent artifact not found",
      "check HYPHA_SERVER_URL",
    ),
    (
      "422 Unprocessable Entity",
      r#"{"detail": [{"msg": "no integer"}]}"#,
      "no integer",
      "",
    ),
    (
      "429 Too Many Requests",
      "slow down",
      "the answer says no more",
      "",
    ),
  ];
  for (status, body, detail, remedy) in cases {
    let server = Server::answering(status, body).await;
    let error = server.list_error().await.to_string();
    let place = format!("{}lab/artifacts/agents/children: {status}: ", server.url);
    assert!(error.starts_with(&place), "{error}");
    assert!(error.contains(detail) && error.contains(remedy), "{error}");
    assert_eq!(server.requests().len(), 1, "{status}");
  }
}

#[tokio::test]
async fn a_refusal_is_told_even_if_its_text_is_endless_or_breaks_off() {
  let head = "HTTP/1.1 403 Forbidden\r\ncontent-length: 99999999\r\n\r\n".to_owned();
  let endless = format!("{head}{}", "x".repeat(100_000));
  for act in [Act::Send(head.into()), Act::SendForever(endless.into())] {
    let act = Mutex::new(Some(act));
    let server = Server::start(move |_, _| {
      let act = act.lock().unwrap_or_else(PoisonError::into_inner).take();
      act.unwrap_or(Act::Hold(""))
    })
    .await;
    let error = server.list_error().await.to_string();
    assert!(error.contains("403 Forbidden"), "{error}");
  }
}

#[tokio::test]
async fn a_detail_is_one_line_of_reasonable_length_without_the_token() {
  let long = "long ".repeat(1000);
  let detail = format!("bad\ntoken {TOKEN}\u{1b}[31m {long}");
  let server = Server::answering("401 Unauthorized", json!({"detail": detail}).to_string()).await;
  let error = server.list_error().await.to_string();
  assert!(error.contains("bad token [secret] [31m long"), "{error}");
  assert!(error.len() < 600, "{error}");
}

#[tokio::test]
async fn a_redirection_is_told_and_not_followed() {
  let target = Server::answering("200 OK", page(&[], 0).to_string()).await;
  let location = target.url.join("/new?token=x").expect("a URL");
  let server = Server::start(move |_, _| {
    Act::Send(
      format!(
        "HTTP/1.1 301 Moved Permanently\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
      )
      .into_bytes(),
    )
  })
  .await;
  let error = server.list_error().await.to_string();
  assert!(
    error.contains(&format!(
      "a redirection to {}new; set HYPHA_SERVER_URL",
      target.url
    )),
    "{error}"
  );
  assert_eq!(target.requests(), [""; 0]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
  let announced = "HTTP/1.1 200 OK\r\ncontent-length: 67108865\r\n\r\n";
  let server = Server::start(move |_, _| Act::Hold(announced)).await;
  let error = server.list_error().await;
  assert!(matches!(error, ArtifactsError::TooLarge { .. }), "{error}");
  assert!(
    error.to_string().contains("more than 67108864 bytes"),
    "{error}"
  );

  // One that does not say how large it is.
  let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
  let answer =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned() + chunk.repeat(64).as_str();
  let server = Server::start(move |_, _| Act::Send(answer.clone().into())).await;
  let limits = Limits {
    body: 1 << 20,
    ..limits()
  };
  let error = server
    .client_with(limits)
    .list()
    .await
    .expect_err("too large");
  assert!(matches!(error, ArtifactsError::TooLarge { .. }), "{error}");
  assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn all_pages_together_may_not_be_too_large() {
  let mut large = app("lab/large");
  large["manifest"]["startup_script"] = json!("x".repeat(400_000));
  let server = Server::start(move |n, _| {
    let mut item = large.clone();
    item["id"] = json!(format!("lab/{n}"));
    ok(&page(&[item], 50))
  })
  .await;
  let limits = Limits {
    body: 1 << 20,
    ..limits()
  };
  let error = server
    .client_with(limits)
    .list()
    .await
    .expect_err("too large");
  assert!(matches!(error, ArtifactsError::TooLarge { .. }), "{error}");
  assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn endless_pages_come_to_an_end() {
  // More than are allowed, as the server says itself.
  let server = Server::answering("200 OK", page(&[app("lab/a")], 10_001).to_string()).await;
  let error = server.list_error().await;
  assert!(
    matches!(error, ArtifactsError::TooMany { limit: 10_000, .. }),
    "{error}"
  );
  assert_eq!(server.requests().len(), 1);

  // One more on each page.
  let server = Server::start(|n, _| ok(&page(&[app(&format!("lab/{n}"))], n + 1))).await;
  let limits = Limits {
    apps: 20,
    ..limits()
  };
  let error = server
    .client_with(limits)
    .list()
    .await
    .expect_err("it never ends");
  assert!(matches!(error, ArtifactsError::TooMany { .. }), "{error}");
  assert_eq!(server.requests().len(), 20);

  // The same page for ever.
  let server = Server::answering("200 OK", page(&[app("lab/a")], 50).to_string()).await;
  assert_eq!(ids(&server.list().await.expect("all of it")), ["lab/a"]);
  assert_eq!(server.requests().len(), 150);
}

#[tokio::test]
async fn a_total_that_lies_is_said() {
  let cases = [
    ("nothing after the first page", 7),
    ("fewer than there are", 1),
  ];
  for (name, total) in cases {
    let server = Server::start(move |_, request| match parameter(request, "offset") {
      0 => ok(&page(&[app("lab/a"), app("lab/b")], total)),
      _ => ok(&page(&[], total)),
    })
    .await;
    let error = server.list_error().await;
    assert!(
      matches!(error, ArtifactsError::Unsteady { listed: 2, .. }),
      "{name}: {error}"
    );
    assert!(
      error
        .to_string()
        .contains(&format!("2 artifacts of {total}")),
      "{name}: {error}"
    );
  }
}

#[tokio::test]
async fn a_page_larger_than_asked_for_is_refused() {
  let items: Vec<Value> = (0..101).map(|i| app(&format!("lab/{i}"))).collect();
  let server = Server::answering("200 OK", page(&items, 101).to_string()).await;
  let error = server.list_error().await.to_string();
  assert!(error.contains("101 artifacts on a page of 100"), "{error}");
}

#[tokio::test]
async fn a_collection_that_changes_meanwhile_is_listed_again() {
  // After the first page the first app is gone: the third takes its place and would be missed.
  let before = [app("lab/a"), app("lab/b"), app("lab/c")];
  let after = [app("lab/b"), app("lab/c")];
  let server = Server::start(move |n, request| match n {
    1 => ok(&page_of(&before, request)),
    _ => ok(&page_of(&after, request)),
  })
  .await;
  let limits = Limits {
    page: 2,
    ..limits()
  };
  let listed = server.client_with(limits).list().await.expect("a listing");
  assert_eq!(ids(&listed), ["lab/b", "lab/c"]);
}

#[tokio::test]
async fn an_app_listed_twice_is_one_app() {
  let apps = [app("lab/a"), app("lab/b"), app("lab/a")];
  let server = Server::start(move |_, request| ok(&page_of(&apps, request))).await;
  let listed = server.list().await.expect("a listing");
  assert_eq!(ids(&listed), ["lab/a", "lab/b"]);
}

#[tokio::test]
async fn one_app_can_be_read() {
  let server = Server::answering("200 OK", app("lab/a?b c%2e").to_string()).await;
  let app = server.client().read("lab/a?b c%2e").await.expect("an app");
  assert_eq!(
    (app.workspace.as_str(), app.alias.as_str()),
    ("lab", "a?b c%2e")
  );
  let requests = server.requests();
  assert!(
    requests[0].starts_with("GET /lab/artifacts/a%3Fb%20c%252e?silent=true "),
    "{}",
    requests[0]
  );
}

#[tokio::test]
async fn an_id_that_would_lead_elsewhere_is_not_asked_for() {
  let server = Server::answering("200 OK", app("lab/a").to_string()).await;
  for id in [
    "", "lab", "lab/", "/a", "lab/..", "../a", "lab/a/b", "lab/.", "a\\b/c", "lab/\n",
  ] {
    let error = server.client().read(id).await.expect_err(id);
    assert!(matches!(error, ArtifactsError::Id(_)), "{id}: {error}");
  }
  assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_published_app_of_the_collection_is_not_read() {
  let cases = [
    ("versions", json!([])),
    ("type", json!("agent")),
    ("parent_id", json!("lab/others")),
    ("parent_id", Value::Null),
    ("id", json!("lab/b")),
  ];
  for (name, value) in cases {
    let mut document = app("lab/a");
    document[name] = value;
    let server = Server::answering("200 OK", document.to_string()).await;
    let error = server.client().read("lab/a").await.expect_err(name);
    assert!(
      matches!(error, ArtifactsError::NotPublished { .. }),
      "{name}: {error}"
    );
    assert!(error.to_string().contains("lab/agents"), "{name}: {error}");
  }
}

#[tokio::test]
async fn a_token_is_made_for_the_workspace_and_a_time() {
  let made = web_token(&json!({"https://a/roles": [], "scope": "ws:lab#rw wid:lab"}));
  let server = Server::answering("200 OK", json!(made).to_string()).await;
  let client = server.client();
  let token = client.token_for("lab/a", Duration::from_secs(90)).await;
  assert_eq!(token.expect("a token").expose(), made);
  client
    .token_for("lab/a", Duration::ZERO)
    .await
    .expect("a token");
  let requests = server.requests();
  assert!(
    requests[0].starts_with("POST /lab/services/ws/generate_token "),
    "{}",
    requests[0]
  );
  let bodies: Vec<Value> = requests
    .iter()
    .map(|request| {
      let (_, body) = request.split_once("\r\n\r\n").expect("a body");
      serde_json::from_str(body).expect("JSON")
    })
    .collect();
  let config = |seconds: u64| json!({"config": {"workspace": "lab", "permission": "read_write", "expires_in": seconds}});
  assert_eq!(bodies, [config(90), config(1)]);
}

#[tokio::test]
async fn without_a_token_no_token_is_asked_for() {
  let server = Server::answering("200 OK", json!("made").to_string()).await;
  let anonymous = HyphaConfig {
    token: None,
    ..config(server.url.clone())
  };
  let client = Artifacts::new(anonymous).expect("good settings");
  let error = client.token_for("lab/a", Duration::from_secs(1)).await;
  assert!(matches!(error, Err(ArtifactsError::NoToken)), "{error:?}");
  assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn a_token_that_opens_every_workspace_is_not_handed_out() {
  for length in 0..3 {
    let claims = json!({"padding": "~".repeat(length), "https://a/roles": ["user", "admin"]});
    let server = Server::answering("200 OK", json!(web_token(&claims)).to_string()).await;
    let error = server
      .client()
      .token_for("lab/a", Duration::from_secs(1))
      .await;
    assert!(
      matches!(error, Err(ArtifactsError::TooPowerful)),
      "{error:?}"
    );
  }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
  for body in [
    r#""""#,
    r#""two words""#,
    "null",
    "{}",
    r#"{"token": "x"}"#,
    r#""line\nbreak""#,
  ] {
    let server = Server::answering("200 OK", body).await;
    let error = server
      .client()
      .token_for("lab/a", Duration::from_secs(1))
      .await;
    assert!(
      matches!(error, Err(ArtifactsError::Malformed { .. })),
      "{body}: {error:?}"
    );
  }
}

#[tokio::test]
async fn secrets_are_never_shown() {
  let server = Server::answering("401 Unauthorized", "{}").await;
  let config = config(server.url.clone());
  let client = Artifacts::new(config.clone()).expect("good settings");
  let error = client.list().await.expect_err("refused");
  let secret = Secret::new(TOKEN);
  let mut shown = String::new();
  write!(
    shown,
    "{config:?} {client:?} {error:?} {error} {secret:?} {secret}"
  )
  .expect("a string");
  assert!(
    shown.contains("[secret]") && !shown.contains(TOKEN),
    "{shown}"
  );
}

#[test]
fn settings_that_cannot_work_are_refused() {
  let url = |text: &str| Url::parse(text).expect("a URL");
  let base = || config(url("http://hypha.example"));
  let with_url = |text| HyphaConfig {
    server_url: url(text),
    ..base()
  };
  let with_token = |text| HyphaConfig {
    token: Some(Secret::new(text)),
    ..base()
  };
  let with_collection = |text: &str| HyphaConfig {
    collection: text.into(),
    ..base()
  };
  let cases = [
    (with_url("ftp://hypha.example"), "HYPHA_SERVER_URL"),
    (with_url("data:text/plain,x"), "HYPHA_SERVER_URL"),
    (
      with_url("https://user:pa55@hypha.example"),
      "leave out user name and password",
    ),
    (
      with_url("https://hypha.example/?token=pa55"),
      "leave out what follows",
    ),
    (with_token(""), "HYPHA_TOKEN"),
    (with_token("pa55 word"), "HYPHA_TOKEN"),
    (with_token("pa55\r\nx: y"), "HYPHA_TOKEN"),
    (
      with_collection("agents"),
      "collection `agents`: write workspace/alias",
    ),
    (with_collection("lab/../x"), "write workspace/alias"),
    (
      HyphaConfig {
        workspace: Some("a/b".into()),
        ..base()
      },
      "HYPHA_WORKSPACE",
    ),
  ];
  for (config, expected) in cases {
    let error = Artifacts::new(config).expect_err(expected).to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("pa55"), "{error}");
  }
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
  let folder = tempfile::tempdir().expect("a folder");
  let file = folder.path().join("authorities.pem");
  let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
  for (content, expected) in [
    (None, "No such file"),
    (Some("no certificates"), "no usable PEM certificate"),
    (Some(broken), "no usable PEM certificate"),
  ] {
    if let Some(content) = content {
      std::fs::write(&file, content).expect("written");
    }
    let config = HyphaConfig {
      certificates: Some(file.clone()),
      ..config("https://hypha.example".parse().expect("a URL"))
    };
    let error = Artifacts::new(config).expect_err(expected).to_string();
    assert!(
      error.contains("authorities.pem") && error.contains(expected),
      "{error}"
    );
  }
}
