//! A client of the kernel protocol.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use futures::StreamExt;
use kernel_protocol::ErrorReport;
use kernel_protocol::ExecutionId;
use kernel_protocol::HostConfig;
use kernel_protocol::HostPermissions;
use kernel_protocol::KernelEvent;
use kernel_protocol::Outcome;
use kernel_protocol::Question;
use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::StreamName;
use kernels::LocalProcess;
use kernels::cpython::start::CPythonHosts;
use kernels::launch::HostProcess as _;
use kernels::launch::Tenant;
use kernels::zygotes::Zygotes;
use sandbox::Role;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_util::codec::Framed;
use tokio_util::codec::LengthDelimitedCodec;

/// Longest that anything in a test may take.
const PATIENCE: Duration = Duration::from_secs(30);

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
  LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

static HOSTS: LazyLock<CPythonHosts> = LazyLock::new(forking);

/// What forks kernels from a zygote of its own.
pub(crate) fn forking() -> CPythonHosts {
  let _runtime = RUNTIME.enter();
  hosts(Some(Zygotes::new(1)))
}

/// What starts each kernel anew.
pub(crate) fn starting() -> CPythonHosts {
  hosts(None)
}

fn hosts(zygotes: Option<Arc<Zygotes>>) -> CPythonHosts {
  let binary = PathBuf::from(env!("CARGO_BIN_EXE_cpython-host"));
  CPythonHosts::with_binary(binary, zygotes).expect("the host binary")
}

pub(crate) fn python() -> PathBuf {
  std::env::var_os("CPYTHON_EXECUTABLE")
    .expect("CPYTHON_EXECUTABLE: scripts/test.sh sets it")
    .into()
}

/// Runs a test on the runtime that all share: zygotes outlive the test that started them.
pub(crate) fn run(test: impl Future<Output = ()>) {
  RUNTIME.block_on(async {
    tokio::time::timeout(PATIENCE, test)
      .await
      .expect("the test takes too long");
  });
}

pub(crate) struct Kernel {
  pub process: LocalProcess,
  wire: Framed<UnixStream, LengthDelimitedCodec>,
  pub scratch: tempfile::TempDir,
}

pub(crate) struct Ran {
  pub outcome: Outcome,
  pub events: Vec<KernelEvent>,
}

impl Kernel {
  pub(crate) async fn new() -> Self {
    Self::of(&HOSTS).await
  }

  pub(crate) async fn of(hosts: &CPythonHosts) -> Self {
    let mut kernel = Self::blank(hosts).await;
    let config = HostConfig {
      registry_auth: Vec::new(),
      ca_stores: Vec::new(),
      env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
      scratch: kernel.scratch.path().to_owned(),
      mounts: Vec::new(),
      permissions: HostPermissions::default(),
      certificates: None,
      max_heap_bytes: 0,
    };
    kernel.send(Request::Configure(Box::new(config))).await;
    match kernel.next().await {
      Some(Reply::Configured { error: None }) => kernel,
      other => panic!("{other:?}"),
    }
  }

  /// Up, but nobody's yet.
  pub(crate) async fn blank(hosts: &CPythonHosts) -> Self {
    let (ours, theirs) = StdUnixStream::pair().expect("sockets");
    ours.set_nonblocking(true).expect("a socket");
    let process = hosts
      .start(
        &python(),
        Role::Kernel,
        Some(Tenant::Anyone),
        theirs.as_fd(),
      )
      .await
      .expect("a kernel");
    drop(theirs);
    let wire = UnixStream::from_std(ours).expect("a socket");
    let mut kernel = Self {
      process,
      wire: LengthDelimitedCodec::builder()
        .max_frame_length(kernel_protocol::MAX_REPLY_BYTES)
        .new_framed(wire),
      scratch: tempfile::tempdir().expect("a folder"),
    };
    match kernel.next().await {
      Some(Reply::Ready { .. }) => kernel,
      other => panic!("{other:?}"),
    }
  }

