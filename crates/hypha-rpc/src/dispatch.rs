//! What arrives, and whom it is for.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::arguments::Arguments;
use crate::built_in;
use crate::client::Client;
use crate::context::Context;
use crate::context::User;
use crate::core::Core;
use crate::error::CallError;
use crate::error::RemoteError;
use crate::reply::Reply;
use crate::responder::Responder;
use crate::responder::run;
use crate::service::BUILT_IN;
use crate::sessions::Found;
use crate::value::Map;
use crate::value::Value;
use crate::wire;

/// What a handler answers, sooner or later.
pub(crate) type Answer = BoxFuture<'static, Result<Reply, RemoteError>>;

/// A call of a peer. Who calls is what the server attests: the first part of a frame, after the server has
/// written the sender into it. Nothing of it is taken from the second part.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
  pub(crate) from: String,
  pub(crate) workspace: String,
  pub(crate) user: Map,
  pub(crate) method: String,
  pub(crate) session: Option<String>,
}

/// Takes a binary frame as it came.
pub(crate) fn frame(core: &Arc<Core>, frame: &[u8]) {
  match wire::read(frame, core.bounds()) {
    Ok((main, extra)) => message(core, &main, extra),
    Err(error) => {
      tracing::warn!(bytes = frame.len(), "a frame is dropped: {error}");
      unreadable(core, &error);
    }
  }
}

/// Takes the frame that a peer sent in pieces. It is from whoever sent the pieces, whatever it says.
///
/// # Errors
/// The text that the sender gets.
pub(crate) fn whole(core: &Arc<Core>, frame: &[u8], sender: &Envelope) -> Result<(), String> {
  let read = wire::read(frame, core.bounds()).map_err(|error| {
    tracing::warn!(
      from = sender.from,
      "a message in pieces is dropped: {error}"
    );
    format!("the message cannot be read: {error}")
  });
  let (mut main, extra) = read?;
  main.insert("from", sender.from.as_str());
  main.insert("ws", sender.workspace.as_str());
  main.insert("user", sender.user.clone());
  // Events of the server are never sent so: only methods are called.
  if main.text("type") == Some("method") {
    message(core, &main, extra);
  }
  Ok(())
}

/// Tells the caller that its arguments cannot be read, if it is known who that is.
fn unreadable(core: &Core, error: &wire::Malformed) {
  let main = error.main.as_ref();
  let envelope = main.filter(|main| main.text("type") == Some("method"));
  if let Some(envelope) = envelope.and_then(envelope_of) {
    // Whether an answer is wanted stands in what cannot be read; one that is not is dropped.
    let extra = Map::from([("promise", "*")]);
    let responder = Responder::new(core, &envelope, &extra);
    responder.refuse(core, format!("the arguments cannot be read: {error}"));
  }
}

/// Takes a message of either kind of frame.
pub(crate) fn message(core: &Arc<Core>, main: &Map, extra: Map) {
  match main.text("type") {
    Some("method") => match envelope_of(main) {
      Some(envelope) => method(core, envelope, extra),
      None => tracing::warn!("a call is dropped: it does not say by whom or of what"),
    },
    Some(kind) if is_of_server(main) => event(core, kind, main),
    kind => tracing::debug!(?kind, "a message of a kind that is not known is dropped"),
  }
}

/// Whether a message is the server's own: the server writes the sender into whatever a client sends.
fn is_of_server(main: &Map) -> bool {
  main.text("from").is_none_or(|from| from.starts_with("*/"))
}

fn envelope_of(main: &Map) -> Option<Envelope> {
  let from = main.text("from").filter(|from| from.contains('/'))?;
  let user = main.get("user").and_then(Value::as_map);
  Some(Envelope {
    from: from.to_owned(),
    workspace: main.text("ws").unwrap_or_default().to_owned(),
    user: user.cloned().unwrap_or_default(),
    method: main.text("method")?.to_owned(),
    session: main.text("session").map(str::to_owned),
  })
}

fn event(core: &Arc<Core>, kind: &str, main: &Map) {
  match kind {
    "client_disconnected" => {
      let data = main.get("data").and_then(Value::as_map).unwrap_or(main);
      let (id, workspace) = (data.text("id"), data.text("workspace"));
      let peer = match (id, workspace) {
        (Some(id), _) if id.contains('/') => id.to_owned(),
        (Some(id), Some(workspace)) => format!("{workspace}/{id}"),
        _ => return,
      };
      if peer != core.identity().address() {
        tracing::debug!(peer, "a client has left");
        core.forget_peer(&peer);
      }
    }
    "peer_not_found" | "error" => {
      let peer = main.text("peer_id").unwrap_or_default();
      let text = main.text("error").or_else(|| main.text("message"));
      if let Some(session) = main.text("session") {
        let error = match peer {
          "" => CallError::Remote(RemoteError::new(
            text.unwrap_or("the server reports an error"),
          )),
          peer => CallError::PeerGone(peer.to_owned()),
        };
        core.sessions.fail(session, error);
      }
      if kind == "peer_not_found" && peer.contains('/') {
        core.forget_peer(peer);
      }
    }
    _ => tracing::debug!(kind, "an event of the server"),
  }
}

