//! What a frame costs: each event of a kernel is one, written in its process and read in the server.

use std::hint::black_box;

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use kernel_protocol::ExecutionId;
use kernel_protocol::KernelEvent;
use kernel_protocol::Reply;
use kernel_protocol::StreamName;
use kernel_protocol::decode;
use kernel_protocol::encode;

/// A line of output, a displayed table, a picture.
fn events() -> [(&'static str, KernelEvent); 3] {
  let line = KernelEvent::Stream {
    name: StreamName::Stdout,
    text: "epoch 17: loss 0.0341, accuracy 0.9912\n".into(),
  };
  let rows = "<tr><td>12</td><td>alpha</td><td>0.25</td></tr>".repeat(200);
  let table =
    serde_json::json!({"data": {"text/html": format!("<table>{rows}</table>")}, "metadata": {}});
  let picture =
    serde_json::json!({"data": {"image/png": "iVBORw0K".repeat(64 << 10)}, "metadata": {}});
  let display = |data: serde_json::Value| {
    KernelEvent::from_parts("display_data", &data.to_string()).expect("a display")
  };
  [
    ("line", line),
    ("table", display(table)),
    ("picture", display(picture)),
  ]
}

fn frames(criterion: &mut Criterion) {
  let mut group = criterion.benchmark_group("frames");
  for (name, event) in events() {
    let reply = Reply::Event {
      execution_id: Some(ExecutionId::random()),
      event,
    };
    let frame = encode(&reply);
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function(format!("encode/{name}"), |b| {
      b.iter(|| encode(black_box(&reply)));
    });
    group.bench_function(format!("decode/{name}"), |b| {
      b.iter(|| decode::<Reply>(black_box(&frame[4..])).expect("decodes"));
    });
  }
  group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
