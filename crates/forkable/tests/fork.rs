//! A process with an event loop and a thread that is held back, forked twice. A program without a test harness, whose
//! threads no child would have.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use forkable::descriptors::Inherited;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

/// What a child has to say when all is well.
const WELL: &str = "a timer, a wake-up, a held thread";

fn main() {
  let runtime = tokio::runtime::Builder::new_current_thread()
    .enable_all()
    .build()
    .expect("a runtime");
  let (begun, began) = mpsc::channel();
  forkable::threads::hold(|| {
    let held = std::thread::Builder::new().spawn(move || begun.send(()).is_ok());
    #[expect(
      clippy::mem_forget,
      reason = "nobody may let go of it before it is there"
    )]
    std::mem::forget(held.expect("is held"));
  });
  assert_eq!(forkable::threads::held(), 1);
  assert!(began.try_recv().is_err(), "it has begun");
  let inherited = Inherited::find(&[]).expect("is known");
  for _ in 0..2 {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
      0 => {
        drop(ours);
        // Its own stderr leads nowhere.
        let complaint = theirs.try_clone().expect("is cloned");
        std::panic::set_hook(Box::new(move |panic| {
          let _ = write!(&mut &complaint, "{panic}");
        }));
        let said = std::panic::catch_unwind(|| child(&runtime, &inherited, &began, theirs));
        // SAFETY: ends the process and nothing else.
        unsafe { libc::_exit(i32::from(said.is_err())) };
      }
      pid => {
        drop(theirs);
        ours
          .set_read_timeout(Some(Duration::from_secs(20)))
          .expect("is set");
        ours.write_all(b"wake up").expect("is sent");
        let mut said = String::new();
        ours.read_to_string(&mut said).expect("is said in time");
        assert_eq!(said, WELL);
        let mut status = 0;
        // SAFETY: takes a place for the status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
      }
    }
  }
  assert!(began.try_recv().is_err(), "a child's thread is the child's");
}

fn child(
  runtime: &tokio::runtime::Runtime,
  inherited: &Inherited,
  began: &mpsc::Receiver<()>,
  parent: UnixStream,
) {
  let open = std::fs::read_dir("/proc/self/fd")
    .expect("is readable")
    .count();
  inherited.renew().expect("are renewed");
  let now = std::fs::read_dir("/proc/self/fd")
    .expect("is readable")
    .count();
  assert_eq!(open, now, "the numbers are the same");
  parent.set_nonblocking(true).expect("is set");
  runtime.block_on(async {
    let mut parent = tokio::net::UnixStream::from_std(parent).expect("is watched");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut told = [0; 7];
    parent.read_exact(&mut told).await.expect("is told");
    assert_eq!(&told, b"wake up");
    forkable::threads::start_held().expect("is started");
    began
      .recv_timeout(Duration::from_secs(20))
      .expect("it has begun");
    parent.write_all(WELL.as_bytes()).await.expect("is said");
  });
}
