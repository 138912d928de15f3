//! What the tests share.

pub(crate) mod peer;
pub(crate) mod scripted;

use std::time::Duration;

use hypha_rpc::Options;
use hypha_rpc::State;
use hypha_rpc::Token;
use testing::hypha::Hypha;
use tokio::sync::watch;
use url::Url;

/// Most time for what takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that happens soon, or fails the test.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
  let outcome = tokio::time::timeout(PATIENCE, what).await;
  outcome.expect("it happens within the patience of tests")
}

/// Options for the operator's workspace on a server.
pub(crate) fn operator(hypha: &Hypha) -> Options {
  options(hypha, "HYPHA_TOKEN")
}

/// Options for the workspace of a user who is no operator.
pub(crate) fn user(hypha: &Hypha) -> Options {
  options(hypha, "HYPHA_USER_TOKEN")
}

fn options(hypha: &Hypha, token: &str) -> Options {
  let mut options = anonymous(hypha);
  options.token = Some(Token::new(hypha.env(token)));
  options
}

pub(crate) fn anonymous(hypha: &Hypha) -> Options {
  Options::new(Url::parse(hypha.env("HYPHA_SERVER_URL")).expect("the server has an address"))
}

/// Waits for a state.
pub(crate) async fn reach(states: &mut watch::Receiver<State>, which: impl Fn(&State) -> bool) {
  let reached = soon(states.wait_for(which)).await;
  reached.expect("the client has a state");
}
