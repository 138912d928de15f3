//! Services of ours that the official client calls.

use hypha_rpc::Arguments;
use hypha_rpc::Client;
use hypha_rpc::Map;
use hypha_rpc::Method;
use hypha_rpc::RemoteError;
use hypha_rpc::Service;
use hypha_rpc::Value;
use serde_json::json;
use testing::hypha::Hypha;

use crate::support::operator;
use crate::support::peer::Peer;
use crate::support::soon;

/// A service that says what it was called with.
fn mirror() -> Service {
  let said = |arguments: &Arguments| {
    Map::from([
      ("args", Value::from(arguments.positional.clone())),
      ("kwargs", arguments.keywords.clone().into()),
      ("options", arguments.options().into()),
    ])
  };
  Service::new("mirror")
    .kind("mirror")
    .description("says what it was called with")
    .method(Method::new("echo", move |_, arguments| {
      let said = said(&arguments);
      async move { Ok(said) }
    }))
    .method(Method::new("fail", |_, _| async {
      Err::<(), _>(RemoteError::new("it does not work"))
    }))
    .method(Method::new("nested.hello", |_, _| async { Ok("hi") }))
}

#[tokio::test]
async fn the_official_client_calls_with_arguments_of_every_kind() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let id = soon(client.register(mirror())).await.expect("registered");
  let mut peer = Peer::operator(&hypha).await;
  peer
    .ok(&format!("state.service = await server.get_service('{id}')"))
    .await;

  let said = peer
    .ok("return await state.service.echo(1, 'two', [3.5, None])")
    .await;
  assert_eq!(said["args"], json!([1, "two", [3.5, null]]));
  assert_eq!(said["kwargs"], json!({}));
  let said = peer.ok("return await state.service.echo(1, b=2)").await;
  assert_eq!(said["args"], json!([1]));
  assert_eq!(said["kwargs"], json!({"b": 2}));
  let said = peer
    .ok("return await state.service.echo({'b': 2, '_rkwargs': True})")
    .await;
  assert_eq!(said["kwargs"], json!({"b": 2}));
  let said = peer
    .ok("return await state.service.echo(params={'b': 2})")
    .await;
  assert_eq!(said["options"], json!({"b": 2}));
  assert_eq!(
    peer.ok("return await state.service.nested.hello()").await,
    "hi"
  );
  let error = peer.run("return await state.service.fail()").await;
  let error = error.expect_err("the method fails");
  assert!(error.contains("it does not work"), "{error}");
}
