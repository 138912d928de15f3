//! What holds for every message and for every heap of bytes: a kernel process is not believed, so its
//! frames are read as if it had been taken over.

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use kernel_protocol::ErrorReport;
use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use kernel_protocol::MAX_REQUEST_BYTES;
use kernel_protocol::Outcome;
use kernel_protocol::ProgramEvent;
use kernel_protocol::Question;
use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::StreamName;
use kernel_protocol::comm::CommKind;
use kernel_protocol::comm::CommMessage;
use kernel_protocol::decode;
use kernel_protocol::descriptors::DescriptorReader;
use kernel_protocol::descriptors::MAX_DESCRIPTORS;
use kernel_protocol::descriptors::send_with_descriptors;
use kernel_protocol::encode;
use kernel_protocol::files::ChangeKind;
use kernel_protocol::files::FileChange;
use kernel_protocol::files::FileChanges;
use kernel_protocol::files::FileError;
use kernel_protocol::files::FileReply;
use kernel_protocol::json::JsonText;
use kernel_protocol::read_frame;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

thread_local! {
  static HELD: Cell<isize> = const { Cell::new(0) };
  static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Counts what each thread holds.
struct Counted;

impl Counted {
  fn note(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
  }
}

// SAFETY: the system's allocator does all the work.
unsafe impl GlobalAlloc for Counted {
  unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
    Self::note(layout.size().cast_signed());
    // SAFETY: the caller's promises are passed on.
    unsafe { System.alloc(layout) }
  }

  unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
    Self::note(-layout.size().cast_signed());
    // SAFETY: the caller's promises are passed on.
    unsafe { System.dealloc(pointer, layout) }
  }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// The most that `work` held at one time, in bytes.
fn most_held(work: impl FnOnce()) -> usize {
  let before = HELD.get();
  MOST.set(before);
  work();
  (MOST.get() - before).max(0).unsigned_abs()
}

/// No files of failures: a case that once failed becomes a test of its own.
fn config() -> ProptestConfig {
  ProptestConfig {
    failure_persistence: None::<Box<FileFailurePersistence>>.map(|it| it as _),
    ..ProptestConfig::default()
  }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
  let leaf = prop_oneof![
    Just(serde_json::Value::Null),
    any::<bool>().prop_map(Into::into),
    any::<i64>().prop_map(Into::into),
    ".{0,20}".prop_map(Into::into),
  ];
  leaf.prop_recursive(3, 20, 4, |inner| {
    prop_oneof![
      prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
      prop::collection::btree_map(".{0,8}", inner, 0..4)
        .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
    ]
  })
}

fn json_text() -> impl Strategy<Value = JsonText> {
  json().prop_map(|value| JsonText::of(&value).expect("a value is JSON"))
}

fn event() -> impl Strategy<Value = KernelEvent> {
  let report = (".{0,20}", ".{0,40}", prop::collection::vec(".{0,40}", 0..5));
  prop_oneof![
    (any::<bool>(), ".{0,80}").prop_map(|(out, text)| KernelEvent::Stream {
      name: if out {
        StreamName::Stdout
      } else {
        StreamName::Stderr
      },
      text,
    }),
    json_text().prop_map(KernelEvent::DisplayData),
    json_text().prop_map(KernelEvent::UpdateDisplayData),
    any::<bool>().prop_map(|wait| KernelEvent::ClearOutput { wait }),
    json_text().prop_map(KernelEvent::ExecuteResult),
    report.prop_map(|(ename, evalue, traceback)| {
      let mut report = ErrorReport::new(&ename, evalue);
      report.traceback = traceback;
      KernelEvent::ExecuteError(report)
    }),
    json_text().prop_map(KernelEvent::CommOpen),
    json_text().prop_map(KernelEvent::CommMsg),
    json_text().prop_map(KernelEvent::CommClose),
    (".{0,20}", any::<bool>())
      .prop_map(|(prompt, password)| KernelEvent::InputRequest { prompt, password }),
  ]
}

fn execution() -> impl Strategy<Value = ExecutionId> {
  any::<u128>().prop_map(|number| {
    let text = format!("{number:032x}");
    ExecutionId::parse(&text).expect("any 128 bits are an id")
  })
}

