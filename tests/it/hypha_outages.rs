//! The Hypha server, the engine, or both are killed: the service is there again within seconds of their coming back.
//! `HYPHA_TEST_RESTARTS` says how often, `HYPHA_TEST_OUTAGE_SECONDS` how long both are away (scripts/test-long.sh).

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::hypha_service::engine;
use crate::hypha_service::registered;
use crate::hypha_service::service;
use crate::support::Hypha;
use crate::support::Server;

/// How long callers wait for the service at most, from when Hypha answers again.
const BACK: Duration = Duration::from_secs(10);

fn setting(name: &str, default: u64) -> u64 {
  let text = std::env::var(name).unwrap_or_default();
  text.parse().unwrap_or(default)
}

/// Calls a method through Hypha's HTTP face until it answers.
///
/// # Panics
/// When it does not in time.
async fn answers(hypha: &Hypha) {
  let (url, token) = (hypha.env("HYPHA_SERVER_URL"), hypha.env("HYPHA_TOKEN"));
  let service = service(hypha).replacen('/', "/services/", 1);
  let client = reqwest::Client::builder()
    .timeout(Duration::from_secs(3))
    .no_proxy()
    .build()
    .expect("a client");
  let begun = Instant::now();
  loop {
    let asked = client.get(format!("{url}/{service}/getEngineLoad"));
    let answer = asked.bearer_auth(token).send().await;
    let said = match answer {
      Ok(answer) if answer.status() == 200 => return,
      Ok(answer) => format!("{}: {:?}", answer.status(), answer.text().await),
      Err(error) => error.to_string(),
    };
    assert!(begun.elapsed() < BACK, "not there after {BACK:?}: {said}");
    tokio::time::sleep(Duration::from_millis(50)).await;
  }
}

fn kill(server: &Server) {
  server.signal(Signal::KILL);
}

#[tokio::test]
async fn the_service_is_back_each_time_that_hypha_is_killed_and_kernels_notice_nothing() {
  let mut hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  let kernel = server.client().typescript().await;
  kernel
    .execute("globalThis.ticks = 0; setInterval(() => ticks++, 10)")
    .await;
  for restart in 1..=setting("HYPHA_TEST_RESTARTS", 3) {
    hypha.kill();
    hypha.start_again();
    answers(&hypha).await;
    let events = kernel.execute("ticks > 0 && !(ticks = 0)").await;
    assert_eq!(events.result(), Some("true"), "restart {restart}");
  }
  hypha.service_calls(&[&service(&hypha), "http"]).await;
}

/// Kills both, waits, and starts them again.
async fn both_are_away(engine_first: bool) {
  let mut hypha = Hypha::shared().await;
  let mut server = engine(&hypha);
  registered(&server).await;
  let outage = Duration::from_secs(setting("HYPHA_TEST_OUTAGE_SECONDS", 3));
  hypha.kill();
  kill(&server);
  server.ended().await;
  let again = if engine_first {
    // It tries meanwhile, with longer and longer pauses.
    let again = engine(&hypha);
    tokio::time::sleep(outage).await;
    hypha.start_again();
    again
  } else {
    tokio::time::sleep(outage).await;
    hypha.start_again();
    engine(&hypha)
  };
  answers(&hypha).await;
  drop(again);
}

#[tokio::test]
async fn when_both_were_away_the_engine_may_come_first() {
  both_are_away(true).await;
}

#[tokio::test]
async fn when_both_were_away_hypha_may_come_first() {
  both_are_away(false).await;
}

#[tokio::test]
async fn an_engine_waits_for_a_hypha_that_is_away_for_long() {
  let mut hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  hypha.kill();
  let outage = setting("HYPHA_TEST_OUTAGE_SECONDS", 3);
  tokio::time::sleep(Duration::from_secs(outage)).await;
  hypha.start_again();
  answers(&hypha).await;
}
