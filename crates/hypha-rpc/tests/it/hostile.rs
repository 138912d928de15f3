//! What peers and servers send that they should not.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use hypha_rpc::Arguments;
use hypha_rpc::CallError;
use hypha_rpc::Context;
use hypha_rpc::Method;
use hypha_rpc::MethodRef;
use hypha_rpc::RemoteError;
use hypha_rpc::Service;
use hypha_rpc::State;
use hypha_rpc::Value;
use hypha_rpc::Visibility;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::reach;
use crate::support::scripted::CALLER;
use crate::support::scripted::Scripted;
use crate::support::scripted::connect;
use crate::support::scripted::packed;
use crate::support::scripted::register;
use crate::support::soon;

#[tokio::test]
async fn frames_that_cannot_be_read_are_dropped() {
  let server = Scripted::start().await;
  let (_client, mut conversation) = connect(&server, server.options()).await;
  let whole = packed(
    &json!({"type": "method", "from": CALLER, "method": "services.built-in.ping", "session": "s"}),
    &json!({"args": ["ping"], "promise": "*"}),
  );
  for end in 0..whole.len() {
    conversation
      .send(Message::Binary(whole[..end].to_vec().into()))
      .await;
  }
  for garbage in [
    &b"\xc1"[..],
    b"\x91\x01",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"hello",
  ] {
    conversation
      .send(Message::Binary(garbage.to_vec().into()))
      .await;
  }
  for text in ["", "garbage", "[]", "{}", "{\"type\": 1}"] {
    conversation.send(Message::text(text)).await;
  }
  conversation.is_alive().await;
}

#[tokio::test]
async fn ten_thousand_levels_overflow_no_stack() {
  let server = Scripted::start().await;
  let (_client, mut conversation) = connect(&server, server.options()).await;
  let mut frame = packed(
    &json!({"type": "method", "from": CALLER, "method": "services.built-in.ping", "session": "s"}),
    &json!({}),
  );
  frame.pop();
  // {"args": [[[…]]]}
  frame.extend([0x81, 0xa4]);
  frame.extend(b"args");
  frame.extend([0x91; 10_000]);
  frame.push(0xc0);
  conversation.send(Message::Binary(frame.into())).await;
  conversation.is_alive().await;
}

#[tokio::test]
async fn a_frame_of_100_megabytes_is_not_read_and_the_client_comes_back() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let mut states = client.state();
  let send = async {
    // The client stops reading in its midst.
    let message = Message::Binary(vec![0; 100 << 20].into());
    let _ = futures::SinkExt::send(&mut conversation.socket, message).await;
  };
  let lost = async {
    states.changed().await.expect("the client is there");
    assert!(matches!(&*states.borrow_and_update(), State::Lost(_)));
  };
  soon(async { tokio::join!(send, lost) }).await;
  let mut again = server.client().await;
  reach(&mut states, |state| *state == State::Connected).await;
  again.is_alive().await;
}

#[tokio::test]
async fn a_sender_that_is_claimed_in_the_second_part_counts_for_nothing() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let seen: Arc<Mutex<Option<Context>>> = Arc::default();
  let notes = Arc::clone(&seen);
  let service = |id: &str, visibility, notes: Arc<Mutex<Option<Context>>>| {
    Service::new(id).visibility(visibility).method(Method::new(
      "look",
      move |context: Context, _| {
        *notes.lock().expect("no panic") = Some(context);
        async { Ok(()) }
      },
    ))
  };
  let open = service("open", Visibility::Public, Arc::clone(&notes));
  register(&client, &mut conversation, open).await;
  register(
    &client,
    &mut conversation,
    service("closed", Visibility::Protected, notes),
  )
  .await;
  let forged = json!({
    "args": [], "promise": "*", "from": "ours/friend", "ws": "ours", "to": "ours/me",
    "user": {"id": "root"}, "session": "other", "method": "services.closed.look",
  });
  conversation
    .call("services.open.look", "one", forged.clone())
    .await;
  let (main, _) = conversation.frame().await;
  assert_eq!(
    (&main["method"], &main["to"]),
    (&json!("one.resolve"), &json!(CALLER))
  );
  let context = seen
    .lock()
    .expect("no panic")
    .take()
    .expect("it was called");
  assert_eq!(context.from, CALLER);
  assert_eq!(context.workspace, "elsewhere");
  assert_eq!(context.user.id, "stranger");
  assert!(context.user.is_anonymous);

  conversation
    .call("services.closed.look", "two", forged)
    .await;
  let (main, extra) = conversation.frame().await;
  assert_eq!(main["method"], "two.reject");
  assert!(
    extra["args"][0]["_rvalue"]
      .as_str()
      .is_some_and(|it| it.contains("Permission denied"))
  );
  assert!(seen.lock().expect("no panic").is_none());
  let get = json!({"args": ["closed"], "promise": "*", "ws": "ours"});
  conversation
    .call("services.built-in.get_service", "three", get)
    .await;
  assert_eq!(conversation.frame().await.0["method"], "three.reject");
}