fn method(core: &Arc<Core>, envelope: Envelope, mut extra: Map) {
  let Some((first, rest)) = envelope.method.split_once('.') else {
    let responder = Responder::new(core, &envelope, &extra);
    responder.refuse(core, format!("Method not found: {}", envelope.method));
    return;
  };
  if first != "services"
    && core.sessions.is_call(first)
    && settle(core, &envelope, rest, &mut extra)
  {
    return;
  }
  let responder = Responder::new(core, &envelope, &extra);
  let arguments = arguments(&envelope, &mut extra);
  let answer = if first == "services" {
    of_service(core, &envelope, rest, arguments, &responder)
  } else {
    of_session(core, &envelope, first, rest, arguments)
  };
  match answer {
    Ok(Some(answer)) => run(core, envelope, responder, answer),
    // Answered already.
    Ok(None) => {}
    Err(text) => responder.refuse(core, text),
  }
}

/// Takes the answer to a call of ours, or a sign of life of it; `false` if it is none.
fn settle(core: &Arc<Core>, envelope: &Envelope, leaf: &str, extra: &mut Map) -> bool {
  let session = envelope.method.split('.').next().unwrap_or_default();
  let first = |extra: &mut Map| match extra.remove("args") {
    Some(Value::List(args)) => args.into_iter().next().unwrap_or_default(),
    _ => Value::Nil,
  };
  let taken = match leaf {
    "heartbeat" => core.sessions.alive(session, &envelope.from),
    "resolve" => core
      .sessions
      .answer(session, &envelope.from, Ok(first(extra))),
    "reject" => {
      let error = Err(rejection(first(extra), &envelope.from));
      core.sessions.answer(session, &envelope.from, error)
    }
    _ => return false,
  };
  if !taken {
    tracing::debug!(from = envelope.from, "an answer that nobody awaits");
  }
  true
}

/// The error that a call of `peer` was rejected with.
fn rejection(value: Value, peer: &str) -> CallError {
  let error = match value {
    Value::Error(error) => *error,
    Value::Text(text) => RemoteError::new(text),
    Value::Nil => RemoteError::new("the method failed and does not say why"),
    other => RemoteError::new(other.to_string()),
  };
  // What the server answers in the name of a client that has just left.
  if error.message == format!("Target peer {peer} is not connected") {
    return CallError::PeerGone(peer.to_owned());
  }
  CallError::Remote(error)
}

fn arguments(envelope: &Envelope, extra: &mut Map) -> Arguments {
  let with_kwargs = extra.get("with_kwargs").and_then(Value::as_bool) == Some(true);
  let mut positional = match extra.remove("args") {
    Some(Value::List(args)) => args,
    _ => Vec::new(),
  };
  let workspace = envelope.from.split('/').next().unwrap_or_default();
  for argument in &mut positional {
    argument.anchor(workspace, Some(&envelope.from));
  }
  Arguments::received(positional, with_kwargs)
}

fn of_service(
  core: &Arc<Core>,
  envelope: &Envelope,
  path: &str,
  arguments: Arguments,
  responder: &Responder,
) -> Result<Option<Answer>, String> {
  let (id, name) = path.split_once('.').unwrap_or((path, ""));
  if id == BUILT_IN {
    return built_in::call(core, envelope, name, &arguments, responder);
  }
  let service = core.service(id);
  let method = service.as_ref().and_then(|service| service.find(name));
  let (Some(service), Some(method)) = (&service, method) else {
    return Err(format!("Method not found: {}", envelope.method));
  };
  let identity = core.identity();
  // The workspace manager calls for others only what those may reach, and for itself anything.
  let admitted = envelope.from == identity.manager
    || service.admits(workspace_of(&envelope.from), &identity.workspace);
  if !admitted {
    return Err(format!(
      "Permission denied for invoking protected method {}, workspace mismatch: {} != {}",
      envelope.method,
      identity.workspace,
      workspace_of(&envelope.from)
    ));
  }
  let context = Context {
    from: envelope.from.clone(),
    workspace: envelope.workspace.clone(),
    user: User::from(envelope.user.clone()),
    method: envelope.method.clone(),
    client: Client::of(core),
    departure: core.departures.watch(&envelope.from),
  };
  Ok(Some(method.call(context, arguments)))
}

fn of_session(
  core: &Arc<Core>,
  envelope: &Envelope,
  session: &str,
  name: &str,
  arguments: Arguments,
) -> Result<Option<Answer>, String> {
  match core.sessions.find(session, name, &envelope.from) {
    Found::Callback(callback) => {
      let answer = callback.call(arguments);
      Ok(Some(async { answer.await.map(Reply::Value) }.boxed()))
    }
    Found::Pull(stream) => {
      let core = Arc::clone(core);
      let pull = async move {
        let pulled = stream.pull().await;
        core.sessions.pulled(&stream, pulled.ended);
        pulled.outcome.map(Reply::Value)
      };
      Ok(Some(pull.boxed()))
    }
    Found::Closed => Ok(Some(async { Ok(true.into()) }.boxed())),
    Found::Forbidden => Err(format!(
      "Access denied for method call ({}) from {}",
      envelope.method, envelope.from
    )),
    Found::Missing => Err(format!("Session not found: {}", envelope.method)),
  }
}

pub(crate) fn workspace_of(address: &str) -> &str {
  address.split('/').next().unwrap_or_default()
}
