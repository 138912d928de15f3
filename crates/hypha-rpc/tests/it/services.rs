//! Services of ours that the official client calls.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hypha_rpc::Arguments;
use hypha_rpc::Client;
use hypha_rpc::Context;
use hypha_rpc::Limits;
use hypha_rpc::Map;
use hypha_rpc::Method;
use hypha_rpc::RemoteError;
use hypha_rpc::Reply;
use hypha_rpc::Service;
use hypha_rpc::State;
use hypha_rpc::Value;
use hypha_rpc::Visibility;
use serde_json::json;
use testing::hypha::Hypha;
use tokio::sync::Notify;

use crate::support::operator;
use crate::support::peer::Peer;
use crate::support::reach;
use crate::support::soon;
use crate::support::user;

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

#[tokio::test]
async fn values_of_every_kind_go_there_and_back() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let service = Service::new("same").method(Method::new("echo", |_, arguments| async move {
    Ok(arguments.positional.into_iter().next().unwrap_or_default())
  }));
  let id = soon(client.register(service)).await.expect("registered");
  let mut peer = Peer::operator(&hypha).await;
  let body = format!(
    "import numpy as np
service = await server.get_service('{id}')
for value in [None, True, -1, 2**63, 1.5, 'text', b'bytes', [1, [2]], {{'a': {{'b': None}}}}, {{1, 2}}, memoryview(b'm')]:
  assert await service.echo(value) == value, value
array = np.arange(6, dtype='float32').reshape(2, 3)
back = await service.echo(array)
assert (back == array).all() and back.dtype == array.dtype, back
return True"
  );
  assert_eq!(peer.ok(&body).await, true);
}

#[tokio::test]
async fn three_megabytes_go_both_ways() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let service = Service::new("large").method(Method::new("double", |_, arguments| async move {
    let bytes = arguments.get(0, "data").and_then(Value::as_bytes);
    let bytes = bytes.ok_or_else(|| RemoteError::new("no bytes"))?;
    Ok([&bytes[..], &bytes[..]].concat())
  }));
  let id = soon(client.register(service)).await.expect("registered");
  let mut peer = Peer::operator(&hypha).await;
  let body = format!(
    "service = await server.get_service('{id}')
data = bytes(range(256)) * 12_000
assert await service.double(data) == data + data
state.own = await server.register_service({{'id': 'own', 'double': lambda x: x + x}})
return state.own.id"
  );
  let theirs = peer.ok(&body).await;
  let theirs = theirs.as_str().unwrap_or_default();
  let service = soon(client.get_service(theirs, None))
    .await
    .expect("a service");
  let data = vec![7_u8; 3 << 20];
  // The other side answers while it reads what is run there.
  peer.begin("await asyncio.sleep(0)").await;
  let doubled = soon(service.call("double", [data.clone()]))
    .await
    .expect("an answer");
  assert_eq!(doubled, Value::from([data.clone(), data].concat()));
}

#[tokio::test]
async fn functions_are_passed_both_ways() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let service = Service::new("caller").method(Method::new(
    "three_times",
    |context: Context, arguments: Arguments| async move {
      let callback = arguments
        .get(0, "callback")
        .and_then(Value::as_method)
        .cloned();
      let callback = callback.ok_or_else(|| RemoteError::new("no callback"))?;
      let mut answers = Vec::new();
      for number in 0..3 {
        answers.push(context.client().call(&callback, [number]).await?);
      }
      Ok(answers)
    },
  ));
  let id = soon(client.register(service)).await.expect("registered");
  let mut peer = Peer::operator(&hypha).await;
  let body = format!(
    "service = await server.get_service('{id}')
assert await service.three_times(lambda x: x * 10) == [0, 10, 20]
assert await service.three_times(callback=lambda x: x) == [0, 1, 2]
def bad(x):
  raise ValueError('of the callback')
try:
  await service.three_times(bad)
except Exception as error:
  assert 'of the callback' in str(error)
async def call(f):
  state.kept = f
  return [await f(1), await f(x=2)]
own = await server.register_service({{'id': 'own', 'call': call}})
return own.id"
  );
  let theirs = peer.ok(&body).await;
  let service = soon(client.get_service(theirs.as_str().unwrap_or_default(), None)).await;
  let service = service.expect("a service");
  let marker = Arc::new(());
  let held = Arc::clone(&marker);
  let callback = hypha_rpc::Callback::new("times", move |arguments: Arguments| {
    let _held = Arc::clone(&held);
    async move {
      let number = arguments
        .get(0, "x")
        .and_then(Value::as_i64)
        .unwrap_or_default();
      Ok(Value::from(number * 100))
    }
  });
  let answers = soon(service.call("call", [callback]))
    .await
    .expect("an answer");
  assert_eq!(answers, Value::from(vec![Value::Int(100), Value::Int(200)]));
  // Given up with the call: the official client still has a reference, which leads nowhere.
  assert_eq!(Arc::strong_count(&marker), 1);
  let error = peer
    .run("return await state.kept(1)")
    .await
    .expect_err("given up");
  assert!(error.contains("Session not found"), "{error}");
}

