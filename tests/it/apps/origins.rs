//! Where browsers find apps, and what of an app's answers reaches no further than the app.

use std::net::TcpListener;

use reqwest::Method;
use reqwest::header;
use serde_json::Value;
use serde_json::json;

use super::app;
use super::apps_server;
use crate::support::App;
use crate::support::Client;
use crate::support::Server;

/// Tells what it got, and says all that could reach beyond it.
const LOUD: &str = "
  Deno.serve((request) => {
    const headers = new Headers({
      'content-type': 'text/html',
      'service-worker-allowed': '/',
      'clear-site-data': '\"*\"',
      'strict-transport-security': 'max-age=1',
      'alt-svc': 'h2=\":1\"',
    });
    headers.append('set-cookie', 'a=1; Path=/; Domain=localhost');
    headers.append('set-cookie', 'deno_app_engine=forged; Path=/');
    const { method, url } = request;
    const told = { method, url, headers: Object.fromEntries(request.headers) };
    return new Response(JSON.stringify(told), { headers });
  });";

/// Shows redirects instead of following them, and has `host` lead to a server.
async fn ask(port: u16, host: &str, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
  let client = reqwest::Client::builder()
    .redirect(reqwest::redirect::Policy::none())
    .no_proxy()
    .build()
    .expect("a client can be made");
  let mut request = client
    .get(format!("http://127.0.0.1:{port}{path}"))
    .header(header::HOST, host);
  for (name, value) in headers {
    request = request.header(*name, *value);
  }
  request.send().await.expect("an answer")
}

fn location(answer: &reqwest::Response) -> Option<&str> {
  answer.headers().get(header::LOCATION)?.to_str().ok()
}

async fn loud(client: &Client, id: &str) -> App {
  let app = client
    .post_app(json!({"id": id, "startup_script": LOUD}))
    .await;
  app.ready().await;
  app
}

const VISIT: [(&str, &str); 2] = [
  ("sec-fetch-mode", "navigate"),
  ("sec-fetch-dest", "document"),
];
const OLD_VISIT: [(&str, &str); 1] = [("accept", "text/html,*/*;q=0.8")];

#[tokio::test]
async fn browsers_are_led_to_the_apps_own_host_and_clients_are_not() {
  let app = app(LOUD).await;
  app.ready().await;
  let port = apps_server().port();
  for visit in [&VISIT[..], &OLD_VISIT[..]] {
    for (path, expected) in [
      ("/a?b=%20", "/a?b=%20"),
      ("/", "/"),
      ("", "/"),
      ("?c", "/?c"),
    ] {
      for host in ["localhost:1", "127.0.0.1:1"] {
        let answer = ask(port, host, &app.path(path), visit).await;
        assert_eq!(answer.status(), 307, "{path}");
        let expected = format!("//{}.localhost:1{expected}", app.id);
        assert_eq!(location(&answer), Some(expected.as_str()));
      }
    }
  }
  for headers in [
    &[("accept", "*/*")][..],
    &[("accept", "text/html"), ("authorization", "Bearer x")],
    &[("sec-fetch-mode", "cors"), ("accept", "text/html")],
  ] {
    let answer = ask(port, "localhost:1", &app.path("/"), headers).await;
    assert_eq!(answer.status(), 200, "{headers:?}");
    assert!(!answer.headers().contains_key("content-security-policy"));
  }
  let missing = ask(port, "localhost:1", "/apps/no-such-app/", &VISIT).await;
  assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn every_path_of_an_apps_own_host_is_the_apps() {
  let app = app(LOUD).await;
  app.ready().await;
  let port = apps_server().port();
  let host = format!("{}.localhost:{port}", app.id);
  for path in ["/", "/api/kernels?x", "/apps/other/", "/health", "/a%2Fb"] {
    let answer = ask(port, &host, path, &[("x-forwarded-prefix", "/forged")]).await;
    assert_eq!(answer.status(), 200, "{path}");
    let told: Value = answer.json().await.expect("what the app saw");
    assert_eq!(told["url"], format!("http://{host}{path}"));
    assert_eq!(told["headers"]["x-forwarded-prefix"], Value::Null);
    assert_eq!(told["headers"]["x-forwarded-host"], host);
  }
  let missing = ask(port, "no-such-app.localhost", "/", &[]).await;
  assert_eq!(missing.status(), 404);
  let text = missing.text().await.expect("a text");
  assert!(text.contains("no-such-app"), "{text}");
  for foreign in ["a.b.localhost", "hello.evil.test"] {
    assert_eq!(
      ask(port, foreign, "/", &[]).await.status(),
      421,
      "{foreign}"
    );
  }
}

#[tokio::test]
async fn an_app_says_nothing_for_others_and_knows_nothing_of_the_engines_cookie() {
  let app = app(LOUD).await;
  app.ready().await;
  let port = apps_server().port();
  let own = format!("{}.localhost:{port}", app.id);
  for (host, path, cookie) in [
    (
      "localhost",
      app.path("/"),
      format!("a=1; Path=/apps/{}/", app.id),
    ),
    (own.as_str(), "/".to_owned(), "a=1; Path=/".to_owned()),
  ] {
    let cookies = [("cookie", "b=2; deno_app_engine=secret; c=3")];
    let answer = ask(port, host, &path, &cookies).await;
    let headers = answer.headers().clone();
    for name in ["clear-site-data", "strict-transport-security", "alt-svc"] {
      assert!(!headers.contains_key(name), "{host}: {name}");
    }
    let allowed = headers.contains_key("service-worker-allowed");
    assert_eq!(allowed, host == own, "{host}");
    let set: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(set, [cookie.as_str()]);
    let told: Value = answer.json().await.expect("what the app saw");
    assert_eq!(told["headers"]["cookie"], "b=2; c=3");
  }
}

#[tokio::test]
async fn a_page_without_an_origin_of_its_own_is_sandboxed() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "operator=*")
    .env("APPS_PUBLIC", "true")
    .env("ENGINE_HOST", "0.0.0.0")
    .start();
  let app = loud(&server.client().with_token("operator"), "hello").await;
  for visit in [&VISIT[..], &OLD_VISIT[..], &[]] {
    let answer = ask(server.port(), "engine.example", &app.path("/"), visit).await;
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str();
    let policy = policy.expect("a text");
    assert!(policy.starts_with("sandbox "), "{policy}");
    assert!(!policy.contains("allow-same-origin"), "{policy}");
  }
  // Through a tunnel, say.
  let answer = ask(server.port(), "localhost:9", &app.path("/"), &VISIT).await;
  assert_eq!(location(&answer), Some("//hello.localhost:9/"));
}