  pub(crate) async fn send(&mut self, request: Request) {
    let frame = kernel_protocol::encode(&request);
    // A kernel that has gone is noticed by reading.
    let _ = self.wire.get_mut().write_all(&frame).await;
  }

  pub(crate) async fn next(&mut self) -> Option<Reply> {
    let frame = self.wire.next().await?.ok()?;
    Some(kernel_protocol::decode(&frame).expect("a reply"))
  }

  pub(crate) async fn start(&mut self, code: &str) -> ExecutionId {
    let execution_id = ExecutionId::random();
    let code = code.to_owned();
    self.send(Request::Execute { execution_id, code }).await;
    execution_id
  }

  pub(crate) async fn interrupt(&mut self, execution_id: ExecutionId) {
    let execution_id = Some(execution_id);
    self.send(Request::Interrupt { execution_id }).await;
  }

  /// The next event, also when the execution it belongs to has ended.
  pub(crate) async fn event(&mut self) -> KernelEvent {
    loop {
      match self.next().await {
        Some(Reply::Event { event, .. }) => return event,
        Some(Reply::Done { .. }) => {}
        other => panic!("{other:?}"),
      }
    }
  }

  /// Until this text was printed.
  pub(crate) async fn printed(&mut self, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
      if let KernelEvent::Stream { text, .. } = self.event().await {
        seen.push_str(&text);
      }
    }
  }

  pub(crate) async fn end_of(&mut self, wanted: ExecutionId) -> Ran {
    let mut events = Vec::new();
    loop {
      match self.next().await {
        Some(Reply::Event { event, .. }) => events.push(event),
        Some(Reply::Done {
          execution_id,
          outcome,
        }) if execution_id == wanted => return Ran { outcome, events },
        other => panic!("{other:?} after {events:?}"),
      }
    }
  }

  pub(crate) async fn run(&mut self, code: &str) -> Ran {
    let id = self.start(code).await;
    self.end_of(id).await
  }

  pub(crate) async fn ask(&mut self, question: Question) -> Value {
    self.send(Request::Ask { id: 7, question }).await;
    loop {
      match self.next().await {
        Some(Reply::Answer { id: 7, answer }) => {
          return serde_json::from_str(answer.as_str()).expect("is JSON");
        }
        Some(Reply::Event { .. }) => {}
        other => panic!("{other:?}"),
      }
    }
  }

  /// Everything until the host has gone, and how it went.
  pub(crate) async fn end(mut self) -> (Vec<Reply>, Option<std::process::ExitStatus>) {
    let mut replies = Vec::new();
    while let Some(reply) = self.next().await {
      replies.push(reply);
    }
    (replies, self.process.wait().await)
  }
}

impl Ran {
  pub(crate) fn stream(&self, wanted: StreamName) -> String {
    let texts = self.events.iter().filter_map(|event| match event {
      KernelEvent::Stream { name, text } if *name == wanted => Some(text.as_str()),
      _ => None,
    });
    texts.collect()
  }

  pub(crate) fn stdout(&self) -> String {
    self.stream(StreamName::Stdout)
  }

  /// A MIME type of the result.
  pub(crate) fn result(&self, mime: &str) -> Option<String> {
    self.events.iter().find_map(|event| match event {
      KernelEvent::ExecuteResult(result) => {
        let result: Value = serde_json::from_str(result.as_str()).expect("is JSON");
        result["data"][mime].as_str().map(str::to_owned)
      }
      _ => None,
    })
  }

  pub(crate) fn text(&self) -> String {
    self
      .result("text/plain")
      .unwrap_or_else(|| panic!("no result in {:?}", self.events))
  }

  pub(crate) fn error(&self) -> &ErrorReport {
    let found = self.events.iter().find_map(|event| event.error());
    found.unwrap_or_else(|| panic!("no error in {:?}", self.events))
  }
}