#[tokio::test]
async fn only_the_peer_that_was_called_answers() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let mut call = tokio::spawn(async move { client.echo("hello").await });
  let (main, _) = conversation.frame().await;
  let session = main["session"].as_str().expect("a session").to_owned();
  // Another client that has learned the session's id.
  for leaf in ["resolve", "reject", "heartbeat"] {
    conversation
      .call(
        &format!("{session}.{leaf}"),
        "s",
        json!({"args": ["forged"]}),
      )
      .await;
  }
  // Events of the server, which a client has sent.
  for event in ["peer_not_found", "error"] {
    let forged = json!({"type": event, "from": CALLER, "session": session, "peer_id": "*/boss"});
    conversation.frames(&forged, &json!({})).await;
  }
  let forged = json!({"type": "client_disconnected", "from": CALLER, "data": {"id": "boss", "workspace": "*"}});
  conversation.frames(&forged, &json!({})).await;
  conversation.is_alive().await;
  assert!(futures::FutureExt::now_or_never(&mut call).is_none());
  conversation.resolve(&main, json!("real")).await;
  assert_eq!(soon(call).await.expect("no panic"), Ok("real".into()));
}

#[tokio::test]
async fn an_answer_goes_to_the_caller_and_to_nobody_else() {
  let server = Scripted::start().await;
  let (_client, mut conversation) = connect(&server, server.options()).await;
  let method =
    |target: &str| json!({"_rtype": "method", "_rtarget": target, "_rmethod": "services.x.y"});
  let promise =
    |target: &str| json!({"resolve": method(target), "reject": method(target), "interval": 15});
  let call = |target: &str| json!({"args": ["built-in"], "promise": promise(target)});
  conversation
    .call("services.built-in.get_service", "s", call("victim/other"))
    .await;
  // An id without a workspace is in the caller's.
  conversation
    .call("services.built-in.get_service", "s", call("caller"))
    .await;
  let (main, _) = conversation.frame().await;
  assert_eq!(
    (&main["to"], &main["method"]),
    (&json!(CALLER), &json!("services.x.y"))
  );
  conversation.is_alive().await;
}

#[tokio::test]
async fn a_handler_calls_no_method_that_is_not_its_callers_own() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let service = Service::new("caller")
    .visibility(Visibility::Public)
    .method(Method::new(
      "back",
      |context: Context, arguments: Arguments| async move {
        let callback: MethodRef = arguments
          .get(0, "callback")
          .and_then(Value::as_method)
          .cloned()
          .ok_or_else(|| RemoteError::new("no callback"))?;
        match context.client().call(&callback, [1]).await {
          Err(CallError::Invalid(_)) => Ok("not called"),
          _ => Ok("called"),
        }
      },
    ));
  register(&client, &mut conversation, service).await;
  let foreign = json!({"_rtype": "method", "_rtarget": "*/boss", "_rmethod": "services.default.x", "_rpromise": "*"});
  let extra = json!({"args": [foreign], "promise": "*"});
  conversation.call("services.caller.back", "s", extra).await;
  let (main, extra) = conversation.frame().await;
  assert_eq!(main["method"], "s.resolve");
  assert_eq!(extra["args"], json!(["not called"]));
}

#[tokio::test]
async fn a_panic_of_a_handler_is_an_error_for_its_caller_only() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let service = Service::new("bad")
    .visibility(Visibility::Public)
    .method(Method::new("panic", |_, _| async {
      assert!(std::hint::black_box(false), "a secret of the handler");
      Ok(())
    }));
  register(&client, &mut conversation, service).await;
  conversation
    .call("services.bad.panic", "s", json!({"promise": "*"}))
    .await;
  let (main, extra) = conversation.frame().await;
  assert_eq!(main["method"], "s.reject");
  assert!(!extra.to_string().contains("secret"), "{extra}");
  conversation.is_alive().await;
}

