//! Instances whose processes are played by the tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use app_proxy::Upstream;
use async_trait::async_trait;
use kernels::Execution;
use kernels::Work;
use kernels::log_budget::LogBudget;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::error::AppError;
use crate::id::AppId;
use crate::instance::End;
use crate::instance::Instance;
use crate::instance::InstanceEvent;
use crate::instance::Launch;
use crate::instance::Launcher;
use crate::log::AppLog;
use crate::manifest::Manifest;
use crate::session::SessionFile;
use crate::spec::AppSpec;

/// Longer than anything an app waits for; paused clocks get there at once.
const EVER: Duration = Duration::from_secs(3600);

struct PlayedLauncher(mpsc::UnboundedSender<Process>);

#[async_trait]
impl Launcher for PlayedLauncher {
  fn check(&self, _: &Manifest) -> Result<(), AppError> {
    Ok(())
  }

  fn new_log(&self) -> AppLog {
    AppLog::new(&LogBudget::new(64 << 20, 64 << 20))
  }

  async fn unpack(&self, _: &AppId, _: Vec<SessionFile>) -> Result<PathBuf, AppError> {
    Err(AppError::Host("nothing is kept here".into()))
  }

  async fn forget(&self, _: &AppId) {}

  async fn launch(
    &self,
    launch: Launch,
    events: mpsc::Sender<InstanceEvent>,
  ) -> Result<Arc<dyn Instance>, AppError> {
    let (launched, waits) = oneshot::channel();
    let process = Process {
      app: launch.app,
      number: launch.number,
      spec: launch.spec,
      log: launch.log,
      events,
      launched: Some(launched),
      asked: watch::Sender::new(None),
      stubborn: Arc::default(),
    };
    let nobody = || AppError::Host("no test plays the process".into());
    self.0.send(process).map_err(|_| nobody())?;
    waits.await.map_err(|_| nobody())?
  }
}

/// The processes that are launched.
pub(super) struct Processes(mpsc::UnboundedReceiver<Process>);

pub(super) fn processes() -> (Arc<dyn Launcher>, Processes) {
  let (sender, receiver) = mpsc::unbounded_channel();
  (Arc::new(PlayedLauncher(sender)), Processes(receiver))
}

impl Processes {
  pub(super) async fn next(&mut self) -> Process {
    let next = tokio::time::timeout(EVER, self.0.recv()).await;
    next
      .expect("an instance is launched")
      .expect("the launcher lives")
  }

  /// The next one, which must not take longer than this.
  pub(super) async fn next_within(&mut self, time: Duration) -> Process {
    let next = tokio::time::timeout(time, self.0.recv()).await;
    next
      .expect("an instance is launched in time")
      .expect("the launcher lives")
  }

  pub(super) async fn none_within(&mut self, time: Duration) {
    assert!(
      tokio::time::timeout(time, self.0.recv()).await.is_err(),
      "nothing is launched"
    );
  }
}

/// An instance from the side of its process.
pub(super) struct Process {
  pub app: AppId,
  pub number: u64,
  pub spec: Arc<AppSpec>,
  pub log: Arc<AppLog>,
  events: mpsc::Sender<InstanceEvent>,
  launched: Option<oneshot::Sender<Result<Arc<dyn Instance>, AppError>>>,
  asked: watch::Sender<Option<Duration>>,
  stubborn: Arc<AtomicBool>,
}

impl Process {
  pub(super) fn send(&self, event: InstanceEvent) {
    // The supervisor may have lost interest.
    let _ = self.events.try_send(event);
  }

  fn answer(&mut self, result: Result<Arc<dyn Instance>, AppError>) {
    let launched = self.launched.take().expect("is launched once");
    assert!(launched.send(result).is_ok(), "the launch is waited for");
  }

  pub(super) fn refuses(&mut self, error: AppError) {
    self.answer(Err(error));
  }

  pub(super) fn launched(&mut self) {
    let instance = Arc::new(PlayedInstance {
      pid: 1000 + u32::try_from(self.number).expect("small"),
      events: self.events.clone(),
      asked: self.asked.clone(),
      stubborn: self.stubborn.clone(),
    });
    self.answer(Ok(instance));
  }

  pub(super) fn starts(&mut self) {
    self.launched();
    self.send(InstanceEvent::Started);
  }

  pub(super) fn path(&self) -> Upstream {
    let port = 20_000 + u16::try_from(self.number).expect("small");
    Upstream::open(([127, 0, 0, 1], port).into())
  }

  pub(super) fn listens(&self) {
    let upstream = self.path();
    self.send(InstanceEvent::Listening {
      upstream,
      port: None,
    });
  }

  pub(super) fn listens_on(&self, port: u16) {
    let upstream = Upstream::open(([127, 0, 0, 1], port).into());
    self.send(InstanceEvent::Listening {
      upstream,
      port: Some(port),
    });
  }

  pub(super) fn finishes(&self, code: i32) {
    self.send(InstanceEvent::Finished { code });
  }

  pub(super) fn dies(&self, reason: &str) {
    self.send(InstanceEvent::Ended(End::because(reason)));
  }

  /// Makes it ignore that it shall stop.
  pub(super) fn is_stubborn(&self) {
    self.stubborn.store(true, Ordering::Relaxed);
  }

  /// Waits until it is told to stop with this grace.
  pub(super) async fn told_to_stop(&self, grace: Duration) {
    let mut asked = self.asked.subscribe();
    let told = asked.wait_for(|asked| *asked == Some(grace));
    tokio::time::timeout(EVER, told)
      .await
      .expect("it is told")
      .expect("a sender lives");
  }

  pub(super) fn is_told_to_stop(&self) -> bool {
    self.asked.borrow().is_some()
  }

  /// Waits until nobody waits for the launch any more.
  pub(super) async fn given_up(&mut self) {
    let launched = self.launched.as_mut().expect("was not launched");
    tokio::time::timeout(EVER, launched.closed())
      .await
      .expect("the launch is given up");
  }
}

struct PlayedInstance {
  pid: u32,
  events: mpsc::Sender<InstanceEvent>,
  asked: watch::Sender<Option<Duration>>,
  stubborn: Arc<AtomicBool>,
}

#[async_trait]
impl Instance for PlayedInstance {
  fn pid(&self) -> Option<u32> {
    Some(self.pid)
  }

  async fn stop(&self, grace: Duration) {
    self.asked.send_replace(Some(grace));
    if self.stubborn.load(Ordering::Relaxed) {
      tokio::time::sleep(grace).await;
    }
    let end = End::because("was stopped");
    let _ = self.events.try_send(InstanceEvent::Ended(end));
  }

  fn execute(&self, code: String) -> Result<Arc<Execution>, AppError> {
    let logs = LogBudget::new(1 << 20, 1 << 20).owner(None, 1 << 20);
    let execution = Execution::new(Work::Code(code), 1 << 16, &logs).expect("there is room");
    Ok(Arc::new(execution))
  }
}
