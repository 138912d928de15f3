//! Watches of files of kernels whose hosts run no code.

use std::sync::Arc;

use access::Caller;
use access::Classified;
use access::ErrorKind;
use access::Right;
use files::FileEvent;
use files::FileWatch;
use files::StoreError;
use kernel_protocol::files::ChangeKind;
use kernel_protocol::files::MAX_WATCHES;

use super::Fixture;
use super::fake::MISSING;
use super::fake::TELL;
use super::fake::WATCHES;
use super::fixture;
use super::of;
use super::typescript;
use crate::KernelManager;

async fn watch(manager: &KernelManager, path: &str) -> Result<FileWatch, StoreError> {
  let files = manager.files(&Caller::operator(), Right::Read, "k");
  files::watch(&files.expect("is there"), path).await
}

/// Lets the host tell names to every watch; returns how many watches it has.
async fn tell(manager: &KernelManager, names: &str) -> usize {
  let cell = format!("{TELL}{names}");
  let execution = manager.submit(&Caller::operator(), "k", cell);
  let execution = execution.expect("runs");
  execution.ended().await;
  let said = format!("{:?}", execution.events());
  let count = said.split(WATCHES).nth(1).expect("says how many");
  let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
  digits.parse().expect("a number")
}

fn created(path: &str) -> FileEvent {
  FileEvent::Changed {
    path: path.into(),
    change: ChangeKind::Created,
  }
}

async fn with_kernel() -> Arc<KernelManager> {
  let Fixture { manager, .. } = fixture();
  let made = manager.create(&Caller::operator(), typescript("k")).await;
  made.expect("is made");
  manager
}

#[tokio::test]
async fn a_watch_tells_what_its_host_says_until_its_reader_leaves() {
  let manager = with_kernel().await;
  let mut first = watch(&manager, "in").await.expect("is watched");
  let mut second = watch(&manager, "").await.expect("is watched");
  assert_eq!(tell(&manager, "a b").await, 2);
  for (watch, prefix) in [(&mut first, "in/"), (&mut second, "")] {
    assert_eq!(watch.next().await, Some(created(&format!("{prefix}a"))));
    assert_eq!(watch.next().await, Some(created(&format!("{prefix}b"))));
  }
  drop(first);
  assert_eq!(tell(&manager, "c").await, 1, "the host was told");
  assert_eq!(second.next().await, Some(created("c")));
  assert_eq!(tell(&manager, "!").await, 1);
  assert_eq!(second.next().await, Some(FileEvent::Overflow));
}

#[tokio::test]
async fn names_that_are_none_are_not_believed() {
  let manager = with_kernel().await;
  let mut watch = watch(&manager, "in").await.expect("is watched");
  tell(&manager, "a ../../etc/passwd").await;
  assert_eq!(watch.next().await, Some(FileEvent::Overflow));
  tell(&manager, "b").await;
  assert_eq!(watch.next().await, Some(created("in/b")));
}

#[tokio::test]
async fn a_reader_that_is_slow_is_told_to_list_again() {
  let manager = with_kernel().await;
  let mut watch = watch(&manager, "").await.expect("is watched");
  let names: Vec<String> = (0..900).map(|it| format!("a-name-{it}")).collect();
  let names = names.join(" ");
  for _ in 0..20 {
    tell(&manager, &names).await;
  }
  assert_eq!(watch.next().await, Some(FileEvent::Overflow));
  tell(&manager, "last").await;
  assert_eq!(watch.next().await, Some(created("last")));
}

#[tokio::test]
async fn a_watch_ends_with_its_host_and_says_why() {
  let manager = with_kernel().await;
  let all = Caller::operator();
  let reason = |event: Option<FileEvent>| match event {
    Some(FileEvent::Ended { reason }) => reason,
    other => panic!("{other:?}"),
  };
  let mut watch_of_old = watch(&manager, "").await.expect("is watched");
  manager.restart(&all, "k").await.expect("restarts");
  assert_eq!(
    reason(watch_of_old.next().await),
    "the kernel was restarted"
  );
  assert_eq!(watch_of_old.next().await, None);
  let mut died = watch(&manager, "").await.expect("is watched");
  let kernel = manager.get(&all, "k").expect("is there");
  kernel.kill_host("was killed");
  assert_eq!(reason(died.next().await), "the kernel was killed");
  let dead = watch(&manager, "").await.err().expect("is refused");
  assert_eq!(dead.kind(), ErrorKind::Conflict, "{dead}");
  manager.restart(&all, "k").await.expect("restarts");
  let mut deleted = watch(&manager, "").await.expect("is watched");
  manager.delete(&all, "k", false).await.expect("is deleted");
  assert_eq!(
    reason(deleted.next().await),
    "the kernel was ended: deleted"
  );
}

#[tokio::test]
async fn there_are_only_so_many_and_what_is_refused_takes_no_place() {
  let manager = with_kernel().await;
  let mut open = Vec::new();
  for _ in 0..MAX_WATCHES {
    let missing = watch(&manager, MISSING).await.err().expect("is missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    open.push(watch(&manager, "").await.expect("is watched"));
  }
  let refused = watch(&manager, "").await.err().expect("is refused");
  assert_eq!(refused.kind(), ErrorKind::LimitReached, "{refused}");
  open.pop();
  open.push(watch(&manager, "").await.expect("there is room"));
  assert_eq!(tell(&manager, "x").await, MAX_WATCHES);
}

#[tokio::test]
async fn whoever_stops_waiting_for_a_watch_leaves_none() {
  let manager = with_kernel().await;
  let opening = watch(&manager, "");
  // Polled once, then given up.
  assert!(futures::FutureExt::now_or_never(opening).is_none());
  assert_eq!(tell(&manager, "x").await, 0);
}

#[tokio::test]
async fn readers_watch_and_other_namespaces_do_not() {
  let Fixture { manager, .. } = fixture();
  let lab = of("lab");
  let made = manager.create(&lab, typescript("k")).await;
  made.expect("is made");
  let reader = lab.clone().limited_to(Right::Read);
  let files = manager.files(&reader, Right::Read, "k").expect("may read");
  files::watch(&files, "").await.expect("is watched");
  assert!(manager.files(&of("other"), Right::Read, "lab:k").is_err());
}
