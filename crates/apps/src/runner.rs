//! One instance from its launch to its end: a task owns it, so that nothing of it stays behind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use app_proxy::Upstream;
use app_proxy::route::InFlight;
use app_proxy::route::Route;
use chrono::DateTime;
use chrono::Utc;
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::instance::End;
use crate::instance::Instance;
use crate::instance::InstanceEvent;
use crate::instance::Launch;
use crate::instance::Launcher;

/// How long an instance may take to stop.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);
/// Events of an instance that may wait for its task; the instance waits when there are more.
const EVENT_BUFFER: usize = 64;
/// How long an instance that was replaced may take to finish its requests, before it is stopped.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How urgently an instance is to stop. It only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopLevel {
  Run,
  /// Finish the requests at hand, then stop.
  Drain,
  Stop,
  Kill,
}

/// Takes what happens to instances, each event with the number of its instance.
pub(crate) type EventSender = mpsc::UnboundedSender<(u64, InstanceEvent)>;

/// An instance as the supervisor sees it.
pub(crate) struct Runner {
  level: watch::Sender<StopLevel>,
  in_flight: InFlight,
  pub instance: Option<Arc<dyn Instance>>,
  /// When its main program was started.
  pub started: Option<(Instant, DateTime<Utc>)>,
  pub route: Option<Route>,
  /// Whether the route leads to an address that the engine chose.
  engines_choice: bool,
  /// A port of its own that it listens on.
  pub port: Option<u16>,
}

impl Runner {
  /// Launches an instance, in the background.
  pub(crate) fn start(launch: Launch, launcher: Arc<dyn Launcher>, events: EventSender) -> Self {
    let (level, asked) = watch::channel(StopLevel::Run);
    let in_flight = InFlight::default();
    let number = launch.number;
    let life = live(launch, launcher, asked, in_flight.clone(), events.clone());
    tokio::spawn(async move {
      let end = AssertUnwindSafe(life)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
          tracing::error!("the task of an app's instance panicked");
          End::because("was lost by the engine")
        });
      let _ = events.send((number, InstanceEvent::Ended(end)));
    });
    Self {
      level,
      in_flight,
      instance: None,
      started: None,
      route: None,
      engines_choice: false,
      port: None,
    }
  }

  /// Asks it to stop, unless it was asked more urgently before.
  pub(crate) fn stop(&self, level: StopLevel) {
    self.level.send_if_modified(|current| {
      let raise = *current < level;
      if raise {
        *current = level;
      }
      raise
    });
  }

  /// Whether it and everything it holds will be gone soon.
  pub(crate) fn is_ending(&self) -> bool {
    *self.level.borrow() >= StopLevel::Stop
  }

  pub(crate) fn uptime(&self) -> Duration {
    self.started.map_or(Duration::ZERO, |(at, _)| at.elapsed())
  }

  /// Notes where it listens.
  pub(crate) fn listens(&mut self, upstream: Upstream, port: Option<u16>) {
    self.port = port.or(self.port);
    // A server at the engine's choice is for requests; one at a port of the app's may be for anything.
    let first = self.route.is_none();
    if first || (port.is_none() && !self.engines_choice) {
      self.engines_choice = port.is_none();
      self.route = Some(Route {
        upstream,
        in_flight: self.in_flight.clone(),
      });
    }
  }
}

/// Waits until it is asked this urgently; without a supervisor it is to end at once.
async fn asked(level: &mut watch::Receiver<StopLevel>, least: StopLevel) -> StopLevel {
  match level.wait_for(|level| *level >= least).await {
    Ok(level) => *level,
    Err(_) => StopLevel::Kill,
  }
}

async fn live(
  launch: Launch,
  launcher: Arc<dyn Launcher>,
  mut level: watch::Receiver<StopLevel>,
  in_flight: InFlight,
  events: EventSender,
) -> End {
  let number = launch.number;
  let report = |event| {
    let _ = events.send((number, event));
  };
  let (sender, mut receiver) = mpsc::channel(EVENT_BUFFER);
  let launched = tokio::select! {
    launched = launcher.launch(launch, sender) => launched,
    _ = asked(&mut level, StopLevel::Drain) => {
      return End::because("was stopped before it had started");
    }
  };
  let instance = match launched {
    Ok(instance) => instance,
    Err(error) => return End::Refused(error),
  };
  report(InstanceEvent::Launched(instance.clone()));
  let ending = stop_when_asked(&*instance, &mut level, &in_flight);
  tokio::pin!(ending);
  loop {
    tokio::select! {
      biased;
      event = receiver.recv() => match event {
        Some(InstanceEvent::Ended(end)) => return end,
        Some(event) => report(event),
        None => return End::because("ended"),
      },
      () = &mut ending => break,
    }
  }
  // It is gone; its last events may still be on their way.
  while let Ok(event) = receiver.try_recv() {
    match event {
      InstanceEvent::Ended(end) => return end,
      event => report(event),
    }
  }
  End::because("was stopped")
}

async fn stop_when_asked(
  instance: &dyn Instance,
  level: &mut watch::Receiver<StopLevel>,
  in_flight: &InFlight,
) {
  if asked(level, StopLevel::Drain).await == StopLevel::Drain {
    tokio::select! {
      () = in_flight.idle() => {}
      () = tokio::time::sleep(DRAIN_TIME) => {}
      _ = asked(level, StopLevel::Stop) => {}
    }
  }
  tokio::select! {
    biased;
    _ = asked(level, StopLevel::Kill) => instance.stop(Duration::ZERO).await,
    () = instance.stop(STOP_GRACE) => {}
  }
}
