//! Stopping what runs, and only that.

use std::time::Duration;

use kernel_protocol::KernelEvent;
use kernel_protocol::Outcome;
use kernel_protocol::Request;

use crate::support::Kernel;
use crate::support::run;

/// Interrupts a cell three times over; what the kernel knew before it knows after.
fn stops(code: &'static str) {
  run(async move {
    let mut kernel = Kernel::new().await;
    kernel.run("kept = 'kept'").await;
    for _ in 0..3 {
      let id = kernel.start(&format!("print('on')\n{code}")).await;
      kernel.printed("on").await;
      tokio::time::sleep(Duration::from_millis(30)).await;
      kernel.interrupt(id).await;
      let ran = kernel.end_of(id).await;
      assert_eq!(ran.outcome, Outcome::Interrupted);
      assert_eq!(ran.error().ename, "KeyboardInterrupt");
      assert_eq!(kernel.run("kept").await.text(), "'kept'");
    }
  });
}

#[test]
fn a_loop_stops() {
  stops("while True: pass");
}

#[test]
fn a_blocking_sleep_stops() {
  stops("import time; time.sleep(100)");
}

#[test]
fn an_await_stops() {
  stops("import asyncio; await asyncio.sleep(100)");
}

#[test]
fn a_child_process_stops() {
  stops("import subprocess; subprocess.run(['sleep', '100'])");
}

#[test]
fn a_lock_stops() {
  stops("import threading; l = threading.Lock(); l.acquire(); l.acquire()");
}

#[test]
fn a_callback_beside_the_cell_stops() {
  stops(
    "import asyncio, time\nasyncio.get_running_loop().call_soon(lambda: time.sleep(100))\n\
     await asyncio.sleep(100)",
  );
}

#[test]
fn a_prompt_stops() {
  run(async {
    let mut kernel = Kernel::new().await;
    for _ in 0..3 {
      let id = kernel.start("input('? ')").await;
      while !matches!(kernel.event().await, KernelEvent::InputRequest { .. }) {}
      kernel.interrupt(id).await;
      assert_eq!(kernel.end_of(id).await.outcome, Outcome::Interrupted);
      assert_eq!(kernel.run("'ok'").await.text(), "'ok'");
    }
  });
}

#[test]
fn an_interrupt_hits_no_other_cell() {
  run(async {
    let mut kernel = Kernel::new().await;
    for round in 0..200 {
      let id = kernel.start("pass").await;
      // Around its very end.
      tokio::time::sleep(Duration::from_micros(round * 5)).await;
      kernel.interrupt(id).await;
      let next = kernel.start("sum(range(20_000))").await;
      kernel.end_of(id).await;
      let ran = kernel.end_of(next).await;
      assert_eq!(ran.outcome, Outcome::Ok, "{round}: {:?}", ran.events);
    }
  });
}

#[test]
fn an_execution_interrupted_before_it_begins_does_not_run() {
  run(async {
    let mut kernel = Kernel::new().await;
    let first = kernel
      .start("print('on'); import time; time.sleep(0.3)")
      .await;
    kernel.printed("on").await;
    let second = kernel.start("print('ran')").await;
    kernel.interrupt(second).await;
    assert_eq!(kernel.end_of(first).await.outcome, Outcome::Ok);
    let ran = kernel.end_of(second).await;
    assert_eq!(ran.outcome, Outcome::Interrupted);
    assert_eq!(ran.stdout(), "");
  });
}

#[test]
fn a_handler_of_an_earlier_cell_does_not_keep_the_next_running() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .run("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
      .await;
    let id = kernel.start("print('on')\nwhile True: pass").await;
    kernel.printed("on").await;
    kernel.interrupt(id).await;
    assert_eq!(kernel.end_of(id).await.outcome, Outcome::Interrupted);
  });
}

#[test]
fn an_interrupt_of_an_idle_kernel_does_nothing() {
  run(async {
    let mut kernel = Kernel::new().await;
    let execution_id = None;
    for answer in ["1", "2"] {
      for _ in 0..20 {
        kernel.send(Request::Interrupt { execution_id }).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
      }
      let ran = kernel
        .run(&format!(
          "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {answer}"
        ))
        .await;
      assert_eq!(ran.text(), answer);
      assert_eq!(ran.events.len(), 1, "{:?}", ran.events);
    }
  });
}

#[test]
fn background_work_that_blocks_stops() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .start(
        "import asyncio, time\nasync def block():\n  await asyncio.sleep(0.01)\n  \
         print('blocking')\n  while True: pass\ntask = asyncio.create_task(block())",
      )
      .await;
    kernel.printed("blocking").await;
    let execution_id = None;
    kernel.send(Request::Interrupt { execution_id }).await;
    assert_eq!(kernel.run("'free'").await.text(), "'free'");
  });
}
