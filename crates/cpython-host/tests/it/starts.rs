//! Ways to start a kernel, and Pythons that do not suit.

use std::fs::Permissions;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use kernels::LocalProcess;
use kernels::launch::HostProcess as _;
use kernels::launch::Tenant;
use sandbox::Role;

use crate::support::Kernel;
use crate::support::forking;
use crate::support::python;
use crate::support::run;
use crate::support::starting;

#[test]
fn a_kernel_can_be_started_directly() {
  run(async {
    let mut kernel = Kernel::of(&starting()).await;
    assert!(matches!(kernel.process, LocalProcess::Direct(_)));
    let executable = kernel.run("import sys; sys.executable").await.text();
    assert_eq!(executable, format!("'{}'", python().display()));
  });
}

#[test]
fn forked_kernels_share_nothing_that_changes() {
  run(async {
    let hosts = forking();
    let mut a = Kernel::of(&hosts).await;
    let mut b = Kernel::of(&hosts).await;
    a.run("x = 1").await;
    assert_eq!(b.run("x").await.error().ename, "NameError");
    let random = "import random, uuid; (random.random(), uuid.uuid4())";
    assert_ne!(a.run(random).await.text(), b.run(random).await.text());
    drop(a);
    assert_eq!(b.run("1 + 1").await.text(), "2");
  });
}

#[test]
fn a_forked_kernel_begins_as_a_started_one_does() {
  run(async {
    let mut started = Kernel::of(&starting()).await;
    let mut forked = Kernel::of(&forking()).await;
    for code in [
      "sorted((name, repr(value)[:9]) for name, value in globals().items())",
      "In, Out, _, __, ___, _i, _ii, sorted(get_ipython().user_ns_hidden)",
      "import sys; sorted(vars(sys))",
    ] {
      assert_eq!(
        forked.run(code).await.text(),
        started.run(code).await.text()
      );
    }
  });
}

#[test]
fn a_zygote_that_ends_is_replaced_and_its_kernels_live_on() {
  run(async {
    let hosts = forking();
    let mut old = Kernel::of(&hosts).await;
    old
      .run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
      .await;
    let mut new = Kernel::of(&hosts).await;
    assert_eq!(new.run("1 + 1").await.text(), "2");
    assert_eq!(old.run("1 + 2").await.text(), "3");
    old.start("os._exit(3)").await;
    let (_, status) = old.end().await;
    assert_eq!(status, None);
  });
}

#[test]
fn a_kernel_dies_with_its_connection() {
  run(async {
    let hosts = forking();
    let mut kernel = Kernel::blank(&hosts).await;
    let pid = kernel.process.id().expect("a process");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    kernel.process.kill_group();
    kernel.end().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
  });
}

#[test]
fn pythons_that_do_not_suit_are_refused_with_the_remedy() {
  run(async {
    let hosts = forking();
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let folder = tempfile::tempdir().expect("a folder");
    let endless = folder.path().join("endless");
    std::fs::write(&endless, "#!/bin/sh\nexec yes\n").expect("a program");
    std::fs::set_permissions(&endless, Permissions::from_mode(0o755)).expect("a program");
    let cases = [
      ("/nonexistent/python", "cannot be run"),
      ("/bin/true", "does not work as a Python"),
      (
        endless.to_str().expect("a path"),
        "does not work as a Python",
      ),
      ("python3", "is not the absolute path"),
    ];
    for (executable, expected) in cases {
      let error = hosts
        .start(
          Path::new(executable),
          Role::Kernel,
          Some(Tenant::Anyone),
          theirs.as_fd(),
        )
        .await
        .expect_err("does not suit");
      assert!(error.contains(expected), "{error}");
    }
    drop(ours);
  });
}

/// Not a limit, for machines differ: `cargo test -- --nocapture kernels_start_fast` tells.
#[test]
fn kernels_start_fast() {
  run(async {
    for (how, hosts) in [("started", starting()), ("forked", forking())] {
      Kernel::blank(&hosts).await;
      let mut times = Vec::new();
      for _ in 0..10 {
        let asked = Instant::now();
        let kernel = Kernel::blank(&hosts).await;
        times.push(asked.elapsed());
        drop(kernel);
      }
      times.sort();
      let mut kernel = Kernel::of(&hosts).await;
      kernel.run("1 + 1").await;
      tokio::time::sleep(Duration::from_secs(1)).await;
      let pid = kernel.process.id().expect("a process");
      let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("memory");
      let pss = memory.lines().find(|line| line.starts_with("Pss:"));
      eprint(&format!(
        "{how}: median {:?}, worst {:?}, {pss:?}",
        times[5], times[9]
      ));
    }
  });
}

#[expect(
  clippy::print_stderr,
  reason = "figures for whoever runs the test by hand"
)]
fn eprint(text: &str) {
  eprintln!("{text}");
}
