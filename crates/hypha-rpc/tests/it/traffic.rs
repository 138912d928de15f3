//! When and how fast messages are sent, and how connections come back.

use std::time::Duration;
use std::time::Instant;

use hypha_rpc::CallError;
use hypha_rpc::Client;
use hypha_rpc::Method;
use hypha_rpc::Service;
use hypha_rpc::State;
use hypha_rpc::Visibility;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::reach;
use crate::support::scripted::Conversation;
use crate::support::scripted::Scripted;
use crate::support::scripted::connect;
use crate::support::scripted::register;
use crate::support::soon;

/// Registers a service whose method takes as long as a test wants.
async fn slow(client: &Client, conversation: &mut Conversation, pause: Duration) {
  let service = Service::new("slow")
    .visibility(Visibility::Public)
    .method(Method::new("work", move |_, _| async move {
      tokio::time::sleep(pause).await;
      Ok("done")
    }));
  register(client, conversation, service).await;
}

#[tokio::test]
async fn messages_go_no_faster_than_the_rate_and_signs_of_life_do_not_wait() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.rate = 50.0;
  options.limits.burst = 20.0;
  let (client, mut conversation) = connect(&server, options).await;
  let begin = Instant::now();
  let calls = (0..100).map(|number| {
    let client = client.clone();
    tokio::spawn(async move { client.echo(number).await })
  });
  let calls: Vec<_> = calls.collect();
  // While a hundred messages wait, a ping is answered before them.
  let extra = json!({"args": ["ping"], "promise": "*"});
  conversation
    .call("services.built-in.ping", "urgent", extra)
    .await;
  let (mut echoes, mut before_pong) = (0, None);
  while echoes < 100 {
    let (main, extra) = conversation.frame().await;
    if main["method"] == "urgent.resolve" {
      before_pong = Some(echoes);
    } else {
      echoes += 1;
      conversation.resolve(&main, extra["args"][0].clone()).await;
    }
  }
  // A few of the burst are used up by the registration: (100 - 20) / 50 is 1.6.
  assert!(
    begin.elapsed() >= Duration::from_millis(1500),
    "{:?}",
    begin.elapsed()
  );
  assert!(before_pong.is_some_and(|it| it < 60), "{before_pong:?}");
  for call in calls {
    soon(call).await.expect("no panic").expect("an answer");
  }
}

