//! What becomes of hosts when a zygote does not do what it should. Zygotes are scripts here.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sandbox::Role;
use tokio::process::Command;
use tokio::time::Instant;

use crate::launch::Tenant;
use crate::spawner;
use crate::zygotes::Kind;
use crate::zygotes::Recipe;
use crate::zygotes::Zygotes;

/// `Ready`, in a frame.
const READY: &str = r"printf '\000\000\000\006\245Ready' >&0; ";

struct Script {
  recipe: Recipe,
  started: Arc<AtomicUsize>,
}

impl Script {
  /// A zygote that runs this; its control socket is descriptor 0.
  fn new(script: &str) -> Self {
    let script = script.to_owned();
    let started = Arc::<AtomicUsize>::default();
    let counted = started.clone();
    let recipe = Recipe {
      name: "scripts",
      spawn: Arc::new(move |control| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("sh");
        command
          .args(["-c", &script])
          .stdin(Stdio::from(control))
          .kill_on_drop(true);
        Box::pin(spawner::spawn(command))
      }),
      patience: Duration::from_secs(1),
    };
    Self { recipe, started }
  }

  /// Whether a host was forked; it never takes longer than a start and a half.
  async fn forks(&self, zygotes: &Arc<Zygotes>, kind: &Kind) -> bool {
    let (_ours, theirs) = UnixStream::pair().expect("sockets");
    let asked = Instant::now();
    let forked = zygotes
      .fork(kind, Role::Kernel, theirs.as_fd(), &self.recipe)
      .await;
    assert!(asked.elapsed() < Duration::from_secs(4), "took too long");
    forked.is_some()
  }

  fn started(&self) -> usize {
    self.started.load(Ordering::Relaxed)
  }
}

fn kind(name: &str) -> Kind {
  Kind {
    boots: "a script".into(),
    tenant: Tenant::Namespace(Some(name.into())),
  }
}

#[tokio::test]
async fn hosts_do_without_a_zygote_that_does_not_come_up() {
  for script in [
    "exit 1",
    "printf 'what is this, a frame without end?' >&0; exec sleep 60",
    r"printf '\000\000\000\004\244what' >&0; exec sleep 60",
    "exec sleep 60",
  ] {
    let zygotes = Zygotes::new(2);
    let script = Script::new(script);
    for _ in 0..3 {
      assert!(!script.forks(&zygotes, &kind("a")).await);
    }
    // It is not tried again for every host.
    assert_eq!(script.started(), 1);
  }
}

#[tokio::test]
async fn hosts_do_without_a_zygote_that_does_not_answer_or_answers_nonsense() {
  for script in [
    "exec sleep 60",
    "head -c 1 <&0; printf 'nonsense' >&0; exec sleep 60",
    // No process has this number.
    r"head -c 1 <&0; printf '\000\000\000\022\201\246Forked\201\243pid\316\177\377\377\377' >&0; exec sleep 60",
  ] {
    let zygotes = Zygotes::new(2);
    let script = Script::new(&format!("{READY}{script}"));
    assert!(!script.forks(&zygotes, &kind("a")).await);
  }
}

#[tokio::test]
async fn a_zygote_that_has_ended_is_replaced_at_once() {
  let zygotes = Zygotes::new(2);
  let script = Script::new(&format!("{READY}head -c 1 <&0"));
  assert!(!script.forks(&zygotes, &kind("a")).await);
  assert_eq!(script.started(), 2);
}

#[tokio::test]
async fn the_zygote_unused_for_longest_makes_room_once_nobody_works_with_it() {
  let zygotes = Zygotes::new(2);
  let script = Script::new(&format!("{READY}exec sleep 60"));
  let up = async |name: &str| {
    zygotes.prepare(&kind(name), &script.recipe);
    for _ in 0..500 {
      if zygotes.has(&kind(name)) {
        return true;
      }
      tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
  };
  assert!(up("a").await);
  assert!(up("b").await);
  assert!(!up("c").await, "both are in use");
  tokio::time::pause();
  tokio::time::advance(Duration::from_secs(6)).await;
  tokio::time::resume();
  zygotes.prepare(&kind("a"), &script.recipe);
  assert!(up("c").await);
  assert!(zygotes.has(&kind("a")));
  assert!(!zygotes.has(&kind("b")));
}
