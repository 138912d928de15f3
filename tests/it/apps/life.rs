//! States of apps, and the ways from one to another.

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use super::app;
use super::app_of;
use super::apps_server;
use crate::support::eventually;
use crate::support::exists;
use crate::support::keys;
use crate::support::kill;

const SERVES: &str = "Deno.serve(() => new Response(`from ${Deno.pid}`));";

/// Keeps an app that has ended as it is.
async fn never_restarted(script: &str) -> crate::support::App {
  app_of(json!({"startup_script": script, "restart": "never"})).await
}

#[tokio::test]
async fn an_app_that_serves_is_running_and_ready() {
  let app = app(SERVES).await;
  let created = &app.created;
  assert_eq!(created["id"], app.id);
  assert_eq!(created["url"], format!("/apps/{}/", app.id));
  assert_eq!(created["source"], "posted");
  assert_eq!(created["language"], "typescript");
  let info = app.ready().await;
  assert_eq!(info["status"], "running");
  assert_eq!(
    keys(&info),
    [
      "created",
      "env",
      "id",
      "instance",
      "language",
      "limits",
      "permissions",
      "pid",
      "ready",
      "restart",
      "restarts",
      "since",
      "source",
      "status",
      "url"
    ]
  );
  assert_eq!(
    (&info["instance"], &info["restarts"]),
    (&json!(1), &json!(0))
  );
  assert_eq!(info["restart"], "on-failure");
  app.answers(&format!("from {}", app.pid().await)).await;
}

#[tokio::test]
async fn a_program_that_waits_for_its_start_is_answered_when_it_is_ready() {
  let app = app(
    "await new Promise((resolve) => setTimeout(resolve, 1_000));
     Deno.serve(() => new Response('at last'));",
  )
  .await;
  // The request waits at the gateway, for less than that allows.
  app.becomes("running").await;
  let answer = app.client.get(&app.path("/")).await;
  assert_eq!((answer.status, answer.text.as_str()), (200, "at last"));
}

#[tokio::test]
async fn a_program_that_ends_well_has_exited_and_code_is_still_executed_in_it() {
  let app = app("globalThis.result = 6 * 7;").await;
  let info = app.becomes("exited").await;
  assert_eq!(
    (&info["exitCode"], &info["ready"]),
    (&json!(0), &json!(false))
  );
  app.gives("result", "42").await;
  let answer = app.client.get(&app.path("/")).await;
  answer.refused(409, &[&app.id, "has ended"]);
  assert_eq!(app.info().await["restarts"], 0);
}

#[tokio::test]
async fn a_program_that_throws_has_failed_with_the_error_as_the_reason() {
  let app = never_restarted("throw new Error('no configuration');").await;
  let info = app.becomes("failed").await;
  assert_eq!(info["exitCode"], 1, "{info}");
  let reason = info["reason"].as_str().expect("a reason");
  assert!(reason.contains("Error: no configuration"), "{reason}");
  let answer = app.client.get(&app.path("/")).await;
  answer.refused(409, &[&app.id, "has failed", "no configuration"]);
}

#[tokio::test]
async fn the_code_that_a_program_ends_itself_with_is_told() {
  let app = never_restarted("Deno.exit(3)").await;
  let info = app.becomes("failed").await;
  assert_eq!(info["exitCode"], 3, "{info}");
  assert!(
    info["reason"]
      .as_str()
      .is_some_and(|reason| reason.contains("code 3")),
    "{info}"
  );
}

#[tokio::test]
async fn a_program_that_cannot_be_parsed_has_failed() {
  let app = never_restarted("const answer: number = ;").await;
  let info = app.becomes("failed").await;
  let reason = info["reason"].as_str().expect("a reason");
  assert!(reason.contains("SyntaxError"), "{reason}");
}

#[tokio::test]
async fn an_error_in_a_timer_fails_an_app_that_serves() {
  let app = never_restarted(
    "Deno.serve(() => new Response('up')); setTimeout(() => { throw new TypeError('late') }, 50);",
  )
  .await;
  let info = app.becomes("failed").await;
  let reason = info["reason"].as_str().expect("a reason");
  assert!(reason.contains("TypeError: late"), "{reason}");
}

#[tokio::test]
async fn an_error_in_a_handler_is_an_answer_and_the_app_goes_on() {
  let app = app(
    "Deno.serve((request) => {
       if (request.url.endsWith('/bad')) throw new Error('this request only');
       return new Response('up');
     });",
  )
  .await;
  assert_eq!(app.get("/bad").await.status, 500);
  app.answers("up").await;
  app.says("this request only").await;
  assert_eq!(app.info().await["restarts"], 0);
}

