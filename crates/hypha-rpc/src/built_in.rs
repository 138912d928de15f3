//! The service that every client has for the protocol itself.

use std::sync::Arc;

use futures::FutureExt;

use crate::arguments::Arguments;
use crate::core::Core;
use crate::core::Identity;
use crate::dispatch;
use crate::dispatch::Answer;
use crate::dispatch::Envelope;
use crate::error::RemoteError;
use crate::reply::Reply;
use crate::responder::Responder;
use crate::service::BUILT_IN;
use crate::service::Method;
use crate::service::Service;
use crate::service::Visibility;
use crate::value::Map;
use crate::value::Value;

/// Bytes from which a message is read on a thread of its own.
const LONG: usize = 1 << 20;

/// Calls a method of the built-in service.
///
/// # Errors
/// The text that the caller gets.
pub(crate) fn call(
  core: &Arc<Core>,
  envelope: &Envelope,
  name: &str,
  arguments: &Arguments,
  responder: &Responder,
) -> Result<Option<Answer>, String> {
  match name {
    // The server takes clients that are slow to answer for dead.
    "ping" => {
      responder.answer_urgently(core, "pong".into());
      Ok(None)
    }
    "get_service" => {
      let id = arguments.get(0, "service_id").and_then(Value::as_str);
      let id = id.ok_or("get_service: the id of the service is missing")?;
      ready(service(core, envelope, id)?.into())
    }
    _ => match name.strip_prefix("message_cache.") {
      Some(name) => pieces(core, envelope, name, arguments),
      None => Err(format!("Method not found: {}", envelope.method)),
    },
  }
}

#[expect(
  clippy::unnecessary_wraps,
  reason = "it is the last step of functions that may fail"
)]
fn ready(value: Value) -> Result<Option<Answer>, String> {
  Ok(Some(async { Ok(Reply::Value(value)) }.boxed()))
}

/// What a peer is told of a service.
fn service(core: &Core, envelope: &Envelope, id: &str) -> Result<Map, String> {
  let id = id.split('@').next().unwrap_or(id);
  let identity = core.identity();
  if id == BUILT_IN {
    return Ok(definition().api(&identity.workspace, &identity.client_id, &identity.server));
  }
  let service = core
    .service(id)
    .ok_or_else(|| format!("Service not found: {id}"))?;
  // The workspace of the user for whom the manager asks, even when the manager does.
  if !service.admits(&envelope.workspace, &identity.workspace) {
    return Err(format!(
      "Permission denied for getting protected service: {id}, workspace mismatch: {} != {}",
      identity.workspace, envelope.workspace
    ));
  }
  Ok(service.api(&identity.workspace, &identity.client_id, &identity.server))
}

fn pieces(
  core: &Arc<Core>,
  envelope: &Envelope,
  name: &str,
  arguments: &Arguments,
) -> Result<Option<Answer>, String> {
  let text = |error: RemoteError| error.message;
  let key = arguments.get(0, "key").and_then(Value::as_str);
  let key = key.ok_or("the key of the message is missing")?.to_owned();
  let peer = &envelope.from;
  let place = match name {
    "create" | "process" => 1,
    "append" => 2,
    _ => 3,
  };
  let alive = arguments.get(place, "heartbeat").and_then(Value::as_bool);
  // The pieces answer a call of ours: each is a sign of life.
  if alive == Some(true) && name != "remove" && !core.sessions.alive(&key, peer) {
    return Err(format!("session does not exist anymore: {key}"));
  }
  let piece = |place: usize| {
    let piece = arguments.get(place, "data").and_then(Value::as_bytes);
    piece.cloned().ok_or("the piece of the message is missing")
  };
  match name {
    "create" => core.parts.create(peer, &key).map_err(text)?,
    "set" => {
      let index = arguments.get(1, "index").and_then(Value::as_i64);
      let index = index.and_then(|it| usize::try_from(it).ok());
      let index = index.ok_or("the index of the piece is missing")?;
      core
        .parts
        .set(peer, &key, Some(index), piece(2)?)
        .map_err(text)?;
    }
    "append" => core.parts.set(peer, &key, None, piece(1)?).map_err(text)?,
    "remove" => core.parts.remove(peer, &key),
    "process" => {
      let whole = core.parts.take(peer, &key).map_err(text)?;
      if whole.len() < LONG {
        dispatch::whole(core, &whole, envelope)?;
        return ready(Value::Nil);
      }
      let (core, envelope) = (Arc::clone(core), envelope.clone());
      let read = async move {
        let read = move || dispatch::whole(&core, &whole, &envelope);
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|_| Err("the message cannot be read".into()))?;
        Ok(Reply::Value(Value::Nil))
      };
      return Ok(Some(read.boxed()));
    }
    _ => return Err(format!("Method not found: {}", envelope.method)),
  }
  ready(Value::Nil)
}

/// What the workspace manager is told.
pub(crate) fn registration(identity: &Identity) -> Map {
  definition().registration(&identity.workspace, &identity.client_id)
}

fn definition() -> Service {
  let methods = [
    ("ping", "Answers `pong`."),
    (
      "get_service",
      "Returns a service of this client, as far as the caller may use it.",
    ),
    ("message_cache.create", "Begins a message in pieces."),
    ("message_cache.append", "Adds the next piece of a message."),
    (
      "message_cache.set",
      "Adds a piece of a message at its place.",
    ),
    ("message_cache.remove", "Drops a message in pieces."),
    (
      "message_cache.process",
      "Takes a message of which all pieces are there.",
    ),
  ];
  let service = Service::new(BUILT_IN)
    .kind(BUILT_IN)
    .visibility(Visibility::Public)
    .config("api_version", 3);
  methods.into_iter().fold(service, |service, (name, text)| {
    // Never called: calls of this service are answered above.
    let method = Method::new(name, |_, _| async { Ok(()) });
    service.method(method.description(text))
  })
}