#[tokio::test]
async fn a_short_call_has_no_heartbeat_and_a_long_one_has() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  slow(&client, &mut conversation, Duration::from_millis(1200)).await;
  let extra = |t: f64| json!({"promise": "*", "t": t});
  conversation
    .call("services.slow.work", "short", extra(15.0))
    .await;
  conversation
    .call("services.slow.work", "long", extra(0.5))
    .await;
  let mut seen = Vec::new();
  while seen
    .iter()
    .filter(|it: &&String| it.ends_with("resolve"))
    .count()
    < 2
  {
    let (main, _) = conversation.frame().await;
    seen.push(main["method"].as_str().unwrap_or_default().to_owned());
  }
  assert!(!seen.contains(&"short.heartbeat".to_owned()), "{seen:?}");
  assert!(seen.contains(&"long.heartbeat".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn each_sign_of_life_gives_a_call_more_time() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.call = Duration::from_millis(1500);
  let (client, mut conversation) = connect(&server, options).await;
  let call = tokio::spawn(async move { (client.echo(1).await, client.echo(2).await) });
  let (main, _) = conversation.frame().await;
  let session = main["session"].as_str().expect("a session");
  for _ in 0..4 {
    tokio::time::sleep(Duration::from_millis(600)).await;
    let beat = json!({"type": "method", "from": "*/boss", "to": "ours/me", "method": format!("{session}.heartbeat")});
    conversation.frames(&beat, &json!({})).await;
  }
  conversation.resolve(&main, json!(1)).await;
  // The second has none.
  let (one, two) = soon(call).await.expect("no panic");
  assert_eq!(one, Ok(1.into()));
  assert!(matches!(two, Err(CallError::TimedOut { .. })), "{two:?}");
}

#[tokio::test]
async fn a_lost_connection_fails_calls_at_once_and_comes_back_with_its_token() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let mut states = client.state();
  slow(&client, &mut conversation, Duration::from_millis(300)).await;
  conversation
    .call(
      "services.slow.work",
      "peers-call",
      json!({"promise": "*", "t": 15}),
    )
    .await;
  conversation.is_alive().await;
  let begin = Instant::now();
  let caller = client.clone();
  let call = tokio::spawn(async move { caller.echo(1).await });
  conversation.frame().await;
  drop(conversation);
  let failed = soon(call).await.expect("no panic");
  assert_eq!(failed, Err(CallError::Disconnected));
  assert!(begin.elapsed() < Duration::from_secs(5));

  let (mut conversation, request) = server.socket().await;
  assert_eq!(request["reconnection_token"], "again");
  assert_eq!(
    (&request["client_id"], &request["workspace"]),
    (&json!("me"), &json!("ours"))
  );
  assert_eq!(request["token"], json!(null));
  conversation
    .text(json!({
      "type": "connection_info", "workspace": "ours", "client_id": "me", "manager_id": "new-boss",
      "reconnection_token": "once more",
    }))
    .await;
  // Both services are registered with the new manager, and the answer to the call from before arrives.
  let (mut registered, mut answered) = (Vec::new(), false);
  while registered.len() < 2 || !answered {
    let (main, extra) = conversation.frame().await;
    match main["method"].as_str().unwrap_or_default() {
      "services.default.register_service" => {
        assert_eq!(main["to"], "*/new-boss");
        registered.push(
          extra["args"][0]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        );
        conversation.resolve(&main, json!(null)).await;
      }
      "peers-call.resolve" => {
        assert_eq!(extra["args"], json!(["done"]));
        answered = true;
      }
      _ => conversation.resolve(&main, json!(null)).await,
    }
  }
  assert_eq!(registered, ["ours/me:built-in", "ours/me:slow"]);
  reach(&mut states, |state| *state == State::Connected).await;
}

#[tokio::test]
async fn a_refused_token_is_followed_by_the_original_one_and_a_refusal_of_that_is_the_end() {
  let server = Scripted::start().await;
  let (client, conversation) = connect(&server, server.options()).await;
  drop(conversation);
  let refusal = json!({"type": "error", "message": "Authentication error: expired"});
  let (mut conversation, request) = server.socket().await;
  assert_eq!(request["reconnection_token"], "again");
  conversation.text(refusal.clone()).await;
  let (mut conversation, request) = server.socket().await;
  assert_eq!(
    (&request["token"], &request["reconnection_token"]),
    (&json!("s3cret-token"), &json!(null))
  );
  conversation.text(refusal).await;
  let mut states = client.state();
  reach(&mut states, |state| matches!(state, State::Refused(_))).await;
  assert_eq!(client.echo(1).await, Err(CallError::Closed));
}

#[tokio::test]
async fn a_peer_that_leaves_ends_its_calls() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let call = tokio::spawn(async move { client.echo(1).await });
  conversation.frame().await;
  let event =
    json!({"type": "client_disconnected", "to": "*", "data": {"id": "boss", "workspace": "*"}});
  conversation.frames(&event, &json!({})).await;
  let outcome = soon(call).await.expect("no panic");
  assert_eq!(outcome, Err(CallError::PeerGone("*/boss".into())));
}

#[tokio::test]
async fn services_that_are_not_listed_any_more_are_registered_again() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.repair = Duration::from_millis(100);
  let (client, mut conversation) = connect(&server, options).await;
  let service = Service::new("lost");
  let serve = async {
    let mut registrations = 0;
    while registrations < 2 {
      let (main, _) = conversation.frame().await;
      let answer = match main["method"].as_str().unwrap_or_default() {
        "services.default.list_services" => json!([{"id": "ours/me:built-in@*"}]),
        "services.default.register_service" => {
          registrations += 1;
          json!(null)
        }
        other => panic!("{other}"),
      };
      conversation.resolve(&main, answer).await;
    }
  };
  let (registered, ()) = soon(async { tokio::join!(client.register(service), serve) }).await;
  registered.expect("registered");
}

