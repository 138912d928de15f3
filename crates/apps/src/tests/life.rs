use std::sync::Arc;
use std::time::Duration;

use kernel_protocol::StreamName;
use serde_json::json;
use tokio::time::Instant;

use crate::error::AppError;
use crate::status::AppState;
use crate::tests::GRACE;
use crate::tests::becomes;
use crate::tests::seconds;
use crate::tests::serving;
use crate::tests::spec_of;
use crate::tests::start;
use crate::tests::texts;
use crate::tests::with_policy;

#[tokio::test(start_paused = true)]
async fn it_runs_when_its_program_does_and_is_ready_when_it_listens() {
  let (app, mut processes) = start(with_policy("on-failure"));
  let mut process = processes.next().await;
  assert_eq!(app.status().state, AppState::Starting);
  process.starts();
  let status = app.settled().await;
  assert_eq!(
    (status.state, status.ready, status.instance),
    (AppState::Running, false, 1)
  );
  assert_eq!(status.pid, Some(1001));
  process.listens();
  let lease = app.upstream(seconds(1)).await.expect("listens");
  assert_eq!(*lease, process.path());
  assert!(app.status().ready);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_ends_well_leaves_its_process_for_code() {
  let (app, mut processes) = start(with_policy("on-failure"));
  let mut process = processes.next().await;
  process.starts();
  process.finishes(0);
  becomes(&app, AppState::Exited).await;
  assert_eq!(app.status().exit_code, Some(0));
  let execution = app.execute("1 + 1".into()).expect("has a process");
  assert_eq!(&*execution.code(), "1 + 1");
  processes.none_within(seconds(60)).await;
  assert!(!process.is_told_to_stop());
  // Nor is it started again when that process goes: its work was done.
  process.dies("was killed");
  processes.none_within(seconds(60)).await;
  assert_eq!(app.status().state, AppState::Exited);
  assert!(matches!(
    app.execute("1".into()),
    Err(AppError::Conflict(_))
  ));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_shall_always_run_is_started_again_when_it_ends_well() {
  let (app, mut processes) = start(with_policy("always"));
  let mut process = processes.next().await;
  process.starts();
  process.finishes(0);
  let mut second = processes.next_within(seconds(1)).await;
  process.told_to_stop(Duration::ZERO).await;
  assert_eq!(app.status().state, AppState::Restarting);
  second.starts();
  becomes(&app, AppState::Running).await;
  assert_eq!((app.status().restarts, app.status().instance), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_fails_is_started_again() {
  let (app, mut processes, process) = serving(with_policy("on-failure")).await;
  process.finishes(3);
  becomes(&app, AppState::Restarting).await;
  let status = app.status();
  assert_eq!((status.exit_code, status.ready), (Some(3), false));
  assert_eq!(
    status.reason.as_deref(),
    Some("the program ended with code 3")
  );
  let mut second = processes.next_within(seconds(1)).await;
  second.starts();
  becomes(&app, AppState::Running).await;
  assert_eq!(app.status().reason, None);
}

#[tokio::test(start_paused = true)]
async fn an_app_killed_from_outside_is_back_within_a_second() {
  let (app, mut processes, process) = serving(with_policy("on-failure")).await;
  let killed = Instant::now();
  process.dies("was killed by signal 9 (SIGKILL)");
  let mut second = processes.next_within(seconds(1)).await;
  second.starts();
  second.listens();
  let lease = app.upstream(seconds(5)).await.expect("is back");
  assert_eq!(*lease, second.path());
  assert!(killed.elapsed() < seconds(1), "{:?}", killed.elapsed());
  assert!(texts(&app).iter().any(|text| text.contains("SIGKILL")));
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_failing_waits_longer_each_time_until_it_was_up_for_a_while() {
  let (app, mut processes) = start(with_policy("on-failure"));
  let mut delays = Vec::new();
  let mut failed = Instant::now();
  for round in 0..12 {
    let mut process = processes.next().await;
    delays.push(failed.elapsed().as_millis());
    process.starts();
    if round == 10 {
      tokio::time::sleep(seconds(10)).await;
    }
    process.dies("crashed");
    failed = Instant::now();
  }
  let expected = [
    0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 100,
  ];
  for (delay, expected) in delays.iter().zip(expected) {
    assert!(delay.abs_diff(expected) < 20, "{delays:?}");
  }
  processes.next().await;
  assert_eq!(app.status().restarts, 12);
}

#[tokio::test(start_paused = true)]
async fn one_that_shall_never_be_restarted_stays_failed() {
  let (app, mut processes) = start(with_policy("never"));
  let mut process = processes.next().await;
  process.starts();
  process.listens();
  process.finishes(1);
  becomes(&app, AppState::Failed).await;
  processes.none_within(seconds(60)).await;
  assert!(
    app.execute("1".into()).is_ok(),
    "its process can be looked into"
  );
  let error = app
    .upstream(seconds(1))
    .await
    .err()
    .expect("does not serve");
  assert!(
    matches!(&error, AppError::Conflict(text) if text.contains("code 1")),
    "{error}"
  );
  app.start().await.expect("starts");
  processes.next().await.starts();
  becomes(&app, AppState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_can_never_succeed_is_not_tried_again() {
  let (app, mut processes) = start(with_policy("always"));
  processes
    .next()
    .await
    .refuses(AppError::Host("no memory".into()));
  processes
    .next()
    .await
    .refuses(AppError::Forbidden("run: more than allowed".into()));
  becomes(&app, AppState::Failed).await;
  assert_eq!(
    app.status().reason.as_deref(),
    Some("run: more than allowed")
  );
  processes.none_within(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_gives_grace_and_answers_when_the_process_is_gone() {
  let (app, mut processes, process) = serving(with_policy("always")).await;
  process.is_stubborn();
  let asked = Instant::now();
  let stopping = tokio::spawn({
    let app = app.clone();
    async move { app.stop().await }
  });
  process.told_to_stop(GRACE).await;
  assert_ne!(app.status().state, AppState::Stopped);
  assert!(!app.status().ready, "no request goes to it any more");
  stopping.await.expect("joins").expect("stops");
  assert!(asked.elapsed() >= GRACE);
  assert_eq!(app.status().state, AppState::Stopped);
  processes.none_within(seconds(60)).await;
  let error = app.upstream(seconds(60)).await.err().expect("is stopped");
  assert!(
    matches!(&error, AppError::Conflict(text) if text.contains("start it")),
    "{error}"
  );
  app.stop().await.expect("is stopped already");
}

#[tokio::test(start_paused = true)]
async fn killing_gives_no_grace_and_overtakes_a_stop() {
  let (app, _processes, process) = serving(with_policy("always")).await;
  process.is_stubborn();
  let asked = Instant::now();
  let stopping = tokio::spawn({
    let app = app.clone();
    async move { app.stop().await }
  });
  process.told_to_stop(GRACE).await;
  app.kill().await.expect("kills");
  process.told_to_stop(Duration::ZERO).await;
  stopping.await.expect("joins").expect("stops");
  assert!(asked.elapsed() < seconds(1));
  assert_eq!(app.status().state, AppState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stop_after_a_kill_gives_no_grace_back() {
  let (app, _processes, process) = serving(with_policy("always")).await;
  process.is_stubborn();
  let asked = Instant::now();
  let (killed, stopped) = tokio::join!(app.kill(), app.stop());
  assert_eq!((killed, stopped), (Ok(()), Ok(())));
  assert!(asked.elapsed() < seconds(1), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn it_can_be_stopped_while_it_is_launched_and_while_it_waits_for_a_restart() {
  let (app, mut processes) = start(with_policy("always"));
  let mut process = processes.next().await;
  app.stop().await.expect("stops");
  process.given_up().await;
  assert_eq!(app.status().state, AppState::Stopped);
  app.start().await.expect("starts");
  assert_eq!(app.status().state, AppState::Starting);
  processes
    .next()
    .await
    .refuses(AppError::Host("no memory".into()));
  becomes(&app, AppState::Restarting).await;
  app.stop().await.expect("stops");
  assert_eq!(app.status().state, AppState::Stopped);
  processes.none_within(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn started_while_it_stops_it_is_launched_when_the_old_process_is_gone() {
  let (app, mut processes, process) = serving(with_policy("always")).await;
  process.is_stubborn();
  let stopping = tokio::spawn({
    let app = app.clone();
    async move { app.stop().await }
  });
  process.told_to_stop(GRACE).await;
  app.start().await.expect("starts");
  processes.none_within(seconds(4)).await;
  let mut second = processes.next_within(seconds(2)).await;
  stopping.await.expect("joins").expect("was stopped");
  second.starts();
  becomes(&app, AppState::Running).await;
  app.start().await.expect("runs already");
  processes.none_within(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_an_app_that_is_restarted_but_not_for_ever() {
  let (app, mut processes, process) = serving(with_policy("on-failure")).await;
  process.dies("crashed");
  becomes(&app, AppState::Restarting).await;
  let request = tokio::spawn({
    let app = app.clone();
    async move { app.upstream(seconds(5)).await.map(|lease| lease.clone()) }
  });
  let mut second = processes.next().await;
  let error = app
    .upstream(seconds(1))
    .await
    .err()
    .expect("is not there yet");
  assert!(
    matches!(&error, AppError::Unavailable(text) if text.contains("restarted")),
    "{error}"
  );
  second.starts();
  becomes(&app, AppState::Running).await;
  let error = app
    .upstream(seconds(1))
    .await
    .err()
    .expect("does not listen");
  assert!(
    matches!(&error, AppError::Unavailable(text) if text.contains("listen")),
    "{error}"
  );
  second.listens();
  assert_eq!(request.await.expect("joins"), Ok(second.path()));
}

#[tokio::test(start_paused = true)]
async fn requests_go_to_the_engines_socket_rather_than_to_a_port() {
  let (app, mut processes) = start(with_policy("never"));
  let mut process = processes.next().await;
  process.starts();
  process.listens_on(9000);
  assert_ne!(
    *app.upstream(seconds(1)).await.expect("listens"),
    process.path()
  );
  process.listens();
  process.listens_on(9001);
  process.finishes(0);
  becomes(&app, AppState::Exited).await;
  assert_eq!(
    *app.upstream(seconds(1)).await.expect("listens"),
    process.path()
  );
  assert_eq!(app.status().port, Some(9001));
}

#[tokio::test(start_paused = true)]
async fn what_it_writes_is_in_its_log_the_last_line_too() {
  let (app, mut processes) = start(with_policy("never"));
  let mut process = processes.next().await;
  process.starts();
  for text in ["one\ntw", "o\nthree"] {
    process.log.output(process.number, StreamName::Stdout, text);
  }
  process.dies("crashed");
  becomes(&app, AppState::Failed).await;
  assert_eq!(texts(&app), ["one", "two", "started", "three", "crashed"]);
  let mut follower = app.log.follow(5);
  app.close().await;
  assert_eq!(follower.next().await, None, "the log ends with the app");
}

#[tokio::test(start_paused = true)]
async fn nothing_can_be_asked_of_an_app_that_is_closed() {
  let (app, _processes, process) = serving(with_policy("always")).await;
  app.close().await;
  assert_eq!(app.status().state, AppState::Stopped);
  assert!(process.is_told_to_stop());
  assert_eq!(
    app.start().await,
    Err(AppError::NotFound(app.id.to_string()))
  );
  assert!(app.upstream(seconds(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_app_that_nobody_holds_is_stopped() {
  let spec = spec_of(&json!({"id": "a", "startup_script": "1"}));
  let (app, _processes, process) = serving(spec).await;
  assert_eq!(Arc::strong_count(&app), 1);
  drop(app);
  process.told_to_stop(GRACE).await;
}

#[tokio::test(start_paused = true)]
async fn its_use_is_told_with_its_restarts() {
  let (app, mut processes, process) = serving(with_policy("on-failure")).await;
  process.dies("crashed");
  let mut second = processes.next().await;
  second.starts();
  becomes(&app, AppState::Running).await;
  let stats = app.stats().await;
  assert_eq!(stats.restarts, 1);
  assert!(stats.uptime.is_some());
  app.stop().await.expect("stops");
  assert_eq!(app.stats().await.uptime, None);
}