/// A service with streams: `count` to a number, and one that never ends. It tells when one is dropped.
fn streams(dropped: Arc<Notify>) -> Service {
  struct Dropped(Arc<Notify>);
  impl Drop for Dropped {
    fn drop(&mut self) {
      self.0.notify_one();
    }
  }
  Service::new("streams")
    .method(Method::new("count", move |_, arguments: Arguments| {
      let end = arguments
        .get(0, "end")
        .and_then(Value::as_i64)
        .unwrap_or(i64::MAX);
      let dropped = Dropped(Arc::clone(&dropped));
      let items = futures::stream::iter(0..end).map(move |number| {
        let _dropped = &dropped;
        Ok(Map::from([("n", number)]).into())
      });
      async move { Ok(Reply::stream(items)) }
    }))
    .method(Method::new("fail", |_, _| async {
      let items = [Ok(Value::Int(1)), Err(RemoteError::new("in the midst"))];
      Ok(Reply::stream(futures::stream::iter(items)))
    }))
}

#[tokio::test]
async fn streams_are_pulled_and_closed_both_ways() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let dropped = Arc::new(Notify::new());
  let id = soon(client.register(streams(Arc::clone(&dropped))))
    .await
    .expect("registered");
  let mut peer = Peer::operator(&hypha).await;
  let body = format!(
    "service = await server.get_service('{id}')
assert [item.n async for item in await service.count(5)] == [0, 1, 2, 3, 4]
seen = []
try:
  async for item in await service.fail():
    seen.append(item)
except Exception as error:
  assert 'in the midst' in str(error) and seen == [1], (error, seen)
  return True"
  );
  assert_eq!(peer.ok(&body).await, true);
  soon(dropped.notified()).await;
  // Left early.
  let body = format!(
    "service = await server.get_service('{id}')
stream = await service.count()
async for item in stream:
  if item.n == 3:
    break
await stream.aclose()
return item.n"
  );
  assert_eq!(peer.ok(&body).await, 3);
  soon(dropped.notified()).await;

  let body = "state.closed = False
async def count(end):
  try:
    for number in range(end):
      yield number
  finally:
    state.closed = True
own = await server.register_service({'id': 'own', 'count': count})
return own.id";
  let theirs = peer.ok(body).await;
  let service = soon(client.get_service(theirs.as_str().unwrap_or_default(), None)).await;
  let service = service.expect("a service");
  let stream = soon(service.stream("count", [5])).await.expect("a stream");
  let items: Vec<_> = soon(stream.collect()).await;
  let expected: Vec<_> = (0..5).map(|number| Ok(Value::Int(number))).collect();
  assert_eq!(items, expected);
  peer.ok("state.closed = False").await;
  let mut stream = soon(service.stream("count", [1000]))
    .await
    .expect("a stream");
  assert_eq!(soon(stream.next()).await, Some(Ok(Value::Int(0))));
  drop(stream);
  let closed = "while not state.closed:
  await asyncio.sleep(0.01)
return True";
  assert_eq!(peer.ok(closed).await, true);
}

