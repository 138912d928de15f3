//! Files of kernels and lasting ones, over HTTP.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::support::Answer;
use crate::support::Client;
use crate::support::Kernel;
use crate::support::Server;
use crate::support::eventually;
use crate::support::shared_server;

/// The kinds of kernels that everybody may make; each keeps its files another way.
const LANGUAGES: [&str; 2] = ["typescript", "python"];

fn client() -> Client {
  shared_server().client()
}

async fn kernel(language: &str) -> Kernel {
  client().create(json!({"lang": language})).await
}

async fn put(client: &Client, path: &str, content: impl Into<reqwest::Body>) -> Answer {
  let request = client.request(Method::PUT, path).body(content);
  client.read(request).await
}

/// The bytes of a file, or what was said instead.
async fn get(client: &Client, path: &str) -> Result<Vec<u8>, Answer> {
  let response = client.send(client.request(Method::GET, path)).await;
  if response.status() == 200 {
    assert_eq!(
      response.headers()["content-type"],
      "application/octet-stream"
    );
    return Ok(response.bytes().await.expect("a body").to_vec());
  }
  Err(client.get(path).await)
}

fn names(listing: &Value) -> Vec<String> {
  let entries = listing["entries"].as_array().expect("entries");
  let names = entries.iter().map(|entry| entry["name"].as_str());
  names.map(|name| name.expect("a name").to_owned()).collect()
}

fn read_in(language: &str, path: &str) -> String {
  match language {
    "python" => format!("open({path:?}).read()"),
    _ => format!("Deno.readTextFileSync({path:?})"),
  }
}

fn write_in(language: &str, path: &str, text: &str) -> String {
  match language {
    "python" => format!("_ = open({path:?}, 'w').write({text:?})"),
    _ => format!("Deno.writeTextFileSync({path:?}, {text:?})"),
  }
}

#[tokio::test]
async fn a_client_hands_files_in_and_takes_results_out() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let put = put(&client(), &kernel.path("/files/in/data.csv"), "a,b\n1,2\n").await;
    assert_eq!(
      put.ok(),
      json!({"path": "in/data.csv", "size": 8}),
      "{language}"
    );
    let events = kernel.execute(&read_in(language, "in/data.csv")).await;
    assert!(
      events.result().is_some_and(|text| text.contains("a,b")),
      "{language}: {events:?}"
    );
    let written = kernel
      .execute(&write_in(language, "out.txt", "résult"))
      .await;
    assert_eq!(written.error(), None, "{language}");
    let out = get(&client(), &kernel.path("/files/out.txt")).await;
    assert_eq!(out.ok(), Some("résult".into()), "{language}");
    let listing = client().get(&kernel.path("/files")).await.ok();
    assert_eq!(names(&listing), ["in", "out.txt"], "{language}: {listing}");
    let entry = &listing["entries"][1];
    assert_eq!(
      (entry["type"].as_str(), entry["size"].as_u64()),
      (Some("file"), Some(7))
    );
    assert!(
      entry["modified"]
        .as_str()
        .is_some_and(|it| it.ends_with('Z')),
      "{entry}"
    );
    let below = client().get(&kernel.path("/files/in")).await.ok();
    assert_eq!(below["entries"][0]["name"], "data.csv", "{language}");
    client()
      .delete(&kernel.path("/files/in"))
      .await
      .refused(409, &["not empty", "recursive=true"]);
    let deleted = client()
      .delete(&kernel.path("/files/in?recursive=true"))
      .await;
    assert_eq!(deleted.ok()["success"], true, "{language}");
    client()
      .get(&kernel.path("/files/in"))
      .await
      .refused(404, &["File not found: in"]);
  }
}

#[tokio::test]
async fn large_files_stream_both_ways_and_take_the_place_of_others_whole() {
  let content: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let path = kernel.path("/files/large.bin");
    put(&client(), &path, "small").await.ok();
    let pieces: Vec<_> = content
      .chunks(777_777)
      .map(|it| Ok::<_, std::io::Error>(it.to_vec()))
      .collect();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    assert_eq!(
      put(&client(), &path, body).await.ok()["size"],
      content.len()
    );
    assert_eq!(
      get(&client(), &path).await.ok(),
      Some(content.clone()),
      "{language}"
    );
    // What breaks off changes nothing.
    let broken: [Result<Vec<u8>, _>; 2] =
      [Ok(vec![0; 2 << 20]), Err(std::io::Error::other("gone"))];
    let body = reqwest::Body::wrap_stream(futures::stream::iter(broken));
    let request = client().request(Method::PUT, &path).body(body);
    assert!(request.send().await.is_err());
    eventually("no part is left", || async {
      names(&client().get(&kernel.path("/files")).await.ok()) == ["large.bin"]
    })
    .await;
    assert_eq!(
      get(&client(), &path).await.ok(),
      Some(content.clone()),
      "{language}"
    );
  }
}