#[tokio::test]
async fn the_server_is_pinged_and_the_token_renewed() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.ping = Duration::from_millis(1500);
  let (_client, mut conversation) = connect(&server, options).await;
  let mut kinds = Vec::new();
  while !kinds.contains(&"refresh_token".to_owned()) {
    if let Message::Text(text) = conversation.next().await {
      let message: serde_json::Value = serde_json::from_str(text.as_str()).expect("JSON");
      kinds.push(message["type"].as_str().unwrap_or_default().to_owned());
      conversation
        .text(json!({"type": "reconnection_token", "reconnection_token": "renewed"}))
        .await;
    }
  }
  assert_eq!(kinds[0], "ping");
  conversation.is_alive().await;
  drop(conversation);
  let (_, request) = server.socket().await;
  assert_eq!(request["reconnection_token"], "renewed");
}

#[tokio::test]
async fn a_client_that_is_dropped_disconnects() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  drop(client);
  let end = soon(async {
    while let Some(Ok(message)) = futures::StreamExt::next(&mut conversation.socket).await {
      if message.is_close() {
        return true;
      }
    }
    true
  });
  assert!(end.await);
  let (client, _conversation) = connect(&server, server.options()).await;
  soon(client.disconnect()).await;
  assert_eq!(*client.state().borrow(), State::Disconnected);
  assert_eq!(client.echo(1).await, Err(CallError::Closed));
}

#[tokio::test]
async fn pings_of_the_server_are_answered_at_once() {
  let server = Scripted::start().await;
  let (_client, mut conversation) = connect(&server, server.options()).await;
  conversation.send(Message::Ping(b"sign"[..].into())).await;
  while conversation.next().await != Message::Pong(b"sign"[..].into()) {}
}

/// The next answer to the call of this session; other calls wait.
async fn answer_to(conversation: &mut Conversation, session: &str) -> serde_json::Value {
  loop {
    let (main, mut extra) = conversation.frame().await;
    if main["method"] == format!("{session}.resolve") {
      return extra["args"][0].take();
    }
  }
}

#[tokio::test]
async fn streams_are_given_on_a_second_connection_while_the_first_has_too_much_to_say() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.rate = 20.0;
  options.limits.burst = 10.0;
  options.limits.queue = 2;
  options.may_overflow = true;
  let (client, mut first) = connect(&server, options).await;
  let service = Service::new("flow")
    .visibility(Visibility::Public)
    .method(Method::new("items", |_, _| async {
      Ok(hypha_rpc::Reply::stream(futures::stream::iter(
        [1, 2].map(|it| Ok(hypha_rpc::Value::from(it))),
      )))
    }));
  register(&client, &mut first, service).await;
  let press = || {
    for number in 0..40 {
      let client = client.clone();
      // Nobody answers it.
      tokio::spawn(async move { client.echo(number).await });
    }
  };
  press();
  // Some go at once; from then on the others wait.
  for _ in 0..5 {
    first.frame().await;
  }
  let extra = json!({"args": [], "promise": "*"});
  first
    .call("services.flow.items", "early", extra.clone())
    .await;
  let second = async {
    let (mut second, request) = server.socket().await;
    assert_eq!(request["client_id"], "me-streams");
    assert_eq!(request["token"], "s3cret-token");
    second.welcome_as("me-streams").await;
    // By its answer it is registered.
    second.is_alive().await;
    second
  };
  let (early, mut second) = tokio::join!(answer_to(&mut first, "early"), second);
  assert_eq!(early["_rtarget"], "ours/me");
  press();
  first.frame().await;
  first
    .call("services.flow.items", "late", extra.clone())
    .await;
  let late = answer_to(&mut first, "late").await;
  assert_eq!(late["_rtarget"], "ours/me-streams");
  let next = late["_rmethod"].as_str().expect("a method");
  for (session, item) in [("p1", json!(1)), ("p2", json!(2))] {
    second.call(next, session, extra.clone()).await;
    assert_eq!(answer_to(&mut second, session).await, item);
  }
  client.disconnect().await;
  // The second ends with the first.
  soon(async {
    while let Some(Ok(message)) = futures::StreamExt::next(&mut second.socket).await {
      if message.is_close() {
        break;
      }
    }
  })
  .await;
}
