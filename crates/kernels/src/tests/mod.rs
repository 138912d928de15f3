//! The manager with hosts that run no code.

mod environment;
mod fake;
mod watches;
mod zygotes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access::Caller;
use access::Right;
use access::Scope;
use kernel_protocol::KernelEvent;
use kernel_protocol::comm::CommKind;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::launch::ModuleCache;
use tempfile::TempDir;

use self::fake::ENDLESS;
use self::fake::FakeHosts;
use self::fake::REFUSE;
use self::fake::STUBBORN;
use crate::CreateKernel;
use crate::EngineEventKind;
use crate::Execution;
use crate::Interrupted;
use crate::KernelError;
use crate::KernelManager;
use crate::KernelOptions;
use crate::Language;
use crate::Status;

struct Fixture {
  manager: Arc<KernelManager>,
  hosts: Arc<FakeHosts>,
  dir: TempDir,
}

fn fixture() -> Fixture {
  with_hosts(FakeHosts::new())
}

fn with_hosts(hosts: Arc<FakeHosts>) -> Fixture {
  let dir = TempDir::new().expect("a folder");
  let mut options = KernelOptions::default();
  options.pool.enabled = false;
  let modules = ModuleCache {
    folder: dir.path().join("deno"),
    cached_only: true,
  };
  let scratch = dir.path().join("scratch");
  let manager = crate::start(
    options,
    hosts.clone(),
    scratch,
    modules,
    Err("no Python here".into()),
  );
  Fixture {
    manager,
    hosts,
    dir,
  }
}

fn typescript(id: &str) -> CreateKernel {
  CreateKernel {
    id: Some(id.into()),
    language: Language::TypeScript,
    ..Default::default()
  }
}

fn of(namespace: &str) -> Caller {
  Caller::of(Scope::Namespace(namespace.into()))
}

fn entries(folder: &Path) -> usize {
  std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test]
async fn callers_of_a_namespace_see_and_reach_nothing_of_another() {
  let Fixture { manager, .. } = fixture();
  let (lab, other, all) = (of("lab"), of("other"), Caller::operator());
  let kernel = manager
    .create(&lab, typescript("k"))
    .await
    .expect("is made");
  assert_eq!(kernel.id.as_str(), "lab:k");
  for id in ["k", "lab:k"] {
    assert!(manager.get(&lab, id).is_ok(), "{id}");
    assert!(manager.submit(&lab, id, "1".into()).is_ok(), "{id}");
  }
  assert!(manager.get(&all, "lab:k").is_ok() && manager.get(&all, "k").is_err());
  for id in ["k", "lab:k"] {
    let missing = |error: Option<KernelError>| {
      let error = error.expect("is not reached").to_string();
      assert!(error.contains("not found"), "{id}: {error}");
    };
    missing(manager.get(&other, id).err());
    missing(manager.submit(&other, id, "1".into()).err());
    missing(manager.touch(&other, id).err());
    missing(manager.set_inactivity_timeout(&other, id, None).err());
    missing(manager.reply_to_input(&other, id, None).err());
    missing(manager.files(&other, Right::Read, id).err());
    missing(manager.interrupt(&other, id).await.err());
    missing(manager.restart(&other, id).await.err());
    missing(manager.delete(&other, id, true).await.err());
  }
  let count = |caller: &Caller| manager.list(caller, None).expect("lists").len();
  assert_eq!((count(&lab), count(&other), count(&all)), (1, 0, 1));
  assert_eq!(manager.stats(&other).expect("counts").total, 0);
  let asked = manager.list(&other, Some("lab")).err();
  assert!(matches!(asked, Some(KernelError::Forbidden(_))));
  let request = CreateKernel {
    namespace: Some("lab".into()),
    ..typescript("x")
  };
  let created = manager.create(&other, request).await.err();
  assert!(matches!(created, Some(KernelError::Forbidden(_))));
}

