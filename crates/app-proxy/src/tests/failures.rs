use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::SinkExt;
use futures::StreamExt;
use futures::channel::mpsc;
use http_body_util::BodyExt;
use tokio::sync::watch;

use crate::tests::support::Answer;
use crate::tests::support::Front;
use crate::tests::support::Listener;
use crate::tests::support::get;
use crate::tests::support::request;
use crate::tests::support::soon;

#[tokio::test]
async fn an_app_that_dies_within_its_answer_gives_a_broken_answer() {
  for head in ["content-length: 10", "transfer-encoding: chunked"] {
    let (listener, front) = Listener::with_front().await;
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      let body = if head.starts_with('c') {
        "hello"
      } else {
        "5\r\nhello\r\n"
      };
      app
        .write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"))
        .await;
      app
    };
    let (answer, app) = tokio::join!(front.send(get("/")), serve);
    let mut body = answer.into_body();
    let first = soon(body.frame())
      .await
      .expect("a frame")
      .expect("no error");
    assert_eq!(first.into_data().expect("data"), "hello");
    drop(app);
    let end = soon(body.frame()).await.expect("not an end");
    end.expect_err("a broken body");
  }
}

#[tokio::test]
async fn an_app_that_dies_within_its_head_gives_an_error() {
  for start in [
    "",
    "HTTP/1.1 200",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n",
  ] {
    let (listener, front) = Listener::with_front().await;
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      app.write(start).await;
    };
    let (answer, ()) = tokio::join!(front.get("/"), serve);
    assert_eq!(answer.head.status, StatusCode::BAD_GATEWAY, "{start}");
    assert_eq!(
      answer.text,
      "the app at /apps/hello closed the connection before it answered; see its log"
    );
  }
}

#[tokio::test]
async fn an_app_that_dies_while_it_is_sent_a_body_gives_an_error() {
  let (listener, front) = Listener::with_front().await;
  let endless = futures::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![7; 65536])));
  let request = request("POST", "/").body(Body::from_stream(endless));
  let serve = async {
    listener.accept().await.read_head().await;
  };
  let (answer, ()) = tokio::join!(front.send(request.expect("a request")), serve);
  let answer = Answer::of(answer).await;
  assert_eq!(answer.head.status, StatusCode::BAD_GATEWAY);
  assert!(
    answer.text.contains("closed the connection"),
    "{}",
    answer.text
  );
}

#[tokio::test]
async fn an_app_that_does_not_speak_http_gives_an_error() {
  for nonsense in [
    "SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
  ] {
    let (listener, front) = Listener::with_front().await;
    let serve = async {
      let mut app = listener.accept().await;
      app.read_head().await;
      app.write(nonsense).await;
      app
    };
    let (answer, _app) = tokio::join!(front.get("/"), serve);
    assert_eq!(answer.head.status, StatusCode::BAD_GATEWAY);
    let named = answer
      .text
      .starts_with("the app at /apps/hello did not answer in HTTP/1.1: ");
    assert!(named, "{}", answer.text);
  }
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_ends_the_apps_request() {
  let (listener, front) = Listener::with_front().await;
  let mut client = front.connect().await;
  client
    .write("POST /apps/hello/ HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody")
    .await;
  let mut app = listener.accept().await;
  app.read_to("body").await;
  drop(client);
  assert_eq!(app.read_rest().await, "");
}

#[tokio::test]
async fn a_client_that_goes_away_within_a_quiet_answer_ends_the_apps_request() {
  for head in [
    "content-type: text/event-stream\r\ntransfer-encoding: chunked",
    "content-length: 9",
  ] {
    let (listener, front) = Listener::with_front().await;
    let mut client = front.connect().await;
    client
      .write("GET /apps/hello/ HTTP/1.1\r\nhost: a\r\n\r\n")
      .await;
    let mut app = listener.accept().await;
    app.read_head().await;
    app
      .write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"))
      .await;
    client.read_head().await;
    drop(client);
    assert_eq!(app.read_rest().await, "");
  }
}

#[tokio::test]
async fn a_client_that_goes_away_within_a_flood_of_an_answer_ends_it() {
  struct Ended(watch::Sender<bool>);
  impl Drop for Ended {
    fn drop(&mut self) {
      self.0.send_replace(true);
    }
  }
  let (end, mut ended) = watch::channel(false);
  let app = Router::new().fallback(async move || {
    let guard = Ended(end.clone());
    Body::from_stream(futures::stream::repeat_with(move || {
      let _ = &guard;
      Ok::<_, Infallible>(Bytes::from(vec![7; 65536]))
    }))
  });
  let front = Front::before(app).await;
  let mut client = front.connect().await;
  client
    .write("GET /apps/hello/ HTTP/1.1\r\nhost: a\r\n\r\n")
    .await;
  client.read_head().await;
  drop(client);
  soon(ended.wait_for(|ended| *ended)).await.expect("it ends");
}

#[tokio::test]
async fn a_client_that_goes_away_within_its_body_leaves_the_app_a_broken_body() {
  let (tell, mut told) = mpsc::channel(8);
  let app = Router::new().fallback(async move |request: Request| {
    let mut tell = tell.clone();
    let mut body = request.into_body().into_data_stream();
    while let Some(data) = body.next().await {
      let data = data.map_err(|error| error.to_string());
      tell.send(data).await.expect("the test listens");
    }
  });
  for length in [
    "content-length: 8\r\n\r\nbody",
    "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n",
  ] {
    let front = Front::before(app.clone()).await;
    let mut client = front.connect().await;
    client
      .write(format!("POST /apps/hello/ HTTP/1.1\r\nhost: a\r\n{length}"))
      .await;
    assert_eq!(
      soon(told.next()).await.expect("data").expect("no error"),
      "body"
    );
    drop(client);
    soon(told.next())
      .await
      .expect("not an end")
      .expect_err("not data");
  }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_still_sends() {
  let app = Router::new().fallback(async || (StatusCode::PAYLOAD_TOO_LARGE, "too large"));
  let front = Front::before(app).await;
  for _ in 0..20 {
    let (mut sender, receiver) = mpsc::channel::<Bytes>(0);
    let body = Body::from_stream(receiver.map(Ok::<_, Infallible>));
    let request = request("POST", "/").body(body).expect("a request");
    let send = async { while sender.send(Bytes::from(vec![7; 65536])).await.is_ok() {} };
    let answer = async { Answer::of(front.send(request).await).await };
    let (answer, ()) = soon(async { tokio::join!(answer, send) }).await;
    assert_eq!(answer.head.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.text, "too large");
  }
}
