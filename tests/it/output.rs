//! Much output, and readers that do not keep up with it.

use std::time::Duration;

use serde_json::json;

use crate::support::eventually;
use crate::support::in_time;
use crate::support::kernel;
use crate::support::shared_server;

#[tokio::test]
async fn ten_megabytes_arrive_whole() {
  let kernel = kernel().await;
  let code = "for (let i = 0; i < 10000; i++) console.log(String(i).padStart(1023, '.'))";
  let text = kernel.execute(code).await.stdout();
  assert_eq!(text.len(), 10_240_000);
  let wrong = text
    .lines()
    .enumerate()
    .find(|(i, line)| line.trim_start_matches('.') != i.to_string());
  assert_eq!(wrong, None);
}

#[tokio::test]
async fn one_text_of_ten_megabytes_arrives_whole() {
  let kernel = kernel().await;
  let text = kernel
    .execute("console.log('é'.repeat(5_000_000))")
    .await
    .stdout();
  assert_eq!(text.len(), 10_000_001);
  assert!(text.trim_end().chars().all(|c| c == 'é'));
}

#[tokio::test]
async fn ten_megabytes_written_to_deno_stdout_arrive_whole() {
  let kernel = kernel().await;
  let code = "const chunk = new TextEncoder().encode('é'.repeat(50_000));
    for (let i = 0; i < 100; i++) { for (let n = 0; n < chunk.length;) n += Deno.stdout.writeSync(chunk.subarray(n)) }";
  let text = kernel.execute(code).await.stdout();
  assert_eq!(text.len(), 10_000_000);
  assert!(text.chars().all(|c| c == 'é'));
}

#[tokio::test]
async fn a_large_result_arrives_whole() {
  let kernel = kernel().await;
  let events = kernel
    .execute("await Deno.jupyter.display({ 'text/html': 'x'.repeat(5_000_000) }, { raw: true })")
    .await;
  let html = events.of("display_data")[0]["data"]["text/html"]
    .as_str()
    .map(str::len);
  assert_eq!(html, Some(5_000_000));
}

#[tokio::test]
async fn output_past_the_limit_is_cut_with_a_notice() {
  let kernel = shared_server()
    .client()
    .create(json!({"limits": {"outputBytes": 10_000}}))
    .await;
  let events = kernel
    .execute("for (let i = 0; i < 100; i++) console.log('x'.repeat(999)); 'result'")
    .await;
  let printed = events.stdout();
  assert!(
    (5_000..=10_000).contains(&printed.len()),
    "{}",
    printed.len()
  );
  assert!(
    events.stderr().contains("10000 bytes"),
    "{}",
    events.stderr()
  );
  assert_eq!(events.stderr().matches("truncated").count(), 1);
  let again = kernel.execute("1 + 1").await;
  assert_eq!(again.result(), Some("2"), "the limit is each cell's own");
}

#[tokio::test]
async fn nothing_follows_the_notice() {
  let limits = json!({"limits": {"outputBytes": 10_000}});
  let kernel = shared_server().client().create(limits).await;
  let code = "console.log('a'.repeat(9000)); console.log('b'.repeat(5000)); console.log('c')";
  let events = kernel.execute(code).await;
  assert_eq!(events.types(), ["stream", "stream"], "{events:?}");
  assert!(events.stderr().contains("truncated"));
  assert!(
    !events.stdout().contains('c'),
    "a hole in the middle of the output"
  );
}

#[tokio::test]
async fn an_error_is_kept_past_the_limit() {
  let kernel = shared_server()
    .client()
    .create(json!({"limits": {"outputBytes": 10_000}}))
    .await;
  let events = kernel
    .execute("for (let i = 0; i < 100; i++) console.log('x'.repeat(999)); throw new Error('end')")
    .await;
  assert_eq!(events.evalue(), "end");
}

#[tokio::test]
async fn endless_output_is_cut_and_can_be_interrupted() {
  let kernel = shared_server()
    .client()
    .create(json!({"limits": {"outputBytes": 100_000}}))
    .await;
  kernel.execute("let kept = 1").await;
  let mut sse = kernel
    .sse("while (true) console.log('x'.repeat(1000))")
    .await;
  loop {
    let event = sse.until("stream").await;
    if event["data"]["name"] == "stderr" {
      break;
    }
  }
  let done = kernel.interrupt().await.ok();
  assert!(done.get("restarted").is_none(), "{done}");
  assert_eq!(kernel.execute("kept").await.result(), Some("1"));
}

