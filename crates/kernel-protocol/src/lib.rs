//! The messages between the server and a kernel host, and how they are framed.
//!
//! A frame is a big-endian `u32` length followed by one MessagePack value with named fields. The
//! host side is blocking (it must write from the thread that runs user code), the server side uses
//! `tokio_util`'s length-delimited codec over the same bytes.

mod bounded;
pub mod comm;
pub mod descriptors;
pub mod files;
pub mod json;
pub mod launch;
pub mod zygote;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::Error;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::bounded::few;
use crate::comm::CommBody;
use crate::comm::CommMessage;
use crate::files::FileChanges;
use crate::files::FileReply;
use crate::files::FileRequest;
use crate::json::JsonText;

/// The version of these messages. A host of another version is not used: the two binaries of one
/// release belong together.
pub const VERSION: u32 = 4;
/// Largest frame a host reads, in bytes: what the server sends is bounded by the bodies it takes.
pub const MAX_REQUEST_BYTES: usize = 256 << 20;
/// Largest frame the server reads, in bytes. A host that sends a longer one breaks the protocol, and
/// ends for it before the frame is buffered.
pub const MAX_REPLY_BYTES: usize = 8 << 20;
/// Most JSON text of one event or answer, in bytes; the rest of a frame is its framing.
pub const MAX_JSON_BYTES: usize = MAX_REPLY_BYTES - (64 << 10);
/// Most lines of one traceback.
pub const MAX_TRACEBACK_LINES: usize = 1000;

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
  /// Turns a blank host into a kernel. Answered by [`Reply::Configured`], once. With it come the
  /// descriptors of the mounts' roots, in their order.
  Configure(Box<HostConfig>),
  /// Runs a cell. Answered by events and [`Reply::Done`]. The server sends the next one only after `Done`.
  Execute {
    execution_id: ExecutionId,
    code: String,
  },
  /// Hands a comm message to the code that listens for it. Queued and answered as `Execute` is: what that
  /// code prints belongs to the message.
  Comm {
    execution_id: ExecutionId,
    message: CommMessage,
  },
  /// Stops the named execution, or whatever runs between cells when it is `None`. Keeps state.
  Interrupt { execution_id: Option<ExecutionId> },
  /// Starts the main program of an app, once. Answered by [`Reply::Program`] as it goes on; cells may
  /// run beside it.
  Run(MainProgram),
  /// A question about code, answered by [`Reply::Answer`] with the same `id`.
  Ask { id: u64, question: Question },
  /// A step with files of the kernel, answered by [`Reply::File`] with the same `id`: at once where they
  /// are on disk, between cells where they are in memory.
  File { id: u64, request: FileRequest },
  /// Watches a file, or a folder: what is directly in it. Answered by [`Reply::File`] with the same `id` and
  /// the [`FileReply::Entry`] of what is watched; [`Reply::FilesChanged`] follow. A path is one of
  /// [`FileRequest`].
  Watch { id: u64, path: String },
  /// Ends the watch of that id. Not answered.
  Unwatch { id: u64 },
  /// Sets variables in the environment of the running kernel; others stay. Not answered: done at once, or when
  /// code that keeps the isolate busy lets go of it.
  SetEnvironment { variables: BTreeMap<String, String> },
  /// The answer to [`KernelEvent::InputRequest`]; `None` is a cancelled prompt.
  InputReply { value: Option<String> },
  /// Asks for a sign of life, [`Reply::Alive`].
  Ping,
  /// Ends the host. Closing the socket does the same.
  Shutdown,
}

/// Questions about code and state, named after the Jupyter messages of the same meaning. `cursor` counts UTF-16
/// code units from the start of `code`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
  Complete {
    code: String,
    cursor: usize,
  },
  Inspect {
    code: String,
    cursor: usize,
  },
  IsComplete {
    code: String,
  },
  /// Whether a whole program can be read, without running it. The answer is a [`Checked`].
  Check {
    /// Name of its file, whose extension tells its kind.
    name: String,
    code: String,
  },
  /// Which comms are open: all, or those to one target.
  CommInfo {
    target_name: Option<String>,
  },
}

/// What comes of reading a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Checked {
  Ok,
  /// It cannot be read; `message` says why, and where: `name:line:column`.
  Error {
    message: String,
  },
}

