//! Keeps the services of a client registered with the workspace manager.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::built_in;
use crate::core::Core;
use crate::core::Identity;
use crate::error::CallError;
use crate::link::Link;
use crate::service::BUILT_IN;
use crate::state::State;
use crate::value::Map;
use crate::value::Value;

/// Refusals of the workspace manager, which may not be ready yet, after which the client goes on without.
const REFUSALS: usize = 5;
/// Time until the first look at what the server lists: what the client before had under this id is forgotten a while after it
/// has ended, and the server does not tell it from this client's.
const FIRST_REPAIR: Duration = Duration::from_secs(2);

/// Calls a method of the workspace manager.
pub(crate) async fn ask(
  core: &Arc<Core>,
  method: &str,
  arguments: Arguments,
) -> Result<Value, CallError> {
  let manager = core.identity().manager.clone();
  let method = format!("services.default.{method}");
  core.request(&manager, &method, arguments).await
}

/// Registers what the client offers, then looks now and then whether it still is. Ends with the connection.
pub(crate) async fn keep(core: Arc<Core>, link: Link) {
  let mut pause = Duration::from_millis(200);
  let mut refusals = 0;
  while let Err(error) = register_all(&core).await {
    if !link.is_up() {
      return;
    }
    if let CallError::Remote(error) = &error {
      refusals += 1;
      // A client that may only read calls others all the same.
      if refusals == REFUSALS || error.message.contains("ermission denied") {
        tracing::error!("the server does not register this client's services: {error}");
        break;
      }
    }
    tracing::warn!("services are not registered yet: {error}");
    tokio::time::sleep(pause).await;
    pause = (pause * 2).min(Duration::from_secs(10));
  }
  let was_connecting = |state: &mut State| {
    let connecting = *state == State::Connecting;
    if connecting {
      *state = State::Connected;
    }
    connecting
  };
  core.state.send_if_modified(was_connecting);
  watch_departures(&core).await;
  let between = core.options.limits.repair;
  if between.is_zero() {
    return;
  }
  let mut pause = between.min(FIRST_REPAIR);
  loop {
    tokio::time::sleep(pause).await;
    pause = between;
    if let Err(error) = repair(&core).await {
      tracing::debug!("cannot check what the server lists: {error}");
    }
  }
}

async fn register_all(core: &Arc<Core>) -> Result<(), CallError> {
  let identity = core.identity();
  // Before all others: by it the manager learns what they are.
  let built_in = built_in::registration(&identity);
  ask(core, "register_service", [Value::from(built_in)].into()).await?;
  for service in core.services() {
    register(core, &identity, &service).await?;
  }
  Ok(())
}

/// Asks to be told when clients of the workspace leave.
async fn watch_departures(core: &Arc<Core>) {
  let events = Value::List(vec!["client_disconnected".into()]);
  if let Err(error) = ask(core, "subscribe", [events].into()).await {
    tracing::debug!("the server does not tell when clients leave: {error}");
  }
}

/// Registers again what the server has lost: it may take a client that was slow to answer for dead, and
/// delete its services while it is connected.
pub(crate) async fn repair(core: &Arc<Core>) -> Result<(), CallError> {
  let identity = core.identity();
  let query = Map::from([
    ("workspace", identity.workspace.as_str()),
    ("client_id", identity.client_id.as_str()),
  ]);
  let arguments = Arguments::none()
    .with(query)
    .with_keyword("include_unlisted", true);
  let listed = ask(core, "list_services", arguments).await?;
  let listed = listed.as_list().unwrap_or_default();
  let listed: HashSet<&str> = listed.iter().filter_map(|it| service_id(it)).collect();
  let lost = |id: &str| !listed.contains(id);
  if lost(BUILT_IN) {
    tracing::warn!("the server does not list this client any more: it is registered again");
    return register_all(core).await;
  }
  for service in core.services().iter().filter(|it| lost(it.id())) {
    tracing::warn!(
      service = service.id(),
      "not listed any more: registered again"
    );
    register(core, &identity, service).await?;
  }
  Ok(())
}

pub(crate) async fn register(
  core: &Arc<Core>,
  identity: &Identity,
  service: &crate::service::Service,
) -> Result<(), CallError> {
  let registration = service.registration(&identity.workspace, &identity.client_id);
  ask(core, "register_service", [Value::from(registration)].into()).await?;
  Ok(())
}

/// The last part of `workspace/client:service@app`.
fn service_id(listed: &Value) -> Option<&str> {
  let id = listed.as_map()?.text("id")?;
  let id = id.rsplit(':').next().unwrap_or(id);
  id.split('@').next()
}
