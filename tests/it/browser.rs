//! What a real browser makes of the server: pages of other origins read and change nothing, and the page
//! of the API works. The scripts are in `../browser`.

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use tokio::process::Command;

use crate::support::App;
use crate::support::Client;
use crate::support::Loopback;
use crate::support::Reply;
use crate::support::Server;
use crate::support::ServerBuilder;
use crate::support::in_time;

const TOKEN: &str = "of-the-operator";
const ECHO: &str = "Deno.serve((request) => {
  if (request.headers.get('upgrade')) return Deno.upgradeWebSocket(request).response;
  return new Response('of the app', { headers: { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' } });
});";

/// What `scripts/test.sh` says.
fn variable(name: &str) -> String {
  std::env::var(name).unwrap_or_else(|_| panic!("{name}: scripts/test.sh sets it"))
}

/// What a script prints.
async fn run(script: &str, arguments: &Value) -> Value {
  let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
  let mut command = Command::new("node");
  command
    .arg(folder.join(script))
    .arg(arguments.to_string())
    .env(
      "BROWSER_TEST_NODE_MODULES",
      variable("BROWSER_TEST_NODE_MODULES"),
    )
    .env("BROWSER_TEST_CHROMIUM", variable("BROWSER_TEST_CHROMIUM"))
    .kill_on_drop(true);
  let output = in_time(script, command.output()).await;
  let output = output.expect("node can be started: scripts/test.sh installs it");
  let (said, wrong) = (
    String::from_utf8_lossy(&output.stdout),
    String::from_utf8_lossy(&output.stderr),
  );
  assert!(output.status.success(), "{said}\n{wrong}");
  serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}\n{wrong}"))
}

/// An empty page at every path.
fn page() -> Loopback {
  Loopback::start(|_| Reply::content("text/html", "<!doctype html><title>A page</title><body>"))
}

fn port(page: &Loopback) -> String {
  let url = page.url("");
  url.rsplit(':').next().expect("a port").to_owned()
}

fn engine(server: &Server) -> String {
  format!("http://localhost:{}", server.port())
}

fn client(server: &Server, token: Option<&str>) -> Client {
  match token {
    Some(token) => server.client().with_token(token),
    None => server.client(),
  }
}

async fn echo(client: &Client) -> App {
  let app = client.post_app(json!({"startup_script": ECHO})).await;
  app.ready().await;
  app
}

fn builder(token: Option<&str>) -> ServerBuilder {
  let builder = Server::builder();
  match token {
    Some(token) => builder.env("ENGINE_TOKENS", format!("{token}=*")),
    None => builder,
  }
}

#[tokio::test]
async fn a_page_of_another_origin_reads_and_changes_nothing() {
  for token in [None, Some(TOKEN)] {
    let server = builder(token).start();
    let client = client(&server, token);
    let app = echo(&client).await;
    let page = page();
    for host in ["localhost", "evil.test"] {
      // A page that found the token out does not get further, either.
      let arguments = json!({
        "page": format!("http://{host}:{}/", port(&page)),
        "engine": engine(&server),
        "app": format!("{}{}", engine(&server), app.path("/")),
        "token": token,
      });
      let results = run("page_of_an_origin.mjs", &arguments).await;
      let expected = json!({
        "get": "TypeError",
        "getWithoutCors": "TypeError",
        "health": "TypeError",
        "postText": "TypeError",
        "postTextWithCors": "TypeError",
        "postJson": "TypeError",
        "postApp": "TypeError",
        "app": "TypeError",
        "form": "sent",
        "beacon": "true",
        "image": "error",
        "script": "error",
        "frame": "closed",
        "events": "error",
        "webSocket": "error",
      });
      assert_eq!(results, expected, "{host}, token {token:?}");
    }
    assert_eq!(client.list("").await, Vec::<Value>::new());
    let apps = client.apps().await;
    assert_eq!(apps.len(), 1, "{apps:?}");
  }
}

#[tokio::test]
async fn a_page_of_a_listed_origin_reads_and_creates() {
  let page = page();
  let origin = format!("http://evil.test:{}", port(&page));
  let server = Server::builder().env("ENGINE_ORIGINS", &origin).start();
  let client = server.client();
  let app = echo(&client).await;
  let arguments = json!({
    "page": format!("{origin}/"),
    "engine": engine(&server),
    "app": format!("{}{}", engine(&server), app.path("/")),
  });
  let results = run("page_of_an_origin.mjs", &arguments).await;
  assert_eq!(results["get"], "200 []", "{results}");
  assert_eq!(results["app"], "200 of the app");
  let made = results["postJson"].as_str().expect("a text");
  assert!(made.starts_with("200 {\"id\":\"by-json\""), "{made}");
  for (name, expected) in [
    ("events", "open"),
    ("webSocket", "open"),
    ("frame", "closed"),
  ] {
    assert_eq!(results[name], expected, "{results}");
  }
  let ids: Vec<Value> = client
    .list("")
    .await
    .iter()
    .map(|k| k["id"].clone())
    .collect();
  // Bodies that a form can send are still none of JSON.
  assert_eq!(ids, ["by-json"]);
}

