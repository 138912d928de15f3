//! Comm messages, both ways, over HTTP.

use serde_json::Value;
use serde_json::json;

use crate::support::Events;
use crate::support::Kernel;
use crate::support::cpython_server;
use crate::support::shared_server;

/// A target that sends back what it is told, doubled, and prints it.
const ECHO: &str = "
import comm
def opened(channel, message):
    channel.on_msg(lambda it: (
        print('heard', it['content']['data'], [bytes(b) for b in it['buffers']]),
        channel.send({'twice': it['content']['data']['n'] * 2}, buffers=[bytes(b) for b in it['buffers']]),
    ))
    channel.on_close(lambda it: print('closed'))
    channel.send({'hello': message['content']['data']}, metadata={'m': 1})
comm.get_comm_manager().register_target('echo', opened)
";

async fn python() -> [Kernel; 2] {
  let cpython = cpython_server().client();
  [
    shared_server()
      .client()
      .create(json!({"lang": "python"}))
      .await,
    cpython.create(json!({"lang": "cpython"})).await,
  ]
}

async fn send(kernel: &Kernel, kind: &str, content: Value, buffers: &[&str]) -> Events {
  let body = json!({"type": kind, "content": content, "buffers": buffers});
  let sent = kernel.post("/comms", &body).await.ok();
  let session = sent["session_id"].as_str().expect("a session");
  kernel.result(session).await
}

async fn open_comms(kernel: &Kernel, query: &str) -> Value {
  let path = kernel.path(&format!("/comms{query}"));
  kernel.client.get(&path).await.ok()["comms"].clone()
}

#[tokio::test]
async fn a_page_opens_a_comm_talks_over_it_and_closes_it() {
  for kernel in python().await {
    assert_eq!(kernel.execute(ECHO).await.types(), Vec::<&str>::new());
    let open = json!({"comm_id": "c1", "target_name": "echo", "data": {"x": "é"}});
    let events = send(&kernel, "comm_open", open, &[]).await;
    let hello = events.of("comm_msg");
    assert_eq!(
      *hello[0],
      json!({"content": {"comm_id": "c1", "data": {"hello": {"x": "é"}}}, "metadata": {"m": 1}, "buffers": []})
    );
    let all = json!({"c1": {"target_name": "echo"}});
    assert_eq!(open_comms(&kernel, "").await, all);
    assert_eq!(open_comms(&kernel, "?target_name=echo").await, all);
    assert_eq!(open_comms(&kernel, "?target_name=other").await, json!({}));

    let message = json!({"comm_id": "c1", "data": {"n": 21}});
    let events = send(&kernel, "comm_msg", message, &["AAH/"]).await;
    assert_eq!(events.stdout(), "heard {'n': 21} [b'\\x00\\x01\\xff']\n");
    let answer = events.of("comm_msg");
    assert_eq!(answer[0]["content"]["data"], json!({"twice": 42}));
    assert_eq!(answer[0]["buffers"], json!(["AAH/"]));

    let events = send(
      &kernel,
      "comm_close",
      json!({"comm_id": "c1", "data": {}}),
      &[],
    )
    .await;
    assert_eq!(events.stdout(), "closed\n");
    assert_eq!(open_comms(&kernel, "").await, json!({}));
    let info = kernel.info().await;
    assert_eq!(info["history"].as_array().map(Vec::len), Some(1), "{info}");
  }
}

