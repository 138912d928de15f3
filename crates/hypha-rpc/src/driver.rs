//! Keeps a client connected.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::SplitStream;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval_at;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::core::Core;
use crate::core::Identity;
use crate::dispatch;
use crate::error::CallError;
use crate::error::ConnectError;
use crate::error::Refusal;
use crate::link::Link;
use crate::link::write;
use crate::options::Token;
use crate::rate::Bucket;
use crate::registry;
use crate::state::State;
use crate::transport::Credentials;
use crate::transport::Socket;
use crate::transport::Transport;
use crate::transport::Welcome;
use crate::value::Map;
use crate::value::Value;

/// A connection that was lost earlier than this did not work: the next pause is longer, not shorter.
const STEADY: Duration = Duration::from_secs(10);
/// Attempts in a row for which another client has the id, until the client gives up.
const SAME_ID: usize = 5;
/// Most time that a program that disconnects waits for what it has still to say.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time between the connection and the first renewal of the token for reconnections.
const FIRST_RENEWAL: Duration = Duration::from_secs(2);

/// What is needed to connect, again and again.
pub(crate) struct Driver {
  core: Arc<Core>,
  transport: Transport,
  client_id: String,
  pauses: Pauses,
}

impl Driver {
  pub(crate) fn new(core: Arc<Core>, transport: Transport, client_id: String) -> Self {
    let (shortest, longest) = core.options.limits.reconnect;
    Self {
      core,
      transport,
      client_id,
      pauses: Pauses::new(shortest, longest),
    }
  }

  /// Connects for the first time.
  pub(crate) async fn connect(&self) -> Result<(Socket, Welcome), ConnectError> {
    self.transport.open(&self.original()).await
  }

  /// Serves the connection, and those after it, until the client is stopped or refused for good.
  pub(crate) async fn run(mut self, socket: Socket, welcome: Welcome) {
    let mut next = (socket, welcome);
    loop {
      let begun = Instant::now();
      let reason = self.serve(next.0, next.1).await;
      if self.core.stop.is_cancelled() {
        break;
      }
      tracing::warn!(
        server = self.transport.address(),
        "connection lost: {reason}"
      );
      self.core.state.send_replace(State::Lost(reason));
      if begun.elapsed() >= STEADY {
        self.pauses.reset();
      }
      next = match self.reconnect().await {
        Some(next) => next,
        None => break,
      };
    }
    self.core.stop.cancel();
    self.core.overflow.close();
    self.core.sessions.clear_exports();
    self.core.state.send_if_modified(|state| {
      let changes = !matches!(state, State::Refused(_));
      if changes {
        *state = State::Disconnected;
      }
      changes
    });
  }

  /// With what the client connects from nothing.
  fn original(&self) -> Credentials {
    Credentials {
      client_id: self.client_id.clone(),
      workspace: self.core.options.workspace.clone(),
      token: self.core.options.token.clone(),
      reconnection: None,
    }
  }

  /// A new connection; `None` if the client is stopped, or refused for good.
  async fn reconnect(&mut self) -> Option<(Socket, Welcome)> {
    let mut same_id = 0;
    loop {
      let pause = self.pauses.next();
      tokio::select! {
        () = self.core.stop.cancelled() => return None,
        () = tokio::time::sleep(pause) => {}
      }
      self.core.state.send_replace(State::Connecting);
      let attempt = tokio::select! {
        () = self.core.stop.cancelled() => return None,
        attempt = self.attempt() => attempt,
      };
      let error = match attempt {
        Ok(next) => return Some(next),
        Err(error) => error,
      };
      same_id = match &error {
        ConnectError::Refused {
          kind: Refusal::ClientExists,
          ..
        } => same_id + 1,
        _ => 0,
      };
      if !error.may_pass() || same_id == SAME_ID {
        tracing::error!("not connected any more: {error}");
        self
          .core
          .state
          .send_replace(State::Refused(error.to_string()));
        return None;
      }
      tracing::warn!("no connection yet: {error}");
      self.core.state.send_replace(State::Lost(error.to_string()));
    }
  }