#[tokio::test]
async fn a_name_that_was_pointed_here_leads_nowhere() {
  let server = Server::builder().start();
  let app = echo(&server.client()).await;
  let paths = ["/", "/api/kernels", "/api/docs/", "/health", &app.path("/")];
  let addresses = paths.map(|path| format!("http://rebind.test:{}{path}", server.port()));
  let statuses = run("rebinding.mjs", &json!({ "addresses": addresses })).await;
  assert_eq!(statuses, json!([421, 421, 421, 421, 421]));
}

#[tokio::test]
async fn the_page_of_the_api_loads_and_asks() {
  for token in [None, Some(TOKEN)] {
    let server = builder(token).start();
    let arguments = json!({
      "engine": engine(&server),
      "token": token,
      "screenshot": std::env::var("BROWSER_TEST_SCREENSHOT").ok(),
    });
    let seen = run("api_page.mjs", &arguments).await;
    assert_eq!(seen["wrong"], json!([]), "{seen}");
    assert_eq!(seen["status"], "200", "{seen}");
    let answer = seen["answer"].as_str().expect("a text");
    assert!(answer.contains("uptimeSeconds"), "{answer}");
    assert!(seen["operations"].as_u64() > Some(40), "{seen}");
  }
}

/// Logs in, greets, streams, echoes, and would take over what it can.
const SITE: &str = r#"
const sent = (body, type, headers = {}) =>
  new Response(body, { headers: { "content-type": type, "access-control-allow-origin": "*", ...headers } });
Deno.serve(async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/login") {
    const name = (await request.formData()).get("name");
    const headers = { location: "/home", "set-cookie": `user=${name}; Path=/; HttpOnly; Domain=localhost` };
    return new Response(null, { status: 303, headers });
  }
  if (pathname === "/home") return sent(`Welcome ${request.headers.get("cookie")}`, "text/html");
  if (pathname === "/events") {
    const event = new TextEncoder().encode("data: an event\n\n");
    return sent(ReadableStream.from([event]), "text/event-stream");
  }
  if (pathname === "/socket") {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = ({ data }) => socket.send(`echo of ${data}`);
    return response;
  }
  if (pathname === "/echo") return sent(await request.text(), "text/plain");
  if (pathname === "/data.js") return sent("globalThis.taken = 'a secret'", "text/javascript");
  if (pathname === "/sub/worker.js") {
    const worker = "addEventListener('fetch', (event) => event.respondWith(new Response('of the worker')))";
    return sent(worker, "text/javascript", { "service-worker-allowed": "/" });
  }
  return sent("<form method=post action=login><input name=name value=ada><button>In</button></form>", "text/html", {
    "clear-site-data": '"*"',
  });
});"#;

#[tokio::test]
async fn pages_of_apps_have_origins_of_their_own() {
  let server = Server::builder().start();
  let client = server.client();
  for id in ["first", "Second_app"] {
    let app = client
      .post_app(json!({"id": id, "startup_script": SITE}))
      .await;
    app.ready().await;
    #[expect(clippy::mem_forget, reason = "it ends with the server")]
    std::mem::forget(app);
  }
  let arguments = json!({"engine": engine(&server), "apps": ["first", "Second_app"]});
  let results = run("origins_of_apps.mjs", &arguments).await;
  let port = server.port();
  assert_eq!(
    results["addresses"][0],
    format!("http://first.localhost:{port}/?seen"),
    "{results}"
  );
  let second = results["addresses"][1].as_str().expect("an address");
  assert!(second.starts_with("http://second-app-"), "{second}");
  assert_eq!(
    results["addresses"][2],
    format!("http://first.localhost:{port}/")
  );
  assert_eq!(results["welcome"], "Welcome user=ada");
  assert_eq!(
    results["own"],
    json!({
      "stored": "secret",
      "event": "an event",
      "echo": "echo of hello",
      "posted": "text",
      "cookies": "script=1",
    })
  );
  assert_eq!(results["worker"], "of the worker");
  assert_eq!(
    results["foreign"],
    json!({
      "storage": [],
      "cookies": "",
      "app": "TypeError",
      "appWithCookies": "TypeError",
      "appByPath": "TypeError",
      "api": "TypeError",
      "scriptOfApp": "error",
      "scriptByPath": "error",
      "image": "error",
      "frameOfApp": "closed",
      "frameOfEngine": "closed",
      "socket": "error",
      "workerForOther": "SecurityError",
      "workerForEngine": "SecurityError",
    })
  );
  assert_eq!(results["controlled"], json!([false, false]));
  assert_eq!(results["api"], "[]");
}
