//! From a call of a peer to its answer.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::chunks;
use crate::core::Core;
use crate::core::Identity;
use crate::dispatch::Answer;
use crate::dispatch::Envelope;
use crate::dispatch::workspace_of;
use crate::error::CallError;
use crate::error::RemoteError;
use crate::reply::Reply;
use crate::request::FRAME;
use crate::sessions::new_id;
use crate::value::GeneratorRef;
use crate::value::Map;
use crate::value::MethodRef;
use crate::value::Value;

/// Pauses between signs of life: what a caller asks for is kept within these.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(300);
const USUAL: Duration = Duration::from_secs(15);

/// Where the answer to a call goes.
#[derive(Debug, Clone)]
pub(crate) struct Responder {
  peer: String,
  /// `None` if the caller wants no answer.
  paths: Option<Paths>,
  session: Option<String>,
  interval: Duration,
  /// Who was called: an answer in another name would reach nobody.
  identity: Arc<Identity>,
}

/// Methods of the caller.
#[derive(Debug, Clone)]
struct Paths {
  resolve: String,
  reject: String,
  heartbeat: Option<String>,
}

impl Responder {
  /// The responder of a call; one that answers nothing if the call asks for no answer, or asks to answer
  /// someone else than the caller.
  pub(crate) fn new(core: &Core, envelope: &Envelope, extra: &Map) -> Self {
    let seconds = |value: Option<&Value>| {
      let seconds = value.and_then(Value::as_f64).filter(|it| *it > 0.0);
      let pause = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok());
      pause.unwrap_or(USUAL).clamp(SHORTEST, LONGEST)
    };
    let (paths, interval) = match extra.get("promise") {
      Some(Value::Text(_)) => {
        let paths = envelope.session.as_ref().map(|session| Paths {
          resolve: format!("{session}.resolve"),
          reject: format!("{session}.reject"),
          heartbeat: Some(format!("{session}.heartbeat")),
        });
        (paths, seconds(extra.get("t")))
      }
      Some(Value::Map(promise)) => {
        let path = |name: &str| {
          let method = promise.get(name)?.as_method()?;
          let target = match method.target.contains('/') {
            true => method.target.clone(),
            false => format!("{}/{}", workspace_of(&envelope.from), method.target),
          };
          (target == envelope.from).then(|| method.method.clone())
        };
        let paths = path("resolve").zip(path("reject"));
        let paths = paths.map(|(resolve, reject)| Paths {
          resolve,
          reject,
          heartbeat: path("heartbeat"),
        });
        (paths, seconds(promise.get("interval")))
      }
      _ => (None, USUAL),
    };
    Self {
      peer: envelope.from.clone(),
      paths,
      session: envelope.session.clone(),
      interval,
      identity: core.identity(),
    }
  }

  /// Answers with an error at once. The answer is lost when too many others wait.
  pub(crate) fn refuse(&self, core: &Core, text: String) {
    tracing::debug!(peer = self.peer, "refused: {text}");
    let Some(paths) = &self.paths else { return };
    let error = Value::from(RemoteError::new(text));
    self.send_urgently(core, &paths.reject, Some(error));
  }

  /// Answers with a short value at once, before all that waits.
  pub(crate) fn answer_urgently(&self, core: &Core, value: Value) {
    if let Some(paths) = &self.paths {
      self.send_urgently(core, &paths.resolve, Some(value));
    }
  }

  fn send_urgently(&self, core: &Core, method: &str, value: Option<Value>) {
    let link = core.current_link();
    if let (Ok(link), Ok(frame)) = (link, self.frame(core, method, value)) {
      link.send_urgently(frame);
    }
  }

  fn heartbeat(&self, core: &Core) {
    if let Some(Paths {
      heartbeat: Some(heartbeat),
      ..
    }) = &self.paths
    {
      self.send_urgently(core, heartbeat, None);
    }
  }

  fn frame(&self, core: &Core, method: &str, value: Option<Value>) -> Result<Bytes, CallError> {
    let main = Map::from([
      ("type", Value::from("method")),
      ("from", self.identity.address().into()),
      ("to", self.peer.as_str().into()),
      ("method", method.into()),
    ]);
    let extra = value.map(|value| Map::from([("args", vec![value])]));
    core.frame(&main, &extra.unwrap_or_default())
  }

  /// Sends the answer, once there is a connection.
  async fn answer(&self, core: &Arc<Core>, outcome: Result<Reply, RemoteError>) {
    let Some(paths) = &self.paths else { return };
    let encoded = outcome.and_then(|reply| self.encode(core, reply));
    let frame = match encoded {
      Ok(value) => self
        .frame(core, &paths.resolve, Some(value))
        .map_err(|error| RemoteError::new(format!("the result cannot be sent: {error}"))),
      Err(error) => Err(error),
    };
    let frame = match frame {
      Ok(frame) => frame,
      Err(error) => match self.frame(core, &paths.reject, Some(error.into())) {
        Ok(frame) => frame,
        Err(error) => {
          tracing::warn!(peer = self.peer, "an answer is lost: {error}");
          return;
        }
      },
    };
    if let Err(error) = self.deliver(core, frame).await {
      tracing::debug!(peer = self.peer, "an answer is lost: {error}");
    }
  }

  async fn deliver(&self, core: &Core, frame: Bytes) -> Result<(), CallError> {
    loop {
      let link = core.next_link().await?;
      if core.identity().address() != self.identity.address() {
        return Err(CallError::Disconnected);
      }
      let sent = if frame.len() > FRAME {
        let session = self.session.as_deref();
        chunks::send(core, &link, &self.peer, frame.clone(), session).await
      } else {
        link.send(frame.clone()).await
      };
      match sent {
        Err(CallError::Disconnected) => {
          // Until the loss is noticed, the same connection would be offered again.
          link.down().cancelled().await;
        }
        Err(error) if frame.len() > FRAME => {
          // The caller would wait for a sign of life otherwise.
          self.refuse(core, format!("the result cannot be sent: {error}"));
          return Err(error);
        }
        sent => return sent,
      }
    }
  }

  /// The value that stands for a reply: streams and functions become references.
  fn encode(&self, core: &Arc<Core>, reply: Reply) -> Result<Value, RemoteError> {
    let full = || RemoteError::new("too many streams and functions are in use");
    let server = || Map::from([("_rserver", self.identity.server.as_str())]);
    let mut value = match reply {
      Reply::Value(value) => value,
      Reply::Stream(stream) => {
        let giving = core.for_stream();
        let target = match Arc::ptr_eq(&giving, core) {
          true => self.identity.address(),
          false => giving.identity().address(),
        };
        let id = giving.sessions.give_stream(&self.peer, stream);
        let id = id.ok_or_else(full)?;
        return Ok(Value::from(GeneratorRef {
          target,
          method: format!("{id}.next"),
          close_method: Some(format!("{id}.close")),
          more: server(),
          given_by: None,
        }));
      }
    };
    let mut given = HashMap::new();
    value.replace_callbacks(&mut |callback| {
      let id = new_id();
      let reference = MethodRef {
        target: self.identity.address(),
        method: id.clone(),
        answers: true,
        name: Some(callback.name().to_owned()),
        more: server(),
        ..MethodRef::default()
      };
      given.insert(id, callback);
      reference.into()
    });
    if given.is_empty() {
      return Ok(value);
    }
    let names: Vec<String> = given.keys().cloned().collect();
    let id = core.sessions.give_callbacks(&self.peer, given);
    let id = id.ok_or_else(full)?;
    value.prefix_methods(&names, &id);
    Ok(value)
  }
}