#[tokio::test]
async fn a_part_of_a_file_can_be_asked_for() {
  for language in LANGUAGES {
    let kernel = kernel(language).await;
    let path = kernel.path("/files/ten");
    put(&client(), &path, "0123456789").await.ok();
    for (range, status, content, part) in [
      ("bytes=2-4", 206, "234", "bytes 2-4/10"),
      ("bytes=7-", 206, "789", "bytes 7-9/10"),
      ("bytes=-2", 206, "89", "bytes 8-9/10"),
      ("bytes=0-1,3-4", 200, "0123456789", ""),
    ] {
      let request = client().request(Method::GET, &path).header("range", range);
      let response = client().send(request).await;
      assert_eq!(response.status(), status, "{range}");
      let found = response.headers().get("content-range").cloned();
      assert_eq!(
        found.map_or("", |it| it.to_str().expect("text").to_owned().leak()),
        part
      );
      assert_eq!(response.text().await.expect("a body"), content, "{range}");
    }
    let request = client()
      .request(Method::GET, &path)
      .header("range", "bytes=10-");
    let beyond = client().read(request).await;
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    beyond.refused(416, &["10 bytes"]);
    let head = client().send(client().request(Method::HEAD, &path)).await;
    assert_eq!(
      (head.status().as_u16(), &head.headers()["content-length"]),
      (200, &"10".parse().expect("a value"))
    );
  }
}

#[tokio::test]
async fn files_of_a_kernel_that_keeps_them_on_disk_can_be_had_while_it_runs() {
  let kernel = kernel("typescript").await;
  put(&client(), &kernel.path("/files/f"), "x").await.ok();
  kernel
    .submit_running("console.log('running'); while (true) {}")
    .await;
  assert_eq!(
    get(&client(), &kernel.path("/files/f")).await.ok(),
    Some(b"x".to_vec())
  );
  kernel.interrupt().await.ok();
}

#[tokio::test]
async fn paths_lead_nowhere_else_and_the_permissions_of_the_kernel_hold() {
  let kernel = kernel("typescript").await;
  for path in [
    "/files//etc/passwd",
    "/files/..%2f..%2f..%2fetc%2fpasswd",
    "/files//proc/self/environ",
  ] {
    client()
      .get(&kernel.path(path))
      .await
      .refused(403, &["outside"]);
  }
  kernel
    .execute("Deno.symlinkSync('/etc/passwd', 'link')")
    .await;
  kernel.execute("new Deno.Command('ln')").await;
  let answer = client().get(&kernel.path("/files/link")).await;
  assert!([403, 404].contains(&answer.status), "{answer:?}");
  let narrow = client()
    .create(json!({"lang": "typescript", "permissions": {"write": false}}))
    .await;
  put(&client(), &narrow.path("/files/x"), "x")
    .await
    .refused(403, &["permission"]);
  // In Python's own file system there is nothing of the machine's.
  let python = self::kernel("python").await;
  let passwd = get(&client(), &python.path("/files//etc/passwd")).await;
  assert!(passwd.is_err(), "{passwd:?}");
  let tmp = put(&client(), &python.path("/files//tmp/x"), "x").await;
  assert_eq!(tmp.ok()["size"], 1);
  python.gives("open('/tmp/x').read()", "'x'").await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
  let kernel = kernel("typescript").await;
  put(&client(), &kernel.path("/files/dir/f"), "x").await.ok();
  put(&client(), &kernel.path("/files/dir"), "x")
    .await
    .refused(409, &["`dir` is a directory"]);
  put(&client(), &kernel.path("/files/dir/f/g"), "x")
    .await
    .refused(409, &["dir/f/g"]);
  client()
    .get("/api/kernels/no-such-kernel/files/x")
    .await
    .refused(404, &["Kernel not found"]);
  client()
    .delete(&kernel.path("/files/dir?recursiv=true"))
    .await
    .refused(400, &["recursiv"]);
  let server = Server::builder().env("MAX_FILE_BYTES", "1000").start();
  let kernel = server.client().create(json!({"lang": "typescript"})).await;
  put(&server.client(), &kernel.path("/files/x"), vec![0; 1001])
    .await
    .refused(413, &["1000 bytes"]);
  assert_eq!(
    names(&server.client().get(&kernel.path("/files")).await.ok()),
    [""; 0]
  );
}