  async fn attempt(&self) -> Result<(Socket, Welcome), ConnectError> {
    if let Some(token) = self.core.reconnection() {
      let again = Credentials {
        workspace: Some(self.core.identity().workspace.clone()),
        token: None,
        reconnection: Some(token),
        ..self.original()
      };
      match self.transport.open(&again).await {
        // The token has expired, or the server has another secret now.
        Err(ConnectError::Refused { message, .. }) => {
          tracing::info!("the token for reconnections is refused: {message}");
          self.core.set_reconnection(None);
        }
        outcome => return outcome,
      }
    }
    self.transport.open(&self.original()).await
  }

  /// Serves one connection. Returns why it is lost.
  async fn serve(&self, socket: Socket, welcome: Welcome) -> String {
    let core = &self.core;
    let before = core.identity();
    let life = welcome.reconnection_token_life_time;
    let identity = identity(core, welcome);
    if !before.client_id.is_empty() && before.address() != identity.address() {
      // Peers know streams and functions by the old address.
      core.sessions.clear_exports();
    }
    tracing::info!(
      server = self.transport.address(),
      workspace = identity.workspace,
      client_id = identity.client_id,
      "connected"
    );
    core.set_identity(identity);
    let limits = &core.options.limits;
    let (link, queues) = Link::new(limits);
    let _down = link.down().clone().drop_guard();
    let (sink, stream) = socket.split();
    let bucket = Bucket::new(limits.rate, limits.burst);
    let writer = tokio::spawn(write(sink, queues, link.down().clone(), bucket));
    core.link.send_replace(Some(link.clone()));
    let tasks = [
      tokio::spawn(keep_alive(Arc::clone(core), link.clone(), life)),
      tokio::spawn(registry::keep(Arc::clone(core), link.clone())),
      tokio::spawn(sweep(Arc::clone(core), link.down().clone())),
    ];
    let reason = tokio::select! {
      biased;
      reason = read(core, stream) => reason,
      () = link.down().cancelled() => "the server takes no messages any more".into(),
      () = core.stop.cancelled() => {
        link.urge(Message::Close(None));
        let _ = tokio::time::timeout(FAREWELL, link.down().cancelled()).await;
        "this program disconnects".into()
      }
    };
    link.down().cancel();
    core.link.send_replace(None);
    core.sessions.fail_all(&match core.stop.is_cancelled() {
      true => CallError::Closed,
      false => CallError::Disconnected,
    });
    for task in tasks {
      task.abort();
    }
    // It ends by itself: it watches the same token.
    let _ = writer.await;
    reason
  }
}

fn identity(core: &Core, welcome: Welcome) -> Identity {
  core.set_reconnection(welcome.reconnection_token.map(Token::new));
  let user = match Value::from(welcome.user) {
    Value::Map(user) => user,
    _ => Map::new(),
  };
  Identity {
    workspace: welcome.workspace,
    client_id: welcome.client_id,
    manager: format!("*/{}", welcome.manager_id),
    server: welcome.public_base_url.unwrap_or_default(),
    user: user.into(),
  }
}

/// Reads until the connection is lost. Returns why.
async fn read(core: &Arc<Core>, mut stream: SplitStream<Socket>) -> String {
  let silence = core.options.limits.ping * 2;
  let mut said = None;
  loop {
    let message = match tokio::time::timeout(silence, stream.next()).await {
      Err(_) => return format!("nothing came within {silence:?}"),
      Ok(None) => return said.unwrap_or_else(|| "the server closed it".into()),
      Ok(Some(Err(error))) => return said.unwrap_or_else(|| error.to_string()),
      Ok(Some(Ok(message))) => message,
    };
    match message {
      Message::Binary(bytes) => dispatch::frame(core, &bytes),
      Message::Text(text) => said = note(core, text.as_str()).or(said),
      Message::Close(frame) => {
        let reason = frame.map(|it| format!("{} ({})", it.reason, it.code));
        return reason
          .or(said)
          .unwrap_or_else(|| "the server closed it".into());
      }
      // Pings are answered by the library.
      _ => {}
    }
  }
}

