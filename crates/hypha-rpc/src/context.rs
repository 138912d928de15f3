//! Who calls.

use std::fmt;

use crate::client::Client;
use crate::departures::Departure;
use crate::value::Map;
use crate::value::Value;

/// Who calls a method, in the server's words: callers cannot choose any of it but the method.
#[derive(Clone)]
pub struct Context {
  /// The caller's address: `workspace/client_id`.
  pub from: String,
  /// The workspace that the caller works in.
  pub workspace: String,
  pub user: User,
  /// The method that was called, as its path: `services.{id}.{method}`.
  pub method: String,
  pub(crate) client: Client,
  pub(crate) departure: Departure,
}

/// The user of a client.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct User {
  pub id: String,
  pub email: Option<String>,
  pub roles: Vec<String>,
  /// Whether the user has not logged in.
  pub is_anonymous: bool,
  /// All that the server says of the user, such as what the token is for (`scope`).
  pub more: Map,
}

impl Context {
  /// The client that was called, to call others.
  pub fn client(&self) -> &Client {
    &self.client
  }

  /// Waits until the caller's client has left: nobody gets the answer then. Only clients of the own
  /// workspace are known to leave.
  pub async fn caller_left(&self) {
    self.departure.cancelled().await;
  }
}

impl fmt::Debug for Context {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct("Context")
      .field("from", &self.from)
      .field("workspace", &self.workspace)
      .field("user", &self.user.id)
      .field("method", &self.method)
      .finish_non_exhaustive()
  }
}

impl From<Map> for User {
  fn from(more: Map) -> Self {
    let text = |name: &str| more.text(name).map(str::to_owned);
    let roles = more.get("roles").and_then(Value::as_list);
    let roles = roles.unwrap_or_default().iter().filter_map(Value::as_str);
    Self {
      id: text("id").unwrap_or_default(),
      email: text("email"),
      roles: roles.map(str::to_owned).collect(),
      // Who is not said to have logged in has not.
      is_anonymous: more.get("is_anonymous").and_then(Value::as_bool) != Some(false),
      more,
    }
  }
}
