//! Every method of the service over a real Hypha server, by official clients of several versions, and what known programs
//! call.

use std::io::Write;

use crate::agents::answers;
use crate::agents::model::Model;
use crate::agents::script;
use crate::hypha_service::CLIENT;
use crate::hypha_service::builder;
use crate::hypha_service::engine;
use crate::hypha_service::registered;
use crate::hypha_service::service;
use crate::support::Hypha;
use crate::support::Server;

/// An engine whose agents ask `model`, and which runs the apps of the Hypha server.
async fn with_model(hypha: &Hypha, model: &Model) -> Server {
  let server = builder(hypha, CLIENT)
    .env("LOAD_APPS", "true")
    .env("APPS_UPDATE_SECONDS", "3600")
    .env("HYPHA_WORKSPACE", hypha.env("HYPHA_WORKSPACE"))
    .env("AGENT_MODEL_BASE_URL", &model.url)
    .env("AGENT_MODEL_API_KEY", "sk-of-the-operator")
    .env("AGENT_MODEL_NAME", "scripted")
    .start();
  registered(&server).await;
  server
}

async fn always_four() -> Model {
  Model::new([]).await.then_always(answers("4"))
}

#[tokio::test]
async fn every_method_answers_as_that_of_the_original() {
  let hypha = Hypha::shared().await;
  let chat = || [script("t-script", "console.log(2 + 2)"), answers("4")];
  let model = Model::new([chat(), chat()].concat()).await;
  let _server = with_model(&hypha, &model).await;
  hypha.script("method_table.py", &[&service(&hypha)]).await;
}

#[tokio::test]
async fn programs_in_python_find_what_they_call() {
  let hypha = Hypha::shared().await;
  let model = always_four().await;
  let _server = with_model(&hypha, &model).await;
  hypha.script("known_clients.py", &[&service(&hypha)]).await;
}

/// Runs a group of calls with a JavaScript client, where the machine has what runs it.
async fn javascript(package: &str, group: &str) {
  let modules = std::env::var("HYPHA_TEST_NODE_MODULES").unwrap_or_default();
  if modules.is_empty() {
    let note =
      "left out: HYPHA_TEST_NODE_MODULES names no JavaScript clients (scripts/test.sh says why)";
    let _ = writeln!(std::io::stderr(), "{note}");
    return;
  }
  let hypha = Hypha::shared().await;
  let model = always_four().await;
  let _server = with_model(&hypha, &model).await;
  let arguments = [&*service(&hypha), group];
  hypha.javascript(&modules, package, &arguments).await;
}

#[tokio::test]
async fn the_javascript_client_0_20_61_calls_the_service() {
  javascript("hypha-rpc-0.20.61", "calls").await;
}

#[tokio::test]
async fn the_javascript_client_0_20_100_calls_the_service() {
  javascript("hypha-rpc-0.20.100", "calls").await;
}

#[tokio::test]
async fn the_javascript_client_0_21_40_calls_the_service() {
  javascript("hypha-rpc-0.21.40", "calls").await;
}

#[tokio::test]
async fn agent_lab_finds_what_it_calls() {
  javascript("hypha-rpc-0.20.61", "agent-lab").await;
  javascript("hypha-rpc-0.21.40", "agent-lab").await;
}

#[tokio::test]
async fn a_fork_of_webllm_chat_finds_what_it_calls() {
  javascript("hypha-rpc-0.20.61", "webllm-chat").await;
  javascript("hypha-rpc-0.21.40", "webllm-chat").await;
}

#[tokio::test]
async fn wrong_arguments_of_every_method_are_explained_and_hurt_nobody() {
  let hypha = Hypha::shared().await;
  let model = always_four().await;
  let server = builder(&hypha, CLIENT)
    .env("AGENT_MODEL_BASE_URL", &model.url)
    .env("AGENT_MODEL_API_KEY", "sk-of-the-operator")
    .start();
  registered(&server).await;
  hypha.script("bad_arguments.py", &[&service(&hypha)]).await;
  assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn frames_that_no_client_sends_hurt_nobody() {
  let hypha = Hypha::shared().await;
  let server = engine(&hypha);
  registered(&server).await;
  let arguments = [service(&hypha), server.pid().to_string()];
  let arguments = arguments.each_ref().map(String::as_str);
  hypha.script("raw.py", &arguments).await;
  assert!(!server.log().contains("panicked"), "{}", server.log());
}