#[tokio::test]
async fn a_stream_is_dropped_when_its_consumer_leaves_or_forgets_it() {
  let hypha = Hypha::shared().await;
  let mut options = operator(&hypha);
  options.limits.idle = Duration::from_secs(2);
  let client = soon(Client::connect(options)).await.expect("a connection");
  let dropped = Arc::new(Notify::new());
  let id = soon(client.register(streams(Arc::clone(&dropped))))
    .await
    .expect("registered");
  let mut peer = Peer::operator(&hypha).await;
  let begin = |id: &str| {
    format!(
      "service = await server.get_service('{id}')
state.stream = await service.count()
return (await state.stream.__anext__()).n"
    )
  };
  assert_eq!(peer.ok(&begin(&id)).await, 0);
  soon(dropped.notified()).await;
  let error = peer.run("return await state.stream.__anext__()").await;
  assert!(error.expect_err("it is gone").contains("Session not found"));

  // Nothing but the departure ends this one in time.
  let client = {
    drop(client);
    let mut options = operator(&hypha);
    options.limits.idle = Duration::from_secs(3600);
    soon(Client::connect(options)).await.expect("a connection")
  };
  let id = soon(client.register(streams(Arc::clone(&dropped))))
    .await
    .expect("registered");
  assert_eq!(peer.ok(&begin(&id)).await, 0);
  peer.kill().await;
  soon(dropped.notified()).await;
}

#[tokio::test]
async fn a_protected_service_is_for_its_workspace_and_those_that_are_authorised() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let service = |id: &str| {
    Service::new(id).method(Method::new("who", |context: Context, _| async move {
      Ok(Map::from([
        ("from", context.from.clone()),
        ("workspace", context.workspace.clone()),
        ("user", context.user.id.clone()),
      ]))
    }))
  };
  let id = soon(client.register(service("own")))
    .await
    .expect("registered");
  let unlisted = service("unlisted").visibility(Visibility::Unlisted);
  let unlisted = soon(client.register(unlisted)).await.expect("registered");
  let shared = service("shared").share_with(hypha.env("HYPHA_USER_WORKSPACE"));
  let shared = soon(client.register(shared)).await.expect("registered");

  let mut friend = Peer::operator(&hypha).await;
  let who = friend
    .ok(&format!(
      "return await (await server.get_service('{id}')).who()"
    ))
    .await;
  assert_eq!(who["from"], friend.address.as_str());
  assert_eq!(who["workspace"], hypha.env("HYPHA_WORKSPACE"));
  assert_eq!(who["user"], "operator");

  let mut stranger = Peer::user(&hypha).await;
  for id in [&unlisted, &shared] {
    let who = stranger
      .ok(&format!(
        "return await (await server.get_service('{id}')).who()"
      ))
      .await;
    assert_eq!(who["from"], stranger.address.as_str());
    assert_eq!(who["workspace"], hypha.env("HYPHA_USER_WORKSPACE"));
    assert_eq!(who["user"], "user");
  }
  let error = stranger
    .run(&format!("await server.get_service('{id}')"))
    .await;
  assert!(error.expect_err("refused").contains("ermission denied"));
  // Past the workspace manager: straight to the client, for the service and for its method.
  let call = |method: &str, arguments: &str| {
    let address = client.address();
    format!(
      "f = server.rpc._generate_remote_method(dict(_rtarget='{address}', _rmethod='{method}', _rpromise='*'))
return await f({arguments})"
    )
  };
  let direct = call("services.built-in.get_service", "'own'");
  let error = stranger.run(&direct).await.expect_err("refused");
  assert!(error.contains("Permission denied"), "{error}");
  let direct = call("services.own.who", "");
  let error = stranger.run(&direct).await.expect_err("refused");
  assert!(error.contains("Permission denied"), "{error}");
  assert!(friend.run(&direct).await.is_ok());

  let other = soon(Client::connect(user(&hypha)))
    .await
    .expect("a connection");
  let refused = soon(other.get_service(&id, None))
    .await
    .expect_err("refused");
  assert!(
    refused.to_string().contains("ermission denied"),
    "{refused}"
  );
  let found = soon(other.get_service(&shared, None))
    .await
    .expect("a service");
  assert!(soon(found.call("who", ())).await.is_ok());
}