#[tokio::test]
async fn a_cell_opens_a_comm_to_the_page() {
  for kernel in python().await {
    let events = kernel
      .execute("import comm; c = comm.create_comm(target_name='t', comm_id='k', data={'a': float('nan')}, buffers=[b'hi'])")
      .await;
    assert_eq!(
      *events.of("comm_open")[0],
      json!({
        "content": {"comm_id": "k", "target_name": "t", "target_module": null, "data": {"a": null}},
        "metadata": {}, "buffers": ["aGk="],
      })
    );
  }
  let kernel = shared_server().client().typescript().await;
  let events = kernel
    .execute(
      "await Deno.jupyter.broadcast('comm_open', {comm_id: 'k', target_name: 't', data: {a: 1}},
         {metadata: {m: 1}, buffers: [new Uint8Array([104, 105]), new Uint8Array([0, 104, 105]).subarray(1)]})",
    )
    .await;
  assert_eq!(
    *events.of("comm_open")[0],
    json!({
      "content": {"comm_id": "k", "target_name": "t", "data": {"a": 1}},
      "metadata": {"m": 1}, "buffers": ["aGk=", "aGk="],
    })
  );
}

#[tokio::test]
async fn a_comm_that_nobody_waits_for_is_closed() {
  let open = json!({"comm_id": "c", "target_name": "nobody", "data": {}});
  let closed = |events: &Events| events.of("comm_close")[0]["content"]["comm_id"].clone();
  let [pyodide, cpython] = python().await;
  let typescript = shared_server().client().typescript().await;
  for kernel in [&pyodide, &cpython, &typescript] {
    let events = send(kernel, "comm_open", open.clone(), &[]).await;
    assert_eq!(closed(&events), "c");
    // Of a comm that there is not.
    let events = send(kernel, "comm_msg", json!({"comm_id": "x"}), &[]).await;
    assert_eq!(events.types(), Vec::<&str>::new());
  }
  // The package is there, the target is not.
  pyodide.execute(ECHO).await;
  assert_eq!(closed(&send(&pyodide, "comm_open", open, &[]).await), "c");
}

#[tokio::test]
async fn a_listener_that_fails_or_does_not_end_is_no_harm() {
  for kernel in python().await {
    kernel
      .execute(
        "import comm
def opened(channel, message):
    if message['content']['data']['endless']:
        while True: pass
    raise ValueError('no')
comm.get_comm_manager().register_target('bad', opened)",
      )
      .await;
    let open = |id: &str, endless: bool| json!({"comm_id": id, "target_name": "bad", "data": {"endless": endless}});
    let events = send(&kernel, "comm_open", open("a", false), &[]).await;
    assert!(events.stderr().contains("ValueError: no"), "{events:?}");
    let body = json!({"type": "comm_open", "content": open("b", true)});
    let sent = kernel.post("/comms", &body).await.ok();
    let session = sent["session_id"].as_str().expect("a session").to_owned();
    while kernel.status().await != "busy" {
      tokio::task::yield_now().await;
    }
    kernel.interrupt().await.ok();
    let events = kernel.result(&session).await;
    assert_eq!(events.of("error")[0]["ename"], "KeyboardInterrupt");
    kernel.gives("1 + 1", "2").await;
  }
}

#[tokio::test]
async fn what_is_no_comm_message_is_refused() {
  let kernel = shared_server().client().typescript().await;
  let content = json!({"comm_id": "c", "data": {}});
  for (body, words) in [
    (json!({"content": content}), "type"),
    (
      json!({"type": "comm_info", "content": content}),
      "comm_open",
    ),
    (json!({"type": "comm_msg"}), "content"),
    (json!({"type": "comm_msg", "content": []}), "content"),
    (
      json!({"type": "comm_msg", "content": {"data": 1}}),
      "content.comm_id",
    ),
    (
      json!({"type": "comm_open", "content": content}),
      "content.target_name",
    ),
    (
      json!({"type": "comm_msg", "content": content, "buffers": ["AAAA", "?"]}),
      "buffers[1]",
    ),
    (
      json!({"type": "comm_msg", "content": content, "extra": 1}),
      "extra",
    ),
  ] {
    kernel.post("/comms", &body).await.refused(400, &[words]);
  }
  let elsewhere = kernel.client.get("/api/kernels/none/comms").await;
  elsewhere.refused(404, &["Kernel not found"]);
}
