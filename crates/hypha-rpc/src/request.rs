//! Calls of methods of peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::arguments::Arguments;
use crate::chunks;
use crate::core::Core;
use crate::error::CallError;
use crate::link::Link;
use crate::sessions::Call;
use crate::value::Map;
use crate::value::MethodRef;
use crate::value::Value;
use crate::wire;

/// Messages that are longer are sent in pieces: peers read frames of at most 512 KB.
pub(crate) const FRAME: usize = (256 << 10) + 1024;

impl Core {
  /// Calls a method of a peer and waits for its answer.
  pub(crate) async fn request(
    self: &Arc<Self>,
    peer: &str,
    method: &str,
    arguments: Arguments,
  ) -> Result<Value, CallError> {
    let link = self.current_link()?;
    let mut call = self.sessions.call(peer);
    let frame = self.question(peer, method, arguments, Some(&call))?;
    if frame.len() > FRAME {
      chunks::send(self, &link, peer, frame, None).await?;
    } else {
      link.send(frame).await?;
    }
    self.wait(&link, peer, method, &mut call).await
  }

  /// As [`Core::request`], for a message that is known to be short.
  pub(crate) async fn short_request(
    &self,
    link: &Link,
    peer: &str,
    method: &str,
    arguments: Arguments,
  ) -> Result<Value, CallError> {
    let mut call = self.sessions.call(peer);
    let frame = self.question(peer, method, arguments, Some(&call))?;
    link.send(frame).await?;
    self.wait(link, peer, method, &mut call).await
  }

  /// Calls a method that does not answer.
  pub(crate) async fn notify(
    self: &Arc<Self>,
    peer: &str,
    method: &str,
    arguments: Arguments,
  ) -> Result<(), CallError> {
    let link = self.current_link()?;
    let frame = self.question(peer, method, arguments, None)?;
    if frame.len() > FRAME {
      chunks::send(self, &link, peer, frame, None).await
    } else {
      link.send(frame).await
    }
  }

  /// Calls a method that a peer has named.
  pub(crate) async fn call_method(
    self: &Arc<Self>,
    method: &MethodRef,
    arguments: Arguments,
  ) -> Result<Value, CallError> {
    own(method.given_by.as_deref(), &method.target)?;
    if method.answers {
      self
        .request(&method.target, &method.method, arguments)
        .await
    } else {
      self
        .notify(&method.target, &method.method, arguments)
        .await?;
      Ok(Value::Nil)
    }
  }

  fn question(
    &self,
    peer: &str,
    method: &str,
    arguments: Arguments,
    call: Option<&Call<'_>>,
  ) -> Result<Bytes, CallError> {
    let identity = self.identity();
    let mut main = Map::from([
      ("type", Value::from("method")),
      ("from", identity.address().into()),
      ("to", peer.into()),
      ("method", method.into()),
    ]);
    let Arguments {
      mut positional,
      keywords,
    } = arguments;
    let mut extra = Map::new();
    if !keywords.is_empty() {
      positional.push(keywords.into());
      extra.insert("with_kwargs", true);
    }
    let mut too_long_lived = false;
    for argument in &mut positional {
      argument.replace_callbacks(&mut |callback| {
        let Some(call) = call else {
          too_long_lived = true;
          return Value::Nil;
        };
        let name = callback.name().to_owned();
        let more = Map::from([("_rserver", identity.server.as_str())]);
        Value::from(MethodRef {
          target: identity.address(),
          method: call.give(callback),
          answers: true,
          name: Some(name),
          more,
          ..MethodRef::default()
        })
      });
    }
    if too_long_lived {
      let text =
        "a function is passed to a method that does not answer: nothing would end its life";
      return Err(CallError::Invalid(text.into()));
    }
    if !positional.is_empty() {
      extra.insert("args", positional);
    }
    if let Some(call) = call {
      main.insert("session", call.id.as_str());
      extra.insert("promise", "*");
      extra.insert("t", self.options.limits.call.as_secs_f64() / 2.0);
    }
    self.frame(&main, &extra)
  }

  /// Writes a frame, and checks that peers will read it.
  pub(crate) fn frame(&self, main: &Map, extra: &Map) -> Result<Bytes, CallError> {
    let frame = wire::write(main, extra).map_err(|it| CallError::Invalid(it.to_string()))?;
    let limit = self.options.limits.message_bytes;
    if frame.len() > limit {
      return Err(CallError::Invalid(format!(
        "the message has {} bytes, more than {limit}",
        frame.len()
      )));
    }
    Ok(frame)
  }

  async fn wait(
    &self,
    link: &Link,
    peer: &str,
    method: &str,
    call: &mut Call<'_>,
  ) -> Result<Value, CallError> {
    let limit = self.options.limits.call;
    let mut deadline = after(limit);
    loop {
      tokio::select! {
        biased;
        answer = &mut call.answer => {
          let mut value = answer.unwrap_or(Err(CallError::Disconnected))?;
          value.anchor(peer.split('/').next().unwrap_or_default(), None);
          return Ok(value);
        }
        () = link.down().cancelled() => return Err(self.current_link().err().unwrap_or(CallError::Disconnected)),
        () = call.alive.notified() => deadline = after(limit),
        () = tokio::time::sleep_until(deadline) => return Err(CallError::TimedOut {
          target: peer.to_owned(),
          method: method.to_owned(),
          limit,
        }),
      }
    }
  }
}

fn after(limit: Duration) -> Instant {
  Instant::now() + limit
}

/// Refuses a method that a caller gave to a handler, and that is not the caller's own: the handler would
/// call it with more rights than the caller has.
pub(crate) fn own(given_by: Option<&str>, target: &str) -> Result<(), CallError> {
  match given_by {
    Some(peer) if peer != target => Err(CallError::Invalid(format!(
      "{peer} passed a method of {target}: only methods of the caller itself are called"
    ))),
    _ => Ok(()),
  }
}
