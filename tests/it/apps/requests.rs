//! Requests to apps reach them as they are, and answers come back as they are.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::app;
use super::apps_server;
use crate::support::App;
use crate::support::Server;
use crate::support::unique;

/// Answers with what it was asked.
const ECHO: &str = "
  Deno.serve(async (request) => Response.json({
    method: request.method,
    url: request.url,
    headers: Object.fromEntries(request.headers),
    body: await request.text(),
  }, { headers: { 'x-method': request.method } }));";

async fn echo() -> App {
  let app = app(ECHO).await;
  app.ready().await;
  app
}

/// One that shows redirects instead of following them.
fn strict() -> reqwest::Client {
  reqwest::Client::builder()
    .redirect(reqwest::redirect::Policy::none())
    .no_proxy()
    .build()
    .expect("a client can be made")
}

fn url(path: &str) -> String {
  format!("http://127.0.0.1:{}{path}", apps_server().port())
}

#[tokio::test]
async fn an_app_sees_the_path_below_its_id_and_the_query_as_they_were_sent() {
  let app = echo().await;
  for path in [
    "/",
    "/?",
    "/a/b?c=d&c=e",
    "/a%2Fb/%C3%A9?x=%26",
    "//double//slash",
    "/apps/other/",
  ] {
    let seen = app.client.get(&app.path(path)).await.ok();
    let port = apps_server().port();
    assert_eq!(seen["url"], format!("http://127.0.0.1:{port}{path}"));
  }
}

#[tokio::test]
async fn an_app_is_told_who_asks_and_under_which_address() {
  let app = echo().await;
  let host = format!("127.0.0.1:{}", apps_server().port());
  let seen = app.client.get(&app.path("/x")).await.ok();
  let headers = &seen["headers"];
  assert_eq!(headers["x-forwarded-prefix"], format!("/apps/{}", app.id));
  assert_eq!(headers["x-forwarded-host"], host);
  assert_eq!(headers["x-forwarded-proto"], "http");
  assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
  assert_eq!(headers["host"], host);
}

#[tokio::test]
async fn the_prefix_that_a_client_makes_up_does_not_reach_the_app() {
  let app = echo().await;
  let request = app
    .client
    .request(Method::GET, &app.path("/"))
    .header("x-forwarded-prefix", "/evil")
    .header("x-forwarded-host", "evil.example");
  let seen = app.client.read(request).await.ok();
  assert_eq!(
    seen["headers"]["x-forwarded-prefix"],
    format!("/apps/{}", app.id)
  );
  let host = seen["headers"]["x-forwarded-host"].as_str();
  assert!(host.is_some_and(|host| !host.contains("evil")), "{seen}");
}

#[tokio::test]
async fn every_method_and_body_reaches_the_app() {
  let app = echo().await;
  for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
    let request = app
      .client
      .request(
        Method::from_bytes(method.as_bytes()).expect("a method"),
        &app.path("/"),
      )
      .header("authorization", "Basic eDp5")
      .body("grüße");
    let seen = app.client.read(request).await.ok();
    assert_eq!(
      (&seen["method"], &seen["body"]),
      (&json!(method), &json!("grüße"))
    );
    assert_eq!(seen["headers"]["authorization"], "Basic eDp5");
  }
}

#[tokio::test]
async fn head_reaches_the_app_and_has_no_body() {
  let app = echo().await;
  let answer = app
    .client
    .read(app.client.request(Method::HEAD, &app.path("/")))
    .await;
  assert_eq!((answer.status, answer.text.as_str()), (200, ""));
  assert_eq!(answer.header("x-method"), Some("HEAD"));
}

#[tokio::test]
async fn preflight_requests_are_the_apps_to_answer() {
  let server = Server::builder()
    .env("ENGINE_ORIGINS", "https://own.example")
    .start();
  let script = "Deno.serve((request) => new Response(null, {
    status: 204, headers: { 'access-control-allow-origin': 'https://own.example', 'x-seen': request.method },
  }));";
  let app = server
    .client()
    .post_app(json!({"startup_script": script}))
    .await;
  app.ready().await;
  let request = app
    .client
    .request(Method::OPTIONS, &app.path("/"))
    .header("origin", "https://own.example")
    .header("access-control-request-method", "PUT");
  let answer = app.client.read(request).await;
  assert_eq!(answer.status, 204);
  assert_eq!(answer.header("x-seen"), Some("OPTIONS"));
  let origins: Vec<_> = answer
    .headers
    .get_all("access-control-allow-origin")
    .iter()
    .collect();
  assert_eq!(origins, ["https://own.example"]);
}