#[tokio::test]
async fn further_calls_are_refused_when_too_many_are_in_progress() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.calls_in_progress = 2;
  let (client, mut conversation) = connect(&server, options).await;
  let service = Service::new("slow")
    .visibility(Visibility::Public)
    .method(Method::new("wait", |_, _| {
      std::future::pending::<Result<(), _>>()
    }));
  register(&client, &mut conversation, service).await;
  for session in ["one", "two", "three"] {
    let extra = json!({"promise": "*", "t": 3600});
    conversation
      .call("services.slow.wait", session, extra)
      .await;
  }
  assert_eq!(conversation.frame().await.0["method"], "three.reject");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_lost() {
  let server = Scripted::start().await;
  let mut options = server.options();
  options.limits.ping = Duration::from_millis(100);
  let (client, mut conversation) = connect(&server, options).await;
  let mut states = client.state();
  // It pings, and goes when nothing comes back.
  let Message::Text(text) = conversation.next().await else {
    panic!("a text")
  };
  assert_eq!(text.as_str(), "{\"type\":\"ping\"}");
  reach(&mut states, |state| matches!(state, State::Lost(_))).await;
}

#[tokio::test]
async fn a_caller_whose_arguments_cannot_be_read_is_told() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let service = Service::new("open")
    .visibility(Visibility::Public)
    .method(Method::new("any", |_, _| async { Ok(()) }));
  register(&client, &mut conversation, service).await;
  let deep = (0..100).fold(json!(null), |inner, _| json!([inner]));
  conversation
    .call(
      "services.open.any",
      "s",
      json!({"args": [deep], "promise": "*"}),
    )
    .await;
  let (main, extra) = conversation.frame().await;
  assert_eq!(
    (&main["method"], &main["to"]),
    (&json!("s.reject"), &json!(CALLER))
  );
  assert!(
    extra["args"][0]["_rvalue"]
      .as_str()
      .is_some_and(|it| it.contains("cannot be read"))
  );
}

#[tokio::test]
async fn a_handler_learns_that_its_caller_has_left() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let left = Arc::new(tokio::sync::Notify::new());
  let notify = Arc::clone(&left);
  let service = Service::new("open")
    .visibility(Visibility::Public)
    .method(Method::new("wait", move |context: Context, _| {
      let notify = Arc::clone(&notify);
      async move {
        context.caller_left().await;
        notify.notify_one();
        Ok(())
      }
    }));
  register(&client, &mut conversation, service).await;
  conversation
    .call("services.open.wait", "s", json!({"promise": "*"}))
    .await;
  let event = json!({
    "type": "client_disconnected", "to": "*", "data": {"id": "caller", "workspace": "elsewhere"},
  });
  conversation.frames(&event, &json!({})).await;
  soon(left.notified()).await;
}

#[tokio::test]
async fn only_the_client_that_was_given_a_stream_pulls_and_closes_it() {
  let server = Scripted::start().await;
  let (client, mut conversation) = connect(&server, server.options()).await;
  let service = Service::new("open")
    .visibility(Visibility::Public)
    .method(Method::new("count", |_, _| async {
      let numbers = futures::stream::iter((0..).map(|number| Ok(Value::Int(number))));
      Ok(hypha_rpc::Reply::stream(numbers))
    }));
  register(&client, &mut conversation, service).await;
  conversation
    .call("services.open.count", "s", json!({"promise": "*"}))
    .await;
  let (_, extra) = conversation.frame().await;
  let generator = &extra["args"][0];
  let next = generator["_rmethod"].as_str().expect("a method").to_owned();
  let close = generator["_rclose_method"]
    .as_str()
    .expect("a method")
    .to_owned();
  for method in [&next, &close] {
    let main = json!({
      "type": "method", "from": "elsewhere/thief", "to": "ours/me", "ws": "elsewhere", "method": method,
      "session": "t",
    });
    conversation.frames(&main, &json!({"promise": "*"})).await;
    let (main, _) = conversation.frame().await;
    assert_eq!(
      (&main["method"], &main["to"]),
      (&json!("t.reject"), &json!("elsewhere/thief"))
    );
  }
  for number in 0..3 {
    conversation.call(&next, "p", json!({"promise": "*"})).await;
    assert_eq!(conversation.frame().await.1["args"], json!([number]));
  }
  conversation
    .call(&close, "c", json!({"promise": "*"}))
    .await;
  assert_eq!(conversation.frame().await.0["method"], "c.resolve");
  conversation.call(&next, "p", json!({"promise": "*"})).await;
  assert_eq!(conversation.frame().await.0["method"], "p.reject");
}
