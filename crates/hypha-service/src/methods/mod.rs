//! All methods, by what they are about.

mod agents;
mod apps;
mod chats;
mod documents;
mod engine;
mod kernels;
mod providers;
mod vectors;

use access::timestamp;
use chrono::Utc;
use serde_json::Value;
use serde_json::json;

pub(crate) use self::kernels::wire;
use crate::method::Method;

/// Every method of the service.
pub fn all() -> Vec<Method> {
  let groups = [
    engine::methods(),
    kernels::methods(),
    vectors::methods(),
    documents::methods(),
    providers::methods(),
    agents::methods(),
    chats::methods(),
    apps::methods(),
  ];
  groups.into_iter().flatten().collect()
}

/// Confirms what was done.
fn done(message: impl Into<String>) -> Value {
  json!({ "success": true, "message": message.into(), "timestamp": timestamp(Utc::now()) })
}

/// The first eight characters of a name, as listings call things.
fn short(name: &str) -> String {
  name.chars().take(8).collect()
}

/// The part of a full id behind the namespace.
fn base(id: &str) -> &str {
  id.split_once(':').map_or(id, |(_, name)| name)
}
