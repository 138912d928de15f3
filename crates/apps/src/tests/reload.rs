use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::app::App;
use crate::error::AppError;
use crate::spec::AppSpec;
use crate::status::AppState;
use crate::status::AppStatus;
use crate::tests::GRACE;
use crate::tests::becomes;
use crate::tests::seconds;
use crate::tests::serving;
use crate::tests::spec_of;
use crate::tests::start;
use crate::tests::with_policy;

fn second() -> AppSpec {
  spec_of(&json!({"id": "a", "startup_script": "2", "env": {"A": "b"}}))
}

fn reload(app: &Arc<App>, spec: AppSpec) -> JoinHandle<Result<AppStatus, AppError>> {
  let app = app.clone();
  tokio::spawn(async move { app.reload(Some(Arc::new(spec))).await })
}

#[tokio::test(start_paused = true)]
async fn requests_go_to_the_old_instance_until_the_new_one_listens() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let in_hand = app.upstream(seconds(1)).await.expect("listens");
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  assert_eq!(*new.spec, second());
  new.starts();
  assert_eq!(
    *app.upstream(seconds(1)).await.expect("listens"),
    old.path()
  );
  new.listens();
  let status = reloading.await.expect("joins").expect("reloads");
  assert_eq!(
    (status.state, status.instance, status.ready),
    (AppState::Running, 2, true)
  );
  assert_eq!(
    *app.upstream(seconds(1)).await.expect("listens"),
    new.path()
  );
  assert_eq!(*app.spec(), second());
  // The old one goes when its last request has ended.
  tokio::time::sleep(seconds(5)).await;
  assert!(!old.is_told_to_stop());
  drop(in_hand);
  let ended = Instant::now();
  old.told_to_stop(GRACE).await;
  assert!(ended.elapsed() < seconds(1), "{:?}", ended.elapsed());
  assert_eq!(app.status().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_end_holds_the_old_instance_for_ten_seconds() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let _in_hand = app.upstream(seconds(1)).await.expect("listens");
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  new.starts();
  new.listens();
  reloading.await.expect("joins").expect("reloads");
  let replaced = Instant::now();
  old.told_to_stop(GRACE).await;
  assert!(
    replaced.elapsed().abs_diff(seconds(10)) < seconds(1),
    "{:?}",
    replaced.elapsed()
  );
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_that_does_not_come_up_leaves_the_old_one() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  for (fault, told) in
    ["refused", "dies", "fails"]
      .into_iter()
      .zip(["not allowed", "crashed", "code 7"])
  {
    let reloading = reload(&app, second());
    let mut new = processes.next().await;
    match fault {
      "refused" => new.refuses(AppError::Forbidden("not allowed".into())),
      "dies" => {
        new.starts();
        new.dies("crashed");
      }
      _ => {
        new.starts();
        new.finishes(7);
        new.told_to_stop(Duration::ZERO).await;
      }
    }
    let error = reloading.await.expect("joins").expect_err(fault);
    assert!(error.to_string().contains(told), "{error}");
    assert_eq!(fault == "refused", matches!(error, AppError::Forbidden(_)));
  }
  assert_eq!(
    *app.upstream(seconds(1)).await.expect("listens"),
    old.path()
  );
  assert_eq!(*app.spec(), with_policy("on-failure"));
  assert!(!old.is_told_to_stop());
  let status = app.status();
  assert_eq!(
    (status.state, status.instance, status.restarts),
    (AppState::Running, 1, 0)
  );
  processes.none_within(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_that_runs_but_does_not_listen_serves_after_ten_seconds() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  new.launched();
  tokio::time::sleep(seconds(30)).await;
  assert!(!reloading.is_finished(), "its program does not run yet");
  new.send(crate::instance::InstanceEvent::Started);
  let started = Instant::now();
  let status = reloading.await.expect("joins").expect("reloads");
  assert!(started.elapsed().abs_diff(seconds(10)) < seconds(1));
  assert_eq!((status.instance, status.ready), (2, false));
  old.told_to_stop(GRACE).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_program_that_ends_well_replaces_the_old_one() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  new.starts();
  new.finishes(0);
  let status = reloading.await.expect("joins").expect("reloads");
  assert_eq!((status.state, status.instance), (AppState::Exited, 2));
  old.told_to_stop(GRACE).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_with_a_port_of_its_own_is_stopped_first() {
  let (app, mut processes) = start(with_policy("on-failure"));
  let mut old = processes.next().await;
  old.starts();
  old.listens_on(9000);
  app.upstream(seconds(1)).await.expect("listens");
  old.is_stubborn();
  let reloading = reload(&app, second());
  old.told_to_stop(GRACE).await;
  processes.none_within(seconds(4)).await;
  assert_eq!(app.status().state, AppState::Starting);
  let mut new = processes.next().await;
  new.starts();
  let status = reloading.await.expect("joins").expect("reloads");
  assert_eq!(
    (status.state, status.instance, status.port),
    (AppState::Running, 2, None)
  );
}

#[tokio::test(start_paused = true)]
async fn an_app_that_declares_a_port_or_does_not_listen_is_stopped_first() {
  let declares = spec_of(&json!({"id": "a", "startup_script": "2", "port": 9000}));
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let reloading = reload(&app, declares);
  old.told_to_stop(GRACE).await;
  processes.next().await.starts();
  reloading.await.expect("joins").expect("reloads");
  let (app, mut processes) = start(with_policy("on-failure"));
  let mut old = processes.next().await;
  old.starts();
  becomes(&app, AppState::Running).await;
  let reloading = reload(&app, second());
  old.told_to_stop(GRACE).await;
  processes.next().await.starts();
  reloading.await.expect("joins").expect("reloads");
}

#[tokio::test(start_paused = true)]
async fn reloading_starts_what_was_stopped_and_tells_when_it_fails() {
  let (app, mut processes, _old) = serving(with_policy("never")).await;
  app.stop().await.expect("stops");
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  new.launched();
  new.dies("ran out of memory");
  let error = reloading
    .await
    .expect("joins")
    .expect_err("does not come up");
  assert!(error.to_string().contains("ran out of memory"), "{error}");
  // Nothing else was there to go on with.
  assert_eq!(*app.spec(), second());
  processes.next().await.starts();
  becomes(&app, AppState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_gives_way_to_a_later_one_and_to_a_stop() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let first = reload(&app, second());
  let mut given_up = processes.next().await;
  let later = reload(&app, second());
  let mut new = processes.next().await;
  given_up.given_up().await;
  let error = first.await.expect("joins").expect_err("was overtaken");
  assert!(matches!(error, AppError::Conflict(_)), "{error}");
  new.starts();
  app.stop().await.expect("stops");
  let error = later.await.expect("joins").expect_err("was stopped");
  assert!(error.to_string().contains("stopped"), "{error}");
  assert!(old.is_told_to_stop() && new.is_told_to_stop());
  assert_eq!(app.status().state, AppState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_takes_over_when_the_old_one_dies_meanwhile() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  old.dies("crashed");
  becomes(&app, AppState::Restarting).await;
  processes.none_within(seconds(60)).await;
  new.starts();
  new.listens();
  reloading.await.expect("joins").expect("reloads");
  assert_eq!(
    *app.upstream(seconds(1)).await.expect("listens"),
    new.path()
  );
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_old_one_is_started_again() {
  let (app, mut processes, old) = serving(with_policy("on-failure")).await;
  let reloading = reload(&app, second());
  let mut new = processes.next().await;
  old.dies("crashed");
  becomes(&app, AppState::Restarting).await;
  new.refuses(AppError::Forbidden("not allowed".into()));
  reloading.await.expect("joins").expect_err("was refused");
  let mut again = processes.next_within(seconds(1)).await;
  assert_eq!(*again.spec, with_policy("on-failure"));
  again.starts();
  becomes(&app, AppState::Running).await;
}