#[tokio::test]
async fn no_browser_takes_a_file_for_a_page() {
  let kernel = kernel("typescript").await;
  let path = kernel.path("/files/page.html");
  put(&client(), &path, "<script>alert(1)</script>")
    .await
    .ok();
  let response = client().send(client().request(Method::GET, &path)).await;
  let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
  assert_eq!(header("content-type"), "application/octet-stream");
  assert!(header("content-disposition").starts_with("attachment"));
  assert_eq!(header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn lasting_files_stay_with_their_namespace_when_kernels_and_servers_go() {
  let dir = tempfile::TempDir::new().expect("a folder");
  let start = || {
    Server::builder()
      .data_dir(dir.path())
      .env(
        "ENGINE_TOKENS",
        "lab-token=lab,other-token=other,all-token=*",
      )
      .start()
  };
  let server = start();
  let lab = server.client().with_token("lab-token");
  let other = server.client().with_token("other-token");
  let all = server.client().with_token("all-token");
  put(&lab, "/api/files/notes/a.txt", "of the lab").await.ok();
  assert_eq!(
    get(&lab, "/api/files/notes/a.txt").await.ok(),
    Some(b"of the lab".to_vec())
  );
  other
    .get("/api/files/notes/a.txt")
    .await
    .refused(404, &["File not found"]);
  other
    .get("/api/files?namespace=lab")
    .await
    .refused(403, &["namespace `other`, not `lab`"]);
  assert_eq!(names(&all.get("/api/files").await.ok()), [""; 0]);
  assert_eq!(
    names(&all.get("/api/files?namespace=lab").await.ok()),
    ["notes"]
  );
  for path in [
    "/api/files/../../../other/x",
    "/api/files/..%2f..%2fshared",
    "/api/files/%2e%2e%2fother",
  ] {
    let answer = lab.get(path).await;
    assert!([403, 404].contains(&answer.status), "{path}: {answer:?}");
  }
  drop(server);
  let server = start();
  let lab = server.client().with_token("lab-token");
  // Kernels mount them, and write there.
  for (language, code) in [
    (
      "typescript",
      "Deno.writeTextFileSync('/data/notes/ts', Deno.readTextFileSync('/data/notes/a.txt'))",
    ),
    (
      "python",
      "_ = open('/data/notes/py', 'w').write(open('/data/notes/a.txt').read())",
    ),
  ] {
    let mount = json!({"files": "", "mountPoint": "/data"});
    let kernel = lab
      .create(json!({"lang": language, "filesystem": mount}))
      .await;
    let events = kernel.execute(code).await;
    assert_eq!(events.error(), None, "{language}");
    let path = kernel.path("/files//data/notes/a.txt");
    assert_eq!(
      get(&lab, &path).await.ok(),
      Some(b"of the lab".to_vec()),
      "{language}"
    );
  }
  let listing = lab.get("/api/files/notes").await.ok();
  assert_eq!(names(&listing), ["a.txt", "py", "ts"]);
  let mount = json!({"files": "notes/../../other", "mountPoint": "/data"});
  lab
    .try_create(&json!({"lang": "typescript", "filesystem": mount}))
    .await
    .refused(400, &["filesystem.files"]);
  let mount = json!({"files": "", "root": "/tmp"});
  lab
    .try_create(&json!({"filesystem": mount}))
    .await
    .refused(400, &["either `root`"]);
  assert_eq!(
    lab.delete("/api/files/notes/a.txt").await.ok()["success"],
    true
  );
}

#[tokio::test]
async fn files_of_another_namespace_are_missing() {
  let server = Server::builder()
    .env("ENGINE_TOKENS", "a-token=a,b-token=b")
    .start();
  let (a, b) = (
    server.client().with_token("a-token"),
    server.client().with_token("b-token"),
  );
  let kernel = a.create(json!({"lang": "typescript"})).await;
  put(&a, &kernel.path("/files/x"), "x").await.ok();
  for answer in [
    b.get(&kernel.path("/files/x")).await,
    b.get(&kernel.path("/files")).await,
    b.delete(&kernel.path("/files/x")).await,
    put(&b, &kernel.path("/files/x"), "y").await,
  ] {
    answer.refused(404, &["Kernel not found"]);
  }
}
