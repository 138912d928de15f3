//! Completion, inspection, and whether code is complete.

use serde_json::Value;
use serde_json::json;

use crate::support::Kernel;
use crate::support::kernel;
use crate::support::keys;

async fn complete(kernel: &Kernel, code: &str) -> Value {
  kernel
    .post("/complete", &json!({ "code": code }))
    .await
    .ok()
}

fn matches(reply: &Value) -> Vec<&str> {
  reply["matches"]
    .as_array()
    .expect("matches")
    .iter()
    .filter_map(Value::as_str)
    .collect()
}

async fn inspect(kernel: &Kernel, code: &str) -> Value {
  kernel.post("/inspect", &json!({ "code": code })).await.ok()
}

#[tokio::test]
async fn completion_has_the_shape_of_jupyter() {
  let reply = complete(&kernel().await, "Math.ma").await;
  assert_eq!(
    keys(&reply),
    [
      "cursor_end",
      "cursor_start",
      "matches",
      "metadata",
      "status"
    ]
  );
  assert_eq!(matches(&reply), ["max"]);
  assert_eq!(
    (&reply["cursor_start"], &reply["cursor_end"]),
    (&json!(5), &json!(7))
  );
  assert_eq!(reply["status"], "ok");
}

#[tokio::test]
async fn names_of_cells_are_completed() {
  let kernel = kernel().await;
  kernel
    .execute(
      "const myConst = 1; let myLet = 2; var myVar = 3; function myFunction() {}; class MyClass {}",
    )
    .await;
  let reply = complete(&kernel, "1 + my").await;
  assert_eq!(matches(&reply), ["myConst", "myFunction", "myLet", "myVar"]);
  assert_eq!(reply["cursor_start"], 4);
  assert_eq!(matches(&complete(&kernel, "MyC").await), ["MyClass"]);
}

#[tokio::test]
async fn keywords_and_globals_are_completed() {
  let kernel = kernel().await;
  assert!(matches(&complete(&kernel, "awa").await).contains(&"await"));
  assert!(matches(&complete(&kernel, "setTime").await).contains(&"setTimeout"));
  assert!(matches(&complete(&kernel, "").await).contains(&"console"));
}

#[tokio::test]
async fn members_of_values_are_completed() {
  let kernel = kernel().await;
  kernel
    .execute("const user = { name: 'n', address: { street: 's', stairs: 1 } }; const list = [user]")
    .await;
  assert!(matches(&complete(&kernel, "user.na").await).contains(&"name"));
  assert_eq!(
    matches(&complete(&kernel, "user.address.st").await),
    ["stairs", "street"]
  );
  assert!(matches(&complete(&kernel, "user?.address?.str").await).contains(&"street"));
  assert!(matches(&complete(&kernel, "list[0].addr").await).contains(&"address"));
  assert!(matches(&complete(&kernel, "'text'.toUpp").await).contains(&"toUpperCase"));
  assert!(matches(&complete(&kernel, "x = foo(user.").await).contains(&"name"));
  assert_eq!(
    matches(&complete(&kernel, "nobody.x").await),
    Vec::<&str>::new()
  );
}

#[tokio::test]
async fn completion_takes_the_cursor_in_utf16_units() {
  let kernel = kernel().await;
  let body = json!({"code": "'😀'; Math.ma + 1", "cursor_pos": 13});
  let reply = kernel.post("/complete", &body).await.ok();
  assert_eq!(matches(&reply), ["max"]);
  assert_eq!(
    (&reply["cursor_start"], &reply["cursor_end"]),
    (&json!(11), &json!(13))
  );
  for cursor in [0, 2, 3, 99] {
    let body = json!({"code": "'😀'", "cursor_pos": cursor});
    assert_eq!(
      kernel.post("/complete", &body).await.status,
      200,
      "{cursor}"
    );
  }
}

#[tokio::test]
async fn completion_has_no_side_effects() {
  let kernel = kernel().await;
  kernel.execute("let calls = 0; const o = { get p() { calls++; return { q: 1 } } }; function f() { calls++; return { q: 1 } }").await;
  complete(&kernel, "o.p.").await;
  complete(&kernel, "f().").await;
  complete(&kernel, "(calls = 5).").await;
  inspect(&kernel, "f()").await;
  assert_eq!(kernel.execute("calls").await.result(), Some("0"));
}

