//! What an operator asks of apps: lists, figures, and code executed beside the program.

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use super::app;
use super::app_of;
use super::apps_server;
use crate::support::Sse;
use crate::support::keys;
use crate::support::kill;

const SERVES: &str = "Deno.serve(() => new Response('up'));";

#[tokio::test]
async fn the_list_shows_every_app_in_the_order_of_their_ids() {
  let (b, a) = (app(SERVES).await, app(SERVES).await);
  a.ready().await;
  let list = a.client.apps().await;
  let ids: Vec<&str> = list.iter().filter_map(|app| app["id"].as_str()).collect();
  assert!(ids.is_sorted(), "{ids:?}");
  assert!(ids.contains(&b.id.as_str()));
  let entry = list
    .iter()
    .find(|app| app["id"] == a.id)
    .expect("is listed");
  let info = a.info().await;
  for (name, value) in entry.as_object().expect("an object") {
    assert_eq!(info[name], *value, "{name}");
  }
}

#[tokio::test]
async fn stats_tell_what_an_app_uses() {
  let app = app(
    "Deno.serve(() => { const end = Date.now() + 300; while (Date.now() < end); return new Response('busy'); });",
  )
  .await;
  app.ready().await;
  let stats = || async { app.client.get(&app.api("/stats")).await.ok() };
  let first = stats().await;
  assert_eq!(
    keys(&first),
    [
      "cpuPercent",
      "cpuSeconds",
      "proportionalBytes",
      "residentBytes",
      "restarts",
      "uptime"
    ]
  );
  assert!(first["residentBytes"].as_u64() > Some(1 << 20), "{first}");
  assert!(first["proportionalBytes"].as_u64() <= first["residentBytes"].as_u64());
  app.answers("busy").await;
  let second = stats().await;
  let more = |name: &str| second[name].as_f64() > first[name].as_f64();
  assert!(more("cpuSeconds") && more("uptime"), "{first} {second}");
  assert!(second["cpuPercent"].as_f64() > Some(0.0), "{second}");
  app.stop().await;
  assert_eq!(stats().await, json!({"restarts": 0}));
}

#[tokio::test]
async fn executed_code_sees_what_the_main_module_made_global() {
  let app = app(
    "globalThis.count = 1;
     const hidden = 'of the module';
     Deno.serve(() => new Response(String(globalThis.count)));",
  )
  .await;
  app.answers("1").await;
  app.gives("count += 41; count", "42").await;
  app.answers("42").await;
  app.gives("typeof hidden", "\"undefined\"").await;
  let events = app
    .execute("console.log('said'); throw new RangeError('no')")
    .await;
  assert_eq!(events.stdout(), "said\n");
  assert_eq!(
    (events.ename(), events.evalue()),
    (Some("RangeError"), "no")
  );
  // An error in such code is no failure of the app.
  app.answers("42").await;
  assert_eq!(app.info().await["restarts"], 0);
}

#[tokio::test]
async fn executed_code_calls_the_functions_of_a_python_program() {
  let script = "
import asyncio
counts = [1, 2]
def total():
  return sum(counts)
async def work():
  while True:
    await asyncio.sleep(60)
task = asyncio.create_task(work())
print('ready', flush=True)
";
  let app = app_of(json!({"lang": "python", "startup_script": script})).await;
  app.says("ready").await;
  app.gives("total()", "3").await;
  app.gives("counts.append(4); total()", "7").await;
  app.gives("task.done()", "False").await;
  app
    .gives("await asyncio.sleep(0, 'awaited')", "'awaited'")
    .await;
  let events = app.execute("nobody()").await;
  assert_eq!(events.ename(), Some("NameError"));
}

#[tokio::test]
async fn code_can_be_followed_as_server_sent_events() {
  let app = app(SERVES).await;
  app.ready().await;
  let request = app
    .client
    .request(Method::POST, &app.api("/execute/stream"))
    .json(&json!({"code": "console.log('one'); 1 + 1"}));
  let events = Sse::new(app.client.send(request).await).rest().await;
  let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
  assert_eq!(kinds, ["stream", "execute_result"], "{events:?}");
  assert_eq!(events[1]["data"]["data"]["text/plain"], "2");
}

