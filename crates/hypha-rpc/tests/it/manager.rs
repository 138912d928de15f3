//! What the workspace manager of a real server does for a client.

use std::time::Duration;

use hypha_rpc::CallError;
use hypha_rpc::Client;
use hypha_rpc::ConnectError;
use hypha_rpc::Map;
use hypha_rpc::Method;
use hypha_rpc::Options;
use hypha_rpc::Refusal;
use hypha_rpc::Service;
use hypha_rpc::Token;
use hypha_rpc::TokenRequest;
use hypha_rpc::Value;
use testing::hypha::Hypha;

use crate::support::anonymous;
use crate::support::operator;
use crate::support::peer::Peer;
use crate::support::soon;
use crate::support::user;

async fn refusal(options: Options) -> Refusal {
  match soon(Client::connect(options)).await {
    Err(ConnectError::Refused { kind, .. }) => kind,
    other => panic!("{other:?}"),
  }
}

#[tokio::test]
async fn clients_that_may_not_connect_are_refused() {
  let hypha = Hypha::shared().await;
  let mut options = operator(&hypha);
  options.token = Some(Token::new("no-token-at-all"));
  assert_eq!(refusal(options).await, Refusal::Token);
  let mut options = user(&hypha);
  options.workspace = Some(hypha.env("HYPHA_WORKSPACE").into());
  assert_eq!(refusal(options).await, Refusal::Workspace);
  let mut options = anonymous(&hypha);
  options.workspace = Some(hypha.env("HYPHA_WORKSPACE").into());
  assert_eq!(refusal(options).await, Refusal::Workspace);
  let mut options = operator(&hypha);
  options.client_id = Some("only-one".into());
  let _first = soon(Client::connect(options.clone()))
    .await
    .expect("a connection");
  assert_eq!(refusal(options).await, Refusal::ClientExists);
}

#[tokio::test]
async fn an_anonymous_client_has_a_workspace_of_its_own() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(anonymous(&hypha)))
    .await
    .expect("a connection");
  assert!(
    client.workspace().starts_with("ws-user-anonymouz"),
    "{client:?}"
  );
  assert!(client.user().is_anonymous);
  assert_eq!(
    soon(client.echo(vec![1_u8, 2])).await,
    Ok(vec![1_u8, 2].into())
  );
}

#[tokio::test]
async fn services_are_found_and_listed() {
  let hypha = Hypha::shared().await;
  let one = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let two = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  for (client, load) in [(&one, 2), (&two, 1)] {
    let address = client.address();
    let service = Service::new("twin")
      .kind("twins")
      .method(Method::new("load", move |_, _| async move {
        Ok(i64::from(load))
      }))
      .method(Method::new("address", move |_, _| {
        let address = address.clone();
        async move { Ok(address) }
      }));
    soon(client.register(service)).await.expect("registered");
  }
  let ambiguous = soon(one.get_service("twin", None)).await;
  assert!(
    matches!(ambiguous, Err(CallError::Remote(_))),
    "{ambiguous:?}"
  );
  let chosen = soon(one.get_service("twin", Some("select:min:load")))
    .await
    .expect("a service");
  let address = soon(chosen.call("address", ())).await.expect("an answer");
  assert_eq!(address, two.address().into());
  let listed = soon(one.list_services(Some(Map::from([("type", "twins")])))).await;
  assert_eq!(listed.expect("a list").len(), 2);
  soon(two.unregister("twin")).await.expect("unregistered");
  assert!(soon(one.get_service("twin", None)).await.is_ok());
  let gone = soon(chosen.call("address", ())).await.expect_err("gone");
  assert!(gone.to_string().contains("Method not found"), "{gone}");
}

#[tokio::test]
async fn the_artifact_manager_is_a_service_like_any() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let artifacts = soon(client.get_service("public/artifact-manager", None)).await;
  let artifacts = artifacts.expect("a service");
  let query = Map::from([
    ("parent_id", Value::from("hypha-agents/agents")),
    ("filters", Map::from([("type", "deno-app")]).into()),
  ]);
  let listed = soon(artifacts.call("list", query)).await.expect("a list");
  assert!(listed.as_list().is_some_and(|it| it.len() >= 8), "{listed}");
}

#[tokio::test]
async fn a_token_that_a_client_makes_lets_another_in() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let request = TokenRequest {
    permission: Some("read".into()),
    expires_in: Some(Duration::from_secs(600)),
    ..TokenRequest::default()
  };
  let token = soon(client.generate_token(request)).await.expect("a token");
  assert_eq!(format!("{token:?}"), "[token]");
  let mut options = anonymous(&hypha);
  options.token = Some(token);
  // It may only read: it connects, and registers nothing.
  let reader = soon(Client::connect(options)).await.expect("a connection");
  assert_eq!(reader.workspace(), client.workspace());
  assert!(soon(reader.register(Service::new("x"))).await.is_err());
  assert!(soon(reader.list_services(None)).await.is_ok());
}

#[tokio::test]
async fn calls_of_a_client_that_leaves_fail_at_once() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let mut peer = Peer::operator(&hypha).await;
  let body = "state.begun = asyncio.Event()
async def forever():
  state.begun.set()
  await asyncio.sleep(3600)
own = await server.register_service({'id': 'own', 'forever': forever})
return own.id";
  let id = peer.ok(body).await;
  let service = soon(client.get_service(id.as_str().unwrap_or_default(), None)).await;
  let service = service.expect("a service");
  let calling = service.clone();
  let call = tokio::spawn(async move { calling.call("forever", ()).await });
  peer.ok("await state.begun.wait()").await;
  let address = peer.address.clone();
  peer.kill().await;
  let gone = Err(CallError::PeerGone(address));
  let begin = std::time::Instant::now();
  assert_eq!(soon(call).await.expect("no panic"), gone);
  assert_eq!(soon(service.call("forever", ())).await, gone);
  assert!(
    begin.elapsed() < Duration::from_secs(10),
    "{:?}",
    begin.elapsed()
  );
}
