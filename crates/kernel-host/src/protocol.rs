//! The messages between the server and a kernel host, and how they are framed.
//!
//! A frame is a big-endian `u32` length followed by one MessagePack value with named fields. The
//! host side is blocking (it must write from the thread that runs user code), the server side uses
//! `tokio_util`'s length-delimited codec over the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::io::Read;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use uuid::Uuid;

/// Largest frame either side accepts, in bytes. A cell or an event larger than this is refused
/// before it is buffered.
pub const MAX_FRAME_BYTES: usize = 256 << 20;

/// Identifies one execution; HTTP shows it bare as `session_id` and as `exec-<uuid>` on events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExecutionId(Uuid);

impl ExecutionId {
  pub fn random() -> Self {
    Self(Uuid::new_v4())
  }

  pub fn parse(text: &str) -> Option<Self> {
    Uuid::parse_str(text.strip_prefix("exec-").unwrap_or(text))
      .ok()
      .map(Self)
  }

  /// The bare form, as `session_id` carries it.
  pub fn session(&self) -> String {
    self.0.to_string()
  }
}

impl fmt::Display for ExecutionId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "exec-{}", self.0)
  }
}

impl fmt::Debug for ExecutionId {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    fmt::Display::fmt(self, f)
  }
}

/// What the server asks of a host.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
  /// Turns a blank host into a kernel. Answered by [`Reply::Configured`], once.
  Configure(Box<HostConfig>),
  /// Runs a cell. Answered by [`Reply::Started`], events and [`Reply::Done`]. The server sends the
  /// next one only after `Done`.
  Execute {
    execution_id: ExecutionId,
    code: String,
  },
  /// Stops the named execution, or whatever runs between cells when it is `None`. Keeps state.
  Interrupt { execution_id: Option<ExecutionId> },
  /// Starts the main program of an app, once. Answered by [`Reply::Program`] as it goes on; cells may
  /// run beside it.
  Run(MainProgram),
  /// A question about code, answered by [`Reply::Answer`] with the same `id`.
  Ask { id: u64, question: Question },
  /// The answer to [`KernelEvent::InputRequest`]; `None` is a cancelled prompt.
  InputReply { value: Option<String> },
  /// Ends the host. Closing the socket does the same.
  Shutdown,
}

/// Code intelligence, named after the Jupyter messages of the same meaning. `cursor` counts UTF-16
/// code units from the start of `code`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
  Complete { code: String, cursor: usize },
  Inspect { code: String, cursor: usize },
  IsComplete { code: String },
}

/// What a host tells the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
  /// The runtime has booted and waits for [`Request::Configure`].
  Ready,
  Configured {
    error: Option<String>,
  },
  Started {
    execution_id: ExecutionId,
  },
  /// An output event. Output of background work belongs to the execution that ran last.
  Event {
    execution_id: Option<ExecutionId>,
    event: KernelEvent,
  },
  Done {
    execution_id: ExecutionId,
    outcome: Outcome,
  },
  Answer {
    id: u64,
    answer: Value,
  },
  /// What becomes of the main program. Its output are events of no execution.
  Program(ProgramEvent),
  /// The host cannot go on and is about to end; sent so that the reason is not lost with it.
  Fatal {
    reason: String,
  },
}

/// The script that an app consists of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MainProgram {
  /// Absolute.
  pub path: PathBuf,
  /// What the script sees as its arguments.
  pub args: Vec<String>,
  /// Whether an engine forwards requests to it: it is then reached also where it may not listen.
  pub behind_engine: bool,
  /// A descriptor that the host inherits for the program to read from; else it reads nothing.
  pub stdin: Option<i32>,
}

/// A change in the life of a main program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramEvent {
  /// Its modules are loaded, and it runs.
  Started,
  /// It accepts connections there. `port` is the one it named, when it was given that.
  Listening {
    address: SocketAddr,
    port: Option<u16>,
  },
  /// It named a port that somebody else has.
  PortTaken { port: u16 },
  /// It has nothing left to do. The host stays, for cells, unless the program ended that too.
  Finished { code: i32 },
}

/// How an execution ended, as the host saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
  Ok,
  Error,
  Interrupted,
}

/// Everything a kernel is told when a blank host is claimed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostConfig {
  /// The kernel's own environment; nothing of the server's is ever in it.
  pub env: BTreeMap<String, String>,
  /// Private folder of the kernel, its working directory.
  pub scratch: PathBuf,
  pub mounts: Vec<MountConfig>,
  pub permissions: HostPermissions,
  /// PEM file with certificate authorities to trust besides the usual ones.
  pub certificates: Option<PathBuf>,
  /// Largest JavaScript heap, in bytes.
  pub max_heap_bytes: usize,
}

/// A host directory shown to kernel code under another path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
  pub root: PathBuf,
  pub mount_point: PathBuf,
}

/// What kernel code may reach, already merged with the operator's ceiling. `None` grants nothing,
/// an empty list grants everything, else exactly the listed things (Deno's own convention).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPermissions {
  pub read: Option<Vec<String>>,
  pub write: Option<Vec<String>>,
  pub net: Option<Vec<String>>,
  /// Keeps this machine and private networks out of `net`.
  pub deny_local_net: bool,
  /// The same for modules.
  pub deny_local_import: bool,
  /// An address of this machine that is the app's own: it listens there when it may nowhere else.
  pub own_address: Option<Ipv4Addr>,
  pub env: Option<Vec<String>>,
  pub run: Option<Vec<String>>,
  pub ffi: Option<Vec<String>>,
  pub sys: Option<Vec<String>>,
  pub import: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
  Stdout,
  Stderr,
}