#[tokio::test]
async fn services_come_back_when_the_server_was_killed_and_started_again() {
  let mut hypha = Hypha::shared().await;
  let mut options = operator(&hypha);
  options.client_id = Some("lasting".into());
  // A busy machine needs half a minute to start the server; the pauses grow meanwhile.
  options.limits.reconnect.1 = Duration::from_secs(3);
  let client = soon(Client::connect(options)).await.expect("a connection");
  let id = soon(client.register(mirror())).await.expect("registered");
  let mut states = client.state();
  hypha.kill();
  reach(&mut states, |state| *state != State::Connected).await;
  hypha.start_again();
  let begin = std::time::Instant::now();
  reach(&mut states, |state| *state == State::Connected).await;
  assert_eq!(
    client.address(),
    format!("{}/lasting", hypha.env("HYPHA_WORKSPACE"))
  );
  let mut peer = Peer::operator(&hypha).await;
  let body = format!("return (await (await server.get_service('{id}')).echo(1))['args']");
  assert_eq!(peer.ok(&body).await, json!([1]));
  assert!(
    begin.elapsed() < Duration::from_secs(10),
    "{:?}",
    begin.elapsed()
  );
  assert_eq!(soon(client.echo("again")).await, Ok("again".into()));
}

#[tokio::test]
async fn services_that_the_server_has_lost_are_registered_again() {
  let hypha = Hypha::shared().await;
  let mut options = operator(&hypha);
  options.limits = Limits {
    repair: Duration::from_millis(500),
    ..Limits::default()
  };
  let client = soon(Client::connect(options)).await.expect("a connection");
  let hidden = mirror().visibility(Visibility::Unlisted);
  let id = soon(client.register(hidden)).await.expect("registered");
  // Behind the back of the service's own bookkeeping.
  let forgotten = soon(client.manager("unregister_service", [id.as_str()])).await;
  forgotten.expect("the server forgets it");
  let found = async {
    while let Err(error) = client.get_service(&id, None).await {
      assert!(error.to_string().contains("not found"), "{error}");
      tokio::time::sleep(Duration::from_millis(50)).await;
    }
  };
  soon(found).await;
}

#[tokio::test]
async fn the_http_face_of_the_server_reaches_methods() {
  let hypha = Hypha::shared().await;
  let client = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let service = mirror().visibility(Visibility::Public);
  let id = soon(client.register(service)).await.expect("registered");
  let (workspace, id) = id.split_once('/').expect("a whole id");
  let url = format!(
    "{}/{workspace}/services/{id}",
    hypha.env("HYPHA_SERVER_URL")
  );
  let mut peer = Peer::operator(&hypha).await;
  peer
    .ok(
      "import json, urllib.request
def ask(url, body=None):
  headers = {'content-type': 'application/json'}
  request = urllib.request.Request(url, data=body and json.dumps(body).encode(), headers=headers)
  with urllib.request.urlopen(request) as answer:
    return json.load(answer)
state.ask = lambda *arguments: asyncio.to_thread(ask, *arguments)",
    )
    .await;
  let said = peer
    .ok(&format!("return await state.ask('{url}/echo?a=1&b=x')"))
    .await;
  assert_eq!(said["options"], json!({"a": 1, "b": "x"}));
  let said = peer
    .ok(&format!(
      "return await state.ask('{url}/echo', {{'kernelId': 'K'}})"
    ))
    .await;
  assert_eq!(said["options"], json!({"kernelId": "K"}));
  let said = peer
    .ok(&format!("return await state.ask('{url}/echo', [1, 'two'])"))
    .await;
  assert_eq!(said["args"], json!([1, "two"]));
  assert_eq!(
    peer
      .ok(&format!("return await state.ask('{url}/nested.hello')"))
      .await,
    "hi"
  );
}

#[tokio::test]
async fn a_long_stream_stays_below_the_rate_at_which_the_server_cuts_connections() {
  let hypha = Hypha::shared().await;
  let serving = soon(Client::connect(operator(&hypha)))
    .await
    .expect("a connection");
  let consuming = soon(Client::connect(user(&hypha)))
    .await
    .expect("a connection");
  let service = streams(Arc::default()).visibility(Visibility::Public);
  let id = soon(serving.register(service)).await.expect("registered");
  let service = soon(consuming.get_service(&id, None))
    .await
    .expect("a service");
  // Each item is a message of each. The server permits 2000 and 200 a second more.
  let streams: Vec<_> = (0..4)
    .map(|_| {
      let service = service.clone();
      tokio::spawn(async move {
        let stream = service.stream("count", [800]).await?;
        let items: Vec<_> = stream.collect().await;
        items.into_iter().collect::<Result<Vec<_>, _>>()
      })
    })
    .collect();
  for stream in streams {
    let items = soon(stream).await.expect("no panic").expect("all items");
    assert_eq!(items.len(), 800);
  }
  for client in [serving, consuming] {
    assert_eq!(*client.state().borrow(), State::Connected);
  }
}