#[tokio::test]
async fn apps_can_be_below_a_domain() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "operator=*")
    .env("APPS_PUBLIC", "true")
    .env("ENGINE_HOSTS", "engine.apps.example")
    .env("ENGINE_APPS_DOMAIN", "apps.example")
    .start();
  let client = server.client().with_token("operator");
  let (_hello, _mixed) = (
    loud(&client, "hello").await,
    loud(&client, "Mixed.Case").await,
  );
  let port = server.port();
  let visit = ask(port, "engine.apps.example", "/apps/hello/a", &VISIT).await;
  assert_eq!(location(&visit), Some("//hello.apps.example/a"));
  let visit = ask(port, "engine.apps.example:7", "/apps/Mixed.Case/", &VISIT).await;
  let home = location(&visit).expect("a redirect").to_owned();
  assert!(home.starts_with("//mixed-case-"), "{home}");
  let host = home.trim_matches('/');
  for host in ["hello.apps.example", host] {
    let answer = ask(port, host, "/api/kernels", &[]).await;
    assert_eq!(answer.status(), 200, "{host}");
    assert!(!answer.headers().contains_key("content-security-policy"));
  }
  let api = ask(port, "engine.apps.example", "/api/kernels", &[]).await;
  assert_eq!(api.status(), 401);
}

#[tokio::test]
async fn apps_can_have_a_port_where_nothing_else_is() {
  let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
  let apps = free.expect("a free port").port();
  let server = Server::builder()
    .env("ENGINE_APPS_PORT", apps.to_string())
    .start();
  let client = server.client();
  let app = loud(&client, "hello").await;
  let visit = ask(server.port(), "localhost:1", &app.path("/a"), &VISIT).await;
  let expected = format!("//localhost:{apps}/apps/hello/a");
  assert_eq!(location(&visit), Some(expected.as_str()));
  let page = ask(apps, "localhost", &app.path("/a"), &VISIT).await;
  assert_eq!(page.status(), 200);
  assert!(!page.headers().contains_key("content-security-policy"));
  for path in ["/", "/api/kernels", "/health", "/api/docs/"] {
    assert_eq!(
      ask(apps, "localhost", path, &[]).await.status(),
      404,
      "{path}"
    );
  }
  let answer = ask(server.port(), "localhost", &app.path("/"), &[]).await;
  assert_eq!(answer.status(), 200);
  // A page there is of the same site as the engine, and still nobody to it.
  let origin = format!("http://localhost:{apps}");
  let host = format!("localhost:{}", server.port());
  for path in ["/api/kernels", "/apps/hello/"] {
    let foreign = ask(server.port(), &host, path, &[("origin", &origin)]).await;
    assert_eq!(foreign.status(), 403, "{path}");
    let beside = ask(
      server.port(),
      &host,
      path,
      &[("sec-fetch-site", "same-site")],
    )
    .await;
    assert_eq!(beside.status(), 403, "{path}");
  }
  let taken = client
    .try_post_app(&json!({
      "id": "taken", "lang": "ts", "port": apps, "startup_script": "1",
      "permissions": {"net": [format!("127.0.0.1:{apps}")]},
    }))
    .await;
  assert_eq!(taken.status, 403, "{}", taken.text);
}

#[tokio::test]
async fn with_tokens_an_apps_own_host_asks_for_one() {
  let server = Server::builder().env("ENGINE_TOKENS", "operator=*").start();
  let client = server.client().with_token("operator");
  let _app = loud(&client, "hello").await;
  let asked = ask(server.port(), "hello.localhost", "/", &[]).await;
  assert_eq!(asked.status(), 401);
  let token = [("authorization", "Bearer operator")];
  let answer = ask(server.port(), "hello.localhost", "/", &token).await;
  assert_eq!(answer.status(), 200);
  let told: Value = answer.json().await.expect("what the app saw");
  assert_eq!(told["headers"]["authorization"], Value::Null);
  let preflight = client.request(Method::OPTIONS, "/apps/hello/");
  assert_eq!(client.read(preflight).await.status, 200);
}