fn changes() -> impl Strategy<Value = FileChanges> {
  let change = (".{0,20}", 0..3_u8).prop_map(|(name, kind)| FileChange {
    name,
    change: match kind {
      0 => ChangeKind::Created,
      1 => ChangeKind::Modified,
      _ => ChangeKind::Removed,
    },
  });
  prop_oneof![
    prop::collection::vec(change, 0..5).prop_map(FileChanges::Names),
    Just(FileChanges::TooMany),
    Just(FileChanges::Gone),
  ]
}

fn reply() -> impl Strategy<Value = Reply> {
  let outcome = prop_oneof![
    Just(Outcome::Ok),
    Just(Outcome::Error),
    Just(Outcome::Interrupted)
  ];
  let program = prop_oneof![
    Just(ProgramEvent::Started),
    (any::<u16>(), any::<bool>())
      .prop_map(|(port, permitted)| ProgramEvent::Listening { port, permitted }),
    any::<u16>().prop_map(|port| ProgramEvent::PortTaken { port }),
    any::<i32>().prop_map(|code| ProgramEvent::Finished { code }),
  ];
  prop_oneof![
    prop::option::of(".{0,40}").prop_map(|error| Reply::Configured { error }),
    (prop::option::of(execution()), event()).prop_map(|(execution_id, event)| Reply::Event {
      execution_id,
      event
    }),
    (execution(), outcome).prop_map(|(execution_id, outcome)| Reply::Done {
      execution_id,
      outcome
    }),
    (any::<u64>(), json_text()).prop_map(|(id, answer)| Reply::Answer { id, answer }),
    any::<u64>().prop_map(|id| Reply::File {
      id,
      reply: FileReply::Failed(FileError::TooManyWatches)
    }),
    (any::<u64>(), changes()).prop_map(|(watch, changes)| Reply::FilesChanged { watch, changes }),
    (0..1_u8).prop_map(|_| Reply::Alive),
    program.prop_map(Reply::Program),
    ".{0,40}".prop_map(|reason| Reply::Fatal { reason }),
  ]
}

fn request() -> impl Strategy<Value = Request> {
  let question = (".{0,40}", any::<usize>(), 0..5_u8).prop_map(|(code, cursor, kind)| match kind {
    0 => Question::Complete { code, cursor },
    1 => Question::Inspect { code, cursor },
    2 => Question::IsComplete { code },
    3 => Question::Check {
      name: "main.ts".into(),
      code,
    },
    _ => Question::CommInfo {
      target_name: (cursor % 2 == 0).then_some(code),
    },
  });
  prop_oneof![
    (execution(), ".{0,200}")
      .prop_map(|(execution_id, code)| Request::Execute { execution_id, code }),
    (execution(), json_text()).prop_map(|(execution_id, body)| Request::Comm {
      execution_id,
      message: CommMessage {
        kind: CommKind::Message,
        body,
      },
    }),
    prop::option::of(execution()).prop_map(|execution_id| Request::Interrupt { execution_id }),
    (any::<u64>(), question).prop_map(|(id, question)| Request::Ask { id, question }),
    (any::<u64>(), ".{0,40}").prop_map(|(id, path)| Request::Watch { id, path }),
    any::<u64>().prop_map(|id| Request::Unwatch { id }),
    prop::option::of(".{0,40}").prop_map(|value| Request::InputReply { value }),
    (0..1_u8).prop_map(|_| Request::Ping),
    (0..1_u8).prop_map(|_| Request::Shutdown),
  ]
}

/// Bytes that are often nearly a message: a true one with a piece replaced.
fn nearly_a_reply() -> impl Strategy<Value = Vec<u8>> {
  let piece = prop::collection::vec(any::<u8>(), 0..9);
  (reply(), any::<prop::sample::Index>(), piece).prop_map(|(reply, place, piece)| {
    let mut payload = encode(&reply).split_off(4);
    let start = place.index(payload.len());
    let end = payload.len().min(start + piece.len());
    payload.splice(start..end, piece);
    payload
  })
}