#[tokio::test]
async fn answers_come_back_as_the_app_gave_them() {
  let app = app(
    "Deno.serve(() => {
       const headers = new Headers({ location: '/elsewhere', 'content-type': 'text/x-own', etag: '\"1\"' });
       headers.append('set-cookie', 'a=1; Path=/');
       headers.append('set-cookie', 'b=2');
       return new Response(new Uint8Array([0, 255, 10]), { status: 303, headers });
     });",
  )
  .await;
  app.ready().await;
  let answer = strict()
    .get(url(&app.path("/")))
    .send()
    .await
    .expect("an answer");
  assert_eq!(answer.status(), 303);
  assert_eq!(answer.headers()["location"], "/elsewhere");
  assert_eq!(answer.headers()["content-type"], "text/x-own");
  assert_eq!(answer.headers()["etag"], "\"1\"");
  let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
  // For this app only.
  let path = format!("a=1; Path=/apps/{}/", app.id);
  assert_eq!(cookies, [path.as_str(), "b=2"]);
  let body = answer.bytes().await.expect("a body");
  assert_eq!(&body[..], [0, 255, 10]);
}

#[tokio::test]
async fn the_address_without_a_slash_leads_to_the_one_with_it() {
  let app = echo().await;
  for (path, location) in [("", app.path("/")), ("?a=b&c", app.path("/?a=b&c"))] {
    let answer = strict()
      .post(url(&app.path(path)))
      .send()
      .await
      .expect("an answer");
    assert_eq!(answer.status(), 308, "{path}");
    assert_eq!(answer.headers()["location"], location);
  }
}

#[tokio::test]
async fn an_unknown_app_is_not_found_and_an_impossible_id_neither() {
  let client = apps_server().client();
  let id = unique("nobody");
  client
    .get(&format!("/apps/{id}/"))
    .await
    .refused(404, &[&id, "not found"]);
  client
    .get(&format!("/api/apps/{id}"))
    .await
    .refused(404, &[&id, "not found"]);
  for path in ["/apps/a%20b/", "/apps/.hidden/", "/apps/%2e%2e/x"] {
    let answer = strict().get(url(path)).send().await.expect("an answer");
    let status = answer.status().as_u16();
    assert!((400..=404).contains(&status), "{path}: {status}");
  }
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
  let app = app(
    "let served = 0;
     Deno.serve(async (request) => {
       await new Promise((resolve) => setTimeout(resolve, 5));
       served += 1;
       return Response.json({ path: new URL(request.url).pathname, served });
     });",
  )
  .await;
  app.ready().await;
  let asked = (0..100).map(|i| {
    let app = &app;
    async move {
      let seen = app.client.get(&app.path(&format!("/{i}"))).await.ok();
      assert_eq!(seen["path"], format!("/{i}"));
    }
  });
  futures::future::join_all(asked).await;
  assert_eq!(app.client.get(&app.path("/")).await.ok()["served"], 101);
}

#[tokio::test]
async fn an_app_that_breaks_an_answer_off_does_not_break_the_next_one() {
  let app = app(
    "Deno.serve((request) => new URL(request.url).pathname === '/breaks'
       ? new Response(new ReadableStream({
           start(body) {
             body.enqueue(new TextEncoder().encode('half'));
             setTimeout(() => body.error(new Error('broken')), 20);
           },
         }))
       : new Response('whole'));",
  )
  .await;
  app.ready().await;
  let response = app
    .client
    .send(app.client.request(Method::GET, &app.path("/breaks")))
    .await;
  assert_eq!(response.status(), 200);
  assert!(
    response.bytes().await.is_err(),
    "the answer is not complete"
  );
  app.answers("whole").await;
}

#[tokio::test]
async fn a_program_of_node_serves_too() {
  let app = app(
    "import { createServer } from 'node:http';
     createServer((request, response) => {
       response.setHeader('x-node', 'yes');
       response.end(request.url);
     }).listen(3000);",
  )
  .await;
  let answer = app.get("/a?b").await;
  assert_eq!((answer.status, answer.text.as_str()), (200, "/a?b"));
  assert_eq!(answer.header("x-node"), Some("yes"));
}

#[tokio::test]
async fn a_default_export_with_fetch_is_not_served_as_deno_run_does_not() {
  let app = app("export default { fetch: () => new Response('exported') };").await;
  let info = app
    .shows("settled", |info| {
      info["ready"] == true || info["status"] == "exited"
    })
    .await;
  assert_eq!(info["status"], "exited");
}

#[tokio::test]
async fn requests_for_the_api_never_reach_an_app() {
  let app = app("Deno.serve(() => new Response('app'));").await;
  app.ready().await;
  let health: Value = app.client.get("/api/status").await.ok();
  assert_eq!(health["status"], "ok");
}