#[tokio::test]
async fn completion_is_not_in_the_history_and_keeps_the_last_value() {
  let kernel = kernel().await;
  kernel.execute("42").await;
  complete(&kernel, "Math.").await;
  assert_eq!(
    kernel.info().await["history"].as_array().map(Vec::len),
    Some(1)
  );
  assert_eq!(
    kernel.execute("_").await.of("execute_result")[0]["execution_count"],
    2
  );
}

#[tokio::test]
async fn completion_survives_hostile_values() {
  let kernel = kernel().await;
  kernel
    .execute("const evil = new Proxy({}, { ownKeys() { while (true) {} }, getPrototypeOf() { throw 1 } }); const deep = { get x() { while (true) {} } }")
    .await;
  for code in ["evil.", "deep.x.", "((", "a..b", "😀.", "`${"] {
    let answer = kernel.post("/complete", &json!({ "code": code })).await;
    assert_eq!(answer.status, 200, "{code}: {}", answer.text);
  }
  assert_eq!(kernel.execute("1 + 1").await.result(), Some("2"));
}

#[tokio::test]
async fn inspection_shows_values() {
  let kernel = kernel().await;
  kernel
    .execute("const point = { x: 1, y: 2 }; function area(a: number) { return a }")
    .await;
  let reply = inspect(&kernel, "point").await;
  assert_eq!(keys(&reply), ["data", "found", "metadata", "status"]);
  assert_eq!(
    (&reply["found"], &reply["status"]),
    (&json!(true), &json!("ok"))
  );
  let text = reply["data"]["text/plain"].as_str().expect("a text");
  assert!(text.contains("{ x: 1, y: 2 }"), "{text}");
  let text = inspect(&kernel, "point.y").await["data"]["text/plain"].to_string();
  assert!(text.contains('2'), "{text}");
  let text = inspect(&kernel, "area").await["data"]["text/plain"].to_string();
  assert!(text.contains("function"), "{text}");
}

#[tokio::test]
async fn inspection_takes_the_word_under_the_cursor() {
  let kernel = kernel().await;
  kernel
    .execute("const first = 'one'; const second = 'two'")
    .await;
  let reply = kernel
    .post(
      "/inspect",
      &json!({"code": "first + second", "cursor_pos": 2}),
    )
    .await
    .ok();
  assert!(
    reply["data"]["text/plain"].to_string().contains("one"),
    "{reply}"
  );
}

#[tokio::test]
async fn inspection_of_nothing_finds_nothing() {
  let reply = inspect(&kernel().await, "nobody").await;
  assert_eq!(
    reply,
    json!({"status": "ok", "found": false, "data": {}, "metadata": {}})
  );
}

#[tokio::test]
async fn code_is_complete_incomplete_or_invalid() {
  let kernel = kernel().await;
  for (code, status) in [
    ("1 + 1", "complete"),
    ("", "complete"),
    ("function f() {", "incomplete"),
    ("const a = [1,", "incomplete"),
    ("`open", "incomplete"),
    ("if (x) {\n  y(", "incomplete"),
    ("let a: number = await f()", "complete"),
    ("let = = 2", "invalid"),
    (")", "invalid"),
  ] {
    let reply = kernel
      .post("/is-complete", &json!({ "code": code }))
      .await
      .ok();
    assert_eq!(reply["status"], status, "{code}");
    assert_eq!(
      reply.get("indent").is_some(),
      status == "incomplete",
      "{code}: {reply}"
    );
  }
}

#[tokio::test]
async fn questions_while_a_cell_runs_are_answered_after_it() {
  let kernel = kernel().await;
  kernel
    .submit_running(
      "console.log('running'); await new Promise(r => setTimeout(r, 300)); let late = 1",
    )
    .await;
  assert_eq!(matches(&complete(&kernel, "lat").await), ["late"]);
}

#[tokio::test]
async fn questions_name_what_is_wrong_with_them() {
  let kernel = kernel().await;
  kernel
    .post("/complete", &json!({}))
    .await
    .refused(400, &["code"]);
  kernel
    .post("/complete", &json!({"code": 5}))
    .await
    .refused(400, &["code:"]);
  kernel
    .post("/complete", &json!({"code": "a", "cursor_pos": -1}))
    .await
    .refused(400, &["cursor_pos:"]);
  kernel
    .post("/inspect", &json!({"code": "a", "line": 1}))
    .await
    .refused(400, &["line"]);
  kernel
    .post("/is-complete", &json!({"code": null}))
    .await
    .refused(400, &["code"]);
}
