//! One instance from its launch to its end: a task owns it, so that nothing of it can stay behind.

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

use crate::AppError;
use crate::instance::Instance;
use crate::instance::InstanceEvent;
use crate::instance::Launch;
use crate::instance::Launcher;

/// How long an instance that is told to stop has for it.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// Events of an instance that wait for its task; the instance waits when there are more.
const EVENT_BUFFER: usize = 64;
/// How long requests in hand are waited for before an instance that was replaced is stopped.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

/// What an instance is told; a later one outranks an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
  Run,
  /// Finish the requests in hand, then stop.
  Drain,
  Stop,
  Kill,
}

/// What the supervisor hears of an instance.
pub enum News {
  Launched(Arc<dyn Instance>),
  Said(InstanceEvent),
  /// Its process is gone. The last news.
  Gone(End),
}

pub enum End {
  /// It could not be launched.
  Refused(AppError),
  Ended {
    reason: String,
    code: Option<i32>,
  },
}

impl End {
  fn because(reason: &str) -> Self {
    Self::Ended {
      reason: reason.to_owned(),
      code: None,
    }
  }
}

pub type NewsSender = mpsc::UnboundedSender<(u64, News)>;

/// An instance as the supervisor sees it.
pub struct Runner {
  orders: watch::Sender<Order>,
  in_flight: InFlight,
  pub instance: Option<Arc<dyn Instance>>,
  /// When its main program was started.
  pub started: Option<(Instant, DateTime<Utc>)>,
  pub route: Option<Route>,
  /// Whether the route leads where the engine told it to listen.
  engines_choice: bool,
  /// A port of its own that it listens on.
  pub port: Option<u16>,
}

impl Runner {
  /// Launches an instance; `news` hears of it, with its number.
  pub fn start(launch: Launch, launcher: Arc<dyn Launcher>, news: NewsSender) -> Self {
    let (orders, ordered) = watch::channel(Order::Run);
    let in_flight = InFlight::default();
    let number = launch.number;
    let life = live(launch, launcher, ordered, in_flight.clone(), news.clone());
    tokio::spawn(async move {
      let end = AssertUnwindSafe(life)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
          tracing::error!("the task of an app's instance panicked");
          End::because("was lost by the engine")
        });
      let _ = news.send((number, News::Gone(end)));
    });
    Self {
      orders,
      in_flight,
      instance: None,
      started: None,
      route: None,
      engines_choice: false,
      port: None,
    }
  }

  /// Gives an order, unless one that outranks it was given.
  pub fn order(&self, order: Order) {
    self.orders.send_if_modified(|current| {
      let raise = *current < order;
      if raise {
        *current = order;
      }
      raise
    });
  }

  /// Whether it is about to be gone, and what it holds with it.
  pub fn is_ending(&self) -> bool {
    *self.orders.borrow() >= Order::Stop
  }

  pub fn uptime(&self) -> Duration {
    self.started.map_or(Duration::ZERO, |(at, _)| at.elapsed())
  }

  pub fn listens(&mut self, upstream: Upstream, port: Option<u16>) {
    self.port = port.or(self.port);
    // What the engine chose is meant for requests; a port of its own may be meant for anything.
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

/// Waits for an order of at least this rank. Without a supervisor there is only one left.
async fn ordered(orders: &mut watch::Receiver<Order>, least: Order) -> Order {
  match orders.wait_for(|order| *order >= least).await {
    Ok(order) => *order,
    Err(_) => Order::Kill,
  }
}

async fn live(
  launch: Launch,
  launcher: Arc<dyn Launcher>,
  mut orders: watch::Receiver<Order>,
  in_flight: InFlight,
  news: NewsSender,
) -> End {
  let number = launch.number;
  let tell = |what| {
    let _ = news.send((number, what));
  };
  let (events, mut heard) = mpsc::channel(EVENT_BUFFER);
  let launched = tokio::select! {
    launched = launcher.launch(launch, events) => launched,
    _ = ordered(&mut orders, Order::Drain) => {
      return End::because("was stopped before it had started");
    }
  };
  let instance = match launched {
    Ok(instance) => instance,
    Err(error) => return End::Refused(error),
  };
  tell(News::Launched(instance.clone()));
  let ending = end_when_told(&*instance, &mut orders, &in_flight);
  tokio::pin!(ending);
  loop {
    tokio::select! {
      biased;
      event = heard.recv() => match event {
        Some(InstanceEvent::Ended { reason, code }) => return End::Ended { reason, code },
        Some(event) => tell(News::Said(event)),
        None => return End::because("ended"),
      },
      () = &mut ending => break,
    }
  }
  // It is gone; what it said last may still be on its way.
  while let Ok(event) = heard.try_recv() {
    match event {
      InstanceEvent::Ended { reason, code } => return End::Ended { reason, code },
      event => tell(News::Said(event)),
    }
  }
  End::because("was stopped")
}

async fn end_when_told(
  instance: &dyn Instance,
  orders: &mut watch::Receiver<Order>,
  in_flight: &InFlight,
) {
  if ordered(orders, Order::Drain).await == Order::Drain {
    tokio::select! {
      () = in_flight.idle() => {}
      () = tokio::time::sleep(DRAIN_TIME) => {}
      _ = ordered(orders, Order::Stop) => {}
    }
  }
  tokio::select! {
    biased;
    _ = ordered(orders, Order::Kill) => instance.stop(Duration::ZERO).await,
    () = instance.stop(STOP_GRACE) => {}
  }
}