#[tokio::test]
async fn a_reader_that_stops_reading_does_not_hold_the_kernel_up() {
  let kernel = kernel().await;
  let stuck = kernel
    .sse("for (let i = 0; i < 20000; i++) console.log('x'.repeat(1000)); 'end'")
    .await;
  let session = stuck.session();
  let stuck_lines = kernel
    .stream("for (let i = 0; i < 5000; i++) console.log('y'.repeat(1000))")
    .await;
  // Neither stream is read.
  let result = in_time("the result", kernel.result(&session)).await;
  assert_eq!(result.result(), Some("\"end\""));
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
  // Once they are, nothing is missing.
  assert_eq!(stuck.rest().await.len(), 20_001);
  assert_eq!(stuck_lines.rest().await.len(), 5_002);
}

#[tokio::test]
async fn what_comes_at_once_from_all_sides_stays_in_order() {
  let kernel = kernel().await;
  let code = "const encoder = new TextEncoder(); \
    for (let i = 0; i < 300; i += 3) { \
      console.log(i); Deno.stdout.writeSync(encoder.encode(`${i + 1}\\n`)); \
      Deno.jupyter.broadcast('stream', { name: 'stdout', text: `${i + 2}\\n` }) }";
  let printed = kernel.execute(code).await.stdout();
  let wanted: String = (0..300).map(|i| format!("{i}\n")).collect();
  assert_eq!(printed, wanted);
}

#[tokio::test]
async fn what_is_not_printed_arrives_while_the_cell_computes() {
  let kernel = kernel().await;
  let code = "console.log('first'); Deno.jupyter.broadcast('execute_result', { data: { 'text/plain': 'early' } }); \
    while (true) {}";
  let mut sse = kernel.sse(code).await;
  let early = sse.until("execute_result").await;
  assert_eq!(early["data"]["data"]["text/plain"], "early");
  kernel.interrupt().await.ok();
}

#[tokio::test]
async fn output_arrives_while_the_cell_computes() {
  let kernel = kernel().await;
  let mut sse = kernel.sse("console.log('first'); Deno.stdout.writeSync(new TextEncoder().encode('second')); while (true) {}").await;
  assert_eq!(sse.until("stream").await["data"]["text"], "first\n");
  assert_eq!(sse.until("stream").await["data"]["text"], "second");
  kernel.interrupt().await.ok();
}

#[tokio::test]
async fn a_client_that_sends_half_a_request_holds_nobody_up() {
  use std::io::Write;
  let server = shared_server();
  let mut connections = Vec::new();
  for _ in 0..50 {
    let mut connection =
      std::net::TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    connection
      .write_all(b"POST /api/kernels HTTP/1.1\r\nHost: localhost\r\nContent-Le")
      .expect("is sent");
    connections.push(connection);
  }
  assert_eq!(kernel().await.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn a_client_that_leaves_while_its_kernel_is_made_leaves_nothing_half_done() {
  use std::io::Write;
  let server = shared_server();
  let client = server.client();
  for wait in [0, 10, 50] {
    let id = crate::support::unique("left");
    let body = json!({"id": id, "lang": "ts"}).to_string();
    let mut connection =
      std::net::TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    write!(
      connection,
      "POST /api/kernels HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
      body.len()
    )
    .expect("is sent");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    drop(connection);
    // Either there is a whole kernel, or the id is free.
    let path = format!("/api/kernels/{id}");
    eventually("the id can be used", || async {
      client.delete(&path).await;
      client
        .try_create(&json!({"id": id, "lang": "ts"}))
        .await
        .status
        == 200
    })
    .await;
    assert_eq!(client.delete(&path).await.status, 200);
  }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_kernel_is_deleted_leaves_nothing_half_done() {
  use std::io::Write;
  let server = crate::support::Server::builder().start();
  for wait in [0, 1, 10] {
    let kernel = server.client().typescript().await;
    let mut connection =
      std::net::TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    write!(
      connection,
      "DELETE {} HTTP/1.1\r\nHost: localhost\r\n\r\n",
      kernel.path("")
    )
    .expect("is sent");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    drop(connection);
    // The request was seen or it was not: there is a whole kernel, or nothing of it.
    eventually("the kernel is whole or gone", || async {
      let info = server.client().get(&kernel.path("/info")).await;
      if info.status == 200 {
        kernel.execute("1").await.result() == Some("1")
      } else {
        crate::support::hosts_of(server.pid()).is_empty() && server.scratch_folders().is_empty()
      }
    })
    .await;
  }
}
