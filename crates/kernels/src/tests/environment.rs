//! Variables that are made for each start, and again while a kernel runs.

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use async_trait::async_trait;
use kernel_protocol::KernelEvent;

use super::fake::SHOW;
use super::*;
use crate::EnvironmentSource;
use crate::Variables;

const LIFE: Duration = Duration::from_secs(600);

/// Numbers what it makes; fails when it is told to.
#[derive(Debug, Default)]
struct Numbers {
  made: AtomicU32,
  failure: Mutex<Option<String>>,
}

#[async_trait]
impl EnvironmentSource for Numbers {
  async fn variables(&self) -> Result<Variables, String> {
    if let Some(reason) = self.failure.lock().expect("no panic").clone() {
      return Err(reason);
    }
    let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
    let variable = |name: &str| (name.to_owned(), number.to_string());
    Ok(Variables {
      values: [variable("TOKEN"), variable("MINE")].into(),
      renew_after: Some(LIFE),
    })
  }
}

fn with(source: &Arc<Numbers>) -> CreateKernel {
  CreateKernel {
    environment: Some(source.clone()),
    env: [("MINE".to_owned(), "own".to_owned())].into(),
    ..typescript("k")
  }
}

async fn shown(manager: &KernelManager, name: &str) -> String {
  let execution = manager.submit(&Caller::operator(), "k", format!("{SHOW}{name}"));
  let execution = execution.expect("is queued");
  execution.ended().await;
  let events = execution.events();
  let text = events.iter().find_map(|event| match &**event {
    KernelEvent::Stream { text, .. } => Some(text.clone()),
    _ => None,
  });
  text.expect("is shown")
}

async fn becomes(manager: &KernelManager, value: &str) {
  while shown(manager, "TOKEN").await != value {
    tokio::task::yield_now().await;
  }
}

#[tokio::test]
async fn variables_are_made_for_each_start_and_those_of_the_request_win() {
  let Fixture { manager, .. } = fixture();
  let (source, operator) = (Arc::<Numbers>::default(), Caller::operator());
  let kernel = manager.create(&operator, with(&source)).await;
  let kernel = kernel.expect("is made");
  assert_eq!(shown(&manager, "TOKEN").await, "1");
  assert_eq!(shown(&manager, "MINE").await, "own");
  assert!(!kernel.approved.host.env.contains_key("TOKEN"));
  manager.restart(&operator, "k").await.expect("restarts");
  assert_eq!(shown(&manager, "TOKEN").await, "2");
}

#[tokio::test]
async fn variables_are_renewed_before_they_end_while_the_kernel_lives() {
  let Fixture { manager, .. } = fixture();
  let (source, operator) = (Arc::<Numbers>::default(), Caller::operator());
  let kernel = manager.create(&operator, with(&source)).await;
  kernel.expect("is made");
  becomes(&manager, "1").await;
  tokio::time::pause();
  tokio::time::advance(LIFE).await;
  tokio::time::resume();
  becomes(&manager, "2").await;
  assert_eq!(shown(&manager, "MINE").await, "own");
  // What fails is tried again.
  *source.failure.lock().expect("no panic") = Some("away".into());
  tokio::time::pause();
  tokio::time::advance(LIFE).await;
  tokio::task::yield_now().await;
  *source.failure.lock().expect("no panic") = None;
  tokio::time::advance(Duration::from_secs(60)).await;
  tokio::time::resume();
  becomes(&manager, "3").await;
  let ended = manager.delete(&operator, "k", false).await;
  ended.expect("is ended");
  tokio::time::pause();
  tokio::time::advance(LIFE * 2).await;
  tokio::task::yield_now().await;
  assert_eq!(source.made.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn without_its_variables_a_kernel_is_not_made() {
  let Fixture { manager, .. } = fixture();
  let source = Arc::<Numbers>::default();
  *source.failure.lock().expect("no panic") = Some("no variables today".into());
  let made = manager.create(&Caller::operator(), with(&source)).await;
  let error = made.err().expect("is not made").to_string();
  assert!(error.contains("no variables today"), "{error}");
  assert!(manager.all().is_empty());
}