/// What a host tells the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
  /// The runtime has booted and waits for [`Request::Configure`].
  Ready {
    /// The host's [`VERSION`].
    version: u32,
  },
  Configured {
    error: Option<String>,
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
    answer: JsonText,
  },
  File {
    id: u64,
    reply: FileReply,
  },
  /// What a watch has seen: one at a time, none sooner than [`files::WATCH_INTERVAL`] after the last.
  FilesChanged {
    /// The id of its [`Request::Watch`].
    watch: u64,
    changes: FileChanges,
  },
  /// The answer to [`Request::Ping`].
  Alive,
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
  /// It accepts connections on a port: one that it was permitted to open, or one of its own address. A
  /// claim: the server finds out for itself.
  Listening { port: u16, permitted: bool },
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
  /// Whose certificate authorities to trust.
  pub ca_stores: Vec<CaStore>,
  /// What opens the operator's package registries.
  pub registry_auth: Vec<RegistryAuth>,
  /// Largest JavaScript heap, in bytes.
  pub max_heap_bytes: usize,
}

/// Certificate authorities, by the names that Deno has for them in `DENO_TLS_CA_STORE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaStore {
  Mozilla,
  System,
}

impl CaStore {
  pub fn name(self) -> &'static str {
    match self {
      Self::Mozilla => "mozilla",
      Self::System => "system",
    }
  }
}

impl FromStr for CaStore {
  type Err = String;

  fn from_str(text: &str) -> Result<Self, String> {
    match text.trim() {
      "mozilla" => Ok(Self::Mozilla),
      "system" => Ok(Self::System),
      other => Err(format!(
        "`{other}` is no store of certificate authorities: write mozilla, system or mozilla,system"
      )),
    }
  }
}

/// What opens a package registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAuth {
  /// The address that what it opens begins with.
  pub place: String,
  /// Value of the header `Authorization`.
  pub authorization: String,
}

impl fmt::Debug for RegistryAuth {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "RegistryAuth({})", self.place)
  }
}

/// A host directory shown to kernel code under another path. The server opens it and sends the
/// descriptor, so that nothing of its path is resolved again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
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

/// One output event, in the shape clients see it: `{"type": …, "data": …}`. What a kernel displays stays
/// text: the server never builds a tree of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum KernelEvent {
  Stream {
    name: StreamName,
    text: String,
  },
  /// `{"data": {MIME type: value}, "metadata": {…}}`, and `transient` if there is any.
  DisplayData(JsonText),
  UpdateDisplayData(JsonText),
  ClearOutput {
    wait: bool,
  },
  /// The same with `execution_count`.
  ExecuteResult(JsonText),
  /// An error of TypeScript or JavaScript, or one that the engine reports of any kernel.
  ExecuteError(ErrorReport),
  /// An error of Python, which clients of the original know under this name.
  Error(ErrorReport),
  InputRequest {
    prompt: String,
    password: bool,
  },
  /// Each with a [`CommBody`].
  CommOpen(JsonText),
  CommMsg(JsonText),
  CommClose(JsonText),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
  pub ename: String,
  pub evalue: String,
  #[serde(deserialize_with = "few::<_, _, MAX_TRACEBACK_LINES>")]
  pub traceback: Vec<String>,
  /// Said with errors of Python only, as the original did.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub status: Option<ErrorStatus>,
}

/// How Jupyter's `execute_reply` says that there was an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorStatus {
  Error,
}

impl ErrorReport {
  pub fn new(ename: &str, evalue: impl Into<String>) -> Self {
    let evalue = evalue.into();
    Self {
      ename: ename.to_owned(),
      traceback: vec![format!("{ename}: {evalue}")],
      evalue,
      status: None,
    }
  }

