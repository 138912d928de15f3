//! The methods as a service of Hypha's RPC: calls become what methods take, answers what callers read.

use std::sync::Arc;

use futures::StreamExt;
use hypha_rpc::Arguments;
use hypha_rpc::Context;
use hypha_rpc::Map;
use hypha_rpc::RemoteError;
use hypha_rpc::Reply;
use hypha_rpc::Value;
use hypha_rpc::Visibility;
use serde_json::Value as Json;

use crate::method::Answer;
use crate::method::Asker;
use crate::method::Method;
use crate::method::Service;
use crate::methods;

/// Id and type of the service.
pub const SERVICE_ID: &str = "deno-app-engine";

/// Most items of a stream that are joined while a consumer is slower than they come.
const JOINED: usize = 1000;
/// Most bytes of output that are joined into one item.
const JOINED_BYTES: usize = 256 << 10;
/// The service that a client registers.
pub(crate) fn service(service: &Arc<Service>) -> hypha_rpc::Service {
  let offered = hypha_rpc::Service::new(SERVICE_ID)
    .name("Deno App Engine")
    .kind(SERVICE_ID)
    .description(
      "Runs TypeScript, JavaScript and Python for others: kernels, apps, vector indices and agents",
    )
    .visibility(Visibility::Public);
  methods()
    .into_iter()
    .fold(offered, |offered, it| offered.method(method(service, it)))
}

fn method(service: &Arc<Service>, method: Method) -> hypha_rpc::Method {
  let (name, description, schema) = (method.name, method.description, method.parameters.clone());
  let (service, method) = (service.clone(), Arc::new(method));
  let handler = move |context: Context, arguments: Arguments| {
    let (service, method) = (service.clone(), method.clone());
    async move { call(service, &method, &context, &arguments).await }
  };
  hypha_rpc::Method::new(name, handler)
    .description(description)
    .schema(schema)
}

async fn call(
  service: Arc<Service>,
  method: &Method,
  context: &Context,
  arguments: &Arguments,
) -> Result<Reply, RemoteError> {
  let asker = Asker {
    is_own: context.workspace == service.workspace,
    is_anonymous: context.user.is_anonymous,
    workspace: context.workspace.clone(),
  };
  let given = named(method, arguments)?;
  let answer = method.call(service, asker, given).await;
  match answer.map_err(|failure| RemoteError::new(failure.to_string()))? {
    Answer::Value(value) => Ok(Reply::Value(Value::from(value))),
    Answer::Stream(items) => {
      let items = items.map(|item| Ok(Value::from(item)));
      Ok(Reply::coalesced(items, JOINED, join))
    }
  }
}

/// The arguments by their names: clients send one object of options, keywords, or a bare value where a method has
/// one thing to work on.
///
/// # Errors
/// When the bare value is no text, in the words of the original, or a parameter is nothing that JSON has.
fn named(
  method: &Method,
  arguments: &Arguments,
) -> Result<serde_json::Map<String, Json>, RemoteError> {
  let options = arguments.options();
  for (name, value) in options.iter() {
    // What a method does not know is ignored, whatever it is.
    if method.takes(name) {
      plain(value).map_err(|what| {
        RemoteError::new(format!("Invalid parameters: {name}: {what} is not taken"))
      })?;
    }
  }
  let mut given: serde_json::Map<String, Json> = options
    .iter()
    .map(|(name, value)| (name.to_owned(), value.to_json()))
    .collect();
  match (arguments.positional.first(), method.first_parameter()) {
    (Some(Value::Text(text)), Some(first)) => {
      given.insert(first.to_owned(), text.clone().into());
    }
    (None | Some(Value::Nil | Value::Map(_)), _) | (_, None) => {}
    (Some(_), Some(first)) => {
      return Err(RemoteError::new(format!(
        "Invalid parameters provided: {} takes an object, or a text as its {first}",
        method.name
      )));
    }
  }
  Ok(given)
}

/// # Errors
/// What the value is, if no parameter is that: as JSON it would be an object that nobody has written.
fn plain(value: &Value) -> Result<(), &'static str> {
  match value {
    Value::Nil | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => Ok(()),
    Value::Text(_) => Ok(()),
    Value::List(_) | Value::Map(_) => without_calls(value),
    Value::Method(_) | Value::Callback(_) | Value::Generator(_) => without_calls(value),
    Value::Bytes(_) | Value::MemoryView(_) => Err("a value of bytes"),
    Value::Date(_) => Err("a date"),
    Value::NdArray(_) | Value::TypedArray(_) => Err("an array that is no list"),
    _ => Err("a value of this type"),
  }
}

/// # Errors
/// When the value has something in it that its sender wants called, which nobody does.
fn without_calls(value: &Value) -> Result<(), &'static str> {
  match value {
    Value::Method(_) | Value::Callback(_) => Err("a function"),
    Value::Generator(_) => Err("a stream"),
    Value::List(items) => items.iter().try_for_each(without_calls),
    Value::Map(map) => map.iter().try_for_each(|(_, value)| without_calls(value)),
    _ => Ok(()),
  }
}

/// Joins two pieces of output of the same stream, and of what a model writes: a consumer that is slower than its kernel
/// gets longer pieces, not more messages.
fn join(first: &mut Value, second: Value) -> Option<Value> {
  match joined(first, &second) {
    Some(()) => None,
    None => Some(second),
  }
}

fn joined(first: &mut Value, second: &Value) -> Option<()> {
  let (Value::Map(first), Value::Map(second)) = (first, second) else {
    return None;
  };
  if first.text("type")? != second.text("type")? {
    return None;
  }
  match first.text("type")? {
    "stream" => {
      let next = second.get("data")?.as_map()?;
      let data = first.get("data")?.as_map()?;
      if data.text("name")? != next.text("name")? {
        return None;
      }
      let mut data = data.clone();
      append(&mut data, "text", next.text("text")?)?;
      first.insert("data", data);
      Some(())
    }
    "text_chunk" => append(first, "content", second.text("content")?),
    _ => None,
  }
}

fn append(map: &mut Map, name: &str, more: &str) -> Option<()> {
  let text = map.text(name)?;
  if text.len() + more.len() > JOINED_BYTES {
    return None;
  }
  let text = format!("{text}{more}");
  map.insert(name, text);
  Some(())
}