/// Runs a call of a peer on a task of its own, with signs of life until it has an answer.
pub(crate) fn run(core: &Arc<Core>, envelope: Envelope, responder: Responder, answer: Answer) {
  let Ok(permit) = Arc::clone(&core.running).try_acquire_owned() else {
    responder.refuse(
      core,
      "too many calls are in progress: try again later".into(),
    );
    return;
  };
  let core = Arc::clone(core);
  tokio::spawn(async move {
    let _permit = permit;
    tokio::select! {
      () = core.stop.cancelled() => {}
      () = work(&core, &envelope, &responder, answer) => {}
    }
  });
}

async fn work(core: &Arc<Core>, envelope: &Envelope, responder: &Responder, answer: Answer) {
  let departure = core.departures.watch(&envelope.from);
  // None at once: most calls have an answer before the first is due.
  let first = Instant::now() + responder.interval;
  let mut beats = tokio::time::interval_at(first, responder.interval);
  beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
  let answered = async {
    let outcome = AssertUnwindSafe(answer).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| {
      tracing::error!(method = envelope.method, "a handler panicked");
      Err("the method failed".into())
    });
    // The caller is kept patient here too: the answer may be long, or wait behind others.
    responder.answer(core, outcome).await;
  };
  tokio::pin!(answered);
  loop {
    tokio::select! {
      biased;
      () = &mut answered => return,
      _ = beats.tick(), if !departure.is_cancelled() => responder.heartbeat(core),
    }
  }
}