#[tokio::test]
async fn who_may_only_look_can_change_nothing() {
  let Fixture { manager, .. } = fixture();
  let lab = of("lab");
  manager
    .create(&lab, typescript("k"))
    .await
    .expect("is made");
  let reader = lab.clone().limited_to(Right::Read);
  assert!(manager.get(&reader, "k").is_ok());
  for refused in [
    manager.submit(&reader, "k", "1".into()).err(),
    manager.touch(&reader, "k").err(),
    manager.set_inactivity_timeout(&reader, "k", None).err(),
    manager.restart(&reader, "k").await.err(),
    manager.delete(&reader, "k", false).await.err(),
    manager.create(&reader, typescript("x")).await.err(),
    manager.files(&reader, Right::Use, "k").err(),
  ] {
    assert!(matches!(refused, Some(KernelError::Forbidden(_))));
  }
}

#[tokio::test]
async fn a_kernel_that_is_refused_leaves_neither_its_id_nor_its_folder() {
  let Fixture { manager, dir, .. } = fixture();
  let request = CreateKernel {
    env: [(REFUSE.to_owned(), String::new())].into(),
    ..typescript("k")
  };
  let all = Caller::operator();
  let refused = manager.create(&all, request).await.err();
  assert_eq!(refused.expect("is refused").to_string(), "refused");
  let scratch = dir.path().join("scratch");
  for _ in 0..1000 {
    if entries(&scratch) == 0 {
      break;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
  }
  assert_eq!(entries(&scratch), 0, "a folder is left behind");
  manager
    .create(&all, typescript("k"))
    .await
    .expect("the id is free");
  assert_eq!(entries(&scratch), 1);
}

#[tokio::test]
async fn a_timeout_may_come_later_and_go_again() {
  let Fixture { manager, .. } = fixture();
  let all = Caller::operator();
  let mut watch = manager.watch(&all).expect("is watched");
  let with = |id: &str, timeout: Option<u64>| CreateKernel {
    inactivity_timeout: timeout.map(Duration::from_millis),
    ..typescript(id)
  };
  for (id, timeout) in [("later", None), ("gone", Some(100)), ("last", Some(300))] {
    manager
      .create(&all, with(id, timeout))
      .await
      .expect("is made");
  }
  let set = |id: &str, timeout: Option<u64>| {
    let timeout = timeout.map(Duration::from_millis);
    manager.set_inactivity_timeout(&all, id, timeout)
  };
  set("gone", None).expect("is set");
  set("later", Some(50)).expect("is set");
  let mut removed = Vec::new();
  while removed.len() < 2 {
    let event = watch.next().await.expect("goes on");
    if matches!(event.kind, EngineEventKind::KernelTerminated { .. }) {
      removed.push(event.kernel.as_str().to_owned());
    }
  }
  assert_eq!(removed, ["later", "last"]);
  assert!(manager.get(&all, "gone").is_ok());
}

#[tokio::test]
async fn whoever_hears_that_a_kernel_is_ready_finds_it() {
  let Fixture { manager, .. } = fixture();
  let all = Caller::operator();
  let mut watch = manager.watch(&all).expect("is watched");
  let heard = tokio::spawn({
    let manager = manager.clone();
    async move {
      while let Some(event) = watch.next().await {
        if matches!(event.kind, EngineEventKind::KernelReady) {
          return manager
            .get(&Caller::operator(), event.kernel.as_str())
            .is_ok();
        }
      }
      false
    }
  });
  manager
    .create(&all, typescript("k"))
    .await
    .expect("is made");
  assert!(heard.await.expect("hears"), "it was announced too early");
}

#[tokio::test]
async fn an_interrupt_climbs_to_a_restart_only_where_nothing_else_helps() {
  let Fixture { manager, hosts, .. } = fixture();
  let all = Caller::operator();
  let kernel = manager
    .create(&all, typescript("k"))
    .await
    .expect("is made");
  assert_eq!(
    manager.interrupt(&all, "k").await.ok(),
    Some(Interrupted::Idle)
  );
  let endless = manager.submit(&all, "k", ENDLESS.into()).expect("runs");
  assert_eq!(
    manager.interrupt(&all, "k").await.ok(),
    Some(Interrupted::Stopped)
  );
  endless.ended().await;
  assert_eq!(hosts.started.load(Ordering::Relaxed), 1);
  let stubborn = manager.submit(&all, "k", STUBBORN.into()).expect("runs");
  assert_eq!(
    manager.interrupt(&all, "k").await.ok(),
    Some(Interrupted::Restarted)
  );
  stubborn.ended().await;
  assert_eq!(hosts.started.load(Ordering::Relaxed), 2);
  assert_eq!(kernel.status(), Status::Active);
  let after = manager.submit(&all, "k", "x".into()).expect("runs");
  after.ended().await;
}

#[tokio::test]
async fn a_cell_that_runs_too_long_is_reported_and_its_kernel_recovered() {
  let Fixture { manager, .. } = fixture();
  let all = Caller::operator();
  let request = CreateKernel {
    max_execution_time: Some(Duration::from_millis(200)),
    ..typescript("k")
  };
  manager.create(&all, request).await.expect("is made");
  let quick = manager.submit(&all, "k", "x".into()).expect("runs");
  quick.ended().await;
  assert!(!quick.is_stalled());
  for code in [ENDLESS, STUBBORN] {
    let stuck = manager.submit(&all, "k", code.into()).expect("runs");
    stuck.ended().await;
    assert!(stuck.is_stalled(), "{code}");
    let events = stuck.events();
    let enames: Vec<_> = events
      .iter()
      .filter_map(|event| Some(event.error()?.ename.as_str()))
      .collect();
    assert_eq!(enames.first(), Some(&"ExecutionStalledError"), "{code}");
  }
  let after = manager.submit(&all, "k", "x".into()).expect("runs");
  after.ended().await;
  assert!(!after.is_stalled());
}

#[tokio::test]
async fn messages_of_comms_are_remembered_beside_cells_and_no_history() {
  let Fixture { manager, .. } = fixture();
  let all = Caller::operator();
  let kernel = manager
    .create(&all, typescript("k"))
    .await
    .expect("is made");
  let cell = manager.submit(&all, "k", "x".into()).expect("runs");
  let message = || {
    let content = serde_json::Map::from_iter([("comm_id".to_owned(), "c".into())]);
    let none = serde_json::Map::new();
    CommMessage::new(CommKind::Message, &content, &none, &[]).expect("is a message")
  };
  let mut sent = Vec::new();
  for _ in 0..150 {
    sent.push(manager.comm(&all, "k", message()).expect("is queued"));
  }
  for execution in &sent {
    execution.ended().await;
    let events = execution.events();
    assert_eq!(*events[0], KernelEvent::CommMsg(message().body));
  }
  let known = |execution: &Execution| kernel.execution(execution.id).is_some();
  assert_eq!(sent.iter().filter(|it| known(it)).count(), 100);
  assert!(known(&cell) && known(&sent[149]));
  let history = kernel.history();
  assert_eq!(history.len(), 1);
  assert_eq!(history[0].id, cell.id);
}

#[tokio::test]
async fn a_host_of_another_release_is_not_used() {
  let Fixture { manager, .. } = with_hosts(FakeHosts::of_version(0));
  let refused = manager.create(&Caller::operator(), typescript("k")).await;
  let error = refused.err().expect("is refused").to_string();
  assert!(error.contains("programs of one release"), "{error}");
}

#[tokio::test]
async fn who_stops_waiting_for_a_restart_leaves_no_half_of_one() {
  let Fixture { manager, hosts, .. } = fixture();
  let all = Caller::operator();
  let kernel = manager
    .create(&all, typescript("k"))
    .await
    .expect("is made");
  // Polled once, then given up.
  let restart = manager.restart(&all, "k");
  assert!(futures::FutureExt::now_or_never(restart).is_none());
  for _ in 0..1000 {
    if hosts.started.load(Ordering::Relaxed) == 2 && kernel.status() == Status::Active {
      return;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
  }
  panic!("the kernel is {:?}", kernel.status());
}
