//! What a cell says.

use kernel_protocol::KernelEvent;
use kernel_protocol::Outcome;
use kernel_protocol::Question;
use kernel_protocol::Request;
use kernel_protocol::StreamName;

use crate::support::Kernel;
use crate::support::run;

#[test]
fn state_stays_from_cell_to_cell() {
  run(async {
    let mut kernel = Kernel::new().await;
    assert_eq!(kernel.run("x = 41").await.outcome, Outcome::Ok);
    assert_eq!(kernel.run("x + 1").await.text(), "42");
  });
}

#[test]
fn prints_arrive_while_the_cell_runs() {
  run(async {
    let mut kernel = Kernel::new().await;
    // In naps: a signal that comes just before a long one begins does not end it.
    let id = kernel
      .start("import time\nprint('first')\nwhile True: time.sleep(0.01)")
      .await;
    kernel.printed("first\n").await;
    kernel.interrupt(id).await;
    assert_eq!(kernel.end_of(id).await.outcome, Outcome::Interrupted);
  });
}

#[test]
fn many_prints_arrive_in_order() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel.run("for i in range(100_000): print(i)").await;
    let expected: String = (0..100_000).map(|i| format!("{i}\n")).collect();
    assert!(ran.stdout() == expected);
  });
}

#[test]
fn errors_are_events_and_the_kernel_goes_on() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel.run("raise ValueError('v')").await;
    assert_eq!(ran.outcome, Outcome::Error);
    assert_eq!(
      (ran.error().ename.as_str(), ran.error().evalue.as_str()),
      ("ValueError", "v")
    );
    assert_eq!(kernel.run("1 + 1").await.text(), "2");
  });
}

#[test]
fn awaits_work_at_the_top_level() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run("import asyncio\nawait asyncio.sleep(0.01)\n'woke'")
      .await;
    assert_eq!(ran.text(), "'woke'");
  });
}

#[test]
fn input_is_answered() {
  run(async {
    let mut kernel = Kernel::new().await;
    let id = kernel.start("input('name? ')").await;
    let KernelEvent::InputRequest { prompt, password } = kernel.event().await else {
      panic!("no prompt");
    };
    assert_eq!((prompt.as_str(), password), ("name? ", false));
    let value = Some("Ada".to_owned());
    kernel.send(Request::InputReply { value }).await;
    assert_eq!(kernel.end_of(id).await.text(), "'Ada'");
  });
}

#[test]
fn variables_are_set_while_a_cell_runs_and_others_stay() {
  run(async {
    let mut kernel = Kernel::new().await;
    let code = "import os, time\nwhile 'NEW' not in os.environ: time.sleep(0.01)\n\
                os.environ['GREETING'], os.environ['NEW'], os.popen('echo $NEW').read()";
    let id = kernel.start(code).await;
    let variables = [("NEW".to_owned(), "there".to_owned())].into();
    kernel.send(Request::SetEnvironment { variables }).await;
    let ran = kernel.end_of(id).await;
    assert_eq!(ran.text(), "('hello', 'there', 'there\\n')");
  });
}

#[test]
fn native_output_belongs_to_the_cell_in_order() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run(
        "import os, subprocess\nprint('a')\nos.write(1, b'b\\n')\nprint('c')\n\
         subprocess.run(['sh', '-c', 'echo d; echo e >&2'])\nprint('f')",
      )
      .await;
    assert_eq!(ran.stdout(), "a\nb\nc\nd\nf\n");
    assert_eq!(ran.stream(StreamName::Stderr), "e\n");
  });
}

#[test]
fn the_environment_is_the_kernels_own() {
  run(async {
    let mut kernel = Kernel::new().await;
    let ran = kernel
      .run("import os, subprocess\nprint(subprocess.check_output('env', text=True))")
      .await;
    assert!(ran.stdout().contains("GREETING=hello\n"));
    assert!(!ran.stdout().contains("LD_PRELOAD"));
    assert!(!ran.stdout().contains("MALLOC_ARENA_MAX"));
    let here = kernel.run("import os; os.getcwd()").await.text();
    assert_eq!(here, format!("'{}'", kernel.scratch.path().display()));
  });
}

#[test]
fn questions_are_answered() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel.run("some_long_name = {'a': 1}").await;
    let code = "é = some_lo".to_owned();
    let cursor = code.chars().count();
    let answer = kernel.ask(Question::Complete { code, cursor }).await;
    assert_eq!(answer["matches"][0], "some_long_name", "{answer}");
    assert_eq!(answer["cursor_start"], 4);
    let code = "some_long_name".to_owned();
    let answer = kernel.ask(Question::Inspect { code, cursor: 3 }).await;
    assert_eq!(answer["found"], true, "{answer}");
    let code = "if x:".to_owned();
    let answer = kernel.ask(Question::IsComplete { code }).await;
    assert_eq!(answer["status"], "incomplete", "{answer}");
  });
}

#[test]
fn a_question_that_hangs_is_given_up() {
  run(async {
    let mut kernel = Kernel::new().await;
    kernel
      .run("class Hangs:\n  def __dir__(self):\n    while True: pass\nhangs = Hangs()")
      .await;
    let code = "hangs.".to_owned();
    let answer = kernel.ask(Question::Complete { code, cursor: 6 }).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert_eq!(kernel.run("1 + 1").await.text(), "2");
  });
}