#[tokio::test]
async fn an_app_that_fails_is_started_again_after_growing_pauses() {
  let app = app("console.log('started'); throw new Error('again');").await;
  let mut log = app.follow(None).await;
  for pause in ["100ms", "200ms", "400ms"] {
    let entry = log.until("it is started again in").await;
    let text = entry["text"].as_str().expect("a text");
    assert!(
      text.ends_with(&format!("it is started again in {pause}")),
      "{text}"
    );
    assert!(text.contains("Error: again"), "{text}");
  }
  let info = app
    .shows("was restarting", |info| info["status"] == "restarting")
    .await;
  assert!(info["restarts"].as_u64() >= Some(3), "{info}");
  let reason = info["reason"].as_str().expect("a reason");
  assert!(reason.contains("Error: again"), "{reason}");
}

#[tokio::test]
async fn a_request_to_an_app_that_is_being_restarted_is_told_so() {
  let app = app("throw new Error('again');").await;
  let answer = app.client.get(&app.path("/")).await;
  answer.refused(503, &[&app.id]);
}

#[tokio::test]
async fn an_app_that_is_always_restarted_is_also_when_it_ended_well() {
  let app = app_of(json!({"startup_script": "console.log('ran')", "restart": "always"})).await;
  let mut log = app.follow(None).await;
  let first = log.until("ran").await;
  let second = log.until("ran").await;
  assert_eq!(
    (&first["instance"], &second["instance"]),
    (&json!(1), &json!(2))
  );
  assert!(app.info().await["restarts"].as_u64() >= Some(1));
}

#[tokio::test]
async fn a_server_that_ends_itself_well_is_not_started_again_after_failures_only() {
  let app = app("Deno.serve(() => new Response('up')); setTimeout(() => Deno.exit(0), 50);").await;
  app.says("ended with code 0").await;
  let info = app.becomes("exited").await;
  assert_eq!(
    (&info["exitCode"], &info["restarts"]),
    (&json!(0), &json!(0))
  );
  let pid = app.shows("lost its process", |info| info["pid"].is_null());
  let info = pid.await;
  assert_eq!(
    (&info["status"], &info["restarts"]),
    (&json!("exited"), &json!(0))
  );
}

#[tokio::test]
async fn an_app_whose_process_is_killed_answers_again() {
  let app = app(SERVES).await;
  app.ready().await;
  let first = app.pid().await;
  let mut log = app.follow(None).await;
  kill(first, Signal::KILL);
  let news = log.until("it is started again in 100ms").await;
  assert_eq!(news["level"], "error", "{news}");
  // No waiting here: the gateway does that.
  let answer = app.client.get(&app.path("/")).await;
  assert_eq!(answer.status, 200, "{}", answer.text);
  assert_ne!(answer.text, format!("from {first}"));
  assert_eq!(app.info().await["restarts"], 1);
}

#[tokio::test]
async fn a_stopped_app_has_no_process_and_can_be_started_again() {
  let app = app(SERVES).await;
  app.ready().await;
  let pid = app.pid().await;
  let stopped = app.stop().await;
  assert_eq!(stopped["status"], "stopped");
  assert_eq!(
    (&stopped["pid"], &stopped["ready"]),
    (&Value::Null, &json!(false))
  );
  assert!(!exists(pid));
  let answer = app.client.get(&app.path("/")).await;
  answer.refused(409, &[&app.id, "is stopped", "start it"]);
  app.start().await;
  let info = app.ready().await;
  assert_eq!(
    (&info["instance"], &info["restarts"]),
    (&json!(2), &json!(0))
  );
  assert_ne!(app.pid().await, pid);
}

#[tokio::test]
async fn stopping_twice_and_starting_twice_does_no_harm() {
  let app = app(SERVES).await;
  app.ready().await;
  app.stop().await;
  assert_eq!(app.stop().await["status"], "stopped");
  app.start().await;
  app.start().await;
  assert_eq!(app.ready().await["instance"], 2);
}

#[tokio::test]
async fn an_app_that_is_being_restarted_can_be_stopped() {
  let app = app("throw new Error('again');").await;
  app.says("it is started again in 200ms").await;
  app.stop().await;
  let instance = app.becomes("stopped").await["instance"].clone();
  let mut log = app.follow(None).await;
  // A start that should not be would come before this one is told.
  app.start().await;
  let next = instance.as_u64().expect("a number") + 1;
  while let Some(entry) = log.next().await {
    if entry["instance"] == next {
      break;
    }
  }
  assert!(app.info().await["instance"].as_u64() >= Some(next));
}

