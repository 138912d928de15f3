//! A session of the Chrome DevTools protocol with the worker on this thread.
//! <https://chromedevtools.github.io/devtools-protocol/v8/Runtime/>

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::HashSet;
use std::rc::Rc;

use deno_core::InspectorMsg;
use deno_core::InspectorMsgKind;
use deno_core::LocalInspectorSession;
use deno_runtime::worker::MainWorker;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::typescript::CallError;

/// Objects a cell made the inspector hold; released when the cell ends.
pub(super) const CELL_GROUP: &str = "cell";

pub(super) struct Inspector {
  session: LocalInspectorSession,
  inbox: Rc<RefCell<Inbox>>,
  next_id: i32,
}

#[derive(Default)]
struct Inbox {
  responses: HashMap<i32, String>,
  /// Calls nobody waits for any more: an answer may still come.
  abandoned: HashSet<i32>,
}

impl Inspector {
  pub(super) fn connect(worker: &mut MainWorker) -> Self {
    let inbox = Rc::<RefCell<Inbox>>::default();
    let receiver = inbox.clone();
    let session = worker.create_inspector_session(Box::new(move |message: InspectorMsg| {
      let InspectorMsgKind::Message(id) = message.kind else {
        return;
      };
      let mut inbox = receiver.borrow_mut();
      if !inbox.abandoned.remove(&id) {
        inbox.responses.insert(id, message.content);
      }
    }));
    Self {
      session,
      inbox,
      next_id: 0,
    }
  }

  /// Sends a request; user code it starts runs before this returns.
  pub(super) fn post(&mut self, method: &str, params: &Value) -> i32 {
    self.next_id += 1;
    self
      .session
      .post_message(self.next_id, method, Some(params));
    self.next_id
  }

  pub(super) fn has(&self, id: i32) -> bool {
    self.inbox.borrow().responses.contains_key(&id)
  }

  /// The answer to `id`, when it is there.
  pub(super) fn take(&mut self, id: i32) -> Option<Result<Value, String>> {
    let content = self.inbox.borrow_mut().responses.remove(&id)?;
    Some(match serde_json::from_str::<Value>(&content) {
      Ok(mut message) => match message.get("error").and_then(|e| e.get("message")) {
        Some(error) => Err(error.as_str().unwrap_or("the inspector failed").to_owned()),
        None => Ok(
          message
            .get_mut("result")
            .map(Value::take)
            .unwrap_or_default(),
        ),
      },
      Err(error) => Err(format!(
        "the inspector answered with something unreadable: {error}"
      )),
    })
  }

  pub(super) fn abandon(&mut self, id: i32) {
    let mut inbox = self.inbox.borrow_mut();
    if inbox.responses.remove(&id).is_none() {
      inbox.abandoned.insert(id);
    }
  }

  pub(super) fn release_cell_objects(&mut self) {
    let id = self.post(
      "Runtime.releaseObjectGroup",
      &json!({ "objectGroup": CELL_GROUP }),
    );
    self.inbox.borrow_mut().responses.remove(&id);
  }
}

/// The answer of `Runtime.evaluate` and `Runtime.callFunctionOn`.
#[derive(Deserialize)]
pub(super) struct Evaluation {
  pub result: RemoteObject,
  #[serde(rename = "exceptionDetails", default, deserialize_with = "exception")]
  pub exception: Option<RemoteObject>,
}

impl Evaluation {
  pub(super) fn parse(response: Value) -> Result<Self, String> {
    serde_json::from_value(response).map_err(|e| format!("unexpected answer of the inspector: {e}"))
  }

  /// The value of code of ours, where an exception is a fault.
  pub(super) fn returned(self) -> Result<RemoteObject, CallError> {
    match self.exception {
      Some(exception) => Err(CallError::Protocol(exception.description)),
      None => Ok(self.result),
    }
  }
}

fn exception<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<RemoteObject>, D::Error> {
  #[derive(Deserialize)]
  struct Details {
    #[serde(default)]
    text: String,
    exception: Option<RemoteObject>,
  }
  let details = Details::deserialize(d)?;
  Ok(Some(details.exception.unwrap_or_else(|| RemoteObject {
    value: Some(Value::String(details.text.clone())),
    description: details.text,
    ..Default::default()
  })))
}

/// A value in the isolate: by value when primitive, else by reference.
#[derive(Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RemoteObject {
  #[serde(rename = "type")]
  kind: String,
  pub object_id: Option<String>,
  pub value: Option<Value>,
  unserializable_value: Option<String>,
  pub description: String,
}

impl RemoteObject {
  /// The same value as an argument of `Runtime.callFunctionOn`.
  pub(super) fn as_argument(&self) -> Value {
    match (&self.object_id, &self.unserializable_value, &self.value) {
      (Some(id), ..) => json!({ "objectId": id }),
      (_, Some(text), _) => json!({ "unserializableValue": text }),
      (_, _, Some(value)) => json!({ "value": value }),
      // `undefined`, and `null`, which the protocol sends without a value.
      _ if self.kind == "undefined" => json!({}),
      _ => json!({ "value": null }),
    }
  }
}