#[tokio::test]
async fn requests_are_served_while_code_is_executed() {
  let app = app(
    "globalThis.told = Promise.withResolvers();
     Deno.serve((request) => {
       if (request.method === 'POST') told.resolve('by a request');
       return new Response('up');
     });",
  )
  .await;
  app.ready().await;
  let request = app
    .client
    .request(Method::POST, &app.api("/execute/stream"))
    .json(&json!({"code": "console.log('waits'); await told.promise"}));
  let mut events = Sse::new(app.client.send(request).await);
  events.until("stream").await;
  app.answers("up").await;
  app.client.post_empty(&app.path("/")).await;
  let result = events.until("execute_result").await;
  assert_eq!(result["data"]["data"]["text/plain"], "\"by a request\"");
}

#[tokio::test]
async fn code_that_runs_ends_with_the_instance_that_is_replaced() {
  let app = app(SERVES).await;
  app.ready().await;
  let request = app
    .client
    .request(Method::POST, &app.api("/execute/stream"))
    .json(&json!({"code": "console.log('waits'); await new Promise(() => {})"}));
  let mut events = Sse::new(app.client.send(request).await);
  events.until("stream").await;
  app.reload().await.ok();
  events.until("execute_error").await;
  assert_eq!(events.event().await, None);
}

#[tokio::test]
async fn code_cannot_be_executed_where_there_is_no_process() {
  let app = app(SERVES).await;
  app.ready().await;
  app.stop().await;
  let answer = app
    .client
    .post(&app.api("/execute"), &json!({"code": "1"}))
    .await;
  answer.refused(409, &[&app.id, "start it"]);
  let answer = app.client.post(&app.api("/execute"), &json!({})).await;
  assert_eq!(answer.status, 400, "{}", answer.text);
}

#[tokio::test]
async fn code_that_ends_the_process_fails_the_app_and_it_is_started_again() {
  let app = app(SERVES).await;
  app.ready().await;
  let events = app.execute("Deno.exit(9)").await;
  assert!(events.error().is_some(), "{events:?}");
  app
    .shows("was restarted", |info| {
      info["restarts"] == 1 && info["ready"] == true
    })
    .await;
  app.answers("up").await;
}

#[tokio::test]
async fn code_that_runs_when_the_process_is_killed_ends_with_an_error() {
  let app = app(SERVES).await;
  app.ready().await;
  let pid = app.pid().await;
  let request = app
    .client
    .request(Method::POST, &app.api("/execute/stream"))
    .json(&json!({"code": "console.log('running'); await new Promise(() => {})"}));
  let mut events = Sse::new(app.client.send(request).await);
  events.until("stream").await;
  kill(pid, Signal::KILL);
  let error = events.until("execute_error").await;
  assert_eq!(error["data"]["ename"], "KernelDied", "{error}");
}

#[tokio::test]
async fn what_is_asked_of_an_unknown_app_is_not_found() {
  let client = apps_server().client();
  for (method, rest) in [
    (Method::GET, ""),
    (Method::DELETE, ""),
    (Method::GET, "/logs"),
    (Method::GET, "/logs/stream"),
    (Method::GET, "/stats"),
    (Method::POST, "/start"),
    (Method::POST, "/stop"),
    (Method::POST, "/reload"),
  ] {
    let path = format!("/api/apps/no-such-app{rest}");
    let answer = client.read(client.request(method, &path)).await;
    answer.refused(404, &["no-such-app", "not found"]);
  }
  for path in ["/api/apps/a%20b", "/api/apps/..%2Fa"] {
    client.get(path).await.refused(404, &["not found"]);
  }
}

#[tokio::test]
async fn published_apps_are_looked_for_only_where_they_are_wanted() {
  let answer = apps_server().client().post_empty("/api/apps/update").await;
  answer.refused(409, &["--load-apps"]);
}
