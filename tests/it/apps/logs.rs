//! Logs of apps: what they print and what happens to them, read and followed.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::app;
use super::app_of;
use crate::support::App;
use crate::support::keys;

/// An app that has printed `1` to `n` and ended.
async fn printed(n: usize) -> App {
  let script = format!("for (let i = 1; i <= {n}; i++) console.log(i);");
  let app = app(&script).await;
  app.becomes("exited").await;
  app
}

fn texts(entries: &[Value]) -> Vec<&str> {
  entries
    .iter()
    .filter_map(|entry| entry["text"].as_str())
    .collect()
}

fn numbers(entries: &[Value]) -> Vec<u64> {
  entries
    .iter()
    .filter_map(|entry| entry["seq"].as_u64())
    .collect()
}

#[tokio::test]
async fn an_entry_tells_who_said_what_and_when() {
  let app =
    app("console.log('out'); console.error('err'); Deno.serve(() => new Response(''));").await;
  app.ready().await;
  for (text, stream, level) in [
    ("out", "stdout", "info"),
    ("err", "stderr", "warning"),
    ("started", "engine", "info"),
  ] {
    let entry = app.says(text).await;
    assert_eq!(
      keys(&entry),
      ["instance", "level", "seq", "stream", "text", "time"]
    );
    assert_eq!(
      (
        &entry["text"],
        &entry["stream"],
        &entry["level"],
        &entry["instance"]
      ),
      (&json!(text), &json!(stream), &json!(level), &json!(1))
    );
  }
  let entries = app.logs("").await;
  let expected: Vec<u64> = (1..=entries.len() as u64).collect();
  assert_eq!(numbers(&entries), expected);
}

#[tokio::test]
async fn the_last_lines_are_shown_and_a_hundred_unless_more_are_asked_for() {
  let app = printed(300).await;
  let all = app.logs("?lines=10000").await;
  // The lines, that it started and that it ended.
  assert_eq!(all.len(), 302, "{:?}", texts(&all));
  assert_eq!(app.logs("").await, all[202..]);
  assert_eq!(app.logs("?lines=3").await, all[299..]);
  assert_eq!(app.logs("?lines=0").await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_came_since_an_entry_is_shown() {
  let app = printed(5).await;
  let all = app.logs("").await;
  let since = |seq: u64| {
    let app = &app;
    async move { app.logs(&format!("?since={seq}")).await }
  };
  assert_eq!(since(0).await, all);
  assert_eq!(since(3).await, all[3..]);
  assert_eq!(since(all.len() as u64).await, [] as [Value; 0]);
  assert_eq!(since(u64::MAX).await, [] as [Value; 0]);
  assert_eq!(app.logs("?since=1&lines=2").await, all[all.len() - 2..]);
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused() {
  let app = printed(1).await;
  for (query, words) in [
    ("?lines=many", "lines"),
    ("?since=-1", "since"),
    ("?line=1", "line"),
  ] {
    let answer = app.client.get(&app.api(&format!("/logs{query}"))).await;
    answer.refused(400, &[words]);
  }
  let request = app
    .client
    .request(Method::GET, &app.api("/logs/stream"))
    .header("Last-Event-ID", "first");
  app
    .client
    .read(request)
    .await
    .refused(400, &["Last-Event-ID", "number"]);
}

#[tokio::test]
async fn a_log_is_followed_from_its_first_entry_and_to_its_end() {
  let app = app(
    "console.log('one'); Deno.serve(() => { console.log('asked'); return new Response(''); });",
  )
  .await;
  let mut log = app.follow(None).await;
  log.until("one").await;
  app.ready().await;
  app.client.get(&app.path("/")).await;
  let asked = log.until("asked").await;
  app.delete().await;
  let rest = log.rest().await;
  let first = rest.first().expect("its end is told");
  assert_eq!(first["seq"].as_u64(), asked["seq"].as_u64().map(|n| n + 1));
}

#[tokio::test]
async fn who_comes_back_goes_on_after_the_entry_seen_last() {
  let app = printed(5).await;
  let all = app.logs("").await;
  let mut log = app.follow(Some(3)).await;
  for entry in &all[3..] {
    assert_eq!(log.next().await.as_ref(), Some(entry));
  }
  // Past the end, only what is new is told.
  let mut log = app.follow(Some(all.len() as u64)).await;
  app.stop().await;
  app.start().await;
  let next = log.next().await.expect("something new");
  assert_eq!(next["seq"], all.len() + 1, "{next}");
}

#[tokio::test]
async fn what_was_dropped_is_told_as_missed() {
  let app = printed(10_500).await;
  let mut log = app.follow(None).await;
  let first = log.next().await.expect("a notice");
  let missed = first["missed"].as_u64().expect("a number");
  assert!(missed >= 500, "{first}");
  let next = log.next().await.expect("an entry");
  assert_eq!(next["seq"], missed + 1);
  assert!(app.logs("?lines=10000").await.len() <= 10_000);
  assert!(app.logs("?lines=999999").await.len() <= 10_000);
}

#[tokio::test]
async fn lines_are_put_together_and_the_last_needs_no_end() {
  let app = app_of(json!({
    "startup_script": "
      const write = (text) => Deno.stdout.writeSync(new TextEncoder().encode(text));
      write('be'); write('gin\\nmid'); write('dle\\r\\n\\ngrü'); write('ße'); Deno.exit(0);",
    "restart": "never",
  }))
  .await;
  app
    .shows("ended", |info| {
      info["status"] == "exited" && info["pid"].is_null()
    })
    .await;
  assert_eq!(app.lines("stdout").await, ["begin", "middle", "", "grüße"]);
}

#[tokio::test]
async fn both_streams_of_a_python_program_are_in_the_log() {
  let script = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n";
  let app = app_of(json!({"lang": "python", "startup_script": script})).await;
  app.becomes("exited").await;
  assert_eq!(app.lines("stdout").await, ["out"]);
  assert_eq!(app.lines("stderr").await, ["err"]);
}

#[tokio::test]
async fn the_log_of_an_app_goes_on_over_its_instances() {
  let app = app("console.log('here'); Deno.serve(() => new Response(''));").await;
  app.ready().await;
  app.reload().await.ok();
  let here: Vec<Value> = app.logs("").await;
  let instances: Vec<_> = here
    .iter()
    .filter(|entry| entry["text"] == "here")
    .map(|entry| entry["instance"].clone())
    .collect();
  assert_eq!(instances, [1, 2]);
}

#[tokio::test]
async fn an_app_that_prints_without_end_holds_up_neither_itself_nor_who_follows() {
  let app = app(
    "Deno.serve(() => new Response('up'));
     (async () => { for (let i = 0; ; i++) { console.log('x'.repeat(200)); if (i % 100 === 0) await new Promise((r) => setTimeout(r)); } })();",
  )
  .await;
  app.ready().await;
  let mut log = app.follow(None).await;
  // Far more than is kept.
  let mut last = 0;
  while last < 30_000 {
    let entry = log.next().await.expect("the log goes on");
    last = entry["seq"].as_u64().unwrap_or(last);
  }
  app.answers("up").await;
  assert_eq!(app.stop().await["status"], "stopped");
}
