//! A call of the worker, and what its caller is told meanwhile.

use hypha_rpc::Arguments;
use hypha_rpc::Context;
use hypha_rpc::MethodRef;
use hypha_rpc::RemoteError;
use hypha_rpc::Value;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

/// The parameter by which a caller is told how far it is.
const PROGRESS: &str = "progress_callback";

/// Reads the arguments of a call by the names of its parameters, which callers give in order, as keywords, or as
/// members of one object.
///
/// # Errors
/// When one is missing or of another type; it is named.
pub(super) fn given<P: DeserializeOwned>(
  arguments: &Arguments,
  names: &[&str],
) -> Result<P, RemoteError> {
  let mut given = Map::new();
  let mut take = |name: &str, value: &Value| {
    if !value.is_nil() && name != PROGRESS {
      given.insert(name.to_owned(), value.to_json());
    }
  };
  match arguments.positional.as_slice() {
    [Value::Map(only)] if names.first().is_some_and(|first| only.contains(first)) => {
      only.iter().for_each(|(name, value)| take(name, value));
    }
    values => {
      for (name, value) in names.iter().zip(values) {
        take(name, value);
      }
    }
  }
  for (name, value) in arguments.keywords.iter() {
    take(name, value);
  }
  serde_json::from_value(Json::Object(given))
    .map_err(|e| RemoteError::new(format!("Invalid parameters: {e}")))
}

/// The caller of something that takes a while.
pub(super) struct Waiting<'a> {
  context: &'a Context,
  callback: Option<MethodRef>,
}

impl<'a> Waiting<'a> {
  /// Finds the callback among the arguments, or in the `config` among them.
  pub(super) fn new(context: &'a Context, arguments: &Arguments) -> Self {
    let inside = |value: &Value| value.get(PROGRESS).cloned();
    let keyword = |name: &str| arguments.keywords.get(name);
    let found = keyword(PROGRESS).cloned();
    let found = found.or_else(|| keyword("config").and_then(inside));
    let found = found.or_else(|| arguments.positional.iter().find_map(inside));
    let callback = found.as_ref().and_then(Value::as_method).cloned();
    Self { context, callback }
  }

  /// Tells how far it is. A caller who cannot be told goes without.
  pub(super) async fn tell(&self, message: &str) {
    let Some(callback) = &self.callback else {
      return;
    };
    let message = Value::from(json!({ "type": "info", "message": message }));
    if let Err(error) = self.context.client().call(callback, [message]).await {
      tracing::debug!("a caller could not be told: {error}");
    }
  }
}