  /// What matters most of it, in few bytes.
  #[must_use]
  pub fn essence(&self) -> Self {
    const MOST: usize = 1000;
    let start = |text: &str| text[..text.floor_char_boundary(MOST)].to_owned();
    Self {
      status: self.status,
      ..Self::new(&start(&self.ename), start(&self.evalue))
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

  /// An error of Python.
  pub fn python_error(ename: &str, evalue: impl Into<String>) -> Self {
    Self::Error(ErrorReport {
      status: Some(ErrorStatus::Error),
      ..ErrorReport::new(ename, evalue)
    })
  }

  /// The report of an error.
  pub fn error(&self) -> Option<&ErrorReport> {
    match self {
      Self::ExecuteError(report) | Self::Error(report) => Some(report),
      _ => None,
    }
  }

  /// Makes an event of what a language says: the name of its type, and the JSON of its `data`.
  ///
  /// # Errors
  /// When there is no such event, or the data is not what it takes.
  pub fn from_parts(kind: &str, data: &str) -> Result<Self, String> {
    let wrong = |e: serde_json::Error| format!("not a {kind} event: {e}");
    match kind {
      "display_data" => Ok(Self::DisplayData(bundle(data).map_err(wrong)?)),
      "update_display_data" => Ok(Self::UpdateDisplayData(bundle(data).map_err(wrong)?)),
      "execute_result" => Ok(Self::ExecuteResult(bundle(data).map_err(wrong)?)),
      "comm_open" => Ok(Self::CommOpen(CommBody::check(data).map_err(wrong)?)),
      "comm_msg" => Ok(Self::CommMsg(CommBody::check(data).map_err(wrong)?)),
      "comm_close" => Ok(Self::CommClose(CommBody::check(data).map_err(wrong)?)),
      "stream" | "clear_output" | "execute_error" | "error" | "input_request" => {
        serde_json::from_str(&format!(r#"{{"type":"{kind}","data":{data}}}"#)).map_err(wrong)
      }
      _ => Err(format!("{kind:?} is not an event")),
    }
  }

  /// What the event takes of memory in a log, in bytes: its texts, and what holds each of them.
  pub fn weight(&self) -> usize {
    /// An allocation of its own, its place in a list, and the bookkeeping of both.
    const HOLDER: usize = 48;
    let texts = |texts: &[&String]| -> usize { texts.iter().map(|t| t.len() + HOLDER).sum() };
    size_of::<Self>()
      + HOLDER
      + match self {
        Self::Stream { text, .. } => texts(&[text]),
        Self::DisplayData(json)
        | Self::UpdateDisplayData(json)
        | Self::ExecuteResult(json)
        | Self::CommOpen(json)
        | Self::CommMsg(json)
        | Self::CommClose(json) => json.as_str().len() + HOLDER,
        Self::ExecuteError(e) | Self::Error(e) => {
          let lines: Vec<&String> = e.traceback.iter().collect();
          texts(&[&e.ename, &e.evalue]) + texts(&lines) + e.traceback.len() * size_of::<String>()
        }
        Self::ClearOutput { .. } => 0,
        Self::InputRequest { prompt, .. } => texts(&[prompt]),
      }
  }
}

/// The members of a display or result that clients know, in their usual shape.
#[derive(Serialize, Deserialize)]
struct Bundle<'a> {
  #[serde(default, skip_serializing_if = "Option::is_none")]
  execution_count: Option<u64>,
  #[serde(borrow)]
  data: &'a RawValue,
  #[serde(borrow, default)]
  metadata: Option<&'a RawValue>,
  #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
  transient: Option<&'a RawValue>,
}

fn bundle(text: &str) -> Result<JsonText, serde_json::Error> {
  let empty: &RawValue = serde_json::from_str("{}")?;
  let mut bundle: Bundle<'_> = serde_json::from_str(text)?;
  let is_object = |value: &&RawValue| value.get().starts_with('{');
  if !is_object(&bundle.data) {
    return Err(serde_json::Error::custom("`data` must be an object"));
  }
  bundle.metadata = bundle.metadata.filter(is_object).or(Some(empty));
  bundle.transient = bundle
    .transient
    .filter(|value| is_object(value) && value.get() != "{}");
  JsonText::of(&bundle)
}

/// Encodes a message as one frame, length included.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
  let mut frame = Vec::with_capacity(128);
  encode_into(&mut frame, message);
  frame
}

/// Appends a message as one frame, length included.
pub fn encode_into<T: Serialize>(frames: &mut Vec<u8>, message: &T) {
  let start = frames.len();
  frames.extend_from_slice(&[0; 4]);
  rmp_serde::encode::write_named(frames, message).expect("protocol types always serialise");
  let length = u32::try_from(frames.len() - start - 4).unwrap_or(u32::MAX);
  frames[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Decodes the payload of one frame.
///
/// # Errors
/// When it is no such message.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
  rmp_serde::from_slice(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Reads one frame, blocking. `Ok(None)` when the other side has closed the socket.
///
/// # Errors
/// When the socket breaks, or the frame is too long or no such message.
pub fn read_frame<T: DeserializeOwned>(socket: &mut impl Read) -> io::Result<Option<T>> {
  let mut length = [0; 4];
  match socket.read_exact(&mut length) {
    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
    other => other?,
  }
  let length = u32::from_be_bytes(length) as usize;
  if length > MAX_REQUEST_BYTES {
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
  use crate::files::ChangeKind;
  use crate::files::FileChange;
  use crate::files::MAX_CHANGES;

  #[test]
  fn a_frame_survives_the_round_trip() {
    let id = ExecutionId::random();
    let data =
      r#"{"data":{"text/html":"<b>é</b>","application/json":{"a":[1,null,2.5]}},"metadata":{}}"#;
    let event = KernelEvent::from_parts("display_data", data).expect("an event");
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
    let result =
      r#"{"execution_count": 3, "data": {"text/plain": "1"}, "transient": {}, "more": 1}"#;
    let result = KernelEvent::from_parts("execute_result", result).expect("an event");
    assert_eq!(
      serde_json::to_value(&result).expect("serialises"),
      json!({"type": "execute_result", "data": {"execution_count": 3, "data": {"text/plain": "1"}, "metadata": {}}})
    );
  }

  #[test]
  fn errors_of_python_have_a_name_of_their_own_and_a_status() {
    let error = KernelEvent::python_error("ValueError", "v");
    let traceback = ["ValueError: v"];
    assert_eq!(
      serde_json::to_value(&error).expect("serialises"),
      json!({"type": "error", "data": {"ename": "ValueError", "evalue": "v", "traceback": traceback, "status": "error"}})
    );
    let other = KernelEvent::ExecuteError(ErrorReport::new("Error", "v"));
    let other = serde_json::to_value(&other).expect("serialises");
    assert_eq!(other["type"], "execute_error");
    assert!(other["data"].get("status").is_none());
  }

  #[test]
  fn what_is_no_event_is_named() {
    for (kind, data) in [
      ("display_data", "{}"),
      ("display_data", r#"{"data": []}"#),
      ("display_data", r#"{"data": {"a": nonsense}}"#),
      ("stream", r#"{"name": "stdout"}"#),
      ("stream", r#"{"name": "stdout", "text": "x"}} , {"#),
      ("started", "{}"),
    ] {
      let error = KernelEvent::from_parts(kind, data).expect_err(data);
      assert!(error.contains(kind), "{error}");
    }
  }

  #[test]
  fn a_traceback_of_a_million_lines_is_refused() {
    let report = ErrorReport {
      traceback: vec![String::new(); 1_000_000],
      ..ErrorReport::new("Error", "x")
    };
    let frame = encode(&Reply::Event {
      execution_id: None,
      event: KernelEvent::ExecuteError(report),
    });
    assert!(decode::<Reply>(&frame[4..]).is_err());
  }

  #[test]
  fn more_changes_of_files_than_honest_hosts_tell_are_refused() {
    let change = |number: usize| FileChange {
      name: number.to_string(),
      change: ChangeKind::Created,
    };
    let told = |count| {
      let changes = FileChanges::Names((0..count).map(change).collect());
      encode(&Reply::FilesChanged { watch: 1, changes })
    };
    assert!(decode::<Reply>(&told(MAX_CHANGES)[4..]).is_ok());
    assert!(decode::<Reply>(&told(MAX_CHANGES + 1)[4..]).is_err());
    let many = FileChanges::of((0..=MAX_CHANGES).map(change).collect());
    assert_eq!(many, FileChanges::TooMany);
    let long = FileChange {
      name: "x".repeat(1 << 20),
      change: ChangeKind::Created,
    };
    assert_eq!(FileChanges::of(vec![long]), FileChanges::TooMany);
  }

  #[test]
  fn json_that_is_none_is_refused() {
    #[derive(Serialize)]
    enum Forged<'a> {
      Answer { id: u64, answer: &'a str },
    }
    let decoded = |answer| decode::<Reply>(&encode(&Forged::Answer { id: 1, answer })[4..]);
    assert!(decoded("{}").is_ok());
    assert!(decoded("{}\n{}").is_err());
    assert!(decoded("{").is_err());
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
