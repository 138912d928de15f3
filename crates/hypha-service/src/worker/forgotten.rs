//! Sessions that Hypha has forgotten, as it does when the worker's connection is lost, or when it is started anew: nobody
//! could stop them any more.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use access::Caller;
use engine::apps::Source;
use hypha_rpc::CallError;
use hypha_rpc::Client;
use hypha_rpc::State;
use hypha_rpc::Value;

use super::Worker;

/// A server that is being started has its controller a while after everything else.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(3);

impl Worker {
  /// Ends sessions that Hypha has forgotten, each time that the engine's connection has come back.
  pub(crate) async fn follow(&self, client: &Client) {
    let mut states = client.state();
    states.mark_unchanged();
    while states.changed().await.is_ok() {
      let is_back = *states.borrow_and_update() == State::Connected;
      if is_back {
        self.end_forgotten(client).await;
      }
    }
  }

  async fn end_forgotten(&self, client: &Client) {
    // Those that are started from now on are known to it.
    let mut sessions: HashMap<String, Vec<String>> = HashMap::new();
    for app in self
      .engine
      .apps
      .list(&Caller::operator())
      .unwrap_or_default()
    {
      if let Source::Session { id, owner } = &app.spec().source {
        sessions.entry(owner.clone()).or_default().push(id.clone());
      }
    }
    for (owner, ids) in sessions {
      let asking = match self.stand_ins.of(&ids).await {
        _ if owner == self.workspace => client.clone(),
        Some(stand_in) => stand_in,
        // Who registers itself in another workspace is not asked about.
        None => continue,
      };
      let known = match known(&asking).await {
        Ok(known) => known,
        Err(error) => {
          tracing::warn!("Hypha does not say which apps of {owner} it knows: {error}");
          continue;
        }
      };
      for id in ids.iter().filter(|id| !known.contains(*id)) {
        tracing::warn!(session = id, "Hypha has forgotten an app: it ends");
        if let Err(error) = self.end(id).await {
          tracing::warn!(session = id, "it does not end: {error}");
        }
      }
    }
  }
}

/// The sessions that the controller has of a client's workspace.
async fn known(client: &Client) -> Result<HashSet<String>, CallError> {
  let mut attempt = 1;
  loop {
    let listed = async {
      let controller = client.get_service("public/server-apps", None).await?;
      controller.call("list_running", ()).await
    };
    match listed.await {
      Ok(running) => {
        let running = running.as_list().unwrap_or_default().iter();
        let ids = running.filter_map(|session| session.get("id").and_then(Value::as_str));
        return Ok(ids.map(str::to_owned).collect());
      }
      Err(error) if attempt == ATTEMPTS => return Err(error),
      Err(_) => {
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
      }
    }
  }
}