/// MIME type to value; JSON types carry JSON, binary types base64 text.
pub type MimeBundle = Map<String, Value>;

/// One output event, in the shape clients see it: `{"type": …, "data": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum KernelEvent {
  Stream {
    name: StreamName,
    text: String,
  },
  DisplayData(Display),
  UpdateDisplayData(Display),
  ClearOutput {
    wait: bool,
  },
  ExecuteResult {
    execution_count: u64,
    data: MimeBundle,
    metadata: Map<String, Value>,
  },
  ExecuteError(ErrorReport),
  InputRequest {
    prompt: String,
    password: bool,
  },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Display {
  pub data: MimeBundle,
  #[serde(default)]
  pub metadata: Map<String, Value>,
  #[serde(default, skip_serializing_if = "Map::is_empty")]
  pub transient: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
  pub ename: String,
  pub evalue: String,
  pub traceback: Vec<String>,
}

impl ErrorReport {
  pub fn new(ename: &str, evalue: impl Into<String>) -> Self {
    let evalue = evalue.into();
    Self {
      ename: ename.to_owned(),
      traceback: vec![format!("{ename}: {evalue}")],
      evalue,
    }
  }
}

impl KernelEvent {
  pub fn stderr(text: impl Into<String>) -> Self {
    Self::Stream {
      name: StreamName::Stderr,
      text: text.into(),
    }
  }

  /// Roughly what the event weighs in a log, in bytes.
  pub fn weight(&self) -> usize {
    const OVERHEAD: usize = 64;
    let bundle = |data: &MimeBundle| {
      data
        .iter()
        .map(|(k, v)| k.len() + value_weight(v))
        .sum::<usize>()
    };
    OVERHEAD
      + match self {
        Self::Stream { text, .. } => text.len(),
        Self::DisplayData(d) | Self::UpdateDisplayData(d) => bundle(&d.data),
        Self::ExecuteResult { data, .. } => bundle(data),
        Self::ExecuteError(e) => {
          e.ename.len() + e.evalue.len() + e.traceback.iter().map(String::len).sum::<usize>()
        }
        Self::ClearOutput { .. } => 0,
        Self::InputRequest { prompt, .. } => prompt.len(),
      }
  }
}

fn value_weight(value: &Value) -> usize {
  match value {
    Value::String(s) => s.len(),
    Value::Array(a) => a.iter().map(value_weight).sum::<usize>() + 8,
    Value::Object(o) => {
      o.iter()
        .map(|(k, v)| k.len() + value_weight(v))
        .sum::<usize>()
        + 8
    }
    Value::Null | Value::Bool(_) | Value::Number(_) => 8,
  }
}

/// Encodes a message as one frame, length included.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
  let mut frame = vec![0; 4];
  rmp_serde::encode::write_named(&mut frame, message).expect("protocol types always serialise");
  let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
  frame[..4].copy_from_slice(&length.to_be_bytes());
  frame
}

/// Decodes the payload of one frame.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
  rmp_serde::from_slice(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Reads one frame, blocking. `Ok(None)` when the other side has closed the socket.
pub fn read_frame<T: DeserializeOwned>(socket: &mut impl Read) -> io::Result<Option<T>> {
  let mut length = [0; 4];
  match socket.read_exact(&mut length) {
    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
    other => other?,
  }
  let length = u32::from_be_bytes(length) as usize;
  if length > MAX_FRAME_BYTES {
    return Err(io::Error::new(
      io::ErrorKind::InvalidData,
      format!("frame of {length} bytes"),
    ));
  }
  let mut payload = vec![0; length];
  socket.read_exact(&mut payload)?;
  decode(&payload).map(Some)
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  #[test]
  fn a_frame_survives_the_round_trip() {
    let id = ExecutionId::random();
    let event = KernelEvent::DisplayData(Display {
      data: json!({"text/html": "<b>é</b>", "application/json": {"a": [1, null, 2.5]}})
        .as_object()
        .cloned()
        .unwrap_or_default(),
      metadata: Map::new(),
      transient: Map::new(),
    });
    let frame = encode(&Reply::Event {
      execution_id: Some(id),
      event: event.clone(),
    });
    let reply = read_frame::<Reply>(&mut frame.as_slice())
      .expect("decodes")
      .expect("a frame");
    let Reply::Event {
      execution_id,
      event: decoded,
    } = reply
    else {
      panic!("{reply:?}")
    };
    assert_eq!((execution_id, decoded), (Some(id), event));
  }

  #[test]
  fn events_have_the_shape_clients_know() {
    let stream = KernelEvent::Stream {
      name: StreamName::Stdout,
      text: "hi\n".into(),
    };
    assert_eq!(
      serde_json::to_value(&stream).expect("serialises"),
      json!({"type": "stream", "data": {"name": "stdout", "text": "hi\n"}})
    );
  }

  #[test]
  fn a_frame_longer_than_the_limit_is_refused_before_it_is_read() {
    let mut frame = Vec::from(u32::MAX.to_be_bytes());
    frame.extend_from_slice(b"x");
    assert!(read_frame::<Reply>(&mut frame.as_slice()).is_err());
  }

  #[test]
  fn a_closed_socket_is_the_end_not_an_error() {
    assert!(
      read_frame::<Reply>(&mut [].as_slice())
        .expect("no error")
        .is_none()
    );
  }
}
