//! Forks, exits and crashes.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use kernel_protocol::Outcome;
use kernel_protocol::Reply;
use kernels::launch::HostProcess as _;

use crate::support::Kernel;
use crate::support::run;

#[test]
fn an_exit_ends_the_kernel_with_its_code() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel.start("print('bye')\nimport os; os._exit(3)").await;
    let (replies, status) = kernel.end().await;
    assert_eq!(status.and_then(|s| s.code()), Some(3));
    assert!(matches!(replies.last(), Some(Reply::Event { .. })));
  });
}

#[test]
fn a_signal_ends_the_kernel_with_its_number() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel.start("import ctypes; ctypes.string_at(0)").await;
    let (_, status) = kernel.end().await;
    assert_eq!(status.and_then(|s| s.signal()), Some(11));
  });
}

#[test]
fn killing_a_kernel_kills_what_it_started() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run("import subprocess; child = subprocess.Popen(['sleep', '1000']); child.pid")
      .await;
    let pid = ran.text();
    kernel.process.kill_group();
    let (_, status) = kernel.end().await;
    assert_eq!(status.and_then(|s| s.signal()), Some(9));
    let alive = || {
      let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
      !stat.is_empty() && !stat.contains(") Z ")
    };
    while alive() {
      tokio::time::sleep(Duration::from_millis(1)).await;
    }
  });
}

#[test]
fn a_forked_child_does_not_speak_for_the_kernel() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run(
        "import os, sys\npid = os.fork()\nif pid == 0:\n  print('child')\n  sys.exit()\n\
         os.waitpid(pid, 0)[1]",
      )
      .await;
    assert_eq!(ran.outcome, Outcome::Ok);
    assert_eq!(ran.stdout(), "child\n");
    let ran = kernel
      .run(
        "status = None\npid = os.fork()\nif pid: status = os.waitpid(pid, 0)[1]\npid > 0, status",
      )
      .await;
    assert_eq!(ran.text(), "(True, 0)");
  });
}

#[test]
fn a_child_left_behind_does_not_keep_a_dead_kernel_alive() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .start("import os, time\nif os.fork() == 0: time.sleep(1000)\nos._exit(4)")
      .await;
    let (_, status) = kernel.end().await;
    assert_eq!(status.and_then(|s| s.code()), Some(4));
  });
}

#[test]
fn process_pools_work() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run(
        "import multiprocessing\ndef double(x):\n  print('doubling', x)\n  return 2 * x\n\
         with multiprocessing.get_context('fork').Pool(2) as pool: doubled = pool.map(double, \
         [1, 2])\ndoubled",
      )
      .await;
    assert_eq!(ran.text(), "[2, 4]");
    assert!(ran.stdout().contains("doubling 1\n"));
  });
}

#[test]
fn a_deep_recursion_is_an_error() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel.run("def f(): return f()\nf()").await;
    assert_eq!(ran.error().ename, "RecursionError");
    assert_eq!(kernel.run("1 + 1").await.text(), "2");
  });
}

#[test]
fn a_cell_that_exits_leaves_the_kernel_alive() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel.run("import sys; sys.exit(1)").await;
    assert_eq!(kernel.run("1 + 1").await.text(), "2");
  });
}

#[test]
fn stopping_the_loop_stops_nothing() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run("import asyncio\nasyncio.get_running_loop().stop()\nawait asyncio.sleep(0.01)\n'on'")
      .await;
    assert_eq!(ran.text(), "'on'");
  });
}
