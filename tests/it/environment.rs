//! The environment a kernel sees: its own, and nothing of the server's.

use serde_json::json;

use crate::support::Kernel;
use crate::support::Server;
use crate::support::shared_server;

async fn json_of(kernel: &Kernel, code: &str) -> serde_json::Value {
  let events = kernel
    .execute(&format!("console.log(JSON.stringify({code}))"))
    .await;
  serde_json::from_str(&events.stdout()).unwrap_or_else(|e| panic!("{code}: {e}: {events:?}"))
}

#[tokio::test]
async fn a_kernel_sees_its_own_environment_in_every_way() {
  let env = json!({"API_KEY": "k1", "EMPTY": ""});
  let kernel = shared_server().client().create(json!({ "env": env })).await;
  assert_eq!(json_of(&kernel, "Deno.env.toObject()").await, env);
  assert_eq!(json_of(&kernel, "{ ...process.env }").await, env);
  assert_eq!(json_of(&kernel, "ENVIRONS").await, env);
  assert_eq!(
    json_of(
      &kernel,
      "[Deno.env.get('API_KEY'), process.env.API_KEY, ENVIRONS.API_KEY]"
    )
    .await,
    json!(["k1", "k1", "k1"])
  );
  assert_eq!(
    json_of(
      &kernel,
      "[Deno.env.has('API_KEY'), Deno.env.has('OTHER'), 'API_KEY' in process.env]"
    )
    .await,
    json!([true, false, true])
  );
}

#[tokio::test]
async fn nothing_of_the_servers_environment_is_seen() {
  let server = Server::builder()
    .env("SECRET", "of-the-server")
    .env("ENGINE_TOKENS", "tok3n=*")
    .start();
  let client = server.client().with_token("tok3n");
  let kernel = client.create(json!({"env": {"MINE": "1"}})).await;
  assert_eq!(
    json_of(&kernel, "Deno.env.toObject()").await,
    json!({"MINE": "1"})
  );
  assert_eq!(
    json_of(
      &kernel,
      "[process.env.SECRET ?? null, Deno.env.get('SECRET') ?? null, process.env.PATH ?? null]"
    )
    .await,
    json!([null, null, null])
  );
  // Nor does the operating system hold it for the kernel's process.
  let environ =
    std::fs::read(format!("/proc/{}/environ", kernel.pid().await)).expect("is readable");
  let environ = String::from_utf8_lossy(&environ).into_owned();
  assert!(
    !environ.contains("of-the-server") && !environ.contains("tok3n"),
    "{environ}"
  );
}

#[tokio::test]
async fn without_an_environment_there_is_none() {
  let kernel = shared_server().client().typescript().await;
  assert_eq!(
    json_of(
      &kernel,
      "[Deno.env.toObject(), { ...process.env }, ENVIRONS]"
    )
    .await,
    json!([{}, {}, {}])
  );
}

#[tokio::test]
async fn null_becomes_an_empty_text_and_numbers_become_text() {
  let env = json!({"NOTHING": null, "PORT": 80, "ON": true});
  let kernel = shared_server().client().create(json!({ "env": env })).await;
  assert_eq!(
    json_of(&kernel, "Deno.env.toObject()").await,
    json!({"NOTHING": "", "PORT": "80", "ON": "true"})
  );
}

#[tokio::test]
async fn a_cell_can_change_the_environment_for_later_cells() {
  let kernel = shared_server()
    .client()
    .create(json!({"env": {"A": "1", "B": "2"}}))
    .await;
  kernel
    .execute("Deno.env.set('A', 'new'); process.env.C = '3'; Deno.env.delete('B')")
    .await;
  assert_eq!(
    json_of(&kernel, "[Deno.env.toObject(), { ...process.env }]").await,
    json!([{"A": "new", "C": "3"}, {"A": "new", "C": "3"}])
  );
}

#[tokio::test]
async fn a_restart_gives_the_environment_of_the_creation_again() {
  let kernel = shared_server()
    .client()
    .create(json!({"env": {"A": "1"}}))
    .await;
  kernel
    .execute("Deno.env.set('A', 'changed'); Deno.env.set('B', 'new')")
    .await;
  kernel.restart().await.ok();
  assert_eq!(
    json_of(&kernel, "[Deno.env.toObject(), ENVIRONS]").await,
    json!([{"A": "1"}, {"A": "1"}])
  );
}

#[tokio::test]
async fn names_that_make_no_sense_are_errors_not_crashes() {
  let kernel = shared_server().client().typescript().await;
  for code in [
    "Deno.env.set('', 'x')",
    "Deno.env.set('A=B', 'x')",
    "Deno.env.set('A', 'x\\0y')",
    "Deno.env.set('A\\0', 'x')",
  ] {
    assert_eq!(
      kernel.execute(code).await.ename(),
      Some("TypeError"),
      "{code}"
    );
  }
  assert_eq!(kernel.execute("1").await.result(), Some("1"));
}

#[tokio::test]
async fn the_environment_can_be_forbidden() {
  let kernel = shared_server()
    .client()
    .create(json!({"env": {"A": "1", "B": "2"}, "permissions": {"env": ["A"]}}))
    .await;
  assert_eq!(
    kernel.execute("Deno.env.get('A')").await.result(),
    Some("\"1\"")
  );
  assert_eq!(
    kernel.execute("Deno.env.get('B')").await.ename(),
    Some("NotCapable")
  );
  assert_eq!(
    kernel.execute("Deno.env.toObject()").await.ename(),
    Some("NotCapable")
  );
}

#[tokio::test]
async fn a_child_process_gets_the_kernels_environment_only() {
  let server = Server::builder()
    .env("SECRET", "of-the-server")
    .env("KERNEL_PERMISSIONS_MAX", r#"{"run": ["/usr/bin/env"]}"#)
    .start();
  let kernel = server.client().create(json!({"env": {"MINE": "1"}})).await;
  let code = "new TextDecoder().decode(new Deno.Command('/usr/bin/env').outputSync().stdout)";
  let seen = kernel.execute(code).await;
  let seen = seen.result().unwrap_or_else(|| panic!("{seen:?}"));
  assert!(
    !seen.contains("SECRET") && seen.contains("MINE=1"),
    "{seen}"
  );
}
