//! What goes on between cells.

use std::time::Duration;
use std::time::Instant;

use kernel_protocol::KernelEvent;

use crate::support::Kernel;
use crate::support::run;

#[test]
fn tasks_go_on_between_cells() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .start(
        "import asyncio\nasync def tick():\n  for i in range(3):\n    await asyncio.sleep(0.02)\n    \
         print('tick', i)\ntask = asyncio.create_task(tick())",
      )
      .await;
    for i in 0..3 {
      let KernelEvent::Stream { text, .. } = kernel.event().await else {
        panic!("no tick");
      };
      assert_eq!(text, format!("tick {i}\n"));
    }
  });
}

#[test]
fn servers_answer_between_cells() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run(
        "import asyncio\nasync def greet(reader, writer):\n  writer.write(await \
         reader.readline())\n  writer.close()\nserver = await asyncio.start_server(greet, \
         '127.0.0.1', 0)\nserver.sockets[0].getsockname()[1]",
      )
      .await;
    let port: u16 = ran.text().parse().expect("a port");
    for _ in 0..3 {
      use tokio::io::AsyncReadExt;
      use tokio::io::AsyncWriteExt;
      let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a server");
      client.write_all(b"hi\n").await.expect("it listens");
      let mut answer = String::new();
      client
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
      assert_eq!(answer, "hi\n");
    }
  });
}

#[test]
fn threads_run_between_cells_and_reach_the_loop() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .start(
        "import asyncio, threading, time\nloop = asyncio.get_running_loop()\ndef work():\n  \
         time.sleep(0.05)\n  loop.call_soon_threadsafe(print, 'from the \
         thread')\nthreading.Thread(target=work).start()",
      )
      .await;
    kernel.printed("from the thread\n").await;
  });
}

#[test]
fn work_that_never_waits_leaves_room_for_cells() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .run(
        "import asyncio\nasync def spin():\n  while True: await asyncio.sleep(0)\ntask = \
         asyncio.create_task(spin())",
      )
      .await;
    let asked = Instant::now();
    for _ in 0..10 {
      assert_eq!(kernel.run("1 + 1").await.text(), "2");
    }
    assert!(asked.elapsed() < Duration::from_secs(2));
  });
}

#[test]
fn an_idle_kernel_uses_no_processor() {
  run(async {
    let mut kernel = Kernel::new().await;
    let spent = "import time; time.process_time()";
    let before: f64 = kernel.run(spent).await.text().parse().expect("seconds");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after: f64 = kernel.run(spent).await.text().parse().expect("seconds");
    assert!(after - before < 0.1, "{before} {after}");
  });
}

#[test]
fn signals_are_handled_between_cells() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .start(
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: print('alarm'))\n\
         signal.setitimer(signal.ITIMER_REAL, 0.05);",
      )
      .await;
    kernel.printed("alarm\n").await;
  });
}

#[test]
fn an_error_in_the_background_is_told_on_stderr() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .start("import asyncio\ntimer = asyncio.get_running_loop().call_later(0.02, lambda: 1 / 0)")
      .await;
    kernel.printed("ZeroDivisionError").await;
    assert_eq!(kernel.run("1 + 1").await.text(), "2");
  });
}