/// Takes a text frame, which only the server sends. Returns why it is about to close the connection, if it
/// says so.
fn note(core: &Arc<Core>, text: &str) -> Option<String> {
  let Ok(serde_json::Value::Object(message)) = serde_json::from_str(text) else {
    tracing::warn!(
      bytes = text.len(),
      "a text of the server is dropped: it is no JSON object"
    );
    return None;
  };
  let member = |name: &str| message.get(name).and_then(serde_json::Value::as_str);
  match member("type") {
    Some("pong") => {}
    Some("reconnection_token") => {
      if let Some(token) = member("reconnection_token") {
        core.set_reconnection(Some(Token::new(token)));
      }
    }
    Some("error") if member("session").is_none() => {
      return member("message").map(str::to_owned);
    }
    _ => {
      let main: Map = message
        .into_iter()
        .map(|(n, v)| (n, Value::from(v)))
        .collect();
      dispatch::message(core, &main, Map::new());
    }
  }
  None
}

/// Tells the server that the client lives, and renews the token for reconnections.
async fn keep_alive(core: Arc<Core>, link: Link, life: Option<f64>) {
  let limits = &core.options.limits;
  let text = |kind: &str| Message::text(serde_json::json!({"type": kind}).to_string());
  let life = life.and_then(|it| Duration::try_from_secs_f64(it / 1.5).ok());
  let renewal = limits
    .renewal
    .min(life.unwrap_or(Duration::MAX))
    .max(Duration::from_secs(1));
  let now = Instant::now();
  let ping = limits.ping.max(Duration::from_millis(10));
  let mut pings = interval_at(now + ping, ping);
  let mut renewals = interval_at(now + FIRST_RENEWAL, renewal);
  for timer in [&mut pings, &mut renewals] {
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
  }
  loop {
    tokio::select! {
      () = link.down().cancelled() => return,
      _ = pings.tick() => link.urge(text("ping")),
      _ = renewals.tick() => link.urge(text("refresh_token")),
    }
  }
}

/// Drops what peers do not use any more.
async fn sweep(core: Arc<Core>, down: CancellationToken) {
  let idle = core.options.limits.idle;
  let pause = (idle / 4).clamp(Duration::from_millis(50), Duration::from_secs(15));
  let mut timer = tokio::time::interval(pause);
  timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
  loop {
    tokio::select! {
      () = down.cancelled() => return,
      _ = timer.tick() => {
        core.sessions.drop_idle(idle);
        core.parts.drop_idle();
      }
    }
  }
}

/// Pauses that grow, each at a random place, so that clients of one server do not come back together.
struct Pauses {
  shortest: Duration,
  longest: Duration,
  next: Duration,
}

impl Pauses {
  fn new(shortest: Duration, longest: Duration) -> Self {
    let shortest = shortest.max(Duration::from_millis(1));
    Self {
      shortest,
      longest: longest.max(shortest),
      next: shortest,
    }
  }

  fn reset(&mut self) {
    self.next = self.shortest;
  }

  fn next(&mut self) -> Duration {
    let most = self.next;
    self.next = (most * 2).min(self.longest);
    // Random bits, from the generator that the crate has anyway.
    let place = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    self.shortest.max(most.mul_f64(0.5 + place / 2.0))
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn pauses_grow_up_to_the_longest() {
    let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(30));
    let mut pauses = Pauses::new(shortest, longest);
    for _ in 0..40 {
      let pause = pauses.next();
      assert!(pause >= shortest && pause <= longest, "{pause:?}");
    }
    assert!(pauses.next() >= longest / 2);
    pauses.reset();
    assert_eq!(pauses.next(), shortest);
  }
}