#[tokio::test]
async fn a_failed_app_can_be_started_again() {
  let app = never_restarted(
    "const file = `${Deno.env.get('APP_DATA_DIR')}/seen`;
     const seen = await Deno.readTextFile(file).catch(() => '');
     await Deno.writeTextFile(file, 'x');
     if (!seen) throw new Error('only once');
     Deno.serve(() => new Response('up'));",
  )
  .await;
  app.becomes("failed").await;
  app.start().await;
  app.answers("up").await;
}

#[tokio::test]
async fn an_app_is_asked_to_stop_before_it_is_made_to() {
  let app = app(
    "Deno.addSignalListener('SIGTERM', () => { console.log('bye'); Deno.exit(0); });
     Deno.serve(() => new Response('up'));",
  )
  .await;
  app.ready().await;
  app.stop().await;
  assert!(app.lines("stdout").await.contains(&"bye".to_owned()));
}

#[tokio::test]
async fn an_endless_loop_is_stopped_too() {
  let app = app("console.log('looping'); while (true);").await;
  app.says("looping").await;
  let pid = app.pid().await;
  assert_eq!(app.stop().await["status"], "stopped");
  assert!(!exists(pid));
}

#[tokio::test]
async fn an_app_that_will_not_stop_is_killed() {
  let app = app(
    "Deno.addSignalListener('SIGTERM', () => console.log('no'));
     Deno.serve(() => new Response('up'));",
  )
  .await;
  app.ready().await;
  let pid = app.pid().await;
  assert_eq!(app.stop().await["status"], "stopped");
  assert!(!exists(pid));
  assert!(app.lines("stdout").await.contains(&"no".to_owned()));
}

#[tokio::test]
async fn a_deleted_app_is_gone_with_its_process_and_its_id_is_free() {
  let app = app(SERVES).await;
  app.ready().await;
  let pid = app.pid().await;
  let answer = app.delete().await;
  assert_eq!(answer.ok(), json!({"success": true}));
  assert!(!exists(pid));
  app
    .client
    .get(&app.api(""))
    .await
    .refused(404, &[&app.id, "not found"]);
  app
    .client
    .get(&app.path("/"))
    .await
    .refused(404, &[&app.id]);
  assert_eq!(app.delete().await.status, 404);
  let again =
    app_of(json!({"id": app.id, "startup_script": "Deno.serve(() => new Response('new'))"}));
  again.await.answers("new").await;
}

#[tokio::test]
async fn what_an_app_keeps_in_its_folder_outlives_its_process() {
  let app = app(
    "const file = `${Deno.env.get('APP_DATA_DIR')}/starts`;
     const starts = Number(await Deno.readTextFile(file).catch(() => '0')) + 1;
     await Deno.writeTextFile(file, String(starts));
     const id = Deno.env.get('APP_ID');
     Deno.serve(() => new Response(`${id} ${starts}`));",
  )
  .await;
  app.answers(&format!("{} 1", app.id)).await;
  app.stop().await;
  app.start().await;
  app.answers(&format!("{} 2", app.id)).await;
}

#[tokio::test]
async fn a_python_app_runs_and_stops() {
  let script = "import asyncio\nprint('up', flush=True)\nasync def work():\n  while True: await asyncio.sleep(60)\ntask = asyncio.create_task(work())\n";
  let app = app_of(json!({"lang": "python", "startup_script": script})).await;
  app.says("up").await;
  let pid = app.pid().await;
  assert_eq!(app.stop().await["status"], "stopped");
  assert!(!exists(pid));
}

#[tokio::test]
async fn commands_that_come_at_once_leave_an_app_in_one_piece() {
  let app = app(SERVES).await;
  app.ready().await;
  let commands = [
    "/stop", "/start", "/reload", "/stop", "/start", "/reload", "/start",
  ];
  futures::future::join_all(commands.map(|command| app.order(command))).await;
  app.start().await;
  let info = app.ready().await;
  let pid = app.pid().await;
  eventually("one process is left", || async {
    let answer = app.client.get(&app.path("/")).await;
    answer.text == format!("from {pid}")
  })
  .await;
  assert_eq!(info["status"], "running");
  assert_eq!(apps_server().client().get("/health").await.status, 200);
}
