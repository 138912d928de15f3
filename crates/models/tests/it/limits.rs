//! How long and how much an answer may be.

use std::time::Duration;
use std::time::Instant;

use access::Classified;
use access::ErrorKind;
use models::Awaited;
use models::Fault;
use models::Limits;
use models::ModelError;

use crate::limits;
use crate::read;
use crate::said;
use crate::server::Server;
use crate::server::Step;
use crate::server::chunk;
use crate::server::events;
use crate::server::head;
use crate::server::text;

const SHORT: Duration = Duration::from_millis(150);

fn fault(error: Option<ModelError>) -> Fault {
  match error {
    Some(ModelError::Broken { fault, .. }) => fault,
    other => panic!("{other:?}"),
  }
}

#[tokio::test]
async fn a_first_token_that_does_not_come_ends_the_wait() {
  let silences: [fn() -> Vec<Step>; 4] = [
    // Before the head, after it, and with signs of life that are no tokens.
    || vec![Step::Hang],
    || vec![head(), Step::Hang],
    || vec![head(), chunk(events([text("")])), Step::Hang],
    || {
      let mut steps = vec![head()];
      for _ in 0..100 {
        steps.extend([chunk(": wait\n\n"), Step::Wait(Duration::from_millis(20))]);
      }
      steps
    },
  ];
  for silence in silences {
    let server = Server::always(silence).await;
    let limits = Limits {
      first_token: SHORT,
      ..limits()
    };
    let begun = Instant::now();
    let (deltas, error) = read(&server.url(), &limits).await;
    assert_eq!(deltas, []);
    let error = error.expect("a time-out");
    assert!(
      matches!(error, ModelError::TimedOut { awaited: Awaited::FirstToken, limit, .. } if limit == SHORT),
      "{error:?}"
    );
    assert!(
      error.to_string().starts_with("Connection timeout: "),
      "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(1));
    server.closed().await;
    assert_eq!(server.requests().len(), 1, "it is not asked again");
  }
}

#[tokio::test]
async fn a_pause_between_tokens_ends_the_answer_after_the_text_so_far() {
  let server = Server::always(|| {
    let mut steps = vec![head(), chunk(events([text("Hel")]))];
    for _ in 0..100 {
      steps.extend([chunk(": wait\n\n"), Step::Wait(Duration::from_millis(20))]);
    }
    steps
  })
  .await;
  let limits = Limits {
    between_tokens: SHORT,
    ..limits()
  };
  let (deltas, error) = read(&server.url(), &limits).await;
  assert_eq!(said(&deltas), "Hel");
  let message = error.as_ref().expect("a time-out").to_string();
  assert!(
    message.starts_with("Error processing response: ")
      && message.ends_with("nothing more came within 150ms"),
    "{message}"
  );
  assert_eq!(fault(error), Fault::Silent(SHORT));
  server.closed().await;
}

#[tokio::test]
async fn a_slow_answer_is_read_to_its_end() {
  let server = Server::always(|| {
    let mut steps = vec![head()];
    for _ in 0..8 {
      steps.extend([Step::Wait(SHORT / 2), chunk(events([text("a")]))]);
    }
    steps.push(chunk("data: [DONE]\n\n"));
    steps
  })
  .await;
  let limits = Limits {
    first_token: 2 * SHORT,
    between_tokens: 2 * SHORT,
    ..limits()
  };
  let (deltas, error) = read(&server.url(), &limits).await;
  assert_eq!((said(&deltas).as_str(), error), ("aaaaaaaa", None));
}

#[tokio::test]
async fn an_answer_ends_at_the_total_time() {
  let server = Server::always(|| {
    let mut steps = vec![head()];
    for _ in 0..100 {
      steps.extend([
        chunk(events([text("a")])),
        Step::Wait(Duration::from_millis(20)),
      ]);
    }
    steps
  })
  .await;
  let limits = Limits {
    total: SHORT,
    ..limits()
  };
  let (deltas, error) = read(&server.url(), &limits).await;
  assert!(!deltas.is_empty());
  assert_eq!(fault(error), Fault::Late(SHORT));
  let silent = Server::always(|| vec![Step::Hang]).await;
  let (_, error) = read(&silent.url(), &limits).await;
  assert!(
    matches!(
      error,
      Some(ModelError::TimedOut {
        awaited: Awaited::Answer,
        ..
      })
    ),
    "{error:?}"
  );
}

/// A server that sends this over and over: a gigabyte in all.
async fn flood(bytes: String) -> Server {
  let block = bytes.repeat((64 << 10) / bytes.len() + 1).into_bytes();
  let times = (1 << 30) / block.len();
  Server::always(move || {
    let begin = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    vec![Step::Send(begin), Step::Repeat(block.clone(), times)]
  })
  .await
}

#[tokio::test]
async fn text_without_end_is_cut_off() {
  let server = flood(events([text("all work and no play ")])).await;
  let limits = Limits {
    text_bytes: 100_000,
    ..limits()
  };
  let (deltas, error) = read(&server.url(), &limits).await;
  let length = said(&deltas).len();
  assert!((99_900..=100_000).contains(&length), "{length}");
  let message = error.as_ref().expect("too long").to_string();
  assert!(
    message.ends_with("the answer has more than 100000 bytes of text; reading it was stopped"),
    "{message}"
  );
  server.closed().await;
}

/// What this process has in memory now and had at most, in bytes.
#[expect(clippy::disallowed_methods, reason = "files of /proc wait for no disk")]
fn memory() -> (u64, u64) {
  let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
  let value = |name: &str| {
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
      .and_then(|number| number.parse::<u64>().ok())
      .expect(name)
      << 10
  };
  (value("VmRSS:"), value("VmHWM:"))
}

/// Other tests run in this process as well, and have some megabytes each.
const SOME: u64 = 96 << 20;

#[tokio::test]
async fn a_gigabyte_of_any_kind_ends_in_an_error_and_takes_no_memory() {
  let (before, _) = memory();
  let kinds = [
    ("bytes of text", events([text(&"work ".repeat(1000))])),
    (
      "bytes of text",
      events([r#"{"choices": [{"delta": {"reasoning": "hm hm hm hm hm hm"}}]}"#]),
    ),
    // One line, one event of many lines, one JSON, one comment.
    ("bytes in one event", "data: work work work".to_owned()),
    ("bytes in one event", "data: work work work\n".to_owned()),
    (
      "bytes in one event",
      "{\"choices\": [{\"delta\": {\"content\": \"work work work".to_owned(),
    ),
    ("bytes in one event", ":work work work".to_owned()),
    // Without end, and without any text.
    ("bytes", ": work work work\n\n".to_owned()),
    ("bytes", events([text("")])),
    ("bytes", "\n".to_owned()),
  ];
  for (what, bytes) in kinds {
    let server = flood(bytes.clone()).await;
    // The default limits, but for one that takes a slow machine its time.
    let limits = Limits {
      wire_bytes: 40 << 20,
      ..Limits::default()
    };
    let (deltas, error) = read(&server.url(), &limits).await;
    drop(deltas);
    let Fault::TooLong { what: found, .. } = fault(error) else {
      panic!("{bytes:.40}");
    };
    assert_eq!(found, what, "{bytes:.40}");
    server.closed().await;
  }
  let (after, most) = memory();
  assert!(
    after < before + SOME,
    "{before} bytes before, {after} after"
  );
  assert!(
    most < before + 2 * SOME,
    "{before} bytes before, {most} at most"
  );
}
