//! How a server ends, and what the next one finds.

use rustix::process::Signal;
use serde_json::json;

use crate::support::Server;
use crate::support::eventually;
use crate::support::exists;
use crate::support::hosts_of;

#[tokio::test]
async fn a_server_interrupted_from_the_keyboard_ends_in_good_order() {
  let mut server = Server::builder().start();
  let kernel = server.client().typescript().await;
  let pid = kernel.pid().await;
  server.signal(Signal::INT);
  assert!(server.ended().await.success());
  assert!(!exists(pid));
}

#[tokio::test]
async fn open_streams_do_not_keep_the_server_from_stopping() {
  let mut server = Server::builder().start();
  let client = server.client();
  let kernel = client.typescript().await;
  let _watch = client.events().await;
  let mut sse = kernel
    .sse("console.log('running'); await new Promise(() => {})")
    .await;
  sse.until("stream").await;
  server.signal(Signal::TERM);
  let status = server.ended().await;
  assert!(status.success(), "{status}: {}", server.log());
}

#[tokio::test]
async fn a_server_that_stops_tells_clients_nothing_false() {
  let mut server = Server::builder().start();
  let kernel = server.client().typescript().await;
  let mut sse = kernel.sse("console.log('running'); while (true) {}").await;
  sse.until("stream").await;
  server.signal(Signal::TERM);
  // The cell has neither ended well nor failed by itself.
  let rest = sse.rest().await;
  assert!(
    rest.iter().all(|e| e["type"] != "execute_result"),
    "{rest:?}"
  );
  server.ended().await;
}

#[tokio::test]
async fn a_second_signal_does_not_hang_or_crash() {
  let mut server = Server::builder().start();
  let kernel = server.client().typescript().await;
  kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  let children = hosts_of(server.pid());
  server.signal(Signal::TERM);
  server.signal(Signal::TERM);
  server.ended().await;
  eventually("no kernel is left", || async {
    !children.iter().any(|pid| exists(*pid))
  })
  .await;
}

#[tokio::test]
async fn what_a_killed_server_left_on_disk_is_removed_by_the_next() {
  let dir = tempfile::tempdir().expect("a folder");
  let mut first = Server::builder().data_dir(dir.path()).start();
  let kernel = first.client().typescript().await;
  kernel
    .execute("await Deno.writeTextFile('left.txt', 'x')")
    .await;
  first.signal(Signal::KILL);
  first.ended().await;
  let left = || {
    walk(dir.path())
      .into_iter()
      .filter(|p| p.ends_with("left.txt"))
      .count()
  };
  assert_eq!(left(), 1);
  let second = Server::builder().data_dir(dir.path()).start();
  eventually("the leftovers are gone", || async { left() == 0 }).await;
  assert_eq!(
    second
      .client()
      .typescript()
      .await
      .execute("1")
      .await
      .result(),
    Some("1")
  );
}

#[tokio::test]
async fn two_servers_can_share_a_data_directory() {
  let dir = tempfile::tempdir().expect("a folder");
  let first = Server::builder().data_dir(dir.path()).start();
  let kernel = first.client().typescript().await;
  kernel
    .execute("await Deno.writeTextFile('mine.txt', 'x')")
    .await;
  let second = Server::builder().data_dir(dir.path()).start();
  second.client().typescript().await;
  drop(second);
  assert_eq!(
    kernel
      .execute("Deno.readTextFileSync('mine.txt')")
      .await
      .result(),
    Some("\"x\"")
  );
}

#[tokio::test]
async fn nothing_is_accepted_after_the_signal() {
  let mut server = Server::builder().start();
  let client = server.client();
  server.signal(Signal::TERM);
  server.ended().await;
  let request = client
    .request(reqwest::Method::POST, "/api/kernels")
    .json(&json!({"lang": "ts"}));
  assert!(request.send().await.is_err());
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
  let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
  entries
    .flat_map(|e| {
      if e.path().is_dir() {
        walk(&e.path())
      } else {
        vec![e.path()]
      }
    })
    .collect()
}