proptest! {
  #![proptest_config(config())]

  #[test]
  fn what_is_encoded_decodes_to_itself(reply in reply(), request in request()) {
    let frame = encode(&reply);
    let again: Reply = read_frame(&mut frame.as_slice()).expect("decodes").expect("a frame");
    prop_assert_eq!(encode(&again), frame);
    let frame = encode(&request);
    let again: Request = read_frame(&mut frame.as_slice()).expect("decodes").expect("a frame");
    prop_assert_eq!(encode(&again), frame);
  }

  #[test]
  fn an_event_is_made_again_from_its_kind_and_data(event in event()) {
    let wire = serde_json::to_value(&event).expect("an event is JSON");
    let kind = wire["type"].as_str().expect("a type");
    let data = wire["data"].to_string();
    // Displays are checked besides, and random ones are none.
    if let Ok(again) = KernelEvent::from_parts(kind, &data) {
      let again = serde_json::to_value(again).expect("an event is JSON");
      prop_assert_eq!(&again["type"], &wire["type"]);
    }
  }

  #[test]
  fn bytes_that_are_no_message_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
    let _ = decode::<Reply>(&bytes);
    let _ = decode::<Request>(&bytes);
    let _ = read_frame::<Request>(&mut bytes.as_slice());
  }

  #[test]
  fn what_is_decoded_takes_memory_by_its_length_not_by_what_it_claims(bytes in nearly_a_reply()) {
    let most = most_held(|| drop(decode::<Reply>(&bytes)));
    // A traceback's line is one byte at least, and a text with its place in a list in memory. Serde sets
    // aside a mebibyte at most for a list before it has seen its elements.
    prop_assert!(most <= 64 * bytes.len() + (2 << 20), "{most} bytes for {}", bytes.len());
  }

  #[test]
  fn a_frame_over_the_limit_is_refused_before_it_is_buffered(
    over in 1..=u32::MAX - u32::try_from(MAX_REQUEST_BYTES).expect("a small number"),
    rest in prop::collection::vec(any::<u8>(), 0..20),
  ) {
    let length = u32::try_from(MAX_REQUEST_BYTES).expect("a small number") + over;
    let bytes = [&length.to_be_bytes()[..], &rest].concat();
    let most = most_held(|| {
      let read = read_frame::<Request>(&mut bytes.as_slice());
      assert!(read.is_err_and(|e| e.kind() == std::io::ErrorKind::InvalidData));
    });
    prop_assert!(most < 1 << 12, "{most} bytes");
  }

  #[test]
  fn frames_arrive_in_order_each_with_its_descriptors(
    frames in prop::collection::vec((request(), 0..=MAX_DESCRIPTORS), 1..8),
  ) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let file = File::open("/dev/null").expect("it is there");
    for (request, count) in &frames {
      let frame = encode(request);
      let descriptors = vec![file.as_fd(); *count];
      let sent = match count {
        0 => 0,
        _ => send_with_descriptors(&ours, &frame, &descriptors).expect("is sent"),
      };
      (&ours).write_all(&frame[sent..]).expect("is sent");
    }
    let mut reader = DescriptorReader::new(&theirs);
    for (request, count) in &frames {
      let read: Request = read_frame(&mut reader).expect("decodes").expect("a frame");
      prop_assert_eq!(encode(&read), encode(request));
      prop_assert_eq!(reader.take_descriptors().len(), *count);
    }
    drop(ours);
    prop_assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
  }

  #[test]
  fn json_text_is_one_line_that_means_the_same(value in json(), pretty in any::<bool>()) {
    let text = match pretty {
      true => serde_json::to_string_pretty(&value),
      false => serde_json::to_string(&value),
    };
    let json = JsonText::new(text.expect("a value is JSON")).expect("JSON");
    prop_assert!(!json.as_str().contains(['\n', '\r']));
    let again: serde_json::Value = serde_json::from_str(json.as_str()).expect("JSON");
    prop_assert_eq!(again, value);
  }
}

#[test]
fn too_many_descriptors_are_refused() {
  let (ours, _theirs) = UnixStream::pair().expect("a pair");
  let file = File::open("/dev/null").expect("it is there");
  let many = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
  assert!(send_with_descriptors(&ours, &encode(&Request::Ping), &many).is_err());
}
